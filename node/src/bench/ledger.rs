//! `bench ledger`: transactions settled by 1, 4 and 7 coordinators in this process, each with a
//! database of its own on this disk, beside one signature check and one write that is made durable.
//!
//! Messages between coordinators take no network: what is measured is consensus, execution and the
//! disk.

use super::{Figure, Latencies, Report, in_sequence, jobs::ratio, nodes::cores};
use crate::{
    coordinator::{Config, Coordinator, Outgoing},
    disk::FileDisk,
    environment::{PoolWorkers, Tasks, TokioExecutor},
};
use anyhow::{Context as _, bail, ensure};
use archipelag_protocol::{
    amount::Credits,
    genesis::{Allocation, Genesis, Validator},
    id::{NetworkId, NodeId},
    ledger::{Action, Transaction, TransactionReceipt, transaction},
    policy::Policy,
    query::{Request, Response},
    sign::{self, SecretKey},
    time::Timestamp,
};
use archipelag_runtimes::workers::Workers;
use serde_bytes::ByteBuf;
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Accounts, each of which has one transaction under way when throughput is measured.
const ACCOUNTS: u16 = 1_024;
/// Transactions that each of them can send.
const EACH: u64 = 64;
/// Bytes of a write that is made durable: about what a vote's log entry takes.
const WRITE_BYTES: usize = 4 << 10;

/// What was measured of one number of coordinators.
struct Measured {
    idle: Latencies,
    loaded: Latencies,
    per_second: u64,
    /// Processor time of the whole process for each transaction and coordinator.
    cpu_us: f64,
}

struct Network {
    coordinators: Vec<Coordinator>,
    network: NetworkId,
    tasks: Tasks,
}

fn account(index: u16) -> SecretKey {
    let mut seed = [7; 32];
    seed[..2].copy_from_slice(&index.to_be_bytes());
    SecretKey::from_seed(seed)
}

fn node(index: u8) -> NodeId {
    NodeId([index; 32])
}

impl Network {
    async fn start(directory: &Path, count: u8) -> anyhow::Result<Self> {
        let keys: Vec<_> = (0..count).map(|i| SecretKey::from_seed([200 + i; 32])).collect();
        let balance = Credits::from_whole(1_000);
        let validator = |(index, key): (u8, &SecretKey)| Validator {
            account: key.account(),
            node: node(index),
        };
        let genesis = Genesis {
            name: "bench".into(),
            created: Timestamp(1),
            policy: Policy::default(),
            accounts: (0..=ACCOUNTS)
                .map(|i| Allocation { account: account(i).account(), balance })
                .collect(),
            treasury: Credits::ZERO,
            validators: (0..).zip(&keys).map(validator).collect(),
            publishers: Vec::new(),
        };
        let network = genesis.network()?;
        let tasks = Tasks::new(Arc::new(TokioExecutor(tokio::runtime::Handle::current())));
        let workers: Arc<dyn Workers> = Arc::new(PoolWorkers::start(cores().max(2))?);
        let (mut coordinators, mut outgoing) = (Vec::new(), Vec::new());
        for (index, key) in (0..count).zip(keys) {
            let disk = Arc::new(FileDisk::new(directory.join(format!("{count}-{index}")))?);
            let (config, messages) = Config::among_others(genesis.clone(), key, Some(node(index)));
            coordinators.push(Coordinator::start(config, disk, workers.clone(), &tasks).await?);
            outgoing.push(messages);
        }
        for (from, messages) in (0..count).zip(outgoing) {
            tasks.spawn(carry(from, messages, coordinators.clone(), tasks.clone()));
        }
        Ok(Self { coordinators, network, tasks })
    }

    /// The `nonce`-th transaction of an account, as bytes.
    fn transfer(&self, from: u16, nonce: u64) -> anyhow::Result<ByteBuf> {
        let to = account((from + 1) % ACCOUNTS).account();
        let action = Action::Transfer { to, amount: Credits::from_micro(1) };
        let signed = account(from).seal(self.network, Transaction { nonce, salt: 0, action })?;
        Ok(ByteBuf::from(transaction::to_bytes(&signed)?))
    }

