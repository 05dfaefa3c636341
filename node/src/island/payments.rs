//! Money on the Island's side: holds that payers opened for it, vouchers, debts.
//!
//! A hold is looked up at the ledger once and then remembered; it is looked up again when it seems
//! too small. One hold's jobs share lanes, and their vouchers come over different streams, so they
//! overtake each other: what counts is that the best voucher of a lane covers all that its payer
//! owed when it was signed.

use super::store::{self, Store};
use crate::services::{Bank, lock};
use archipelag_protocol::{
    amount::Credits,
    id::{AccountId, HoldId, NetworkId},
    job::{Offer, Refusal, RefusalKind},
    ledger::{Hold, LaneState},
    payment::{Lane, Receipt, SettledReceipt, SignedVoucher},
    policy::PaymentPolicy,
    sign,
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

/// Holds and debtors remembered. Each cost its payer a reservation on the ledger or a job.
const MAX_HOLDS: usize = 1 << 16;
const MAX_DEBTORS: usize = 1 << 16;
/// What must be left of a hold's life after a job, to redeem in.
const REDEEM_MS: u64 = 60_000;

#[derive(Debug)]
pub(super) struct Payments {
    pub(super) network: NetworkId,
    pub(super) me: AccountId,
    policy: PaymentPolicy,
    bank: Arc<dyn Bank>,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    holds: BTreeMap<HoldId, HoldBook>,
    debts: BTreeMap<AccountId, Debt>,
}

/// What a payer owes for jobs that it did not settle. Forgotten after the life of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Debt {
    pub(super) amount: Credits,
    pub(super) since: Timestamp,
}

#[derive(Debug)]
struct HoldBook {
    hold: Hold,
    lanes: BTreeMap<Lane, LaneBook>,
    /// The most that running jobs may still cost.
    reserved: Credits,
    /// Jobs that use this entry.
    jobs: u32,
}

#[derive(Debug, Default)]
struct LaneBook {
    /// Of those received the one for the most.
    voucher: Option<SignedVoucher>,
    /// What the ledger had redeemed when the lane was first seen here.
    base: LaneState,
    /// Sum of the prices of countersigned receipts.
    earned: Credits,
    /// What running jobs have been paid in advance of their receipts.
    advanced: Credits,
    next_sequence: u64,
    /// Receipts that were sent and have neither come back nor been given up.
    pending: BTreeSet<u64>,
}

impl LaneBook {
    fn covered(&self) -> Credits {
        let best = self.voucher.as_ref().map_or(Credits::ZERO, |v| v.value.cumulative);
        best.max(self.base.cumulative)
    }

    /// What the payer has certainly agreed to.
    fn owed(&self) -> Credits {
        self.earned.saturating_add(self.advanced)
    }
}

impl HoldBook {
    /// Whether `cap` has room for a job of `price_max` in `lane`.
    fn has_room(&self, lane: Lane, price_max: Credits) -> bool {
        let own = self.lanes.get(&lane);
        let base = self.hold.lanes.get(&lane).map_or(Credits::ZERO, |l| l.cumulative);
        let floor = own.map_or(base, |l| l.covered().max(base));
        let due = own.map_or(base, LaneBook::owed).saturating_add(self.reserved);
        let needed = due.saturating_add(price_max).max(floor).saturating_add(self.others(lane));
        needed <= self.hold.cap
    }

    /// What other lanes have taken or may take of the hold.
    fn others(&self, lane: Lane) -> Credits {
        let lanes: BTreeSet<Lane> = self
            .lanes
            .keys()
            .chain(self.hold.lanes.keys())
            .copied()
            .filter(|l| *l != lane)
            .collect();
        lanes.into_iter().fold(Credits::ZERO, |sum, lane| {
            let known = self.hold.lanes.get(&lane).map_or(Credits::ZERO, |l| l.cumulative);
            let own = self.lanes.get(&lane).map_or(Credits::ZERO, LaneBook::covered);
            sum.saturating_add(known.max(own))
        })
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(RefusalKind::Payment, message))
}

