//! Group commit: many small changes in one database transaction, off the path of who made them.
//!
//! Island and Consumer keep vouchers and receipts through this. A change is durable a moment after
//! it was handed over ([`COMMIT_DELAY`] and one commit); who must know waits for
//! [`WriteBehind::flush`]. The queue is bounded: a disk that can't keep up slows its callers down.

use crate::{disk::RETRY_DELAY, environment::Tasks};
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

    /// Hands over a change; waits only when the queue is full. A change that comes after the stop
    /// is dropped.
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
    let mut failing = false;
    loop {
        let (apply, batch) = (apply.clone(), changes.clone());
        let error = match workers::run(workers, move || apply(&batch)).await {
            Ok(Ok(())) => break,
            Ok(Err(error)) => error.to_string(),
            Err(lost) => lost.to_string(),
        };
        // Once, however often it is tried.
        if !std::mem::replace(&mut failing, true) {
            tracing::error!(
                database = name,
                changes = changes.len(),
                error,
                "write_behind.failing"
            );
        }
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY_DELAY) => {}
        }
    }
    if failing {
        tracing::info!(database = name, "write_behind.works_again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::{Handle, flaky::FlakyDisk},
        environment::{Executor, InlineWorkers, TokioExecutor},
    };
    use redb::{ReadableDatabase, TableDefinition};

    const TABLE: TableDefinition<'_, u64, ()> = TableDefinition::new("numbers");
    const SOON: Duration = Duration::from_secs(20);

    fn write(database: &redb::Database, numbers: &[u64]) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        for number in numbers {
            transaction.open_table(TABLE)?.insert(number, ())?;
        }
        Ok(transaction.commit()?)
    }

    #[tokio::test]
    async fn what_a_failing_disk_did_not_take_is_written_when_it_works_again() {
        let disk = FlakyDisk::default();
        let database = Handle::open(disk.shared(), "numbers").unwrap();
        let executor: Arc<dyn Executor> =
            Arc::new(TokioExecutor(tokio::runtime::Handle::current()));
        let (tasks, workers) = (Tasks::new(executor.clone()), Arc::new(InlineWorkers(executor)));
        let (attempted, mut attempts) = mpsc::channel(64);
        let apply: Apply<u64> = {
            let database = database.clone();
            Arc::new(move |numbers| {
                let result = database.with(|database| write(database, numbers));
                let _full = attempted.try_send(result.is_ok());
                result
            })
        };
        let writes = WriteBehind::start("numbers", &tasks, workers, apply, tasks.stopping());
        writes.write(1).await;
        writes.flush().await;
        assert_eq!(attempts.recv().await, Some(true));

        disk.break_after(0);
        writes.write(2).await;
        assert_eq!(tokio::time::timeout(SOON, attempts.recv()).await, Ok(Some(false)));
        writes.write(3).await;
        disk.mend();
        tokio::time::timeout(SOON, writes.flush()).await.unwrap();
        let table = |database: &redb::Database| Ok(database.begin_read()?.open_table(TABLE)?);
        let table = database.with(table).unwrap();
        for number in [1, 2, 3] {
            assert!(table.get(number).unwrap().is_some(), "{number} was not written");
        }
        tasks.stop().await;
    }
}
