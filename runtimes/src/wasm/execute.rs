//! One job in its sandbox, from a fresh store to an outcome. Runs on the worker pool.

use super::{
    engine::{Linked, Program, printable},
    host::{CALL_BYTES_MAX, Cooperate, Host},
    output::{Stderr, Stdout},
};
use crate::{
    lines::{Exit, charged_tokens},
    runtime::{Job, Outcome},
};
use archipelag_protocol::{
    event::Event,
    job::{Failure, Step},
    payment::Verdict,
    pricing::Metering,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi::I32Exit;

/// Instructions between two chances for other tasks to run: well below a millisecond.
const YIELD_FUEL: u64 = 2_000_000;
/// What a millisecond of the time limit is worth in deterministic mode. Fast cores execute up to
/// twice as much, so on them this limit, which is the same everywhere, comes before the clock's.
const FUEL_PER_MS: u64 = 10_000_000;

/// Why the sandbox was left.
enum Ended {
    Exit(Exit),
    OutOfTime,
    Cancelled,
    Gone,
}

/// Runs the job and sends its events. Dropping the future stops it.
pub(super) async fn execute(
    linked: Arc<Linked>,
    program: Arc<Program>,
    job: Job,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) -> Outcome {
    let stdout = Stdout::new(job.limits.output_bytes_max, events.clone());
    let stderr = Stderr::new(job.limits.stderr_bytes_max);
    let started = Instant::now();
    let limit = Duration::from_millis(job.limits.sandbox.time_ms);
    let interrupted = async {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ended::Cancelled,
            () = events.closed() => Ended::Gone,
            () = tokio::time::sleep(limit) => Ended::OutOfTime,
        }
    };
    let mut interrupted = std::pin::pin!(interrupted);
    let (ended, fuel) = {
        let mut sandbox = Sandbox::new(&linked, &job, stdout.clone(), stderr.clone());
        let ended = tokio::select! {
            biased;
            ended = &mut interrupted => ended,
            _gone = stdout.pump() => Ended::Gone,
            ended = sandbox.run(&program) => ended,
        };
        (ended, sandbox.fuel_used())
    };
    // The sandbox is gone; only events may be left.
    let duration_ms = |ended: &Instant| {
        if job.deterministic {
            fuel.div_ceil(FUEL_PER_MS)
        } else {
            u64::try_from(ended.duration_since(started).as_millis()).unwrap_or(u64::MAX)
        }
    };
    let mut usage = None;
    let (verdict, failure) = match ended {
        Ended::Exit(_) if events.is_closed() => cut(Ended::Gone, &job),
        Ended::Exit(exit) => {
            let end = stdout.finish(exit);
            let sent = tokio::select! {
                biased;
                ended = &mut interrupted => Err(ended),
                sent = stdout.drain() => sent.map_err(|_gone| Ended::Gone),
            };
            match sent {
                Ok(()) => {
                    usage = end.usage;
                    (end.verdict, end.failure)
                }
                Err(ended) => cut(ended, &job),
            }
        }
        ended => cut(ended, &job),
    };
    let metering = Metering {
        tokens: charged_tokens(stdout.tokens(), usage),
        duration_ms: duration_ms(&Instant::now()),
    };
    Outcome { verdict, failure, metering, stderr: stderr.take(), fuel }
}

/// Verdict and reason of a job that did not end by itself.
fn cut(ended: Ended, job: &Job) -> (Verdict, Option<Failure>) {
    let (verdict, failure) = match ended {
        Ended::OutOfTime => {
            let message = format!("time: more than {} ms", job.limits.sandbox.time_ms);
            (Verdict::Timeout, Failure::new(Step::Limit, message))
        }
        Ended::Gone => {
            let message = "the receiver of the events is gone";
            (Verdict::Cancelled, Failure::new(Step::Cancelled, message))
        }
        Ended::Cancelled | Ended::Exit(_) => cancelled(),
    };
    (verdict, Some(failure))
}

pub(super) fn cancelled() -> (Verdict, Failure) {
    (Verdict::Cancelled, Failure::new(Step::Cancelled, "cancelled"))
}

