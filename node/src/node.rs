//! One node, put together from its parts.
//!
//! The binary starts it on sockets and files, tests and the simulator in memory; it is the same
//! code. HTTP comes on top, in `serve.rs`.

use crate::{
    catalog::{self, ArtifactStore, Catalog},
    consumer::Consumer,
    coordinator::{self, Coordinator},
    environment::{Environment, Tasks},
    home::Identity,
    island::{self, Island},
    ledger::{self, Ledger},
    mesh::{self, IncomingQuery, Mesh},
    project::Project,
    wallet::Wallet,
};
use archipelag_protocol::{
    catalog::State,
    codec,
    genesis::Genesis,
    id::{AccountId, CargoId},
    ledger::{Action, Rejected},
    query::{Request, Response},
};
use archipelag_runtimes::runtime::Runtime;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};

/// How long a stopping Island may take to settle.
const SETTLE_WAIT: Duration = Duration::from_secs(3);
/// Between two questions for changes of the validators.
const VALIDATORS_EVERY: Duration = Duration::from_secs(60);
/// Between two looks whether another node is connected.
const CONNECT_WAIT: Duration = Duration::from_millis(500);
/// Queries of other nodes that are answered at a time.
const MAX_ANSWERING: usize = 64;

/// Which roles a node plays, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    pub mesh: mesh::Config,
    /// `None`: runs no Cargos for others.
    pub island: Option<island::Config>,
    /// Keeps the ledger; decides on it while its operator has a seat.
    pub coordinator: bool,
}

/// Why a Cargo was not published.
#[derive(Debug, Error)]
pub enum PublishError {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error(transparent)]
    Sign(#[from] codec::Error),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    pub mesh: Mesh,
    pub ledger: Ledger,
    pub catalog: Catalog,
    pub consumer: Consumer,
    pub coordinator: Option<Coordinator>,
    pub island: Option<Island>,
    /// Island earnings, publishing, validator.
    pub operator: Wallet,
    /// What this node's own Consumers spend.
    pub payer: Wallet,
    pub tasks: Tasks,
}

impl Node {
    /// Starts a node; its Island runs Cargos with `runtimes`. When this returns it answers queries
    /// and takes jobs; peers may still be connecting.
    ///
    /// # Errors
    /// When a store can't be opened, an address can't be listened on, or the identity does not fit
    /// the genesis.
    pub async fn start(
        settings: Settings,
        identity: &Identity,
        genesis: Arc<Genesis>,
        environment: Environment,
        runtimes: Vec<Arc<dyn Runtime>>,
    ) -> anyhow::Result<Self> {
        let Environment { transport, disk, executor, workers } = environment;
        let network = genesis.network()?;
        let tasks = Tasks::new(executor);
        let coordinator = if settings.coordinator {
            let key = identity.operator.clone();
            let node = mesh::identity::node_of(identity.node.public().to_peer_id());
            let (config, outgoing) =
                coordinator::Config::among_others((*genesis).clone(), key, node);
            let started = Coordinator::start(config, disk.clone(), workers.clone(), &tasks);
            let started = started.await?;
            warn_of_seat(&started, identity.operator.account());
            Some((started, outgoing))
        } else {
            None
        };
        let mesh = Mesh::start(settings.mesh, &identity.node, genesis.clone(), transport, &tasks)?;
        let coordinator = coordinator.map(|(coordinator, outgoing)| {
            coordinator::links::start(&coordinator, &mesh, outgoing, &tasks);
            coordinator::follower::start(&coordinator, &mesh, &tasks);
            coordinator::gossip::start(&coordinator, &mesh, &tasks);
            coordinator
        });
        let ledger = Ledger::of_node(coordinator.clone(), mesh.clone());
        follow_validators(&mesh, &ledger, coordinator.clone(), &tasks);
        let catalog = Catalog::new(
            mesh.clone(),
            ledger.clone(),
            ArtifactStore::open(disk.clone(), workers.clone())?,
        );
        let operator = Wallet::new(identity.operator.clone(), network, ledger.clone());
        let payer = Wallet::new(identity.consumer.clone(), network, ledger.clone());
        answer_queries(&mesh, &ledger, &tasks).await;
        catalog.serve(&tasks);
        if let Some(coordinator) = &coordinator {
            announce_published(coordinator.clone(), mesh.clone(), &tasks);
        }
        let consumer = Consumer::start(
            Arc::new(mesh.clone()),
            Arc::new(catalog.clone()),
            genesis.clone(),
            disk.clone(),
            workers.clone(),
            &tasks,
        )?;
        let island = match settings.island {
            Some(config) => {
                let parts = island::Parts {
                    node: mesh.node(),
                    genesis,
                    bank: Arc::new(operator.clone()),
                    routes: Arc::new(mesh.clone()),
                    cargos: Arc::new(catalog.clone()),
                    runtimes,
                };
                let island = Island::start(config, parts, disk, workers, &tasks)?;
                island.serve(mesh.accept(mesh::Protocol::Job));
                Some(island)
            }
            None => None,
        };
        Ok(Self { mesh, ledger, catalog, consumer, coordinator, island, operator, payer, tasks })
    }

