//! A ledger, Cargos, and nodes that reach each other through memory.

use super::runtime::Scripted;
use crate::{
    catalog::{self, Resolved},
    consumer::{Consumer, Ended, Request, Running, Update},
    coordinator::{self, Coordinator},
    disk::{Disk, MemoryDisk},
    environment::{Executor, InlineWorkers, Tasks, TokioExecutor},
    island::{self, Island},
    ledger::Ledger,
    mesh::{self, SeenIsland, now},
    services::{Bank, Cargos, JobStream, Routes},
    wallet::Wallet,
};
use archipelag_protocol::{
    advert::{Advert, Hardware},
    amount::Credits,
    event::Event,
    genesis::{Allocation, Genesis, Validator},
    id::{AccountId, CargoId, ContentId, JobId, NetworkId, NodeId},
    ledger::Action,
    manifest::{Artifact, Manifest, Platform, Requirements, RuntimeType, Version},
    matching::RegionPolicy,
    policy::Policy,
    pricing::{HardwareTier, Price},
    query::{self, Response},
    sign::SecretKey,
    time::Timestamp,
    trust::TrustLevel,
};
use archipelag_runtimes::{schema::Schema, workers::Workers};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

pub(super) type Pipe = Compat<DuplexStream>;

/// What everything here must be done in.
pub(super) const SOON: Duration = Duration::from_secs(20);
/// Buffer of a stream: little, so that backpressure is felt.
const PIPE_BYTES: usize = 4 << 10;

pub(super) fn credits(text: &str) -> Credits {
    text.parse().unwrap()
}

pub(super) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub(super) const PAYER: u8 = 50;
const OPERATOR: u8 = 60;
const VALIDATOR: u8 = 70;

/// Routes through memory: who is reachable, who advertises what, who was reported.
#[derive(Debug, Default)]
pub(super) struct Network {
    streams: Mutex<BTreeMap<NodeId, mpsc::Sender<(NodeId, Pipe)>>>,
    adverts: Mutex<BTreeMap<NodeId, Advert>>,
    pub(super) reported: Mutex<Vec<(NodeId, String)>>,
}

/// One node's view of the [`Network`].
#[derive(Clone, Debug)]
pub(super) struct View(pub(super) Arc<Network>, NodeId);

#[async_trait]
impl Routes for View {
    fn islands(&self) -> Vec<SeenIsland> {
        let adverts = self.0.adverts.lock().unwrap();
        adverts
            .values()
            .map(|advert| {
                let advert = Advert { issued: now(), ..advert.clone() };
                let signed = key(1).seal(NetworkId([0; 32]), advert).unwrap();
                SeenIsland { advert: Arc::new(signed), rtt_us: None }
            })
            .collect()
    }

    async fn open_job(&self, node: NodeId) -> Result<JobStream, mesh::Error> {
        let sender = self.0.streams.lock().unwrap().get(&node).cloned();
        let unreachable = || mesh::Error::Unreachable { node, reason: "it is gone".into() };
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let sender = sender.ok_or_else(unreachable)?;
        sender.send((self.1, theirs.compat())).await.map_err(|_| unreachable())?;
        Ok(Box::new(ours.compat()))
    }

    fn advertise(&self, advert: Advert) {
        self.0.adverts.lock().unwrap().insert(self.1, advert);
    }

    fn misbehaved(&self, node: NodeId, reason: &str) {
        self.0.reported.lock().unwrap().push((node, reason.to_owned()));
    }
}

#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<BTreeMap<String, Arc<Resolved>>>);

#[async_trait]
impl Cargos for Shelf {
    async fn resolve(
        &self,
        slug: &str,
        _: Option<&Version>,
    ) -> Result<Arc<Resolved>, catalog::Error> {
        let found = self.0.lock().unwrap().get(slug).cloned();
        found.ok_or_else(|| catalog::Error::Unknown(slug.into()))
    }

