//! `archipelag-sim sweep`: one scenario with many seeds and parameters, each run in a process.

use super::{Held, load, set};
use anyhow::{Context as _, ensure};
use archipelag_simulations::output::{Parameter, Summary, plot_sweep};
use std::{
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The most runs of one sweep.
const MAX_RUNS: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Sweep {
    scenario: PathBuf,
    /// Seeds: `3`, `1..5` (both included) or `1,4,9`.
    #[arg(long, default_value = "1..3")]
    seeds: String,
    /// A key with several values, as in `network.loss_percent=0,1,3`; every combination is run. May
    /// be given more than once.
    #[arg(long)]
    set: Vec<String>,
    /// A new directory: one directory for each run in it.
    #[arg(long)]
    out: PathBuf,
    /// Runs at once; one for each core when absent.
    #[arg(long)]
    jobs: Option<usize>,
}

/// One run of a sweep.
#[derive(Clone, Debug)]
struct Point {
    seed: u64,
    set: Vec<String>,
}

impl Sweep {
    pub(crate) fn run(self) -> anyhow::Result<Held> {
        let points = self.points()?;
        for point in &points {
            load(&self.scenario, &point.set)?;
        }
        fs::create_dir_all(&self.out)
            .with_context(|| format!("can't make {}", self.out.display()))?;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.unwrap_or_else(cores).max(1) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(point) = points.get(number) else { return };
                        if let Err(error) = self.once(number, point) {
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.push(format!("run {number} ({point:?}): {error:#}"));
                        }
                        if std::io::stderr().is_terminal() {
                            eprint!("\r{} of {} runs   ", number + 1, points.len());
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.iter().for_each(|line| eprintln!("{line}"));
        let report = plot_sweep(&self.out)?;
        eprintln!("look at {}", report.display());
        println!(
            "{} runs in {}, {} of them broke a rule",
            points.len(),
            self.out.display(),
            failed.len()
        );
        Ok(Held::of(failed.is_empty()))
    }

    fn points(&self) -> anyhow::Result<Vec<Point>> {
        let mut points: Vec<Point> =
            seeds(&self.seeds)?.into_iter().map(|seed| Point { seed, set: Vec::new() }).collect();
        for one in &self.set {
            let (path, values) = set::split(one)?;
            let values = values.split(',').map(|value| format!("{path}={value}"));
            let with = |point: &Point, value: &String| {
                let mut point = point.clone();
                point.set.push(value.clone());
                point
            };
            let values: Vec<String> = values.collect();
            points = points.iter().flat_map(|p| values.iter().map(move |v| with(p, v))).collect();
            ensure!(points.len() <= MAX_RUNS, "more than {MAX_RUNS} runs");
        }
        Ok(points)
    }

    fn once(&self, number: usize, point: &Point) -> anyhow::Result<()> {
        let out = self.out.join(format!("run-{number:04}"));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg(&self.scenario).args(["--seed", &point.seed.to_string()]);
        command.arg("--out").arg(&out).arg("--no-report");
        command.args(point.set.iter().flat_map(|set| ["--set", set]));
        let ran = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
        note_parameters(&out, &point.set)?;
        let said = String::from_utf8_lossy(&ran.stderr);
        ensure!(ran.status.success(), "{}: {}", ran.status, said.trim());
        Ok(())
    }
}

/// Writes what was set into the run's summary, when it came so far.
fn note_parameters(out: &Path, set: &[String]) -> anyhow::Result<()> {
    let Some(mut summary) = Summary::read(out)? else { return Ok(()) };
    for one in set {
        let (path, value) = set::split(one)?;
        let value = match (value.parse(), value.parse()) {
            (Ok(number), _) => Parameter::Number(number),
            (_, Ok(flag)) => Parameter::Flag(flag),
            _ => Parameter::Text(value.into()),
        };
        summary.parameters.insert(path.into(), value);
    }
    Ok(summary.write(out)?)
}

/// `3`, `1..5` or `1,4,9`.
fn seeds(text: &str) -> anyhow::Result<Vec<u64>> {
    let number = |text: &str| {
        text.trim().parse::<u64>().with_context(|| format!("--seeds: {text:?} is not a number"))
    };
    match text.split_once("..") {
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            ensure!(first <= last, "--seeds {text}: the first is above the last");
            ensure!(last - first < 10_000, "--seeds {text}: more than {MAX_RUNS} runs");
            Ok((first..=last).collect())
        }
        None => text.split(',').map(number).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_one_a_range_or_a_list() {
        assert_eq!(seeds("3").unwrap(), [3]);
        assert_eq!(seeds("1..3").unwrap(), [1, 2, 3]);
        assert_eq!(seeds("1,4, 9").unwrap(), [1, 4, 9]);
        for wrong in ["", "x", "3..1", "1..", "0..99999999"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_combination_is_a_run() {
        let sweep = Sweep {
            scenario: PathBuf::new(),
            seeds: "1,2".into(),
            set: vec!["a=1,2,3".into(), "b=x,y".into()],
            out: PathBuf::new(),
            jobs: None,
        };
        let points = sweep.points().unwrap();
        assert_eq!(points.len(), 12);
        assert_eq!(points[11].set, ["a=3", "b=y"]);
    }
}
