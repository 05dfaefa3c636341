//! The job book with a scripted Submitter: the test says what the Consumer sends and when.

mod bounds;
mod disk;
mod life;
mod recovery;
mod repeat;

use super::{
    Config, Error, Events, Job, JobBook, Started, Status, Submission, Submitter, Workload,
};
use crate::{
    consumer::{Ended, Refused, Request, Update},
    disk::{Disk, MemoryDisk},
    environment::{Executor, InlineWorkers, Tasks},
};
use archipelag_protocol::{
    amount::Credits,
    event::Event,
    id::{AccountId, CargoId, JobId, NodeId},
    job::{Failure, Step},
    manifest::Version,
    matching::RegionPolicy,
    payment::{SettledReceipt, Verdict},
    pricing::{Metering, Price},
};
use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::json;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// When what a test waits for must have happened.
const SOON: Duration = Duration::from_secs(20);
const ALICE: AccountId = AccountId([1; 32]);
const BOB: AccountId = AccountId([2; 32]);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("not in time")
}

/// A job that the book asked the Consumer to take on.
#[derive(Debug)]
struct Asked {
    payer: AccountId,
    id: JobId,
    request: Request,
    answer: oneshot::Sender<Result<Started, Refused>>,
}

impl Asked {
    fn take_on(self) -> Cargo {
        let (updates, receiver) = mpsc::channel(4);
        let cancel = CancellationToken::new();
        let cargo = Cargo { id: self.id, updates, cancel: cancel.clone() };
        self.answer.send(Ok(Started { updates: receiver, cancel })).unwrap();
        cargo
    }

    fn refuse(self) {
        self.answer.send(Err(Refused::NoIsland { excluded: Vec::new() })).unwrap();
    }
}

/// A job that runs: what the test lets it say.
struct Cargo {
    id: JobId,
    updates: mpsc::Sender<Update>,
    cancel: CancellationToken,
}

impl Cargo {
    async fn send(&self, update: Update) {
        soon(self.updates.send(update)).await.unwrap();
    }

    async fn started(&self, attempt: u32) {
        let (island, node) = (AccountId([7; 32]), NodeId([8; 32]));
        self.send(Update::Started { island, node, attempt }).await;
    }

    async fn event(&self, line: &str) {
        self.send(Update::Event(Event::parse(line.as_bytes()).unwrap())).await;
    }

    async fn token(&self, content: &str) {
        self.send(Update::Event(Event::Token { content: content.into() })).await;
    }

    async fn end(self, verdict: Verdict) {
        let failure = match verdict {
            Verdict::Completed => None,
            Verdict::Cancelled => Some(Failure::new(Step::Cancelled, "cancelled by its owner")),
            _ => Some(Failure::new(Step::Trap, "unreachable")),
        };
        self.send(Update::Ended(ended(verdict, failure))).await;
    }
}

fn ended(verdict: Verdict, failure: Option<Failure>) -> Ended {
    let (price, metering) = (Credits::ZERO, Metering::default());
    Ended { verdict, failure, receipt: None, price, metering, attempts: 1 }
}

/// What the Consumer has on disk: it outlives the node.
type Receipts = Arc<Mutex<BTreeMap<JobId, SettledReceipt>>>;

#[derive(Debug)]
struct Scripted(mpsc::Sender<Asked>, Receipts);

#[async_trait]
impl Submitter for Scripted {
    async fn resolve(&self, slug: &str, _: Option<&Version>) -> Result<Workload, Refused> {
        if slug != "echo" {
            return Err(Refused::UnknownCargo(slug.into()));
        }
        let version = "1.2.3".parse().unwrap();
        let price = Price::default();
        Ok(Workload { cargo: CargoId([9; 32]), slug: slug.into(), version, price })
    }

    async fn submit(
        &self,
        payer: AccountId,
        id: JobId,
        request: Request,
    ) -> Result<Started, Refused> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Asked { payer, id, request, answer }).await.unwrap();
        answered.await.unwrap()
    }

    fn receipt(&self, job: JobId) -> Result<Option<SettledReceipt>, String> {
        Ok(self.1.lock().unwrap().get(&job).cloned())
    }
}

/// An executor whose tasks can be ended as a killed process ends them.
#[derive(Default)]
struct Killable(Mutex<Vec<JoinHandle<()>>>);

impl fmt::Debug for Killable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Killable").finish_non_exhaustive()
    }
}

impl Executor for Killable {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.lock().unwrap().push(tokio::spawn(task));
    }
}

