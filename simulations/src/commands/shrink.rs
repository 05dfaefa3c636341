//! Makes a scenario that breaks a rule as short as it can while the rule stays broken.

use archipelag_simulations::scenario::{Distribution, Network, Scenario};

/// A simpler scenario each: the boldest steps first.
pub(super) fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut other = scenario.clone();
        change(&mut other);
        if other != *scenario {
            found.push(other);
        }
    };
    with(&|s| s.faults.clear());
    for at in 0..scenario.faults.len() {
        with(&|s| drop(s.faults.remove(at)));
    }
    if scenario.workloads.len() > 1 {
        for at in 0..scenario.workloads.len() {
            with(&|s| drop(s.workloads.remove(at)));
        }
    }
    for at in 0..scenario.groups.len() {
        let unused = {
            let name = &scenario.groups[at].name;
            !scenario.workloads.iter().any(|w| w.from == *name)
        };
        if unused && scenario.groups[at].roles.is_empty() {
            with(&|s| remove_group(s, at));
        }
        with(&|s| s.groups[at].session = None);
        with(&|s| s.groups[at].speed = Distribution::Constant(1.0));
        with(&|s| s.groups[at].start_s = Distribution::Constant(0.0));
        for count in [1, scenario.groups[at].count / 2, scenario.groups[at].count - 1] {
            with(&|s| resize(s, at, count));
        }
    }
    with(&|s| {
        s.network = Network { latency_ms: s.network.latency_ms.clone(), ..Network::default() }
    });
    with(&|s| s.network.jitter_percent = 0);
    with(&|s| s.network.loss_percent = 0.0);
    with(&|s| s.fidelity = archipelag_simulations::scenario::Fidelity::Muxer);
    for at in 0..scenario.workloads.len() {
        for jobs in [1, 3, 10, 30] {
            if scenario.workloads[at].jobs.is_none_or(|now| now > jobs) {
                with(&|s| s.workloads[at].jobs = Some(jobs));
            }
        }
        with(&|s| s.workloads[at].events = Distribution::Constant(1.0));
        with(&|s| s.workloads[at].event_bytes = Distribution::Constant(10.0));
        with(&|s| s.workloads[at].work_ms = Distribution::Constant(1000.0));
    }
    for part in [0.5, 0.75, 0.9] {
        with(&|s| shorten(s, part));
    }
    found
}

fn remove_group(scenario: &mut Scenario, at: usize) {
    let name = scenario.groups.remove(at).name;
    scenario.faults.retain(|fault| !fault.what.targets().iter().any(|t| t.group == name));
}

/// Fewer nodes; a ledger of four stays one of four or becomes one of one.
fn resize(scenario: &mut Scenario, at: usize, count: usize) {
    let group = &mut scenario.groups[at];
    let seats = group.roles.contains(&archipelag_simulations::scenario::Role::Coordinator);
    if count == 0 || count >= group.count || seats && count != 1 {
        return;
    }
    group.count = count;
    let name = group.name.clone();
    for fault in &mut scenario.faults {
        for target in fault.what.targets_mut() {
            if target.group == name {
                target.count = target.count.map(|of| of.min(count));
            }
        }
    }
}

fn shorten(scenario: &mut Scenario, part: f64) {
    let duration_s = (scenario.duration_s * part).round();
    if duration_s < 10.0 || scenario.faults.iter().any(|fault| fault.at_s >= duration_s) {
        return;
    }
    scenario.duration_s = duration_s;
}
