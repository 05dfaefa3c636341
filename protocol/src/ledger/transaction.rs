//! Transactions: what an account asks of the ledger, and why it may be refused.

use super::{Evidence, signatures};
use crate::{
    amount::Credits,
    codec,
    id::{AccountId, HoldId, NetworkId, NodeId, TxId},
    limits::{MAX_BATCH, MAX_PAYEES, MAX_TRANSACTION_BYTES},
    manifest::{self, SignedManifest},
    payment::{SettledReceipt, SignedVoucher},
    sign::{Signable, Signed},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// One action of one account. The nonce is the number of the account's transactions before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    pub nonce: u64,
    /// Drawn at random: two processes with one key that want the same at the same time make two
    /// transactions, of which one has to come again, and not one that both take for theirs.
    pub salt: u64,
    pub action: Action,
}

impl Signable for Transaction {
    const DOMAIN: &'static str = "transaction";
}

/// What a transaction does. Governance and review add theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Transfer {
        to: AccountId,
        amount: Credits,
    },
    /// Reserves for each of the payees a share of its own: a hold, whose id is that of
    /// [`super::state::hold_of`]. So one transaction covers many Islands before any of them is
    /// needed.
    OpenHold {
        /// 1 to [`MAX_PAYEES`].
        payees: Vec<Payee>,
        expires: Timestamp,
        /// How long a payee may still redeem after the payer asked to close: the policy's
        /// `dispute_window_ms` or more, and no longer than a hold may last.
        dispute_ms: u64,
    },
    TopUp {
        hold: HoldId,
        amount: Credits,
    },
    /// Moves what vouchers are worth out of the payer's reach. Anyone may send it for the payee.
    /// One voucher that is refused refuses the batch.
    Redeem {
        vouchers: Vec<SignedVoucher>,
    },
    /// Splits redeemed money by receipts that both signed, in each lane's order.
    Settle {
        receipts: Vec<SettledReceipt>,
    },
    /// By the payee: ends the hold at once. By the payer: starts the dispute window, and ends the
    /// hold when sent again after it. By anyone after expiry and the window. What was not redeemed
    /// goes back to the payer; what was redeemed but never settled is split with the default
    /// revenue share and the lowest hardware tier, the publisher's part going to the treasury.
    CloseHold {
        hold: HoldId,
    },
    /// Registers a Cargo version. The sender is the manifest's signer.
    Publish {
        manifest: Box<SignedManifest>,
    },
    /// Puts credits at stake: what weighs in the elections of coordinators, and what a coordinator
    /// that signs two things loses.
    Bond {
        amount: Credits,
    },
    /// Takes credits out of what is bonded. They come back after the policy's `unbonding_ms`, and
    /// may be lost until then.
    Unbond {
        amount: Credits,
    },
    /// Stands for a seat among the coordinators with a node, or stands down. One that missed its
    /// turn says by it that it is back.
    Candidate {
        node: Option<NodeId>,
    },
    /// Says whom the sender wants to have a seat, instead of what it said before. In the order of
    /// accounts.
    Approve {
        candidates: Vec<AccountId>,
    },
    /// Proves that somebody signed two things.
    Evidence {
        evidence: Box<Evidence>,
    },
}

/// Who may take how much of what is reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payee {
    pub account: AccountId,
    pub cap: Credits,
}

pub type SignedTransaction = Signed<Transaction>;

/// Why a transaction was refused. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejected {
    #[error("a signature in it is not its signer's in this network")]
    Signature,
    #[error("nonce {found}, the account's next is {expected}")]
    Nonce { expected: u64, found: u64 },
    #[error("{needed} credits needed, {available} available")]
    Funds { needed: Credits, available: Credits },
    #[error("account {0} is not known: it has never received credits or a hold")]
    NoAccount(AccountId),
    #[error("no hold {0}")]
    NoHold(HoldId),
    #[error("field `{field}`: {reason}")]
    Field { field: String, reason: String },
    #[error("only {0} may do this")]
    NotAllowed(String),
    #[error("item {index}: {reason}")]
    Item { index: u32, reason: String },
    #[error("{slug} belongs to another publisher")]
    SlugTaken { slug: String },
    #[error("{label} is published already")]
    VersionTaken { label: String },
    #[error("{found} active Cargos, this publisher's limit is {limit}")]
    TooManyCargos { limit: u32, found: u32 },
    #[error("the mempool is full: try again")]
    Busy,
    #[error(
        "no block took it in time: a third of the coordinators or more are away, or blocks are full; one may still take it: look before you send it again"
    )]
    Undecided,
}

