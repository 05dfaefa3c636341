//! Whether what a scenario says is possible, beyond each key by itself: its network, nodes and
//! checks. What nodes do is in `loads.rs`, what goes wrong in `faults.rs`.
//!
//! `check.rs` calls it once the keys have their types. Some of them may be out of their ranges
//! then, which was said already. It draws nothing.

use super::{
    Behaviour, Distribution, Fidelity, Group, MAX_JOBS, Places, Role, Scenario,
    check::Problems,
    keys::{quote, suggest},
};
use crate::network::Nat;
use std::collections::BTreeSet;

/// As many seats as a genesis document has validators at most.
pub const MAX_COORDINATORS: usize = archipelag_protocol::genesis::MAX_VALIDATORS;
const MAX_REGIONS: usize = 256;
/// Rows of the table of samples.
const MAX_SAMPLES: f64 = 1e8;

/// The most nodes of a run.
#[must_use]
pub fn nodes_max(fidelity: Fidelity) -> usize {
    match fidelity {
        Fidelity::Full => 2_000,
        Fidelity::Muxer => 20_000,
        Fidelity::Model => 1_000_000,
    }
}

pub(super) fn check(scenario: &Scenario, problems: &mut Problems<'_>) {
    network(scenario, problems);
    nodes(scenario, problems);
    for (at, group) in scenario.groups.iter().enumerate() {
        self::group(scenario, group, &format!("groups[{at}]"), problems);
    }
    model(scenario, problems);
    checks(scenario, problems);
}

fn network(scenario: &Scenario, problems: &mut Problems<'_>) {
    let (regions, matrix) = (&scenario.network.regions, &scenario.network.latency_ms);
    let count = regions.len();
    let path = "network.regions";
    if count == 0 || count > MAX_REGIONS {
        problems.add(path, format!("{count} regions are not possible: 1 to {MAX_REGIONS}"));
    }
    let distinct: BTreeSet<&String> = regions.iter().collect();
    if distinct.len() < count {
        problems.add(path, "a name stands twice: names that differ".into());
    }
    let path = "network.latency_ms";
    if matrix.len() != count {
        let rows = matrix.len();
        problems
            .add(path, format!("{rows} rows are not possible: one for each of {count} regions"));
    }
    for (at, row) in matrix.iter().enumerate().filter(|(_, row)| row.len() != count) {
        let path = format!("{path}[{at}]");
        let what = "numbers are not possible: one for each of";
        problems.add(&path, format!("{} {what} {count} regions", row.len()));
    }
}

/// What all nodes together are.
fn nodes(scenario: &Scenario, problems: &mut Problems<'_>) {
    let (count, max) = (scenario.nodes(), nodes_max(scenario.fidelity));
    if scenario.groups.is_empty() {
        problems.add("groups", "there are none: one at least, as [[groups]]".into());
        return;
    }
    if count > max {
        let fidelity = word(scenario.fidelity);
        problems.add(
            "groups",
            format!("{count} nodes are not possible at fidelity {fidelity}: up to {max}"),
        );
    }
    let seats: usize = with_role(scenario, Role::Coordinator).fold(0, usize::saturating_add);
    if scenario.fidelity != Fidelity::Model && !(1..=MAX_COORDINATORS).contains(&seats) {
        let what = "nodes with the role coordinator are not possible";
        problems.add("groups", format!("{seats} {what}: 1 to {MAX_COORDINATORS}"));
    }
    if let (Some(first), true) = (scenario.groups.first(), count > 1) {
        let what = "the others join through the first group, which must be reachable";
        if !first.listens {
            problems.add("groups[0].listens", format!("false is not possible, {what}: true"));
        }
        if first.nat != Nat::None {
            let nat = word(first.nat);
            problems.add("groups[0].nat", format!("{nat} is not possible, {what}: none"));
        }
    }
    let samples = count as f64 * scenario.duration_s / scenario.observe.sample_s;
    if samples > MAX_SAMPLES {
        let least = count as f64 * scenario.duration_s / MAX_SAMPLES;
        let what = format!("gives {samples:.0} rows, which are too many: at least {least}");
        problems.add("observe.sample_s", what);
    }
}

pub(super) fn with_role(scenario: &Scenario, role: Role) -> impl Iterator<Item = usize> {
    let groups = scenario.groups.iter().filter(move |group| group.roles.contains(&role));
    groups.map(|group| group.count)
}

