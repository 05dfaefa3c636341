//! Counters of the job book.

use super::record::Status;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Clone, Debug)]
pub struct Metrics {
    /// Jobs that ended, by status.
    finished: Family<StatusLabel, Counter>,
    /// Jobs that were not taken on.
    pub(super) refused: Counter,
    /// Jobs that have not ended.
    pub(super) unfinished: Gauge,
    /// From submission to the end, in seconds.
    seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            finished: Family::default(),
            refused: Counter::default(),
            unfinished: Gauge::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
        };
        for status in Status::FINAL {
            metrics.finished.get_or_create_owned(&StatusLabel { status: status.name() });
        }
        metrics
    }
}

impl Metrics {
    pub(super) fn ended(&self, status: Status, milliseconds: u64) {
        self.finished.get_or_create(&StatusLabel { status: status.name() }).inc();
        self.seconds.observe(milliseconds as f64 / 1_000.0);
    }
}

impl crate::metrics::Component for Metrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("finished", "Jobs that ended, by status", self.finished.clone());
        registry.register("refused", "Jobs that were not taken on", self.refused.clone());
        registry.register("unfinished", "Jobs that have not ended", self.unfinished.clone());
        let help = "From submission to the end";
        registry.register("duration_seconds", help, self.seconds.clone());
    }
}
