//! One job's driver: takes the Consumer's updates, keeps the log, and settles the job at its end.

use super::{
    book::Inner,
    index::{Entry, Live},
    output,
    record::{Head, Place, Status, Usage},
    recovery::{self, LOST},
    store::Op,
    submitter::Started,
    writer::Writer,
};
use crate::{
    consumer::{Ended, Update},
    disk::RETRY_DELAY,
    mesh::now,
};
use archipelag_protocol::{
    amount::Credits,
    event::Event,
    job::{Failure, Step},
    payment::Verdict,
    pricing::Metering,
};
use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

/// How long a job that was told to stop may take to say how it ended.
const END_WAIT: Duration = Duration::from_secs(10);
/// The same when the node stops.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// Why the job was told to stop.
#[derive(Debug)]
enum Stop {
    Client,
    Node,
    Limit,
}

pub(super) struct Driver {
    book: Arc<Inner>,
    writer: Writer,
    head: Head,
    live: Live,
    started: Started,
    gathered: output::Gathered,
    stop: Option<Stop>,
    /// The limit that its events passed; what came later is not kept.
    breach: Option<String>,
    deadline: Option<Instant>,
    node_stops: bool,
    /// This job's part of the book's `event_bytes`.
    event_bytes: usize,
}

impl Driver {
    pub(super) fn new(
        book: Arc<Inner>,
        writer: Writer,
        head: Head,
        live: Live,
        started: Started,
    ) -> Self {
        Self {
            book,
            writer,
            head,
            live,
            started,
            gathered: output::Gathered::default(),
            stop: None,
            breach: None,
            deadline: None,
            node_stops: false,
            event_bytes: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let ended = self.follow().await;
        if matches!(self.stop, Some(Stop::Node)) && self.left_for_next_start(ended.as_ref()) {
            self.live.log.close();
            return;
        }
        let ended = match ended {
            Some(ended) => ended,
            None => self.silent().await,
        };
        self.settle(ended).await;
    }

    /// Whether the node's next start goes on with the job: nothing of it had begun, or only the
    /// Consumer's receipts know by then how it ended.
    fn left_for_next_start(&self, ended: Option<&Ended>) -> bool {
        ended.is_none_or(|ended| !self.begun() && ended.verdict == Verdict::Cancelled)
    }

    /// Whether an Island has taken the job.
    fn begun(&self) -> bool {
        self.head.started.is_some()
    }

    /// Takes updates until the job has ended; `None` when it never says so.
    async fn follow(&mut self) -> Option<Ended> {
        let stopping = self.book.tasks.stopping();
        loop {
            let deadline = self.deadline;
            let too_late = async move {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopping.cancelled(), if !self.node_stops => {
                    self.node_stops = true;
                    self.stop(Stop::Node, STOP_WAIT);
                },
                () = self.live.cancel.cancelled(), if self.stop.is_none() => {
                    self.stop(Stop::Client, END_WAIT);
                }
                () = too_late => return None,
                update = self.started.updates.recv() => match update? {
                    Update::Started { island, node, attempt } => {
                        self.running(Place { island, node }, attempt).await;
                    }
                    // Before an Island has the job its Consumer says that it waits for room. Its
                    // status shows that too; as an event it would take a number that another start
                    // of the node gives again.
                    Update::Event(Event::Status { .. }) if !self.begun() => {}
                    Update::Event(event) => self.event(event),
                    Update::Ended(ended) => return Some(ended),
                }
            }
        }
    }

    fn stop(&mut self, why: Stop, wait: Duration) {
        self.started.cancel.cancel();
        self.stop.get_or_insert(why);
        let by = Instant::now() + wait;
        self.deadline = Some(self.deadline.map_or(by, |earlier| earlier.min(by)));
    }

    async fn running(&mut self, place: Place, attempt: u32) {
        self.head.status = Status::Running;
        self.head.started.get_or_insert_with(now);
        self.head.place = Some(place);
        self.head.attempts = attempt.saturating_add(1);
        if let Some(head) = self.book.index().head_mut(self.head.id) {
            head.clone_from(&self.head);
        }
        // From now on an Island may be paid for it: no start of the node may run it again.
        self.writer.write_later(vec![Op::Head(Box::new(self.head.clone()))]).await;
        self.push(output::started(place, attempt));
    }

    fn event(&mut self, event: Event) {
        if let Some(line) = output::line(&event) {
            self.push(line);
        }
        // Also when the job was told to stop: one that completes all the same has all its output.
        if self.breach.is_none() {
            self.gathered.add(event);
        }
    }

    /// Adds a line to the log, or stops a job that has too many.
    fn push(&mut self, line: String) {
        if self.breach.is_some() {
            return;
        }
        let config = &self.book.config;
        let (lines, bytes) = self.live.log.size();
        let all_bytes = self.book.event_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let breach = if lines >= config.events_per_job {
            Some(format!("more than {} events", config.events_per_job))
        } else if bytes + line.len() > config.event_bytes_per_job {
            Some(format!("more than {} bytes of events", config.event_bytes_per_job))
        } else if all_bytes + line.len() > config.event_bytes_total {
            Some(format!("this node holds {} bytes of events, its limit", config.event_bytes_total))
        } else {
            None
        };
        match breach {
            None => {
                self.event_bytes += line.len();
                self.live.log.push(line);
            }
            Some(breach) => {
                // It is not kept, so that it takes no room from other jobs.
                self.book.event_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                self.breach = Some(breach);
                self.stop(Stop::Limit, END_WAIT);
            }
        }
    }

    /// What is known of a job whose Consumer went silent.
    async fn silent(&self) -> Ended {
        let receipt = self.book.receipt(self.head.id).await.unwrap_or_else(|error| {
            tracing::error!(job = %self.head.id, %error, "job.settle: no receipt can be read");
            None
        });
        let paid = receipt.as_ref().map(|settled| &settled.receipt);
        let price = paid.map_or(Credits::ZERO, |receipt| receipt.price);
        let metering = paid.map_or_else(Metering::default, |receipt| receipt.metering);
        let (verdict, failure) = match &self.stop {
            Some(Stop::Client) => {
                (Verdict::Cancelled, Failure::new(Step::Cancelled, "cancelled by its owner"))
            }
            _ => (Verdict::Failed, recovery::lost("the job ended without saying how", price)),
        };
        let (failure, attempts) = (Some(failure), self.head.attempts);
        Ended { verdict, failure, receipt, price, metering, attempts }
    }

    /// Writes how the job ended, and tells its readers when that is on disk.
    async fn settle(mut self, ended: Ended) {
        let gathered = std::mem::take(&mut self.gathered);
        let usage = Usage::new(gathered.usage, ended.metering, ended.price);
        let seed = gathered.seed;
        let begun = self.begun();
        let head = &mut self.head;
        head.status = ended.verdict.into();
        let mut failure = ended.failure;
        let completed = ended.verdict == Verdict::Completed;
        match (self.breach.take(), &self.stop) {
            // Whatever its Consumer says: events and output are not whole. What failed costs
            // nothing, so a job that was paid for until it was stopped here was cancelled.
            (Some(breach), stop) if completed || matches!(stop, Some(Stop::Limit)) => {
                let free = ended.price == Credits::ZERO;
                head.status = if free { Status::Failed } else { Status::Cancelled };
                failure = Some(Failure::new(Step::Limit, breach));
            }
            // A job that completed before it could be stopped has completed, and one that no Island
            // had begun has ended for a reason of its own.
            (_, Some(Stop::Node)) if begun && !completed => {
                head.status = Status::Failed;
                failure = Some(recovery::lost(LOST, ended.price));
            }
            _ => {}
        }
        let kept = matches!(head.status, Status::Completed | Status::Cancelled);
        let output: Option<Arc<str>> = if kept { gathered.output().map(Into::into) } else { None };
        if head.status != Status::Completed {
            let failure =
                failure.unwrap_or_else(|| Failure::new(Step::Lost, "the Island gave no reason"));
            head.error = Some(failure.to_string());
            head.step = Some(failure.step);
        }
        (head.usage, head.receipt, head.attempts) = (usage, ended.receipt, ended.attempts);
        head.completed = Some(now());
        let last = output::last(head.status, head.error.as_deref(), &usage, seed);
        let chunks = self.live.log.chunks(&last);
        let event_bytes: usize = chunks.iter().map(|(_, chunk)| chunk.len()).sum();
        let output_bytes = output.as_ref().map_or(0, |o| o.len());
        head.stored_bytes += (event_bytes + output_bytes) as u64;
        let mut ops = vec![Op::Head(Box::new(head.clone())), Op::Events(head.id, chunks.into())];
        ops.extend(output.clone().map(|output| Op::Output(head.id, output)));
        self.live.output = output;
        self.write(ops, last).await;
    }

    /// Writes the end and tells the readers. What can't be written is shown from memory and tried
    /// again for as long as the node runs.
    async fn write(self, ops: Vec<Op>, last: String) {
        let Self { book, writer, head, live, event_bytes, .. } = self;
        let (id, account) = (head.id, head.account);
        let write = async || writer.write(ops.clone()).await?.durable().await;
        let stopping = book.tasks.stopping();
        book.metrics.ended(head.status, head.completed.unwrap_or_default().since_ms(head.created));
        let mut written = write().await;
        let shown = written.is_err();
        if shown {
            book.index().replace(Entry { head: head.clone(), live: Some(live.clone()) });
            live.log.end(last.clone());
        }
        while written.is_err() {
            let stops = tokio::select! {
                () = stopping.cancelled() => true,
                () = sleep(RETRY_DELAY) => false,
            };
            written = write().await;
            if stops {
                break;
            }
        }
        if written.is_err() {
            tracing::error!(job = %id, "job.settle: its end could not be written");
            return;
        }
        let evicted = {
            let mut index = book.index();
            index.replace(Entry { head, live: None });
            book.count(&index);
            index.evict(account, &book.config)
        };
        book.event_bytes.fetch_sub(event_bytes, Ordering::Relaxed);
        if !shown {
            live.log.end(last);
        }
        if !evicted.is_empty() {
            writer.write_later(evicted.into_iter().map(Op::Remove).collect()).await;
        }
        tracing::debug!(job = %id, "job.settled");
    }
}
