//! Counters of the coordinator.

use std::sync::atomic::{AtomicU64, Ordering};

/// What happened since the node started, and where the ledger stands.
#[derive(Debug, Default)]
pub struct Metrics {
    /// The height of the last durable block.
    pub height: AtomicU64,
    /// Blocks made durable.
    pub blocks: AtomicU64,
    /// Transactions in those blocks.
    pub transactions: AtomicU64,
    /// Transactions refused, whatever the reason.
    pub refused: AtomicU64,
    /// Submissions that were answered from the receipt of an earlier one.
    pub repeated: AtomicU64,
    /// Transactions that wait for a block now.
    pub pending: AtomicU64,
    /// Microseconds spent on making blocks durable, all together.
    pub commit_us: AtomicU64,
    /// Messages to other coordinators that were dropped because the queue was full.
    pub messages_dropped: AtomicU64,
}

impl Metrics {
    pub(super) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(super) fn set(gauge: &AtomicU64, value: u64) {
        gauge.store(value, Ordering::Relaxed);
    }
}
