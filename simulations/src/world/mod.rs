//! Whole nodes on a simulated network: started, crashed, started again on what their disks kept.
//!
//! [`World`] is a handle; `run.rs` makes one of a scenario and drives it. It re-implements nothing
//! of a node.

mod place;
pub mod runtime;

pub use place::Place;

use crate::{
    adversary::{muzzled, storm},
    draw::whole,
    executor::Executor,
    lock,
    network::{self, Network, address_of},
    scenario::{Behaviour, Fidelity, Role, Scenario},
    trace::{Kind, Trace},
};
use anyhow::{Context as _, ensure};
use archipelag_node::{
    environment::{Environment, InlineWorkers},
    island, mesh,
    node::{Node, Settings},
    project::Project,
    starter::starter_cargos,
};
use archipelag_protocol::{advert::Hardware, genesis::Genesis, id::NodeId, pricing::HardwareTier};
use archipelag_runtimes::wasm::{self, WasmRuntime};
use archipelag_simulation_kernel::{self as kernel, Nanos, Owner};
use libp2p::{Multiaddr, multiaddr::Protocol};
use runtime::IslandRuntime;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As by `SIGTERM`.
    Stop,
    /// As by `SIGKILL`: what was not flushed to disk is lost, peers see closed connections.
    Kill,
    /// As without power: as killed, and peers see nothing.
    Power,
}

/// What a node is doing.
#[derive(Debug, Default)]
struct Life {
    node: Option<Arc<Node>>,
    starts: u64,
    started_at: Nanos,
    stopped_at: Option<Nanos>,
    /// Faults that keep it from running.
    held_down: u32,
}

#[derive(Debug)]
struct Inner {
    scenario: Scenario,
    seed: u64,
    places: Vec<Place>,
    lives: Vec<Mutex<Life>>,
    genesis: Arc<Genesis>,
    real: Arc<WasmRuntime>,
    network: Network,
    executor: Executor,
    trace: Arc<Mutex<Trace>>,
    changed: watch::Sender<u64>,
    by_node: BTreeMap<NodeId, usize>,
    /// The nodes with the behaviour `covert-flash` have begun to misbehave.
    flashed: Arc<AtomicBool>,
}

/// A handle to all nodes of one run.
#[derive(Clone, Debug)]
pub struct World(Arc<Inner>);

pub(crate) fn owner(index: usize) -> Owner {
    Owner::try_from(index).unwrap_or(kernel::WORLD - 1)
}

/// Seconds as the kernel counts them.
pub(crate) fn seconds(seconds: f64) -> Nanos {
    whole(seconds * 1e9)
}

/// The virtual time in seconds.
#[must_use]
pub fn now_s() -> f64 {
    kernel::now() as f64 / 1e9
}

fn settings_of(network: &crate::scenario::Network, fidelity: Fidelity) -> network::Settings {
    let milliseconds = |ms: &f64| whole(ms * 1e6);
    let matrix = network.latency_ms.iter().map(|row| row.iter().map(milliseconds).collect());
    network::Settings {
        fidelity: if fidelity == Fidelity::Full {
            network::Fidelity::Full
        } else {
            network::Fidelity::Muxer
        },
        latency: network::Latency::new(matrix.collect(), network.spread_percent),
        jitter_percent: network.jitter_percent,
        loss_ppm: u32::try_from(whole(network.loss_percent * 1e4)).unwrap_or(u32::MAX),
        give_up: seconds(network.give_up_s),
        slow_start: network.slow_start,
    }
}

