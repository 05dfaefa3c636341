//! Three whole nodes on one thread, with transport and stores in memory.

use archipelag_protocol::amount::Credits;
use archipelag_simulations::scenario::{Crash, Jobs, Scenario};
use serde_json::json;

fn streaming(from: usize, count: u32) -> Jobs {
    Jobs {
        from,
        cargo: "text-stats".into(),
        count,
        input: json!({"text": "to be or not to be", "stream": true, "repeat": 500}),
    }
}

fn scenario(jobs: Vec<Jobs>, crashes: Vec<Crash>) -> Scenario {
    Scenario { name: "three nodes".into(), nodes: 3, jobs_at_a_time: 2, jobs, crashes }
}

#[tokio::test(flavor = "current_thread")]
async fn every_node_runs_jobs_for_every_other() {
    let jobs = (0..3).map(|from| streaming(from, 3)).collect();
    let summary = scenario(jobs, vec![]).run(1).await.unwrap();
    assert_eq!((summary.jobs, summary.completed, summary.attempts), (9, 9, 9));
    assert!(summary.charged > Credits::ZERO);
}

#[tokio::test(flavor = "current_thread")]
async fn a_job_survives_its_island_and_is_delivered_and_charged_once() {
    let undisturbed = scenario(vec![streaming(0, 1)], vec![]).run(2).await.unwrap();
    // The ranking sends each seed's job somewhere; over some seeds, nodes 1 and 2 both get it.
    let mut moved = 0;
    for seed in 2..8 {
        for node in [1, 2] {
            let crash = Crash { node, job: 0, after_events: 100, restart: seed % 2 == 0 };
            let summary = scenario(vec![streaming(0, 1)], vec![crash]).run(seed).await.unwrap();
            assert_eq!(summary.completed, 1, "seed {seed}, node {node}");
            assert_eq!(summary.events, undisturbed.events, "seed {seed}, node {node}");
            assert_eq!(summary.charged, undisturbed.charged, "seed {seed}, node {node}");
            moved += u32::from(summary.attempts > 1);
        }
    }
    assert!(moved > 0, "no job was on the Island that crashed: the test shows nothing");
}

#[tokio::test(flavor = "current_thread")]
async fn the_shipped_scenario_runs() {
    let text = include_str!("../scenarios/failover.toml");
    let summary = Scenario::parse(text).unwrap().run(7).await.unwrap();
    assert_eq!(summary.completed, summary.jobs);
}
