//! A job over all its attempts: from the best Island to the next, until one finishes it.

use super::{
    Update,
    attempt::{End, Job, attempt, tell_end, without_receipt},
    delivery::full_notice,
    plan,
};
use archipelag_protocol::{
    advert::{Advert, SignedAdvert},
    id::NodeId,
    job::{Failure, Step},
    matching,
    payment::Verdict,
};
use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// A job that waits for room tells its Consumer after this time.
const NOTICE_AFTER: Duration = Duration::from_secs(1);
/// It asks again when another job of this node ends, and at least so often: others use the Islands,
/// too.
const POLL: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_millis(250);

/// Islands that are not to be asked, or not now.
#[derive(Default)]
struct Tried {
    /// They have had the job.
    failed: BTreeSet<NodeId>,
    /// They had no room when they were last asked.
    full: BTreeSet<NodeId>,
    waiting: Option<Waiting>,
}

/// A job's wait for room.
struct Waiting {
    since: Instant,
    /// How long until it asks again.
    pause: Duration,
    told: bool,
}

impl Tried {
    fn all(&self) -> BTreeSet<NodeId> {
        self.failed.union(&self.full).copied().collect()
    }

    /// Waits a moment for room. False when no Island lacks only that, or has lacked it for too
    /// long.
    async fn wait(&mut self, job: &Job) -> bool {
        if self.full.is_empty() {
            return false;
        }
        self.full.clear();
        let new = || Waiting { since: Instant::now(), pause: *POLL.start(), told: false };
        let waiting = self.waiting.get_or_insert_with(new);
        let waited = waiting.since.elapsed();
        if waited >= job.prepared.wait {
            return false;
        }
        if waited >= NOTICE_AFTER && !waiting.told {
            waiting.told = true;
            // A Consumer that is busy with what came before need not know.
            let _not_told = job.updates.try_send(Update::Event(full_notice()));
        }
        tokio::select! {
            () = job.cancel.cancelled() => {}
            () = job.core.stop.cancelled() => {}
            () = job.updates.closed() => job.cancel.cancel(),
            () = job.core.room.notified() => {}
            () = sleep(waiting.pause) => waiting.pause = (waiting.pause * 2).min(*POLL.end()),
        }
        true
    }
}

/// Runs the job on `first`, and on others when that fails.
pub(super) async fn run(mut job: Job, first: Option<Arc<SignedAdvert>>) {
    let core = job.core.clone();
    let most = core.genesis.policy.job.attempts_max;
    let mut tried = Tried::default();
    let mut again: BTreeSet<NodeId> = BTreeSet::new();
    let mut last = String::from("none was found");
    let (mut next, mut attempts) = (first, 0);
    loop {
        if job.cancel.is_cancelled() || core.stop.is_cancelled() {
            let failure = Failure::new(Step::Cancelled, "by the Consumer");
            return give_up(&job, Verdict::Cancelled, failure, attempts).await;
        }
        let Some(advert) = next else {
            if !tried.wait(&job).await {
                break;
            }
            next = best(&job, &tried);
            continue;
        };
        if attempts == most {
            last = format!("{most} attempts failed, the last because {last}");
            break;
        }
        let node = advert.value.node;
        let end = Box::pin(attempt(&mut job, &advert, attempts)).await;
        if !matches!(end, End::Full(_)) {
            tried.waiting = None;
            core.metrics.attempts.inc();
            core.room.notify_one();
        }
        match end {
            End::Over => {
                tracing::debug!(job = %job.id, attempts, "consumer.job: over");
                return;
            }
            End::Failed(verdict, failure) => {
                return give_up(&job, verdict, failure, attempts + 1).await;
            }
            End::Full(reason) => {
                last = format!("{}: {reason}", node.short());
                tried.full.insert(node);
            }
            End::Next { reason, again: mendable } => {
                tracing::debug!(job = %job.id, island = %node.short(), reason, "consumer.failover");
                last = format!("{}: {reason}", node.short());
                attempts += 1;
                // Each Island gets one more chance, when what it refused can be mended here.
                if mendable && again.insert(node) {
                    next = Some(advert);
                    continue;
                }
                core.metrics.failovers.inc();
                tried.failed.insert(node);
            }
        }
        next = best(&job, &tried);
    }
    let message = format!("no Island is left for it; {last}");
    let step = if job.accepted { Step::Lost } else { Step::NoIsland };
    give_up(&job, Verdict::Failed, Failure::new(step, message), attempts).await;
}

/// The best Island that is not to be left out: adverts have changed since the job came.
///
/// Of those whose adverts say that they are full one is asked with which nothing is reserved yet,
/// and all the others: each new one would lock credits away only to say no.
fn best(job: &Job, tried: &Tried) -> Option<Arc<SignedAdvert>> {
    let (all, payer) = (tried.all(), job.bank.key().account());
    let room = |island| job.core.holds.expected_room(payer, island);
    let free = |advert: &Advert| {
        matching::has_room(advert).is_ok() || room(advert.account) >= job.prepared.price_max
    };
    let choose = |within: &dyn Fn(&Advert) -> bool| {
        plan::choose(&job.core, &job.prepared, &all, within).ok()?.into_iter().next()
    };
    choose(&free).or_else(|| tried.full.is_empty().then(|| choose(&|_| true)).flatten())
}

async fn give_up(job: &Job, verdict: Verdict, failure: Failure, attempts: u32) {
    job.core.metrics.not_completed.inc();
    tell_end(job, without_receipt(verdict, failure, attempts)).await;
}
