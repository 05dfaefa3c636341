//! A node as this process: put together from a home and its settings, and ended cleanly.
//!
//! `up` and `start` are thin around it.

use super::{
    exit::{Failed, Outcome},
    init::Prepared,
    target::url_of,
};
use crate::{
    config::{self, Config, cores},
    disk::FileDisk,
    environment::{Environment, PoolWorkers, TokioExecutor, network_transport},
    home::{Home, Identity},
    island, mesh,
    node::{Node, Settings},
    serve,
    starter::starter_cargos,
};
use archipelag_protocol::{genesis::Genesis, id::NodeId};
use archipelag_runtimes::{
    runtime::Runtime,
    wasm::{self, WasmRuntime},
};
use libp2p::Multiaddr;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// How long listening may take to begin.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
const LISTEN_POLL: Duration = Duration::from_millis(5);
/// How long a clean end may take before the process ends anyway.
const STOP_TIMEOUT: Duration = Duration::from_millis(4_500);

pub(super) struct Process {
    pub(super) node: Arc<Node>,
    pub(super) http: SocketAddr,
    /// The key that the local command line uses.
    pub(super) key: String,
    home: Home,
}

fn failed(error: &anyhow::Error) -> Failed {
    let text = format!("{error:#}");
    let busy = text.contains("Address already in use") || text.contains("address in use");
    let next = if busy { "; pass other addresses with --http and --listen" } else { "" };
    Failed::network(format!("the node does not start: {text}{next}"))
}

impl Process {
    /// Starts the node, publishes the starter Cargos in a development network, serves HTTP.
    pub(super) async fn start(home: &Home, prepared: Prepared) -> Outcome<Self> {
        let Prepared { config, identity, genesis, network, .. } = prepared;
        let genesis = Arc::new(genesis);
        let directory = home.network_directory(network)?;
        let threads = usize::try_from(cores()).unwrap_or(1);
        let workers = PoolWorkers::start(threads).map_err(|e| failed(&e.into()))?;
        let workers = Arc::new(workers);
        let disk = FileDisk::new(&directory).map_err(|e| failed(&e.into()))?;
        let environment = Environment {
            transport: network_transport(&identity.node).map_err(|e| failed(&e))?,
            disk: Arc::new(disk),
            executor: Arc::new(TokioExecutor(tokio::runtime::Handle::current())),
            workers: workers.clone(),
        };
        let runtimes = runtimes(&config, home, &workers)?;
        let settings = settings(&config, &identity, &genesis);
        let (disk, key) = (environment.disk.clone(), home.api_key()?);
        let started =
            Node::start(settings, &identity, genesis.clone(), environment, runtimes).await;
        let node = Arc::new(started.map_err(|e| failed(&e))?);
        if founded_here(&genesis, &identity) {
            publish_starters(&node).await?;
        }
        let served = serve::start(node.clone(), &config.http, &key, disk, workers).await;
        let http = served.map_err(|e| failed(&e))?;
        let process = Self { node, http, key, home: home.clone() };
        let addresses = process.addresses().await;
        home.write_addresses(http, addresses.first())?;
        Ok(process)
    }

    pub(super) fn url(&self) -> String {
        url_of(self.http)
    }

    /// Where others dial this node, once it listens.
    pub(super) async fn addresses(&self) -> Vec<Multiaddr> {
        let listening = async {
            loop {
                let found = self.node.mesh.listen_addresses();
                if !found.is_empty() {
                    return found;
                }
                tokio::time::sleep(LISTEN_POLL).await;
            }
        };
        let found = tokio::time::timeout(LISTEN_TIMEOUT, listening).await.unwrap_or_default();
        found.iter().filter_map(|address| address.to_string().parse().ok()).collect()
    }

    /// Waits for Ctrl-C or SIGTERM.
    pub(super) async fn wait_for_signal() -> Outcome {
        let failed = |e: std::io::Error| Failed::usage(format!("signals can't be caught: {e}"));
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
            tokio::select! {
                ended = tokio::signal::ctrl_c() => ended.map_err(failed),
                _ = terminate.recv() => Ok(()),
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await.map_err(failed)
    }

    /// Ends the node in bounded time.
    pub(super) async fn stop(self) -> Outcome {
        self.home.remove_addresses()?;
        let stopping = tokio::time::timeout(STOP_TIMEOUT, self.node.stop());
        tokio::select! {
            stopped = stopping => if stopped.is_err() {
                tracing::warn!("node.stop: not everything ended in time; nothing acknowledged is lost");
            },
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(())
    }
}

fn runtimes(
    config: &Config,
    home: &Home,
    workers: &Arc<PoolWorkers>,
) -> Outcome<Vec<Arc<dyn Runtime>>> {
    if !config.island.enabled {
        return Ok(Vec::new());
    }
    let wasm = wasm::Config {
        jobs_max: config.island.max_jobs,
        cache: Some(home.path().join("cache").join("wasm")),
        ..wasm::Config::default()
    };
    let wasm = WasmRuntime::new(wasm, workers.clone());
    Ok(vec![Arc::new(wasm.map_err(|e| failed(&e.into()))?)])
}

fn settings(config: &Config, identity: &Identity, genesis: &Genesis) -> Settings {
    let node = mesh::identity::node_of(identity.node.public().to_peer_id());
    Settings {
        mesh: mesh::Config {
            listen: config.mesh.listen.clone(),
            bootstrap: config.mesh.join.clone(),
            mdns: config.mesh.mdns,
            max_connections: config.mesh.max_connections,
        },
        island: config.island.enabled.then(|| island_config(config, node)),
        coordinator: config.coordinator.enabled
            && (config.coordinator.standby
                || genesis.validator(identity.operator.account()).is_some()),
    }
}

fn island_config(config: &Config, node: Option<NodeId>) -> island::Config {
    let name = match (config.name.as_str(), node) {
        ("", Some(node)) => node.short(),
        (name, _) => name.to_owned(),
    };
    let config::Island { max_jobs, memory_mb_max, time_s_max, .. } = &config.island;
    let detected = island::Config::detect(name, config.region.clone());
    island::Config {
        max_jobs: *max_jobs,
        tighten: island::Tighten {
            memory_bytes: memory_mb_max.map(|mb| u64::from(mb) << 20),
            time_ms: time_s_max.map(|s| u64::from(s) * 1000),
            ..detected.tighten.clone()
        },
        ..detected
    }
}

/// Whether this node made a development network: then it gives it something to run.
fn founded_here(genesis: &Genesis, identity: &Identity) -> bool {
    let operator = identity.operator.account();
    genesis.policy.publishing.open
        && genesis.validator(operator).is_some()
        && genesis.publishers.iter().any(|publisher| publisher.account == operator)
}

async fn publish_starters(node: &Node) -> Outcome {
    for cargo in starter_cargos()? {
        let id = cargo.manifest.id().map_err(|e| failed(&e.into()))?;
        if node.ledger.cargo(id).await?.is_none() {
            node.publish(&cargo).await.map_err(|e| failed(&e.into()))?;
        }
    }
    Ok(())
}
