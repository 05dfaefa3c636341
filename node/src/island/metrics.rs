//! What the Island counts.

use archipelag_protocol::payment::Verdict;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start of the node.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Job streams that came in.
    pub streams: AtomicU64,
    /// Job streams dropped because too many were waiting.
    pub streams_dropped: AtomicU64,
    /// Offers that were accepted.
    pub accepted: AtomicU64,
    /// Offers that were refused, for any reason.
    pub refused: AtomicU64,
    /// Streams that sent what no honest Consumer sends.
    pub hostile: AtomicU64,
    /// Jobs that ended as completed.
    pub completed: AtomicU64,
    /// Jobs whose Cargo said `error`.
    pub cargo_failed: AtomicU64,
    /// Jobs that broke the protocol, trapped, hit a limit or could not start.
    pub failed: AtomicU64,
    /// Jobs that ran out of time.
    pub timed_out: AtomicU64,
    /// Jobs that were cancelled, by whomever.
    pub cancelled: AtomicU64,
    /// Jobs whose Consumer was gone before their end.
    pub abandoned: AtomicU64,
    /// Receipts that came back with the payer's signature.
    pub countersigned: AtomicU64,
    /// Jobs that were charged and not paid.
    pub unpaid: AtomicU64,
    /// Microcredits of countersigned receipts.
    pub earned_micro: AtomicU64,
    /// Receipts that the ledger has settled.
    pub settled: AtomicU64,
    /// Receipts that the ledger will never settle.
    pub refused_by_ledger: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Metrics {
    pub(super) fn ended(&self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Completed => &self.completed,
            Verdict::CargoFailed => &self.cargo_failed,
            Verdict::Failed => &self.failed,
            Verdict::Timeout => &self.timed_out,
            Verdict::Cancelled => &self.cancelled,
        };
        add(counter, 1);
    }
}
