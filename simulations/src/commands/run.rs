//! `archipelag-sim run`.

use super::{Held, load};
use anyhow::{Context as _, ensure};
use archipelag_simulations::{
    output::{Collected, Summary, figures, plot_run},
    run::{self, Options, Progress},
    scenario::Scenario,
};
use std::{
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    scenario: PathBuf,
    /// Everything random comes from it; the scenario's own when absent, else 1.
    #[arg(long)]
    seed: Option<u64>,
    /// A new directory for the tables, the plots and the report.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Keeps everything that happened in `trace.bin`, for `diff`.
    #[arg(long, requires = "out")]
    trace: bool,
    /// Ends the run at this second.
    #[arg(long)]
    until: Option<f64>,
    /// Sets a key of the scenario, as in `groups.islands.count=20`. May be given more than once.
    #[arg(long)]
    set: Vec<String>,
    /// Ends the process with a reason when anything in it asks the operating system for time,
    /// randomness or a thread, which would make runs differ.
    #[arg(long)]
    strict: bool,
    /// Leaves plots and report away.
    #[arg(long)]
    no_report: bool,
}

impl Run {
    pub(crate) fn run(self) -> anyhow::Result<Held> {
        let scenario = load(&self.scenario, &self.set)?;
        let seed = self.seed.or(scenario.seed).unwrap_or(1);
        let temporary = tempfile::tempdir()?;
        if let Some(out) = &self.out {
            prepare(out, &scenario)?;
        }
        let folder = self.out.as_deref().unwrap_or_else(|| temporary.path());
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        let options = Options {
            tables: Some(folder.to_owned()),
            trace: self.out.as_ref().filter(|_| self.trace).map(|out| out.join("trace.bin")),
            folder: self.scenario.parent().map(PathBuf::from).unwrap_or_default(),
            until_s: self.until,
            strict: self.strict,
            state: false,
            interrupted,
            progress: std::io::stderr().is_terminal().then_some(show),
        };
        let mut summary = run::run(&scenario, seed, &options)?;
        let own = std::mem::take(&mut summary.figures);
        summary.figures = figures(&Collected::read(folder)?);
        summary.figures.extend(own);
        if options.progress.is_some() {
            eprintln!();
        }
        if let Some(out) = &self.out {
            summary.write(out)?;
            if !self.no_report {
                let report = plot_run(out)?;
                eprintln!("look at {}", report.display());
            }
        }
        println!("{}", serde_json::to_string_pretty(&summary)?);
        Ok(told(&summary))
    }
}

fn told(summary: &Summary) -> Held {
    for violation in summary.violations.iter().take(20) {
        eprintln!("broken: {violation}");
    }
    Held::of(summary.violations.is_empty())
}

fn prepare(out: &Path, scenario: &Scenario) -> anyhow::Result<()> {
    let empty = || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(
        !out.exists() || empty(),
        "{} is not empty: name a new directory with --out",
        out.display()
    );
    fs::create_dir_all(out).with_context(|| format!("can't make {}", out.display()))?;
    fs::write(out.join("scenario.toml"), scenario.to_toml())?;
    Ok(())
}

/// Memory that the process holds, in MiB, as Linux tells it.
fn memory_mib() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    (pages * 4096) >> 20
}

fn show(progress: &Progress) {
    let real_s = progress.real.as_secs_f64();
    let left_s = progress.of_s - progress.virtual_s;
    let estimate_s =
        if progress.virtual_s > 0.0 { real_s / progress.virtual_s * left_s } else { 0.0 };
    eprint!(
        "\r{:.1} of {:.0} s; {:.0} s passed, about {:.0} s left; {} MiB; {} jobs, {} rules broken   ",
        progress.virtual_s,
        progress.of_s,
        real_s,
        estimate_s,
        memory_mib(),
        progress.jobs,
        progress.violations
    );
}
