//! `archipelag bench`: how fast this build is on this machine, beside baselines of the same run.

use super::{
    exit::{Exit, Failed, Outcome},
    output::{self, Progress, line},
};
use crate::bench::{self, Report};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// A job through the mesh on loopback, beside a bare stream echo and bare wasmtime
    #[command(after_help = "Example:\n  archipelag bench jobs --seconds 20 --json")]
    Jobs {
        /// How long to measure, all parts together
        #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
    /// Transactions settled by 1, 4 and 7 coordinators, beside one signature check and one fsync
    #[command(after_help = "Example:\n  archipelag bench ledger --seconds 24 --json")]
    Ledger {
        /// How long to measure, all parts together
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
}

impl Bench {
    pub(crate) async fn run(self, as_json: bool) -> Outcome {
        let (Self::Jobs { seconds } | Self::Ledger { seconds }) = self;
        let report = {
            let _progress = Progress::start(format!("measuring for {seconds} s"));
            match self {
                Self::Jobs { .. } => Box::pin(bench::jobs::run(seconds)).await,
                Self::Ledger { .. } => Box::pin(bench::ledger::run(seconds)).await,
            }
        };
        let failed = |e: anyhow::Error| Failed::new(Exit::JobFailed, format!("{e:#}"));
        let report = report.map_err(failed)?;
        if as_json { output::json(&report) } else { print(&report) }
    }
}

fn print(report: &Report) -> Outcome {
    line(&format!("bench {}: {}", report.bench, report.config))?;
    let (p50, p99, rate) = (report.p50_us, report.p99_us, report.per_second);
    line(&format!("ours: p50 {p50} µs, p99 {p99} µs, {rate} a second"))?;
    for (name, figure) in &report.baselines {
        let (p50, rate) = (figure.p50_us, figure.per_second);
        line(&format!("baseline {name}: p50 {p50} µs, {rate} a second"))?;
    }
    for (name, ratio) in &report.ratio {
        line(&format!("ratio {name}: {ratio}"))?;
    }
    for (name, micros) in &report.steps_us {
        line(&format!("step {name}: {micros} µs"))?;
    }
    Ok(())
}
