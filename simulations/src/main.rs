//! `archipelag-sim`: runs scenarios, compares runs, searches for faults.

mod commands;

use archipelag_simulations::{coordinators::Trouble, output::rows, scenario};
use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// Runs the code of Archipelag nodes in virtual time: many in one process, by a scenario and a seed.
/// One scenario and one seed give one run, to the byte.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  archipelag-sim run simulations/scenarios/failover.toml --seed 7 --out /tmp/failover
  archipelag-sim check simulations/scenarios/churn.toml --seed 7
  archipelag-sim sweep simulations/scenarios/job-load.toml --seeds 1..5 --set network.loss_percent=0,1,3 --out /tmp/loss
  archipelag-sim search --seconds 600
  archipelag-sim coordinators --seeds 1000

Exit codes: 0 all rules held, 1 a rule was broken or two runs differ, 2 a scenario or an argument is wrong."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario; exits non-zero when something that must hold does not.
    Run(commands::run::Run),
    /// Describes the format of scenarios.
    #[command(after_long_help = scenario::help(), long_about = "What a scenario may say: `archipelag-sim scenario --help` describes every key; with a file, checks it and prints it with all defaults.")]
    Scenario {
        /// A scenario to check and to print as it is understood.
        file: Option<PathBuf>,
    },
    /// Runs a scenario twice with one seed, in two processes, and compares everything that happened.
    Check(commands::check::Check),
    /// Runs a scenario again until a moment, and prints what the nodes know then.
    Replay(commands::replay::Replay),
    /// Explains where two runs begin to differ. Both need a trace (`run --trace`).
    Diff {
        /// The directories of two runs.
        one: PathBuf,
        other: PathBuf,
    },
    /// Runs a scenario with many seeds and parameters, several at once.
    Sweep(commands::sweep::Sweep),
    /// Runs random scenarios until a rule is broken, and makes the scenario as short as it can.
    Search(commands::search::Search),
    /// Draws plots and writes the report of a run, or of all runs of a sweep, anew.
    Plot {
        /// The directory of a run, or of a sweep.
        directory: PathBuf,
    },
    /// Lists the tables and the columns that a run leaves behind.
    Tables,
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

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(run) => run.run(),
        Command::Scenario { file } => commands::scenario(file.as_deref()),
        Command::Check(check) => check.run(),
        Command::Replay(replay) => replay.run(),
        Command::Diff { one, other } => commands::diff::between(&one, &other),
        Command::Sweep(sweep) => sweep.run(),
        Command::Search(search) => search.run(),
        Command::Plot { directory } => commands::plot(&directory),
        Command::Tables => {
            print!("{}", rows::listing());
            Ok(commands::Held::All)
        }
        Command::Coordinators { trouble, seeds, first, threads } => {
            commands::coordinators::run(trouble, first..first.saturating_add(seeds), threads)
        }
    };
    match done {
        Ok(commands::Held::All) => ExitCode::SUCCESS,
        Ok(commands::Held::Broken) => ExitCode::from(1),
        Err(error) => {
            eprintln!("archipelag-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}
