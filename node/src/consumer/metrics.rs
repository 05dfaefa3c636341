//! What the Consumer counts.

use crate::metrics::component;
use prometheus_client::metrics::counter::Counter;

component! {
    /// Counters since the start of the node.
    pub struct Metrics {
        /// Jobs that were dispatched.
        pub submitted: Counter,
        /// Jobs that were not dispatched, for any reason.
        pub refused: Counter,
        /// Attempts at jobs, but those that an Island refused because it was full.
        pub attempts: Counter,
        /// Attempts after which another Island got the job.
        pub failovers: Counter,
        /// Islands that sent what no honest Island sends.
        pub hostile: Counter,
        /// Jobs that completed.
        pub completed: Counter,
        /// Jobs that ended otherwise.
        pub not_completed: Counter,
        /// Microcredits of the receipts that were signed.
        pub spent_micro: Counter,
        /// Holds opened on the ledger.
        pub holds_opened: Counter,
    }
}
