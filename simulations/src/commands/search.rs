//! `archipelag-sim search`: random scenarios until a rule is broken, then the shortest that breaks it.

use super::{Held, generate, shrink};
use anyhow::Context as _;
use archipelag_simulations::scenario::Scenario;
use std::{
    fs,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A run that takes longer is stuck, which is a fault, too.
const STUCK: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
pub(crate) struct Search {
    /// For how long to look.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Where the scenario is written that breaks a rule.
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// How long to look for a shorter one.
    #[arg(long, default_value_t = 600)]
    shrink_seconds: u64,
    /// Runs at once; one for each core when absent.
    #[arg(long)]
    jobs: Option<usize>,
}

/// What a run broke: the oracle's name, and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Broken {
    oracle: String,
    what: String,
}

impl Search {
    pub(crate) fn run(self) -> anyhow::Result<Held> {
        let (ran, found) = self.look()?;
        let Some((scenario, broken)) = found else {
            println!("{ran} scenarios from seed {} on, no rule broken", self.first);
            return Ok(Held::All);
        };
        println!("{}: {}", scenario.name, broken.what);
        let (short, broken) = self.shorten(scenario, broken)?;
        fs::create_dir_all(&self.out)?;
        let file = self.out.join(format!("{}.toml", short.name));
        fs::write(&file, format!("# {}\n{}", broken.what, short.to_toml()))?;
        println!("the shortest that was found is {}", file.display());
        Ok(Held::Broken)
    }

    fn look(&self) -> anyhow::Result<(u64, Option<(Scenario, Broken)>)> {
        let ends = Instant::now() + Duration::from_secs(self.seconds);
        let (next, stop) = (AtomicU64::new(self.first), AtomicBool::new(false));
        let found = Mutex::new(None);
        let failed = Mutex::new(None);
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.unwrap_or_else(cores).max(1) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) && Instant::now() < ends {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let scenario = generate::scenario(seed);
                        match breaks(&scenario) {
                            Ok(None) => {}
                            Ok(Some(broken)) => {
                                stop.store(true, Ordering::Relaxed);
                                let mut found =
                                    found.lock().unwrap_or_else(PoisonError::into_inner);
                                found.get_or_insert((scenario, broken));
                            }
                            Err(error) => {
                                stop.store(true, Ordering::Relaxed);
                                *failed.lock().unwrap_or_else(PoisonError::into_inner) =
                                    Some(error);
                            }
                        }
                        if std::io::stderr().is_terminal() {
                            eprint!("\r{} scenarios   ", seed - self.first + 1);
                        }
                    }
                });
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let ran = next.load(Ordering::Relaxed) - self.first;
        Ok((ran, found.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Takes away what is not needed to break the same rule.
    fn shorten(
        &self,
        mut scenario: Scenario,
        mut broken: Broken,
    ) -> anyhow::Result<(Scenario, Broken)> {
        let ends = Instant::now() + Duration::from_secs(self.shrink_seconds);
        'again: loop {
            for simpler in shrink::simpler(&scenario) {
                if Instant::now() > ends {
                    return Ok((scenario, broken));
                }
                // What is not possible is not simpler.
                if Scenario::parse(&simpler.to_toml()).is_err() {
                    continue;
                }
                if let Some(found) = breaks(&simpler)?
                    && found.oracle == broken.oracle
                {
                    (scenario, broken) = (simpler, found);
                    continue 'again;
                }
            }
            return Ok((scenario, broken));
        }
    }
}

/// Runs a scenario in a process of its own; what it breaks.
fn breaks(scenario: &Scenario) -> anyhow::Result<Option<Broken>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("scenario.toml");
    fs::write(&file, scenario.to_toml())?;
    let out = folder.path().join("run");
    let mut child = Command::new(std::env::current_exe()?)
        .arg("run")
        .arg(&file)
        .args(["--no-report", "--out"])
        .arg(&out)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stderr = child.stderr.take().context("its words are piped")?;
    let words = std::thread::spawn(move || {
        let mut text = String::new();
        // What can't be read is not told.
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > STUCK {
            child.kill()?;
            child.wait()?;
            let what = format!("it did not end in {} s", STUCK.as_secs());
            return Ok(Some(Broken { oracle: "stuck".into(), what }));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let words = words.join().unwrap_or_default();
    Ok(match status.code() {
        Some(0) => None,
        Some(1) => first_violation(&out),
        Some(2) => anyhow::bail!("{}: {words}", scenario.name),
        _ => Some(Broken { oracle: "end".into(), what: format!("{status}: {}", words.trim()) }),
    })
}

fn first_violation(out: &Path) -> Option<Broken> {
    let summary = fs::read(out.join("summary.json")).ok()?;
    let summary: serde_json::Value = serde_json::from_slice(&summary).ok()?;
    let what = summary["violations"].get(0)?.as_str()?.to_owned();
    let oracle = what.split(", ").nth(1)?.split(':').next()?.to_owned();
    Some(Broken { oracle, what })
}
