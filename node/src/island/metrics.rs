//! What the Island counts.

use crate::metrics::component;
use archipelag_protocol::payment::Verdict;
use prometheus_client::metrics::counter::Counter;

component! {
    /// Counters since the start of the node.
    pub struct Metrics {
        /// Job streams that came in.
        pub streams: Counter,
        /// Job streams dropped because too many were waiting.
        pub streams_dropped: Counter,
        /// Offers that were accepted.
        pub accepted: Counter,
        /// Offers that were refused, for any reason.
        pub refused: Counter,
        /// Streams that sent what no honest Consumer sends.
        pub hostile: Counter,
        /// Jobs that ended as completed.
        pub completed: Counter,
        /// Jobs whose Cargo said `error`.
        pub cargo_failed: Counter,
        /// Jobs that broke the protocol, trapped, hit a limit or could not start.
        pub failed: Counter,
        /// Jobs that ran out of time.
        pub timed_out: Counter,
        /// Jobs that were cancelled, by whomever.
        pub cancelled: Counter,
        /// Jobs whose Consumer was gone before their end.
        pub abandoned: Counter,
        /// Receipts that came back with the payer's signature.
        pub countersigned: Counter,
        /// Jobs that were charged and not paid.
        pub unpaid: Counter,
        /// Microcredits of countersigned receipts.
        pub earned_micro: Counter,
        /// Receipts that the ledger has settled.
        pub settled: Counter,
        /// Receipts that the ledger will never settle.
        pub refused_by_ledger: Counter,
    }
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
        counter.inc();
    }
}
