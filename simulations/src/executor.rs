//! Runs the tasks of all nodes on one thread, in an order drawn from the seed.
//!
//! Nodes get a [`NodeExecutor`] each and spawn through it; [`Executor::run`] polls whatever is ready
//! inside a tokio runtime, whose waiting moves virtual time on. A node's tasks can be dropped at a
//! stroke, which is what a crash is. It knows nothing of nodes.

use crate::lock;
use archipelag_node::environment;
use archipelag_simulation_kernel::{self as kernel, Nanos, Owner, WORLD};
use futures::future::BoxFuture;
use slab::Slab;
use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

/// The tasks of a simulation.
#[derive(Clone, Debug, Default)]
pub struct Executor(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    tasks: Mutex<Slab<Task>>,
    ready: Mutex<Ready>,
    report: Mutex<Report>,
    processors: Mutex<BTreeMap<Owner, Processor>>,
}

/// Tasks that were woken.
#[derive(Debug, Default)]
struct Ready {
    keys: Vec<usize>,
    /// Who polls them, while it waits.
    runner: Option<Waker>,
}

struct Task {
    owner: Owner,
    /// Taken while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    handle: Arc<Handle>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// What wakers of one task hold.
struct Handle {
    key: usize,
    state: Mutex<State>,
    shared: std::sync::Weak<Shared>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Queued,
    Over,
}

impl Wake for Handle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        {
            let mut state = lock(&self.state);
            if *state != State::Waiting {
                return;
            }
            *state = State::Queued;
        }
        if let Some(shared) = self.shared.upgrade() {
            shared.queue(self.key);
        }
    }
}

/// What became of tasks.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub polls: u64,
    /// Tasks that panicked: whose, and with which words.
    pub panics: Vec<(Owner, String)>,
}

/// How long a node computes at each poll of a task, and until when it is busy.
#[derive(Clone, Copy, Debug, Default)]
struct Processor {
    poll_ns: Nanos,
    busy_until: Nanos,
}

impl Shared {
    fn queue(&self, key: usize) {
        let runner = {
            let mut ready = lock(&self.ready);
            ready.keys.push(key);
            ready.runner.take()
        };
        if let Some(runner) = runner {
            runner.wake();
        }
    }

    /// One of those that are ready, drawn from the seed.
    fn next(&self) -> Option<usize> {
        let mut ready = lock(&self.ready);
        let count = u64::try_from(ready.keys.len()).unwrap_or(u64::MAX);
        if count == 0 {
            return None;
        }
        let drawn = if count == 1 { 0 } else { kernel::bits() % count };
        Some(ready.keys.swap_remove(usize::try_from(drawn).unwrap_or(0)))
    }

    fn poll(&self, key: usize) {
        let Some((owner, future, handle)) = ({
            let mut tasks = lock(&self.tasks);
            tasks.get_mut(key).and_then(|task| {
                task.future.take().map(|future| (task.owner, future, task.handle.clone()))
            })
        }) else {
            return;
        };
        *lock(&handle.state) = State::Waiting;
        let waker = Waker::from(handle.clone());
        let polled =
            kernel::owned_by(owner, move || run_once(future, &mut Context::from_waker(&waker)));
        lock(&self.report).polls += 1;
        let over = match polled {
            Ok(future) => future,
            Err(words) => {
                lock(&self.report).panics.push((owner, words));
                None
            }
        };
        match over {
            Some(future) => {
                let mut tasks = lock(&self.tasks);
                match tasks.get_mut(key) {
                    Some(task) if Arc::ptr_eq(&task.handle, &handle) => task.future = Some(future),
                    // Its node was dropped meanwhile.
                    _ => {
                        drop(tasks);
                        kernel::owned_by(owner, || drop(future));
                    }
                }
            }
            None => self.forget(key, &handle),
        }
    }

    fn forget(&self, key: usize, handle: &Arc<Handle>) {
        *lock(&handle.state) = State::Over;
        let mut tasks = lock(&self.tasks);
        if tasks.get(key).is_some_and(|task| Arc::ptr_eq(&task.handle, handle)) {
            tasks.remove(key);
        }
    }

    /// Puts a task off while its node's processor is busy.
    fn is_busy(self: &Arc<Self>, key: usize) -> bool {
        let mut processors = lock(&self.processors);
        if processors.is_empty() {
            return false;
        }
        let owner = lock(&self.tasks).get(key).map(|task| task.owner);
        let Some(processor) = owner.and_then(|owner| processors.get_mut(&owner)) else {
            return false;
        };
        let now = kernel::now();
        if processor.busy_until > now {
            let until = std::time::Duration::from_nanos(processor.busy_until - now);
            drop(processors);
            self.queue_after(key, until);
            return true;
        }
        processor.busy_until = now + processor.poll_ns;
        false
    }

