//! The schema against the structs, the round trip, and files that mean harm. What is refused, and
//! how, is in `refusals.rs`.

mod refusals;

use super::{
    help::EXAMPLE,
    keys::{Key, Kind, Need},
    schema::{FAULT, KIND_KEYS, KINDS, SCENARIO, TARGET},
    *,
};
use crate::network::Nat;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

fn distributions() -> Vec<Distribution> {
    [
        Named::Uniform([0.1, 2.0]),
        Named::Exponential(60.0),
        Named::Normal([5.0, 1e-3]),
        Named::LogNormal([1.0, 0.5]),
        Named::Pareto([0.3, 1.06]),
        Named::Weibull([59.0, 0.59]),
        Named::Choice(vec![1.0, 1.0 / 3.0]),
    ]
    .map(Distribution::Named)
    .to_vec()
}

fn troubles() -> Vec<Trouble> {
    let some = |count| Target { group: "islands".into(), count, fraction: None };
    let part = Target { group: "seats".into(), count: None, fraction: Some(0.5) };
    let nodes = some(Some(2));
    vec![
        Trouble::Crash { nodes: nodes.clone() },
        Trouble::Power { nodes: Target { group: ALL.into(), count: None, fraction: None } },
        Trouble::Restart { nodes: nodes.clone(), apart_s: 3.5 },
        Trouble::Partition { nodes: nodes.clone(), from: Some(part), one_way: true },
        Trouble::Flap { nodes: nodes.clone(), period_s: 7.0 },
        Trouble::Loss { percent: 5.0 },
        Trouble::Slow { nodes: nodes.clone(), factor: 20.0 },
        Trouble::Clock { nodes: nodes.clone(), jump_ms: -1500.0 },
        Trouble::Disk { nodes },
        Trouble::Flash,
    ]
}

fn group(name: &str) -> Group {
    let [uniform, exponential, _, log_normal, pareto, weibull, choice] =
        distributions().try_into().unwrap();
    Group {
        name: name.into(),
        count: 4,
        roles: vec![Role::Coordinator, Role::Island],
        region: Some(Places::Shares(BTreeMap::from([("eu.west".into(), 2.5), ("us".into(), 1.0)]))),
        up_mbit: uniform,
        down_mbit: log_normal,
        nat: Nat::None,
        skew_ms: Distribution::Constant(-20.0),
        start_s: choice,
        session: Some(Session { up_s: weibull, down_s: exponential, abrupt: true }),
        bootstrap: 3,
        listens: true,
        jobs_at_a_time: 7,
        speed: pareto,
        price_percent: Distribution::Constant(90.0),
        step_us: 12.5,
        behaviour: Behaviour::CovertFlash,
    }
}

/// A scenario that says everything; a key that is new has to be added here before this compiles.
fn full() -> Scenario {
    let input = toml::Table::from_iter([("text".to_owned(), toml::Value::from("a \"b\"\n\u{7f}"))]);
    let workload = |between: Option<f64>, trace: Option<&str>| Workload {
        from: "islands".into(),
        cargo: Mix::Shares(BTreeMap::from([("work".into(), 1.0), ("text-stats".into(), 0.1)])),
        input: Some(input.clone()),
        interarrival_s: between.map(|mean| Distribution::Named(Named::Exponential(mean))),
        trace: trace.map(Into::into),
        start_s: 1.0,
        stop_s: Some(500.0),
        jobs: Some(10),
        work_ms: Distribution::Named(Named::Normal([5.0, 1e-3])),
        events: Distribution::Constant(3.0),
        event_bytes: Distribution::Constant(40.0),
        bid_percent: Some(120),
        wait_s: Some(30),
    };
    let faults = troubles().into_iter();
    Scenario {
        name: "everything".into(),
        description: "Two lines,\n'one' \"of\" them quoted.".into(),
        seed: Some(7),
        duration_s: 600.0,
        fidelity: Fidelity::Full,
        network: Network {
            regions: vec!["eu.west".into(), "us".into()],
            latency_ms: vec![vec![1.5, 40.0], vec![41.0, 2.0]],
            spread_percent: 20,
            jitter_percent: 5,
            loss_percent: 0.01,
            slow_start: false,
            give_up_s: 30.0,
        },
        policy: Policy {
            advert_interval_s: Some(2.5),
            epoch_s: Some(60.0),
            consumer_credits: Some(500),
        },
        groups: vec![group("seats"), group("islands")],
        workloads: vec![workload(Some(2.0), None), workload(None, Some("a/jobs.csv"))],
        lookups: vec![Lookups {
            from: "seats".into(),
            interarrival_s: Distribution::Constant(2.0),
            start_s: 4.0,
            stop_s: Some(90.0),
        }],
        faults: faults.map(|what| Fault { at_s: 100.0, for_s: Some(20.0), what }).collect(),
        checks: Checks {
            every_s: 2.0,
            job_deadline_s: 300.0,
            reconverge_s: 45.0,
            mesh_peers_min: Some(2),
            sent_kbit_max: Some(64.5),
            success_min_percent: Some(99.5),
            lookup_success_min_percent: Some(90.0),
            delivery_min_percent: Some(95.0),
            tasks_max: 5_000,
        },
        observe: Observe { sample_s: 1.0, adverts_of: 3 },
    }
}