    async fn cargo(&self, cargo: CargoId) -> Result<Arc<Resolved>, catalog::Error> {
        let shelf = self.0.lock().unwrap();
        let found = shelf.values().find(|resolved| resolved.cargo == cargo).cloned();
        found.ok_or_else(|| catalog::Error::Unknown(cargo.to_string()))
    }

    async fn artifact(&self, _: &Resolved) -> Result<Bytes, catalog::Error> {
        Ok(Bytes::from_static(b"module"))
    }
}

/// A node's own tasks, so that it can be stopped alone.
pub(super) fn tasks() -> (Tasks, Arc<dyn Workers>) {
    let executor: Arc<dyn Executor> = Arc::new(TokioExecutor(tokio::runtime::Handle::current()));
    (Tasks::new(executor.clone()), Arc::new(InlineWorkers(executor)))
}

/// A node that is an Island.
pub(super) struct IslandNode {
    pub(super) island: Island,
    pub(super) node: NodeId,
    pub(super) account: AccountId,
    pub(super) runtime: Arc<Scripted>,
    pub(super) tasks: Tasks,
}

/// A node that is a Consumer.
pub(super) struct ConsumerNode {
    pub(super) consumer: Consumer,
    pub(super) wallet: Wallet,
    pub(super) tasks: Tasks,
    next_job: std::sync::atomic::AtomicU8,
}

pub(super) struct World {
    pub(super) genesis: Arc<Genesis>,
    pub(super) network: NetworkId,
    pub(super) coordinator: Coordinator,
    pub(super) ledger: Ledger,
    pub(super) routes: Arc<Network>,
    pub(super) shelf: Arc<Shelf>,
    _tasks: Tasks,
}

