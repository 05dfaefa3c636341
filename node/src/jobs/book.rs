//! The [`JobBook`] handle: submit, get, list, follow and cancel.

use super::{
    Config, Error, Metrics, OpenError, drive,
    index::{Claim, ClaimKey, Entry, Index, Live},
    log::{Events, Log},
    record::{Head, Job, Status, Terms, Usage},
    recovery,
    store::{Op, Store},
    submitter::{Started, Submitter, Workload},
    writer::{self, Health, Writer},
};
use crate::{consumer, disk::Disk, environment::Tasks, mesh::now};
use archipelag_protocol::{
    id::{AccountId, JobId},
    payment::SettledReceipt,
};
use archipelag_runtimes::workers::{self, Workers};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The longest input or output that a list shows.
const LISTED_BYTES: usize = 64 << 10;
/// How long a cancellation waits for the job to end before it answers with what is known.
const CANCEL_WAIT: Duration = Duration::from_secs(2);

/// A job to be submitted.
#[derive(Clone, Debug)]
pub struct Submission {
    pub account: AccountId,
    pub request: consumer::Request,
    /// What the client calls this request, so that it can repeat it safely, and the SHA-256 of the
    /// request's body.
    pub idempotency: Option<(String, [u8; 32])>,
}

/// A handle to the job book; cheap to clone.
#[derive(Clone)]
pub struct JobBook {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) index: Mutex<Index>,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
    /// Bytes of events in memory, of all jobs.
    pub(super) event_bytes: AtomicUsize,
    pub(super) store: Store,
    pub(super) submitter: Arc<dyn Submitter>,
    workers: Arc<dyn Workers>,
    /// Taken away when the node stops, so that the writer ends with the last job's driver.
    writer: Mutex<Option<Writer>>,
    health: Health,
}

impl fmt::Debug for JobBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobBook").finish_non_exhaustive()
    }
}

impl Inner {
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> Result<Writer, Error> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Stopping)
    }

    /// What was signed for a job.
    ///
    /// # Errors
    /// When that can't be read.
    pub(super) async fn receipt(&self, job: JobId) -> Result<Option<SettledReceipt>, Error> {
        let submitter = Arc::clone(&self.submitter);
        let found = workers::run(&*self.workers, move || submitter.receipt(job)).await;
        found.map_err(|_| Error::Stopping)?.map_err(Error::Store)
    }

    /// Shows how many jobs have not ended.
    pub(super) fn count(&self, index: &Index) {
        self.metrics.unfinished.set(i64::try_from(index.unfinished()).unwrap_or(i64::MAX));
    }
}

impl JobBook {
    /// Opens the book in the database `jobs`, and runs again or settles what an earlier run left
    /// behind.
    ///
    /// # Errors
    /// When the database can't be opened, read or written.
    pub async fn open(
        disk: Arc<dyn Disk>,
        workers: Arc<dyn Workers>,
        tasks: Tasks,
        submitter: Arc<dyn Submitter>,
        config: Config,
    ) -> Result<Self, OpenError> {
        let unusable = |e: Error| OpenError::Store(e.reason());
        let opening = workers.clone();
        let store = workers::run(&*workers, move || Store::open(disk, opening)).await;
        let store = store.map_err(|_| unusable(Error::Stopping))??;
        let health = Health::default();
        let (writer, writing) = writer::new(store.clone(), health.clone());
        let inner = Arc::new(Inner {
            config,
            index: Mutex::default(),
            metrics: Metrics::default(),
            event_bytes: AtomicUsize::new(0),
            store,
            submitter,
            workers,
            writer: Mutex::new(Some(writer.clone())),
            health,
            tasks: tasks.clone(),
        });
        let waiting = recovery::load(&inner).await.map_err(unusable)?;
        tasks.spawn(writing);
        for job in waiting {
            tasks.spawn(recovery::run_again(Arc::clone(&inner), writer.clone(), job));
        }
        let closing = Arc::clone(&inner);
        tasks.spawn(async move {
            closing.tasks.stopping().cancelled().await;
            closing.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        });
        Ok(Self { inner })
    }

    /// Why jobs can't be taken on, when that is so: the disk refused what was last written.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.inner.health.failure().map(|reason| Error::Store(reason).to_string())
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Finds the Cargo that a request would run; no money moves.
    ///
    /// # Errors
    /// When there is none, or nobody who knows can be reached.
    pub async fn resolve(&self, request: &consumer::Request) -> Result<Workload, Error> {
        let found = self.inner.submitter.resolve(&request.slug, request.version.as_ref()).await;
        Ok(found.inspect_err(|_| self.refused())?)
    }