/// What an offer must be able to pay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) per_job: Credits,
    pub(super) time_ms: u64,
}

impl Payments {
    pub(super) fn new(
        network: NetworkId,
        policy: PaymentPolicy,
        bank: Arc<dyn Bank>,
        debts: BTreeMap<AccountId, Debt>,
    ) -> Self {
        let me = bank.key().account();
        let book = Mutex::new(Book { debts, ..Book::default() });
        Self { network, me, policy, bank, book }
    }

    /// Reserves `offer.price_max` of its hold. Asks the ledger only about a hold that is new, or
    /// that has become too small or old.
    ///
    /// # Errors
    /// A refusal of kind `Payment` that says what is wrong with hold or payer.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        payer: AccountId,
        offer: &Offer,
        terms: Terms,
        store: &Store,
        now: Timestamp,
    ) -> Result<Reservation, Refusal> {
        let lanes_max = self.policy.lanes_per_hold_max;
        if offer.lane >= lanes_max {
            return refuse(format!("lane {}, it must be below {lanes_max}", offer.lane));
        }
        let allowance = self.allowance(payer, terms.per_job, now)?;
        if let Some(Ok(reservation)) = self.try_reserve(payer, offer, terms, allowance, now) {
            return Ok(reservation);
        }
        let found = self.bank.hold(offer.hold).await.map_err(|e| {
            Refusal::new(RefusalKind::Unsuitable, format!("the hold can't be looked up: {e}"))
        })?;
        let Some(hold) = found else {
            self.ended(offer.hold);
            return refuse(format!("hold {}: the ledger has none", offer.hold));
        };
        let known = lock(&self.book).holds.contains_key(&offer.hold);
        let lanes = if known { Vec::new() } else { store.lanes(offer.hold).await };
        self.remember(offer.hold, hold, lanes, now)?;
        self.try_reserve(payer, offer, terms, allowance, now).unwrap_or_else(|| {
            refuse(format!("hold {}: too many holds are in use here", offer.hold))
        })
    }

    /// What `payer` may leave unpaid while a job runs: one chunk, less what it owes.
    fn allowance(
        &self,
        payer: AccountId,
        per_job: Credits,
        now: Timestamp,
    ) -> Result<Credits, Refusal> {
        let chunk = self.policy.unpaid_chunk;
        let mut book = lock(&self.book);
        let Some(debt) = book.debts.get(&payer).copied() else { return Ok(chunk) };
        if now.since_ms(debt.since) > self.policy.hold_life_ms {
            book.debts.remove(&payer);
            return Ok(chunk);
        }
        let owes = debt.amount;
        if owes >= chunk || owes.saturating_add(per_job.min(chunk)) > chunk {
            let message =
                format!("{owes} credits are unpaid for earlier jobs, the limit is {chunk}");
            return refuse(message);
        }
        Ok(chunk.saturating_sub(owes))
    }

    /// `None` when the hold is not known here.
    fn try_reserve(
        self: &Arc<Self>,
        payer: AccountId,
        offer: &Offer,
        terms: Terms,
        allowance: Credits,
        now: Timestamp,
    ) -> Option<Result<Reservation, Refusal>> {
        let mut book = lock(&self.book);
        let entry = book.holds.get_mut(&offer.hold)?;
        if let Err(refusal) = self.check_hold(entry, payer, offer, terms, now) {
            return Some(Err(refusal));
        }
        entry.reserved = entry.reserved.saturating_add(offer.price_max);
        entry.jobs += 1;
        let base = entry.hold.lanes.get(&offer.lane).copied().unwrap_or_default();
        let lane = entry.lanes.entry(offer.lane).or_insert_with(|| LaneBook {
            base,
            earned: base.cumulative,
            ..LaneBook::default()
        });
        lane.next_sequence = lane.next_sequence.max(base.next_receipt);
        Some(Ok(Reservation {
            payments: self.clone(),
            payer,
            hold: offer.hold,
            lane: offer.lane,
            price_max: offer.price_max,
            allowance,
            advanced: Credits::ZERO,
            pending: None,
        }))
    }

    fn check_hold(
        &self,
        entry: &HoldBook,
        payer: AccountId,
        offer: &Offer,
        terms: Terms,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let (id, hold) = (offer.hold, &entry.hold);
        if hold.payee != self.me {
            return refuse(format!("hold {id}: its payee is not this Island"));
        }
        if hold.payer != payer {
            return refuse(format!("hold {id}: its payer did not sign the offer"));
        }
        if hold.closes.is_some() {
            return refuse(format!("hold {id}: its payer has asked to close it"));
        }
        let needed = now.after_ms(terms.time_ms.saturating_add(REDEEM_MS));
        if hold.expires < needed {
            return refuse(format!("hold {id}: it expires at {}, before {needed}", hold.expires));
        }
        if !entry.has_room(offer.lane, offer.price_max) {
            let (cap, most) = (hold.cap, offer.price_max);
            return refuse(format!("hold {id}: its {cap} credits have no room for {most} more"));
        }
        Ok(())
    }

    /// Keeps what the ledger says of a hold, and what this Island had stored of its lanes.
    fn remember(
        &self,
        id: HoldId,
        hold: Hold,
        stored: Vec<(Lane, store::LaneRecord)>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let mut book = lock(&self.book);
        if let Some(entry) = book.holds.get_mut(&id) {
            entry.hold = hold;
            return Ok(());
        }
        if book.holds.len() >= MAX_HOLDS {
            book.holds.retain(|_, entry| entry.jobs > 0 || entry.hold.expires > now);
        }
        if book.holds.len() >= MAX_HOLDS {
            return refuse(format!("{MAX_HOLDS} holds are in use here"));
        }
        let lanes = stored.into_iter().map(|(lane, record)| {
            let base = hold.lanes.get(&lane).copied().unwrap_or_default();
            let earned = record.earned.max(base.cumulative);
            (lane, LaneBook { voucher: record.voucher, base, earned, ..LaneBook::default() })
        });
        let lanes = lanes.collect();
        book.holds.insert(id, HoldBook { hold, lanes, reserved: Credits::ZERO, jobs: 0 });
        Ok(())
    }

    /// What is to be stored of a lane now.
    pub(super) fn record(&self, hold: HoldId, lane: Lane) -> Option<store::LaneRecord> {
        let book = lock(&self.book);
        let lane = book.holds.get(&hold)?.lanes.get(&lane)?;
        Some(store::LaneRecord { voucher: lane.voucher.clone(), earned: lane.earned })
    }

    /// What is to be stored of a debtor now; `None` when nothing is owed.
    pub(super) fn debt(&self, payer: AccountId) -> Option<Debt> {
        lock(&self.book).debts.get(&payer).copied()
    }

    /// The first receipt of a lane that may still come back. Later ones wait for it, because the
    /// ledger settles a lane in order.
    pub(super) fn first_pending(&self, hold: HoldId, lane: Lane) -> Option<u64> {
        lock(&self.book).holds.get(&hold)?.lanes.get(&lane)?.pending.first().copied()
    }

    /// A receipt is stored, or given up.
    pub(super) fn resolved(&self, hold: HoldId, lane: Lane, sequence: u64) {
        let mut book = lock(&self.book);
        if let Some(lane) = book.holds.get_mut(&hold).and_then(|h| h.lanes.get_mut(&lane)) {
            lane.pending.remove(&sequence);
        }
    }

    /// Forgets a hold that has ended on the ledger. While jobs still use it, no other may.
    pub(super) fn ended(&self, hold: HoldId) {
        let mut book = lock(&self.book);
        match book.holds.get_mut(&hold) {
            Some(entry) if entry.jobs > 0 => entry.hold.closes = Some(entry.hold.expires),
            Some(_) => drop(book.holds.remove(&hold)),
            None => {}
        }
    }
}

