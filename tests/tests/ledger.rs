//! The node with the ledger is killed at any moment: what was acknowledged is there when it is
//! back.

use anyhow::{Context as _, ensure};
use archipelag_tests::{Node, cli, eventually, text};
use serde_json::json;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Times that the node is killed.
const ROUNDS: u64 = 4;

fn micro(credits: &str) -> anyhow::Result<u64> {
    let (whole, part) = credits.split_once('.').unwrap_or((credits, ""));
    Ok(whole.parse::<u64>()? * 1_000_000 + format!("{part:0<6}").parse::<u64>()?)
}

/// Sends microcredits one by one; gives how many were acknowledged.
fn transfer_until(home: &Path, to: &str, dead: &AtomicBool) -> anyhow::Result<u64> {
    let mut sent = 0;
    while !dead.load(Ordering::SeqCst) {
        let output = cli(home, &["--json", "account", "transfer", to, "0.000001"])?;
        if !output.status.success() {
            ensure!(dead.load(Ordering::SeqCst), "{}", text(&output.stderr));
            break;
        }
        sent += 1;
    }
    Ok(sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let home = folder.path().join("first");
    let mut first = Node::up(&home, None, &[])?;
    let second = Node::up(&folder.path().join("second"), Some(&first.join), &["--no-island"])?;
    let to = second.account("consumer")?["account"].as_str().context("an account")?.to_owned();
    let submit = json!({ "workload": "document-sha256", "input": { "text": "abc" } });
    let (mut acknowledged, mut jobs) = (0_u64, Vec::new());
    for round in 0..ROUNDS {
        // Transfers one after another until the node dies under them.
        let dead = Arc::new(AtomicBool::new(false));
        let transfers = tokio::task::spawn_blocking({
            let (home, to, dead) = (home.clone(), to.clone(), dead.clone());
            move || transfer_until(&home, &to, &dead)
        });
        for _ in 0..3 {
            let job = first.submit(&submit).await?;
            jobs.push(job["id"].clone());
        }
        // Another moment each time; nothing waits for this.
        tokio::time::sleep(Duration::from_millis(400 + 170 * round)).await;
        dead.store(true, Ordering::SeqCst);
        first.kill()?;
        let sent = transfers.await??;
        first.start()?;
        acknowledged += sent;
        let balance = eventually("the second node to reach the ledger", async || {
            Ok(second
                .account("consumer")
                .ok()
                .and_then(|a| a["credits"].as_str().map(str::to_owned)))
        })
        .await?;
        let found = micro(&balance)?;
        // The one that was under way may be in a block, though nobody was told.
        ensure!(
            (acknowledged..=acknowledged + 1).contains(&found),
            "round {round}: {acknowledged} were acknowledged, {found} are there"
        );
        acknowledged = found;
        first.json(&["ledger", "verify"])?;
    }
    ensure!(acknowledged > ROUNDS, "hardly anything was sent: {acknowledged}");
    // Every acknowledged job is known and has ended.
    for job in jobs {
        let ended = first.ended(&json!({ "id": job })).await?;
        let status = ended["status"].as_str().unwrap_or_default();
        ensure!(["completed", "failed"].contains(&status), "{ended}");
        if status == "failed" {
            assert_eq!(ended["error_step"], "lost", "{ended}");
        }
    }
    let job = first.submit(&submit).await?;
    let ended = first.ended(&job).await?;
    assert_eq!(ended["status"], "completed", "{ended}");
    let output: serde_json::Value =
        serde_json::from_str(ended["output"].as_str().context("an output")?)?;
    assert_eq!(
        output["sha256"],
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert!(first.stop().await?, "SIGTERM ends it well");
    Ok(())
}
