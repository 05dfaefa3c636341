//! Runs as they are found on disk: finished, killed, empty, hostile.

use super::*;
use crate::output::{
    Tables,
    rows::{Delivery, Fault, Ledger, Lookup, Message, Sample, Violation},
};

/// A repeatable number from 0 to 1 (the finaliser of SplitMix64).
fn noise(number: u64) -> f64 {
    let mut bits = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn job(number: u64) -> Job {
    let submitted_s = number as f64 * 2.0;
    let verdict = if noise(number) < 0.07 { "failed" } else { "completed" };
    let latency_s = 2.0 + 30.0 * noise(number + 9).powi(4);
    Job {
        job: format!("job-{number}"),
        consumer: 100 + number % 5,
        cargo: if number.is_multiple_of(3) { "echo" } else { "sort" }.to_owned(),
        submitted_s,
        started_s: Some(submitted_s + 0.4),
        first_event_s: Some(submitted_s + 0.5),
        ended_s: Some(submitted_s + latency_s),
        verdict: verdict.to_owned(),
        attempts: 1,
        island: Some(number % 60),
        events: 3,
        price_microcredits: 100_000,
        reason: if verdict == "failed" { "<b>out of fuel</b>" } else { "" }.to_owned(),
    }
}

fn fill(tables: &mut Tables) {
    for number in 0..900 {
        tables.push(&job(number)).unwrap();
        let time_s = number as f64 * 2.0;
        let message = format!("message-{number}");
        let kind = if number.is_multiple_of(4) { "transaction" } else { "advert" }.to_owned();
        let sent = Message { message: message.clone(), kind, node: 1, time_s, size_bytes: 200 };
        tables.push(&sent).unwrap();
        for node in 0..20 {
            let latency_ms = 20.0 + 400.0 * noise(number * 20 + node).powi(3);
            let delivery =
                Delivery { message: message.clone(), node, time_s, latency_ms, from: Some(node) };
            tables.push(&delivery).unwrap();
        }
        let found = noise(number + 77) > 0.1;
        let kind = "record".to_owned();
        let latency_ms = 30.0 + 900.0 * noise(number);
        tables
            .push(&Lookup { time_s, node: 1, kind, found, latency_ms, ..Lookup::default() })
            .unwrap();
    }
    for step in 0..180u64 {
        for node in 0..20 {
            let mesh_peers = 5 + step.wrapping_mul(node) % 5;
            let sample =
                Sample { time_s: step as f64 * 10.0, node, mesh_peers, ..Sample::default() };
            tables.push(&sample).unwrap();
        }
    }
    for (kind, time_s, until_s) in
        [("crash", 300.0, None), ("partition", 900.0, Some(1100.0)), ("loss", 1500.0, Some(1530.0))]
    {
        let target = "islands".to_owned();
        tables.push(&Fault { time_s, kind: kind.to_owned(), target, until_s }).unwrap();
    }
    tables
        .push(&Ledger {
            time_s: 9.0,
            height: 7,
            supply_microcredits: 5_000_000,
            ..Ledger::default()
        })
        .unwrap();
}

fn push_nodes(tables: &mut Tables) {
    for node in 0..64u64 {
        let role = if node < 60 { "island" } else { "consumer" }.to_owned();
        let jobs_run = if node < 60 { 30 * node / 60 } else { 0 };
        let sent_bytes = 1_000_000 + 90_000 * node;
        let node = Node {
            node,
            group: format!("{role}s"),
            role,
            sent_bytes,
            received_bytes: sent_bytes / 2,
            jobs_run,
            earned_microcredits: jobs_run * 100_000,
            ..Node::default()
        };
        tables.push(&node).unwrap();
    }
}

#[test]
fn a_finished_run_becomes_plots_and_a_report() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let mut tables = Tables::create(dir).unwrap();
    fill(&mut tables);
    push_nodes(&mut tables);
    tables.finish().unwrap();
    let collected = Collected::read(dir).unwrap();
    let summary = Summary {
        scenario: "partition <of> islands".to_owned(),
        seed: 42,
        versions: [("archipelag-sim".to_owned(), "0.1.0".to_owned())].into(),
        trace_hash: "c0ffee".repeat(10),
        figures: figures(&collected),
        ..Summary::default()
    };
    summary.write(dir).unwrap();
    fs::write(dir.join("scenario.toml"), "[network]\nloss = 0.1 # \"<5 %>\"\n").unwrap();

    let page = fs::read_to_string(plot_run(dir).unwrap()).unwrap();
    assert!(page.contains("No violations.") && page.contains("partition &lt;of&gt; islands"));
    assert!(page.contains("<pre>[network]\nloss = 0.1 # &quot;&lt;5 %&gt;&quot;\n</pre>"));
    assert!(page.contains("&lt;b&gt;out of fuel&lt;/b&gt;") && !page.contains("<b>"));
    assert_eq!(page.matches("<svg").count(), 7);
    assert!(!page.contains("no data") && !page.contains("interrupted"));
    for file in ["jobs.png", "jobs.svg", "traffic.png", "lookups.svg"] {
        assert!(fs::metadata(dir.join("plots").join(file)).unwrap().len() > 1000);
    }
    assert_eq!(summary.figures["jobs"], 900.0);
    assert_eq!(summary.figures["deliveries"], 18_000.0);
    assert_eq!(summary.figures["deliveries_per_message"], 20.0);
    assert!((0.88..0.96).contains(&summary.figures["jobs_completed_share"]));
    assert_eq!(fs::read_to_string(plot_run(dir).unwrap()).unwrap(), page);
}

#[test]
fn a_killed_run_becomes_a_report_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = Tables::create(dir.path()).unwrap();
    fill(&mut tables);
    let violation = Violation {
        time_s: 12.5,
        oracle: "supply".to_owned(),
        node: Some(3),
        what: "5 < 6".to_owned(),
    };
    tables.push(&violation).unwrap();
    tables.flush().unwrap();
    std::mem::forget(tables);
    let page = fs::read_to_string(plot_run(dir.path()).unwrap()).unwrap();
    assert!(page.contains("One violation. The run was interrupted: its tables end at"));
    assert!(page.contains("<li>12.5 s supply, node 3: 5 &lt; 6</li>"));
    assert!(page.contains("no data"), "there are no nodes yet");
}

#[test]
fn an_empty_run_becomes_a_report_and_no_run_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(plot_run(dir.path()), Err(Error::NotARun { .. })));
    Tables::create(dir.path()).unwrap().finish().unwrap();
    let page = fs::read_to_string(plot_run(dir.path()).unwrap()).unwrap();
    assert_eq!(page.matches(">\nno data\n<").count(), 7);
}
