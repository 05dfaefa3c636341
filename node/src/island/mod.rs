//! The Island: runs Cargos for others and is paid for it (`SPEC.md`, "Promises about a job").
//!
//! It takes job streams from the mesh, checks each offer for itself, runs the Cargo in its sandbox,
//! streams what it prints, and turns vouchers and receipts into money on the ledger. It trusts
//! neither Consumers nor Cargos. A job's input and output are never logged or counted here, nor is
//! what a Cargo writes to stderr.

mod actor;
mod admission;
mod config;
mod hardware;
mod meter;
mod metrics;
mod payments;
mod serve;
mod settle;
mod state;
mod store;

pub use config::{Config, Tighten};
pub use metrics::Metrics;

use crate::{
    disk::{self, Disk, Handle},
    environment::Tasks,
    mesh::now,
    services::{Bank, Cargos, Routes},
};
use archipelag_protocol::{
    advert::{self, Advert},
    codec,
    genesis::Genesis,
    id::NodeId,
    manifest::RuntimeType,
    time::Timestamp,
};
use archipelag_runtimes::{runtime::Runtime, workers::Workers};
use futures::{AsyncRead, AsyncWrite};
use payments::Payments;
use settle::Settler;
use state::State;
use std::{collections::BTreeMap, sync::Arc};
use store::Store;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Why the Island could not start.
#[derive(Debug, Error)]
pub enum Error {
    #[error("the Island's settings: {0}")]
    Config(#[from] advert::Error),
    #[error("the Island's settings: max_jobs must be at least 1")]
    NoJobs,
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error("the Island's database can't be read: {0}")]
    Storage(#[from] redb::Error),
    #[error(transparent)]
    Genesis(#[from] codec::Error),
}

/// What an Island needs from its node.
#[derive(Debug)]
pub struct Parts {
    pub node: NodeId,
    pub genesis: Arc<Genesis>,
    /// The account that is paid.
    pub bank: Arc<dyn Bank>,
    pub routes: Arc<dyn Routes>,
    pub cargos: Arc<dyn Cargos>,
    pub runtimes: Vec<Arc<dyn Runtime>>,
}

/// A handle to a running Island; cheap to clone.
#[derive(Clone, Debug)]
pub struct Island {
    core: Arc<Core>,
    tasks: Tasks,
    /// One permit per stream.
    streams: Arc<Semaphore>,
}

/// What the Island's tasks share.
#[derive(Debug)]
struct Core {
    config: Config,
    capabilities: Advert,
    genesis: Arc<Genesis>,
    bank: Arc<dyn Bank>,
    routes: Arc<dyn Routes>,
    cargos: Arc<dyn Cargos>,
    runtimes: BTreeMap<RuntimeType, Arc<dyn Runtime>>,
    payments: Arc<Payments>,
    store: Store,
    state: Arc<State>,
    metrics: Arc<Metrics>,
    /// Offers of before are stale.
    started: Timestamp,
    stop: CancellationToken,
    /// Cancelled when the last settlement is over.
    ended: CancellationToken,
}

impl Core {
    /// What it tells the mesh now. Sequence, time and addresses are the mesh's to fill in.
    fn advert(&self) -> Advert {
        Advert {
            active_jobs: self.state.active(),
            warm: actor::warm(self),
            ..self.capabilities.clone()
        }
    }
}

impl Island {
    /// Starts an Island: it advertises itself and settles what an earlier run left. Reads its
    /// database: blocks.
    ///
    /// # Errors
    /// When a setting is out of range or the database can't be opened.
    pub fn start(
        config: Config,
        parts: Parts,
        disk: Arc<dyn Disk>,
        workers: Arc<dyn Workers>,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        if config.max_jobs == 0 {
            return Err(Error::NoJobs);
        }
        let Parts { node, genesis, bank, routes, cargos, runtimes } = parts;
        let runtimes = runtimes.into_iter().map(|r| (r.runtime_type(), r)).collect();
        let capabilities = actor::capabilities(&config, (node, bank.key().account()), &runtimes);
        capabilities.validate()?;
        let (network, started) = (genesis.network()?, now());
        let (stop, store_stop) = (tasks.stopping().child_token(), CancellationToken::new());
        let database = Handle::open(disk, "island")?;
        let (store, debts) = Store::open(database, workers, tasks, store_stop.clone(), started)?;
        let policy = genesis.policy.payment.clone();
        let payments = Arc::new(Payments::new(network, policy, bank.clone(), debts));
        store.attach(payments.clone());
        let metrics = Arc::new(Metrics::default());
        let settler = Settler {
            bank: bank.clone(),
            store: store.clone(),
            payments: payments.clone(),
            metrics: metrics.clone(),
            interval: config.settle_interval,
            known: BTreeMap::new(),
        };
        let (max_jobs, all_streams) = (config.max_jobs, actor::streams_max(&config));
        let core = Arc::new(Core {
            config,
            capabilities,
            genesis,
            bank,
            routes,
            cargos,
            runtimes,
            payments,
            store,
            state: Arc::new(State::new(max_jobs)),
            metrics,
            started,
            stop,
            ended: CancellationToken::new(),
        });
        let streams = Arc::new(Semaphore::new(all_streams));
        tasks.spawn(actor::keep_advert(core.clone()));
        let settling =
            actor::settle(core.clone(), settler, streams.clone(), store_stop, all_streams);
        tasks.spawn(settling);
        Ok(Self { core, tasks: tasks.clone(), streams })
    }

    /// Serves the job streams of `incoming` until the Island stops.
    pub fn serve<S>(&self, incoming: mpsc::Receiver<(NodeId, S)>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (core, streams) = (self.core.clone(), self.streams.clone());
        self.tasks.spawn(actor::take_streams(core, incoming, self.tasks.clone(), streams));
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// Jobs that run now.
    #[must_use]
    pub fn active_jobs(&self) -> u32 {
        self.core.state.active()
    }

    /// Receipts that the ledger has not settled yet.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.core.store.waiting()
    }

    /// Takes no more jobs, ends those that run, settles what was earned. Call it while the ledger
    /// can still be reached; a node that stops without it settles after its next start.
    pub async fn stop(&self) {
        self.core.stop.cancel();
        self.core.ended.cancelled().await;
    }
}
