//! Jobs: submitted by the scenario's workloads, followed to their end, their events looked at.

use super::{pause, until};
use crate::{
    draw::{below, pick, whole},
    output::rows,
    record::{Job, Record, State, word},
    scenario::{Behaviour, Distribution, Mix, TraceRow, WORK, Workload},
    trace::Kind,
    world::{World, now_s, owner, runtime::Work},
};
use archipelag_node::{
    consumer::{Ended, Request, Update},
    environment::Executor as _,
};
use archipelag_protocol::{
    event::Event,
    id::{JobId, NodeId},
    matching::RegionPolicy,
    payment::Verdict,
};
use sha2::{Digest as _, Sha256};

/// Between two events that a slow reader takes.
const SLOW_S: f64 = 5.0;

/// The rows of each workload's trace, by the workload's number; empty for those without.
pub(crate) type Traces = Vec<Vec<TraceRow>>;

/// One job, as a workload draws it.
struct Draft {
    consumer: usize,
    request: Request,
    /// What `work` must deliver.
    work: Option<Work>,
}

/// Starts all workloads.
pub(super) fn start(world: &World, record: &Record, traces: Traces) {
    for (workload, rows) in world.scenario().workloads.clone().into_iter().zip(traces) {
        let (world, record) = (world.clone(), record.clone());
        world.clone().executor().spawn(async move {
            if rows.is_empty() {
                drawn(&world, &record, &workload).await;
            } else {
                traced(&world, &record, &workload, rows).await;
            }
        });
    }
}

async fn drawn(world: &World, record: &Record, workload: &Workload) {
    let Some(interarrival_s) = &workload.interarrival_s else { return };
    until(workload.start_s).await;
    let (stop_s, most) = (workload.stop_s.unwrap_or(f64::MAX), workload.jobs.unwrap_or(u64::MAX));
    let members = world.scenario().members(&workload.from);
    let mut submitted = 0;
    while submitted < most {
        pause(interarrival_s.draw()).await;
        if now_s() >= stop_s {
            return;
        }
        let running: Vec<usize> =
            members.clone().filter(|index| world.node(*index).is_some()).collect();
        let Some(consumer) = running.get(below(running.len())).copied() else { continue };
        submit(world, record, draft(workload, consumer, None));
        submitted += 1;
    }
}

async fn traced(world: &World, record: &Record, workload: &Workload, rows: Vec<TraceRow>) {
    let members = world.scenario().members(&workload.from);
    for row in rows {
        until(workload.start_s + row.time_s).await;
        let consumer = members.start + row.node;
        if world.node(consumer).is_some() {
            submit(world, record, draft(workload, consumer, Some(&row)));
        }
    }
}

fn draft(workload: &Workload, consumer: usize, row: Option<&TraceRow>) -> Draft {
    let slug = match (row.and_then(|row| row.cargo), &workload.cargo) {
        (Some(slug), _) => slug.to_owned(),
        (None, Mix::One(slug)) => slug.clone(),
        (None, Mix::Shares(shares)) => pick(shares).cloned().unwrap_or_default(),
    };
    let count =
        |given: Option<u64>, drawn: &Distribution| given.unwrap_or_else(|| whole(drawn.draw()));
    let work = (slug == WORK).then(|| Work {
        work_ms: row
            .and_then(|row| row.work_ms)
            .unwrap_or_else(|| workload.work_ms.draw())
            .max(0.0),
        events: count(row.and_then(|row| row.events), &workload.events),
        event_bytes: count(row.and_then(|row| row.event_bytes), &workload.event_bytes),
    });
    let input = match work {
        Some(work) => serde_json::to_value(work),
        None => serde_json::to_value(workload.input_of(&slug)),
    };
    Draft {
        consumer,
        request: Request {
            slug,
            version: None,
            input: input.unwrap_or_default(),
            regions: RegionPolicy::Any,
            bid_percent: workload.bid_percent,
            wait_s: workload.wait_s,
        },
        work,
    }
}

/// Follows one job; what it leaves when it is dropped with its node is an orphan.
struct Follower {
    world: World,
    record: Record,
    number: usize,
    work: Option<Work>,
    seen: u64,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.change(|job| {
            if !job.state.is_over() {
                job.state = State::Orphaned;
                job.ended_s = Some(now_s());
                job.reason = "its own node went".into();
            }
        });
        self.record.with(|seen| {
            let row = row(self.number, &seen.jobs[self.number]);
            seen.row(&row);
        });
    }
}