impl World {
    /// All nodes of `scenario`, none of which runs yet. In virtual time.
    ///
    /// # Errors
    /// When the nodes don't make a network.
    pub fn new(
        scenario: &Scenario,
        seed: u64,
        executor: Executor,
        trace: Arc<Mutex<Trace>>,
    ) -> anyhow::Result<Self> {
        let places = place::draw(scenario, seed)?;
        let genesis = Arc::new(place::genesis(scenario, &places)?);
        let settings = settings_of(&scenario.network, scenario.fidelity);
        let network = Network::new(settings, trace.clone());
        for place in &places {
            network.add(place.profile.clone());
            kernel::set_skew(owner(place.index), Self::skew(place.skew_ms));
            let step_us = scenario.groups[place.group].step_us;
            if step_us > 0.0 {
                executor.set_poll_cost(owner(place.index), whole(step_us * 1000.0));
            }
        }
        let workers = Arc::new(InlineWorkers(executor.of(kernel::WORLD)));
        let config = wasm::Config { jobs_max: 1_000, ..wasm::Config::default() };
        let id = |place: &Place| mesh::identity::node_of(place.profile.peer);
        let by_node = places.iter().filter_map(|place| Some((id(place)?, place.index))).collect();
        Ok(Self(Arc::new(Inner {
            scenario: scenario.clone(),
            seed,
            lives: places.iter().map(|_| Mutex::default()).collect(),
            places,
            genesis,
            real: Arc::new(WasmRuntime::new(config, workers)?),
            network,
            executor,
            trace,
            changed: watch::Sender::new(0),
            by_node,
            flashed: Arc::default(),
        })))
    }

