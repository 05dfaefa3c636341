//! A job over all its attempts: from the best Island to the next, until one finishes it.

use super::{
    Refused,
    attempt::{End, Job, attempt, tell_end, without_receipt},
    plan,
};
use archipelag_protocol::{
    advert::SignedAdvert,
    id::NodeId,
    job::{Failure, Step},
    payment::Verdict,
};
use std::{collections::BTreeSet, sync::Arc};

/// Runs the job on `first`, best first, and on others when those fail.
pub(super) async fn run(mut job: Job, first: Vec<Arc<SignedAdvert>>) {
    let core = job.core.clone();
    let most = core.genesis.policy.job.attempts_max;
    let mut islands = first.into_iter();
    let mut tried: BTreeSet<NodeId> = BTreeSet::new();
    let mut again: BTreeSet<NodeId> = BTreeSet::new();
    let mut last = String::from("none was found");
    let (mut next, mut attempts) = (islands.next(), 0);
    while let Some(advert) = next {
        if attempts == most {
            last = format!("{most} attempts failed, the last because {last}");
            break;
        }
        let node = advert.value.node;
        let end = Box::pin(attempt(&mut job, &advert, attempts)).await;
        attempts += 1;
        match end {
            End::Over => {
                tracing::debug!(job = %job.id, attempts, "consumer.job: over");
                return;
            }
            End::Failed(verdict, failure) => {
                return give_up(&job, verdict, failure, attempts).await;
            }
            End::Next { reason, again: mendable } => {
                tracing::debug!(job = %job.id, island = %node.short(), reason, "consumer.failover");
                last = format!("{}: {reason}", node.short());
                // Each Island gets one more chance, when what it refused can be mended here.
                if mendable && again.insert(node) {
                    next = Some(advert);
                    continue;
                }
            }
        }
        core.metrics.failovers.inc();
        tried.insert(node);
        if job.cancel.is_cancelled() || core.stop.is_cancelled() {
            let failure = Failure::new(Step::Cancelled, "by the Consumer");
            return give_up(&job, Verdict::Cancelled, failure, attempts).await;
        }
        // Adverts have changed since; when there are no new ones, the old order is the best known.
        next = match plan::choose(&core, &job.prepared, &tried) {
            Ok(chosen) => chosen.into_iter().next(),
            Err(Refused::NoIsland { .. }) => None,
            Err(_) => islands.find(|advert| !tried.contains(&advert.value.node)),
        };
    }
    let message = format!("no Island is left for it; {last}");
    give_up(&job, Verdict::Failed, Failure::new(Step::Lost, message), attempts).await;
}

async fn give_up(job: &Job, verdict: Verdict, failure: Failure, attempts: u32) {
    job.core.metrics.not_completed.inc();
    tell_end(job, without_receipt(verdict, failure, attempts)).await;
}
