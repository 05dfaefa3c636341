//! What can't be done is refused with its own reason and exit code (`DESIGN.md`, "Commands").

use anyhow::{Context as _, ensure};
use archipelag_tests::{Node, cli, eventually, text};
use serde_json::json;
use std::path::Path;

/// Runs the command and checks exit code and message.
fn refused(home: &Path, arguments: &[&str], code: i32, says: &str) -> anyhow::Result<()> {
    let output = cli(home, arguments)?;
    let message = text(&output.stderr);
    ensure!(output.status.code() == Some(code), "{arguments:?}: {}: {message}", output.status);
    ensure!(message.contains(says), "{arguments:?} does not say {says:?}: {message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_exit_code() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let home = folder.path().join("node");
    let node = Node::up(&home, None, &[])?;
    let good = r#"{"text": "x"}"#;

    refused(&home, &["run", "no-such-cargo", "--input", good], 2, "no Cargo `no-such-cargo`")?;
    refused(&home, &["run", "text-stats", "--input", "{"], 2, "not JSON")?;
    refused(&home, &["run", "text-stats", "--input", r#"{"text": 1}"#], 3, "/text")?;
    refused(&home, &["run", "text-stats", "--input", r#"{"text": "x", "y": 1}"#], 3, "y")?;
    refused(&home, &["run", "text-stats", "--input", good, "--region", "moon"], 4, "region")?;
    refused(&home, &["run", "text-stats@9.9.9", "--input", good], 2, "text-stats@9.9.9")?;
    refused(&home, &["jobs", "show", &"00".repeat(16)], 2, "no job")?;
    refused(&home, &["jobs", "show", "../x"], 2, "job")?;
    refused(&home, &["--key", "ak_wrong", "jobs", "list"], 3, "unknown, revoked or expired")?;
    refused(&home, &["account", "transfer", &"ab".repeat(32), "999999999"], 3, "credits")?;
    refused(&home, &["up"], 2, "runs on this home already")?;
    refused(&folder.path().join("nobody"), &["status"], 5, "archipelag up")?;
    refused(&home, &["--node", "http://127.0.0.1:1", "cargo", "list"], 5, "can't be reached")?;

    // The Cargo itself fails.
    let bad = r#"{"text": "x", "pattern": "("}"#;
    refused(&home, &["run", "regex-extract", "--input", bad], 1, "pattern")?;

    // An account without credits, at any node.
    let poor = folder.path().join("poor");
    let run = ["--node", &node.join, "run", "text-stats", "--input", good];
    refused(&poor, &run, 3, "not enough credits")?;
    let second = Node::up(&folder.path().join("second"), Some(&node.join), &["--no-island"])?;
    second.sees_islands(1).await?;
    refused(
        &folder.path().join("second"),
        &["run", "text-stats", "--input", good],
        3,
        "not enough",
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_without_islands_and_a_full_island_say_so() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let lonely = folder.path().join("lonely");
    let node = Node::up(&lonely, None, &["--no-island"])?;
    let good = r#"{"text": "x"}"#;
    refused(&lonely, &["run", "text-stats", "--input", good], 4, "no Island")?;

    let small = folder.path().join("small");
    std::fs::create_dir(&small)?;
    std::fs::set_permissions(&small, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    let settings = "[island]\nmax_jobs = 1\n[http]\nrequests_per_minute = 100000\n";
    std::fs::write(small.join("config.toml"), settings)?;
    let island = Node::up(&small, Some(&node.join), &[])?;
    island.sees_islands(1).await?;
    node.fund(&small, "1")?;
    let long = json!({ "text": "row row row your boat", "stream": true, "repeat": 100_000 });
    let job = island.submit(&json!({ "workload": "text-stats", "input": long })).await?;
    eventually("the Island to say that it is full", async || {
        let islands = island.json(&["islands", "list"])?;
        Ok((islands[0]["status"] == "busy").then_some(()))
    })
    .await?;
    refused(&small, &["run", "text-stats", "--input", good, "--wait", "0"], 4, "full")?;
    // Who waits gets the next place.
    let waits =
        island.submit(&json!({ "workload": "text-stats", "input": { "text": "x" } })).await?;
    let id = job["id"].as_str().context("an id")?;
    island.json(&["jobs", "cancel", id])?;
    assert_eq!(island.ended(&job).await?["status"], "cancelled");
    assert_eq!(island.ended(&waits).await?["status"], "completed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cargo_above_its_trust_level_is_published_and_not_run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Node::up(&folder.path().join("node"), None, &[])?;
    let starter = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../node/starter/text-stats"));
    let cargo = folder.path().join("greedy");
    std::fs::create_dir(&cargo)?;
    for file in ["module.wasm", "input.schema.json", "output.schema.json"] {
        std::fs::copy(starter.join(file), cargo.join(file))?;
    }
    let project = std::fs::read_to_string(starter.join("cargo.toml"))?;
    let project = project.replace("slug = \"text-stats\"", "slug = \"greedy\"");
    let project = project.replace("required_ram_mb = 64", "required_ram_mb = 1024");
    std::fs::write(cargo.join("cargo.toml"), project)?;
    let folder_name = cargo.display().to_string();
    node.json(&["cargo", "publish", &folder_name, "--wait"])?;
    let says = "required_ram_mb";
    refused(
        &folder.path().join("node"),
        &["run", "greedy", "--input", r#"{"text": "x"}"#],
        3,
        says,
    )?;
    let again = node.cli(&["cargo", "publish", &folder_name])?;
    ensure!(again.status.success(), "publishing the same again: {}", text(&again.stderr));
    Ok(())
}