    fn refused(&self) {
        self.inner.metrics.refused.inc();
    }

    /// Takes a job on. When this returns, the job is on disk and runs whether or not the caller
    /// stays; the flag says that it was there before, by its idempotency key.
    ///
    /// # Errors
    /// Why it was not taken on; nothing was charged then. What a failing disk may still make of it,
    /// `JobBook::forget` says.
    pub async fn submit(&self, submission: Submission) -> Result<(Job, bool), Error> {
        let claim = submission.idempotency.as_ref().map(|(key, body)| {
            let key = Sha256::digest(key.as_bytes()).into();
            (ClaimKey { account: submission.account, key }, *body)
        });
        let claimed = self.claimed(submission.account, claim).await;
        if let Some(job) = claimed.inspect_err(|_| self.refused())? {
            return Ok((job, true));
        }
        let workload = self.resolve(&submission.request).await?;
        let (sender, receiver) = oneshot::channel();
        let book = self.clone();
        // In a task of its own, so that a client that leaves can't leave half a job behind.
        self.inner.tasks.spawn(async move {
            let accepted = book.accept(submission, workload, claim).await;
            let _gone = sender.send(accepted.inspect_err(|_| book.refused()));
        });
        match receiver.await.map_err(|_| Error::Stopping)? {
            Ok(job) => Ok((job, false)),
            Err(error) => Err(error),
        }
    }

    async fn claimed(
        &self,
        account: AccountId,
        claim: Option<(ClaimKey, [u8; 32])>,
    ) -> Result<Option<Job>, Error> {
        let Some((key, body)) = claim else { return Ok(None) };
        let claimed = self.inner.index().claimed(key, body, now(), &self.inner.config)?;
        match claimed {
            Some(job) => self.get(account, job).await,
            None => Ok(None),
        }
    }

    async fn accept(
        &self,
        submission: Submission,
        workload: Workload,
        claim: Option<(ClaimKey, [u8; 32])>,
    ) -> Result<Job, Error> {
        let writer = self.inner.writer()?;
        if let Some(reason) = self.inner.health.failure() {
            // Its record would fail too, and leave a removal that is tried again: so these stay
            // few.
            return Err(Error::Store(reason));
        }
        let (entry, live, ops) = self.enter(&submission, workload, claim)?;
        let (id, account) = (entry.head.id, submission.account);
        let started = match self.start(&writer, id, submission, ops).await {
            Ok(started) => started,
            Err(error) => {
                self.forget(&writer, id, claim.map(|c| c.0)).await;
                return Err(error);
            }
        };
        let job = {
            let mut index = self.inner.index();
            if let Some(head) = index.head_mut(id) {
                head.status = Status::Queued;
            }
            index.get(account, id).map_or(entry.head, |e| e.head.clone())
        };
        let input = Some(live.input.to_string());
        let driver =
            drive::Driver::new(Arc::clone(&self.inner), writer, job.clone(), live, started);
        self.inner.tasks.spawn(driver.run());
        Ok(Job { head: job, input, output: None, shortened: false })
    }

