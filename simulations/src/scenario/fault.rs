//! What goes wrong, as a scenario says it.
//!
//! Who breaks things reads it, `faults.rs` checks it. It breaks nothing.

use serde::{Deserialize, Serialize};

/// Something that goes wrong. Serde can't refuse unknown keys beside a flattened enum: `shape.rs`
/// does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    pub at_s: f64,
    /// Until it is mended; never when absent.
    #[serde(default)]
    pub for_s: Option<f64>,
    #[serde(flatten)]
    pub what: Trouble,
}

/// The group of all nodes, in targets of faults.
pub const ALL: &str = "all";

/// Which nodes: a group's name, perhaps how many of it (the seed says which), or [`ALL`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub group: String,
    #[serde(default)]
    pub count: Option<usize>,
    #[serde(default)]
    pub fraction: Option<f64>,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Trouble {
    /// The process is killed; what was not flushed to disk is lost; it starts again at the end.
    Crash {
        nodes: Target,
    },
    /// The machine loses power: as a crash, but the others are not told.
    Power {
        nodes: Target,
    },
    /// Stopped in order and started again, `apart_s` between two nodes: an upgrade.
    Restart {
        nodes: Target,
        #[serde(default)]
        apart_s: f64,
    },
    /// Nothing passes between the two.
    Partition {
        nodes: Target,
        /// All others when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Target>,
        /// What `nodes` send is lost; what is sent to them arrives.
        #[serde(default)]
        one_way: bool,
    },
    /// A partition that comes and goes.
    Flap {
        nodes: Target,
        period_s: f64,
    },
    Loss {
        percent: f64,
    },
    /// Lines get slower by a factor.
    Slow {
        nodes: Target,
        factor: f64,
    },
    /// The wall clock jumps.
    Clock {
        nodes: Target,
        jump_ms: f64,
    },
    /// Writes to disk fail.
    Disk {
        nodes: Target,
    },
    /// The nodes with the behaviour `covert-flash` begin to misbehave.
    Flash,
}

impl Trouble {
    /// The nodes that it is about.
    #[must_use]
    pub fn targets(&self) -> Vec<&Target> {
        match self {
            Self::Crash { nodes }
            | Self::Power { nodes }
            | Self::Restart { nodes, .. }
            | Self::Partition { nodes, from: None, .. }
            | Self::Flap { nodes, .. }
            | Self::Slow { nodes, .. }
            | Self::Clock { nodes, .. }
            | Self::Disk { nodes } => vec![nodes],
            Self::Partition { nodes, from: Some(from), .. } => vec![nodes, from],
            Self::Loss { .. } | Self::Flash => Vec::new(),
        }
    }

    /// As [`Trouble::targets`], to change them.
    pub fn targets_mut(&mut self) -> Vec<&mut Target> {
        match self {
            Self::Crash { nodes }
            | Self::Power { nodes }
            | Self::Restart { nodes, .. }
            | Self::Partition { nodes, from: None, .. }
            | Self::Flap { nodes, .. }
            | Self::Slow { nodes, .. }
            | Self::Clock { nodes, .. }
            | Self::Disk { nodes } => vec![nodes],
            Self::Partition { nodes, from: Some(from), .. } => vec![nodes, from],
            Self::Loss { .. } | Self::Flash => Vec::new(),
        }
    }
}

/// How many of `members` nodes a target's `fraction` is; one at least.
#[must_use]
pub fn members_of(fraction: f64, members: usize) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is cut to the members"
    )]
    let nodes = (fraction * members as f64).floor() as usize;
    nodes.clamp(members.min(1), members)
}
