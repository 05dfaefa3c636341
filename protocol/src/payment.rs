//! Vouchers and receipts: how a job is paid for without a block (`DESIGN.md`, "Ledger").
//!
//! A hold reserves a payer's credits on the ledger. A voucher, signed by the payer, says how much
//! of the hold a payee may take in all; each supersedes the one before it in its lane. A receipt,
//! signed by both, says what one job was and cost, so that the ledger can split the money.

use crate::{
    amount::Credits,
    id::{AccountId, CargoId, ContentId, HoldId, JobId},
    pricing::{HardwareTier, Metering},
    sign::{Signable, Signed},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// One of a hold's independent sequences of vouchers.
pub type Lane = u16;

/// What a payee may redeem from a hold, in all, in one lane. Signed by the payer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    pub hold: HoldId,
    pub payee: AccountId,
    pub lane: Lane,
    /// Rises by at least one with every voucher of the lane, so that payer and payee agree on the
    /// last.
    pub nonce: u64,
    /// Never less than in the voucher before. The ledger takes one for more than the last that was
    /// redeemed, whatever its nonce.
    pub cumulative: Credits,
    /// SHA-256 of what the payer was shown for this amount: the receipt or the meter reading.
    pub metering_digest: ContentId,
    /// Worthless on the ledger after this.
    pub expires: Timestamp,
}

impl Signable for Voucher {
    const DOMAIN: &'static str = "voucher";
}

pub type SignedVoucher = Signed<Voucher>;

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Completed,
    /// The Cargo said `error`, or its input was bad: not the Island's fault.
    CargoFailed,
    /// It broke the protocol, trapped or hit a limit.
    Failed,
    Timeout,
    Cancelled,
}

/// What one job was and what is charged for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub job: JobId,
    pub cargo: CargoId,
    pub payer: AccountId,
    pub island: AccountId,
    pub hold: HoldId,
    pub lane: Lane,
    /// Rises by at least one with every receipt of the lane: the ledger settles none twice.
    pub sequence: u64,
    pub verdict: Verdict,
    pub metering: Metering,
    /// Zero unless completed, or cancelled after something was delivered.
    pub price: Credits,
    pub tier: HardwareTier,
    pub input: ContentId,
    /// SHA-256 over the lines that were sent, each with its newline.
    pub output: ContentId,
    pub finished: Timestamp,
}

impl Signable for Receipt {
    const DOMAIN: &'static str = "receipt";
}

/// A receipt as the Island signed it, before the payer has.
pub type IslandReceipt = Signed<Receipt>;

/// A receipt with both signatures: the Island's and the payer's over the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledReceipt {
    pub receipt: Receipt,
    pub island: crate::id::Signature,
    pub payer: crate::id::Signature,
}
