//! The job book: the durable record of the jobs that accounts submitted through this node.
//!
//! The gateway submits, lists, streams and cancels through a [`JobBook`]; the book drives each job
//! with the Consumer and keeps what comes back. A submission is handed to the Consumer, and later
//! acknowledged, only when its record is on disk. Of what a stopped node left behind, the next
//! start runs again what no Island had begun, and settles the rest as lost, at what was signed for
//! it. The book decides nothing about money, Islands or schemas: that is the Consumer's part. It
//! never logs what a job was given or what it answered.

mod book;
mod drive;
mod index;
mod log;
mod metrics;
mod output;
mod record;
mod recovery;
mod store;
mod submitter;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use book::{JobBook, Submission};
pub use log::Events;
pub use metrics::Metrics;
pub(crate) use output::{credits, usage_json};
pub use record::{Head, Job, Status, Terms, Usage};
pub use submitter::{Accounts, NodeSubmitter, Started, Submitter, Workload};

use crate::{consumer, disk};
use archipelag_protocol::id::CargoId;
use thiserror::Error;

/// Bounds of a job book.
#[derive(Clone, Debug)]
pub struct Config {
    /// Jobs of one account that have not ended; more are refused.
    pub unfinished_per_account: usize,
    /// Jobs of all accounts that have not ended; more are refused.
    pub unfinished_total: usize,
    /// Finished jobs kept per account; the oldest go first.
    pub kept_per_account: usize,
    /// Inputs, outputs and events of an account's finished jobs; the oldest jobs go first.
    pub kept_bytes_per_account: u64,
    /// How long an idempotency key stands for its job.
    pub idempotency_life_ms: u64,
    /// Idempotency keys kept per account, also of jobs that are not kept any more; the oldest go
    /// first. More than one API key can make in their life at the default rate.
    pub idempotency_per_account: usize,
    /// Events of one job; a job with more is stopped. Above what the policy's limit on output lets
    /// through, so that a job that says too much fails at its Island and costs nothing.
    pub events_per_job: usize,
    /// Bytes of one job's events; a job with more is stopped. Above the policy's limit, too.
    pub event_bytes_per_job: usize,
    /// Bytes of the events of all unfinished jobs, which are held in memory; a job that would pass
    /// it is stopped.
    pub event_bytes_total: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            unfinished_per_account: 100,
            unfinished_total: 1_000,
            kept_per_account: 10_000,
            kept_bytes_per_account: 1 << 30,
            idempotency_life_ms: 24 * 3_600_000,
            idempotency_per_account: 150_000,
            events_per_job: 1_300_000,
            event_bytes_per_job: 96 << 20,
            event_bytes_total: 1 << 30,
        }
    }
}

/// Why the book did not do what it was asked.
#[derive(Debug, Error)]
pub enum Error {
    #[error("this account has {limit} unfinished jobs, which is the limit; wait for some to end")]
    TooManyUnfinished { limit: usize },
    #[error("this node has {limit} unfinished jobs, which is the limit; try again later")]
    Full { limit: usize },
    #[error("this Idempotency-Key was used with another request body in the last 24 hours")]
    KeyReused,
    #[error("the request that first used this Idempotency-Key is still being accepted; try again")]
    KeyInProgress,
    #[error(
        "the job of this Idempotency-Key has ended and is not kept any more; it is not run again, another key makes a new job"
    )]
    KeyOutlivedJob,
    #[error("the job has already ended as {0}")]
    Ended(Status),
    #[error(transparent)]
    Refused(#[from] consumer::Refused),
    #[error(
        "the job store does not accept writes ({0}); check the disk that holds the node's home"
    )]
    Store(String),
    #[error("the node is stopping")]
    Stopping,
}

impl Error {
    /// What the disk said, for those who say themselves that it is about the job store.
    fn reason(self) -> String {
        match self {
            Self::Store(reason) => reason,
            other => other.to_string(),
        }
    }
}

/// Why a job book could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error("the job store is not readable: {0}")]
    Store(String),
}

/// The integer that the API calls a workload's id: the first six bytes of the Cargo's id, so that
/// every JSON reader holds it exactly.
#[must_use]
pub fn workload_id(cargo: CargoId) -> u64 {
    cargo.0[..6].iter().fold(0, |id, byte| (id << 8) | u64::from(*byte))
}
