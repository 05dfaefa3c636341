//! One run: a scenario and a seed, from the start to its summary.
//!
//! `archipelag-sim` and tests call it, once in a process: some libraries count through a process's
//! life what must start from 0 in each run.

use crate::{
    activities::{self, Traces},
    draw::below,
    executor::Executor,
    lock,
    observe::Observer,
    oracles::Oracles,
    output::{Summary, Tables, rows, stats},
    record::{Record, State, word},
    scenario::{Fidelity, Role, Scenario},
    trace::Trace,
    world::{World, now_s, seconds},
};
use archipelag_simulation_kernel as kernel;
use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What a run is asked to leave behind.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A new directory for tables.
    pub tables: Option<PathBuf>,
    /// A file for the trace.
    pub trace: Option<PathBuf>,
    /// Where files that the scenario names are.
    pub folder: PathBuf,
    /// Ends the run early, in seconds of virtual time.
    pub until_s: Option<f64>,
    /// Has the operating system end the process when something asks it for time, entropy or a
    /// thread.
    pub strict: bool,
    /// Says in the summary what the nodes know at the end.
    pub state: bool,
    /// Set from outside to end the run at once.
    pub interrupted: Arc<AtomicBool>,
    /// Called now and then.
    pub progress: Option<fn(&Progress)>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub virtual_s: f64,
    pub of_s: f64,
    pub real: Duration,
    pub jobs: usize,
    pub violations: usize,
}

/// Real time between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Runs a scenario.
///
/// # Errors
/// When its nodes make no network, or nothing can be written.
pub fn run(scenario: &Scenario, seed: u64, options: &Options) -> anyhow::Result<Summary> {
    anyhow::ensure!(
        scenario.fidelity != Fidelity::Model,
        "fidelity = \"model\" is not built yet: use \"muxer\", with up to 20,000 nodes"
    );
    let traces: Traces = scenario.load_traces(&options.folder)?;
    let tables = options.tables.as_deref().map(Tables::create).transpose()?;
    let trace = match &options.trace {
        Some(path) => Trace::to_file(path)?,
        None => Trace::default(),
    };
    let trace = Arc::new(Mutex::new(trace));
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            kernel::start(seed)?;
            if options.strict {
                kernel::forbid()?;
            }
            let summary = run_in_virtual_time(scenario, seed, options, traces, tables, &trace);
            kernel::stop();
            lock(&trace).flush()?;
            summary
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run_in_virtual_time(
    scenario: &Scenario,
    seed: u64,
    options: &Options,
    traces: Traces,
    tables: Option<Tables>,
    trace: &Arc<Mutex<Trace>>,
) -> anyhow::Result<Summary> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let executor = Executor::default();
    let record = Record::new(tables);
    let log = options.tables.as_ref().map(|folder| File::create(folder.join("log.txt")));
    let observer = Observer::new(&record, trace.clone(), log.transpose()?);
    let _observed = tracing::subscriber::set_default(observer.clone());
    let summary = runtime.block_on(executor.clone().run(async {
        let world = World::new(scenario, seed, executor.clone(), trace.clone())?;
        follow(&world, &observer);
        let healed = activities::start(&world, &record, traces);
        let mut oracles = Oracles::new(&world, &record, healed);
        let completed = pass(&world, &record, &observer, &mut oracles, options).await;
        oracles.finish(&observer);
        leave_rows(&world, &record, &oracles);
        record.finish()?;
        let (trace_entries, trace_hash) = lock(trace).digest();
        anyhow::Ok(Summary {
            scenario: scenario.name.clone(),
            seed,
            versions: versions(),
            nodes: word(world.places().len()),
            virtual_s: now_s(),
            interrupted: !completed,
            trace_entries,
            trace_hash,
            violations: record.with(|seen| seen.violations.iter().map(in_words).collect()),
            figures: figures(&world, &record, &observer, &oracles),
            parameters: BTreeMap::new(),
            state: options.state.then(|| state(&world, &record)),
        })
    }));
    // Before time is real again: what ends in it looks at clocks.
    drop(executor);
    drop(runtime);
    summary
}

fn versions() -> BTreeMap<String, String> {
    let versions = [("archipelag", env!("CARGO_PKG_VERSION")), ("profile", PROFILE)];
    versions.map(|(name, version)| (name.to_owned(), version.to_owned())).into()
}

/// How this program was built.
const PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

