//! Cargos compiled to wasm: WASI preview 1 modules and preview 2 components, run as commands.
//!
//! [`WasmRuntime`] is the production runtime and the simulator's. It is cooperative: a job gives
//! way every fraction of a millisecond, so any number of them share one thread, and stops at the
//! next such moment when it is cancelled. Compiling and running go to the worker pool.

mod cache;
mod engine;
mod execute;
#[cfg(test)]
mod fixtures;
mod host;
mod output;

use crate::{
    runtime::{Job, Outcome, Runtime},
    workers::{self, Workers},
};
use archipelag_protocol::{
    event::Event,
    id::{CargoId, ContentId},
    job::{Failure, Step},
    limits::MAX_ARTIFACT_BYTES,
    manifest::{Artifact, Manifest, RuntimeType},
    payment::Verdict,
};
use async_trait::async_trait;
use bytes::Bytes;
use cache::DiskCache;
use engine::{Linked, Program};
use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// How long a cancelled job may take to leave the pool before its caller goes on without it.
const LEAVE_MS: u64 = 800;

#[derive(Clone, Debug)]
pub struct Config {
    /// Jobs at once; more fail. Address space, not memory, is reserved for so many.
    pub jobs_max: u32,
    /// Cargos that are kept ready in memory.
    pub ready_max: usize,
    /// Cargos that are compiled at once.
    pub compile_max: usize,
    /// Where compiled code is kept, if anywhere. Nothing else may be in there, and nobody but the
    /// node may write to it.
    pub cache: Option<PathBuf>,
    pub cache_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { jobs_max: 64, ready_max: 128, compile_max: 2, cache: None, cache_bytes_max: 2 << 30 }
    }
}

/// Why there is no wasm runtime. Fatal: the node's configuration or this machine is at fault.
#[derive(Debug, Error)]
pub enum Error {
    #[error("the wasm engine does not start: {0}")]
    Engine(String),
    #[error("the cache of compiled wasm in {directory:?}: {error}")]
    Cache { directory: PathBuf, error: std::io::Error },
}

/// Runs wasm Cargos. See the module.
pub struct WasmRuntime {
    shared: Arc<Shared>,
    workers: Arc<dyn Workers>,
    compiling: Semaphore,
}

/// What work on the pool needs.
struct Shared {
    linked: Arc<Linked>,
    disk: Option<DiskCache>,
    ready: Mutex<Ready>,
    /// One lock per module that is being compiled.
    in_work: Mutex<BTreeMap<ContentId, Weak<tokio::sync::Mutex<()>>>>,
}

/// Cargos that are ready; the one used longest ago makes room.
struct Ready {
    programs: BTreeMap<CargoId, (u64, Arc<Program>)>,
    uses: u64,
    most: usize,
}

impl Ready {
    fn get(&mut self, cargo: CargoId) -> Option<Arc<Program>> {
        self.uses += 1;
        let (used, program) = self.programs.get_mut(&cargo)?;
        *used = self.uses;
        Some(program.clone())
    }

    fn put(&mut self, cargo: CargoId, program: Arc<Program>) {
        self.uses += 1;
        self.programs.insert(cargo, (self.uses, program));
        while self.programs.len() > self.most.max(1) {
            let oldest = self.programs.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id);
            oldest.and_then(|id| self.programs.remove(&id));
        }
    }
}

impl fmt::Debug for WasmRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmRuntime").field("disk", &self.shared.disk).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WasmRuntime {
    /// # Errors
    /// When the engine does not start or the cache directory can't be used.
    pub fn new(config: Config, workers: Arc<dyn Workers>) -> Result<Self, Error> {
        let linked = Linked::new(config.jobs_max).map_err(|e| Error::Engine(e.to_string()))?;
        let disk = config
            .cache
            .map(|directory| {
                DiskCache::open(&directory, config.cache_bytes_max, &linked.engine)
                    .map_err(|error| Error::Cache { directory, error })
            })
            .transpose()?;
        Ok(Self {
            shared: Arc::new(Shared {
                linked: Arc::new(linked),
                disk,
                ready: Mutex::new(Ready {
                    programs: BTreeMap::new(),
                    uses: 0,
                    most: config.ready_max,
                }),
                in_work: Mutex::new(BTreeMap::new()),
            }),
            workers,
            compiling: Semaphore::new(config.compile_max.max(1)),
        })
    }
}

