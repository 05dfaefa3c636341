//! Counters of the coordinator.

use crate::metrics::{Gauge, component};
use prometheus_client::metrics::counter::Counter;

component! {
    /// What happened since the node started, and where the ledger stands.
    pub struct Metrics {
        /// The height of the last final block.
        pub height: Gauge,
        /// Blocks made durable.
        pub blocks: Counter,
        /// Transactions in those blocks.
        pub transactions: Counter,
        /// Transactions refused, whatever the reason.
        pub refused: Counter,
        /// Submissions that were answered from the receipt of an earlier one.
        pub repeated: Counter,
        /// Transactions that wait for a block now.
        pub pending: Gauge,
        /// Microseconds spent on making blocks durable, all together.
        pub commit_us: Counter,
        /// Messages to other coordinators that were dropped because the queue was full.
        pub messages_dropped: Counter,
    }
}
