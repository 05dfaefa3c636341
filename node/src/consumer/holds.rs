//! Holds that this node's Consumers have open, one per payer and Island, and the vouchers on them.
//!
//! Opening or topping up waits for a block; everything else here is memory and a signature. The
//! amounts of one hold are changed under one lock, so vouchers rise whatever order jobs end in.

mod closing;
mod hold;
mod opening;
mod reservation;
#[cfg(test)]
mod tests;

pub(super) use hold::OpenHold;
pub(super) use reservation::Reservation;

use super::{
    metrics::Metrics,
    store::{Closing, Found, Pair, Store},
};
use crate::{
    ledger,
    services::{Bank, lock},
};
use archipelag_protocol::{
    amount::Credits,
    id::{AccountId, HoldId, NetworkId},
    policy::PaymentPolicy,
    time::Timestamp,
};
use hold::Doubt;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use thiserror::Error;

/// Payer and Island pairs in use at a time.
const MAX_PAIRS: usize = 1 << 14;

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
}