/// A job as a row of its table.
pub(crate) fn row(number: usize, job: &Job) -> rows::Job {
    rows::Job {
        job: number.to_string(),
        consumer: word(job.consumer),
        cargo: job.cargo.clone(),
        submitted_s: job.submitted_s,
        started_s: job.started_s,
        first_event_s: job.first_event_s,
        ended_s: job.ended_s,
        verdict: job.state.word().into(),
        attempts: job.attempts.into(),
        island: job.island.map(word),
        events: job.events,
        price_microcredits: job.price_microcredits,
        reason: job.reason.clone(),
    }
}

fn submit(world: &World, record: &Record, draft: Draft) {
    let number = record.with(|seen| {
        seen.jobs.push(Job::new(draft.consumer, &draft.request.slug));
        seen.jobs.len() - 1
    });
    let consumer = draft.consumer;
    let follower = Follower {
        world: world.clone(),
        record: record.clone(),
        number,
        work: draft.work,
        seen: 0,
    };
    follower.note(State::Submitted, consumer);
    // The Consumer's own task: it ends with its node.
    world.executor().of(owner(consumer)).spawn(Box::pin(follower.run(draft)));
}

impl Follower {
    fn change<T>(&self, change: impl FnOnce(&mut Job) -> T) -> T {
        self.record.with(|seen| change(&mut seen.jobs[self.number]))
    }

    fn note(&self, state: State, node: usize) {
        let events = self.change(|job| job.events);
        let what = [word(self.number), state as u64, word(node), events];
        self.world.note(Kind::Job, what);
    }

    async fn run(mut self, draft: Draft) {
        let Some(node) = self.world.node(draft.consumer) else { return };
        let digest = Sha256::digest(format!("{}/job/{}", self.world.seed(), self.number));
        let id = JobId(std::array::from_fn(|at| digest[at]));
        let (handle, payer) = (node.consumer.clone(), node.payer.clone());
        drop(node);
        let mut running = match handle.submit(&payer, id, draft.request).await {
            Ok(running) => running,
            Err(refused) => return self.end(State::Refused, draft.consumer, refused.to_string()),
        };
        let slow = self.world.places()[draft.consumer].behaviour == Behaviour::SlowReader;
        while let Some(update) = running.updates.recv().await {
            match update {
                Update::Started { node, attempt, .. } => self.started(node, attempt),
                Update::Event(event) => self.event(&event),
                Update::Ended(ended) => return self.ended(draft.consumer, &ended),
            }
            if slow {
                pause(SLOW_S).await;
            }
        }
        if self.world.node(draft.consumer).is_none() {
            // Its node is stopping.
            return;
        }
        let what = format!("job {} ended without saying how", self.number);
        self.record.violation("jobs", Some(draft.consumer), what);
        self.end(State::Failed, draft.consumer, "it ended without saying how".into());
    }

    fn started(&self, node: NodeId, attempt: u32) {
        let island = self.world.index_of(node);
        let lies = island.is_some_and(|island| !self.world.is_honest(island));
        self.change(|job| {
            job.state = State::Running;
            job.started_s = Some(now_s());
            job.attempts = attempt;
            job.island = island;
            job.lied_to |= lies;
        });
        self.note(State::Running, island.unwrap_or(usize::MAX));
    }

    /// Each event comes once, in order, and says what it should.
    fn event(&mut self, event: &Event) {
        self.change(|job| {
            job.first_event_s.get_or_insert_with(now_s);
            job.events += 1;
        });
        let (Event::Token { content }, Some(work)) = (event, self.work) else { return };
        let expected = work.content(self.seen);
        self.seen += 1;
        if *content == expected {
            return;
        }
        let lied_to = self.change(|job| {
            job.wrong = true;
            job.lied_to
        });
        if !lied_to {
            let what = format!(
                "job {}: event {} says {:.20?} instead of {:.20?}",
                self.number, self.seen, content, expected
            );
            self.record.violation("delivery", None, what);
        }
    }

    fn ended(&self, consumer: usize, ended: &Ended) {
        self.change(|job| {
            job.attempts = ended.attempts;
            job.price_microcredits = ended.price.micro();
        });
        let completed = ended.verdict == Verdict::Completed;
        if let Some(work) = self.work
            && completed
            && self.seen != work.events
        {
            let what = format!("job {}: {} of {} events came", self.number, self.seen, work.events);
            if !self.change(|job| job.lied_to) {
                self.record.violation("delivery", Some(consumer), what);
            }
        }
        let reason = ended.failure.as_ref().map(|failure| failure.to_string());
        let state = if completed { State::Completed } else { State::Failed };
        self.end(state, consumer, reason.unwrap_or_default());
    }

    fn end(&self, state: State, consumer: usize, reason: String) {
        self.change(|job| {
            job.state = state;
            job.ended_s = Some(now_s());
            job.reason = reason;
        });
        self.note(state, consumer);
    }
}