/// A store with its limits. Dropping it gives everything back.
struct Sandbox {
    store: Store<Host>,
    fuel: u64,
}

impl Sandbox {
    fn new(linked: &Linked, job: &Job, stdout: Stdout, stderr: Stderr) -> Self {
        let mut store = Store::new(&linked.engine, Host::new(job, stdout, stderr));
        store.limiter(|host| &mut host.allowance);
        store.set_hostcall_fuel(CALL_BYTES_MAX);
        store.call_hook_async(Cooperate);
        let fuel = if job.deterministic {
            job.limits.sandbox.time_ms.saturating_mul(FUEL_PER_MS)
        } else {
            u64::MAX
        };
        // Neither fails on an engine that counts fuel, and without fuel nothing would run.
        let _set = store.set_fuel(fuel);
        let _set = store.fuel_async_yield_interval(Some(YIELD_FUEL));
        Self { store, fuel }
    }

    fn fuel_used(&self) -> u64 {
        self.fuel.saturating_sub(self.store.get_fuel().unwrap_or(self.fuel))
    }

    async fn run(&mut self, program: &Program) -> Ended {
        match self.call(program).await {
            Ok(code) => Ended::Exit(self.explain(Exit::Code(code))),
            Err(error) => {
                if let Some(exit) = error.downcast_ref::<I32Exit>() {
                    return Ended::Exit(self.explain(Exit::Code(exit.0)));
                }
                match error.downcast_ref::<Trap>() {
                    Some(Trap::OutOfFuel) => Ended::OutOfTime,
                    _ => Ended::Exit(self.explain(Exit::Stopped(stopped(&error)))),
                }
            }
        }
    }

    async fn call(&mut self, program: &Program) -> wasmtime::Result<i32> {
        match program {
            Program::Module(module) => {
                let instance = module.instantiate_async(&mut self.store).await?;
                let start = instance.get_typed_func::<(), ()>(&mut self.store, "_start")?;
                start.call_async(&mut self.store, ()).await?;
                Ok(0)
            }
            Program::Component(command) => {
                let command = command.instantiate_async(&mut self.store).await?;
                let ended = command.wasi_cli_run().call_run(&mut self.store).await?;
                Ok(i32::from(ended.is_err()))
            }
        }
    }

    /// A Cargo that was denied memory usually traps or exits for it: then the limit is the reason.
    fn explain(&self, exit: Exit) -> Exit {
        match (self.store.data().allowance.denied(), exit) {
            (Some(limit), Exit::Stopped(_)) => Exit::Stopped(Failure::new(Step::Limit, limit)),
            (Some(limit), Exit::Code(code)) if code != 0 => {
                Exit::Stopped(Failure::new(Step::Limit, limit))
            }
            (_, exit) => exit,
        }
    }
}

fn stopped(error: &wasmtime::Error) -> Failure {
    if error.is::<PoolConcurrencyLimitError>() {
        return Failure::new(Step::Engine, "more jobs at once than this node has sandboxes for");
    }
    let Some(trap) = error.downcast_ref::<Trap>() else {
        return Failure::new(Step::Trap, printable(error));
    };
    let words = match trap {
        Trap::StackOverflow => {
            return Failure::new(
                Step::Limit,
                format!("stack: more than {} bytes", super::engine::STACK_BYTES_MAX),
            );
        }
        Trap::MemoryOutOfBounds => "memory access out of bounds",
        Trap::HeapMisaligned => "unaligned atomic access",
        Trap::TableOutOfBounds => "table access out of bounds",
        Trap::IndirectCallToNull => "call of an empty table entry",
        Trap::BadSignature => "indirect call of a function of another type",
        Trap::IntegerOverflow => "integer overflow",
        Trap::IntegerDivisionByZero => "integer division by zero",
        Trap::BadConversionToInteger => "conversion of a float that is no integer",
        Trap::UnreachableCodeReached => "unreachable code reached",
        other => return Failure::new(Step::Trap, other.to_string()),
    };
    Failure::new(Step::Trap, words)
}
