//! A scenario: which nodes, on which network, do what, and what goes wrong. Read from TOML.
//!
//! `archipelag-sim` reads it, the world is built from it, fault search writes it. Times are seconds
//! of virtual time since the start.
//!
//! [`Scenario::parse`] is the only way in: it refuses unknown keys and what is not possible, so
//! that nothing is found out in the middle of a long run. What each key takes is told once, in
//! `schema.rs`; `shape.rs` checks a file against it, `help.rs` prints it, `write.rs` writes in its
//! order. `rules.rs`, `loads.rs` and `faults.rs` check what several keys say together. Nothing here runs a
//! node.

mod cargos;
mod check;
mod distribution;
mod fault;
mod faults;
mod group;
mod help;
mod keys;
mod load;
mod loads;
mod rules;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod trace;
mod write;

pub use cargos::WORK;
pub use check::{Error, Problem};
pub use distribution::{Distribution, Named};
pub use fault::{ALL, Fault, Target, Trouble, members_of};
pub use group::{Behaviour, Group, Places, Role, Session};
pub use help::help;
pub use load::{Lookups, Mix, Workload};
pub use loads::MAX_JOBS;
pub use rules::{MAX_COORDINATORS, nodes_max};
pub use schema::{MAX_BYTES, MAX_DURATION_S};
pub use trace::TraceRow;

use serde::{Deserialize, Serialize};

/// Everything about a run but its seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// The seed that it is about, when it is about one.
    #[serde(default)]
    pub seed: Option<u64>,
    pub duration_s: f64,
    #[serde(default)]
    pub fidelity: Fidelity,
    #[serde(default)]
    pub network: Network,
    #[serde(default)]
    pub policy: Policy,
    pub groups: Vec<Group>,
    #[serde(default)]
    pub workloads: Vec<Workload>,
    #[serde(default)]
    pub lookups: Vec<Lookups>,
    #[serde(default)]
    pub faults: Vec<Fault>,
    #[serde(default)]
    pub checks: Checks,
    #[serde(default)]
    pub observe: Observe,
}

/// How much is simulated and how much modelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fidelity {
    /// The node whole, its Noise and Yamux included, over simulated byte streams.
    Full,
    /// The node whole over simulated streams; encryption and multiplexing by what they cost.
    #[default]
    Muxer,
    /// A model of the protocols' cores, not the node's code: for very many nodes.
    Model,
}

/// The lines between nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    pub regions: Vec<String>,
    /// One way, from row to column.
    pub latency_ms: Vec<Vec<f64>>,
    /// Pairs of nodes differ from the matrix by up to so much.
    pub spread_percent: u32,
    /// Each chunk is late by up to so much of the latency.
    pub jitter_percent: u32,
    /// Of segments.
    pub loss_percent: f64,
    /// New and idle connections send slowly at first, as TCP does.
    pub slow_start: bool,
    /// A connection whose packets are not acknowledged for so long is reset.
    pub give_up_s: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            regions: vec!["here".into()],
            latency_ms: vec![vec![20.0]],
            spread_percent: 50,
            jitter_percent: 10,
            loss_percent: 0.0,
            slow_start: true,
            // Linux's tcp_retries2 = 15.
            give_up_s: 924.0,
        }
    }
}

/// Parts of the network's policy that a scenario sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    pub advert_interval_s: Option<f64>,
    /// Between two elections of coordinators.
    pub epoch_s: Option<f64>,
    /// Whole credits that each node's Consumer begins with.
    pub consumer_credits: Option<u64>,
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checks {
    pub every_s: f64,
    /// A job must have ended so long after it was submitted.
    pub job_deadline_s: f64,
    /// After the last fault ends, all honest nodes must know each other's Islands within this.
    pub reconverge_s: f64,
    /// Neighbours in the mesh of adverts that a node must have once it ran a minute.
    pub mesh_peers_min: Option<usize>,
    /// What nodes send, in kilobits per second: the mean over all nodes and the whole run.
    pub sent_kbit_max: Option<f64>,
    /// Of the jobs that ended.
    pub success_min_percent: Option<f64>,
    pub lookup_success_min_percent: Option<f64>,
    pub delivery_min_percent: Option<f64>,
    /// Tasks of one node.
    pub tasks_max: usize,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            every_s: 1.0,
            job_deadline_s: 900.0,
            reconverge_s: 60.0,
            mesh_peers_min: None,
            sent_kbit_max: None,
            success_min_percent: None,
            lookup_success_min_percent: None,
            delivery_min_percent: None,
            tasks_max: 10_000,
        }
    }
}

/// What is written to the tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observe {
    /// Between two rows of a node in `samples`.
    pub sample_s: f64,
    /// Of how many Islands the adverts are followed to every node.
    pub adverts_of: usize,
}

impl Default for Observe {
    fn default() -> Self {
        Self { sample_s: 5.0, adverts_of: 10 }
    }
}

impl Scenario {
    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.groups.iter().fold(0, |sum, group| sum.saturating_add(group.count))
    }

    /// The numbers of a group's nodes, or of all; none when there is no such group.
    #[must_use]
    pub fn members(&self, name: &str) -> std::ops::Range<usize> {
        if name == ALL {
            return 0..self.nodes();
        }
        let mut first: usize = 0;
        for group in &self.groups {
            let end = first.saturating_add(group.count);
            if group.name == name {
                return first..end;
            }
            first = end;
        }
        0..0
    }

    /// A group by its name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }
}
