//! The command line (`DESIGN.md`, "Commands"): one file per group of commands.
//!
//! `main` calls [`main`]. Commands speak to a node by HTTP, or by the mesh through a light node in
//! this process; only `up` and `start` are a node. Results go to stdout, everything else to stderr,
//! and neither inputs nor outputs of jobs are ever logged.

mod account;
mod bench;
mod cargo;
mod client;
mod coordinator;
mod documents;
mod events;
mod exit;
mod explain;
mod follow;
mod init;
mod input;
mod islands;
mod jobs;
mod ledger;
mod light;
mod log;
mod node;
mod output;
mod proof;
mod run;
mod sse;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod up;

use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// Run and offer Cargos on a peer-to-peer mesh of Islands
#[derive(Debug, Parser)]
#[command(name = "archipelag", version, propagate_version = true, subcommand_required = true)]
#[command(
    after_help = "Examples:\n  archipelag up\n  archipelag run document-sha256 --file data=README.md\n\nExit codes: 0 done, 1 job failed, 2 usage, 3 refused (credits, schema), 4 no Island, 5 network"
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The node to speak to, by URL or multiaddr [default: the node that runs on --home]
    #[arg(long, global = true, value_name = "URL|MULTIADDR", env = "ARCHIPELAG_NODE")]
    node: Option<String>,
    /// The API key for a node given by URL [default: the key in --home, for its own node]
    #[arg(long, global = true, value_name = "AK", env = "ARCHIPELAG_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Where identity, settings and stores lie [default: ~/.archipelag]
    #[arg(long, global = true, value_name = "DIR", env = crate::home::ENVIRONMENT)]
    home: Option<PathBuf>,
    /// Print JSON instead of text for people
    #[arg(long, global = true)]
    json: bool,
    /// Log more on stderr; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node: a network of its own, or a part of another with --join
    Up(Box<up::Up>),
    /// Write identity and settings without starting anything
    Init(Box<init::Init>),
    /// Run a node from its settings, as a service does
    Start(up::Start),
    /// What a node does and what it sees of the mesh
    #[command(after_help = "Example:\n  archipelag status")]
    Status,
    /// Run a Cargo and stream what it says
    Run(Box<run::Run>),
    /// Jobs that a node keeps
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// Cargos: find, write, check, publish
    #[command(subcommand)]
    Cargo(cargo::Cargo),
    /// Islands that a node knows
    #[command(subcommand)]
    Islands(islands::Islands),
    /// Credits and keys
    #[command(subcommand)]
    Account(account::Account),
    /// The ledger: where it stands, its blocks, whether it is right
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Who decides on the ledger, and elections to that
    #[command(subcommand)]
    Coordinator(coordinator::Coordinator),
    /// Measure this build on this machine, beside baselines
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  archipelag completions bash > /etc/bash_completion.d/archipelag"
    )]
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages into a directory
    #[command(after_help = "Example:\n  archipelag man /usr/local/share/man/man1")]
    Man { directory: PathBuf },
}

/// Reads the arguments, does what they say and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log::start(&cli);
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match threads {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the operating system gives no threads: {error}");
            return exit::Exit::Usage.into();
        }
    };
    let outcome = runtime.block_on(cli.run());
    // Blocking reads of stdin must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            if !failed.message.is_empty() {
                eprintln!("error: {}", failed.message);
            }
            failed.exit.into()
        }
    }
}

impl Cli {
    async fn run(self) -> exit::Outcome {
        let Self { global, command } = self;
        match command {
            Command::Up(up) => Box::pin(up.run(global)).await,
            Command::Init(init) => Box::pin(init.run(global)).await,
            Command::Start(start) => Box::pin(start.run(global)).await,
            Command::Status => status::run(&global).await,
            Command::Run(run) => Box::pin(run.run(&global)).await,
            Command::Jobs(jobs) => Box::pin(jobs.run(&global)).await,
            Command::Cargo(cargo) => Box::pin(cargo.run(&global)).await,
            Command::Islands(islands) => Box::pin(islands.run(&global)).await,
            Command::Account(account) => Box::pin(account.run(&global)).await,
            Command::Ledger(ledger) => Box::pin(ledger.run(&global)).await,
            Command::Coordinator(c) => Box::pin(c.run(&global)).await,
            Command::Bench(bench) => Box::pin(bench.run(global.json)).await,
            Command::Completions { shell } => documents::completions(shell),
            Command::Man { directory } => documents::manual(&directory),
        }
    }
}