fn names<'a>(keys: impl IntoIterator<Item = &'a Key>) -> BTreeSet<&'a str> {
    keys.into_iter().map(|key| key.name).collect()
}

fn of(object: &Map<String, Value>) -> BTreeSet<&str> {
    object.keys().map(String::as_str).collect()
}

/// The schema names what the structs have, no more and no less.
fn alike(object: &Map<String, Value>, keys: &[Key]) {
    assert_eq!(names(keys), of(object));
    for key in keys {
        match (key.kind, &object[key.name]) {
            (Kind::Table(inner), Value::Object(object)) => alike(object, inner),
            (Kind::Tables { keys, .. }, Value::Array(tables)) => {
                assert!(!tables.is_empty(), "{}", key.name);
                tables.iter().for_each(|table| alike(table.as_object().unwrap(), keys));
            }
            _ => {}
        }
    }
}

#[test]
fn the_schema_has_every_key_of_the_structs_and_no_other() {
    let Value::Object(all) = serde_json::to_value(full()).unwrap() else { panic!() };
    alike(&all, SCENARIO);
    let faults = all["faults"].as_array().unwrap();
    assert_eq!(faults.len(), KINDS.len());
    assert_eq!(faults.len(), KIND_KEYS.len());
    for ((fault, word), keys) in faults.iter().zip(KINDS).zip(KIND_KEYS) {
        let fault = fault.as_object().unwrap();
        assert_eq!(fault["kind"], word.name);
        assert_eq!(names(FAULT.iter().chain(*keys)), of(fault));
        for target in ["nodes", "from"].iter().filter_map(|key| fault.get(*key)) {
            assert_eq!(names(TARGET), of(target.as_object().unwrap()));
        }
    }
}

/// Words that serde knows: it lists them when it meets another.
fn known_to_serde<T: serde::de::DeserializeOwned + std::fmt::Debug>() -> BTreeSet<String> {
    let error = serde_json::from_str::<T>("\"?\"").unwrap_err().to_string();
    let quoted = error.split('`').skip(3).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn the_schema_has_every_word_of_the_enums_and_no_other() {
    let words = |words: &[keys::Word]| words.iter().map(|word| word.name.to_owned()).collect();
    assert_eq!(known_to_serde::<Fidelity>(), words(schema::FIDELITIES));
    assert_eq!(known_to_serde::<Role>(), words(schema::ROLES));
    assert_eq!(known_to_serde::<Nat>(), words(schema::NATS));
    assert_eq!(known_to_serde::<Behaviour>(), words(schema::BEHAVIOURS));
    let named: BTreeSet<String> =
        schema::DISTRIBUTIONS.iter().map(|(name, _, _)| (*name).to_owned()).collect();
    assert_eq!(known_to_serde::<Named>(), named);
    assert_eq!(distributions().len(), named.len());
}

#[test]
fn defaults_are_what_the_schema_says() {
    let group = "[[groups]]\nname = \"g\"\ncount = 1\nroles = [\"coordinator\"]\n";
    let text = &format!("name = \"a\"\nduration_s = 1\n{group}");
    let scenario = Scenario::parse(text).unwrap();
    let Value::Object(all) = serde_json::to_value(scenario).unwrap() else { panic!() };
    let mut compared = 0;
    let mut compare = |object: &Map<String, Value>, keys: &[Key]| {
        for key in keys.iter().filter(|key| key.name != "roles") {
            match key.need {
                Need::Default(value) => {
                    let value: toml::Table = toml::from_str(&format!("v = {value}")).unwrap();
                    let value = serde_json::to_value(&value["v"]).unwrap();
                    assert_eq!(value, object[key.name], "{}", key.name);
                    compared += 1;
                }
                Need::Optional(_) if !matches!(key.kind, Kind::Table(_)) => {
                    assert!(object[key.name].is_null(), "{}", key.name);
                }
                _ => {}
            }
        }
    };
    compare(&all, SCENARIO);
    for key in SCENARIO {
        match (key.kind, &all[key.name]) {
            (Kind::Table(keys), Value::Object(object)) => compare(object, keys),
            (Kind::Tables { keys, .. }, Value::Array(tables)) => {
                tables.iter().for_each(|table| compare(table.as_object().unwrap(), keys));
            }
            _ => {}
        }
    }
    assert!(compared > 25, "{compared}");
}

#[test]
fn help_names_every_key_and_its_example_is_a_scenario() {
    fn paths(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| paths(value, prefix, found)),
            Value::Object(object) => {
                for (key, value) in object {
                    let path = format!("{prefix}{key}");
                    // Names of regions, Cargos, distributions and inputs are no keys of the schema.
                    let random = |key: &str| {
                        distributions()
                            .iter()
                            .any(|d| serde_json::to_value(d).unwrap().get(key).is_some())
                    };
                    if ["region", "cargo", "input"].contains(&key.as_str()) {
                        found.insert(path);
                    } else if !random(key) {
                        paths(value, &format!("{path}."), found);
                        found.insert(path.replace(".from.", ".nodes."));
                    }
                }
            }
            _ => {}
        }
    }
    let mut keys = BTreeSet::new();
    paths(&serde_json::to_value(full()).unwrap(), "", &mut keys);
    assert!(keys.len() > 80, "{keys:?}");
    for key in keys {
        assert!(help().contains(&format!(" {key}: ")), "{key} is not in the help");
    }
    for word in schema::BEHAVIOURS.iter().chain(KINDS).chain(schema::FIDELITIES) {
        assert!(help().contains(&format!("\"{}\"", word.name)), "{}", word.name);
    }
    let long: Vec<&str> = help().lines().filter(|line| line.chars().count() > 100).collect();
    assert!(long.is_empty(), "{long:#?}");
    let example = Scenario::parse(EXAMPLE).unwrap();
    assert_eq!(example.nodes(), 24);
    assert!(EXAMPLE.lines().all(|line| help().contains(line)));
}

