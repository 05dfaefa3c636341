//! `archipelag-sim replay`: what the nodes know at a moment of a run.

use super::{Held, load};
use archipelag_simulations::run::{self, Options};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// A scenario, or the directory of a run of it.
    run: PathBuf,
    /// The moment, in seconds of virtual time.
    #[arg(long)]
    until: f64,
    /// The run's own when absent, then the scenario's, then 1.
    #[arg(long)]
    seed: Option<u64>,
    /// Sets a key of the scenario, as in `groups.islands.count=20`. May be given more than once.
    #[arg(long)]
    set: Vec<String>,
}

impl Replay {
    pub(crate) fn run(self) -> anyhow::Result<Held> {
        let file =
            if self.run.is_dir() { self.run.join("scenario.toml") } else { self.run.clone() };
        let scenario = load(&file, &self.set)?;
        let seed = self.seed.or_else(|| seed_of(&self.run)).or(scenario.seed).unwrap_or(1);
        let options = Options {
            folder: file.parent().map(PathBuf::from).unwrap_or_default(),
            until_s: Some(self.until),
            state: true,
            ..Options::default()
        };
        let summary = run::run(&scenario, seed, &options)?;
        println!("{}", serde_json::to_string_pretty(&summary)?);
        Ok(Held::of(summary.violations.is_empty()))
    }
}

/// The seed that a run directory tells of.
fn seed_of(run: &std::path::Path) -> Option<u64> {
    let text = std::fs::read(run.join("summary.json")).ok()?;
    serde_json::from_slice::<serde_json::Value>(&text).ok()?["seed"].as_u64()
}