    async fn measure(&self, time: Duration) -> anyhow::Result<Measured> {
        let first = &self.coordinators[0];
        let mut nonce = 0;
        let idle = in_sequence(time, async || {
            let transfer = self.transfer(ACCOUNTS, nonce)?;
            nonce += 1;
            submit(first, transfer).await
        })
        .await?;
        let mut prepared = Vec::new();
        for from in 0..ACCOUNTS {
            let transfers: Vec<_> =
                (0..EACH).map(|nonce| self.transfer(from, nonce)).collect::<Result<_, _>>()?;
            prepared.push(transfers);
        }
        let (began, cpu) = (Instant::now(), cpu_time()?);
        let senders: Vec<_> = prepared
            .into_iter()
            .zip(self.coordinators.iter().cycle().cloned())
            .map(|(transfers, coordinator)| {
                tokio::spawn(async move {
                    let mut latencies = Latencies::default();
                    for transfer in transfers {
                        let sent = Instant::now();
                        if sent.duration_since(began) > time {
                            break;
                        }
                        submit(&coordinator, transfer).await?;
                        latencies.0.push(sent.elapsed());
                    }
                    anyhow::Ok(latencies)
                })
            })
            .collect();
        let mut loaded = Latencies::default();
        for sender in senders {
            loaded.0.extend(sender.await??.0);
        }
        let (took, cpu) = (began.elapsed(), cpu_time()?.saturating_sub(cpu));
        let count = u64::try_from(loaded.0.len())?.max(1);
        let shares = count * u64::try_from(self.coordinators.len())?;
        let per_second = count.saturating_mul(1_000_000) / u64::try_from(took.as_micros())?.max(1);
        let cpu_us = ratio(u64::try_from(cpu.as_micros())?, shares);
        Ok(Measured { idle, loaded, per_second, cpu_us })
    }
}

/// Takes a coordinator's messages to the others.
async fn carry(
    from: u8,
    mut messages: mpsc::Receiver<Outgoing>,
    coordinators: Vec<Coordinator>,
    tasks: Tasks,
) {
    let stopping = tasks.stopping();
    loop {
        let next = tokio::select! {
            () = stopping.cancelled() => return,
            next = messages.recv() => next,
        };
        let Some(Outgoing { to, message }) = next else { return };
        for (index, coordinator) in (0..).zip(&coordinators) {
            if index != from && to.is_none_or(|to| to == node(index)) {
                coordinator.receive(node(from), message.clone());
            }
        }
    }
}

async fn submit(coordinator: &Coordinator, transfer: ByteBuf) -> anyhow::Result<()> {
    match coordinator.answer(Request::Submit(transfer)).await {
        Response::Submitted(TransactionReceipt { outcome, .. }) => Ok(outcome?),
        other => bail!("a transaction was not settled: {other:?}"),
    }
}

/// Processor time that this process has used, of all its threads (proc(5), `stat`: fields 14 and 15
/// in ticks of 10 ms).
fn cpu_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = text.rsplit_once(')').context("/proc/self/stat has a name")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| -> anyhow::Result<u64> {
        Ok(fields.get(index).context("/proc/self/stat is short")?.parse()?)
    };
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// One signature check, as transactions need one.
fn verify(time: Duration) -> anyhow::Result<Figure> {
    let (key, network) = (account(0), NetworkId([1; 32]));
    let action = Action::Transfer { to: key.account(), amount: Credits::from_micro(1) };
    let transaction = Transaction { nonce: 0, salt: 0, action };
    let signature = key.sign(network, &transaction)?;
    figure(time, || Ok(sign::verify(network, key.account(), &transaction, &signature)?))
}