impl Rejected {
    /// A field that breaks a rule.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason: reason.into() }
    }
}

impl From<manifest::Error> for Rejected {
    fn from(error: manifest::Error) -> Self {
        Self::field("manifest", error.to_string())
    }
}

/// A transaction's place and outcome: what a coordinator acknowledges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub transaction: TxId,
    pub height: u64,
    pub outcome: Result<(), Rejected>,
}

/// The id of a transaction: the hash of its signed bytes.
///
/// # Errors
/// When it has no canonical encoding or is longer than [`MAX_TRANSACTION_BYTES`].
pub fn id(transaction: &SignedTransaction) -> Result<TxId, codec::Error> {
    measure(transaction).map(|(id, _)| id)
}

/// The id and size in bytes of a transaction, from one encoding.
pub(super) fn measure(transaction: &SignedTransaction) -> Result<(TxId, usize), codec::Error> {
    let bytes = to_bytes(transaction)?;
    Ok((TxId(Sha256::digest(&bytes).into()), bytes.len()))
}

/// # Errors
/// As [`id`].
pub fn to_bytes(transaction: &SignedTransaction) -> Result<Vec<u8>, codec::Error> {
    let bytes = codec::encode("transaction", transaction)?;
    if bytes.len() > MAX_TRANSACTION_BYTES {
        let (what, limit) = ("transaction", MAX_TRANSACTION_BYTES);
        return Err(codec::Error::TooLong { what, limit, found: bytes.len() });
    }
    Ok(bytes)
}

/// Decodes a transaction from the wire and checks everything that needs no state: size, form,
/// batch limits and all signatures, those of vouchers, receipts and a manifest included.
///
/// # Errors
/// Why it can never be valid.
pub fn decode(bytes: &[u8], network: NetworkId) -> Result<SignedTransaction, Rejected> {
    let transaction = form(bytes)?;
    signatures::verify(network, [&transaction]).map_err(|_| Rejected::Signature)?;
    Ok(transaction)
}

/// As [`decode`] of each that is `wanted`; all signatures together cost half of one by one, while
/// all are good.
pub fn decode_all<B: AsRef<[u8]>>(
    list: &[B],
    network: NetworkId,
    wanted: impl Fn(&SignedTransaction) -> Result<(), Rejected>,
) -> Vec<Result<SignedTransaction, Rejected>> {
    let formed = list.iter().map(|bytes| form(bytes.as_ref()));
    let mut decoded: Vec<_> = formed
        .map(|one| one.and_then(|transaction| wanted(&transaction).map(|()| transaction)))
        .collect();
    if signatures::verify(network, decoded.iter().flatten()).is_err() {
        for one in &mut decoded {
            if let Ok(transaction) = one
                && signatures::verify(network, [&*transaction]).is_err()
            {
                *one = Err(Rejected::Signature);
            }
        }
    }
    decoded
}

/// All that [`decode`] checks but signatures.
fn form(bytes: &[u8]) -> Result<SignedTransaction, Rejected> {
    let transaction: SignedTransaction = codec::decode("transaction", MAX_TRANSACTION_BYTES, bytes)
        .map_err(|e| Rejected::field("transaction", e.to_string()))?;
    check_batch(&transaction.value.action)?;
    Ok(transaction)
}

/// # Errors
/// When a batch is empty or longer than [`MAX_BATCH`], payees than [`MAX_PAYEES`].
pub fn check_batch(action: &Action) -> Result<(), Rejected> {
    let (field, found) = match action {
        Action::Redeem { vouchers } => ("vouchers", vouchers.len()),
        Action::Settle { receipts } => ("receipts", receipts.len()),
        Action::OpenHold { payees, .. } => ("payees", payees.len()),
        _ => return Ok(()),
    };
    let most = if field == "payees" { MAX_PAYEES } else { MAX_BATCH };
    if found == 0 || found > most {
        return Err(Rejected::field(field, format!("{found} items, must be 1 to {most}")));
    }
    Ok(())
}
