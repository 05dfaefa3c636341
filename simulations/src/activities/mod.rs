//! What happens in a run: nodes come and go, jobs are submitted, keys are looked up, things break.
//!
//! `run.rs` starts these as tasks of the simulation; each follows one part of the scenario.

mod churn;
mod faults;
mod jobs;
mod lookups;
mod publish;

pub(crate) use faults::Healed;
pub(crate) use jobs::{Traces, row as job_row};

use crate::{
    record::Record,
    world::{World, seconds},
};
use archipelag_simulation_kernel as kernel;
use std::time::Duration;

/// Starts everything that the scenario says.
pub(crate) fn start(world: &World, record: &Record, traces: Traces) -> Healed {
    publish::start(world, record);
    churn::start(world, record);
    jobs::start(world, record, traces);
    lookups::start(world, record);
    faults::start(world, record)
}

/// Waits until that many seconds after the start.
async fn until(at_s: f64) {
    let left = seconds(at_s.max(0.0)).saturating_sub(kernel::now());
    tokio::time::sleep(Duration::from_nanos(left)).await;
}

/// Waits so many seconds; at least a microsecond, so that a draw of 0 does not stop time.
async fn pause(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(1e-6, 1e9))).await;
}