#[test]
fn what_is_written_is_what_is_read() {
    let full = full();
    let text = full.to_toml();
    let again: Scenario = toml::from_str(&text).unwrap();
    assert_eq!(again, full, "{text}");
    assert_eq!(again.to_toml(), text);
    // A fault that is as short as it can be, and a constant of each odd kind.
    let mut example = Scenario::parse(EXAMPLE).unwrap();
    for odd in [0.1 + 0.2, 1e-300, 5e5, f64::from(u32::MAX), 123_456_789.123_456_79] {
        example.groups[1].speed = Distribution::Constant(odd);
        example.faults[0].for_s = None;
        let again: Scenario = toml::from_str(&example.to_toml()).unwrap();
        assert_eq!(again, example);
    }
    Scenario::parse(EXAMPLE).unwrap().check().unwrap();
}

#[test]
fn a_number_that_toml_does_not_hold_is_cut() {
    let mut scenario = Scenario::parse(EXAMPLE).unwrap();
    scenario.workloads[0].jobs = Some(u64::MAX);
    assert!(scenario.to_toml().contains("jobs = 9223372036854775807\n"));
    assert!(scenario.check().is_err());
}

/// As in Knuth's MMIX.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap()
}

#[test]
fn no_text_makes_it_panic() {
    let sources = [EXAMPLE.to_owned(), full().to_toml()];
    let bits = [
        "-",
        "1e999",
        "99999999999999999999",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\n",
        "=",
        ".",
        "nan",
        "true",
        "[[groups]]",
        "é",
        "\0",
        "1979-05-27",
        "0x7fffffffffffffff",
        "9223372036854775807",
    ];
    let mut state = 7;
    let mut parsed = 0;
    for round in 0..3_000 {
        let mut text: Vec<char> = sources[round % 2].chars().collect();
        for _ in 0..=next(&mut state) % 3 {
            let at = next(&mut state) % text.len();
            match next(&mut state) % 3 {
                0 => drop(text.remove(at)),
                1 => drop(text.splice(at..at, bits[next(&mut state) % bits.len()].chars())),
                _ => {
                    let to = (at + next(&mut state) % 40).min(text.len());
                    drop(text.splice(at..to, bits[next(&mut state) % bits.len()].chars()));
                }
            }
        }
        let text: String = text.into_iter().collect();
        match Scenario::parse(&text) {
            Ok(scenario) => {
                parsed += 1;
                assert_eq!(Scenario::parse(&scenario.to_toml()).unwrap(), scenario, "{text}");
            }
            Err(error) => assert!(error.to_string().len() < 100_000),
        }
    }
    assert!(parsed > 50, "{parsed}");
}

#[test]
fn what_is_large_or_deep_is_refused_at_once() {
    let deep =
        |open: &str, close: &str| format!("a = {}1{}", open.repeat(100_000), close.repeat(100_000));
    let dotted = format!("{} = 1", vec!["a"; 200_000].join("."));
    let many = "[[groups]]\n".repeat(90_000);
    let keys: String = (0..90_000).map(|key| format!("k{key} = 1\n")).collect();
    let wide = format!("{EXAMPLE}\n[observe]\nsample_s = [{}]", "[[1],[2]],".repeat(90_000));
    let long = format!("name = \"{}\"", "x".repeat(1_000_000));
    for text in [deep("[", "]"), deep("{a=", "}"), dotted, many, keys, wide, long] {
        assert!(text.len() <= 1 << 20, "{}", text.len());
        let error = Scenario::parse(&text).unwrap_err().to_string();
        assert!(error.len() < 20_000, "{}", error.len());
    }
    let error = Scenario::parse(&" ".repeat((1 << 20) + 1)).unwrap_err();
    assert_eq!(error.to_string(), "1048577 bytes are too long for a scenario: up to 1048576");
}
