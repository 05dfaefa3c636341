//! `archipelag-sim`: runs a scenario and prints its summary as JSON.

use anyhow::Context as _;
use archipelag_simulations::{
    coordinators::{self, Trouble},
    scenario::Scenario,
};
use clap::{Parser, Subcommand, ValueEnum as _};
use std::{
    io::{IsTerminal as _, Read},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

/// Runs whole Archipelag nodes in one process, by a scenario.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples: archipelag-sim run simulations/scenarios/failover.toml --seed 7
          archipelag-sim coordinators --seeds 1000"
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
    /// Puts coordinators under fire, in virtual time; exits non-zero when something that must hold
    /// does not, and names the seed.
    Coordinators {
        /// What goes wrong; each kind in turn when absent. May be given more than once.
        #[arg(long)]
        trouble: Vec<Trouble>,
        /// How many histories of each kind.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// How many run at once; one for each core when absent.
        #[arg(long)]
        threads: Option<usize>,
    },
}

/// A scenario file is small.
const MAX_SCENARIO_BYTES: u64 = 1 << 20;

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run { scenario, seed } => run(&scenario, seed),
        Command::Coordinators { trouble, seeds, first, threads } => {
            let all = || Trouble::value_variants().to_vec();
            let troubles = if trouble.is_empty() { all() } else { trouble };
            let cores = || std::thread::available_parallelism().map_or(1, usize::from);
            under_fire(&troubles, first..first.saturating_add(seeds), threads.unwrap_or_else(cores))
        }
    }
}

/// Prints one line of JSON for each kind of trouble.
fn under_fire(
    troubles: &[Trouble],
    seeds: std::ops::Range<u64>,
    threads: usize,
) -> anyhow::Result<()> {
    let shows = std::io::stderr().is_terminal();
    for trouble in troubles {
        let (name, of) = (trouble.to_possible_value(), seeds.end - seeds.start);
        let name = name.as_ref().map_or("", |name| name.get_name());
        let done = AtomicU64::new(0);
        let tally = coordinators::run(*trouble, seeds.clone(), threads, || {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if shows {
                eprint!("\r{name}: {done} of {of}   ");
            }
        })?;
        if shows {
            eprintln!();
        }
        let mut line = serde_json::json!({"trouble": name, "first": seeds.start});
        if let (Some(line), serde_json::Value::Object(tally)) =
            (line.as_object_mut(), serde_json::to_value(&tally)?)
        {
            line.extend(tally);
        }
        println!("{line}");
    }
    Ok(())
}

fn run(scenario: &std::path::Path, seed: u64) -> anyhow::Result<()> {
    let mut text = String::new();
    std::fs::File::open(scenario)
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
