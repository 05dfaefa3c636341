//! `archipelag-sim`: runs a scenario and prints its summary as JSON.

use anyhow::Context as _;
use archipelag_simulations::scenario::Scenario;
use clap::{Parser, Subcommand};
use std::{io::Read, path::PathBuf};

/// Runs whole Archipelag nodes in one process, by a scenario.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example: archipelag-sim run simulations/scenarios/failover.toml --seed 7"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario; exits non-zero when something that must hold does not.
    Run {
        scenario: PathBuf,
        /// Keys and job ids are drawn from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// A scenario file is small.
const MAX_SCENARIO_BYTES: u64 = 1 << 20;

fn main() -> anyhow::Result<()> {
    let Command::Run { scenario, seed } = Arguments::parse().command;
    let mut text = String::new();
    std::fs::File::open(&scenario)
        .with_context(|| format!("can't open {}", scenario.display()))?
        .take(MAX_SCENARIO_BYTES)
        .read_to_string(&mut text)?;
    let scenario = Scenario::parse(&text)
        .with_context(|| format!("{} is not a scenario", scenario.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let summary = runtime.block_on(scenario.run(seed))?;
    println!("{}", serde_json::to_string_pretty(&summary)?);
    Ok(())
}
