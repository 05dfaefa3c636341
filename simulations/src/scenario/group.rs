//! Nodes of one kind, as a scenario says them.
//!
//! The world makes nodes of them. It draws nothing and starts nothing.

use super::Distribution;
use crate::network::Nat;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a node is for. Every node can submit jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Has a seat from the genesis on.
    Coordinator,
    /// Keeps the ledger without a seat.
    Observer,
    /// Runs jobs for others.
    Island,
}

impl Role {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Observer => "observer",
            Self::Island => "island",
        }
    }
}

/// Nodes of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub name: String,
    pub count: usize,
    #[serde(default)]
    pub roles: Vec<Role>,
    /// By name, with weights; the first region when absent.
    #[serde(default)]
    pub region: Option<Places>,
    #[serde(default = "hundred")]
    pub up_mbit: Distribution,
    #[serde(default = "hundred")]
    pub down_mbit: Distribution,
    #[serde(default)]
    pub nat: Nat,
    /// By how much wall clocks are fast (negative: slow).
    #[serde(default)]
    pub skew_ms: Distribution,
    /// When each starts.
    #[serde(default)]
    pub start_s: Distribution,
    /// How long each stays and is away, in turn; for ever when absent.
    #[serde(default)]
    pub session: Option<Session>,
    /// Of how many of the nodes before it each knows the address; the first of them are those of
    /// the first group.
    #[serde(default = "one")]
    pub bootstrap: usize,
    /// Makes incoming connections impossible when `false`.
    #[serde(default = "yes")]
    pub listens: bool,
    #[serde(default = "two")]
    pub jobs_at_a_time: u32,
    /// How fast Cargos run, in times of a usual machine.
    #[serde(default = "unit")]
    pub speed: Distribution,
    /// Asking price in percent of a Cargo's.
    #[serde(default = "hundred")]
    pub price_percent: Distribution,
    /// What each step of a node costs of its one processor; free when 0.
    #[serde(default)]
    pub step_us: f64,
    #[serde(default)]
    pub behaviour: Behaviour,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            name: String::new(),
            count: 1,
            roles: Vec::new(),
            region: None,
            up_mbit: hundred(),
            down_mbit: hundred(),
            nat: Nat::default(),
            skew_ms: Distribution::default(),
            start_s: Distribution::default(),
            session: None,
            bootstrap: one(),
            listens: yes(),
            jobs_at_a_time: two(),
            speed: unit(),
            price_percent: hundred(),
            step_us: 0.0,
            behaviour: Behaviour::default(),
        }
    }
}

/// A region by name, or several with weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Places {
    One(String),
    Shares(BTreeMap<String, f64>),
}

/// Churn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    pub up_s: Distribution,
    pub down_s: Distribution,
    /// Cut off rather than stopped in order.
    #[serde(default)]
    pub abrupt: bool,
}

/// What a node does that an honest one does not. The node's own code runs; this stands around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    #[default]
    Honest,
    /// An Island that answers with something else than the Cargo's output.
    WrongOutput,
    /// An Island that charges for more than it did.
    Overcharge,
    /// An Island that takes jobs and never says a word.
    Stall,
    /// Forwards no gossip and answers no lookups, but stays connected.
    Withhold,
    /// As honest as anybody until a moment (`at_s` of the fault `flash`), then withholds.
    CovertFlash,
    /// A Consumer that reads its results very slowly.
    SlowReader,
    /// Changes and publishes its advert fifty times a second.
    AdvertStorm,
    /// Many identities that crowd around the entry that lookups ask for, and answer nothing.
    Sybil,
}

fn hundred() -> Distribution {
    Distribution::Constant(100.0)
}

fn unit() -> Distribution {
    Distribution::Constant(1.0)
}

fn one() -> usize {
    1
}

fn two() -> u32 {
    2
}

fn yes() -> bool {
    true
}
