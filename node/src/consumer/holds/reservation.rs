//! What a job may use of a hold, and the vouchers that pay for it.

use super::hold::{Doubt, OpenHold};
use crate::{
    consumer::store::Change,
    mesh::now,
    services::{Bank, lock},
};
use archipelag_protocol::{
    amount::Credits,
    codec,
    id::{AccountId, ContentId, HoldId, NetworkId},
    payment::{Lane, SignedVoucher, Voucher},
};
use std::sync::Arc;

/// A job's part of a hold. Dropping it gives back what was reserved; what was paid in advance stays
/// paid.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(super) hold: Arc<OpenHold>,
    pub(super) island: AccountId,
    pub(super) network: NetworkId,
    pub(super) window_ms: u64,
    pub(super) price_max: Credits,
    pub(super) advanced: Credits,
}

impl Reservation {
    pub(crate) fn hold(&self) -> HoldId {
        self.hold.hold
    }

    pub(crate) fn lane(&self) -> Lane {
        self.hold.lane
    }

    /// The Island refused the hold: the ledger is asked before it is used again.
    pub(crate) fn doubt(&self) {
        lock(&self.hold.amounts).doubt = Some(Doubt::Refused);
    }

    pub(crate) fn change(&self, payer: AccountId) -> Change {
        Change::Hold((payer, self.island), self.hold.clone())
    }

    /// A voucher that pays `due` for this job so far.
    ///
    /// # Errors
    /// When it can't be encoded.
    pub(crate) fn advance(
        &mut self,
        bank: &dyn Bank,
        due: Credits,
        digest: ContentId,
    ) -> Result<SignedVoucher, codec::Error> {
        let due = due.max(self.advanced);
        let voucher = self.pay(bank, due, digest)?;
        self.advanced = due;
        Ok(voucher)
    }

    /// The voucher that covers a receipt of `price`, which ends the job.
    ///
    /// # Errors
    /// When it can't be encoded.
    pub(crate) fn settle(
        &mut self,
        bank: &dyn Bank,
        price: Credits,
        digest: ContentId,
    ) -> Result<Option<SignedVoucher>, codec::Error> {
        if price == Credits::ZERO {
            let mut amounts = lock(&self.hold.amounts);
            amounts.committed = amounts.committed.saturating_sub(self.advanced);
            drop(amounts);
            self.advanced = Credits::ZERO;
            return Ok(None);
        }
        let voucher = self.pay(bank, price, digest)?;
        // It is the receipt's now, and never given back.
        self.advanced = price;
        Ok(Some(voucher))
    }

    /// Sets this job's part to `price` and signs when that is more than was ever signed.
    fn pay(
        &self,
        bank: &dyn Bank,
        price: Credits,
        digest: ContentId,
    ) -> Result<SignedVoucher, codec::Error> {
        let mut amounts = lock(&self.hold.amounts);
        let others = amounts.committed.saturating_sub(self.advanced);
        let committed = others.saturating_add(price);
        if let Some(voucher) = amounts.voucher.clone().filter(|v| v.value.cumulative >= committed) {
            amounts.committed = committed;
            return Ok(voucher);
        }
        // The clock is a floor, so that nonces rise over a restart that lost the last ones.
        let nonce = amounts.nonce.saturating_add(1).max(now().0.saturating_mul(1000));
        let voucher = Voucher {
            hold: self.hold.hold,
            payee: self.island,
            lane: self.hold.lane,
            nonce,
            cumulative: committed,
            metering_digest: digest,
            expires: self.hold.expires.after_ms(self.window_ms),
        };
        let signed = bank.key().seal(self.network, voucher)?;
        amounts.committed = committed;
        amounts.nonce = nonce;
        amounts.voucher = Some(signed.clone());
        Ok(signed)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut amounts = lock(&self.hold.amounts);
        amounts.reserved = amounts.reserved.saturating_sub(self.price_max);
    }
}
