//! The one handle for work that computes or blocks (`DESIGN.md`, "What the simulator asks of the
//! node").
//!
//! The node hands in a pool of its own; the simulator runs everything on its one thread. Nothing in
//! this crate starts a thread or blocks the caller's executor in another way.

use futures::future::BoxFuture;
use std::fmt;
use thiserror::Error;
use tokio::sync::oneshot;

/// Where heavy work runs.
///
/// Futures that are spawned here may compute for long between two awaits, and use timers: an
/// implementation polls them inside a tokio runtime with time enabled.
pub trait Workers: Send + Sync + fmt::Debug {
    /// Runs `work` to its end. Work that is still queued when the pool shuts down is dropped.
    fn spawn(&self, work: BoxFuture<'static, ()>);
}

/// The pool dropped the work, because it is shutting down or the work panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the worker pool dropped the work")]
pub struct Lost;

/// Runs `f` on the pool and gives its result.
///
/// # Errors
/// [`Lost`] when the pool is shutting down or `f` panicked.
pub async fn run<T, F>(workers: &dyn Workers, f: F) -> Result<T, Lost>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    run_future(workers, async move { f() }).await
}

/// Runs a future on the pool and gives its result.
///
/// # Errors
/// [`Lost`] when the pool is shutting down or the future panicked.
pub async fn run_future<T, F>(workers: &dyn Workers, future: F) -> Result<T, Lost>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    workers.spawn(Box::pin(async move {
        // A receiver that is gone wants no answer.
        let _gone = sender.send(future.await);
    }));
    receiver.await.map_err(|_| Lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Here;

    impl Workers for Here {
        fn spawn(&self, work: BoxFuture<'static, ()>) {
            tokio::spawn(work);
        }
    }

    #[derive(Debug)]
    struct Closed;

    impl Workers for Closed {
        fn spawn(&self, work: BoxFuture<'static, ()>) {
            drop(work);
        }
    }

    #[tokio::test]
    async fn the_result_comes_back() {
        assert_eq!(run(&Here, || 6 * 7).await, Ok(42));
        assert_eq!(run_future(&Here, async { "x" }).await, Ok("x"));
    }

    #[tokio::test]
    async fn work_that_is_dropped_is_lost_and_not_waited_for() {
        assert_eq!(run(&Closed, || 42).await, Err(Lost));
    }
}
