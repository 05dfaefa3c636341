//! The one writer of the book's database: takes what has piled up and commits it at once, so that
//! many jobs share one flush of the disk.

use super::{
    Error,
    store::{Op, Store},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Writes that may wait; who sends another waits too.
const QUEUE: usize = 1_024;
/// Writes in one commit.
const GROUP: usize = 256;
/// How long a failing disk is left alone before it is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Write {
    ops: Vec<Op>,
    done: Option<oneshot::Sender<Result<(), String>>>,
}

/// A way to the writer. The writer ends when all of them are gone.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Write>);

/// A write that has been handed over.
#[derive(Debug)]
pub(super) struct Written(oneshot::Receiver<Result<(), String>>);

impl Written {
    /// Waits until it is on disk.
    pub(super) async fn durable(self) -> Result<(), Error> {
        self.0.await.map_err(|_| Error::Stopping)?.map_err(Error::Store)
    }
}

impl Writer {
    /// Hands `ops` over. Writes reach the disk in the order in which they were handed over.
    pub(super) async fn write(&self, ops: Vec<Op>) -> Result<Written, Error> {
        let (done, written) = oneshot::channel();
        let write = Write { ops, done: Some(done) };
        self.0.send(write).await.map_err(|_| Error::Stopping)?;
        Ok(Written(written))
    }

    /// As [`Writer::write`] for who does not need to know when it is done.
    pub(super) async fn write_later(&self, ops: Vec<Op>) {
        // The writer is gone when the node has stopped: the next start settles what is unfinished.
        let _stopped = self.0.send(Write { ops, done: None }).await;
    }
}

/// The writer's queue and its loop, to be spawned.
pub(super) fn new(
    store: Store,
    healthy: Arc<AtomicBool>,
) -> (Writer, impl Future<Output = ()> + Send) {
    let (sender, mut receiver) = mpsc::channel::<Write>(QUEUE);
    let work = async move {
        let mut group = Vec::new();
        loop {
            let more = receiver.recv_many(&mut group, GROUP);
            let stopped = if healthy.load(Ordering::Acquire) {
                more.await == 0
            } else {
                // A node that is not ready gets no jobs, so nothing else would show that its disk
                // works again: an empty commit does.
                timeout(RETRY_DELAY, more).await == Ok(0)
            };
            if stopped {
                break;
            }
            let mut ops = Vec::new();
            let mut waiting = Vec::new();
            for write in group.drain(..) {
                ops.extend(write.ops);
                waiting.extend(write.done);
            }
            let result = store.commit(ops).await.map_err(|e| e.to_string());
            healthy.store(result.is_ok(), Ordering::Release);
            if let Err(reason) = &result {
                tracing::error!(reason, "the job store could not be written");
            }
            for done in waiting {
                // Who is gone needs no answer.
                let _gone = done.send(result.clone());
            }
        }
    };
    (Writer(sender), work)
}
