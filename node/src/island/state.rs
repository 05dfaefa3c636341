//! Which jobs run and ran here: places, job ids that are used up, Cargos that ran lately.

use crate::services::lock;
use archipelag_protocol::{
    advert::MAX_WARM,
    id::{CargoId, JobId},
    job::{Refusal, RefusalKind},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};
use tokio::sync::Notify;

/// Job ids remembered; an Island that took more within the life of an offer is full.
const MAX_SEEN: usize = 1 << 18;

#[derive(Debug)]
pub(super) struct State {
    max_jobs: u32,
    inner: Mutex<Inner>,
    /// Told when something that the advert says may have changed.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    active: u32,
    /// Job ids that ran or run here, with the end of their offers' lives.
    seen: BTreeMap<JobId, Timestamp>,
    by_expiry: BTreeSet<(Timestamp, JobId)>,
    /// Newest last.
    recent: VecDeque<CargoId>,
}

impl State {
    pub(super) fn new(max_jobs: u32) -> Self {
        Self { max_jobs, inner: Mutex::default(), changed: Notify::new() }
    }

    pub(super) fn active(&self) -> u32 {
        lock(&self.inner).active
    }

    /// Cargos that ran lately, newest first.
    pub(super) fn recent(&self) -> Vec<CargoId> {
        lock(&self.inner).recent.iter().rev().copied().collect()
    }

    pub(super) fn ran(&self, cargo: CargoId) {
        let mut inner = lock(&self.inner);
        if inner.recent.back() == Some(&cargo) {
            return;
        }
        inner.recent.retain(|known| *known != cargo);
        inner.recent.push_back(cargo);
        if inner.recent.len() > MAX_WARM {
            inner.recent.pop_front();
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Whether a place is free and `job` is new.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn check(&self, job: JobId) -> Result<(), Refusal> {
        self.check_locked(&lock(&self.inner), job)
    }

    fn check_locked(&self, inner: &Inner, job: JobId) -> Result<(), Refusal> {
        if inner.seen.contains_key(&job) {
            let message = format!("job {job}: this id ran here already");
            return Err(Refusal::new(RefusalKind::Duplicate, message));
        }
        if inner.active >= self.max_jobs {
            let message = format!(
                "it is full: {} jobs run here, the limit is {}",
                inner.active, self.max_jobs
            );
            return Err(Refusal::new(RefusalKind::Full, message));
        }
        Ok(())
    }

    /// Takes a place for `job` and uses its id up. An offer can't be repeated after `expires`, so
    /// the id is forgotten then.
    ///
    /// # Errors
    /// As [`State::check`].
    pub(super) fn take(
        self: &Arc<Self>,
        job: JobId,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Place, Refusal> {
        let mut inner = lock(&self.inner);
        while let Some((end, old)) = inner.by_expiry.first().copied().filter(|(end, _)| *end < now)
        {
            inner.by_expiry.remove(&(end, old));
            inner.seen.remove(&old);
        }
        self.check_locked(&inner, job)?;
        if inner.seen.len() >= MAX_SEEN {
            let message = format!("{MAX_SEEN} jobs came within the life of an offer");
            return Err(Refusal::new(RefusalKind::Full, message));
        }
        inner.seen.insert(job, expires);
        inner.by_expiry.insert((expires, job));
        inner.active += 1;
        drop(inner);
        self.changed.notify_one();
        Ok(Place(self.clone()))
    }
}

/// One of the Island's places; free again when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<State>);

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.0.inner).active -= 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_runs_once_while_its_offer_lives_and_places_are_counted() {
        let state = Arc::new(State::new(2));
        let take = |job: u8, now| state.take(JobId([job; 16]), Timestamp(100), Timestamp(now));
        let kind = |result: Result<Place, Refusal>| result.err().map(|r| r.kind);
        let (one, two) = (take(1, 0).unwrap(), take(2, 0).unwrap());
        assert_eq!(kind(take(3, 0)), Some(RefusalKind::Full));
        drop(one);
        assert_eq!(kind(take(1, 100)), Some(RefusalKind::Duplicate));
        let three = take(3, 100).unwrap();
        assert_eq!(state.active(), 2);
        drop((two, three));
        assert_eq!(kind(take(1, 101)), None);
        assert_eq!(state.active(), 0);
        assert_eq!(lock(&state.inner).seen.len(), 1);
    }

    #[test]
    fn the_cargos_that_ran_lately_are_few_and_newest_first() {
        let state = State::new(1);
        for n in 0..40 {
            state.ran(CargoId([n; 32]));
        }
        state.ran(CargoId([20; 32]));
        let recent = state.recent();
        assert_eq!(
            (recent.len(), recent[0], recent[1]),
            (MAX_WARM, CargoId([20; 32]), CargoId([39; 32]))
        );
    }
}
