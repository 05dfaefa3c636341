//! One job's driver: takes the Consumer's updates, keeps the log, and settles the job at its end.

use super::{
    book::{Inner, LOST},
    index::{Entry, Live},
    output,
    record::{Head, Place, Status, Usage},
    store::Op,
    submitter::Started,
    writer::Writer,
};
use crate::{
    consumer::{Ended, Update},
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
use tokio::time::{Instant, sleep_until};

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
        let ended = ended.unwrap_or_else(|| self.lost());
        self.settle(ended).await;
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
                        self.running(Place { island, node }, attempt);
                    }
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

    fn running(&mut self, place: Place, attempt: u32) {
        self.head.status = Status::Running;
        self.head.started.get_or_insert_with(now);
        self.head.place = Some(place);
        self.head.attempts = attempt.saturating_add(1);
        if let Some(head) = self.book.index().head_mut(self.head.id) {
            head.clone_from(&self.head);
        }
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
    fn lost(&self) -> Ended {
        let (verdict, failure) = match &self.stop {
            Some(Stop::Client) => {
                (Verdict::Cancelled, Failure::new(Step::Cancelled, "cancelled by its owner"))
            }
            _ => (Verdict::Failed, Failure::new(Step::Lost, "the job ended without saying how")),
        };
        Ended {
            verdict,
            failure: Some(failure),
            receipt: None,
            price: Credits::ZERO,
            metering: Metering::default(),
            attempts: self.head.attempts,
        }
    }

    /// Writes how the job ended, and tells its readers when that is on disk.
    async fn settle(mut self, ended: Ended) {
        let gathered = std::mem::take(&mut self.gathered);
        let usage = Usage::new(gathered.usage, &ended);
        let seed = gathered.seed;
        let head = &mut self.head;
        head.status = ended.verdict.into();
        let mut failure = ended.failure;
        let completed = ended.verdict == Verdict::Completed;
        match (self.breach.take(), &self.stop) {
            // Whatever its Consumer says: events and output are not whole.
            (Some(breach), stop) if completed || matches!(stop, Some(Stop::Limit)) => {
                (head.status, failure) = (Status::Failed, Some(Failure::new(Step::Limit, breach)));
            }
            // A job that completed before it could be stopped has completed.
            (_, Some(Stop::Node)) if !completed => {
                (head.status, failure) = (Status::Failed, Some(Failure::new(Step::Lost, LOST)));
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
        let mut ops = vec![Op::Head(Box::new(head.clone())), Op::Events(head.id, chunks)];
        ops.extend(output.clone().map(|output| Op::Output(head.id, output)));
        self.live.output = output;
        self.write(ops, last).await;
    }

    async fn write(self, ops: Vec<Op>, last: String) {
        let Self { book, writer, head, live, .. } = self;
        let id = head.id;
        let written = match writer.write(ops).await {
            Ok(written) => written.durable().await,
            Err(error) => Err(error),
        };
        book.metrics.ended(head.status, head.completed.unwrap_or_default().since_ms(head.created));
        let kept = written.is_ok();
        let evicted = {
            let mut index = book.index();
            // What did not reach the disk stays in memory for as long as the node runs.
            let live = (!kept).then(|| live.clone());
            let account = head.account;
            index.replace(Entry { head, live });
            book.metrics.unfinished.set(i64::try_from(index.unfinished()).unwrap_or(i64::MAX));
            index.evict(account, &book.config)
        };
        if kept {
            book.event_bytes.fetch_sub(self.event_bytes, Ordering::Relaxed);
        }
        live.log.end(last);
        if !evicted.is_empty() {
            writer.write_later(evicted.into_iter().map(Op::Remove).collect()).await;
        }
        tracing::debug!(job = %id, kept, "job.settled");
    }
}
