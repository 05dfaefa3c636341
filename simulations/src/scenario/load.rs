//! What nodes do, as a scenario says it: jobs and lookups.
//!
//! Who submits jobs and looks up reads them. It draws nothing.

use super::{Distribution, WORK};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Jobs that come from a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Name of a group.
    pub from: String,
    /// `work` is modelled and takes virtual time; the starter Cargos run for real.
    #[serde(default = "work")]
    pub cargo: Mix,
    /// For starter Cargos; `work` is given by the fields below.
    #[serde(default)]
    pub input: Option<toml::Table>,
    /// Between two jobs of the whole group.
    #[serde(default)]
    pub interarrival_s: Option<Distribution>,
    /// CSV with the columns `time_s`, `node` (within the group) and perhaps `cargo`, `work_ms`,
    /// `events`, `event_bytes`; instead of `interarrival_s`.
    #[serde(default)]
    pub trace: Option<String>,
    #[serde(default)]
    pub start_s: f64,
    #[serde(default)]
    pub stop_s: Option<f64>,
    /// The most jobs.
    #[serde(default)]
    pub jobs: Option<u64>,
    #[serde(default = "second")]
    pub work_ms: Distribution,
    #[serde(default = "ten")]
    pub events: Distribution,
    #[serde(default = "hundred")]
    pub event_bytes: Distribution,
    #[serde(default)]
    pub bid_percent: Option<u16>,
    /// How long a job may wait for room.
    #[serde(default)]
    pub wait_s: Option<u32>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            from: String::new(),
            cargo: work(),
            input: None,
            interarrival_s: None,
            trace: None,
            start_s: 0.0,
            stop_s: None,
            jobs: None,
            work_ms: second(),
            events: ten(),
            event_bytes: hundred(),
            bid_percent: None,
            wait_s: None,
        }
    }
}

/// One Cargo by name, or several with weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Mix {
    One(String),
    Shares(BTreeMap<String, f64>),
}

/// Lookups of catalog entries in the distributed table, by nodes of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookups {
    pub from: String,
    pub interarrival_s: Distribution,
    #[serde(default)]
    pub start_s: f64,
    #[serde(default)]
    pub stop_s: Option<f64>,
}

fn hundred() -> Distribution {
    Distribution::Constant(100.0)
}

fn ten() -> Distribution {
    Distribution::Constant(10.0)
}

fn second() -> Distribution {
    Distribution::Constant(1000.0)
}

fn work() -> Mix {
    Mix::One(WORK.into())
}