    /// Milliseconds as the kernel's clocks take them.
    pub(crate) fn skew(ms: f64) -> i64 {
        let size = i64::try_from(whole(ms.abs() * 1e6)).unwrap_or(i64::MAX);
        if ms < 0.0 { -size } else { size }
    }

    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.0.scenario
    }

    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.0.genesis
    }

    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.0.places
    }

    #[must_use]
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    #[must_use]
    pub fn executor(&self) -> &Executor {
        &self.0.executor
    }

    /// Changes whenever a node starts or ends.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    pub(crate) fn note(&self, kind: Kind, what: [u64; 4]) {
        lock(&self.0.trace).add(kind, what);
    }

    /// A node, while it runs.
    #[must_use]
    pub fn node(&self, index: usize) -> Option<Arc<Node>> {
        lock(&self.0.lives[index]).node.clone()
    }

    /// Since when a node runs; `None` when it doesn't.
    #[must_use]
    pub fn running_since(&self, index: usize) -> Option<Nanos> {
        let life = lock(&self.0.lives[index]);
        life.node.is_some().then_some(life.started_at)
    }

    /// How often a node was started, when last, and when it ended.
    #[must_use]
    pub fn history(&self, index: usize) -> (u64, Nanos, Option<Nanos>) {
        let life = lock(&self.0.lives[index]);
        (life.starts, life.started_at, life.stopped_at)
    }

    fn note_life(&self, index: usize, began: bool, starts: u64) {
        let index = u64::try_from(index).unwrap_or(u64::MAX);
        self.note(Kind::Node, [index, u64::from(began), starts, 0]);
        self.0.changed.send_modify(|version| *version += 1);
    }

    fn bootstrap_of(&self, place: &Place) -> Vec<Multiaddr> {
        let address = |other: &usize| {
            let peer = self.0.places[*other].profile.peer;
            address_of(*other).with(Protocol::P2p(peer))
        };
        place.bootstrap.iter().map(address).collect()
    }

    fn settings(&self, place: &Place) -> Settings {
        let group = &self.0.scenario.groups[place.group];
        let regions = &self.0.scenario.network.regions;
        let island = place.is(Role::Island).then(|| island::Config {
            name: format!("{}-{}", group.name, place.index).chars().take(60).collect(),
            region: regions.get(place.profile.region).cloned().unwrap_or_default(),
            platform: archipelag_protocol::manifest::Platform::Desktop,
            hardware: Hardware {
                tier: HardwareTier::CpuOnly,
                cpu_cores: group.jobs_at_a_time.max(1),
                ram_mb: 16_384,
                vram_mb: 0,
                memory_bandwidth_mbps: 0,
            },
            max_jobs: group.jobs_at_a_time,
            asking_percent: place.asking_percent,
            tighten: island::Tighten::default(),
            settle_interval: Duration::from_secs(5),
        });
        Settings {
            mesh: mesh::Config {
                listen: if group.listens { vec![address_of(place.index)] } else { Vec::new() },
                bootstrap: self.bootstrap_of(place),
                mdns: false,
                max_connections: 1_000,
            },
            island,
            coordinator: place.keeps_ledger(),
        }
    }

    /// Starts a node on the disk that it has, unless a fault holds it down.
    ///
    /// # Errors
    /// When it runs already, or does not start.
    pub async fn start(&self, index: usize) -> anyhow::Result<()> {
        let place = &self.0.places[index];
        {
            let life = lock(&self.0.lives[index]);
            ensure!(life.node.is_none(), "node {index} runs already");
            if life.held_down > 0 {
                return Ok(());
            }
        }
        let executor = self.0.executor.of(owner(index));
        let key = &place.identity.node;
        let transport = self.0.network.transport(index).into_mesh(key)?;
        let transport = match place.behaviour {
            Behaviour::Withhold | Behaviour::Sybil => {
                muzzled(transport, Arc::new(AtomicBool::new(true)))
            }
            Behaviour::CovertFlash => muzzled(transport, self.0.flashed.clone()),
            _ => transport,
        };
        let environment = Environment {
            transport,
            disk: Arc::new(place.disk.clone()),
            workers: Arc::new(InlineWorkers(executor.clone())),
            executor: executor.clone(),
        };
        let runtime = IslandRuntime::new(self.0.real.clone(), place.speed, place.behaviour);
        let (world, settings) = (self.clone(), self.settings(place));
        let (sender, started) = tokio::sync::oneshot::channel();
        // A node's own code runs in its own tasks: with its clock and its entropy.
        archipelag_node::environment::Executor::spawn(
            &*executor,
            Box::pin(async move {
                let place = &world.0.places[index];
                let genesis = world.0.genesis.clone();
                let runtimes: Vec<Arc<dyn archipelag_runtimes::runtime::Runtime>> =
                    vec![Arc::new(runtime)];
                let started =
                    Node::start(settings, &place.identity, genesis, environment, runtimes).await;
                let _ = sender.send(started);
            }),
        );
        let node = started.await.with_context(|| format!("node {index} died at its start"))?;
        let node = node.with_context(|| format!("node {index} does not start"))?;
        let starts = {
            let mut life = lock(&self.0.lives[index]);
            life.node = Some(Arc::new(node));
            life.starts += 1;
            (life.started_at, life.stopped_at) = (kernel::now(), None);
            life.starts
        };
        self.note_life(index, true, starts);
        if place.behaviour == Behaviour::AdvertStorm {
            self.0.executor.spawn(storm(self.clone(), index));
        }
        Ok(())
    }

    /// Ends a node, if it runs.
    pub async fn end(&self, index: usize, how: End) {
        let Some((node, starts)) = ({
            let mut life = lock(&self.0.lives[index]);
            life.stopped_at = Some(kernel::now());
            life.node.take().map(|node| (node, life.starts))
        }) else {
            return;
        };
        self.note_life(index, false, starts);
        if how == End::Stop {
            node.stop().await;
        }
        if how == End::Power {
            self.0.network.set_silent(index, true);
        }
        self.0.executor.drop_all(owner(index));
        // The last handle: what it holds ends with the node's entropy.
        kernel::owned_by(owner(index), || drop(node));
        if how != End::Stop {
            self.0.places[index].disk.cut_power();
        }
    }

    /// Ends a node and keeps it from starting until [`World::release`].
    pub async fn hold_down(&self, index: usize, how: End) {
        lock(&self.0.lives[index]).held_down += 1;
        self.end(index, how).await;
    }

    /// Lets a node start again, and starts it when nothing else holds it down.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn release(&self, index: usize) -> anyhow::Result<()> {
        let free = {
            let mut life = lock(&self.0.lives[index]);
            life.held_down = life.held_down.saturating_sub(1);
            life.held_down == 0 && life.node.is_none()
        };
        if free {
            self.0.network.set_silent(index, false);
            self.start(index).await?;
        }
        Ok(())
    }

    /// Which node has this id.
    #[must_use]
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.0.by_node.get(&node).copied()
    }

    /// From now on the nodes with the behaviour `covert-flash` misbehave.
    pub fn flash(&self) {
        self.0.flashed.store(true, Ordering::Relaxed);
    }

    /// Whether a node does what it should.
    #[must_use]
    pub fn is_honest(&self, index: usize) -> bool {
        matches!(self.0.places[index].behaviour, Behaviour::Honest | Behaviour::SlowReader)
    }
}

/// The Cargos that a scenario's jobs need, ready to be published.
///
/// # Errors
/// When one is not valid.
pub fn cargos() -> anyhow::Result<Vec<Project>> {
    let mut cargos = starter_cargos()?;
    let like = cargos.first().context("there are starter Cargos")?;
    cargos.push(runtime::work_project(like)?);
    Ok(cargos)
}
