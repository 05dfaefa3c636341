//! Benchmarks: our path and its baselines in one run, on this machine, as one JSON object.
//!
//! `archipelag bench` calls it. The field names are fixed (`DESIGN.md`, "Benchmarks"), so that
//! figures compare over time.

mod echo;
pub mod jobs;
pub mod ledger;
mod nodes;
mod steps;
mod wasm;

use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What a benchmark prints. Times are in microseconds.
#[derive(Debug, Serialize)]
pub struct Report {
    pub bench: &'static str,
    pub config: serde_json::Value,
    pub p50_us: u64,
    pub p99_us: u64,
    pub per_second: u64,
    pub baselines: BTreeMap<&'static str, Figure>,
    /// Ours divided by the baseline's, in thousandths; `p50_…` smaller is better, `per_second_…`
    /// larger is.
    pub ratio: BTreeMap<&'static str, f64>,
    pub steps_us: BTreeMap<&'static str, f64>,
}

/// A baseline's figures.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figure {
    pub p50_us: u64,
    pub per_second: u64,
}

/// Latencies of one run.
#[derive(Debug, Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn micros(&mut self, percent: usize) -> u64 {
        self.0.sort_unstable();
        let index = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(index).map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
    }
}

/// Runs `once` again and again, one after another, for `time`.
async fn in_sequence(
    time: Duration,
    mut once: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Latencies> {
    let (start, mut latencies) = (Instant::now(), Latencies::default());
    while start.elapsed() < time {
        let began = Instant::now();
        once().await?;
        latencies.0.push(began.elapsed());
    }
    Ok(latencies)
}

/// Runs `once` in `tasks` tasks at a time for `time`; gives the runs per second.
async fn at_once<F>(
    tasks: usize,
    time: Duration,
    once: impl Fn() -> F + Clone + Send + 'static,
) -> anyhow::Result<u64>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let start = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            let once = once.clone();
            tokio::spawn(async move {
                let mut runs = 0_u64;
                while start.elapsed() < time {
                    once().await?;
                    runs += 1;
                }
                anyhow::Ok(runs)
            })
        })
        .collect();
    let mut runs = 0;
    for task in running {
        runs += task.await??;
    }
    let elapsed = u64::try_from(start.elapsed().as_micros())?.max(1);
    Ok(runs.saturating_mul(1_000_000) / elapsed)
}
