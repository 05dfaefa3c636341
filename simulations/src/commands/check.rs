//! `archipelag-sim check`: whether one scenario and one seed give one run.

use super::{Held, diff, load};
use anyhow::{Context as _, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    scenario: PathBuf,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ends both runs at this second.
    #[arg(long)]
    until: Option<f64>,
    /// Sets a key of the scenario, as in `groups.islands.count=20`. May be given more than once.
    #[arg(long)]
    set: Vec<String>,
    /// Another build of `archipelag-sim` for the second run.
    #[arg(long)]
    with: Option<PathBuf>,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<Held> {
        load(&self.scenario, &self.set)?;
        let folder = tempfile::tempdir()?;
        let own = std::env::current_exe().context("where is this program?")?;
        let other = self.with.clone().unwrap_or_else(|| own.clone());
        let runs = [own, other].into_iter().zip(["one", "two"]).map(|(program, name)| {
            let out = folder.path().join(name);
            self.once(&program, &out).map(|hash| (out, hash))
        });
        let runs: Vec<(PathBuf, String)> = runs.collect::<Result<_, _>>()?;
        let [(one, first), (two, second)] = runs.as_slice() else { unreachable!("there are two") };
        let difference = diff::first_difference(one, two)?;
        match &difference {
            Some(text) => print!("two runs of seed {} differ: {text}", self.seed),
            None => println!("two runs of seed {} are the same: {first}", self.seed),
        }
        ensure!(
            difference.is_some() || first == second,
            "the traces are the same and their hashes are not: this is a fault of this program"
        );
        Ok(Held::of(difference.is_none()))
    }

    /// Runs it once, in a process of its own; gives the hash.
    fn once(&self, program: &Path, out: &Path) -> anyhow::Result<String> {
        let mut command = Command::new(program);
        command.arg("run").arg(&self.scenario).args(["--seed", &self.seed.to_string()]);
        command.arg("--out").arg(out).args(["--trace", "--no-report"]);
        command.args(self.set.iter().flat_map(|set| ["--set", set]));
        if let Some(until) = self.until {
            command.args(["--until", &until.to_string()]);
        }
        let ran = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
        let summary = std::fs::read(out.join("summary.json")).with_context(|| {
            format!("the run ended with {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr))
        })?;
        let summary: serde_json::Value = serde_json::from_slice(&summary)?;
        Ok(summary["trace_hash"].as_str().unwrap_or_default().into())
    }
}
