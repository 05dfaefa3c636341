//! A seed node, which runs no jobs and keeps no ledger, is enough for two nodes to meet.

use anyhow::{Context as _, ensure};
use archipelag_tests::{Node, cli, free_port, program, text};
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

struct Seed(Child);

impl Drop for Seed {
    fn drop(&mut self) {
        // It has ended already when these fail.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_meet_through_a_seed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let home = |name: &str| folder.path().join(name);
    // The network: the first node's operator coordinates it.
    let made = cli(&home("first"), &["--json", "init"])?;
    ensure!(made.status.success(), "{}", text(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout)?;
    let network = made["network"].as_str().context("a network")?.to_owned();
    let genesis = home("first").join(&network[..16]).join("genesis.cbor");
    let port = free_port()?;
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let mut child = Command::new(program("archipelag-bootstrap"))
        .arg("run")
        .arg("--home")
        .arg(home("seed"))
        .arg("--genesis")
        .arg(&genesis)
        .args(["--listen", &listen])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("piped")?;
    let _seed = Seed(child);
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let join = lines.find(|line| line.contains("/p2p/")).context("the seed says where it is")?;
    let join = join.split_whitespace().find(|word| word.starts_with('/')).context("an address")?;

    let first = Node::up(&home("first"), Some(join), &[])?;
    let second = Node::up(&home("second"), Some(join), &["--no-island"])?;
    second.sees_islands(1).await?;
    first.fund(&home("second"), "1")?;
    let output = second.cli(&["run", "text-stats", "--input", r#"{"text": "met"}"#])?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    second.json(&["ledger", "verify"])?;
    Ok(())
}
