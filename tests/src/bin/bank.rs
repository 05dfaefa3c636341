//! A bank kept by five coordinators while everything goes wrong, in the manner of Jepsen (K.
//! Kingsbury): clients transfer credits at random and read all balances, while coordinators are
//! killed, stopped and cut off from each other. Every read must add up to all credits, and no
//! transfer that was acknowledged may be missing.
//!
//! `tests/bank.sh` builds and runs it. It prints what happened as one JSON object.

use anyhow::{Context as _, bail, ensure};
use archipelag_tests::{lab::Lab, text};
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus, seq::IndexedRandom as _};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const COORDINATORS: u8 = 5;
const CREDITS_EACH: u64 = 1_000;
/// How long a node may take to get ready, and all of them to agree at the end.
const READY: Duration = Duration::from_secs(60);
/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (seconds, seed) = match (arguments.next().as_deref(), arguments.next().as_deref()) {
        (Some("--seconds"), Some(seconds)) => (seconds.parse()?, arguments.nth(1)),
        (None, _) => (60, None),
        _ => bail!("usage: bank [--seconds N [--seed N]]"),
    };
    let seed = match seed {
        Some(seed) => seed.parse()?,
        None => u64::from(std::process::id()),
    };
    let bank = Bank::open(Duration::from_secs(seconds), seed)?;
    let report = bank.run()?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// Draws that depend on the seed alone.
type Random = Xoshiro256PlusPlus;

fn pause(random: &mut Random, ms: std::ops::Range<u64>) {
    thread::sleep(Duration::from_millis(random.random_range(ms)));
}

