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
    let name = "three nodes".into();
    Scenario { name, nodes: 3, islands: None, jobs_at_a_time: 2, jobs, crashes }
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
    let elsewhere = |crashes| Scenario {
        islands: Some([1, 2].into()),
        ..scenario(vec![streaming(0, 1)], crashes)
    };
    let undisturbed = elsewhere(vec![]).run(2).await.unwrap();
    for seed in 2..6 {
        let crash = Crash { node: None, job: 0, after_events: 100, restart: seed % 2 == 0 };
        let summary = elsewhere(vec![crash]).run(seed).await.unwrap();
        assert_eq!((summary.completed, summary.attempts), (1, 2), "seed {seed}");
        assert_eq!(summary.events, undisturbed.events, "seed {seed}");
        assert_eq!(summary.charged, undisturbed.charged, "seed {seed}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_shipped_scenario_runs() {
    let text = include_str!("../scenarios/failover.toml");
    let summary = Scenario::parse(text).unwrap().run(7).await.unwrap();
    assert_eq!(summary.completed, summary.jobs);
}
