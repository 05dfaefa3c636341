//! A ledger that four coordinators keep: each takes transactions, one may be killed at any moment,
//! and two may not.

use anyhow::{Context as _, ensure};
use archipelag_tests::{Node, cli, eventually, program, text};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const COORDINATORS: usize = 4;

/// Keys in `home`, as the genesis document asks for them: validator and consumer account.
fn identity(home: &Path) -> anyhow::Result<(String, String)> {
    let output = Command::new(program("archipelag-bootstrap"))
        .arg("--home")
        .arg(home)
        .args(["genesis", "identity"])
        .output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    let text = text(&output.stdout);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned()).with_context(|| format!("{name} in {text}"))
    };
    Ok((value("Validator:")?, value("Consumer:")?))
}

/// A genesis document of the homes' operators as validators, and of their Consumers with 1,000
/// credits each, and policy fields with other values than the default.
fn genesis(folder: &Path, homes: &[PathBuf], set: &[&str]) -> anyhow::Result<PathBuf> {
    let out = folder.join("genesis.cbor");
    let mut command = Command::new(program("archipelag-bootstrap"));
    command.args(["genesis", "new", "--name", "four", "--open-publishing", "--out"]).arg(&out);
    for field in set {
        command.args(["--set", field]);
    }
    for home in homes {
        let (validator, consumer) = identity(home)?;
        command.args(["--validator", &validator, "--allocate", &format!("{consumer}=1000")]);
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    Ok(out)
}

fn height(node: &Node) -> anyhow::Result<u64> {
    node.json(&["ledger", "status"])?["height"].as_u64().context("a height")
}

/// Waits until all of `nodes` are at one height.
async fn agree(nodes: &[Node]) -> anyhow::Result<u64> {
    eventually("one height", async || {
        let heights: Vec<u64> = nodes.iter().map(height).collect::<Result<_, _>>()?;
        Ok(heights.iter().all(|h| *h == heights[0]).then_some(heights[0]))
    })
    .await
}

fn balance(node: &Node) -> anyhow::Result<f64> {
    let account: Value = node.account("consumer")?;
    Ok(account["credits"].as_str().context("credits")?.parse()?)
}

/// What `node` says of the ledger is checked without any node, by the genesis document alone.
async fn proofs_need_no_trust(
    folder: &Path,
    genesis: &str,
    node: &Node,
    account: &str,
) -> anyhow::Result<()> {
    let stranger = folder.join("stranger");
    let file = folder.join("a.proof");
    let path = file.to_str().context("a path")?;
    let verify = |path: &str| {
        cli(&stranger, &["--json", "ledger", "verify", "--proof", path, "--genesis", genesis])
    };
    let shown = node.json(&["ledger", "proof", "--out", path, "account", account])?;
    let checked: Value = serde_json::from_slice(&verify(path)?.stdout)?;
    ensure!(shown == checked && checked["value"]["balance"].as_u64() > Some(0), "{checked}");

    // Nobody has this account.
    let absent = "ab".repeat(32);
    let shown = node.json(&["ledger", "proof", "--out", path, "account", &absent])?;
    ensure!(shown["value"].is_null() && shown["holds"] == true, "{shown}");
    ensure!(verify(path)?.status.success());

    // The API's answer carries its proof.
    let (status, answer) = node.http(reqwest::Method::GET, "/account?proof=1", None).await?;
    ensure!(status == 200, "{answer}");
    let proof = answer["data"]["proof"].as_str().context("a proof")?;
    let mut bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, proof)?;
    std::fs::write(&file, &bytes)?;
    let checked: Value = serde_json::from_slice(&verify(path)?.stdout)?;
    let balance = answer["data"]["credits"].as_f64().context("credits")?;
    let proven = checked["value"]["balance"].as_f64().context("a balance")? / 1e6;
    ensure!((balance - proven).abs() < 1e-9, "{balance} is not {proven}");

    // One changed byte anywhere and it proves nothing; nor does it to who trusts another genesis.
    for index in (0..bytes.len()).step_by(97) {
        bytes[index] ^= 1;
        std::fs::write(&file, &bytes)?;
        let refused = verify(path)?;
        ensure!(!refused.status.success(), "byte {index} may be anything");
        bytes[index] ^= 1;
    }
    std::fs::write(&file, &bytes)?;
    let unknown = cli(&stranger, &["ledger", "verify", "--proof", path])?;
    ensure!(text(&unknown.stderr).contains("--genesis FILE"), "{}", text(&unknown.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn four_coordinators_keep_one_ledger() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let homes: Vec<PathBuf> =
        (0..COORDINATORS).map(|i| folder.path().join(format!("c{i}"))).collect();
    let document = genesis(folder.path(), &homes, &[])?;
    let document = document.to_str().context("a path")?;
    let mut nodes: Vec<Node> = Vec::new();
    for home in &homes {
        let join = nodes.first().map(|first| first.join.clone());
        nodes.push(Node::up(home, join.as_deref(), &["--genesis", document, "--no-island"])?);
    }
    let accounts: Vec<String> = nodes
        .iter()
        .map(|node| Ok(node.account("consumer")?["account"].as_str().context("an account")?.into()))
        .collect::<anyhow::Result<_>>()?;

    // Each of them takes transactions, and all of them know what they did.
    for (node, to) in nodes.iter().zip(accounts.iter().cycle().skip(1)) {
        node.json(&["account", "transfer", to, "1"])?;
    }
    ensure!(agree(&nodes).await? >= 4);
    for node in &nodes {
        ensure!((balance(node)? - 1_000.0).abs() < 1e-9, "{}", balance(node)?);
        node.json(&["ledger", "verify"])?;
    }

    // Three go on without the fourth, and it learns what it missed.
    nodes[3].kill()?;
    for _ in 0..5 {
        nodes[0].json(&["account", "transfer", &accounts[3], "2"])?;
    }
    nodes[3].start()?;
    agree(&nodes).await?;
    ensure!((balance(&nodes[3])? - 1_010.0).abs() < 1e-9);

    // Two can decide nothing, and say so. When a third is back it goes on.
    nodes[2].kill()?;
    nodes[3].kill()?;
    let refused = cli(&homes[0], &["account", "transfer", &accounts[1], "3"])?;
    ensure!(!refused.status.success(), "half of the coordinators decided");
    nodes[2].start()?;
    eventually("a decision of three", async || {
        let sent = cli(&homes[1], &["account", "transfer", &accounts[0], "1"])?;
        Ok(sent.status.success().then_some(()))
    })
    .await?;
    nodes[3].start()?;
    agree(&nodes).await?;
    for node in &nodes {
        node.json(&["ledger", "verify"])?;
    }
    proofs_need_no_trust(folder.path(), document, &nodes[1], &accounts[0]).await?;
    for mut node in nodes {
        assert!(node.stop().await?, "SIGTERM ends it well");
    }
    Ok(())
}

/// Accounts and states of the coordinators, as `node` shows them.
fn seats(node: &Node) -> anyhow::Result<Vec<(String, String)>> {
    let shown = node.json(&["coordinator", "set"])?;
    let rows = shown["coordinators"].as_array().context("coordinators")?;
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    Ok(rows.iter().map(|row| (text(row, "account"), text(row, "state"))).collect())
}

fn has(node: &Node, account: &str, state: &str) -> anyhow::Result<bool> {
    Ok(seats(node)?.iter().any(|(a, s)| a == account && s == state))
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_are_won_and_lost() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let homes: Vec<PathBuf> =
        (0..COORDINATORS).map(|i| folder.path().join(format!("c{i}"))).collect();
    let short =
        ["election.epoch_ms=2000", "election.absence_ms=1000", "election.bond_min=10000000"];
    let document = genesis(folder.path(), &homes, &short)?;
    let file = document.to_str().context("a path")?;
    let mut nodes: Vec<Node> = Vec::new();
    for home in &homes {
        let join = nodes.first().map(|first| first.join.clone());
        nodes.push(Node::up(home, join.as_deref(), &["--genesis", file, "--no-island"])?);
    }
    let join = Some(nodes[0].join.clone());
    let home = folder.path().join("fifth");
    let more = ["--genesis", file, "--no-island", "--standby"];
    let fifth = Node::up(&home, join.as_deref(), &more)?;
    let text = |value: &Value| value["account"].as_str().map(str::to_owned).context("an account");
    let candidate = text(&fifth.account("operator")?)?;
    let consumer = text(&nodes[1].account("consumer")?)?;
    // Blocks come when somebody wants something.
    let pay = || nodes[0].json(&["account", "transfer", &consumer, "0.01"]);

    // Who has nothing bonded can't stand for a seat.
    nodes[0].json(&["account", "transfer", &candidate, "100"])?;
    let refused = cli(&home, &["coordinator", "candidate"])?;
    let said = archipelag_tests::text(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("a candidate needs 10"), "{said}");
    fifth.json(&["coordinator", "candidate", "--bond", "20"])?;
    ensure!(has(&nodes[2], &candidate, "candidate")?);
    // A tenth of all credits has to approve of somebody.
    nodes[0].json(&["coordinator", "approve", &candidate, "--bond", "450", "--from-consumer"])?;
    eventually("a seat for the fifth", async || {
        pay()?;
        Ok(has(&nodes[2], &candidate, "seat")?.then_some(()))
    })
    .await?;
    ensure!(seats(&nodes[2])?.len() == 5);
    // It decides with the others, from the third block on at the latest, and takes transactions.
    for _ in 0..4 {
        pay()?;
    }
    fifth.json(&["ledger", "verify"])?;
    nodes.push(fifth);
    agree(&nodes).await?;
    nodes[4].json(&["coordinator", "approve", &candidate])?;

    // What a later set decided is proven by the genesis document, for who follows the changes.
    let path = folder.path().join("b.proof");
    let path = path.to_str().context("a path")?;
    nodes[1].json(&["ledger", "proof", "--out", path, "account", &consumer])?;
    let stranger = folder.path().join("stranger");
    let verify = ["ledger", "verify", "--proof", path, "--genesis", file];
    let checked = cli(&stranger, &verify)?;
    ensure!(checked.status.success(), "{}", archipelag_tests::text(&checked.stderr));

    // One that is gone loses its seat; the others go on meanwhile.
    let gone = text(&nodes[3].account("operator")?)?;
    nodes[3].kill()?;
    eventually("a seat less", async || {
        nodes[0].json(&["account", "transfer", &consumer, "0.01"])?;
        Ok((!seats(&nodes[2])?.iter().any(|(account, _)| *account == gone)).then_some(()))
    })
    .await?;
    ensure!(seats(&nodes[2])?.len() == 4);
    // It follows again when it is back.
    nodes[3].start()?;
    nodes[0].json(&["account", "transfer", &consumer, "0.01"])?;
    agree(&nodes).await?;
    for node in &nodes {
        node.json(&["ledger", "verify"])?;
    }
    for mut node in nodes {
        assert!(node.stop().await?, "SIGTERM ends it well");
    }
    Ok(())
}
