//! Transactions that wait for a block: bounded, in the order of each account's nonces, fair between
//! accounts.
//!
//! Engines own one. It knows nonces and sizes; whether a transaction is allowed is decided when it
//! is executed.

use super::engine::Submission;
use archipelag_protocol::{
    id::{AccountId, TxId},
    ledger::{Rejected, State},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// Transactions of all accounts.
pub(crate) const MAX_PENDING: usize = 8_192;
/// Their bytes, all together.
pub(crate) const MAX_PENDING_BYTES: usize = 16 << 20;
/// Transactions of one account.
pub(crate) const MAX_PER_ACCOUNT: usize = 256;
/// How long a transaction waits, for a missing nonce or for room in a block, before it is refused.
/// Shorter than a submitter waits, so that the submitter learns why.
pub(crate) const MAX_WAIT_MS: u64 = 8_000;

#[derive(Debug, Default)]
pub(crate) struct Mempool {
    accounts: BTreeMap<AccountId, BTreeMap<u64, Pending>>,
    /// Accounts whose first transaction has the nonce that the ledger expects.
    ready: BTreeSet<AccountId>,
    arrivals: BTreeSet<(Timestamp, AccountId, u64)>,
    size_bytes: usize,
    /// The account that was served last: the next block starts behind it.
    served: Option<AccountId>,
}

#[derive(Debug)]
struct Pending {
    submission: Submission,
    arrived: Timestamp,
}

/// The most that one block takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) transactions: usize,
    pub(crate) size_bytes: usize,
}

fn expected_nonce(state: &State, account: AccountId) -> u64 {
    state.accounts.get(&account).map_or(0, |a| a.nonce)
}

impl Mempool {
    pub(crate) fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether a block could be made now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the oldest transaction will have waited too long.
    pub(crate) fn expiry(&self) -> Option<Timestamp> {
        self.arrivals.first().map(|(arrived, _, _)| arrived.after_ms(MAX_WAIT_MS))
    }

    /// Takes a transaction in. One that is in already stays where it is.
    ///
    /// # Errors
    /// Why there is no place for it.
    pub(crate) fn add(
        &mut self,
        now: Timestamp,
        state: &State,
        submission: Submission,
    ) -> Result<(), Rejected> {
        state.check(&submission.transaction)?;
        let (account, found) = (submission.transaction.signer, submission.transaction.value.nonce);
        let first = expected_nonce(state, account);
        if let Some(pending) = self.accounts.get(&account) {
            if pending.get(&found).is_some_and(|p| p.submission.id == submission.id) {
                return Ok(());
            }
            if pending.contains_key(&found) {
                let free = |nonce: &u64| !pending.contains_key(nonce);
                let expected = (first..=u64::MAX).find(free).unwrap_or(first);
                return Err(Rejected::Nonce { expected, found });
            }
            if pending.len() >= MAX_PER_ACCOUNT {
                return Err(Rejected::Busy);
            }
        }
        let size_bytes = self.size_bytes.saturating_add(submission.size_bytes);
        if self.len() >= MAX_PENDING || size_bytes > MAX_PENDING_BYTES {
            return Err(Rejected::Busy);
        }
        self.size_bytes = size_bytes;
        self.arrivals.insert((now, account, found));
        let pending = Pending { submission, arrived: now };
        self.accounts.entry(account).or_default().insert(found, pending);
        if found == first {
            self.ready.insert(account);
        }
        Ok(())
    }

    /// Takes out what the next block should hold: one transaction of each account in turn, until
    /// nothing is ready or the room is used up. Call [`Mempool::advance`] when it is decided.
    pub(crate) fn take(&mut self, state: &State, room: Room) -> Vec<Submission> {
        let mut batch = Vec::new();
        let mut left_bytes = room.size_bytes;
        let mut next: BTreeMap<AccountId, u64> = BTreeMap::new();
        while batch.len() < room.transactions {
            let Some(account) = self.turn() else { break };
            let nonce = *next.entry(account).or_insert_with(|| expected_nonce(state, account));
            let size_bytes = self.size_of(account, nonce);
            if size_bytes > left_bytes {
                break;
            }
            left_bytes -= size_bytes;
            batch.extend(self.remove(account, nonce));
            next.insert(account, nonce.saturating_add(1));
            self.served = Some(account);
            if !self.holds(account, nonce.saturating_add(1)) {
                self.ready.remove(&account);
            }
        }
        batch
    }

    fn turn(&self) -> Option<AccountId> {
        let after = self.served.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.ready.range((after, Bound::Unbounded)).next();
        next.or_else(|| self.ready.first()).copied()
    }

    fn holds(&self, account: AccountId, nonce: u64) -> bool {
        self.accounts.get(&account).is_some_and(|p| p.contains_key(&nonce))
    }

    fn size_of(&self, account: AccountId, nonce: u64) -> usize {
        let pending = self.accounts.get(&account).and_then(|p| p.get(&nonce));
        pending.map_or(0, |p| p.submission.size_bytes)
    }

    fn remove(&mut self, account: AccountId, nonce: u64) -> Option<Submission> {
        let pending = self.accounts.get_mut(&account)?;
        let removed = pending.remove(&nonce)?;
        if pending.is_empty() {
            self.accounts.remove(&account);
        }
        self.size_bytes -= removed.submission.size_bytes;
        self.arrivals.remove(&(removed.arrived, account, nonce));
        Some(removed.submission)
    }

    /// Moves on to `state`, in which the nonces of `senders` may have changed. Gives what can't be
    /// in a block any more.
    pub(crate) fn advance(
        &mut self,
        state: &State,
        senders: &BTreeSet<AccountId>,
    ) -> Vec<(TxId, Rejected)> {
        let mut refused = Vec::new();
        for account in senders {
            let expected = expected_nonce(state, *account);
            while let Some(found) = self.first_nonce(*account).filter(|n| *n < expected) {
                let removed = self.remove(*account, found);
                refused.extend(removed.map(|s| (s.id, Rejected::Nonce { expected, found })));
            }
            self.update_ready(state, *account);
        }
        refused
    }

    fn first_nonce(&self, account: AccountId) -> Option<u64> {
        self.accounts.get(&account)?.keys().next().copied()
    }

    fn update_ready(&mut self, state: &State, account: AccountId) {
        if self.holds(account, expected_nonce(state, account)) {
            self.ready.insert(account);
        } else {
            self.ready.remove(&account);
        }
    }

    /// Takes out what has waited too long, with the reason.
    pub(crate) fn expire(&mut self, now: Timestamp, state: &State) -> Vec<(TxId, Rejected)> {
        let mut refused = Vec::new();
        while let Some((arrived, account, found)) = self.arrivals.first().copied() {
            if arrived.after_ms(MAX_WAIT_MS) > now {
                break;
            }
            let expected = expected_nonce(state, account);
            let reason = match self.ready.contains(&account) {
                true => Rejected::Busy,
                false => Rejected::Nonce { expected, found },
            };
            refused.extend(self.remove(account, found).map(|s| (s.id, reason)));
            self.update_ready(state, account);
        }
        refused
    }
}
