//! Turns vouchers and receipts into money: one transaction for many jobs.
//!
//! A task of its own: every few seconds, when a batch is full, and once more at the end of the
//! node. What is on disk from before a restart is settled like everything else. The ledger refuses
//! a receipt that it has settled already, so repeating a batch after a crash changes nothing.

use super::{
    metrics::Metrics,
    payments::Payments,
    store::{BATCH, Batch, Change, Key, Store},
};
use crate::{ledger, services::Bank};
use archipelag_protocol::{
    id::HoldId,
    ledger::{Action, LaneState, Rejected},
    payment::{Lane, SettledReceipt, SignedVoucher},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Refused items that are taken out of one batch before the rest waits for the next round.
const MAX_REFUSED: usize = 8;
/// Lanes whose state on the ledger is remembered.
const MAX_KNOWN: usize = 4096;

pub(super) struct Settler {
    pub(super) bank: Arc<dyn Bank>,
    pub(super) store: Store,
    pub(super) payments: Arc<Payments>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) interval: Duration,
    /// What the ledger has of a lane; `None` for a hold that has ended.
    pub(super) known: BTreeMap<(HoldId, Lane), Option<LaneState>>,
}

impl Settler {
    /// Settles until `stop`. What is left then is [`Settler::settle_all`]'s.
    pub(super) async fn run(&mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.store.enough() => {}
                () = tokio::time::sleep(self.interval) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.settle_all() => {}
            }
        }
    }

    /// Settles what waits, until nothing does or the ledger can't be reached.
    pub(super) async fn settle_all(&mut self) {
        while self.store.waiting() > 0 {
            match self.round().await {
                Ok(0) => return,
                Ok(receipts) => tracing::debug!(receipts, "island.settle"),
                Err(error) => {
                    tracing::warn!(error, waiting = self.store.waiting(), "island.settle");
                    return;
                }
            }
        }
    }

    /// One batch. Gives how many receipts are done with.
    async fn round(&mut self) -> Result<usize, String> {
        let mut batch = self.store.batch().await?;
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let (mut done, mut settled) = (Vec::new(), 0);
        for _ in 0..MAX_REFUSED {
            self.look_up(&batch).await.map_err(|e| e.to_string())?;
            self.drop_useless(&mut batch, &mut done).await;
            if batch.receipts.is_empty() {
                break;
            }
            match self.send(&batch).await {
                Ok(()) => {
                    settled = batch.receipts.len();
                    done.extend(batch.receipts.drain(..).map(|(key, _)| key));
                    break;
                }
                Err(Refused::Item(key, reason)) => {
                    // What is known of the ledger may be old; a second refusal is meant.
                    if self.moved(key).await? {
                        continue;
                    }
                    tracing::warn!(hold = %key.0, lane = key.1, reason, "island.settle: refused");
                    self.give_up(&mut batch, key, &mut done);
                }
                Err(Refused::Unreachable(error)) => return Err(error),
            }
        }
        self.metrics.settled.inc_by(settled as u64);
        let count = done.len();
        if count > 0 {
            self.store.write(Change::Remove(done)).await;
            self.store.flush().await;
        }
        Ok(count)
    }

    /// Whether the ledger's state of a lane differs from what the batch was made for, so that it is
    /// worth another attempt.
    async fn moved(&mut self, (hold, lane, _): Key) -> Result<bool, String> {
        let state = self.bank.hold(hold).await.map_err(|e| e.to_string())?;
        let state = state.map(|state| state.lanes.get(&lane).copied().unwrap_or_default());
        Ok(self.known.insert((hold, lane), state) != Some(state))
    }

    /// Asks the ledger about lanes of which nothing is known.
    async fn look_up(&mut self, batch: &Batch) -> Result<(), ledger::Error> {
        let lanes: BTreeSet<(HoldId, Lane)> =
            batch.receipts.iter().map(|((hold, lane, _), _)| (*hold, *lane)).collect();
        for (hold, lane) in lanes {
            if self.known.contains_key(&(hold, lane)) {
                continue;
            }
            let state = self.bank.hold(hold).await?;
            let state = state.map(|state| state.lanes.get(&lane).copied().unwrap_or_default());
            self.known.insert((hold, lane), state);
        }
        Ok(())
    }

    /// Takes out receipts that the ledger has settled and those of holds that have ended.
    async fn drop_useless(&self, batch: &mut Batch, done: &mut Vec<Key>) {
        let mut ended = BTreeSet::new();
        batch.receipts.retain(|((hold, lane, sequence), _)| {
            let keep = match self.known.get(&(*hold, *lane)) {
                Some(Some(state)) => *sequence >= state.next_receipt,
                Some(None) => {
                    ended.insert(*hold);
                    false
                }
                None => true,
            };
            if !keep {
                done.push((*hold, *lane, *sequence));
            }
            keep
        });
        for hold in ended {
            tracing::warn!(%hold, "island.settle: the hold has ended before its receipts");
            self.payments.ended(hold);
            self.store.write(Change::Ended(hold)).await;
        }
    }

    fn give_up(&self, batch: &mut Batch, key: Key, done: &mut Vec<Key>) {
        let refused = |other: &Key| {
            // A voucher that is refused covers none of its lane's receipts.
            if key.2 == u64::MAX { (other.0, other.1) == (key.0, key.1) } else { *other == key }
        };
        let before = done.len();
        done.extend(batch.receipts.iter().map(|(other, _)| *other).filter(refused));
        batch.receipts.retain(|(other, _)| !refused(other));
        self.metrics.refused_by_ledger.inc_by((done.len() - before) as u64);
    }

    async fn send(&mut self, batch: &Batch) -> Result<(), Refused> {
        let vouchers: Vec<SignedVoucher> = batch
            .vouchers
            .iter()
            .filter(|(lane, voucher)| {
                let known = self.known.get(*lane).copied().flatten().unwrap_or_default();
                voucher.value.cumulative > known.cumulative
            })
            .map(|(_, voucher)| voucher.clone())
            .take(BATCH)
            .collect();
        if !vouchers.is_empty() {
            let place = |i: usize| vouchers.get(i).map(|v| (v.value.hold, v.value.lane, u64::MAX));
            let sent = self.bank.send(Action::Redeem { vouchers: vouchers.clone() }).await;
            if let Err(refused) = sent.map_err(|e| Refused::of(e, place)) {
                if matches!(refused, Refused::Unreachable(_)) {
                    self.entrust(vouchers).await;
                }
                return Err(refused);
            }
            for voucher in &vouchers {
                let voucher = &voucher.value;
                let known = self.known.entry((voucher.hold, voucher.lane)).or_default();
                let state = known.get_or_insert_default();
                state.cumulative = voucher.cumulative;
            }
        }
        let receipts: Vec<SettledReceipt> = batch.receipts.iter().map(|(_, r)| r.clone()).collect();
        let place = |i: usize| batch.receipts.get(i).map(|(key, _)| *key);
        self.bank.send(Action::Settle { receipts }).await.map_err(|e| Refused::of(e, place))?;
        for ((hold, lane, sequence), _) in &batch.receipts {
            let known = self.known.entry((*hold, *lane)).or_default();
            known.get_or_insert_default().next_receipt = sequence.saturating_add(1);
        }
        Ok(())
    }
}

impl Settler {
    /// The own transaction does not get through: a coordinator's may, and this Island may not be
    /// there any more when its own would. Only redeeming is urgent: the payer may end a hold.
    async fn entrust(&self, vouchers: Vec<SignedVoucher>) {
        let count = vouchers.len();
        match self.bank.entrust(vouchers).await {
            Ok(taken) => tracing::info!(taken, of = count, "island.settle: entrusted"),
            Err(error) => tracing::debug!(%error, "island.settle: entrust"),
        }
    }
}

/// Why a batch was not taken.
enum Refused {
    /// One item of it; [`u64::MAX`] in the key's last place means the lane's voucher.
    Item(Key, String),
    /// All of it: no coordinator answers, or none takes it now; it is sent again later.
    Unreachable(String),
}

impl Refused {
    fn of(error: ledger::Error, place: impl Fn(usize) -> Option<Key>) -> Self {
        if let ledger::Error::Rejected(Rejected::Item { index, reason }) = &error
            && let Some(key) = usize::try_from(*index).ok().and_then(place)
        {
            return Self::Item(key, reason.clone());
        }
        Self::Unreachable(error.to_string())
    }
}
