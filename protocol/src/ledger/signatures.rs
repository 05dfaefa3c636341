//! Every signature in transactions, checked together.
//!
//! None of them needs the state: a voucher, receipt or manifest names its signers, and executing it
//! compares them with the hold or the sender. So this runs once, at the door of the mempool and for
//! each block from elsewhere, and may run on any thread.
//!
//! Batch and single verification agree on every signature under ZIP-215
//! (`adr/0003-batch-signatures.md`). The batch's coefficients come from a hash over all that it
//! checks, so nothing here is random and no signer can choose a signature after them.

use super::{Action, SignedTransaction};
use crate::{
    codec,
    id::{AccountId, NetworkId, Signature},
    sign::{self, Signable},
};
use ed25519_zebra::batch;
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use std::convert::Infallible;

/// Why signatures were refused, and of which transaction.
pub(super) struct Invalid {
    pub(super) index: usize,
    pub(super) error: sign::Error,
}

/// One signature, ready to be checked.
struct Check {
    transaction: usize,
    domain: &'static str,
    signer: AccountId,
    item: batch::Item,
}

/// Checks all signatures in `transactions`.
///
/// # Errors
/// The first transaction with a signature that is not its signer's.
pub(super) fn verify(
    network: NetworkId,
    transactions: &[SignedTransaction],
) -> Result<(), Invalid> {
    let mut checks = Checks { network, list: Vec::new(), seed: Sha256::new() };
    for (index, transaction) in transactions.iter().enumerate() {
        checks.add(index, transaction).map_err(|e| Invalid { index, error: e.into() })?;
    }
    checks.verify()
}

struct Checks {
    network: NetworkId,
    list: Vec<Check>,
    seed: Sha256,
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
            Action::Transfer { .. }
            | Action::OpenHold { .. }
            | Action::TopUp { .. }
            | Action::CloseHold { .. } => {}
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
        let message = sign::message(self.network, T::DOMAIN, &codec::encode(T::DOMAIN, value)?);
        self.seed.update(signer.0);
        self.seed.update(signature.0);
        self.seed.update(Sha256::digest(&message));
        let key = ed25519_zebra::VerificationKeyBytes::from(signer.0);
        let signature = ed25519_zebra::Signature::from_bytes(&signature.0);
        let item = batch::Item::from((key, signature, &message));
        self.list.push(Check { transaction, domain: T::DOMAIN, signer, item });
        Ok(())
    }

    fn verify(self) -> Result<(), Invalid> {
        let mut batch = batch::Verifier::new();
        for check in &self.list {
            batch.queue(check.item.clone());
        }
        if batch.verify(Coefficients::new(self.seed)).is_ok() {
            return Ok(());
        }
        for Check { transaction: index, domain, signer, item } in self.list {
            if item.verify_single().is_err() {
                return Err(Invalid { index, error: sign::Error::Invalid { domain, signer } });
            }
        }
        Ok(())
    }
}

/// SHA-256 of a seed and a counter, in the form that the batch verifier asks for.
struct Coefficients {
    seed: [u8; 32],
    counter: u64,
}

impl Coefficients {
    fn new(seed: Sha256) -> Self {
        Self { seed: seed.finalize().into(), counter: 0 }
    }
}

impl TryRng for Coefficients {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            let mut hasher = Sha256::new_with_prefix(self.seed);
            hasher.update(self.counter.to_be_bytes());
            self.counter += 1;
            chunk.copy_from_slice(&hasher.finalize()[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Coefficients {}
