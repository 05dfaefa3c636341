//! What the node asks of a runtime: make a Cargo ready, then run jobs of it.
//!
//! One implementation per runtime type; the node's Island side calls it after it has checked
//! manifest, trust, hold and input. A runtime never sees keys, credits or peers.

use archipelag_protocol::{
    event::Event,
    id::{CargoId, JobId},
    job::Failure,
    manifest::{Manifest, RuntimeType},
    payment::Verdict,
    policy::JobPolicy,
    pricing::Metering,
    time::Timestamp,
    trust::SandboxLimits,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Executes Cargos of one runtime type.
#[async_trait]
pub trait Runtime: Send + Sync + fmt::Debug {
    fn runtime_type(&self) -> RuntimeType;

    /// Checks `artifact` against the hash in `manifest`, then compiles or loads it and keeps it
    /// ready. What is ready already costs nothing.
    ///
    /// # Errors
    /// The step that failed and why: the artifact is not what its hash says, the engine refuses it,
    /// or it has no entry point.
    async fn prepare(
        &self,
        cargo: CargoId,
        manifest: &Manifest,
        artifact: Bytes,
    ) -> Result<(), Failure>;

    /// Whether a job of `cargo` would start without [`Runtime::prepare`]. The oldest Cargos make
    /// room for new ones, so this may turn false again.
    fn is_ready(&self, cargo: CargoId) -> bool;

    /// Runs one job of a Cargo that is ready and sends its events as they come.
    ///
    /// `done` and `error` come last, and only when the Cargo has ended as it should: what was
    /// received without them is what a failed job left. When `events` is full the Cargo waits; a
    /// receiver that is dropped cancels the job, and so does dropping this future.
    ///
    /// Returns within a second after `cancel` or the time limit, with everything that the job held
    /// freed.
    async fn run(
        &self,
        job: Job,
        events: mpsc::Sender<Event>,
        cancel: CancellationToken,
    ) -> Outcome;
}

/// One execution of one Cargo version.
#[derive(Clone)]
pub struct Job {
    pub id: JobId,
    pub cargo: CargoId,
    /// The JSON object that the Cargo reads on stdin.
    pub input: Bytes,
    pub limits: Limits,
    /// Gives the Cargo a fixed clock and seeded randomness, so that the same job gives the same
    /// output and the same [`Metering`] on every machine. The time limit is then counted in
    /// executed instructions (and checked against the clock too).
    pub deterministic: bool,
    /// What randomness is drawn from in deterministic mode.
    pub seed: [u8; 32],
    /// What the clock says in deterministic mode.
    pub now: Timestamp,
}

/// The input is the Consumer's, and the seed may be: neither is shown.
impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("cargo", &self.cargo)
            .field("input_bytes", &self.input.len())
            .field("limits", &self.limits)
            .field("deterministic", &self.deterministic)
            .finish_non_exhaustive()
    }
}

/// What one execution may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// By trust level, perhaps tightened by the operator.
    pub sandbox: SandboxLimits,
    /// All of stdout.
    pub output_bytes_max: u64,
    /// What is kept of stderr; the rest is read and dropped.
    pub stderr_bytes_max: u64,
}

impl Limits {
    #[must_use]
    pub fn new(sandbox: SandboxLimits, job: &JobPolicy) -> Self {
        Self {
            sandbox,
            output_bytes_max: job.output_bytes_max,
            stderr_bytes_max: job.stderr_bytes_max,
        }
    }
}

/// How a job ended.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Present unless completed.
    pub failure: Option<Failure>,
    /// What may be charged. A Cargo is not believed: tokens are the `token` events with content
    /// that were delivered, and less when its `done` claims less.
    pub metering: Metering,
    /// The start of stderr, for the operator, ending with a note when it was cut.
    pub stderr: Vec<u8>,
    /// Instructions executed, where the runtime counts them; else 0.
    pub fuel: u64,
}

/// What the Cargo wrote to stderr may contain input: it is for the operator to ask for, not for
/// logs.
impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("verdict", &self.verdict)
            .field("failure", &self.failure)
            .field("metering", &self.metering)
            .field("stderr_bytes", &self.stderr.len())
            .field("fuel", &self.fuel)
            .finish()
    }
}

impl Outcome {
    /// The outcome of a job that did not start.
    #[must_use]
    pub fn not_started(verdict: Verdict, failure: Failure) -> Self {
        Self {
            verdict,
            failure: Some(failure),
            metering: Metering::default(),
            stderr: Vec::new(),
            fuel: 0,
        }
    }
}