/// One write of a few kilobytes that is on the disk when it returns.
fn fsync(directory: &Path, time: Duration) -> anyhow::Result<Figure> {
    let mut file = File::create(directory.join("fsync"))?;
    let bytes = vec![7; WRITE_BYTES];
    figure(time, move || {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&bytes)?;
        Ok(file.sync_data()?)
    })
}

fn figure(time: Duration, mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Figure> {
    let (began, mut latencies) = (Instant::now(), Latencies::default());
    while began.elapsed() < time {
        let start = Instant::now();
        once()?;
        latencies.0.push(start.elapsed());
    }
    let runs = u64::try_from(latencies.0.len())?;
    let per_second = runs.saturating_mul(1_000_000) / u64::try_from(time.as_micros())?.max(1);
    Ok(Figure { p50_us: latencies.micros(50), per_second })
}

/// Measures for about `seconds`.
///
/// # Errors
/// When a part does not start or a transaction is not settled.
pub async fn run(seconds: u64) -> anyhow::Result<Report> {
    let directory = tempfile::tempdir()?;
    let slice = Duration::from_secs(seconds.max(1)) / 8;
    let mut by_count = BTreeMap::new();
    for count in [1, 4, 7] {
        let network = Network::start(directory.path(), count).await?;
        let measured = network.measure(slice).await;
        network.tasks.stop().await;
        by_count.insert(count, measured?);
    }
    let (verify, fsync) = tokio::task::spawn_blocking({
        let directory = directory.path().to_owned();
        move || anyhow::Ok((verify(slice)?, fsync(&directory, slice)?))
    })
    .await??;
    let settled: BTreeMap<_, _> =
        by_count.iter().map(|(count, m)| (count.to_string(), m.per_second)).collect();
    let (mut ratios, mut steps_us) = (BTreeMap::new(), BTreeMap::new());
    let names = [
        (1, ["cpu_1", "idle_p50_1", "idle_p99_1", "loaded_p50_1", "loaded_p99_1"]),
        (4, ["cpu_4", "idle_p50_4", "idle_p99_4", "loaded_p50_4", "loaded_p99_4"]),
        (7, ["cpu_7", "idle_p50_7", "idle_p99_7", "loaded_p50_7", "loaded_p99_7"]),
    ];
    for (count, [cpu, idle_p50, idle_p99, loaded_p50, loaded_p99]) in names {
        let measured = by_count.get_mut(&count).context("it was measured")?;
        steps_us.insert(cpu, measured.cpu_us);
        for (name, value) in [
            (idle_p50, measured.idle.micros(50)),
            (idle_p99, measured.idle.micros(99)),
            (loaded_p50, measured.loaded.micros(50)),
            (loaded_p99, measured.loaded.micros(99)),
        ] {
            steps_us.insert(name, ratio(value, 1));
        }
    }
    let four = by_count.get_mut(&4).context("it was measured")?;
    let p50_us = four.idle.micros(50);
    ensure!(p50_us > 0, "nothing was settled");
    let verify_us = ratio(verify.p50_us, 1).max(1.0);
    for (name, count) in [("cpu_to_verify_1", 1), ("cpu_to_verify_4", 4), ("cpu_to_verify_7", 7)] {
        let cpu_us = by_count.get(&count).map_or(0.0, |measured| measured.cpu_us);
        ratios.insert(name, (cpu_us / verify_us * 1000.0).round() / 1000.0);
    }
    ratios.insert("idle_p50_4_to_fsync", ratio(p50_us, fsync.p50_us));
    let four = by_count.get_mut(&4).context("it was measured")?;
    Ok(Report {
        bench: "ledger",
        config: json!({
            "coordinators": [1, 4, 7], "cores": cores(), "seconds": seconds,
            "at_once": ACCOUNTS, "settled_per_second": settled,
        }),
        p50_us,
        p99_us: four.idle.micros(99),
        per_second: four.per_second,
        baselines: BTreeMap::from([("ed25519_verify", verify), ("fsync", fsync)]),
        ratio: ratios,
        steps_us,
    })
}
