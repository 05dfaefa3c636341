//! What the README says to type works.

use anyhow::{Context as _, ensure};
use archipelag_tests::{Node, program, text};
use std::{path::Path, process::Command};

/// The lines of the README's shell blocks that begin with `archipelag ` and have nothing to fill
/// in.
fn commands(readme: &str) -> Vec<String> {
    let readme = readme.replace("\\\n", " ");
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split("  #").next().unwrap_or(line));
    lines
        .map(str::trim)
        .filter(|line| line.starts_with("archipelag ") && !line.contains(['<', '…']))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tours_commands_work_as_they_stand() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let home = folder.path().join("node");
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let readme = std::fs::read_to_string(root.join("README.md"))?;
    let run = ["--run", "text-stats", "--file", "text=README.md"];
    ensure!(readme.contains(&format!("up {}", run.join(" "))), "the first command is another");
    let node = Node::up(&home, None, &[])?;
    let bin = program("archipelag");
    let bin = bin.parent().context("a folder")?.display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH")?);
    let commands = commands(&readme);
    ensure!(commands.len() >= 8, "{commands:?}");
    for command in &commands {
        // Other tests join second nodes, fill skeletons, kill Islands; and a benchmark is no test.
        if ["init", "start", "cargo check", "cargo publish", "--home", "repeat", "bench"]
            .iter()
            .any(|c| command.contains(c))
        {
            continue;
        }
        let output = Command::new("sh")
            .args(["-c", command])
            .env("ARCHIPELAG_HOME", &home)
            .env("PATH", &path)
            .current_dir(if command.contains("cargo new") { folder.path() } else { root })
            .output()?;
        ensure!(output.status.success(), "{command}: {}", text(&output.stderr));
    }
    drop(node);
    Ok(())
}
