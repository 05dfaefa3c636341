//! Two nodes on loopback sockets: a coordinator that submits, and an Island.

use crate::{
    disk::FileDisk,
    environment::{Environment, PoolWorkers, TokioExecutor, network_transport},
    home::Identity,
    island,
    mesh::{self, Mesh},
    node::{Node, Settings},
    starter::starter_cargos,
};
use anyhow::Context as _;
use archipelag_protocol::{
    amount::Credits,
    genesis::{Allocation, Genesis, Publisher, PublisherTier, Validator},
    policy::Policy,
    sign::SecretKey,
    time::Timestamp,
};
use archipelag_runtimes::{runtime::Runtime, wasm, workers::Workers};
use libp2p::{Multiaddr, identity::Keypair};
use std::{path::Path, sync::Arc, time::Duration};

/// Jobs that the Island takes at a time: more than the benchmark submits at once.
const MAX_JOBS: u32 = 64;
const START_TIME: Duration = Duration::from_secs(20);

/// A submitting node and an Island, connected, with the starter Cargo `slug` published.
pub(super) struct Pair {
    pub(super) consumer: Node,
    pub(super) island: Node,
    pub(super) wasm: Arc<wasm::WasmRuntime>,
}

fn identity(seed: u8) -> anyhow::Result<Identity> {
    Ok(Identity {
        node: Keypair::ed25519_from_bytes([seed; 32])?,
        operator: SecretKey::from_seed([seed.wrapping_add(100); 32]),
        consumer: SecretKey::from_seed([seed.wrapping_add(200); 32]),
    })
}

pub(super) fn node_id(identity: &Identity) -> anyhow::Result<archipelag_protocol::id::NodeId> {
    mesh::identity::node_of(identity.node.public().to_peer_id()).context("not an ed25519 key")
}

fn genesis(first: &Identity) -> anyhow::Result<Genesis> {
    let mut policy = Policy::default();
    policy.publishing.open = true;
    policy.payment.hold_default = Credits::from_whole(1_000_000);
    let balance = Credits::from_whole(1_000_000_000);
    Ok(Genesis {
        name: "bench".into(),
        created: Timestamp(1),
        policy,
        accounts: vec![Allocation { account: first.consumer.account(), balance }],
        treasury: Credits::ZERO,
        validators: vec![Validator { account: first.operator.account(), node: node_id(first)? }],
        publishers: vec![Publisher {
            account: first.operator.account(),
            tier: PublisherTier::Partner,
        }],
    })
}

impl Pair {
    pub(super) async fn start(directory: &Path, slug: &str) -> anyhow::Result<Self> {
        let (first, second) = (identity(1)?, identity(2)?);
        let genesis = Arc::new(genesis(&first)?);
        let workers: Arc<dyn Workers> = Arc::new(PoolWorkers::start(cores())?);
        let config = wasm::Config { jobs_max: MAX_JOBS, ..wasm::Config::default() };
        let wasm = Arc::new(wasm::WasmRuntime::new(config, workers.clone())?);
        let start = async |identity: &Identity, join: Vec<Multiaddr>, is_island: bool| {
            let name = if is_island { "island" } else { "consumer" };
            let environment = Environment {
                transport: network_transport(&identity.node)?,
                disk: Arc::new(FileDisk::new(directory.join(name))?),
                executor: Arc::new(TokioExecutor(tokio::runtime::Handle::current())),
                workers: workers.clone(),
            };
            let island = is_island.then(|| island::Config {
                max_jobs: MAX_JOBS,
                ..island::Config::detect("bench", "here")
            });
            let settings = Settings { mesh: mesh_config(join)?, island, coordinator: !is_island };
            let runtimes: Vec<Arc<dyn Runtime>> = vec![wasm.clone()];
            Node::start(settings, identity, genesis.clone(), environment, runtimes).await
        };
        let consumer = start(&first, Vec::new(), false).await?;
        let cargo = starter_cargos()?
            .into_iter()
            .find(|cargo| cargo.manifest.slug == slug)
            .with_context(|| format!("no starter Cargo {slug}"))?;
        consumer.publish(&cargo).await?;
        let join = listening(&consumer.mesh).await?;
        let island = start(&second, vec![join], true).await?;
        let mut changed = consumer.mesh.islands_changed();
        let seen = async {
            while consumer.mesh.islands().is_empty() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(START_TIME, seen).await.context("the Island was not seen in time")?;
        Ok(Self { consumer, island, wasm })
    }

    pub(super) async fn stop(self) {
        self.island.stop().await;
        self.consumer.stop().await;
    }
}

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

pub(super) fn mesh_config(bootstrap: Vec<Multiaddr>) -> anyhow::Result<mesh::Config> {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
    Ok(mesh::Config { listen, bootstrap, mdns: false, max_connections: 16 })
}

/// The first address that others can join by.
pub(super) async fn listening(mesh: &Mesh) -> anyhow::Result<Multiaddr> {
    let waiting = async {
        loop {
            if let Some(address) = mesh.listen_addresses().into_iter().next() {
                return address;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let address =
        tokio::time::timeout(START_TIME, waiting).await.context("no listening address")?;
    Ok(address.parse()?)
}
