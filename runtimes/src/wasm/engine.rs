//! How wasm is compiled and linked. One engine serves all jobs.
//!
//! Interruption is by fuel alone: it is deterministic, works on a single thread, and needs no
//! ticker. It was measured at 0 to 7 % above epoch interruption (SHA-256 0, CSV statistics 7, text
//! statistics 4), the two together at 12 to 19 %. Bulk memory instructions cost fuel by the byte;
//! what fuel does not see, a Cargo that calls the host in a loop, is made to yield by
//! [`super::host::Cooperate`].

use super::host::Host;
use archipelag_protocol::job::{Failure, Step};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module,
    PoolingAllocationConfig,
    component::{self, Component},
};
use wasmtime_wasi::{
    p1,
    p2::{self, bindings::CommandPre},
};

/// The largest stack of a Cargo. Interpreters compiled to wasm need more than the usual 512 KiB.
pub(super) const STACK_BYTES_MAX: usize = 1 << 20;
/// What wasm32 can address, and what the pool reserves (not commits) for each memory.
const ADDRESSABLE_BYTES: usize = 4 << 30;
/// Memory that an idle slot of the pool keeps: what small Cargos write.
const KEEP_RESIDENT_BYTES: usize = 2 << 20;
/// Entries of one table. 100,000 functions is twice what the largest interpreters have.
pub(super) const TABLE_ELEMENTS_MAX: usize = 100_000;
pub(super) const INSTANCES_MAX: u32 = 40;
pub(super) const MEMORIES_MAX: u32 = 8;
pub(super) const TABLES_MAX: u32 = 40;

/// A Cargo's code, compiled and linked: instantiating it is all that is left to do.
pub(super) enum Program {
    Module(InstancePre<Host>),
    Component(CommandPre<Host>),
}

/// Engine and linkers.
pub(super) struct Linked {
    pub(super) engine: Engine,
    modules: Linker<Host>,
    components: component::Linker<Host>,
}

fn config(jobs_max: u32, pooled: bool) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        .max_wasm_stack(STACK_BYTES_MAX)
        .async_stack_size(2 * STACK_BYTES_MAX)
        // Frames would name a publisher's functions in messages, and cost time at each trap.
        .wasm_backtrace_max_frames(None)
        .concurrency_support(false);
    if pooled {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_stacks(jobs_max.saturating_add(4))
            .total_core_instances(jobs_max.saturating_mul(INSTANCES_MAX))
            .total_component_instances(jobs_max.saturating_add(4))
            .total_memories(jobs_max.saturating_mul(2).saturating_add(MEMORIES_MAX))
            .total_tables(jobs_max.saturating_mul(4).saturating_add(TABLES_MAX))
            .max_memories_per_module(1)
            .max_memories_per_component(MEMORIES_MAX)
            .max_tables_per_component(TABLES_MAX)
            .max_core_instances_per_component(INSTANCES_MAX)
            .max_memory_size(ADDRESSABLE_BYTES)
            .table_elements(TABLE_ELEMENTS_MAX)
            // Where the kernel says which pages were written, only those are put back, by copying
            // instead of unmapping: page faults were a tenth of a short job.
            .pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
            .async_stack_keep_resident(32 << 10)
            .table_keep_resident(16 << 10)
            .max_unused_warm_slots(16);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

impl Linked {
    /// Makes an engine for `jobs_max` jobs at once. Where the address space for a pool of memories
    /// can't be had, memories are allocated one by one, which costs about 20 µs a job.
    pub(super) fn new(jobs_max: u32) -> wasmtime::Result<Self> {
        let engine = match Engine::new(&config(jobs_max, true)) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::warn!(%error, jobs_max, "wasm memories are not pooled");
                Engine::new(&config(jobs_max, false))?
            }
        };
        let mut modules = Linker::new(&engine);
        p1::add_to_linker_async(&mut modules, |host: &mut Host| &mut host.wasi)?;
        let mut components = component::Linker::new(&engine);
        p2::add_to_linker_async(&mut components)?;
        Ok(Self { engine, modules, components })
    }

    /// Compiles to what [`Linked::load`] takes.
    pub(super) fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, Failure> {
        let compiled = match kind(wasm)? {
            Kind::Module => self.engine.precompile_module(wasm),
            Kind::Component => self.engine.precompile_component(wasm),
        };
        compiled.map_err(|error| refused(&error))
    }

    /// Loads and links compiled code.
    ///
    /// # Safety
    /// `compiled` is what [`Linked::compile`] gave for `wasm`, unchanged.
    pub(super) unsafe fn load(&self, wasm: &[u8], compiled: &[u8]) -> Result<Program, Failure> {
        Ok(match kind(wasm)? {
            Kind::Module => {
                // SAFETY: the caller vouches for the bytes.
                let module = unsafe { Module::deserialize(&self.engine, compiled) }
                    .map_err(|error| refused(&error))?;
                check_start(&module)?;
                let linked = self.modules.instantiate_pre(&module).map_err(|e| unlinked(&e))?;
                Program::Module(linked)
            }
            Kind::Component => {
                // SAFETY: the caller vouches for the bytes.
                let component = unsafe { Component::deserialize(&self.engine, compiled) }
                    .map_err(|error| refused(&error))?;
                let linked =
                    self.components.instantiate_pre(&component).map_err(|e| unlinked(&e))?;
                let command = CommandPre::new(linked).map_err(|_| {
                    Failure::new(Step::EntryPoint, "the component does not export `wasi:cli/run`")
                })?;
                Program::Component(command)
            }
        })
    }
}

enum Kind {
    Module,
    Component,
}

fn kind(wasm: &[u8]) -> Result<Kind, Failure> {
    match wasm.get(..8) {
        Some(b"\0asm\x01\0\0\0") => Ok(Kind::Module),
        Some(b"\0asm\x0d\0\x01\0") => Ok(Kind::Component),
        _ => Err(Failure::new(Step::Engine, "neither a wasm module nor a component")),
    }
}

fn check_start(module: &Module) -> Result<(), Failure> {
    let start = module.get_export("_start");
    let fits = start
        .as_ref()
        .and_then(|export| export.func())
        .is_some_and(|start| start.params().len() == 0 && start.results().len() == 0);
    if fits {
        return Ok(());
    }
    let message = match start {
        None => "the module does not export `_start`",
        Some(_) => "the module's `_start` is not a function without parameters and results",
    };
    Err(Failure::new(Step::EntryPoint, message))
}

fn refused(error: &wasmtime::Error) -> Failure {
    Failure::new(Step::Engine, format!("refused by the wasm engine: {}", printable(error)))
}

fn unlinked(error: &wasmtime::Error) -> Failure {
    Failure::new(Step::Engine, format!("can't be linked: {}", printable(error)))
}

/// The innermost reason, which may quote names of the publisher's.
pub(super) fn printable(error: &wasmtime::Error) -> String {
    let reason = error.root_cause().to_string();
    reason.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
