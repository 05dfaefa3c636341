//! The one writer of the book's database: takes what has piled up and commits it at once, so that
//! many jobs share one flush of the disk.

use super::{
    Error,
    store::{Op, Store},
};
use crate::disk::RETRY_DELAY;
use archipelag_protocol::id::JobId;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Writes that may wait; who sends another waits too.
const QUEUE: usize = 1_024;
/// Writes in one commit.
const GROUP: usize = 256;
/// The most that a failing disk is probed with.
const PROBE_BYTES: usize = 1 << 20;
/// Where a probe is written; job ids are random.
const PROBE: JobId = JobId([0; 16]);

#[derive(Debug)]
struct Write {
    ops: Vec<Op>,
    done: Option<oneshot::Sender<Result<(), String>>>,
    /// Tried again when it fails.
    again: bool,
}

/// A way to the writer. The writer ends when all of them are gone.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Write>);

/// A write that has been handed over.
#[derive(Debug)]
pub(super) struct Written(oneshot::Receiver<Result<(), String>>);

impl Written {
    /// Waits until it is on disk, or has failed for the first time.
    ///
    /// # Errors
    /// Also when its last sync failed: then it may be on disk all the same.
    pub(super) async fn durable(self) -> Result<(), Error> {
        self.0.await.map_err(|_| Error::Stopping)?.map_err(Error::Store)
    }
}

impl Writer {
    /// Hands `ops` over. Writes reach the disk in the order in which they were handed over.
    pub(super) async fn write(&self, ops: Vec<Op>) -> Result<Written, Error> {
        let (done, written) = oneshot::channel();
        let write = Write { ops, done: Some(done), again: false };
        self.0.send(write).await.map_err(|_| Error::Stopping)?;
        Ok(Written(written))
    }

    /// As [`Writer::write`] for what must be done some time. What fails is tried again before
    /// anything that was handed over later, [`QUEUE`] writes at most.
    pub(super) async fn write_later(&self, ops: Vec<Op>) -> Written {
        let (done, written) = oneshot::channel();
        // The writer is gone when the node has stopped: the next start settles what is unfinished.
        let _stopped = self.0.send(Write { ops, done: Some(done), again: true }).await;
        Written(written)
    }
}

/// The last failure, until a write or a probe as large as what failed has reached the disk: small
/// ones find room on a disk that is full for jobs.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<Mutex<Option<Failed>>>);

#[derive(Clone, Debug)]
struct Failed {
    reason: String,
    bytes: usize,
}

impl Health {
    /// Why the store does not accept writes.
    pub(super) fn failure(&self) -> Option<String> {
        self.get().map(|failed| failed.reason)
    }

    fn get(&self) -> Option<Failed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, failed: Option<Failed>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }
}

/// The writer's queue and its loop, to be spawned.
pub(super) fn new(store: Store, health: Health) -> (Writer, impl Future<Output = ()> + Send) {
    let (sender, mut receiver) = mpsc::channel::<Write>(QUEUE);
    let work = async move {
        let mut group: Vec<Write> = Vec::new();
        let mut open = true;
        while open {
            let more = receiver.recv_many(&mut group, GROUP);
            open = if health.get().is_none() {
                more.await > 0
            } else {
                // A node that is not ready gets no jobs, so nothing else would show that its disk
                // works again: a probe does.
                timeout(RETRY_DELAY, more).await != Ok(0)
            };
            if open || !group.is_empty() {
                commit(&store, &health, &mut group).await;
            }
        }
    };
    (Writer(sender), work)
}

/// Commits `group` and answers; leaves in it what is to be tried again.
async fn commit(store: &Store, health: &Health, group: &mut Vec<Write>) {
    let ops: Vec<Op> = group.iter().flat_map(|write| write.ops.iter().cloned()).collect();
    let bytes = ops.iter().map(Op::bytes).sum::<usize>().min(PROBE_BYTES);
    let written = if ops.is_empty() { Ok(()) } else { store.commit(ops).await };
    let written = written.map_err(Error::reason);
    match (&written, health.get()) {
        (Err(reason), before) => {
            tracing::error!(reason, "the job store could not be written");
            let bytes = before.map_or(bytes, |failed| bytes.max(failed.bytes));
            health.set(Some(Failed { reason: reason.clone(), bytes }));
        }
        (Ok(()), Some(failed)) if bytes < failed.bytes || group.is_empty() => {
            match probe(store, failed.bytes).await {
                Ok(()) => health.set(None),
                Err(error) => health.set(Some(Failed { reason: error.reason(), ..failed })),
            }
        }
        (Ok(()), _) => health.set(None),
    }
    for write in &mut *group {
        if let Some(done) = write.done.take() {
            // Who is gone needs no answer.
            let _gone = done.send(written.clone());
        }
    }
    group.retain(|write| written.is_err() && write.again);
    group.truncate(QUEUE);
}

/// Whether the disk takes as much as it last refused.
async fn probe(store: &Store, bytes: usize) -> Result<(), Error> {
    store.commit(vec![Op::Input(PROBE, "-".repeat(bytes).into())]).await?;
    store.commit(vec![Op::Remove(PROBE)]).await
}
