//! What the Consumer counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start of the node.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Jobs that were dispatched.
    pub submitted: AtomicU64,
    /// Jobs that were not dispatched, for any reason.
    pub refused: AtomicU64,
    /// Attempts at jobs: streams opened or tried to.
    pub attempts: AtomicU64,
    /// Attempts after which another Island got the job.
    pub failovers: AtomicU64,
    /// Islands that sent what no honest Island sends.
    pub hostile: AtomicU64,
    /// Jobs that completed.
    pub completed: AtomicU64,
    /// Jobs that ended otherwise.
    pub not_completed: AtomicU64,
    /// Microcredits of the receipts that were signed.
    pub spent_micro: AtomicU64,
    /// Holds opened on the ledger.
    pub holds_opened: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
