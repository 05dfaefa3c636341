//! Holds that are used no more are closed, so that what is left in them comes back.

use super::{Holds, Slot, hold::OpenHold};
use crate::{
    consumer::store::{Change, Closing, Pair},
    ledger,
    mesh::now,
    services::{Bank, lock},
};
use archipelag_protocol::{
    amount::Credits,
    id::{AccountId, HoldId},
    ledger::{Action, Rejected},
    time::Timestamp,
};
use std::sync::Arc;

impl Holds {
    /// Uses `hold` no more; [`Holds::close_due`] closes it.
    pub(super) async fn give_up(&self, slot: &Slot, pair: Pair, hold: HoldId) {
        *lock(slot) = None;
        let closing = Closing { hold, payer: pair.0, due: now() };
        lock(&self.closing).insert(hold, closing);
        self.store.write(Change::Closing(closing)).await;
        self.store.write(Change::NoHold(pair, hold)).await;
    }

    /// Gives up the holds of `payer` that have expired: with Islands that get no job any more
    /// nothing else would.
    pub(super) async fn give_up_expired(&self, payer: AccountId, now: Timestamp) {
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

    /// Whether a hold of `payer` waits to be closed.
    pub(crate) fn has_closing(&self, payer: AccountId, now: Timestamp) -> bool {
        lock(&self.closing).values().any(|c| c.payer == payer && c.due <= now)
    }

    /// Tells the ledger to close what is due or has expired: first to start the dispute window,
    /// then to give back what is left.
    pub(crate) async fn close_due(&self, bank: &Arc<dyn Bank>) {
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
