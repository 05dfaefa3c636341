//! Whether what goes wrong in a scenario can go wrong.
//!
//! `check.rs` calls it after `rules.rs`, under the same terms. It does nothing wrong itself.

use super::{
    ALL, Behaviour, Fault, Fidelity, Scenario, Target, Trouble,
    check::Problems,
    keys::{quote, suggest},
};

/// Times that a line may be cut.
const MAX_FLAPS: f64 = 1e6;

pub(super) fn check(scenario: &Scenario, problems: &mut Problems<'_>) {
    for (at, fault) in scenario.faults.iter().enumerate() {
        let path = format!("faults[{at}]");
        let end = scenario.duration_s;
        if fault.at_s >= end {
            let what = format!("{} is not before the end: below {end}", fault.at_s);
            problems.add(&format!("{path}.at_s"), what);
        }
        self::fault(scenario, fault, &path, problems);
    }
}

fn fault(scenario: &Scenario, fault: &Fault, path: &str, problems: &mut Problems<'_>) {
    let nodes = format!("{path}.nodes");
    match &fault.what {
        Trouble::Crash { nodes: target }
        | Trouble::Power { nodes: target }
        | Trouble::Slow { nodes: target, .. } => {
            self::target(scenario, target, &nodes, problems);
        }
        Trouble::Restart { nodes: target, apart_s } => {
            let count = self::target(scenario, target, &nodes, problems);
            let last = fault.at_s + apart_s * count.saturating_sub(1) as f64;
            if last >= scenario.duration_s && fault.at_s < scenario.duration_s {
                let what = "is the turn of the last node, which is not before the end: below";
                let path = format!("{path}.apart_s");
                problems.add(&path, format!("{last} s {what} {}", scenario.duration_s));
            }
        }
        Trouble::Partition { nodes: target, from, .. } => {
            partition(scenario, target, from.as_ref(), path, problems);
        }
        Trouble::Flap { nodes: target, period_s } => {
            partition(scenario, target, None, path, problems);
            let for_s = fault.for_s.unwrap_or(scenario.duration_s).min(scenario.duration_s);
            if for_s / period_s > MAX_FLAPS {
                let what = format!("{period_s} is too short: at least {}", for_s / MAX_FLAPS);
                problems.add(&format!("{path}.period_s"), what);
            }
        }
        Trouble::Clock { nodes: target, .. } | Trouble::Disk { nodes: target } => {
            self::target(scenario, target, &nodes, problems);
            if scenario.fidelity == Fidelity::Model {
                let what = "clocks and disks are not there at fidelity model: any other kind";
                problems.add(&format!("{path}.kind"), what.into());
            }
        }
        Trouble::Loss { .. } => {}
        Trouble::Flash => {
            let covert = |group: &super::Group| group.behaviour == Behaviour::CovertFlash;
            if !scenario.groups.iter().any(covert) {
                let what = "flash is nothing without a group with the behaviour covert-flash";
                problems.add(&format!("{path}.kind"), what.into());
            }
        }
    }
}

/// How many nodes are meant.
fn target(scenario: &Scenario, target: &Target, path: &str, problems: &mut Problems<'_>) -> usize {
    let members = scenario.members(&target.group).len();
    if target.group != ALL && scenario.group(&target.group).is_none() {
        let names = scenario.groups.iter().map(|group| group.name.as_str()).chain([ALL]);
        let accepted = suggest(&target.group, names);
        let what = format!("there is no group {}; groups are: {accepted}", quote(&target.group));
        problems.add(&format!("{path}.group"), what);
        return 0;
    }
    match (target.count, target.fraction) {
        (Some(_), Some(_)) => {
            problems.add(path, "both count and fraction: one of them".into());
            members
        }
        (Some(count), None) => {
            if count > members {
                let of = quote(&target.group);
                let what = format!("{count} is not possible, {of} has {members}: 1 to {members}");
                problems.add(&format!("{path}.count"), what);
            }
            count.min(members)
        }
        (None, Some(fraction)) => {
            let nodes = fraction * members as f64;
            if nodes < 1.0 {
                let what = format!(
                    "{fraction} of {members} nodes is none: {} or more",
                    1.0 / members as f64
                );
                problems.add(&format!("{path}.fraction"), what);
            }
            super::members_of(fraction, members)
        }
        (None, None) => members,
    }
}

fn partition(
    scenario: &Scenario,
    nodes: &Target,
    from: Option<&Target>,
    path: &str,
    problems: &mut Problems<'_>,
) {
    let count = target(scenario, nodes, &format!("{path}.nodes"), problems);
    if let Some(from) = from {
        target(scenario, from, &format!("{path}.from"), problems);
        let path = format!("{path}.from.group");
        if from.group == ALL || nodes.group == ALL {
            let what = "all are on both sides: another group, or leave `from` out for all others";
            problems.add(&path, what.into());
        } else if from.group == nodes.group {
            let what = "is the group of `nodes`: another group, or leave `from` out for all others";
            problems.add(&path, format!("{} {what}", quote(&from.group)));
        }
    } else if count > 0 && count == scenario.nodes() {
        let what = "are all nodes, so that there are no others: fewer, or name `from`";
        problems.add(&format!("{path}.nodes"), what.into());
    }
}