fn in_words(violation: &rows::Violation) -> String {
    let at = violation.time_s;
    match violation.node {
        Some(node) => format!("{at:.3} s, {}, node {node}: {}", violation.oracle, violation.what),
        None => format!("{at:.3} s, {}: {}", violation.oracle, violation.what),
    }
}

/// Lets time pass, looks at the rules and takes samples; `false` when it was interrupted.
async fn pass(
    world: &World,
    record: &Record,
    observer: &Observer,
    oracles: &mut Oracles,
    options: &Options,
) -> bool {
    let scenario = world.scenario();
    let ends_s = options.until_s.map_or(scenario.duration_s, |s| s.min(scenario.duration_s));
    let (mut next_check_s, mut next_sample_s) = (0.0, 0.0);
    let began = kernel::real_elapsed();
    let mut shown = began;
    loop {
        let at_s = f64::min(next_check_s, next_sample_s).min(ends_s);
        let left = seconds(at_s).saturating_sub(kernel::now());
        tokio::time::sleep(Duration::from_nanos(left)).await;
        if now_s() + 1e-9 >= next_check_s {
            oracles.look();
            let nodes = 0..world.places().len();
            observer.set_running(nodes.filter(|index| world.node(*index).is_some()).count());
            next_check_s += scenario.checks.every_s;
        }
        if now_s() + 1e-9 >= next_sample_s {
            sample(world, record);
            next_sample_s += scenario.observe.sample_s;
        }
        let real = kernel::real_elapsed();
        if real >= shown + PROGRESS_EVERY {
            shown = real;
            record.flush();
            if let Some(show) = options.progress {
                let (jobs, violations) =
                    record.with(|seen| (seen.jobs.len(), seen.violations.len()));
                let of_s = ends_s;
                show(&Progress { virtual_s: now_s(), of_s, real: real - began, jobs, violations });
            }
        }
        if options.interrupted.load(Ordering::Relaxed) {
            return false;
        }
        if now_s() + 1e-9 >= ends_s {
            return true;
        }
    }
}

/// Has the adverts of some Islands followed.
fn follow(world: &World, observer: &Observer) {
    let mut islands: Vec<_> = world.places().iter().filter(|p| p.is(Role::Island)).collect();
    for _ in 0..world.scenario().observe.adverts_of.min(islands.len()) {
        let place = islands.swap_remove(below(islands.len()));
        let node = archipelag_node::mesh::identity::node_of(place.profile.peer);
        observer.follow(node.map(|node| (node.prefix(), place.index)));
    }
}

/// One row for each node that runs.
fn sample(world: &World, record: &Record) {
    let tasks = world.executor().counts();
    for place in world.places() {
        let Some(node) = world.node(place.index) else { continue };
        let traffic = world.network().traffic(place.index);
        record.row(&rows::Sample {
            time_s: now_s(),
            node: word(place.index),
            connections: word(node.mesh.peers().len()),
            mesh_peers: word(node.mesh.neighbours()),
            islands_known: word(node.mesh.islands().len()),
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
            jobs_running: node.island.as_ref().map_or(0, |island| island.active_jobs().into()),
            tasks: word(tasks.get(&crate::world::owner(place.index)).copied().unwrap_or(0)),
        });
    }
}

/// What can only be said at the end: nodes, and jobs that are not over.
fn leave_rows(world: &World, record: &Record, oracles: &Oracles) {
    let ledger = oracles.ledger();
    for place in world.places() {
        let index = place.index;
        let node = world.node(index);
        let traffic = world.network().traffic(index);
        let (starts, started_at, stopped_at) = world.history(index);
        let roles: Vec<String> = place.roles.iter().map(|role| role.word().into()).collect();
        let account = place.identity.operator.account();
        let earned = ledger
            .as_ref()
            .and_then(|state| state.accounts.get(&account))
            .map_or(0, |account| account.balance.micro());
        let jobs_run = record.with(|seen| {
            let run = |job: &&crate::record::Job| {
                job.island == Some(index) && job.state == State::Completed
            };
            seen.jobs.iter().filter(run).count()
        });
        record.row(&rows::Node {
            node: word(index),
            group: world.scenario().groups[place.group].name.clone(),
            role: roles.join("+"),
            region: world.scenario().network.regions[place.profile.region].clone(),
            peer: place.profile.peer.to_string(),
            started_s: started_at as f64 / 1e9,
            stopped_s: stopped_at.map(|at| at as f64 / 1e9),
            restarts: starts.saturating_sub(1),
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
            connections: node.as_ref().map_or(0, |node| word(node.mesh.peers().len())),
            mesh_peers: node.as_ref().map_or(0, |node| word(node.mesh.neighbours())),
            jobs_run: word(jobs_run),
            earned_microcredits: earned,
            skew_ms: World::skew(place.skew_ms) / 1_000_000,
        });
    }
    record.with(|seen| {
        let open: Vec<rows::Job> = seen
            .jobs
            .iter()
            .enumerate()
            .filter(|(_, job)| !job.state.is_over())
            .map(|(number, job)| crate::activities::job_row(number, job))
            .collect();
        open.iter().for_each(|row| seen.row(row));
    });
}

