//! The subcommands.

pub(crate) mod check;
pub(crate) mod coordinators;
pub(crate) mod diff;
mod generate;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod search;
mod set;
mod shrink;
pub(crate) mod sweep;

use anyhow::Context as _;
use archipelag_simulations::{
    output::{plot_run, plot_sweep},
    scenario::{MAX_BYTES, Scenario},
};
use std::{fs::File, io::Read as _, path::Path};

/// How a command ended that did what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    All,
    /// A rule was broken, or two runs differ.
    Broken,
}

impl Held {
    fn of(held: bool) -> Self {
        if held { Self::All } else { Self::Broken }
    }
}

/// Reads a scenario, with keys set to other values.
fn load(path: &Path, set: &[String]) -> anyhow::Result<Scenario> {
    let mut text = String::new();
    File::open(path)
        .with_context(|| format!("can't open {}", path.display()))?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("can't read {}", path.display()))?;
    if !set.is_empty() {
        text = set::apply(&text, set)?;
    }
    Scenario::parse(&text).with_context(|| format!("{} is not a scenario", path.display()))
}

/// `archipelag-sim scenario FILE`.
pub(crate) fn scenario(file: Option<&Path>) -> anyhow::Result<Held> {
    let Some(file) = file else {
        println!("{}", archipelag_simulations::scenario::help());
        return Ok(Held::All);
    };
    print!("{}", load(file, &[])?.to_toml());
    Ok(Held::All)
}

/// `archipelag-sim plot DIRECTORY`.
pub(crate) fn plot(directory: &Path) -> anyhow::Result<Held> {
    let is_run = directory.join("nodes.csv").exists();
    let report = if is_run { plot_run(directory)? } else { plot_sweep(directory)? };
    println!("{}", report.display());
    Ok(Held::All)
}