impl Killable {
    async fn kill(&self) {
        let tasks = std::mem::take(&mut *self.0.lock().unwrap());
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            let _aborted = task.await;
        }
    }
}

/// One run of a node's job book.
struct World {
    book: JobBook,
    tasks: Tasks,
    executor: Arc<Killable>,
    asked: mpsc::Receiver<Asked>,
}

impl World {
    async fn new(config: Config) -> Self {
        Self::on(Arc::new(MemoryDisk::new()), config).await
    }

    async fn on(disk: Arc<dyn Disk>, config: Config) -> Self {
        Self::with(Receipts::default(), disk, config).await
    }

    async fn with(receipts: Receipts, disk: Arc<dyn Disk>, config: Config) -> Self {
        let executor = Arc::new(Killable::default());
        let tasks = Tasks::new(executor.clone());
        let workers = Arc::new(InlineWorkers(executor.clone()));
        let (sender, asked) = mpsc::channel(64);
        let submitter = Arc::new(Scripted(sender, receipts));
        let book = JobBook::open(disk, workers, tasks.clone(), submitter, config).await.unwrap();
        Self { book, tasks, executor, asked }
    }

    /// As a node stops that is told to.
    async fn stop(self) {
        soon(self.tasks.stop()).await;
    }

    /// As a process ends that is killed: nobody gets to write anything.
    async fn kill(self) {
        self.executor.kill().await;
    }

    async fn asked(&mut self) -> Asked {
        soon(self.asked.recv()).await.unwrap()
    }

    /// Submits a job that the Consumer takes on.
    async fn start(&mut self, submission: Submission) -> (Job, Cargo) {
        let book = self.book.clone();
        let (result, cargo) =
            tokio::join!(soon(book.submit(submission)), async { self.asked().await.take_on() });
        let (job, existed) = result.unwrap();
        assert!(!existed);
        assert_eq!(job.head.id, cargo.id);
        (job, cargo)
    }

    /// A job that says `said` and completes.
    async fn complete(&mut self, submission: Submission, said: &str) -> JobId {
        let account = submission.account;
        let (job, cargo) = self.start(submission).await;
        cargo.token(said).await;
        cargo.end(Verdict::Completed).await;
        self.lines(account, job.head.id).await;
        job.head.id
    }

    async fn refusal(&self, submission: Submission) -> Error {
        soon(self.book.submit(submission)).await.expect_err("it was taken on")
    }

    /// The job's events, when it has ended.
    async fn lines(&self, account: AccountId, id: JobId) -> Vec<String> {
        let events = read(self.book.events(account, id, 0).unwrap()).await;
        assert!((0_u64..).zip(&events).all(|(number, event)| event.0 == number), "{events:?}");
        events.into_iter().map(|event| event.1).collect()
    }

    async fn get(&self, account: AccountId, id: JobId) -> Job {
        soon(self.book.get(account, id)).await.unwrap().expect("no such job")
    }

    async fn total(&self, account: AccountId) -> usize {
        soon(self.book.list(account, 0, 0)).await.unwrap().1
    }
}

/// All events of a reader, with their numbers, to the end of the stream.
async fn read(mut events: Events) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    loop {
        let some = soon(events.next()).await.unwrap();
        if some.is_empty() {
            return found;
        }
        found.extend(some.into_iter().map(|(number, line)| (number, line.to_string())));
    }
}

fn value(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap()
}

fn job_of(account: AccountId) -> Submission {
    let request = Request {
        slug: "echo".into(),
        version: None,
        input: json!({ "prompt": "hi" }),
        regions: RegionPolicy::Any,
        bid_percent: None,
        wait_s: None,
    };
    Submission { account, request, idempotency: None }
}

/// A submission with an idempotency key, and a body that hashes to 32 times `body`.
fn keyed(account: AccountId, key: &str, body: u8) -> Submission {
    Submission { idempotency: Some((key.into(), [body; 32])), ..job_of(account) }
}

/// How a job stands that its node did not see to its end.
fn assert_lost(job: &Job, lines: &[String]) {
    assert_eq!((job.head.status, job.head.step), (Status::Failed, Some(Step::Lost)));
    assert!(job.head.completed.is_some());
    assert_eq!(job.head.error.as_deref(), Some("lost: the node was stopped while the job ran"));
    let last = value(lines.last().unwrap());
    assert_eq!((&last["type"], &last["status"]), (&json!("error"), &json!("failed")));
    assert_eq!(last["error"], job.head.error.as_deref().unwrap());
}