/// What the nodes know now, for people.
fn state(world: &World, record: &Record) -> serde_json::Value {
    let nodes = world.places().iter().map(|place| {
        let Some(node) = world.node(place.index) else {
            return serde_json::json!({"node": place.index, "running": false});
        };
        let peers = node.mesh.peers();
        let peers = peers.iter().filter_map(|peer| world.index_of(peer.node));
        let islands = node.mesh.islands();
        let islands = islands.iter().filter_map(|seen| world.index_of(seen.advert.value.node));
        let ledger = node.coordinator.as_ref().map(|coordinator| {
            let state = coordinator.state();
            serde_json::json!({
                "height": state.height,
                "block": state.last_block.to_string(),
                "decides": coordinator.decides(),
                "failure": coordinator.failure(),
            })
        });
        serde_json::json!({
            "node": place.index,
            "running": true,
            "connected_to": peers.collect::<Vec<_>>(),
            "mesh_peers": node.mesh.neighbours(),
            "knows_islands": islands.collect::<Vec<_>>(),
            "runs_jobs": node.island.as_ref().map(|island| island.active_jobs()),
            "ledger": ledger,
        })
    });
    let open = record.with(|seen| {
        let jobs = seen.jobs.iter().enumerate().filter(|(_, job)| !job.state.is_over());
        let words = jobs.map(|(number, job)| {
            serde_json::json!({
                "job": number,
                "consumer": job.consumer,
                "island": job.island,
                "state": job.state.word(),
                "submitted_s": job.submitted_s,
                "events": job.events,
            })
        });
        words.collect::<Vec<_>>()
    });
    serde_json::json!({"nodes": nodes.collect::<Vec<_>>(), "open_jobs": open})
}

fn percent(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| part as f64 * 100.0 / of as f64)
}

/// The numbers of a summary.
pub(crate) fn figures(
    world: &World,
    record: &Record,
    observer: &Observer,
    oracles: &Oracles,
) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    let mut put = |name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            figures.insert(name.to_owned(), value);
        }
    };
    record.with(|seen| {
        let count = |state: State| seen.jobs.iter().filter(|job| job.state == state).count();
        let (completed, failed) = (count(State::Completed), count(State::Failed));
        let refused = count(State::Refused);
        put("jobs_wrong", Some(seen.jobs.iter().filter(|job| job.wrong).count() as f64));
        put("job_success_percent", percent(completed, completed + failed + refused));
        let retried = seen.jobs.iter().filter(|job| job.attempts > 1).count();
        put("jobs_retried", Some(retried as f64));
        let found = seen.lookups.iter().filter(|(found, _)| *found).count();
        put("lookup_success_percent", percent(found, seen.lookups.len()));
    });
    let all = 0..world.places().len();
    let sent: u64 = all.map(|index| world.network().traffic(index).sent_bytes).sum();
    let node_seconds = world.places().len() as f64 * now_s().max(1.0);
    put("sent_kbit_mean", Some(sent as f64 * 8.0 / 1000.0 / node_seconds));
    let nodes = || (0..world.places().len()).filter_map(|index| world.node(index));
    let degree: stats::Distribution = nodes().map(|node| node.mesh.neighbours() as f64).collect();
    put("mesh_peers_p50", degree.p50());
    put("mesh_peers_min", degree.min());
    put("nodes_running", Some(nodes().count() as f64));
    put("connections", Some(world.network().connections() as f64));
    put("delivery_percent", observer.delivery_percent());
    put("reconverged_s", oracles.reconverged_s);
    figures
}
