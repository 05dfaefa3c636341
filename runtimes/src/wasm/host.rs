//! What a wasm Cargo sees of its host, and what it may take of it.
//!
//! stdin, stdout, stderr, a clock and randomness; no files, no environment, no network. In
//! deterministic mode clock and randomness come from the job.

use super::{
    engine::{INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX},
    output::{Stderr, Stdout},
};
use crate::runtime::Job;
use archipelag_protocol::time::Timestamp;
use async_trait::async_trait;
use chacha20::{ChaCha20Rng, rand_core::SeedableRng};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use wasmtime::{CallHook, CallHookHandler, ResourceLimiter, StoreContextMut};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtxBuilder, WasiCtxView, WasiView, p1::WasiP1Ctx,
    p2::pipe::MemoryInputPipe,
};

/// Random bytes that one call may ask for: as no call is interrupted, it must be short.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Bytes that one call may make the host copy (lists, strings, subscriptions), and the longest
/// buffer of a read or write: well above any input and output.
pub(super) const CALL_BYTES_MAX: usize = 32 << 20;
/// The longest call, for random bytes, takes a fraction of a millisecond.
const CALLS_PER_YIELD: u32 = 16;
/// Handles that a component may hold.
const HANDLES_MAX: usize = 10_000;
/// What an entry of a table costs the host.
const TABLE_ELEMENT_BYTES: u64 = 16;
/// How far the clock of deterministic mode moves each time it is read.
const CLOCK_STEP_NS: u64 = 1_000;

/// The state of one job's store.
pub(super) struct Host {
    pub(super) wasi: WasiP1Ctx,
    pub(super) allowance: Allowance,
    /// Calls to the host so far.
    calls: u32,
}

impl Host {
    pub(super) fn new(job: &Job, stdout: Stdout, stderr: Stderr) -> Self {
        let mut builder = WasiCtxBuilder::new();
        builder
            .arg("cargo")
            .stdin(MemoryInputPipe::new(job.input.clone()))
            .stdout(stdout)
            .stderr(stderr)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES_MAX);
        if job.deterministic {
            let mut insecure_seed = job.seed;
            insecure_seed[0] ^= 1;
            let [a, b, ..] = insecure_seed.as_chunks::<16>().0 else { unreachable!("32 bytes") };
            builder
                .secure_random(ChaCha20Rng::from_seed(job.seed))
                .insecure_random(ChaCha20Rng::from_seed(insecure_seed))
                .insecure_random_seed(u128::from_le_bytes(*a) ^ u128::from_le_bytes(*b))
                .wall_clock(FixedClock(job.now))
                .monotonic_clock(StepClock::default());
        }
        let mut wasi = builder.build_p1();
        wasi.ctx().table.set_max_capacity(HANDLES_MAX);
        Self { wasi, allowance: Allowance::new(job.limits.sandbox.memory_bytes), calls: 0 }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

/// The time of the job, forever.
struct FixedClock(Timestamp);

impl HostWallClock for FixedClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.0)
    }
}

/// Starts at zero and moves only by being read, so that a loop that waits for it ends.
#[derive(Default)]
struct StepClock(AtomicU64);

impl HostMonotonicClock for StepClock {
    fn resolution(&self) -> u64 {
        CLOCK_STEP_NS
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(CLOCK_STEP_NS, Ordering::Relaxed)
    }
}

/// Counts all memories and tables of a job against one limit.
pub(super) struct Allowance {
    limit: u64,
    used: u64,
    /// What the last growth that was allowed added; given back if the engine can't do it.
    last: u64,
    /// Which limit the Cargo ran into, if any: it often shows only as a trap later.
    denied: Option<String>,
}

impl Allowance {
    fn new(memory_bytes: u64) -> Self {
        Self { limit: memory_bytes, used: 0, last: 0, denied: None }
    }

    pub(super) fn denied(&self) -> Option<&str> {
        self.denied.as_deref()
    }

    fn grow(&mut self, current: usize, desired: usize, unit: u64) -> bool {
        let more = (desired.saturating_sub(current) as u64).saturating_mul(unit);
        if self.used.saturating_add(more) > self.limit {
            self.denied = Some(format!("memory: more than {} bytes", self.limit));
            return false;
        }
        self.used += more;
        self.last = more;
        true
    }

    fn take_back(&mut self) {
        self.used -= std::mem::take(&mut self.last);
    }
}

impl ResourceLimiter for Allowance {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond its own maximum the Cargo expects a refusal: not our limit.
        Ok(maximum.is_none_or(|most| desired <= most) && self.grow(current, desired, 1))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            self.denied = Some(format!("table: more than {TABLE_ELEMENTS_MAX} elements"));
            return Ok(false);
        }
        let allowed = maximum.is_none_or(|most| desired <= most);
        Ok(allowed && self.grow(current, desired, TABLE_ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

/// Lets other tasks run, and this job be stopped, every [`CALLS_PER_YIELD`] calls to the host.
pub(super) struct Cooperate;

#[async_trait]
impl CallHookHandler<Host> for Cooperate {
    async fn handle_call_event(
        &self,
        mut store: StoreContextMut<'_, Host>,
        event: CallHook,
    ) -> wasmtime::Result<()> {
        if matches!(event, CallHook::ReturningFromHost) {
            let calls = &mut store.data_mut().calls;
            *calls = calls.wrapping_add(1);
            if calls.is_multiple_of(CALLS_PER_YIELD) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}
