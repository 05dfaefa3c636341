//! The key figures of a run, by name, units last: those that a summary holds and sweeps compare.
//! Called by whoever writes a summary and by `run` for runs that were interrupted before they had
//! one.

use super::{collected::Collected, plot::Curve, stats::Distribution};
use std::collections::BTreeMap;

/// Computes all figures that the tables have an answer to.
#[must_use]
pub fn figures(run: &Collected) -> BTreeMap<String, f64> {
    let mut figures = Figures::default();
    figures.set("duration_s", run.last_s);
    figures.set("nodes", run.nodes.len() as f64);
    figures.set("violations", run.violations_count as f64);
    figures.set("faults", run.faults_count as f64);
    figures.set("restarts", run.nodes.iter().map(|node| node.restarts as f64).sum());
    figures.set("sent_bytes", run.nodes.iter().map(|node| node.sent_bytes as f64).sum());
    figures.set("received_bytes", run.nodes.iter().map(|node| node.received_bytes as f64).sum());
    figures.messages(run);
    figures.jobs(run);
    figures.shares("load", &run.load());
    figures.shares("earnings", &run.earnings());
    figures.lookups(run);
    if let Some(block) = &run.last_block {
        figures.set("blocks", block.height as f64);
        figures.set("supply_microcredits", block.supply_microcredits as f64);
        figures.set("treasury_microcredits", block.treasury_microcredits as f64);
    }
    figures.values
}

#[derive(Default)]
struct Figures {
    values: BTreeMap<String, f64>,
}

impl Figures {
    fn set(&mut self, name: &str, value: f64) {
        if value.is_finite() {
            self.values.insert(name.to_owned(), value);
        }
    }

    fn percentiles(&mut self, name: &str, unit: &str, values: &Distribution) {
        let named = [
            ("p50", values.p50()),
            ("p90", values.p90()),
            ("p99", values.p99()),
            ("mean", values.mean()),
        ];
        for (which, value) in named {
            if let Some(value) = value {
                self.set(&format!("{name}_{which}_{unit}"), value);
            }
        }
    }

    fn messages(&mut self, run: &Collected) {
        let latencies_ms = all(&run.deliveries);
        let deliveries = latencies_ms.count() as f64;
        self.set("messages", run.messages as f64);
        self.set("deliveries", deliveries);
        self.set("deliveries_per_message", deliveries / run.messages as f64);
        self.percentiles("delivery", "ms", &latencies_ms);
    }

    fn jobs(&mut self, run: &Collected) {
        let jobs = run.jobs.len() as f64;
        let completed: Distribution =
            run.jobs.iter().filter(|job| job.completed).filter_map(|job| job.latency_s).collect();
        let completed_count = run.jobs.iter().filter(|job| job.completed).count() as f64;
        self.set("jobs", jobs);
        self.set("jobs_completed", completed_count);
        self.set("jobs_completed_share", completed_count / jobs);
        self.percentiles("job", "s", &completed);
        self.percentiles("first_event", "s", &run.first_events_s);
    }

    fn shares(&mut self, name: &str, values: &Distribution) {
        if let Some(gini) = values.gini() {
            self.set(&format!("{name}_gini"), gini);
        }
    }

    fn lookups(&mut self, run: &Collected) {
        let latencies_ms = all(&run.lookups);
        let found = latencies_ms.count() as f64;
        let lookups = found + run.lookups_failed as f64;
        self.set("lookups", lookups);
        self.set("lookups_found_share", found / lookups);
        self.percentiles("lookup", "ms", &latencies_ms);
    }
}

fn all(curves: &[Curve]) -> Distribution {
    curves.iter().flat_map(|curve| curve.latencies_ms.sorted()).copied().collect()
}
