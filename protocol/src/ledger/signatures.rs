//! Every signature in transactions, checked together.
//!
//! None of them needs the state: a voucher, receipt or manifest names its signers, and executing it
//! compares them with the hold or the sender. So this runs once, at the door of the mempool or for
//! a block from elsewhere, and may run on any thread.

use super::{Action, Evidence, SignedTransaction};
use crate::{
    batch::Batch,
    codec,
    id::{AccountId, NetworkId, Signature},
    sign::{self, Signable},
};

/// Why signatures were refused, and of which transaction.
pub(super) struct Invalid {
    pub(super) index: usize,
    pub(super) error: sign::Error,
}

/// Checks all signatures in `transactions`.
///
/// # Errors
/// The first transaction with a signature that is not its signer's.
pub(super) fn verify<'a>(
    network: NetworkId,
    transactions: impl IntoIterator<Item = &'a SignedTransaction>,
) -> Result<(), Invalid> {
    let mut checks = Checks { batch: Batch::new(network), transactions: Vec::new() };
    for (index, transaction) in transactions.into_iter().enumerate() {
        checks.add(index, transaction).map_err(|e| Invalid { index, error: e.into() })?;
    }
    let Checks { batch, transactions } = checks;
    batch.verify().map_err(|invalid| Invalid {
        index: transactions.get(invalid.index).copied().unwrap_or_default(),
        error: invalid.error,
    })
}

struct Checks {
    batch: Batch,
    /// The transaction of each signature in the batch.
    transactions: Vec<usize>,
}

impl Checks {
    fn add(&mut self, index: usize, transaction: &SignedTransaction) -> Result<(), codec::Error> {
        self.push(index, transaction.signer, &transaction.value, &transaction.signature)?;
        match &transaction.value.action {
            Action::Redeem { vouchers } => {
                for voucher in vouchers {
                    self.push(index, voucher.signer, &voucher.value, &voucher.signature)?;
                }
            }
            Action::Settle { receipts } => {
                for settled in receipts {
                    let receipt = &settled.receipt;
                    self.push(index, receipt.island, receipt, &settled.island)?;
                    self.push(index, receipt.payer, receipt, &settled.payer)?;
                }
            }
            Action::Publish { manifest } => {
                self.push(index, manifest.signer, &manifest.value, &manifest.signature)?;
            }
            Action::Evidence { evidence } => match evidence.as_ref() {
                Evidence::Votes(one, other) => {
                    for vote in [one, other] {
                        self.push(index, vote.signer, &vote.value, &vote.signature)?;
                    }
                }
                Evidence::Proposals(one, other) => {
                    for proposal in [one, other] {
                        self.push(index, proposal.signer, &proposal.value, &proposal.signature)?;
                    }
                }
            },
            Action::Transfer { .. }
            | Action::OpenHold { .. }
            | Action::TopUp { .. }
            | Action::CloseHold { .. }
            | Action::Bond { .. }
            | Action::Unbond { .. }
            | Action::Candidate { .. }
            | Action::Approve { .. } => {}
        }
        Ok(())
    }

    fn push<T: Signable>(
        &mut self,
        transaction: usize,
        signer: AccountId,
        value: &T,
        signature: &Signature,
    ) -> Result<(), codec::Error> {
        self.batch.add(signer, value, signature)?;
        self.transactions.push(transaction);
        Ok(())
    }
}