impl Shared {
    fn work_lock(&self, module: ContentId) -> Arc<tokio::sync::Mutex<()>> {
        let mut in_work = lock(&self.in_work);
        in_work.retain(|_, lock| lock.strong_count() > 0);
        let known = in_work.get(&module).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let lock = Arc::default();
            in_work.insert(module, Arc::downgrade(&lock));
            lock
        })
    }

    /// The program of a module: from disk if it is there, else compiled.
    fn make(&self, hash: ContentId, wasm: &[u8]) -> Result<Program, Failure> {
        if ContentId::of(wasm) != hash {
            return Err(Failure::new(Step::Artifact, "the module is not what its hash says"));
        }
        if let Some(compiled) = self.disk.as_ref().and_then(|disk| disk.load(hash)) {
            // SAFETY: the bytes are ours: the directory is the node's own, and the checksum says
            // that this is what was stored for this module by this engine.
            match unsafe { self.linked.load(wasm, &compiled) } {
                Ok(program) => return Ok(program),
                Err(failure) => tracing::warn!(%hash, reason = %failure.message, "compiling again"),
            }
        }
        let compiled = self.linked.compile(wasm)?;
        // SAFETY: just compiled from `wasm`.
        let program = unsafe { self.linked.load(wasm, &compiled) }?;
        if let Some(disk) = &self.disk {
            disk.store(hash, &compiled);
        }
        Ok(program)
    }
}

/// The hash of the module that the manifest names, when `artifact` may be it.
fn check_artifact(manifest: &Manifest, artifact: &[u8]) -> Result<ContentId, Failure> {
    let refuse = |message: String| Err(Failure::new(Step::Artifact, message));
    let Artifact::Module { hash, size_bytes } = &manifest.artifact else {
        return refuse("the manifest names no wasm module".into());
    };
    let bytes = artifact.len() as u64;
    if bytes > MAX_ARTIFACT_BYTES {
        return refuse(format!("the module has {bytes} bytes, the limit is {MAX_ARTIFACT_BYTES}"));
    }
    if bytes != *size_bytes {
        return refuse(format!("the module has {bytes} bytes, its manifest says {size_bytes}"));
    }
    Ok(*hash)
}

#[async_trait]
impl Runtime for WasmRuntime {
    fn runtime_type(&self) -> RuntimeType {
        RuntimeType::Wasm
    }

    async fn prepare(
        &self,
        cargo: CargoId,
        manifest: &Manifest,
        artifact: Bytes,
    ) -> Result<(), Failure> {
        let hash = check_artifact(manifest, &artifact)?;
        let in_work = self.shared.work_lock(hash);
        let _alone = in_work.lock().await;
        if self.is_ready(cargo) {
            return Ok(());
        }
        // The semaphore is never closed.
        let _permit = self.compiling.acquire().await;
        let shared = self.shared.clone();
        let made = workers::run(&*self.workers, move || shared.make(hash, &artifact)).await;
        let program = made.map_err(|lost| Failure::new(Step::Engine, lost.to_string()))??;
        lock(&self.shared.ready).put(cargo, Arc::new(program));
        Ok(())
    }

    fn is_ready(&self, cargo: CargoId) -> bool {
        lock(&self.shared.ready).programs.contains_key(&cargo)
    }

    async fn run(
        &self,
        job: Job,
        events: mpsc::Sender<Event>,
        cancel: CancellationToken,
    ) -> Outcome {
        let Some(program) = lock(&self.shared.ready).get(job.cargo) else {
            let failure = Failure::new(Step::Engine, "the Cargo is not ready: prepare it first");
            return Outcome::not_started(Verdict::Failed, failure);
        };
        // Stops the work also when this future is dropped.
        let stop = cancel.child_token();
        let _guard = stop.clone().drop_guard();
        let work = execute::execute(self.shared.linked.clone(), program, job, events, stop);
        let left_behind = async {
            cancel.cancelled().await;
            tokio::time::sleep(Duration::from_millis(LEAVE_MS)).await;
        };
        tokio::select! {
            biased;
            outcome = workers::run_future(&*self.workers, work) => outcome.unwrap_or_else(|lost| {
                let failure = Failure::new(Step::Engine, lost.to_string());
                Outcome::not_started(Verdict::Failed, failure)
            }),
            // Still queued in a pool that is full: it will stop as soon as it starts.
            () = left_behind => {
                let (verdict, failure) = execute::cancelled();
                Outcome::not_started(verdict, failure)
            }
        }
    }
}

#[cfg(test)]
mod tests;
