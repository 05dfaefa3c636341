//! Nodes that can be started, crashed and started again.

use anyhow::{Context as _, ensure};
use archipelag_node::{
    disk::MemoryDisk,
    environment::{Environment, Executor, InlineWorkers, TokioExecutor, memory_transport},
    home::Identity,
    island, mesh,
    node::{Node, Settings},
    starter::starter_cargos,
};
use archipelag_protocol::{
    amount::Credits,
    genesis::{Allocation, Genesis, Publisher, PublisherTier, Validator},
    id::{AccountId, NodeId},
    policy::Policy,
    sign::SecretKey,
    time::Timestamp,
};
use archipelag_runtimes::{runtime::Runtime, wasm};
use futures::future::BoxFuture;
use libp2p::{Multiaddr, identity::Keypair};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

/// What every Consumer starts with.
pub const CONSUMER_CREDITS: Credits = Credits::from_whole(1_000);
/// What the treasury starts with.
pub const TREASURY: Credits = Credits::from_whole(1_000_000);

/// In-memory addresses are the process's, so all worlds draw from one row.
static NEXT_ADDRESS: AtomicU64 = AtomicU64::new(1 << 32);

/// One place for a node: what survives a crash, and the node while it runs.
struct Place {
    identity: Identity,
    disk: MemoryDisk,
    /// Of the last start: an in-memory address is never free again.
    address: Option<Multiaddr>,
    running: Option<(Node, Arc<Tasks>)>,
}

/// All that one node does at a time, so that it can be dropped at a stroke.
#[derive(Debug, Default)]
struct Tasks(Mutex<JoinSet<()>>);

impl Executor for Tasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl Tasks {
    async fn drop_all(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }
}

/// A network of nodes. Node 0 is the coordinator; each joins through the first that runs.
pub struct World {
    genesis: Arc<Genesis>,
    runtime: Arc<dyn Runtime>,
    places: Vec<Place>,
    islands: BTreeSet<usize>,
    jobs_at_a_time: u32,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("nodes", &self.places.len()).finish_non_exhaustive()
    }
}

fn seeded(seed: u64, name: &str, index: usize) -> [u8; 32] {
    Sha256::digest(format!("{seed}/{name}/{index}")).into()
}

fn identity(seed: u64, index: usize) -> anyhow::Result<Identity> {
    Ok(Identity {
        node: Keypair::ed25519_from_bytes(seeded(seed, "node", index))?,
        operator: SecretKey::from_seed(seeded(seed, "operator", index)),
        consumer: SecretKey::from_seed(seeded(seed, "consumer", index)),
    })
}

impl World {
    /// Starts `nodes` nodes, of which `islands` run jobs, and publishes the starter Cargos.
    ///
    /// # Errors
    /// When a node does not start.
    pub async fn start(
        seed: u64,
        nodes: usize,
        islands: BTreeSet<usize>,
        jobs_at_a_time: u32,
    ) -> anyhow::Result<Self> {
        ensure!(nodes > 0, "a network has at least one node");
        let identities = (0..nodes).map(|i| identity(seed, i)).collect::<Result<Vec<_>, _>>()?;
        let genesis = Arc::new(genesis(&identities)?);
        let places = identities
            .into_iter()
            .map(|identity| Place {
                identity,
                disk: MemoryDisk::default(),
                address: None,
                running: None,
            })
            .collect();
        let runtime = Arc::new(wasm::WasmRuntime::new(wasm::Config::default(), shared_workers())?);
        let mut world = Self { genesis, runtime, places, islands, jobs_at_a_time };
        for index in 0..nodes {
            world.start_node(index).await?;
        }
        for cargo in starter_cargos()? {
            world.node(0)?.publish(&cargo).await?;
        }
        Ok(world)
    }

