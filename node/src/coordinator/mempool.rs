//! Transactions that wait for a block: bounded, in the order of each account's nonces, fair between
//! accounts.
//!
//! Engines own one. It knows nonces and sizes; whether a transaction is allowed is decided when it
//! is executed.

use super::engine::Submission;
use archipelag_protocol::{
    id::{AccountId, TxId},
    ledger::{Rejected, SignedTransaction, State},
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

    /// Whether this very transaction waits here.
    pub(crate) fn has(&self, transaction: &SignedTransaction, id: TxId) -> bool {
        let waiting = self.accounts.get(&transaction.signer);
        waiting.and_then(|w| w.get(&transaction.value.nonce)).is_some_and(|p| p.submission.id == id)
    }

    /// Whether a block could be made now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A transaction with which the next block could begin.
    pub(crate) fn first_ready(&self, state: &State) -> Option<&Submission> {
        let first = |account: &AccountId| {
            let waiting = self.accounts.get(account)?;
            waiting.get(&expected_nonce(state, *account)).map(|pending| &pending.submission)
        };
        self.ready.iter().find_map(first)
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
        let size_bytes = self.size_bytes.saturating_add(submission.bytes.len());
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

    /// What the next block should hold: one transaction of each account in turn, until nothing is
    /// ready or the room is used up. They stay here until [`Mempool::advance`] says that they are
    /// in a block, since what is proposed need not be decided.
    pub(crate) fn select(&mut self, state: &State, room: Room) -> Vec<Submission> {
        let mut batch = Vec::new();
        let mut left_bytes = room.size_bytes;
        let mut ready = self.ready.clone();
        let mut next: BTreeMap<AccountId, u64> = BTreeMap::new();
        while batch.len() < room.transactions {
            let Some(account) = self.turn(&ready) else { break };
            let nonce = *next.entry(account).or_insert_with(|| expected_nonce(state, account));
            let Some(pending) = self.accounts.get(&account).and_then(|p| p.get(&nonce)) else {
                ready.remove(&account);
                continue;
            };
            let size_bytes = pending.submission.bytes.len();
            if size_bytes > left_bytes {
                break;
            }
            left_bytes -= size_bytes;
            batch.push(pending.submission.clone());
            next.insert(account, nonce.saturating_add(1));
            self.served = Some(account);
        }
        batch
    }

    fn turn(&self, ready: &BTreeSet<AccountId>) -> Option<AccountId> {
        let after = self.served.map_or(Bound::Unbounded, Bound::Excluded);
        let next = ready.range((after, Bound::Unbounded)).next();
        next.or_else(|| ready.first()).copied()
    }

    fn holds(&self, account: AccountId, nonce: u64) -> bool {
        self.accounts.get(&account).is_some_and(|p| p.contains_key(&nonce))
    }

    fn remove(&mut self, account: AccountId, nonce: u64) -> Option<Submission> {
        let pending = self.accounts.get_mut(&account)?;
        let removed = pending.remove(&nonce)?;
        if pending.is_empty() {
            self.accounts.remove(&account);
        }
        self.size_bytes -= removed.submission.bytes.len();
        self.arrivals.remove(&(removed.arrived, account, nonce));
        Some(removed.submission)
    }

    /// Moves on to `state`, the one after a block with the transactions `included`. Gives what
    /// can't be in a block any more.
    pub(crate) fn advance(
        &mut self,
        state: &State,
        included: &[(AccountId, TxId)],
    ) -> Vec<(TxId, Rejected)> {
        let ids: BTreeSet<TxId> = included.iter().map(|(_, id)| *id).collect();
        let senders: BTreeSet<AccountId> = included.iter().map(|(sender, _)| *sender).collect();
        let mut refused = Vec::new();
        for account in senders {
            let expected = expected_nonce(state, account);
            while let Some(found) = self.first_nonce(account).filter(|n| *n < expected) {
                let removed = self.remove(account, found).filter(|s| !ids.contains(&s.id));
                refused.extend(removed.map(|s| (s.id, Rejected::Nonce { expected, found })));
            }
            self.update_ready(state, account);
        }
        refused
    }

    /// Takes out a transaction that turned out not to be allowed.
    pub(crate) fn refuse(&mut self, state: &State, refused: &Submission) {
        let (account, nonce) = (refused.transaction.signer, refused.transaction.value.nonce);
        let pending = self.accounts.get(&account).and_then(|p| p.get(&nonce));
        if pending.is_some_and(|p| p.submission.id == refused.id) {
            self.remove(account, nonce);
            self.update_ready(state, account);
        }
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
                true => Rejected::Undecided,
                false => Rejected::Nonce { expected, found },
            };
            refused.extend(self.remove(account, found).map(|s| (s.id, reason)));
            self.update_ready(state, account);
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipelag_protocol::{
        amount::Credits,
        genesis::{Allocation, Genesis, Validator},
        id::{NodeId, Signature},
        ledger::{Action, Transaction},
        policy::Policy,
        sign::Signed,
    };

    fn account(index: u8) -> AccountId {
        AccountId([index; 32])
    }

    fn state() -> State {
        let balance = Credits::from_whole(1);
        State::genesis(Genesis {
            name: "test".into(),
            created: Timestamp(0),
            policy: Policy::default(),
            accounts: (0..100).map(|i| Allocation { account: account(i), balance }).collect(),
            treasury: Credits::ZERO,
            validators: vec![Validator { account: account(0), node: NodeId([0; 32]) }],
            publishers: Vec::new(),
        })
        .unwrap()
    }

    fn submission(from: u8, nonce: u64, size_bytes: usize) -> Submission {
        let action = Action::Transfer { to: account(1), amount: Credits::from_micro(1) };
        let mut id = [from; 32];
        id[..8].copy_from_slice(&nonce.to_be_bytes());
        let (signer, signature) = (account(from), Signature([0; 64]));
        let transaction =
            Signed { value: Transaction { nonce, salt: 0, action }, signer, signature };
        Submission { id: TxId(id), transaction, bytes: vec![0; size_bytes].into() }
    }

    fn order(batch: &[Submission]) -> Vec<(u8, u64)> {
        batch.iter().map(|s| (s.transaction.signer.0[0], s.transaction.value.nonce)).collect()
    }

    /// The state after a block with these, and what is in the block.
    fn decided(state: &State, batch: &[Submission]) -> (State, Vec<(AccountId, TxId)>) {
        let mut next = state.clone();
        for submission in batch {
            next.accounts.get_mut(&submission.transaction.signer).unwrap().nonce += 1;
        }
        (next, batch.iter().map(|s| (s.transaction.signer, s.id)).collect())
    }

    const NOW: Timestamp = Timestamp(1_000);
    const ALL: Room = Room { transactions: 10_000, size_bytes: usize::MAX };

    #[test]
    fn accounts_take_turns_and_nonces_stay_in_order() {
        let (mut pool, state) = (Mempool::default(), state());
        for (from, nonce) in [(1, 2), (1, 0), (2, 0), (1, 1), (3, 1), (2, 1)] {
            pool.add(NOW, &state, submission(from, nonce, 10)).unwrap();
        }
        let two = Room { transactions: 2, ..ALL };
        let first = pool.select(&state, two);
        assert_eq!(order(&first), [(1, 0), (2, 0)]);
        // Another proposer's block took one of them.
        let (next, included) = decided(&state, &first[..1]);
        assert!(pool.advance(&next, &included).is_empty());
        let second = pool.select(&next, ALL);
        assert_eq!(order(&second), [(1, 1), (2, 0), (1, 2), (2, 1)]);
        let (next, included) = decided(&next, &second);
        assert!(pool.advance(&next, &included).is_empty());
        // The third account's nonce 0 never came.
        assert_eq!((pool.is_ready(), pool.len()), (false, 1));
    }

    #[test]
    fn a_block_takes_no_more_than_fits() {
        let (mut pool, state) = (Mempool::default(), state());
        for from in 1..4 {
            pool.add(NOW, &state, submission(from, 0, 100)).unwrap();
        }
        let room = Room { size_bytes: 250, ..ALL };
        assert_eq!(order(&pool.select(&state, room)), [(1, 0), (2, 0)]);
        assert_eq!(
            order(&pool.select(&state, room)),
            [(3, 0), (1, 0)],
            "it goes on with the third"
        );
    }

    #[test]
    fn it_is_bounded_by_account_number_and_bytes() {
        let (mut pool, state) = (Mempool::default(), state());
        for nonce in 0..MAX_PER_ACCOUNT as u64 {
            pool.add(NOW, &state, submission(1, nonce, 10)).unwrap();
        }
        let more = submission(1, MAX_PER_ACCOUNT as u64, 10);
        assert_eq!(pool.add(NOW, &state, more), Err(Rejected::Busy));
        assert_eq!(pool.add(NOW, &state, submission(2, 0, MAX_PENDING_BYTES)), Err(Rejected::Busy));
        let places = (2..100).flat_map(|from| (0..MAX_PER_ACCOUNT as u64).map(move |n| (from, n)));
        let mut added = MAX_PER_ACCOUNT;
        for (from, nonce) in places {
            added += usize::from(pool.add(NOW, &state, submission(from, nonce, 10)).is_ok());
        }
        assert_eq!((added, pool.len()), (MAX_PENDING, MAX_PENDING));
        let mut state = state;
        while pool.is_ready() {
            let (next, included) = decided(&state, &pool.select(&state, ALL));
            assert!(pool.advance(&next, &included).is_empty());
            state = next;
        }
        assert_eq!((pool.len(), pool.size_bytes, pool.accounts.len()), (0, 0, 0));
    }

    #[test]
    fn a_nonce_is_taken_once_and_the_refusal_names_the_next_free_one() {
        let (mut pool, state) = (Mempool::default(), state());
        for nonce in [0, 1, 3] {
            pool.add(NOW, &state, submission(1, nonce, 10)).unwrap();
        }
        assert_eq!(pool.add(NOW, &state, submission(1, 1, 10)), Ok(()), "the same one again");
        let other = Submission { id: TxId([77; 32]), ..submission(1, 1, 10) };
        assert_eq!(pool.add(NOW, &state, other), Err(Rejected::Nonce { expected: 2, found: 1 }));
        assert_eq!(pool.len(), 3);
    }

    #[test]
    fn what_waits_too_long_is_refused_with_the_nonce_that_is_missing() {
        let (mut pool, state) = (Mempool::default(), state());
        let late = Timestamp(NOW.0 + 1);
        pool.add(NOW, &state, submission(1, 5, 10)).unwrap();
        pool.add(NOW, &state, submission(2, 0, 10)).unwrap();
        pool.add(late, &state, submission(2, 1, 10)).unwrap();
        let due = pool.expiry().unwrap();
        assert!(pool.expire(Timestamp(due.0 - 1), &state).is_empty());
        let gap = Rejected::Nonce { expected: 0, found: 5 };
        let refused =
            [(submission(1, 5, 0).id, gap), (submission(2, 0, 0).id, Rejected::Undecided)];
        assert_eq!(pool.expire(due, &state), refused);
        assert_eq!(
            (pool.len(), pool.is_ready(), pool.expiry()),
            (1, false, Some(late.after_ms(MAX_WAIT_MS)))
        );
    }

    #[test]
    fn what_another_block_used_up_is_refused() {
        let (mut pool, state) = (Mempool::default(), state());
        for nonce in 0..3 {
            pool.add(NOW, &state, submission(1, nonce, 10)).unwrap();
        }
        let mut next = state.clone();
        next.accounts.get_mut(&account(1)).unwrap().nonce = 2;
        let stale = |found| Rejected::Nonce { expected: 2, found };
        let refused = [(submission(1, 0, 0).id, stale(0)), (submission(1, 1, 0).id, stale(1))];
        assert_eq!(pool.advance(&next, &[(account(1), TxId([0; 32]))]), refused);
        let last = pool.select(&next, ALL);
        assert_eq!(order(&last), [(1, 2)]);
        pool.refuse(&next, &last[0]);
        assert_eq!((pool.len(), pool.is_ready()), (0, false));
    }
}
