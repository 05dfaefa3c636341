//! What the book holds in memory: the heads of all jobs, by account, with limits, retention and
//! idempotency keys.

use super::{
    Config, Error,
    log::Log,
    record::{Head, Status},
};
use archipelag_protocol::{
    id::{AccountId, JobId},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// The parts of a job that has not ended, or whose end is not on disk yet.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) log: Arc<Log>,
    pub(super) input: Arc<str>,
    pub(super) output: Option<Arc<str>>,
    pub(super) cancel: CancellationToken,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) head: Head,
    pub(super) live: Option<Live>,
}

impl Entry {
    /// When it ended. One whose end is not on disk yet keeps its place among the unfinished, so
    /// that these are bounded, and can't be evicted before it is written.
    fn finished(&self) -> Option<Timestamp> {
        self.head.completed.filter(|_| self.live.is_none())
    }
}

/// An account's idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClaimKey {
    pub(super) account: AccountId,
    pub(super) key: [u8; 32],
}

impl ClaimKey {
    pub(super) fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.account.0);
        bytes[32..].copy_from_slice(&self.key);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; 64]) -> Self {
        let half = |part: &[u8]| {
            let mut half = [0; 32];
            half.copy_from_slice(part);
            half
        };
        Self { account: AccountId(half(&bytes[..32])), key: half(&bytes[32..]) }
    }
}

/// What an idempotency key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) job: JobId,
    /// SHA-256 of the request's body.
    pub(super) body: [u8; 32],
    pub(super) made: Timestamp,
}

#[derive(Debug, Default)]
struct Account {
    /// By number: the newest job is the last.
    jobs: BTreeMap<u64, JobId>,
    unfinished: usize,
    /// The oldest first.
    finished: BTreeSet<(Timestamp, u64, JobId)>,
    finished_bytes: u64,
    claims: BTreeMap<[u8; 32], Claim>,
    claims_by_age: BTreeSet<(Timestamp, [u8; 32])>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    jobs: BTreeMap<JobId, Entry>,
    accounts: BTreeMap<AccountId, Account>,
    unfinished: usize,
    next_number: u64,
}

impl Index {
    pub(super) fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// The job, when it is `account`'s.
    pub(super) fn get(&self, account: AccountId, job: JobId) -> Option<&Entry> {
        self.jobs.get(&job).filter(|entry| entry.head.account == account)
    }

    pub(super) fn head_mut(&mut self, job: JobId) -> Option<&mut Head> {
        self.jobs.get_mut(&job).map(|entry| &mut entry.head)
    }

    /// A page of `account`'s jobs, newest first, and how many there are.
    pub(super) fn page(
        &self,
        account: AccountId,
        limit: usize,
        offset: usize,
    ) -> (Vec<Entry>, usize) {
        let Some(jobs) = self.accounts.get(&account).map(|a| &a.jobs) else {
            return (Vec::new(), 0);
        };
        let page = jobs.values().rev().skip(offset).take(limit);
        (page.filter_map(|job| self.jobs.get(job).cloned()).collect(), jobs.len())
    }

    /// # Errors
    /// When `account`, or all accounts together, have as many unfinished jobs as they may.
    pub(super) fn check_room(&self, account: AccountId, config: &Config) -> Result<(), Error> {
        let unfinished = self.accounts.get(&account).map_or(0, |a| a.unfinished);
        if unfinished >= config.unfinished_per_account {
            return Err(Error::TooManyUnfinished { limit: config.unfinished_per_account });
        }
        if self.unfinished >= config.unfinished_total {
            return Err(Error::Full { limit: config.unfinished_total });
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let head = &entry.head;
        self.next_number = self.next_number.max(head.number);
        let account = self.accounts.entry(head.account).or_default();
        account.jobs.insert(head.number, head.id);
        match entry.finished() {
            Some(at) => {
                account.finished.insert((at, head.number, head.id));
                account.finished_bytes += head.stored_bytes;
            }
            None => {
                account.unfinished += 1;
                self.unfinished += 1;
            }
        }
        self.jobs.insert(head.id, entry);
    }

    /// Replaces a job's entry: nothing of the old one counts any more.
    pub(super) fn replace(&mut self, entry: Entry) {
        self.remove(entry.head.id);
        self.insert(entry);
    }

    pub(super) fn remove(&mut self, job: JobId) {
        let Some(entry) = self.jobs.remove(&job) else { return };
        let head = &entry.head;
        let Some(account) = self.accounts.get_mut(&head.account) else { return };
        account.jobs.remove(&head.number);
        match entry.finished() {
            Some(at) => {
                account.finished.remove(&(at, head.number, head.id));
                account.finished_bytes = account.finished_bytes.saturating_sub(head.stored_bytes);
            }
            None => {
                account.unfinished = account.unfinished.saturating_sub(1);
                self.unfinished = self.unfinished.saturating_sub(1);
            }
        }
    }

    /// Removes `account`'s oldest finished jobs until it is within its limits, but never its
    /// newest.
    pub(super) fn evict(&mut self, account: AccountId, config: &Config) -> Vec<JobId> {
        let mut evicted = Vec::new();
        while let Some(of) = self.accounts.get(&account) {
            let count = of.finished.len();
            let over = count > config.kept_per_account
                || of.finished_bytes > config.kept_bytes_per_account;
            let Some((_, _, job)) = of.finished.first().copied().filter(|_| over && count > 1)
            else {
                break;
            };
            self.remove(job);
            evicted.push(job);
        }
        evicted
    }

    /// The job for which `key` stands at `now`, if any.
    ///
    /// # Errors
    /// When it stands for another body, or its job has not been acknowledged yet or is not kept any
    /// more.
    pub(super) fn claimed(
        &self,
        key: ClaimKey,
        body: [u8; 32],
        now: Timestamp,
        config: &Config,
    ) -> Result<Option<JobId>, Error> {
        let claim = self.accounts.get(&key.account).and_then(|a| a.claims.get(&key.key));
        let Some(claim) = claim.filter(|c| now.since_ms(c.made) < config.idempotency_life_ms)
        else {
            return Ok(None);
        };
        match self.jobs.get(&claim.job) {
            _ if claim.body != body => Err(Error::KeyReused),
            None => Err(Error::KeyOutlivedJob),
            Some(entry) if entry.head.status == Status::Pending => Err(Error::KeyInProgress),
            Some(_) => Ok(Some(claim.job)),
        }
    }

    /// Makes `key` stand for a job; gives the keys that had to make room.
    pub(super) fn claim(&mut self, key: ClaimKey, claim: Claim, config: &Config) -> Vec<ClaimKey> {
        self.unclaim(key);
        let account = self.accounts.entry(key.account).or_default();
        account.claims.insert(key.key, claim);
        account.claims_by_age.insert((claim.made, key.key));
        let mut gone = Vec::new();
        while let Some((made, oldest)) = account.claims_by_age.first().copied() {
            let expired = claim.made.since_ms(made) >= config.idempotency_life_ms;
            if !expired && account.claims.len() <= config.idempotency_per_account {
                break;
            }
            account.claims_by_age.remove(&(made, oldest));
            account.claims.remove(&oldest);
            gone.push(ClaimKey { account: key.account, key: oldest });
        }
        gone
    }

    pub(super) fn unclaim(&mut self, key: ClaimKey) {
        let Some(account) = self.accounts.get_mut(&key.account) else { return };
        if let Some(claim) = account.claims.remove(&key.key) {
            account.claims_by_age.remove(&(claim.made, key.key));
        }
    }
}