/// A job's part of a hold. Dropping it gives back what was reserved.
#[derive(Debug)]
pub(super) struct Reservation {
    payments: Arc<Payments>,
    pub(super) payer: AccountId,
    hold: HoldId,
    lane: Lane,
    price_max: Credits,
    /// What this job may leave unpaid.
    pub(super) allowance: Credits,
    advanced: Credits,
    pending: Option<u64>,
}

impl Reservation {
    fn with_lane<T>(
        &self,
        change: impl FnOnce(&HoldBook, &mut LaneBook) -> T,
    ) -> Result<T, String> {
        let mut book = lock(&self.payments.book);
        let gone = || "the hold is gone".to_owned();
        let entry = book.holds.get_mut(&self.hold).ok_or_else(gone)?;
        let mut lane = entry.lanes.remove(&self.lane).ok_or_else(gone)?;
        let result = change(entry, &mut lane);
        entry.lanes.insert(self.lane, lane);
        Ok(result)
    }

    /// Takes a voucher that came for this job.
    ///
    /// # Errors
    /// What is wrong with it; it changed nothing.
    fn accept(&self, signed: &SignedVoucher) -> Result<(), String> {
        let voucher = &signed.value;
        if (voucher.hold, voucher.lane) != (self.hold, self.lane) {
            return Err("field `hold` or `lane`: not the offer's".into());
        }
        if voucher.payee != self.payments.me || signed.signer != self.payer {
            return Err("field `payee` or `signer`: not the hold's".into());
        }
        let (network, me) = (self.payments.network, self);
        if me.with_lane(|entry, lane| me.order(entry, lane, signed))?? {
            return Ok(());
        }
        signed.verify(network).map_err(|e| e.to_string())?;
        me.with_lane(|entry, lane| {
            if !me.order(entry, lane, signed)? {
                lane.voucher = Some(signed.clone());
            }
            Ok(())
        })?
    }

