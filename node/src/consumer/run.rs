//! A job over all its attempts: from the best Island to the next, until one finishes it.

use super::{
    attempt::{End, Job, attempt, tell_end, without_receipt},
    plan,
};
use archipelag_protocol::{
    advert::SignedAdvert,
    id::NodeId,
    job::{Failure, Step},
    payment::Verdict,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long a job waits for room when every Island that could take it turned out to be full: adverts
/// lag behind bursts.
const FULL_WAIT: Duration = Duration::from_secs(5);
const FULL_POLL: Duration = Duration::from_millis(100);

/// Islands that are not to be asked, or not now.
#[derive(Default)]
struct Tried {
    /// They have had the job.
    failed: BTreeSet<NodeId>,
    /// They had no room when they were last asked.
    full: BTreeSet<NodeId>,
    /// Since when there is no room.
    full_since: Option<Instant>,
}

impl Tried {
    fn all(&self) -> BTreeSet<NodeId> {
        self.failed.union(&self.full).copied().collect()
    }

    /// Waits a moment for room. False when nothing is full, or has been for too long.
    async fn wait(&mut self, job: &Job) -> bool {
        if self.full_since.is_none_or(|since| since.elapsed() >= FULL_WAIT) {
            return false;
        }
        self.full.clear();
        tokio::select! {
            () = job.cancel.cancelled() => {}
            () = job.core.stop.cancelled() => {}
            () = tokio::time::sleep(FULL_POLL) => {}
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
            next = best(&job, &tried.all());
            continue;
        };
        if attempts == most {
            last = format!("{most} attempts failed, the last because {last}");
            break;
        }
        let node = advert.value.node;
        let end = Box::pin(attempt(&mut job, &advert, attempts)).await;
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
                tried.full_since.get_or_insert_with(Instant::now);
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
        next = best(&job, &tried.all());
    }
    let message = format!("no Island is left for it; {last}");
    let step = if job.accepted { Step::Lost } else { Step::NoIsland };
    give_up(&job, Verdict::Failed, Failure::new(step, message), attempts).await;
}

/// The best Island but those `tried`: adverts have changed since the job came.
fn best(job: &Job, tried: &BTreeSet<NodeId>) -> Option<Arc<SignedAdvert>> {
    plan::choose(&job.core, &job.prepared, tried, |_| true).ok()?.into_iter().next()
}

async fn give_up(job: &Job, verdict: Verdict, failure: Failure, attempts: u32) {
    job.core.metrics.not_completed.inc();
    tell_end(job, without_receipt(verdict, failure, attempts)).await;
}
