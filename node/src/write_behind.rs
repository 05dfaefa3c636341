//! Group commit: many small changes in one database transaction, off the path of who made them.
//!
//! Island and Consumer keep vouchers and receipts through this. A change is durable a moment after
//! it was handed over ([`COMMIT_DELAY`] and one commit); who must know waits for
//! [`WriteBehind::flush`]. The queue is bounded: a disk that can't keep up slows its callers down.

use crate::environment::Tasks;
use archipelag_runtimes::workers::{self, Workers};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How long the first change of a transaction waits for others.
pub(crate) const COMMIT_DELAY: Duration = Duration::from_millis(20);
/// Changes in one transaction.
const BATCH: usize = 1024;
/// Changes that may wait.
const QUEUE: usize = 4096;
/// How long a failing disk is left alone before the next attempt.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Writes a batch in one transaction; on an error nothing was written. It blocks.
pub(crate) type Apply<W> = Arc<dyn Fn(&[W]) -> Result<(), redb::Error> + Send + Sync>;

enum Item<W> {
    Change(W),
    Flush(oneshot::Sender<()>),
}

/// A handle to the writing task.
pub(crate) struct WriteBehind<W> {
    queue: mpsc::Sender<Item<W>>,
}

impl<W> Clone for WriteBehind<W> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<W> fmt::Debug for WriteBehind<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind").finish_non_exhaustive()
    }
}

impl<W: Send + Sync + 'static> WriteBehind<W> {
    /// Starts the writing task. It ends when `stop` is cancelled, after what was queued by then, or
    /// when no handle is left.
    pub(crate) fn start(
        name: &'static str,
        tasks: &Tasks,
        workers: Arc<dyn Workers>,
        apply: Apply<W>,
        stop: CancellationToken,
    ) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        tasks.spawn(run(name, workers, apply, items, stop));
        Self { queue }
    }

    /// Hands over a change; waits only when the queue is full. A change that comes after the stop is
    /// dropped.
    pub(crate) async fn write(&self, change: W) {
        if self.queue.send(Item::Change(change)).await.is_err() {
            tracing::debug!("write_behind.write: stopped");
        }
    }

    /// Waits until all that was handed over before is durable. Returns at once after the stop.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).await.is_ok() {
            // An error means that the task has ended, and with it what could be waited for.
            let _ended = flushed.await;
        }
    }
}

async fn run<W: Send + Sync + 'static>(
    name: &'static str,
    workers: Arc<dyn Workers>,
    apply: Apply<W>,
    mut items: mpsc::Receiver<Item<W>>,
    stop: CancellationToken,
) {
    let mut stopping = false;
    loop {
        let mut batch = Vec::new();
        let received = tokio::select! {
            biased;
            received = items.recv_many(&mut batch, BATCH) => received,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                items.close();
                continue;
            }
        };
        if received == 0 {
            return;
        }
        if !stopping && !batch.iter().any(|item| matches!(item, Item::Flush(_))) {
            gather(&mut items, &mut batch, &stop).await;
        }
        let (mut changes, mut flushes) = (Vec::with_capacity(batch.len()), Vec::new());
        for item in batch {
            match item {
                Item::Change(change) => changes.push(change),
                Item::Flush(done) => flushes.push(done),
            }
        }
        commit(name, &*workers, &apply, changes, &stop).await;
        for done in flushes {
            // Who gave up waiting wants no answer.
            let _gone = done.send(());
        }
    }
}

/// Waits for more changes, until a flush wants them durable.
async fn gather<W>(
    items: &mut mpsc::Receiver<Item<W>>,
    batch: &mut Vec<Item<W>>,
    stop: &CancellationToken,
) {
    let over = tokio::time::sleep(COMMIT_DELAY);
    tokio::pin!(over);
    while batch.len() < BATCH && !matches!(batch.last(), Some(Item::Flush(_))) {
        tokio::select! {
            () = &mut over => return,
            () = stop.cancelled() => return,
            item = items.recv() => match item {
                Some(item) => batch.push(item),
                None => return,
            },
        }
    }
}

async fn commit<W: Send + Sync + 'static>(
    name: &'static str,
    workers: &dyn Workers,
    apply: &Apply<W>,
    changes: Vec<W>,
    stop: &CancellationToken,
) {
    if changes.is_empty() {
        return;
    }
    let changes = Arc::new(changes);
    loop {
        let (apply, batch) = (apply.clone(), changes.clone());
        let failed = match workers::run(workers, move || apply(&batch)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(lost) => lost.to_string(),
        };
        tracing::error!(
            database = name,
            changes = changes.len(),
            error = failed,
            "write_behind.commit"
        );
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY_DELAY) => {}
        }
    }
}