/// A word of the schema, as it is written.
pub(super) fn word(word: impl serde::Serialize) -> String {
    let written = serde_json::to_value(word).ok();
    written.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn group(scenario: &Scenario, group: &Group, path: &str, problems: &mut Problems<'_>) {
    if group.name == super::ALL {
        let what = "\"all\" is not possible: any other name; it is that of all nodes";
        problems.add(&format!("{path}.name"), what.into());
    }
    if scenario.groups.iter().filter(|other| other.name == group.name).count() > 1 {
        let what = format!("{} is the name of two groups: names that differ", quote(&group.name));
        problems.add(&format!("{path}.name"), what);
    }
    let places = group.region.iter().flat_map(|places| match places {
        Places::One(name) => vec![name],
        Places::Shares(shares) => shares.keys().collect(),
    });
    for region in places.filter(|region| !scenario.network.regions.contains(region)) {
        let accepted = suggest(region, scenario.network.regions.iter().map(String::as_str));
        let what = format!("there is no region {}; regions are: {accepted}", quote(region));
        problems.add(&format!("{path}.region"), what);
    }
    let roles: BTreeSet<Role> = group.roles.iter().copied().collect();
    if roles.len() < group.roles.len() {
        problems.add(&format!("{path}.roles"), "a role stands twice: each at most once".into());
    }
    if roles.contains(&Role::Coordinator) && roles.contains(&Role::Observer) {
        let what = "coordinator and observer exclude each other: one of them";
        problems.add(&format!("{path}.roles"), what.into());
    }
    if group.start_s.least() >= scenario.duration_s {
        let what = format!("no node starts before the end: below {}", scenario.duration_s);
        problems.add(&format!("{path}.start_s"), what);
    }
    if let Some(session) = &group.session
        && session.up_s.middle() + session.down_s.middle() < 1.0
    {
        let what =
            "the nodes would come and go all the time: at least 1 second for up_s and down_s";
        problems.add(&format!("{path}.session"), what.into());
    }
    behaviour(scenario, group, &format!("{path}.behaviour"), problems);
}

fn behaviour(scenario: &Scenario, group: &Group, path: &str, problems: &mut Problems<'_>) {
    let flashes = || scenario.faults.iter().any(|fault| fault.what == super::Trouble::Flash);
    let missing = match group.behaviour {
        Behaviour::WrongOutput | Behaviour::Overcharge | Behaviour::Stall => {
            (!group.roles.contains(&Role::Island)).then_some("the role island")
        }
        Behaviour::SlowReader => {
            let reads = scenario.workloads.iter().any(|workload| workload.from == group.name);
            (!reads).then_some("a workload from this group")
        }
        Behaviour::CovertFlash => (!flashes()).then_some("a fault of the kind flash"),
        _ => None,
    };
    if let Some(missing) = missing {
        problems.add(path, format!("{} is nothing without {missing}", word(group.behaviour)));
    }
}

/// What a model can't do.
fn model(scenario: &Scenario, problems: &mut Problems<'_>) {
    if scenario.fidelity != Fidelity::Model {
        return;
    }
    let mut refuse = |path: String, what: &str, accepted: &str| {
        problems.add(&path, format!("{what} at fidelity model: {accepted}"));
    };
    for at in 0..scenario.workloads.len() {
        refuse(format!("workloads[{at}]"), "there are no jobs", "none, or fidelity muxer or full");
    }
    for (key, is_set) in [
        ("epoch_s", scenario.policy.epoch_s.is_some()),
        ("consumer_credits", scenario.policy.consumer_credits.is_some()),
    ] {
        if is_set {
            refuse(format!("policy.{key}"), "there is no ledger", "leave it out");
        }
    }
    for (at, group) in scenario.groups.iter().enumerate() {
        if group.roles.iter().any(|role| *role != Role::Island) {
            refuse(format!("groups[{at}].roles"), "there is no ledger", "island, or none");
        }
        if group.skew_ms != Distribution::default() {
            refuse(format!("groups[{at}].skew_ms"), "there are no clocks", "leave it out");
        }
        let modelled = [Behaviour::Honest, Behaviour::Withhold, Behaviour::Sybil];
        if !modelled.contains(&group.behaviour) {
            let what = format!("there is no {}", word(group.behaviour));
            refuse(format!("groups[{at}].behaviour"), &what, "honest, withhold, sybil");
        }
    }
}

/// Whether each check can fail.
fn checks(scenario: &Scenario, problems: &mut Problems<'_>) {
    let checks = &scenario.checks;
    let has_islands = with_role(scenario, Role::Island).next().is_some();
    for (key, is_set, has, missing) in [
        (
            "success_min_percent",
            checks.success_min_percent.is_some(),
            !scenario.workloads.is_empty(),
            "workloads",
        ),
        (
            "lookup_success_min_percent",
            checks.lookup_success_min_percent.is_some(),
            !scenario.lookups.is_empty(),
            "lookups",
        ),
        (
            "delivery_min_percent",
            checks.delivery_min_percent.is_some(),
            has_islands,
            "groups with the role island",
        ),
    ] {
        if is_set && !has {
            problems.add(&format!("checks.{key}"), format!("there is nothing to check: {missing}"));
        }
    }
    let others = scenario.nodes().saturating_sub(1);
    if let Some(peers) = checks.mesh_peers_min.filter(|peers| *peers > others) {
        let what =
            format!("{peers} is not possible, there are {others} other nodes: 0 to {others}");
        problems.add("checks.mesh_peers_min", what);
    }
    if scenario.duration_s / checks.every_s > MAX_JOBS as f64 {
        let least = scenario.duration_s / MAX_JOBS as f64;
        let what = format!("{} is too often: at least {least}", checks.every_s);
        problems.add("checks.every_s", what);
    }
}
