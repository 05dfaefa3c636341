//! Pictures of made-up runs: plausible ones, and those that break careless arithmetic.

use super::*;
use crate::output::stats::{Distribution, Interval};

/// A repeatable number from 0 to 1 (the finaliser of SplitMix64).
fn noise(number: u32) -> f64 {
    let mut bits = (u64::from(number) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// About normal, with mean 0 and deviation 1.
fn normal(number: u32) -> f64 {
    (0..12).map(|part| noise(number * 12 + part)).sum::<f64>() - 6.0
}

fn curve(name: &str, count: u32, middle_ms: f64, spread: f64) -> Curve {
    let latencies_ms = (0..count).map(|n| middle_ms * (spread * normal(n)).exp()).collect();
    Curve { name: name.to_owned(), latencies_ms }
}

fn jobs(count: u32) -> Vec<JobPoint> {
    let job = |n: u32| {
        let submitted_s = 3600.0 * f64::from(n) / f64::from(count);
        let trouble = (1500.0..2100.0).contains(&submitted_s);
        let completed = noise(n + 7) > if trouble { 0.45 } else { 0.02 };
        let slow = if trouble { 2.5 } else { 1.0 };
        let latency_s = slow * 4.0 * (0.6 * normal(n)).exp();
        let latency_s = (completed || noise(n) > 0.5).then_some(latency_s);
        JobPoint { submitted_s, latency_s, completed }
    };
    (0..count).map(job).collect()
}

fn faults() -> Vec<FaultSpan> {
    let fault = |kind: &str, time_s, until_s| FaultSpan { kind: kind.to_owned(), time_s, until_s };
    vec![
        fault("crash", 600.0, None),
        fault("partition", 1500.0, Some(2100.0)),
        fault("loss 20 %", 1560.0, Some(1700.0)),
        fault("crash", 2700.0, Some(2760.0)),
    ]
}

fn sweep_lines(seeds: usize) -> Vec<SweepLine> {
    let line = |name: &str, slope: f64| SweepLine {
        name: name.to_owned(),
        points: [4.0, 8.0, 16.0, 32.0, 64.0]
            .iter()
            .map(|&nodes| {
                let mean = 20.0 + slope * nodes;
                (nodes, Interval { mean, low: mean * 0.9, high: mean * 1.12, count: seeds })
            })
            .collect(),
    };
    vec![line("loss 0 %", 1.0), line("loss 5 %", 1.7), line("loss 10 %", 3.1)]
}

/// One of each plot.
fn pictures() -> Vec<(&'static str, Picture)> {
    let traffic_of = |count: u32| -> Vec<NodeTraffic> {
        (0..count)
            .map(|n| NodeTraffic {
                name: format!("node {n}"),
                sent_bytes: 4e6 * (0.8 * normal(n)).exp(),
                received_bytes: 4e6 * (0.8 * normal(n) + 0.3 * normal(n + 999)).exp(),
            })
            .collect()
    };
    let degree = |n: u32| DegreePoint {
        time_s: f64::from(n) * 10.0,
        min: if (150..180).contains(&n) { 0.0 } else { 3.0 + (noise(n) * 2.0).floor() },
        median: if (150..190).contains(&n) { 5.0 } else { 8.0 },
        max: 11.0 + (noise(n + 5) * 2.0).floor(),
    };
    let degrees: Vec<DegreePoint> = (0..360).map(degree).collect();
    let curves = [
        curve("advert", 40_000, 180.0, 0.35),
        curve("transaction", 9000, 95.0, 0.5),
        curve("probe", 500, 60.0, 0.9),
    ];
    let earned: Distribution = (0..120).map(|n| 4e6 * (1.1 * normal(n)).exp()).collect();
    let load: Distribution = (0..120).map(|n| (9.0 * (0.7 * normal(n)).exp()).floor()).collect();
    let names = SweepAxis::Names(vec!["broker".to_owned(), "gossip".to_owned(), "dht".to_owned()]);
    let by_name = [SweepLine {
        name: String::new(),
        points: (0..3)
            .map(|n| {
                let mean = 0.9 - 0.1 * f64::from(n);
                (f64::from(n), Interval { mean, low: mean - 0.04, high: mean + 0.04, count: 5 })
            })
            .collect(),
    }];
    vec![
        ("latency", latency_cdf("Gossip delivery latency", "publication", "delivered", &curves)),
        ("jobs", job_latency("Jobs over time", &jobs(2400), &faults())),
        ("load", inequality("Jobs per Island", "Islands", "jobs run", Unit::Count, &load)),
        ("earnings", inequality("Earnings", "Islands", "earned", Unit::Microcredits, &earned)),
        ("traffic", traffic("Traffic per node", &traffic_of(150))),
        ("traffic_few", traffic("Traffic per node", &traffic_of(8))),
        ("mesh", mesh_degree("Gossip mesh over time", &degrees)),
        (
            "sweep",
            sweep(
                "Latency by network size",
                "nodes",
                "p99 of delivery latency",
                Unit::Milliseconds,
                &SweepAxis::Numbers,
                &sweep_lines(5),
            ),
        ),
        (
            "sweep_names",
            sweep("Success by discovery", "discovery", "success", Unit::Share, &names, &by_name),
        ),
    ]
    .into_iter()
    .map(|(name, picture)| (name, picture.unwrap()))
    .collect()
}

#[test]
fn the_same_numbers_give_the_same_picture_in_both_formats() {
    for ((name, one), (_, other)) in pictures().into_iter().zip(pictures()) {
        assert_eq!(one, other, "{name}");
        let png = one.png().unwrap();
        assert!(png == other.png().unwrap(), "{name}");
        assert!(png.starts_with(b"\x89PNG"));
        // To look at them.
        if let Some(dir) = std::env::var_os("ARCHIPELAG_TEST_PLOTS") {
            one.save(Path::new(&dir), name).unwrap();
        }
        assert!(one.svg().len() < 1 << 20, "{name} has {} bytes", one.svg().len());
        assert!(one.svg().contains(", sans-serif\""));
    }
}

/// Every plot of the same values, whatever these are.
fn pictures_of(values: &[f64]) -> Vec<Picture> {
    let distribution: Distribution = values.iter().copied().collect();
    let curve = Curve { name: "x".to_owned(), latencies_ms: distribution.clone() };
    let job = |&value: &f64| JobPoint {
        submitted_s: value,
        latency_s: Some(value),
        completed: value > 1.0,
    };
    let fault =
        |&value: &f64| FaultSpan { kind: "x".to_owned(), time_s: value, until_s: Some(value) };
    let node = |&value: &f64| NodeTraffic {
        name: "x".to_owned(),
        sent_bytes: value,
        received_bytes: value,
    };
    let degree =
        |&value: &f64| DegreePoint { time_s: value, min: value, median: value, max: value };
    let point = |&value: &f64| {
        (value, Interval { mean: value, low: value - 1.0, high: f64::INFINITY, count: 1 })
    };
    let line = SweepLine { name: "x".to_owned(), points: values.iter().map(point).collect() };
    let jobs: Vec<_> = values.iter().map(job).collect();
    let faults: Vec<_> = values.iter().map(fault).collect();
    let units = [Unit::Count, Unit::Bytes, Unit::Seconds, Unit::Microcredits, Unit::Plain];
    let mut pictures: Vec<_> = units
        .into_iter()
        .map(|unit| inequality("t", "who", "what", unit, &distribution).unwrap())
        .collect();
    pictures.extend([
        latency_cdf("t", "s", "d", &[curve]).unwrap(),
        job_latency("t", &jobs, &faults).unwrap(),
        traffic("t", &values.iter().map(node).collect::<Vec<_>>()).unwrap(),
        mesh_degree("t", &values.iter().map(degree).collect::<Vec<_>>()).unwrap(),
        sweep("t", "p", "f", Unit::Share, &SweepAxis::Numbers, std::slice::from_ref(&line))
            .unwrap(),
        sweep("t", "p", "f", Unit::Plain, &SweepAxis::Names(Vec::new()), &[line]).unwrap(),
    ]);
    pictures
}

#[test]
fn no_numbers_give_a_picture_that_says_so() {
    for values in [&[][..], &[f64::NAN], &[f64::INFINITY, f64::NEG_INFINITY]] {
        for picture in pictures_of(values) {
            assert!(picture.svg().contains("no data"), "{values:?}");
        }
    }
}

#[test]
fn strange_numbers_give_a_picture() {
    let many: Vec<f64> = (0..20_000).map(f64::from).collect();
    for values in [
        &[0.0][..],
        &[7.0],
        &[-3.0],
        &[f64::MAX],
        &[f64::MAX, f64::MIN],
        &[1e300, f64::NAN, 1.0],
        &[f64::MIN_POSITIVE, 0.0],
        &[1e-300, 1e300],
        &[5.0; 30],
        &[-1.0, -2.0, 8.0],
        &many,
    ] {
        for picture in pictures_of(values) {
            assert!(!picture.svg().contains("no data"), "{values:?}");
            assert!(!picture.svg().contains("NaN"));
        }
    }
}

#[test]
fn hostile_names_stay_text() {
    let name = "</text><script>alert(1)</script>\u{0}\u{1b}[31m\u{202e}\"'&\n".repeat(9);
    let curves = [Curve { name: name.clone(), latencies_ms: [1.0, 2.0].into_iter().collect() }];
    let picture = latency_cdf(&name, &name, &name, &curves).unwrap();
    assert!(!picture.svg().contains("<script"));
    assert!(!picture.svg().contains(['\u{0}', '\u{1b}', '\u{202e}']));
    picture.png().unwrap();
}
