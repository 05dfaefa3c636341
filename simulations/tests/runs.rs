//! Whole runs, through the program: each in a process of its own.

use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name)
}

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_archipelag-sim")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a scenario in which all rules must hold; gives its summary.
fn summary(arguments: &[&str]) -> Value {
    let ran = sim(arguments);
    assert!(ran.status.success(), "{arguments:?}: {}{}", text(&ran.stderr), text(&ran.stdout));
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// A hundred whole nodes, Noise and Yamux included; some crash and some are cut off.
#[test]
fn one_seed_gives_one_run_of_a_hundred_nodes() {
    let file = scenario("hundred.toml");
    let checked = sim(&["check", file.to_str().unwrap(), "--seed", "3", "--until", "14"]);
    assert!(checked.status.success(), "{}{}", text(&checked.stdout), text(&checked.stderr));
}

#[test]
fn one_seed_gives_one_run_and_two_seeds_two() {
    let file = scenario("failover.toml");
    let file = file.to_str().unwrap();
    let hash = |seed: &str| summary(&["run", file, "--seed", seed])["trace_hash"].clone();
    let one = hash("1");
    assert_eq!(one, hash("1"));
    assert_ne!(one, hash("2"));
    // Nor does it matter what is kept of it.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let kept = ["run", file, "--seed", "1", "--trace", "--no-report", "--out"];
    assert_eq!(one, summary(&[&kept[..], &[out.to_str().unwrap()]].concat())["trace_hash"]);
}

#[test]
fn nothing_asks_the_system_for_time_entropy_or_threads() {
    let file = scenario("failover.toml");
    summary(&["run", file.to_str().unwrap(), "--strict", "--until", "20"]);
}

#[test]
fn an_island_that_crashes_costs_an_attempt_and_no_job() {
    let summary = summary(&["run", scenario("failover.toml").to_str().unwrap(), "--seed", "1"]);
    let figure = |name: &str| summary["figures"][name].as_f64().unwrap();
    assert_eq!(figure("jobs_completed"), figure("jobs"));
    assert!(figure("jobs_retried") >= 1.0);
    assert_eq!(figure("restarts"), 1.0);
}

#[test]
fn two_runs_are_compared_to_the_first_difference() {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario("failover.toml");
    let runs = ["1", "2"].map(|seed| {
        let out = folder.path().join(seed);
        let kept = ["run", file.to_str().unwrap(), "--trace", "--no-report", "--until", "5"];
        summary(&[&kept[..], &["--seed", seed, "--out", out.to_str().unwrap()]].concat());
        out
    });
    let [one, two] = runs.each_ref().map(|run| run.to_str().unwrap());
    let same = sim(&["diff", one, one]);
    assert!(same.status.success());
    let different = sim(&["diff", one, two]);
    assert_eq!(different.status.code(), Some(1));
    assert!(text(&different.stdout).contains("are the same, the last of them"));
}

#[test]
fn a_scenario_that_is_not_possible_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "name = \"x\"\nduration_s = -1\ngroups = []\n").unwrap();
    let refused = sim(&["run", file.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("line 2: duration_s"), "{}", text(&refused.stderr));
}

/// Each was found by search or by a look at a run, and holds since the node was mended.
#[test]
fn what_was_found_stays_mended() {
    let folder = scenario("found");
    let mut found = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        summary(&["run", file.to_str().unwrap()]);
        found += 1;
    }
    assert!(found > 0);
}