    /// The network's policy and first accounts.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The account that pays for the jobs of a node.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn consumer(&self, index: usize) -> AccountId {
        self.places[index].identity.consumer.account()
    }

    /// Which of the nodes has this id.
    ///
    /// # Errors
    /// When none has.
    pub fn index_of(&self, node: NodeId) -> anyhow::Result<usize> {
        let peer = mesh::identity::peer_of(node);
        let is_it = |place: &Place| Some(place.identity.node.public().to_peer_id()) == peer;
        self.places.iter().position(is_it).with_context(|| format!("no node {node}"))
    }

    /// A node that runs.
    ///
    /// # Errors
    /// When it has crashed or never was.
    pub fn node(&self, index: usize) -> anyhow::Result<&Node> {
        self.places
            .get(index)
            .and_then(|place| place.running.as_ref())
            .map(|(node, _)| node)
            .with_context(|| format!("node {index} does not run"))
    }

    /// Starts a node on the disk that it left.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub async fn start_node(&mut self, index: usize) -> anyhow::Result<()> {
        let through = self.places.iter().enumerate().find_map(|(other, place)| {
            let address =
                place.address.clone().filter(|_| other != index && place.running.is_some());
            let peer = place.identity.node.public().to_peer_id();
            address.map(|address| address.with(libp2p::multiaddr::Protocol::P2p(peer)))
        });
        let address = NEXT_ADDRESS.fetch_add(1, Ordering::Relaxed);
        let address: Multiaddr = format!("/memory/{address}").parse()?;
        let place = self.places.get_mut(index).with_context(|| format!("no node {index}"))?;
        ensure!(place.running.is_none(), "node {index} runs already");
        let executor = Arc::new(Tasks::default());
        let environment = Environment {
            transport: memory_transport(&place.identity.node)?,
            disk: Arc::new(place.disk.clone()),
            workers: Arc::new(InlineWorkers(executor.clone())),
            executor: executor.clone(),
        };
        let island = island::Config {
            max_jobs: self.jobs_at_a_time,
            settle_interval: Duration::from_millis(200),
            ..island::Config::detect(format!("island-{index}"), "sim")
        };
        let settings = Settings {
            mesh: mesh::Config {
                listen: vec![address.clone()],
                bootstrap: through.into_iter().collect(),
                mdns: false,
                max_connections: 1_000,
            },
            island: self.islands.contains(&index).then_some(island),
            coordinator: index == 0,
        };
        let runtimes = vec![self.runtime.clone()];
        let node =
            Node::start(settings, &place.identity, self.genesis.clone(), environment, runtimes)
                .await?;
        place.address = Some(address);
        place.running = Some((node, executor));
        Ok(())
    }

    /// Ends a node as abruptly as one process can: every task is dropped where it stands, nothing
    /// is settled or flushed.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn crash(&mut self, index: usize) -> anyhow::Result<()> {
        let running = self.places.get_mut(index).and_then(|place| place.running.take());
        let (node, tasks) = running.with_context(|| format!("node {index} does not run"))?;
        tasks.drop_all().await;
        drop(node);
        Ok(())
    }

    /// Waits until `node` knows that many Islands.
    ///
    /// # Errors
    /// When it takes longer than `deadline`.
    pub async fn wait_for_islands(
        &self,
        node: usize,
        islands: usize,
        deadline: Duration,
    ) -> anyhow::Result<()> {
        let mesh = &self.node(node)?.mesh;
        let mut changed = mesh.islands_changed();
        let waiting = async {
            while mesh.islands().len() < islands {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(deadline, waiting).await.with_context(|| {
            format!("node {node} sees {} of {islands} Islands", mesh.islands().len())
        })
    }

    /// Stops all nodes in order.
    pub async fn stop(mut self) {
        for place in self.places.iter_mut().rev() {
            if let Some((node, _)) = place.running.take() {
                node.stop().await;
            }
        }
    }
}

/// The wasm engine is shared: compiling a Cargo once is enough for all nodes.
fn shared_workers() -> Arc<InlineWorkers> {
    Arc::new(InlineWorkers(Arc::new(TokioExecutor(tokio::runtime::Handle::current()))))
}

fn genesis(identities: &[Identity]) -> anyhow::Result<Genesis> {
    let first = identities.first().context("a network has at least one node")?;
    let node = mesh::identity::node_of(first.node.public().to_peer_id())
        .context("node keys are ed25519 keys")?;
    let mut policy = Policy::default();
    policy.publishing.open = true;
    policy.advert.interval_ms = 1_000;
    let genesis = Genesis {
        name: "simulation".into(),
        created: Timestamp(1),
        policy,
        accounts: identities
            .iter()
            .map(|identity| Allocation {
                account: identity.consumer.account(),
                balance: CONSUMER_CREDITS,
            })
            .collect(),
        treasury: TREASURY,
        validators: vec![Validator { account: first.operator.account(), node }],
        publishers: vec![Publisher {
            account: first.operator.account(),
            tier: PublisherTier::Partner,
        }],
    };
    genesis.validate()?;
    Ok(genesis)
}
