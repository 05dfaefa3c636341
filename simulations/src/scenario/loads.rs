//! Whether what nodes do in a scenario can be done, and comes to an end.
//!
//! `check.rs` calls it after `rules.rs`, under the same terms. It opens no trace.

use super::{
    Distribution, Fidelity, Mix, Role, Scenario, Workload,
    cargos::{self, CARGOS, WORK},
    check::Problems,
    keys::{quote, suggest},
    rules::with_role,
    schema::MAX_DURATION_S,
};
use std::collections::BTreeMap;

/// Jobs of one workload, rows of a trace, lookups, checks.
pub const MAX_JOBS: u64 = 1_000_000;

pub(super) fn check(scenario: &Scenario, problems: &mut Problems<'_>) {
    for (at, workload) in scenario.workloads.iter().enumerate() {
        self::workload(scenario, workload, &format!("workloads[{at}]"), problems);
    }
    for (at, lookups) in scenario.lookups.iter().enumerate() {
        let path = format!("lookups[{at}]");
        known_group(scenario, &lookups.from, &format!("{path}.from"), problems);
        span(scenario, &path, lookups.start_s, lookups.stop_s, problems);
        let stop = lookups.stop_s.unwrap_or(scenario.duration_s);
        let path = format!("{path}.interarrival_s");
        rate(&lookups.interarrival_s, stop - lookups.start_s, None, &path, problems);
    }
}

fn known_group(scenario: &Scenario, name: &str, path: &str, problems: &mut Problems<'_>) -> bool {
    let known = scenario.group(name).is_some();
    if !known {
        let accepted = suggest(name, scenario.groups.iter().map(|group| group.name.as_str()));
        problems.add(path, format!("there is no group {}; groups are: {accepted}", quote(name)));
    }
    known
}

/// From when to when something happens.
fn span(
    scenario: &Scenario,
    path: &str,
    start: f64,
    stop: Option<f64>,
    problems: &mut Problems<'_>,
) {
    let end = scenario.duration_s;
    if start >= end {
        let what = format!("{start} is not before the end: below {end}");
        problems.add(&format!("{path}.start_s"), what);
    }
    if let Some(stop) = stop.filter(|stop| *stop <= start) {
        let what = format!("{stop} is not after the start: above {start}");
        problems.add(&format!("{path}.stop_s"), what);
    }
}

/// Whether something happens at a pace that comes to an end.
fn rate(
    between: &Distribution,
    for_s: f64,
    most: Option<u64>,
    path: &str,
    problems: &mut Problems<'_>,
) {
    let (middle, for_s) = (between.middle(), for_s.clamp(0.0, MAX_DURATION_S));
    if most.is_some_and(|most| most <= MAX_JOBS) || for_s / middle <= MAX_JOBS as f64 {
        return;
    }
    if middle > 0.0 {
        let least = for_s / MAX_JOBS as f64;
        let what = format!("gives more than {MAX_JOBS} in {for_s} s: about {least} or more");
        problems.add(path, what);
    } else if for_s > 0.0 {
        problems.add(path, "is 0 for ever, so that time never passes: above 0".into());
    }
}

fn workload(scenario: &Scenario, workload: &Workload, path: &str, problems: &mut Problems<'_>) {
    known_group(scenario, &workload.from, &format!("{path}.from"), problems);
    if scenario.fidelity != Fidelity::Model && with_role(scenario, Role::Island).next().is_none() {
        problems.add(path, "nobody runs jobs: a group with the role island".into());
    }
    span(scenario, path, workload.start_s, workload.stop_s, problems);
    match (&workload.interarrival_s, &workload.trace) {
        (Some(between), None) => {
            let for_s = workload.stop_s.unwrap_or(scenario.duration_s) - workload.start_s;
            let path = format!("{path}.interarrival_s");
            rate(between, for_s, workload.jobs, &path, problems);
        }
        (None, Some(trace)) => {
            if let Some(what) = super::trace::wrong_name(trace) {
                problems.add(&format!("{path}.trace"), format!("{} {what}", quote(trace)));
            }
        }
        (Some(_), Some(_)) => {
            problems
                .add(&format!("{path}.trace"), "stands beside interarrival_s: one of them".into());
        }
        (None, None) => {
            let what = "nothing says when jobs come: interarrival_s or trace";
            problems.add(path, what.into());
        }
    }
    let one;
    let shares: &BTreeMap<String, f64> = match &workload.cargo {
        Mix::One(name) => {
            one = BTreeMap::from([(name.clone(), 1.0)]);
            &one
        }
        Mix::Shares(shares) => shares,
    };
    for name in shares.keys().filter(|name| cargos::cargo(name).is_none()) {
        let accepted = suggest(name, CARGOS.iter().map(|cargo| cargo.name));
        let what = format!("there is no Cargo {}; Cargos are: {accepted}", quote(name));
        problems.add(&format!("{path}.cargo"), what);
    }
    if let Some(input) = &workload.input {
        let starters: Vec<&str> =
            shares.keys().map(String::as_str).filter(|n| *n != WORK).collect();
        self::input(input, &starters, workload.trace.is_some(), &format!("{path}.input"), problems);
    }
}

/// Whether an input fits its Cargo, as far as its keys say.
fn input(
    input: &toml::Table,
    starters: &[&str],
    traced: bool,
    path: &str,
    problems: &mut Problems<'_>,
) {
    let &[name] = starters else {
        // The rows of a trace may name the Cargo.
        if !(starters.is_empty() && traced) {
            let what = "is for exactly one starter Cargo, there are";
            let accepted =
                "leave it out, or name one in `cargo`; `work` takes work_ms, events, event_bytes";
            problems.add(path, format!("{what} {}: {accepted}", starters.len()));
        }
        return;
    };
    let Some(cargo) = cargos::cargo(name) else { return };
    for key in input.keys().filter(|key| !cargo.keys.contains(&key.as_str())) {
        let accepted = suggest(key, cargo.keys.iter().copied());
        let what = format!("{name} has no key {}; keys are: {accepted}", quote(key));
        problems.add(&format!("{path}.{key}"), what);
    }
    let fits = |needs: &&[&str]| needs.iter().all(|key| input.contains_key(*key));
    if !cargo.needs.iter().any(fits) {
        let needs: Vec<String> = cargo.needs.iter().map(|needs| needs.join(" and ")).collect();
        problems.add(path, format!("something is missing: {name} takes {}", needs.join(", or ")));
    }
}
