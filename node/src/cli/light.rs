//! A Consumer in this process: dials one node of the mesh and needs none of its own.
//!
//! It has no listening address and a node identity for this one command, but pays from the home's
//! own consumer account.

use super::exit::{Failed, Outcome};
use crate::{
    catalog::{ArtifactStore, Catalog},
    consumer::Consumer,
    disk::{Disk, FileDisk, MemoryDisk},
    environment::{InlineWorkers, Tasks, TokioExecutor, network_transport},
    home::{Home, Lock},
    ledger::Ledger,
    mesh::{self, Mesh, identity},
    wallet::Wallet,
};
use archipelag_protocol::{
    genesis::Genesis,
    id::{NetworkId, NodeId},
};
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use std::{sync::Arc, time::Duration};

/// How long the dialled node may take to name Islands.
const ISLANDS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the end may take: settling with Islands, closing connections.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct Light {
    pub(crate) mesh: Mesh,
    pub(crate) ledger: Ledger,
    pub(crate) catalog: Catalog,
    pub(crate) wallet: Wallet,
    tasks: Tasks,
    disk: Arc<dyn Disk>,
    workers: Arc<InlineWorkers>,
    /// Keeps the Consumer's store for this process.
    _lock: Option<Lock>,
}

fn failed(error: &anyhow::Error) -> Failed {
    Failed::network(format!("{error:#}"))
}

impl Light {
    pub(crate) async fn connect(home: &Home, address: &Multiaddr) -> Outcome<Self> {
        let Some(dialled) = node_of(address) else {
            return Err(Failed::usage(format!(
                "--node {address}: it names no node; it must end in /p2p/<peer id>, as `archipelag status` shows it"
            )));
        };
        let key = Keypair::generate_ed25519();
        let transport = || network_transport(&key).map_err(|e| failed(&e));
        let executor = Arc::new(TokioExecutor(tokio::runtime::Handle::current()));
        let tasks = Tasks::new(executor.clone());
        let fetched = mesh::fetch_genesis(address, &key, transport()?, &tasks).await;
        let genesis = Arc::new(fetched.map_err(|e| failed(&e))?);
        let network = remember(home, &genesis)?;
        let config = mesh::Config {
            listen: Vec::new(),
            bootstrap: vec![address.clone()],
            mdns: false,
            max_connections: 64,
        };
        let mesh = Mesh::start(config, &key, genesis.clone(), transport()?, &tasks);
        let mesh = mesh.map_err(|e| failed(&e))?;
        mesh.dial(dialled, vec![address.clone()]).await?;
        let ledger = Ledger::by(dialled, mesh.clone());
        let (disk, lock): (Arc<dyn Disk>, _) = match home.light_directory(network)? {
            Some((path, lock)) => (Arc::new(FileDisk::new(path).map_err(disk)?), Some(lock)),
            None => (Arc::new(MemoryDisk::new()), None),
        };
        let workers = Arc::new(InlineWorkers(executor));
        let artifacts = ArtifactStore::open(disk.clone(), workers.clone()).map_err(self::disk)?;
        Ok(Self {
            catalog: Catalog::new(mesh.clone(), ledger.clone(), artifacts),
            wallet: Wallet::new(home.consumer()?, network, ledger.clone()),
            mesh,
            ledger,
            tasks,
            disk,
            workers,
            _lock: lock,
        })
    }

    /// The Consumer, once the dialled node has had time to name Islands.
    pub(crate) async fn consumer(&self) -> Outcome<Consumer> {
        self.wait_for_islands().await;
        Consumer::start(
            Arc::new(self.mesh.clone()),
            Arc::new(self.catalog.clone()),
            self.mesh.genesis().clone(),
            self.disk.clone(),
            self.workers.clone(),
            &self.tasks,
        )
        .map_err(|e| failed(&e.into()))
    }

    /// Waits until at least one Island is known, for a short time.
    pub(crate) async fn wait_for_islands(&self) {
        let mut changed = self.mesh.islands_changed();
        let known = async {
            while self.mesh.islands().is_empty() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        // A mesh without Islands is told apart later, with the reason for each.
        let _in_time = tokio::time::timeout(ISLANDS_TIMEOUT, known).await;
    }

    /// Ends all tasks, in bounded time.
    pub(crate) async fn stop(self) {
        if tokio::time::timeout(STOP_TIMEOUT, self.tasks.stop()).await.is_err() {
            tracing::warn!("light.stop: tasks did not end in time");
        }
    }
}

fn disk(error: crate::disk::Error) -> Failed {
    Failed::usage(error.to_string())
}

fn node_of(address: &Multiaddr) -> Option<NodeId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => identity::node_of(peer),
        _ => None,
    }
}

/// Keeps the genesis of a network that this home has not met.
fn remember(home: &Home, genesis: &Genesis) -> Outcome<NetworkId> {
    let network = genesis.network().map_err(|e| Failed::network(e.to_string()))?;
    if home.genesis(network)?.is_none() {
        home.save_genesis(genesis)?;
        eprintln!(
            "network {:?} ({}…) is new to this home; its genesis was fetched from the node",
            super::output::plain(&genesis.name),
            &network.to_string()[..16]
        );
    }
    Ok(network)
}
