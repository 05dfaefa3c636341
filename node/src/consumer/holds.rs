//! Holds that this node's Consumers have open, one per payer and Island, and the vouchers on them.
//!
//! Opening or topping up waits for a block; everything else here is memory and a signature. The
//! amounts of one hold are changed under one lock, so vouchers rise whatever order jobs end in.

#[cfg(test)]
mod tests;

use super::{
    metrics::Metrics,
    store::{Change, Closing, Found, HoldRecord, Pair, Store},
};
use crate::{
    ledger,
    mesh::now,
    services::{Bank, lock},
};
use archipelag_protocol::{
    amount::Credits,
    codec,
    id::{AccountId, ContentId, HoldId, NetworkId},
    ledger::{Action, Payee, Rejected, state::hold_of},
    payment::{Lane, SignedVoucher, Voucher},
    policy::PaymentPolicy,
    time::Timestamp,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use thiserror::Error;

/// Payer and Island pairs in use at a time.
const MAX_PAIRS: usize = 1 << 14;

/// Islands for which a hold is opened along with that of the one that is needed.
const MAX_SPARES: usize = 7;

/// Why a job's price can't be reserved.
#[derive(Clone, Debug, Error)]
pub(super) enum Error {
    #[error("{required} credits needed, {available} available")]
    Credits { required: Credits, available: Credits },
    #[error("the ledger: {0}")]
    Ledger(String),
    #[error("{MAX_PAIRS} holds are in use on this node")]
    TooMany,
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Self {
        Self::Ledger(error.to_string())
    }
}

/// One hold and its lane.
#[derive(Debug)]
pub(super) struct OpenHold {
    pub(super) hold: HoldId,
    lane: Lane,
    expires: Timestamp,
    earlier: Credits,
    amounts: Mutex<Amounts>,
}

#[derive(Debug)]
struct Amounts {
    cap: Credits,
    /// What the Island may take in this lane by now: receipts, and advances to running jobs.
    committed: Credits,
    /// The most that running jobs may still cost.
    reserved: Credits,
    nonce: u64,
    voucher: Option<SignedVoucher>,
    /// Why the ledger must be asked before this hold is used again.
    doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
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
    fn new(record: HoldRecord, doubt: Option<Doubt>) -> Self {
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

    pub(super) fn record(&self) -> HoldRecord {
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

    fn room_now(&self) -> Credits {
        self.room(&lock(&self.amounts))
    }

    fn raise(&self, amount: Credits) {
        let mut amounts = lock(&self.amounts);
        amounts.cap = amounts.cap.saturating_add(amount);
    }

    fn room(&self, amounts: &Amounts) -> Credits {
        let used = amounts.committed.saturating_add(amounts.reserved).max(amounts.signed());
        amounts.cap.saturating_sub(used.saturating_add(self.earlier))
    }
}

/// One payer's hold with one Island.
type Slot = Mutex<Option<Arc<OpenHold>>>;

/// Held while a payer opens a hold or tops one up, so that each looks at what the one before it
/// left of the balance.
type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Debug)]
pub(super) struct Holds {
    network: NetworkId,
    policy: PaymentPolicy,
    pub(super) store: Store,
    metrics: Arc<Metrics>,
    slots: Mutex<BTreeMap<Pair, Arc<Slot>>>,
    turns: Mutex<BTreeMap<AccountId, Turn>>,
    closing: Mutex<BTreeMap<HoldId, Closing>>,
}

impl Holds {
    pub(super) fn new(
        network: NetworkId,
        policy: PaymentPolicy,
        store: Store,
        metrics: Arc<Metrics>,
        found: Found,
    ) -> Self {
        let slots = found.holds.into_iter().map(|(pair, record)| {
            let hold = Arc::new(OpenHold::new(record, Some(Doubt::Old)));
            (pair, Arc::new(Mutex::new(Some(hold))))
        });
        let closing = found.closing.into_iter().map(|closing| (closing.hold, closing));
        Self {
            network,
            policy,
            store,
            metrics,
            slots: Mutex::new(slots.collect()),
            turns: Mutex::default(),
            closing: Mutex::new(closing.collect()),
        }
    }

    /// What is reserved for `island` already and free for a new job.
    pub(super) fn room(&self, payer: AccountId, island: AccountId) -> Credits {
        let slot = lock(&self.slots).get(&(payer, island)).cloned();
        let Some(hold) = slot.and_then(|slot| lock(&slot).clone()) else {
            return Credits::ZERO;
        };
        let amounts = lock(&hold.amounts);
        if amounts.doubt.is_some() { Credits::ZERO } else { hold.room(&amounts) }
    }

    /// The same, with holds of before a restart counted at what was known of them then.
    pub(super) fn expected_room(&self, payer: AccountId, island: AccountId) -> Credits {
        let slot = lock(&self.slots).get(&(payer, island)).cloned();
        let hold = slot.and_then(|slot| lock(&slot).clone());
        hold.map_or(Credits::ZERO, |hold| hold.room_now())
    }

    /// How much to reserve for an Island at once, of a `balance`: what the policy says, and never
    /// so much that nothing is left for the Island that takes over when this one is lost.
    fn portion(&self, balance: Credits) -> Credits {
        self.policy.hold_default.min(balance.fraction(1, 4))
    }

    fn slot(&self, pair: Pair) -> Result<Arc<Slot>, Error> {
        let mut slots = lock(&self.slots);
        if slots.len() >= MAX_PAIRS && !slots.contains_key(&pair) {
            slots.retain(|_, slot| lock(slot).is_some());
        }
        if slots.len() >= MAX_PAIRS && !slots.contains_key(&pair) {
            return Err(Error::TooMany);
        }
        Ok(slots.entry(pair).or_default().clone())
    }

    fn turn(&self, payer: AccountId) -> Turn {
        let mut turns = lock(&self.turns);
        if turns.len() >= MAX_PAIRS {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        turns.entry(payer).or_default().clone()
    }

    /// Reserves `price_max` for a job on `island` that may last until `until`. Costs nothing but
    /// memory when a hold with room is open; else opens one or tops it up, which waits for a block.
    /// A block that is waited for opens holds for some `spares`, too, so that a first job on one of
    /// them does not wait.
    ///
    /// # Errors
    /// When credits or the ledger are missing.
    pub(super) async fn reserve(
        &self,
        bank: &Arc<dyn Bank>,
        island: AccountId,
        price_max: Credits,
        until: Timestamp,
        spares: &[AccountId],
    ) -> Result<Reservation, Error> {
        let pair = (bank.key().account(), island);
        let slot = self.slot(pair)?;
        if let Some(reservation) = self.try_reserve(&slot, island, price_max, until) {
            return Ok(reservation);
        }
        let turn = self.turn(pair.0);
        let _turn = turn.lock().await;
        // Somebody else may have mended it while this job waited.
        if let Some(reservation) = self.try_reserve(&slot, island, price_max, until) {
            return Ok(reservation);
        }
        self.mend(&slot, pair, bank, (price_max, until), spares).await?;
        self.try_reserve(&slot, island, price_max, until)
            .ok_or_else(|| Error::Ledger("the hold has no room although it was mended".into()))
    }

    /// Reserves without waiting, when a hold with room is open.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub(super) fn reserve_now(
        &self,
        payer: AccountId,
        island: AccountId,
        price_max: Credits,
        until: Timestamp,
    ) -> Result<Option<Reservation>, Error> {
        let slot = self.slot((payer, island))?;
        Ok(self.try_reserve(&slot, island, price_max, until))
    }

    fn try_reserve(
        &self,
        slot: &Slot,
        island: AccountId,
        price_max: Credits,
        until: Timestamp,
    ) -> Option<Reservation> {
        let hold = lock(slot).clone()?;
        let mut amounts = lock(&hold.amounts);
        if amounts.doubt.is_some() || hold.expires < until || hold.room(&amounts) < price_max {
            return None;
        }
        amounts.reserved = amounts.reserved.saturating_add(price_max);
        drop(amounts);
        let (network, window_ms) = (self.network, self.policy.dispute_window_ms);
        let advanced = Credits::ZERO;
        Some(Reservation { hold, island, network, window_ms, price_max, advanced })
    }

    /// Makes room for `price_max` until `until`.
    async fn mend(
        &self,
        slot: &Slot,
        pair: Pair,
        bank: &Arc<dyn Bank>,
        (price_max, until): (Credits, Timestamp),
        spares: &[AccountId],
    ) -> Result<(), Error> {
        let current = lock(slot).clone();
        if let Some(hold) = current {
            let doubt = lock(&hold.amounts).doubt;
            let usable = hold.expires >= until && self.check(&hold, bank).await?;
            if usable && self.top_up(&hold, pair, bank, price_max, doubt).await? {
                return Ok(());
            }
            self.give_up(slot, pair, hold.hold).await;
        }
        let hold = self.open(pair, bank, price_max, spares).await?;
        *lock(slot) = Some(hold);
        Ok(())
    }

    /// Uses `hold` no more; [`Holds::close_due`] closes it.
    async fn give_up(&self, slot: &Slot, pair: Pair, hold: HoldId) {
        *lock(slot) = None;
        let closing = Closing { hold, payer: pair.0, due: now() };
        lock(&self.closing).insert(hold, closing);
        self.store.write(Change::Closing(closing)).await;
        self.store.write(Change::NoHold(pair, hold)).await;
    }

    /// Gives up the holds of `payer` that have expired: with Islands that get no job any more
    /// nothing else would.
    async fn give_up_expired(&self, payer: AccountId, now: Timestamp) {
        let slots: Vec<(Pair, Arc<Slot>)> = {
            let slots = lock(&self.slots);
            let mine = slots.iter().filter(|(pair, _)| pair.0 == payer);
            mine.map(|(pair, slot)| (*pair, slot.clone())).collect()
        };
        let turn = self.turn(payer);
        let _turn = turn.lock().await;
        for (pair, slot) in slots {
            let unused = |hold: &Arc<OpenHold>| {
                hold.expires <= now && lock(&hold.amounts).reserved == Credits::ZERO
            };
            let expired = lock(&slot).clone().filter(unused);
            if let Some(hold) = expired {
                self.give_up(&slot, pair, hold.hold).await;
            }
        }
    }

    /// Asks the ledger about a doubtful hold. False when it can't be used any more.
    async fn check(&self, hold: &OpenHold, bank: &Arc<dyn Bank>) -> Result<bool, Error> {
        if lock(&hold.amounts).doubt.is_none() {
            return Ok(true);
        }
        let Some(found) = bank.hold(hold.hold).await? else { return Ok(false) };
        let usable = found.closes.is_none() && found.expires > now();
        let mut amounts = lock(&hold.amounts);
        amounts.cap = found.cap;
        if usable {
            amounts.doubt = None;
        }
        Ok(usable)
    }

    /// Adds what is missing. False when the ledger wants another hold instead.
    async fn top_up(
        &self,
        hold: &Arc<OpenHold>,
        pair: Pair,
        bank: &Arc<dyn Bank>,
        price_max: Credits,
        doubt: Option<Doubt>,
    ) -> Result<bool, Error> {
        let room = hold.room_now();
        let missing = price_max.saturating_sub(room);
        if missing == Credits::ZERO && doubt != Some(Doubt::Refused) {
            return Ok(true);
        }
        let balance = bank.balance().await?;
        if missing == Credits::ZERO && balance == Credits::ZERO {
            return Ok(true);
        }
        // With that much room it is not room that the Island misses, and a liar would be given all.
        if doubt == Some(Doubt::Refused) && room >= price_max.saturating_add(self.portion(balance))
        {
            return Err(Error::Ledger("the Island refuses a hold that has room".into()));
        }
        if balance < missing {
            let available = balance.saturating_add(room);
            return Err(Error::Credits { required: price_max, available });
        }
        let amount = missing.max(self.portion(balance)).max(Credits::from_micro(1));
        match bank.send(Action::TopUp { hold: hold.hold, amount }).await {
            Ok(_) => {}
            Err(ledger::Error::Rejected(Rejected::NoHold(_) | Rejected::Field { .. })) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        hold.raise(amount);
        self.store.write(Change::Hold(pair, hold.clone())).await;
        Ok(true)
    }

    async fn open(
        &self,
        pair: Pair,
        bank: &Arc<dyn Bank>,
        price_max: Credits,
        spares: &[AccountId],
    ) -> Result<Arc<OpenHold>, Error> {
        let balance = bank.balance().await?;
        if balance < price_max {
            return Err(Error::Credits { required: price_max, available: balance });
        }
        let cap = price_max.max(self.portion(balance)).max(Credits::from_micro(1));
        if balance == Credits::ZERO {
            let required = Credits::from_micro(1);
            return Err(Error::Credits { required, available: balance });
        }
        let expires = now().after_ms(self.policy.hold_life_ms);
        let mut payees = vec![Payee { account: pair.1, cap }];
        payees.extend(self.spares(pair, balance.saturating_sub(cap), price_max, spares));
        let dispute_ms = self.policy.dispute_window_ms;
        let open = |payees| Action::OpenHold { payees, expires, dispute_ms };
        let receipt = match bank.send(open(payees.clone())).await {
            // Without the spares there may be room.
            Err(ledger::Error::Rejected(_)) if payees.len() > 1 => {
                payees.truncate(1);
                bank.send(open(payees.clone())).await?
            }
            sent => sent?,
        };
        let mut first = None;
        for (index, Payee { account, cap }) in payees.into_iter().enumerate() {
            self.metrics.holds_opened.inc();
            let (hold, pair) = (hold_of(receipt.transaction, index), (pair.0, account));
            let (nonce, signed, earlier) = (0, Credits::ZERO, Credits::ZERO);
            let record = HoldRecord { hold, cap, expires, lane: 0, nonce, signed, earlier };
            let hold = Arc::new(OpenHold::new(record, None));
            // A hold that is not on disk would be forgotten by a crash, with the credits in it.
            self.store.write(Change::Hold(pair, hold.clone())).await;
            if first.is_none() {
                first = Some(hold);
            } else {
                *lock(&*self.slot(pair)?) = Some(hold);
            }
        }
        self.store.flush().await;
        first.ok_or_else(|| Error::Ledger("a hold for nobody".into()))
    }

    /// Shares for Islands that this payer has no hold with: a job's price each. With those that
    /// were opened so before and have not been used they are no more than a quarter of what is
    /// `left` of the balance.
    fn spares(
        &self,
        (payer, island): Pair,
        left: Credits,
        price_max: Credits,
        spares: &[AccountId],
    ) -> Vec<Payee> {
        let unused = {
            let slots = lock(&self.slots);
            let mine = slots.iter().filter(|((of, _), _)| *of == payer);
            let holds = mine.filter_map(|(_, slot)| lock(slot).clone());
            let unused = holds.map(|hold| {
                let amounts = lock(&hold.amounts);
                let idle = amounts.nonce == 0 && amounts.reserved == Credits::ZERO;
                if idle { amounts.cap } else { Credits::ZERO }
            });
            unused.fold(Credits::ZERO, Credits::saturating_add)
        };
        let mut room = left.fraction(1, 4).saturating_sub(unused);
        let mut payees = Vec::new();
        for account in spares.iter().copied().filter(|account| *account != island) {
            let known = lock(&self.slots).get(&(payer, account)).cloned();
            let has_hold = known.is_some_and(|slot| lock(&slot).is_some());
            let Some(rest) = room.checked_sub(price_max) else { break };
            if price_max > Credits::ZERO && !has_hold && payees.len() < MAX_SPARES {
                room = rest;
                payees.push(Payee { account, cap: price_max });
            }
        }
        payees
    }

    /// Whether a hold of `payer` waits to be closed.
    pub(super) fn has_closing(&self, payer: AccountId, now: Timestamp) -> bool {
        lock(&self.closing).values().any(|c| c.payer == payer && c.due <= now)
    }

    /// Tells the ledger to close what is due or has expired: first to start the dispute window,
    /// then to give back what is left.
    pub(super) async fn close_due(&self, bank: &Arc<dyn Bank>) {
        let (payer, now) = (bank.key().account(), now());
        self.give_up_expired(payer, now).await;
        let due: Vec<HoldId> = {
            let mut closing = lock(&self.closing);
            let mine = closing.values_mut().filter(|c| c.payer == payer && c.due <= now);
            mine.map(|c| {
                // The next attempt, whatever becomes of this one.
                c.due = now.after_ms(self.policy.dispute_window_ms.saturating_add(1_000));
                c.hold
            })
            .collect()
        };
        for hold in due {
            let sent = bank.send(Action::CloseHold { hold }).await;
            let over = match (sent, bank.hold(hold).await) {
                (Err(ledger::Error::Rejected(Rejected::NoHold(_))), _) | (_, Ok(None)) => true,
                (Err(error), _) => {
                    tracing::debug!(%hold, %error, "consumer.close_hold");
                    false
                }
                _ => false,
            };
            let closing = lock(&self.closing).get(&hold).copied();
            match closing {
                Some(_) if over => {
                    lock(&self.closing).remove(&hold);
                    self.store.write(Change::Closed(hold)).await;
                }
                Some(closing) => self.store.write(Change::Closing(closing)).await,
                None => {}
            }
        }
    }
}

/// A job's part of a hold. Dropping it gives back what was reserved; what was paid in advance stays
/// paid.
#[derive(Debug)]
pub(super) struct Reservation {
    hold: Arc<OpenHold>,
    island: AccountId,
    network: NetworkId,
    window_ms: u64,
    price_max: Credits,
    advanced: Credits,
}

impl Reservation {
    pub(super) fn hold(&self) -> HoldId {
        self.hold.hold
    }

    pub(super) fn lane(&self) -> Lane {
        self.hold.lane
    }

    /// The Island refused the hold: the ledger is asked before it is used again.
    pub(super) fn doubt(&self) {
        lock(&self.hold.amounts).doubt = Some(Doubt::Refused);
    }

    pub(super) fn change(&self, payer: AccountId) -> Change {
        Change::Hold((payer, self.island), self.hold.clone())
    }

    /// A voucher that pays `due` for this job so far.
    ///
    /// # Errors
    /// When it can't be encoded.
    pub(super) fn advance(
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
    pub(super) fn settle(
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