impl World {
    /// A ledger on which [`PAYER`] has 100 credits, with the Cargos `say` (0.01 per job), `dear`
    /// (0.4 per job), `dearer` (2 per job), `meter` (10 per second) and `wordy` (0.6 per
    /// token).
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = Policy::default();
        policy.publishing.open = true;
        policy.publishing.individual_cargos_max = 10;
        policy.job.silence_ms = 300;
        // Islands are paid from their first job on.
        policy.karma.monetization_threshold_milli = 0;
        policy.payment.hold_default = Credits::from_whole(50);
        change(&mut policy);
        let balance = Credits::from_whole(100);
        let rich = |n| Allocation { account: key(n).account(), balance };
        let genesis = Arc::new(Genesis {
            name: "test".into(),
            created: Timestamp(1),
            policy,
            accounts: [PAYER, OPERATOR].map(rich).to_vec(),
            treasury: Credits::from_whole(10),
            validators: vec![Validator {
                account: key(VALIDATOR).account(),
                node: NodeId([9; 32]),
            }],
            publishers: Vec::new(),
        });
        let (tasks, workers) = tasks();
        let config = coordinator::Config::alone((*genesis).clone(), key(VALIDATOR));
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let coordinator = Coordinator::start(config, disk, workers, &tasks).await.unwrap();
        let world = Self {
            network: genesis.network().unwrap(),
            genesis,
            ledger: Ledger::local(coordinator.clone()),
            coordinator,
            routes: Arc::default(),
            shelf: Arc::default(),
            _tasks: tasks,
        };
        let (job, second) = (Price::default(), Price::default());
        world.publish("say", Price { per_job: credits("0.01"), ..job }).await;
        world.publish("dear", Price { per_job: credits("0.4"), ..job }).await;
        world.publish("dearer", Price { per_job: credits("2"), ..job }).await;
        world.publish("meter", Price { per_second: credits("10"), ..second }).await;
        world.publish("wordy", Price { per_token: credits("0.6"), ..Price::default() }).await;
        world
    }

    async fn publish(&self, slug: &str, price: Price) {
        let manifest = Manifest {
            name: slug.into(),
            slug: slug.into(),
            version: "1.0.0".parse().unwrap(),
            description: "says what it is told".into(),
            runtime_type: RuntimeType::Wasm,
            artifact: Artifact::Module { hash: ContentId::of(b"module"), size_bytes: 6 },
            input_schema: json!({
                "type": "object",
                "properties": { "steps": { "type": "array" } },
                "required": ["steps"],
            })
            .to_string(),
            output_schema: "{}".into(),
            price,
            requirements: Requirements::default(),
            category: None,
            tags: Vec::new(),
            revenue_share_percent: 70,
        };
        let (wallet, cargo) = (self.wallet(OPERATOR), manifest.id().unwrap());
        let manifest = wallet.key().seal(self.network, manifest).unwrap();
        wallet.send(Action::Publish { manifest: Box::new(manifest) }).await.unwrap();
        let answer = self.coordinator.answer(query::Request::Cargo(cargo)).await;
        let Response::Entry(Some(entry)) = answer else { panic!("{answer:?}") };
        self.shelve(
            slug,
            Resolved {
                cargo,
                input_schema: Schema::compile(&entry.manifest.value.input_schema).unwrap(),
                output_schema: Schema::compile("{}").unwrap(),
                entry: *entry,
            },
        );
    }

    fn shelve(&self, slug: &str, resolved: Resolved) {
        self.shelf.0.lock().unwrap().insert(slug.into(), Arc::new(resolved));
    }

    pub(super) fn resolved(&self, slug: &str) -> Arc<Resolved> {
        self.shelf.0.lock().unwrap().get(slug).cloned().unwrap()
    }

    /// Puts a Cargo at another trust level, as reviewers would.
    pub(super) fn trust(&self, slug: &str, level: TrustLevel) {
        let known = self.resolved(slug);
        let mut entry = known.entry.clone();
        entry.record.trust_level = level;
        let (input_schema, output_schema) =
            (known.input_schema.clone(), known.output_schema.clone());
        self.shelve(slug, Resolved { cargo: known.cargo, entry, input_schema, output_schema });
    }

    pub(super) fn wallet(&self, n: u8) -> Wallet {
        Wallet::new(key(n), self.network, self.ledger.clone())
    }

    pub(super) fn island(&self, n: u8, region: &str) -> IslandNode {
        self.island_on(&MemoryDisk::new(), n, region, |_| {})
    }

    pub(super) fn island_on(
        &self,
        disk: &MemoryDisk,
        n: u8,
        region: &str,
        change: impl FnOnce(&mut island::Config),
    ) -> IslandNode {
        self.island_with(Arc::new(self.wallet(n)), disk, n, region, change)
    }

    /// An Island whose way to the ledger is `bank`.
    pub(super) fn island_with(
        &self,
        bank: Arc<dyn Bank>,
        disk: &MemoryDisk,
        n: u8,
        region: &str,
        change: impl FnOnce(&mut island::Config),
    ) -> IslandNode {
        let (tasks, workers) = tasks();
        let (node, account) = (NodeId([n; 32]), bank.key().account());
        let runtime = Arc::<Scripted>::default();
        let mut config = island::Config::detect("an island", region);
        config.max_jobs = 8;
        config.hardware = hardware();
        // Settled when it stops, unless a test says otherwise.
        config.settle_interval = Duration::from_secs(3600);
        change(&mut config);
        let parts = island::Parts {
            node,
            genesis: self.genesis.clone(),
            bank,
            routes: Arc::new(View(self.routes.clone(), node)),
            cargos: self.shelf.clone(),
            runtimes: vec![runtime.clone()],
        };
        let disk = Arc::new(disk.clone());
        let island = Island::start(config, parts, disk, workers, &tasks).unwrap();
        island.serve(self.listen(node));
        // What its first advert will say, for tests that don't wait for it.
        self.routes.adverts.lock().unwrap().insert(node, advert(n, region));
        IslandNode { island, node, account, runtime, tasks }
    }

    /// The streams that Consumers open to `node` from now on.
    pub(super) fn listen(&self, node: NodeId) -> mpsc::Receiver<(NodeId, Pipe)> {
        let (sender, receiver) = mpsc::channel(16);
        self.routes.streams.lock().unwrap().insert(node, sender);
        receiver
    }

    /// Advertises an Island that a test plays itself.
    pub(super) fn advertise(&self, n: u8, region: &str) {
        self.routes.adverts.lock().unwrap().insert(NodeId([n; 32]), advert(n, region));
    }

    pub(super) fn unplug(&self, node: NodeId) {
        self.routes.streams.lock().unwrap().remove(&node);
    }

    pub(super) fn view(&self, n: u8) -> View {
        View(self.routes.clone(), NodeId([n; 32]))
    }

    pub(super) fn consumer(&self) -> ConsumerNode {
        self.consumer_on(&MemoryDisk::new(), 1)
    }

    pub(super) fn consumer_on(&self, disk: &MemoryDisk, first_job: u8) -> ConsumerNode {
        let (tasks, workers) = tasks();
        let routes = Arc::new(self.view(100));
        let (genesis, disk) = (self.genesis.clone(), Arc::new(disk.clone()));
        let consumer =
            Consumer::start(routes, self.shelf.clone(), genesis, disk, workers, &tasks).unwrap();
        let next_job = first_job.into();
        ConsumerNode { consumer, wallet: self.wallet(PAYER), tasks, next_job }
    }

    pub(super) async fn balance(&self, n: u8) -> Credits {
        self.ledger.account(key(n).account()).await.unwrap().balance
    }

    /// Whom nodes reported, and why.
    pub(super) fn reported(&self) -> Vec<(NodeId, String)> {
        self.routes.reported.lock().unwrap().clone()
    }
}

