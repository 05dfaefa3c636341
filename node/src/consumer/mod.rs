//! The Consumer: takes a job, finds an Island for it, pays, and hands on what the Cargo says
//! (`DESIGN.md`, "One job, end to end").
//!
//! Gateway, command line and library submit jobs here. It trusts no Island: it counts tokens and
//! time itself and signs for no more. When an Island is lost, the next one gets the job, and no
//! event is delivered twice. Inputs and outputs are never logged.

mod attempt;
mod check;
mod delivery;
mod holds;
mod input;
mod metrics;
mod plan;
mod run;
mod store;

pub use input::whole_numbers;
pub use metrics::Metrics;
pub use plan::{Plan, PlannedIsland};

use crate::{
    catalog::Resolved,
    disk::{self, Disk, Handle},
    environment::Tasks,
    mesh::{SeenIsland, now},
    services::{Bank, Cargos, Routes},
    wallet::Wallet,
};
use archipelag_protocol::{
    advert::{Advert, SignedAdvert},
    amount::Credits,
    codec,
    event::Event,
    genesis::Genesis,
    id::{AccountId, JobId, NetworkId, NodeId},
    job::Failure,
    ledger::IslandStanding,
    manifest::Version,
    matching::RegionPolicy,
    payment::{SettledReceipt, Verdict},
    policy::AboveLevel,
    pricing::Metering,
};
use archipelag_runtimes::{schema::FieldError, workers::Workers};
use attempt::Job;
use holds::Holds;
use plan::{Prepared, Standings};
use std::{collections::BTreeSet, sync::Arc};
use store::Store;
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Updates that wait for a Consumer; more of them slow the Island down.
const UPDATE_QUEUE: usize = 32;

/// What a Consumer wants done.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub slug: String,
    /// The newest when absent.
    pub version: Option<Version>,
    /// The JSON object that the Cargo reads.
    pub input: serde_json::Value,
    pub regions: RegionPolicy,
    /// The most that the Consumer pays, in percent of the Cargo's price.
    pub bid_percent: Option<u16>,
    /// How long it may wait for room, in seconds, when every Island that could take it is full;
    /// [`Request::WAIT_S`] when absent.
    pub wait_s: Option<u32>,
}

impl Request {
    /// Long enough for a burst to pass.
    pub const WAIT_S: u32 = 600;
}

/// What happens to a job, in order. The last one is [`Update::Ended`].
#[expect(clippy::large_enum_variant, reason = "the large one comes once a job")]
#[derive(Clone, Debug)]
pub enum Update {
    /// An Island has accepted it; after a failover, another one.
    Started {
        island: AccountId,
        node: NodeId,
        attempt: u32,
    },
    /// Each of the Cargo's events once; `done` or `error` only when the Island's receipt is right.
    Event(Event),
    Ended(Ended),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub verdict: Verdict,
    /// Present unless completed.
    pub failure: Option<Failure>,
    /// Absent when no Island finished the job.
    pub receipt: Option<SettledReceipt>,
    /// What is charged.
    pub price: Credits,
    pub metering: Metering,
    pub attempts: u32,
}

/// A job under way. Dropping `updates` cancels it.
#[derive(Debug)]
pub struct Running {
    pub id: JobId,
    pub cargo: Arc<Resolved>,
    pub updates: mpsc::Receiver<Update>,
    pub cancel: CancellationToken,
}