    /// Whether the lane's voucher makes this one superfluous; an error when it is none that the
    /// payer may sign after it.
    fn order(
        &self,
        entry: &HoldBook,
        lane: &LaneBook,
        signed: &SignedVoucher,
    ) -> Result<bool, String> {
        let voucher = &signed.value;
        if voucher.expires < entry.hold.expires {
            let (found, least) = (voucher.expires, entry.hold.expires);
            return Err(format!("field `expires`: {found}, the hold lives until {least}"));
        }
        if let Some(best) = &lane.voucher
            && voucher.nonce <= best.value.nonce
        {
            if voucher.cumulative > best.value.cumulative {
                return Err(format!("field `nonce`: {}, it must rise", voucher.nonce));
            }
            return Ok(true);
        }
        let (found, least) = (voucher.cumulative, lane.covered());
        if found < least {
            return Err(format!(
                "field `cumulative`: {found} credits, the last voucher had {least}"
            ));
        }
        let (cap, others) = (entry.hold.cap, entry.others(self.lane));
        if found.saturating_add(others) > cap {
            return Err(format!("field `cumulative`: {found} credits, the hold has {cap}"));
        }
        Ok(false)
    }

    /// Takes a voucher that pays for the work so far, of which `due` was asked for; `None` when
    /// nothing was.
    ///
    /// # Errors
    /// What is wrong with it, or that it does not cover `due`.
    pub(super) fn advance(
        &mut self,
        voucher: &SignedVoucher,
        due: Option<Credits>,
    ) -> Result<(), String> {
        self.accept(voucher)?;
        let Some(due) = due else { return Ok(()) };
        let advanced = self.advanced;
        self.with_lane(|_, lane| {
            let others = lane.owed().saturating_sub(advanced);
            cover(lane, others.saturating_add(due))?;
            lane.advanced = lane.advanced.saturating_sub(advanced).saturating_add(due);
            Ok::<_, String>(())
        })??;
        self.advanced = due;
        Ok(())
    }