fn hardware() -> Hardware {
    Hardware { tier: HardwareTier::CpuOnly, cpu_cores: 4, ram_mb: 4096, ..Hardware::default() }
}

fn advert(n: u8, region: &str) -> Advert {
    Advert {
        node: NodeId([n; 32]),
        account: key(n).account(),
        sequence: 1,
        issued: Timestamp(0),
        name: "an island".into(),
        region: region.into(),
        platform: Platform::Desktop,
        supported_runtimes: vec![RuntimeType::Wasm],
        hardware: hardware(),
        active_jobs: 0,
        max_jobs: 8,
        asking_percent: 100,
        warm: Vec::new(),
        addresses: Vec::new(),
    }
}

pub(super) fn steps(steps: Value) -> Value {
    json!({ "steps": steps })
}

pub(super) fn request(slug: &str, input: Value) -> Request {
    // Islands in `here` come first: tests order Islands by it.
    let regions = RegionPolicy::Prefer("here".into());
    Request { slug: slug.into(), version: None, input, regions, bid_percent: None, wait_s: None }
}

/// What a Consumer was given of a job.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) lines: Vec<String>,
    pub(super) nodes: Vec<NodeId>,
    pub(super) ended: Ended,
}

impl ConsumerNode {
    pub(super) async fn submit(&self, slug: &str, input: Value) -> Running {
        let n = self.next_job.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let id = JobId([n; 16]);
        self.consumer.submit(&self.wallet, id, request(slug, input)).await.unwrap()
    }

    pub(super) async fn run(&self, slug: &str, input: Value) -> Told {
        let running = self.submit(slug, input).await;
        follow(running).await
    }
}

/// Takes all updates of a job.
pub(super) async fn follow(mut running: Running) -> Told {
    let (mut lines, mut nodes) = (Vec::new(), Vec::new());
    loop {
        let update = tokio::time::timeout(SOON, running.updates.recv()).await;
        match update.expect("the job hangs").expect("the job ended without saying so") {
            Update::Started { node, .. } => nodes.push(node),
            Update::Event(event) => lines.push(text(&event)),
            Update::Ended(ended) => {
                let more = tokio::time::timeout(SOON, running.updates.recv()).await;
                assert!(more.expect("the job goes on").is_none());
                return Told { lines, nodes, ended };
            }
        }
    }
}

/// An event in short.
pub(super) fn text(event: &Event) -> String {
    match event {
        Event::Token { content } => content.clone(),
        Event::Done { .. } => ".".into(),
        Event::Error { message } => format!("!{message}"),
        Event::Status { message } => format!("({message})"),
        other => panic!("{other:?}"),
    }
}

/// Waits until `holds` does.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
