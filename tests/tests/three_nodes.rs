//! Three processes on one machine make a mesh: any of them can be dialled, and a job outlives the
//! Island that runs it.

use anyhow::{Context as _, ensure};
use archipelag_tests::{Node, cli, events, eventually, said, text};
use serde_json::{Value, json};
use std::path::Path;

/// One coordinator that runs no jobs, and two Islands.
async fn mesh(folder: &Path) -> anyhow::Result<[Node; 3]> {
    let first = Node::up(&folder.join("first"), None, &["--no-island"])?;
    let second = Node::up(&folder.join("second"), Some(&first.join), &["--name", "second"])?;
    let third = Node::up(&folder.join("third"), Some(&first.join), &["--name", "third"])?;
    for node in [&first, &second, &third] {
        node.sees_islands(2).await?;
    }
    Ok([first, second, third])
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_node_is_dialled_the_answer_is_the_same() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let nodes = mesh(folder.path()).await?;
    let consumer = folder.path().join("consumer");
    nodes[0].fund(&consumer, "5")?;
    for node in &nodes[1..] {
        nodes[0].fund(&folder.path().join(node.name()), "5")?;
    }
    let file = concat!("text=", env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let run = ["run", "text-stats", "--file", file];
    let mut answers = Vec::new();
    for node in &nodes {
        // By URL, as the node's own user; by URL with a key; by multiaddr, as nobody's user.
        let arguments: [Vec<&str>; 3] = [
            ["--json"].into_iter().chain(run).collect(),
            ["--json", "--node", &node.http, "--key", &node.key].into_iter().chain(run).collect(),
            ["--json", "--node", &node.join].into_iter().chain(run).collect(),
        ];
        let homes = [folder.path().join(node.name()), consumer.clone(), consumer.clone()];
        for (home, arguments) in homes.iter().zip(&arguments) {
            let output = cli(home, arguments)?;
            ensure!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
            answers.push(said(&events(&output)?));
        }
    }
    assert_eq!(answers[0][0]["type"], "result");
    assert!(answers[0][0]["data"]["words"].as_u64().is_some_and(|words| words > 100));
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    nodes[2].json(&["ledger", "verify"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_the_island_that_runs_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let [first, mut second, mut third] = mesh(folder.path()).await?;
    let input = json!({ "text": "row row row your boat", "stream": true, "repeat": 30_000 });
    let submit = json!({ "workload": "text-stats", "input": input });

    // What it says when nothing happens.
    let calm = first.submit(&submit).await?;
    let calm = first.ended(&calm).await?;
    assert_eq!(calm["status"], "completed", "{calm}");
    let expected = said(&first.stream(&calm).await?);
    assert!(expected.len() > 100_000, "{}", expected.len());

    let job = first.submit(&submit).await?;
    let running = eventually("the job to run", async || {
        let shown = first.shown(&job).await?;
        Ok((shown["status"] == "running").then_some(shown))
    })
    .await?;
    let host = running["host_id"].as_str().context("an Island")?.to_owned();
    let victim = if second.id()? == host { &mut second } else { &mut third };
    victim.kill()?;
    let ended = first.ended(&job).await?;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(ended["attempts"], 2, "it was killed while it ran the job: {ended}");
    assert_ne!(ended["host_id"], running["host_id"]);
    let stream = first.stream(&job).await?;
    assert_eq!(said(&stream), expected, "every event once, in order");
    assert_eq!(ended["usage"]["credits_used"], 0.01);

    // One charge: once the Islands have settled, the ledger knows of two jobs and no third.
    victim.start()?;
    let settled = async || {
        let jobs = |node: &Node| -> anyhow::Result<u64> {
            Ok(node.account("operator")?["jobs"].as_u64().unwrap_or(0))
        };
        anyhow::Ok(jobs(&second)? + jobs(&third)?)
    };
    eventually("both jobs to be settled", async || Ok((settled().await? >= 2).then_some(())))
        .await?;
    let third_job =
        first.submit(&json!({ "workload": "text-stats", "input": { "text": "x" } })).await?;
    assert_eq!(first.ended(&third_job).await?["status"], "completed");
    eventually("the third", async || Ok((settled().await? >= 3).then_some(()))).await?;
    assert_eq!(settled().await?, 3, "the lost attempt was charged too");
    let verdict: Value = first.json(&["ledger", "verify"])?;
    assert_eq!(verdict["right"], true);
    Ok(())
}
