//! One open hold of a payer with an Island, and the amounts in it.

use crate::{consumer::store::HoldRecord, services::lock};
use archipelag_protocol::{
    amount::Credits,
    id::HoldId,
    payment::{Lane, SignedVoucher},
    time::Timestamp,
};
use std::sync::Mutex;

/// One hold and its lane.
#[derive(Debug)]
pub(crate) struct OpenHold {
    pub(super) hold: HoldId,
    pub(super) lane: Lane,
    pub(super) expires: Timestamp,
    pub(super) earlier: Credits,
    pub(super) amounts: Mutex<Amounts>,
}

#[derive(Debug)]
pub(super) struct Amounts {
    pub(super) cap: Credits,
    /// What the Island may take in this lane by now: receipts, and advances to running jobs.
    pub(super) committed: Credits,
    /// The most that running jobs may still cost.
    pub(super) reserved: Credits,
    pub(super) nonce: u64,
    pub(super) voucher: Option<SignedVoucher>,
    /// Why the ledger must be asked before this hold is used again.
    pub(super) doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It is from before a restart.
    Old,
    /// The Island refused it, perhaps because it counts its room in another way.
    Refused,
}

impl Amounts {
    fn signed(&self) -> Credits {
        self.voucher.as_ref().map_or(Credits::ZERO, |v| v.value.cumulative)
    }
}

impl OpenHold {
    pub(super) fn new(record: HoldRecord, doubt: Option<Doubt>) -> Self {
        Self {
            hold: record.hold,
            lane: record.lane,
            expires: record.expires,
            earlier: record.earlier,
            amounts: Mutex::new(Amounts {
                cap: record.cap,
                committed: Credits::ZERO,
                reserved: Credits::ZERO,
                nonce: record.nonce,
                voucher: None,
                doubt,
            }),
        }
    }

    pub(crate) fn record(&self) -> HoldRecord {
        let amounts = lock(&self.amounts);
        HoldRecord {
            hold: self.hold,
            cap: amounts.cap,
            expires: self.expires,
            lane: self.lane,
            nonce: amounts.nonce,
            signed: amounts.signed().max(amounts.committed),
            earlier: self.earlier,
        }
    }

    pub(super) fn room_now(&self) -> Credits {
        self.room(&lock(&self.amounts))
    }

    pub(super) fn raise(&self, amount: Credits) {
        let mut amounts = lock(&self.amounts);
        amounts.cap = amounts.cap.saturating_add(amount);
    }

    pub(super) fn room(&self, amounts: &Amounts) -> Credits {
        let used = amounts.committed.saturating_add(amounts.reserved).max(amounts.signed());
        amounts.cap.saturating_sub(used.saturating_add(self.earlier))
    }
}
