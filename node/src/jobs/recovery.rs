//! What an earlier run of the node left behind: what no Island had begun runs again, the rest is
//! settled as lost, at what was signed for it.
//!
//! A job that an Island has begun is never run again: its owner may have seen some of it, and may
//! have paid for it.

use super::{
    Error,
    book::Inner,
    drive::Driver,
    index::{Entry, Index, Live},
    log::Log,
    output,
    record::{Head, Status, Usage},
    store::Op,
    submitter::Started,
    writer::Writer,
};
use crate::{
    consumer::{Ended, Request, Update},
    disk::RETRY_DELAY,
    mesh::now,
};
use archipelag_protocol::{
    amount::Credits,
    job::{Failure, Step},
    payment::{SettledReceipt, Verdict},
    pricing::Metering,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// What became of a job that had begun and that its node did not see to its end.
pub(super) const LOST: &str = "the node was stopped while the job ran";
/// The same of one that had not begun and that can't be run again: its input is not what was
/// written.
const UNREADABLE: &str = "the node was stopped before the job ran, and its input can't be read";
/// How long a job is tried to be run again: a node that has just started knows neither Islands nor
/// ledger.
const DISPATCH_WAIT: Duration = Duration::from_secs(60);

/// An acknowledged job that no Island has begun.
pub(super) struct Waiting {
    head: Head,
    live: Live,
    request: Request,
}

/// Reads the whole book into its index and settles what is lost. Gives what is to be run again.
///
/// # Errors
/// When the book, or what was paid for a job, can't be read or written.
pub(super) async fn load(book: &Inner) -> Result<Vec<Waiting>, Error> {
    let (heads, claims) = book.store.load().await?;
    let (mut index, mut ops, mut waiting) = (Index::default(), Vec::new(), Vec::new());
    for mut head in heads {
        let mut live = None;
        if !head.status.is_final() {
            let paid = book.receipt(head.id).await?;
            let request = if paid.is_none() { request(book, &head).await? } else { None };
            if let Some(request) = request {
                head.status = Status::Queued;
                let job = wait(head.clone(), request);
                live = Some(job.live.clone());
                waiting.push(job);
            } else {
                ops.extend(settle_lost(&mut head, paid));
            }
        }
        index.insert(Entry { head, live });
    }
    for (key, claim) in claims {
        ops.extend(index.claim(key, claim, &book.config).into_iter().map(Op::Unclaim));
    }
    if !ops.is_empty() {
        book.store.commit(ops).await?;
    }
    book.count(&index);
    *book.index() = index;
    Ok(waiting)
}

/// What the Consumer was asked, when no Island has begun it and all of it is known.
async fn request(book: &Inner, head: &Head) -> Result<Option<Request>, Error> {
    if head.status != Status::Pending {
        return Ok(None);
    }
    let terms = head.terms.clone();
    let texts = book.store.texts(vec![head.id], usize::MAX).await?.pop().unwrap_or_default();
    let input = texts.input.and_then(|text| serde_json::from_str(&text).ok());
    Ok(input.map(|input| Request {
        slug: head.slug.clone(),
        // Exactly what was acknowledged, also when there is a newer one by now.
        version: Some(head.version.clone()),
        input,
        regions: terms.regions,
        bid_percent: terms.bid_percent,
        wait_s: terms.wait_s,
    }))
}

fn wait(head: Head, request: Request) -> Waiting {
    let (log, input) = (Arc::new(Log::new()), request.input.to_string().into());
    let live = Live { log, input, output: None, cancel: CancellationToken::new() };
    Waiting { head, live, request }
}

/// Why a job is lost, and what it cost all the same.
pub(super) fn lost(why: &str, price: Credits) -> Failure {
    if price == Credits::ZERO {
        return Failure::new(Step::Lost, why);
    }
    Failure::new(Step::Lost, format!("{why}; {price} credits were paid for it"))
}

/// Settles a job whose events are gone with the node.
fn settle_lost(head: &mut Head, paid: Option<SettledReceipt>) -> [Op; 2] {
    if let Some(SettledReceipt { receipt, .. }) = &paid {
        head.usage = Usage::new(None, receipt.metering, receipt.price);
    }
    let begun = head.status != Status::Pending || paid.is_some();
    let failure = lost(if begun { LOST } else { UNREADABLE }, head.usage.charged);
    head.status = Status::Failed;
    head.completed = Some(now());
    head.error = Some(failure.to_string());
    head.step = Some(failure.step);
    head.receipt = paid;
    let last = output::last(head.status, head.error.as_deref(), &head.usage, None);
    head.stored_bytes += last.len() as u64;
    let events = vec![(0, last.into_bytes())];
    [Op::Events(head.id, events.into()), Op::Head(Box::new(head.clone()))]
}

/// Runs a job that an earlier run of the node has acknowledged.
pub(super) async fn run_again(book: Arc<Inner>, writer: Writer, job: Waiting) {
    let Some(started) = dispatch(&book, &job).await else {
        // The next start finds it as this one did.
        job.live.log.close();
        return;
    };
    Driver::new(book, writer, job.head, job.live, started).run().await;
}

/// `None` when the node stops.
async fn dispatch(book: &Inner, Waiting { head, live, request }: &Waiting) -> Option<Started> {
    let (stopping, give_up) = (book.tasks.stopping(), Instant::now() + DISPATCH_WAIT);
    loop {
        let attempt = async {
            let refused = match book.submitter.submit(head.account, head.id, request.clone()).await
            {
                Ok(started) => return Ok(started),
                Err(refused) => refused,
            };
            sleep(RETRY_DELAY).await;
            Err(refused)
        };
        tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            () = live.cancel.cancelled() => {
                let failure = Failure::new(Step::Cancelled, "cancelled by its owner");
                return Some(ended(Verdict::Cancelled, failure));
            }
            result = attempt => match result {
                Ok(started) => return Some(started),
                Err(refused) if Instant::now() >= give_up => {
                    let why = format!("the node was stopped before the job ran, and then: {refused}");
                    return Some(ended(Verdict::Failed, Failure::new(Step::Lost, why)));
                }
                Err(_) => {}
            }
        }
    }
}

/// A job that ended before the Consumer took it on.
fn ended(verdict: Verdict, failure: Failure) -> Started {
    let (sender, updates) = mpsc::channel(1);
    let (price, metering) = (Credits::ZERO, Metering::default());
    let ended =
        Ended { verdict, failure: Some(failure), receipt: None, price, metering, attempts: 0 };
    // There is room for one.
    let _room = sender.try_send(Update::Ended(ended));
    Started { updates, cancel: CancellationToken::new() }
}