    /// The job has ended and costs `price`: gives its receipt's place in the lane.
    ///
    /// # Errors
    /// When the hold is gone, which it can't while a job uses it.
    pub(super) fn finish(&mut self, price: Credits, now: Timestamp) -> Result<u64, String> {
        let kept = self.advanced.min(price);
        let freed = self.advanced.saturating_sub(kept);
        let sequence = self.with_lane(|_, lane| {
            lane.advanced = lane.advanced.saturating_sub(freed);
            // The clock is a floor, so that numbers rise over a restart that lost the last ones.
            let sequence = lane.next_sequence.max(now.0.saturating_mul(1000));
            lane.next_sequence = sequence.saturating_add(1);
            lane.pending.insert(sequence);
            sequence
        })?;
        self.advanced = kept;
        self.pending = Some(sequence);
        Ok(sequence)
    }

    /// Takes the payer's signature over the receipt, and the voucher that covers it.
    ///
    /// # Errors
    /// What is wrong with them; nothing is settled then.
    pub(super) fn settle(
        &mut self,
        receipt: &Receipt,
        signed: &SettledReceipt,
        voucher: Option<&SignedVoucher>,
    ) -> Result<(), String> {
        sign::verify(self.payments.network, self.payer, receipt, &signed.payer)
            .map_err(|e| e.to_string())?;
        if let Some(voucher) = voucher {
            self.accept(voucher)?;
        }
        let advanced = self.advanced;
        self.with_lane(|_, lane| {
            let others = lane.owed().saturating_sub(advanced);
            let total = others.saturating_add(receipt.price);
            if receipt.price > Credits::ZERO {
                cover(lane, total)?;
            }
            lane.advanced = lane.advanced.saturating_sub(advanced);
            lane.earned = lane.earned.saturating_add(receipt.price);
            Ok::<_, String>(())
        })??;
        self.advanced = Credits::ZERO;
        // From here on the store says when the receipt may be settled.
        self.pending = None;
        Ok(())
    }

    /// The payer did not settle a job that cost `price`. Gives what it owes for it.
    pub(super) fn owe(&self, price: Credits, now: Timestamp) -> Credits {
        let unpaid = price.saturating_sub(self.advanced);
        if unpaid == Credits::ZERO {
            return unpaid;
        }
        let mut book = lock(&self.payments.book);
        if book.debts.len() >= MAX_DEBTORS && !book.debts.contains_key(&self.payer) {
            let least =
                book.debts.iter().min_by_key(|(_, debt)| debt.amount).map(|(payer, _)| *payer);
            if let Some(least) = least {
                book.debts.remove(&least);
            }
        }
        let zero = Debt { amount: Credits::ZERO, since: now };
        let debt = book.debts.entry(self.payer).or_insert(zero);
        *debt = Debt { amount: debt.amount.saturating_add(unpaid), since: now };
        unpaid
    }
}

/// Whether the lane's voucher is worth `needed`.
fn cover(lane: &LaneBook, needed: Credits) -> Result<(), String> {
    let found = lane.covered();
    if found < needed {
        return Err(format!("field `cumulative`: {found} credits, {needed} are due"));
    }
    Ok(())
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut book = lock(&self.payments.book);
        let Some(entry) = book.holds.get_mut(&self.hold) else { return };
        entry.reserved = entry.reserved.saturating_sub(self.price_max);
        entry.jobs = entry.jobs.saturating_sub(1);
        if let Some(lane) = entry.lanes.get_mut(&self.lane) {
            lane.advanced = lane.advanced.saturating_sub(self.advanced);
            if let Some(sequence) = self.pending {
                lane.pending.remove(&sequence);
            }
        }
    }
}