/// What became of the transfers, and what went wrong.
#[derive(Default)]
struct History {
    acknowledged: BTreeSet<String>,
    refused: u64,
    unknown: u64,
    reads: u64,
    faults: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

struct Bank {
    /// Its processes end before its network does.
    nodes: Vec<Mutex<Option<Child>>>,
    lab: Lab,
    folder: tempfile::TempDir,
    program: PathBuf,
    genesis: PathBuf,
    /// Addresses by which to join, as far as they are known.
    join: Mutex<Vec<String>>,
    accounts: Vec<String>,
    time: Duration,
    seed: u64,
    over: AtomicBool,
    history: Mutex<History>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program of this workspace, built beside this one.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    ensure!(path.exists(), "{} is not built: run tests/bank.sh", path.display());
    Ok(path)
}

/// Runs a command to its end, or ends it.
fn finish(mut command: Command, patience: Duration) -> anyhow::Result<Option<Output>> {
    let (out, error) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    command.stdin(Stdio::null()).stdout(out.reopen()?).stderr(error.reopen()?);
    let mut child = command.spawn()?;
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if let Some(status) = child.try_wait()? {
            let (stdout, stderr) = (fs::read(out.path())?, fs::read(error.path())?);
            return Ok(Some(Output { status, stdout, stderr }));
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

impl Bank {
    fn open(time: Duration, seed: u64) -> anyhow::Result<Self> {
        let lab = Lab::new(COORDINATORS)?;
        let folder = tempfile::tempdir()?;
        let genesis = folder.path().join("genesis.cbor");
        let bootstrap = program("archipelag-bootstrap")?;
        let mut document = Command::new(&bootstrap);
        document.args(["genesis", "new", "--name", "bank", "--treasury", "0", "--out"]);
        document.arg(&genesis);
        let mut accounts = Vec::new();
        for index in 0..COORDINATORS {
            let home = folder.path().join(format!("home{index}"));
            let mut identity = Command::new(&bootstrap);
            identity.arg("--home").arg(&home).args(["genesis", "identity"]);
            let output = identity.output()?;
            ensure!(output.status.success(), "{}", text(&output.stderr));
            let said = text(&output.stdout);
            let value = |name: &str| {
                let line = said.lines().find_map(|line| line.strip_prefix(name));
                line.map(|value| value.trim().to_owned()).with_context(|| said.clone())
            };
            let (validator, consumer) = (value("Validator:")?, value("Consumer:")?);
            document.args(["--validator", &validator]);
            document.args(["--allocate", &format!("{consumer}={CREDITS_EACH}")]);
            accounts.push(consumer);
        }
        let output = document.output()?;
        ensure!(output.status.success(), "{}", text(&output.stderr));
        let nodes = (0..COORDINATORS).map(|_| Mutex::new(None)).collect();
        let bank = Self {
            nodes,
            lab,
            folder,
            program: program("archipelag")?,
            genesis,
            join: Mutex::default(),
            accounts,
            time,
            seed,
            over: AtomicBool::new(false),
            history: Mutex::default(),
        };
        for index in 0..COORDINATORS {
            let join = bank.start(index)?;
            lock(&bank.join).push(join);
        }
        Ok(bank)
    }

    fn home(&self, index: u8) -> PathBuf {
        self.folder.path().join(format!("home{index}"))
    }

    fn note(&self, text: &str) {
        eprintln!("{text}");
    }

    /// Starts a coordinator's process and waits until it is ready; gives its address.
    fn start(&self, index: u8) -> anyhow::Result<String> {
        let log = self.folder.path().join(format!("log{index}"));
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = self.lab.command(index, &self.program);
        command.arg("--home").arg(self.home(index)).arg("up").arg("--genesis").arg(&self.genesis);
        command.args(["--no-island", "--http", "127.0.0.1:8420"]);
        command.args(["--listen", &format!("/ip4/{}/tcp/8422", Lab::address(index))]);
        for join in lock(&self.join).iter() {
            command.args(["--join", join]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("stdout is piped")?);
        *lock(self.node(index)) = Some(child);
        let (sender, found) = std::sync::mpsc::sync_channel(1);
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(join) = line.trim().strip_prefix("Join:") {
                    // Reads on when nobody listens: a closed pipe would be an error to the node.
                    let _over = sender.send(join.trim().to_owned());
                }
            }
        });
        found.recv_timeout(READY).with_context(|| format!("coordinator {index} does not get ready"))
    }

    fn node(&self, index: u8) -> &Mutex<Option<Child>> {
        &self.nodes[usize::from(index)]
    }

    fn signal(&self, index: u8, signal: &str) -> anyhow::Result<()> {
        let id = lock(self.node(index)).as_ref().map(|child| child.id().to_string());
        if let Some(id) = id {
            Command::new("kill").args([signal, &id]).status()?;
        }
        Ok(())
    }

    fn kill(&self, index: u8) -> anyhow::Result<()> {
        if let Some(mut child) = lock(self.node(index)).take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Runs the command line beside a coordinator; `None` when it does not answer.
    fn cli(&self, index: u8, arguments: &[&str]) -> anyhow::Result<Option<Output>> {
        let mut command = self.lab.command(index, &self.program);
        command.arg("--home").arg(self.home(index)).arg("--json").args(arguments);
        finish(command, PATIENCE)
    }

    fn json(&self, index: u8, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.cli(index, arguments)?.context("no answer in time")?;
        ensure!(output.status.success(), "{}", text(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn run(&self) -> anyhow::Result<Value> {
        let begun = Instant::now();
        thread::scope(|scope| -> anyhow::Result<()> {
            let clients: Vec<_> =
                (0..COORDINATORS).map(|index| scope.spawn(move || self.client(index))).collect();
            let nemesis = scope.spawn(|| self.nemesis());
            while begun.elapsed() < self.time && lock(&self.history).violations.is_empty() {
                thread::sleep(Duration::from_millis(100));
            }
            self.over.store(true, Ordering::Relaxed);
            for thread in clients.into_iter().chain([nemesis]) {
                thread.join().map_err(|_| anyhow::anyhow!("a thread of the test panicked"))??;
            }
            Ok(())
        })?;
        self.judge()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Transfers and reads, one after another, until it is over.
    fn client(&self, index: u8) -> anyhow::Result<()> {
        let mut random = Random::seed_from_u64(self.seed.wrapping_add(u64::from(index) << 32));
        while !self.is_over() {
            if random.random_ratio(3, 10) {
                self.read(index)?;
                continue;
            }
            let to = self.accounts.choose(&mut random).context("an account")?;
            let amount = format!("0.{:06}", random.random_range(1..1_000_000));
            match self.cli(index, &["account", "transfer", to, &amount])? {
                Some(output) if output.status.success() => {
                    let answer: Value = serde_json::from_slice(&output.stdout)?;
                    let id = answer["transaction"].as_str().context("a transaction")?;
                    lock(&self.history).acknowledged.insert(id.to_owned());
                }
                Some(output) if output.status.code() == Some(3) => {
                    lock(&self.history).refused += 1;
                }
                _ => {
                    lock(&self.history).unknown += 1;
                    pause(&mut random, 100..500);
                }
            }
        }
        Ok(())
    }

    /// Reads all balances of one block; a coordinator that is away gives none.
    fn read(&self, index: u8) -> anyhow::Result<()> {
        let mut arguments = vec!["account", "show"];
        arguments.extend(self.accounts.iter().map(String::as_str));
        let Some(output) = self.cli(index, &arguments)?.filter(|o| o.status.success()) else {
            thread::sleep(Duration::from_millis(200));
            return Ok(());
        };
        let answer: Value = serde_json::from_slice(&output.stdout)?;
        let total = total(&answer)?;
        let mut history = lock(&self.history);
        history.reads += 1;
        if total != u64::from(COORDINATORS) * CREDITS_EACH * 1_000_000 {
            history.violations.push(format!("a read adds up to {total} microcredits: {answer}"));
        }
        Ok(())
    }

    /// One misfortune after another, sometimes two at once.
    fn nemesis(&self) -> anyhow::Result<()> {
        let mut random = Random::seed_from_u64(self.seed ^ 0xfa_17);
        while !self.is_over() {
            pause(&mut random, 1_000..4_000);
            let victim = random.random_range(0..COORDINATORS);
            let kinds = ["kill", "stop", "partition", "kill and partition", "kill all"];
            let kind = *kinds.choose(&mut random).context("a misfortune")?;
            *lock(&self.history).faults.entry(kind).or_insert(0) += 1;
            self.note(&format!("{kind}: coordinator {victim}"));
            if kind.ends_with("partition") {
                let mut halves: Vec<_> = (0..COORDINATORS).map(|index| index == victim).collect();
                // One alone, or two.
                let other = random.random_range(0..halves.len());
                halves[other] |= random.random_ratio(1, 2);
                self.lab.divide(&halves)?;
            }
            match kind {
                "stop" => self.signal(victim, "-STOP")?,
                "partition" => {}
                "kill all" => (0..COORDINATORS).try_for_each(|index| self.kill(index))?,
                _ => self.kill(victim)?,
            }
            pause(&mut random, 1_000..7_000);
            match kind {
                "stop" => self.signal(victim, "-CONT")?,
                "partition" => {}
                "kill all" => {
                    (0..COORDINATORS).try_for_each(|index| self.start(index).map(drop))?
                }
                _ => drop(self.start(victim)?),
            }
            if kind.ends_with("partition") {
                pause(&mut random, 500..3_000);
                self.lab.divide(&[false; COORDINATORS as usize])?;
            }
        }
        Ok(())
    }

    /// Waits until everybody agrees, and checks the chain against what was said to the clients.
    fn judge(&self) -> anyhow::Result<Value> {
        let begun = Instant::now();
        let height = loop {
            let heights: Vec<_> = (0..COORDINATORS)
                .map(|index| Ok(self.json(index, &["ledger", "status"])?["height"].as_u64()))
                .collect::<anyhow::Result<_>>()?;
            match heights.first().copied().flatten() {
                Some(first) if heights.iter().all(|height| *height == Some(first)) => break first,
                _ if begun.elapsed() > READY => bail!("they do not agree: {heights:?}"),
                _ => thread::sleep(Duration::from_millis(200)),
            }
        };
        let mut included = BTreeSet::new();
        let mut from = 1;
        while from <= height {
            let start = from.to_string();
            let page = self.json(0, &["ledger", "blocks", "--from", &start, "--limit", "100"])?;
            let blocks = page.as_array().context("blocks")?;
            for block in blocks {
                from = block["height"].as_u64().context("a height")? + 1;
                for transaction in block["transactions"].as_array().context("transactions")? {
                    let id = transaction["id"].as_str().context("an id")?.to_owned();
                    ensure!(included.insert(id.clone()), "{id} is there twice");
                }
            }
        }
        let mut history = lock(&self.history);
        let lost: Vec<_> = history.acknowledged.difference(&included).cloned().collect();
        history
            .violations
            .extend(lost.into_iter().map(|id| format!("{id} was acknowledged and is lost")));
        for index in 0..COORDINATORS {
            let verified = self.cli(index, &["ledger", "verify"])?;
            if !verified.is_some_and(|output| output.status.success()) {
                history.violations.push(format!("the ledger of coordinator {index} is not right"));
            }
        }
        let mut arguments = vec!["account", "show"];
        arguments.extend(self.accounts.iter().map(String::as_str));
        let last = self.json(0, &arguments)?;
        let report = json!({
            "seconds": self.time.as_secs(), "seed": self.seed, "coordinators": COORDINATORS,
            "acknowledged": history.acknowledged.len(), "included": included.len(),
            "refused": history.refused, "unknown": history.unknown, "reads": history.reads,
            "faults": history.faults, "height": height, "total_micro": total(&last)?,
            "violations": history.violations,
        });
        ensure!(history.violations.is_empty(), "{report:#}");
        ensure!(
            !history.acknowledged.is_empty() && history.reads > 0,
            "nothing happened: {report:#}"
        );
        Ok(report)
    }
}

/// The sum of the balances in an answer, in microcredits.
fn total(answer: &Value) -> anyhow::Result<u64> {
    let accounts = answer["accounts"].as_array().context("accounts")?;
    let mut total = 0;
    for account in accounts {
        let credits = account["credits"].as_str().context("credits")?;
        let (whole, decimals) = credits.split_once('.').unwrap_or((credits, ""));
        let decimals: u64 = format!("{decimals:0<6}").parse()?;
        total += whole.parse::<u64>()? * 1_000_000 + decimals;
    }
    Ok(total)
}

impl Drop for Bank {
    fn drop(&mut self) {
        for index in 0..COORDINATORS {
            if let Err(error) = self.kill(index) {
                eprintln!("{error:#}");
            }
        }
    }
}