    fn queue_after(self: &Arc<Self>, key: usize, after: std::time::Duration) {
        let shared = self.clone();
        let mut timer = kernel::Timer::new(after);
        let put_off = futures::future::poll_fn(move |context| {
            if !timer.has_fired(context.waker()) {
                return Poll::Pending;
            }
            shared.queue(key);
            Poll::Ready(())
        });
        spawn(self, WORLD, Box::pin(put_off));
    }
}

/// Gives the future back unless it is over, or the words it panicked with.
fn run_once(
    mut future: BoxFuture<'static, ()>,
    context: &mut Context<'_>,
) -> Result<Option<BoxFuture<'static, ()>>, String> {
    catch_unwind(AssertUnwindSafe(move || match future.as_mut().poll(context) {
        Poll::Pending => Some(future),
        Poll::Ready(()) => None,
    }))
    .map_err(|panic| words(&*panic))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".into())
}

fn spawn(shared: &Arc<Shared>, owner: Owner, future: BoxFuture<'static, ()>) {
    let key = {
        let mut tasks = lock(&shared.tasks);
        let entry = tasks.vacant_entry();
        let key = entry.key();
        let handle =
            Handle { key, state: Mutex::new(State::Queued), shared: Arc::downgrade(shared) };
        // A budget is the runtime's way to share a thread among its tasks; here each poll is one.
        let future: BoxFuture<'static, ()> = Box::pin(tokio::task::unconstrained(future));
        entry.insert(Task { owner, future: Some(future), handle: Arc::new(handle) });
        key
    };
    shared.queue(key);
}

impl Executor {
    /// The executor of one owner's tasks.
    #[must_use]
    pub fn of(&self, owner: Owner) -> Arc<NodeExecutor> {
        Arc::new(NodeExecutor { shared: Arc::downgrade(&self.0), owner })
    }

    /// Starts a task of the simulation itself.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        spawn(&self.0, WORLD, Box::pin(task));
    }

    /// Makes each poll of `owner`'s tasks take that much of its one processor's time.
    pub fn set_poll_cost(&self, owner: Owner, poll_ns: Nanos) {
        lock(&self.0.processors).insert(owner, Processor { poll_ns, busy_until: 0 });
    }

    /// Drops all tasks of `owner` where they stand.
    pub fn drop_all(&self, owner: Owner) {
        loop {
            let mut tasks = lock(&self.0.tasks);
            let keys: Vec<usize> =
                tasks.iter().filter(|(_, task)| task.owner == owner).map(|(key, _)| key).collect();
            if keys.is_empty() {
                return;
            }
            let dropped: Vec<Task> = keys.into_iter().map(|key| tasks.remove(key)).collect();
            drop(tasks);
            for task in &dropped {
                *lock(&task.handle.state) = State::Over;
            }
            // Dropping one may start others; the loop comes round for them.
            kernel::owned_by(owner, || drop(dropped));
        }
    }

    /// How many tasks everybody has.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Owner, usize> {
        let mut counts = BTreeMap::new();
        for (_, task) in lock(&self.0.tasks).iter() {
            *counts.entry(task.owner).or_insert(0) += 1;
        }
        counts
    }

    #[must_use]
    pub fn report(&self) -> Report {
        lock(&self.0.report).clone()
    }

    /// Runs `main` and everybody's tasks until `main` is over. Called inside a tokio runtime of this
    /// thread, in virtual time.
    pub async fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let mut main = std::pin::pin!(tokio::task::unconstrained(main));
        futures::future::poll_fn(|context| {
            loop {
                if let Poll::Ready(value) = main.as_mut().poll(context) {
                    return Poll::Ready(value);
                }
                if !self.poll_ready(context) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Polls until nothing is ready; `false` when nothing was.
    fn poll_ready(&self, context: &Context<'_>) -> bool {
        let mut any = false;
        loop {
            let Some(key) = self.0.next() else {
                lock(&self.0.ready).runner = Some(context.waker().clone());
                return any;
            };
            any = true;
            if !self.0.is_busy(key) {
                self.0.poll(key);
            }
        }
    }
}

/// What one node spawns through.
pub struct NodeExecutor {
    shared: std::sync::Weak<Shared>,
    owner: Owner,
}

impl std::fmt::Debug for NodeExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeExecutor").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl environment::Executor for NodeExecutor {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if let Some(shared) = self.shared.upgrade() {
            spawn(&shared, self.owner, task);
        }
    }
}