    /// Publishes a Cargo under the operator's account, and serves its module.
    ///
    /// # Errors
    /// When the ledger refuses it or the module can't be kept.
    pub async fn publish(&self, project: &Project) -> Result<CargoId, PublishError> {
        if !project.module.is_empty() {
            self.catalog.hold_artifact(project.module.clone()).await?;
        }
        let manifest = self.operator.key().seal(self.mesh.network(), project.manifest.clone())?;
        let cargo = manifest.value.id()?;
        let sent = self.operator.send(Action::Publish { manifest: Box::new(manifest) }).await;
        match sent {
            Ok(_) => Ok(cargo),
            // Somebody's earlier publication of the same version under our slug is ours.
            Err(ledger::Error::Rejected(Rejected::VersionTaken { .. }))
                if self.ledger.cargo(cargo).await?.is_some() =>
            {
                Ok(cargo)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stops everything; the Island settles first what it earned, if that goes quickly.
    pub async fn stop(&self) {
        if let Some(island) = &self.island
            && tokio::time::timeout(SETTLE_WAIT, island.stop()).await.is_err()
        {
            tracing::warn!("node.stop: what the Island earned is settled after the next start");
        }
        self.tasks.stop().await;
    }
}

/// A seat is that of an account on a node.
fn warn_of_seat(coordinator: &Coordinator, account: AccountId) {
    let seated = coordinator.state().validators.contains(account);
    if seated && !coordinator.has_seat() {
        tracing::warn!(
            "the ledger names another node for the seat of this operator: restore its node.key, or say by `archipelag coordinator candidate` that this one takes over with the next epoch"
        );
    }
}

/// Keeps up with who has a seat.
fn follow_validators(
    mesh: &Mesh,
    ledger: &Ledger,
    coordinator: Option<Coordinator>,
    tasks: &Tasks,
) {
    let (mesh, ledger, stop) = (mesh.clone(), ledger.clone(), tasks.stopping());
    tasks.spawn(async move {
        loop {
            // The first connection takes a moment, and nothing is known before.
            let connected = ledger.is_local() || !mesh.peers().is_empty();
            let pause = if connected { VALIDATORS_EVERY } else { CONNECT_WAIT };
            let before = mesh.trust().height();
            if connected {
                ledger.follow_validators(|_| false).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = taken_over(coordinator.as_ref(), &mesh) => {
                    // What this one knows may not be on its disk yet.
                    if mesh.trust().height() == before {
                        tokio::time::sleep(CONNECT_WAIT).await;
                    }
                }
            }
        }
    });
}

/// Waits until the own coordinator knows of a change of the validators that the mesh does not.
async fn taken_over(coordinator: Option<&Coordinator>, mesh: &Mesh) {
    let Some(coordinator) = coordinator else { return std::future::pending().await };
    let mut committed = coordinator.committed();
    while committed.changed().await.is_ok() {
        if coordinator.state().validators.since() > mesh.trust().height() {
            return;
        }
    }
    std::future::pending().await
}

/// Answers other nodes' queries: from the own coordinator, or by asking one.
async fn answer_queries(mesh: &Mesh, ledger: &Ledger, tasks: &Tasks) {
    let Some(queries) = mesh.incoming_queries().await else { return };
    tasks.spawn(answer_loop(queries, ledger.clone(), tasks.clone()));
}

async fn answer_loop(mut queries: mpsc::Receiver<IncomingQuery>, ledger: Ledger, tasks: Tasks) {
    let room = Arc::new(Semaphore::new(MAX_ANSWERING));
    let stop = tasks.stopping();
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = queries.recv() => next,
        };
        let Some((_, request, answer)) = next else { return };
        let Ok(place) = room.clone().try_acquire_owned() else {
            // An asker that has gone wants no answer.
            let _ = answer.send(Response::Unavailable("this node is busy: try again".into()));
            continue;
        };
        let ledger = ledger.clone();
        tasks.spawn(async move {
            let _place = place;
            let response = forward(&ledger, request).await;
            let _ = answer.send(response);
        });
    }
}

/// Answers for the ledger, or asks who can; what was asked on already is asked no further, so that
/// no question goes in circles.
async fn forward(ledger: &Ledger, request: Request) -> Response {
    ledger.wait().await;
    let request = match request {
        Request::Forwarded(request) => {
            let no_seat = || Response::Unavailable("this node has no seat".into());
            return ledger.answer_here(*request).await.unwrap_or_else(no_seat);
        }
        request if ledger.is_local() => request,
        request => Request::Forwarded(Box::new(request)),
    };
    match ledger.ask(request).await {
        Ok(response) => response,
        Err(error) => Response::Unavailable(format!("asked on behalf of a peer: {error}")),
    }
}

/// Puts every published Cargo into Kademlia, once per node start and again when it changes.
fn announce_published(coordinator: Coordinator, mesh: Mesh, tasks: &Tasks) {
    let stop = tasks.stopping();
    tasks.spawn(async move {
        let mut committed = coordinator.committed();
        let mut announced = BTreeSet::new();
        loop {
            let state = coordinator.state();
            for (cargo, published) in &state.cargos {
                let key = (*cargo, published.record.height);
                if published.record.state != State::Published || announced.contains(&key) {
                    continue;
                }
                if let Response::Entry(Some(entry)) =
                    coordinator.answer(Request::Cargo(*cargo)).await
                {
                    if mesh.announce(*entry).await.is_err() {
                        return;
                    }
                    announced.insert(key);
                }
            }
            drop(state);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = committed.changed() => if changed.is_err() { return },
            }
        }
    });
}