    /// Gives the job a place in the book, unless a limit or an idempotency key says otherwise.
    fn enter(
        &self,
        submission: &Submission,
        workload: Workload,
        claim: Option<(ClaimKey, [u8; 32])>,
    ) -> Result<(Entry, Live, Vec<Op>), Error> {
        let config = &self.inner.config;
        let mut index = self.inner.index();
        if let Some((key, body)) = claim
            && index.claimed(key, body, now(), config)?.is_some()
        {
            return Err(Error::KeyInProgress);
        }
        index.check_room(submission.account, config)?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|e| Error::Store(format!("no randomness: {e}")))?;
        let input: Arc<str> = submission.request.input.to_string().into();
        let head = Head {
            id: JobId(id),
            account: submission.account,
            number: index.next_number(),
            cargo: workload.cargo,
            slug: workload.slug,
            version: workload.version,
            terms: Terms {
                regions: submission.request.regions.clone(),
                bid_percent: submission.request.bid_percent,
                wait_s: submission.request.wait_s,
            },
            status: Status::Pending,
            created: now(),
            started: None,
            completed: None,
            error: None,
            step: None,
            usage: Usage::default(),
            place: None,
            attempts: 0,
            receipt: None,
            stored_bytes: input.len() as u64,
        };
        let mut ops =
            vec![Op::Head(Box::new(head.clone())), Op::Input(head.id, Arc::clone(&input))];
        if let Some((key, body)) = claim {
            let claim = Claim { job: head.id, body, made: head.created };
            ops.push(Op::Claim(key, claim));
            ops.extend(index.claim(key, claim, config).into_iter().map(Op::Unclaim));
        }
        let cancel = CancellationToken::new();
        let live = Live { log: Arc::new(Log::new()), input, output: None, cancel };
        let entry = Entry { head, live: Some(live.clone()) };
        index.insert(entry.clone());
        self.inner.count(&index);
        Ok((entry, live, ops))
    }

    /// Writes the record and hands the job to the Consumer. In this order: a short job may be paid
    /// for before a slow disk has refused its record, and a key must never let a job run twice.
    async fn start(
        &self,
        writer: &Writer,
        id: JobId,
        submission: Submission,
        ops: Vec<Op>,
    ) -> Result<Started, Error> {
        writer.write(ops).await?.durable().await?;
        let Submission { account, request, .. } = submission;
        Ok(self.inner.submitter.submit(account, id, request).await?)
    }

    /// Undoes [`JobBook::enter`]: the job was never acknowledged. When this returns, no start of
    /// the node will run it. While the disk fails that can't be: then it holds as soon as the disk
    /// works again, and a node that ends before may run the job at its next start.
    async fn forget(&self, writer: &Writer, id: JobId, claim: Option<ClaimKey>) {
        // Also when its record could not be written: after a failure it may be on disk or not.
        let ops = std::iter::once(Op::Remove(id)).chain(claim.map(Op::Unclaim)).collect();
        // Handed over before the key is free: what the next one with it writes must come after.
        let removed = writer.write_later(ops).await;
        {
            let mut index = self.inner.index();
            index.remove(id);
            if let Some(key) = claim {
                index.unclaim(key);
            }
            self.inner.count(&index);
        }
        // What fails is tried again, which nobody needs to wait for.
        let _first = removed.durable().await;
    }

    /// The job, when it is `account`'s.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn get(&self, account: AccountId, id: JobId) -> Result<Option<Job>, Error> {
        let Some(entry) = self.inner.index().get(account, id).cloned() else { return Ok(None) };
        let mut jobs = self.with_texts(vec![entry], usize::MAX).await?;
        Ok(jobs.pop())
    }

    /// A page of `account`'s jobs, newest first, and how many there are in all. Long inputs and
    /// outputs are left out.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn list(
        &self,
        account: AccountId,
        limit: usize,
        offset: usize,
    ) -> Result<(Vec<Job>, usize), Error> {
        let (page, total) = self.inner.index().page(account, limit, offset);
        Ok((self.with_texts(page, LISTED_BYTES).await?, total))
    }

    async fn with_texts(&self, entries: Vec<Entry>, most: usize) -> Result<Vec<Job>, Error> {
        let stored = entries.iter().filter(|e| e.live.is_none()).map(|e| e.head.id).collect();
        let mut texts = self.inner.store.texts(stored, most).await?.into_iter();
        let show = |entry: Entry| {
            let Entry { head, live } = entry;
            if let Some(live) = live {
                let short = |text: &str| (text.len() <= most).then(|| text.to_owned());
                let (input, output) = (short(&live.input), live.output.as_deref().map(short));
                let shortened = input.is_none() || output == Some(None);
                return Job { head, input, output: output.flatten(), shortened };
            }
            let texts = texts.next().unwrap_or_default();
            Job { head, input: texts.input, output: texts.output, shortened: texts.shortened }
        };
        Ok(entries.into_iter().map(show).collect())
    }

    /// The events of the job from number `from` on, when the job is `account`'s.
    #[must_use]
    pub fn events(&self, account: AccountId, id: JobId, from: u64) -> Option<Events> {
        let live = self.inner.index().get(account, id)?.live.clone();
        Some(match live {
            Some(live) => Events::live(live.log, from),
            None => Events::stored(self.inner.store.clone(), id, from),
        })
    }

    /// Cancels the job and waits a little for its end; `None` when it is not `account`'s.
    ///
    /// # Errors
    /// [`Error::Ended`] when it ended otherwise before, or when the store can't be read.
    pub async fn cancel(&self, account: AccountId, id: JobId) -> Result<Option<Job>, Error> {
        let Some(entry) = self.inner.index().get(account, id).cloned() else { return Ok(None) };
        let status = entry.head.status;
        if status.is_final() && status != Status::Cancelled {
            return Err(Error::Ended(status));
        }
        if let Some(live) = entry.live {
            live.cancel.cancel();
            // When the time is up the answer says what is known: the job is still being stopped.
            let _late = tokio::time::timeout(CANCEL_WAIT, live.log.ended()).await;
        }
        self.get(account, id).await
    }
}