/// Why a job was not dispatched. No money moved.
#[derive(Clone, Debug, Error)]
pub enum Refused {
    #[error("no Cargo `{0}`: `archipelag cargo list` shows what there is")]
    UnknownCargo(String),
    #[error("field `{field}`: {reason}")]
    Invalid { field: String, reason: String },
    #[error("the input does not match the Cargo's input_schema: {}", list(.0))]
    Schema(Vec<FieldError>),
    #[error("field `{field}`: {found} bytes, the limit is {limit}")]
    TooLarge { field: &'static str, limit: u64, found: u64 },
    #[error("not enough credits: the job may cost {required}, {available} are available")]
    Credits { required: Credits, available: Credits },
    #[error(transparent)]
    AboveLevel(#[from] AboveLevel),
    #[error("no Island can run it now: {}", reasons(.excluded))]
    NoIsland { excluded: Vec<(NodeId, String)> },
    #[error("the network: {0}")]
    Network(String),
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The first few reasons, in words.
fn reasons(excluded: &[(NodeId, String)]) -> String {
    if excluded.is_empty() {
        return "none is known".into();
    }
    let mut texts: Vec<_> =
        excluded.iter().take(5).map(|(node, why)| format!("{} ({why})", node.short())).collect();
    if excluded.len() > texts.len() {
        texts.push(format!("and {} more", excluded.len() - texts.len()));
    }
    texts.join(", ")
}

/// Why the Consumer could not start.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error("the Consumer's database can't be read: {0}")]
    Storage(#[from] redb::Error),
    #[error(transparent)]
    Genesis(#[from] codec::Error),
}

/// A handle to the node's Consumer; cheap to clone. It serves all accounts whose wallets it is
/// given.
#[derive(Clone, Debug)]
pub struct Consumer(Arc<Core>);

/// What all jobs share.
#[derive(Debug)]
struct Core {
    network: NetworkId,
    genesis: Arc<Genesis>,
    routes: Arc<dyn Routes>,
    cargos: Arc<dyn Cargos>,
    holds: Arc<Holds>,
    standings: Standings,
    /// An attempt has ended: there may be room for a job that waits.
    room: Notify,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    stop: CancellationToken,
}

impl Consumer {
    /// Starts the Consumer. Reads its database: blocks.
    ///
    /// # Errors
    /// When the database can't be opened.
    pub fn start(
        routes: Arc<dyn Routes>,
        cargos: Arc<dyn Cargos>,
        genesis: Arc<Genesis>,
        disk: Arc<dyn Disk>,
        workers: Arc<dyn Workers>,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        let (network, policy) = (genesis.network()?, genesis.policy.payment.clone());
        let (database, stop) = (Handle::open(disk, "consumer")?, tasks.stopping());
        let lanes = policy.lanes_per_hold_max;
        let (store, found) = Store::open(database, workers, tasks, stop.clone(), lanes, now())?;
        let metrics = Arc::new(Metrics::default());
        let holds = Holds::new(network, policy, store, metrics.clone(), found);
        Ok(Self(Arc::new(Core {
            network,
            genesis,
            routes,
            cargos,
            holds: Arc::new(holds),
            standings: Standings::default(),
            room: Notify::new(),
            metrics,
            tasks: tasks.clone(),
            stop,
        })))
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What a job would cost at most and where it would run. No money moves.
    ///
    /// # Errors
    /// What is wrong with the request; no Island and too few credits are part of the plan.
    pub async fn plan(&self, wallet: &Wallet, request: &Request) -> Result<Plan, Refused> {
        let bank: Arc<dyn Bank> = Arc::new(wallet.clone());
        plan::plan(&self.0, &bank, request).await
    }

    /// The Islands known now, with what the ledger says of them where that is known.
    pub async fn islands(&self, wallet: &Wallet) -> Vec<(SeenIsland, Option<IslandStanding>)> {
        let islands = self.0.routes.islands();
        self.0.standings.refresh(&islands, wallet).await;
        let known = |seen: &SeenIsland| self.0.standings.get(seen.advert.value.account);
        islands.into_iter().map(|seen| (seen.clone(), known(&seen))).collect()
    }

    /// Checks the request, and dispatches the job when nothing stands in the way.
    ///
    /// # Errors
    /// Why the job is not dispatched.
    pub async fn submit(
        &self,
        wallet: &Wallet,
        id: JobId,
        request: Request,
    ) -> Result<Running, Refused> {
        self.submit_for(Arc::new(wallet.clone()), id, &request).await
    }

    async fn submit_for(
        &self,
        bank: Arc<dyn Bank>,
        id: JobId,
        request: &Request,
    ) -> Result<Running, Refused> {
        let core = &self.0;
        let checked = self.check(&bank, id, request).await;
        let (prepared, islands) = checked.inspect_err(|_| {
            core.metrics.refused.inc();
        })?;
        core.metrics.submitted.inc();
        let (updates, receiver) = mpsc::channel(UPDATE_QUEUE);
        let (cancel, cargo) = (CancellationToken::new(), prepared.resolved.clone());
        let job = Job {
            core: core.clone(),
            bank: bank.clone(),
            id,
            prepared,
            started: now(),
            updates,
            cancel: cancel.clone(),
            delivered: delivery::Delivered::default(),
            accepted: false,
        };
        core.tasks.spawn(run::run(job, islands.into_iter().next()));
        self.tidy(bank);
        Ok(Running { id, cargo, updates: receiver, cancel })
    }

    /// All that can be known before a job is dispatched. Asks the ledger for nothing when the hold
    /// with the best Island has room.
    async fn check(
        &self,
        bank: &Arc<dyn Bank>,
        id: JobId,
        request: &Request,
    ) -> Result<(Prepared, Vec<Arc<SignedAdvert>>), Refused> {
        let core = &self.0;
        let prepared = plan::prepare(core, id, request).await?;
        let islands = plan::choose(core, &prepared, &BTreeSet::new(), |_| true)?;
        let required = prepared.price_max;
        let best = islands.first().map(|advert| advert.value.account);
        let room = best.map_or(Credits::ZERO, |best| core.holds.room(bank.key().account(), best));
        if room >= required && room > Credits::ZERO {
            return Ok((prepared, islands));
        }
        let balance = bank.balance().await.map_err(|e| Refused::Network(e.to_string()))?;
        let payer = bank.key().account();
        let available = |advert: &Arc<SignedAdvert>| {
            balance.saturating_add(core.holds.expected_room(payer, advert.value.account))
        };
        let most = islands.iter().map(available).max().unwrap_or(balance);
        // An Island for which nothing is reserved is out of reach when all is reserved for others.
        if islands.iter().any(|island| available(island) >= required) {
            let within = |island: &Arc<SignedAdvert>| available(island) >= required;
            return Ok((prepared, islands.into_iter().filter(within).collect()));
        }
        // All may be reserved for Islands that are not among the best.
        let within = |island: &Advert| core.holds.expected_room(payer, island.account) >= required;
        let chosen = plan::choose(core, &prepared, &BTreeSet::new(), within);
        let islands = chosen.map_err(|_| Refused::Credits { required, available: most })?;
        Ok((prepared, islands))
    }

    /// What can be done beside a job: asks the ledger about Islands, closes old holds.
    fn tidy(&self, bank: Arc<dyn Bank>) {
        let islands = self.0.routes.islands();
        let stale = self.0.standings.is_stale(&islands);
        let closing = self.0.holds.has_closing(bank.key().account(), now());
        if !stale && !closing {
            return;
        }
        let (core, stop) = (self.0.clone(), self.0.stop.clone());
        self.0.tasks.spawn(async move {
            let work = async {
                core.holds.close_due(&bank).await;
                core.standings.refresh(&islands, &*bank).await;
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// The receipt of a job that ended lately, signed by both sides. Blocks for a disk read.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn receipt(&self, job: JobId) -> Result<Option<SettledReceipt>, Error> {
        Ok(self.0.holds.store.receipt(job)?)
    }
}
