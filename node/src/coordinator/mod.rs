//! The coordinator: agrees on the ledger, keeps it, and answers for it (`DESIGN.md`, "Ledger").
//!
//! A node that is one of its network's coordinators starts a [`Coordinator`] and asks through the
//! handle. One task ([`actor`]) owns the [`engine::Engine`] that decides blocks and the store that
//! keeps them. What a block may contain and what it does is `archipelag_protocol::ledger`'s.

mod actor;
mod answers;
pub mod config;
mod consensus;
mod engine;
pub(crate) mod follower;
pub(crate) mod gossip;
mod intake;
pub(crate) mod links;
mod mempool;
pub mod metrics;
mod staged;
mod store;
#[cfg(test)]
mod tests;

pub use actor::{Driver, Fatal};
pub use config::{Config, Outgoing};
pub use metrics::Metrics;
pub use store::{Error as StoreError, Progress, follow};

use crate::{
    disk::{self, Disk, Handle},
    environment::Tasks,
    mesh::Verdict,
};
use actor::{Command, Core, Head, Shared};
use archipelag_protocol::{
    batch::Batch,
    codec,
    genesis::Genesis,
    id::{AccountId, NetworkId, NodeId, TxId},
    ledger::{
        Handover, Rejected, SignedTransaction, State, TransactionReceipt, block, snapshot,
        transaction,
    },
    limits::MAX_PAGE,
    payment::SignedVoucher,
    query::{CertifiedBlock, Request, Response},
    sign::SecretKey,
};
use archipelag_runtimes::workers::{self, Workers};
use consensus::Consensus;
use engine::{Engine, Joined, Submission};
use intake::{Intake, Submitted};
use sha2::{Digest, Sha256};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};
use store::Store;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

/// How long a submitter waits for a block before it is told that there was none.
pub const SUBMIT_WAIT: Duration = Duration::from_secs(10);

/// Why a coordinator could not start or do what it was asked.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error(transparent)]
    Block(#[from] block::Error),
    #[error(transparent)]
    Snapshot(#[from] snapshot::NotOf),
    #[error("reading the ledger failed: {0}")]
    Lost(#[from] workers::Lost),
    #[error(
        "the ledger's disk does not accept writes ({0}); what was sent may still be carried out when it does: look before you send it again"
    )]
    Unwritable(String),
    #[error("the coordinator has stopped: {0}")]
    Stopped(String),
}

/// The handle of a running coordinator.
#[derive(Clone, Debug)]
pub struct Coordinator {
    network: NetworkId,
    account: AccountId,
    node: Option<NodeId>,
    commands: mpsc::Sender<Command>,
    submissions: mpsc::Sender<Submitted>,
    head: watch::Receiver<Arc<Head>>,
    height: watch::Receiver<u64>,
    shared: Arc<Shared>,
    /// The task owns the store: when it has ended, another node may open it.
    store: Weak<Store>,
    workers: Arc<dyn Workers>,
}

/// An opened ledger and the engine that goes on with it.
type Opened = (Arc<Store>, Head, Box<dyn Engine>);

fn open(
    genesis: Genesis,
    key: SecretKey,
    node: Option<NodeId>,
    disk: Arc<dyn Disk>,
) -> Result<Opened, Error> {
    let database = Handle::open(disk, store::NAME)?;
    // The database library panics on some damage that it meets while reading.
    let read = AssertUnwindSafe(|| Store::open(database, genesis));
    let (store, head) = panic::catch_unwind(read).unwrap_or_else(|_| {
        let reason = "its structure is inconsistent".into();
        Err(StoreError::Corrupt { height: 0, reason })
    })?;
    let last = head.decided.as_ref().map(|(_, certificate)| certificate.clone());
    let log = store.log(head.state.height.saturating_add(1))?;
    let (state, has_voted) = (Arc::clone(&head.state), store.has_voted()?);
    let engine = Box::new(Consensus::new(key, node, state, last, log, has_voted));
    Ok((Arc::new(store), head, engine))
}

impl Coordinator {
    /// Opens the ledger, verifies what is replayed of it, and starts the task. Ends with `tasks`.
    ///
    /// # Errors
    /// When the store can't be opened, is corrupt or of another network, or the key can't decide.
    pub async fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        workers: Arc<dyn Workers>,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        let handles = Arc::clone(&workers);
        let open = move || Self::open(config, disk, handles);
        let (this, driver) = workers::run(workers.as_ref(), open).await??;
        tasks.spawn(driver.run(workers, tasks.stopping()));
        Ok(this)
    }

    /// As [`Coordinator::start`], for who steps the driver itself. Blocks.
    ///
    /// # Errors
    /// As [`Coordinator::start`].
    pub fn open(
        config: Config,
        disk: Arc<dyn Disk>,
        workers: Arc<dyn Workers>,
    ) -> Result<(Self, Driver), Error> {
        let Config { genesis, key, node, outgoing } = config;
        let (network, account) = (genesis.network()?, key.account());
        let (store, first, engine) = open(genesis, key, node, disk)?;
        tracing::info!(network = %network, height = first.state.height, "coordinator.start");

        let shared = Arc::new(Shared::new(engine.is_current()));
        shared.metrics.height.set(first.state.height);
        let (commands, inbox) = mpsc::channel(actor::MAX_COMMANDS);
        let (submissions, submitted) = mpsc::channel(intake::QUEUE);
        let height = watch::Sender::new(first.state.height);
        let head = watch::Sender::new(Arc::new(first));
        let weak = commands.downgrade();
        let intake = Intake { network, submitted, commands: weak, head: head.subscribe() };
        let this = Self {
            network,
            account,
            node,
            commands,
            submissions,
            head: head.subscribe(),
            height: height.subscribe(),
            shared: Arc::clone(&shared),
            store: Arc::downgrade(&store),
            workers,
        };
        let core = Core {
            engine,
            store,
            head,
            height,
            outgoing,
            shared,
            waiting: BTreeMap::new(),
            account,
            commands: VecDeque::new(),
            outputs: Vec::new(),
            staged: None,
        };
        Ok((this, Driver::new(core, inbox, intake)))
    }

    /// The state after the last final block.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.head().state)
    }

    /// Whether this coordinator answers for the ledger: it has a seat, and has been where the
    /// others are since it started.
    #[must_use]
    pub fn decides(&self) -> bool {
        self.has_seat() && self.shared.current.load(Ordering::Relaxed)
    }

    /// Whether its account has a seat on this node. One that has not follows those who have.
    #[must_use]
    pub fn has_seat(&self) -> bool {
        let head = self.head.borrow();
        head.state.validators.get(self.account).is_some_and(|seat| Some(seat.node) == self.node)
    }

    /// Whether its disk has all of its votes, so that it may cast one: one that is new, or lost its
    /// disk, watches first. A disk that fails counts as none.
    #[must_use]
    pub fn votes(&self) -> bool {
        self.has_seat() && self.store().and_then(|store| Ok(store.has_voted()?)).unwrap_or(false)
    }

    /// Whether nobody else decides.
    pub(crate) fn decides_alone(&self) -> bool {
        self.has_seat() && self.head.borrow().state.validators.len() == 1
    }

    /// The nodes of those who decide the next block.
    pub(crate) fn deciders(&self) -> BTreeSet<NodeId> {
        self.head.borrow().state.validators.iter().map(|validator| validator.node).collect()
    }

    /// As [`Coordinator::state`], while the coordinator runs.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn running_state(&self) -> Result<Arc<State>, Error> {
        self.running()?;
        Ok(self.state())
    }

    fn head(&self) -> Arc<Head> {
        Arc::clone(&self.head.borrow())
    }

    /// The height of the last final block. The channel closes when the coordinator stops.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.height.clone()
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Why the coordinator stopped by itself, if it did: the node should stop, too.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }

    /// Why the ledger's disk takes no block now, if it does not. It is tried again by itself.
    #[must_use]
    pub fn unwritable(&self) -> Option<String> {
        self.shared.unwritable.borrow().clone()
    }

    /// Takes a message of another coordinator. Dropped when the queue is full: consensus allows for
    /// loss.
    pub fn receive(&self, from: NodeId, message: Vec<u8>) {
        self.receive_in(from, message, None);
    }

    /// As [`Coordinator::receive`]; gives `place` back when the message is done with.
    pub(crate) fn receive_in(
        &self,
        from: NodeId,
        message: Vec<u8>,
        place: Option<OwnedSemaphorePermit>,
    ) {
        if self.commands.try_send(Command::Peer { from, message, place }).is_err() {
            self.shared.metrics.messages_dropped.inc();
        }
    }

    /// Takes decided blocks from whoever has them; those that follow and prove themselves are
    /// applied. Dropped when the queue is full.
    pub fn follow(&self, blocks: Vec<CertifiedBlock>) {
        if self.commands.try_send(Command::Follow { blocks }).is_err() {
            self.shared.metrics.messages_dropped.inc();
        }
    }

    /// Checks that `bytes` are the state after a block whose certificate has been checked, and goes
    /// on from there. Nothing happens when the own chain is as long.
    ///
    /// # Errors
    /// Why they are not.
    pub async fn join(
        &self,
        bytes: Vec<u8>,
        certified: CertifiedBlock,
        handovers: Vec<Handover>,
    ) -> Result<(), Error> {
        let decode = move || {
            let state = State::from_snapshot_of(&bytes, &certified.block.header)?;
            Ok::<_, Error>(Joined { state: Arc::new(state), certified, handovers })
        };
        let joined = Box::new(self.work(decode).await??);
        let sent = self.commands.send(Command::Join { joined }).await;
        sent.map_err(|_| self.stopped())
    }

    /// Two thirds of those who decide have no block after the last one here.
    pub(crate) fn is_current(&self) {
        if self.commands.try_send(Command::Current).is_err() {
            self.shared.metrics.messages_dropped.inc();
        }
    }

    /// Answers a query. Blocks, certificates and entries in it prove themselves; the rest is this
    /// coordinator's word.
    pub async fn answer(&self, request: Request) -> Response {
        if let Err(error) = self.running() {
            return Response::Unavailable(error.to_string());
        }
        match self.try_answer(request).await {
            Ok(response) => response,
            Err(error) => Response::Unavailable(error.to_string()),
        }
    }

    async fn try_answer(&self, request: Request) -> Result<Response, Error> {
        let head = self.head();
        let state = &head.state;
        Ok(match request {
            Request::Submit(bytes) => return self.submit(bytes.into_vec()).await,
            Request::Slug { slug, version } => {
                let entry = answers::slug(&head, &slug, version.as_ref())?;
                Response::Entry(entry.map(Box::new))
            }
            Request::Cargo(id) => Response::Entry(answers::cargo(&head, id)?.map(Box::new)),
            Request::Catalog { after, limit } => {
                // It proves each entry, so it computes for a while.
                let list = move || answers::catalog(&head, after.as_deref(), limit);
                Response::Catalog(self.work(list).await??)
            }
            Request::Status => Response::Status(answers::status(state)),
            Request::Prove(keys) => match answers::prove(&head, &keys)? {
                Some(proven) => Response::Proven(proven),
                None => Response::NoBlock,
            },
            Request::Blocks { from, limit } => return self.blocks(from, limit).await,
            Request::Handovers { after } => {
                let store = self.store()?;
                let read = move || store.handovers(after, answers::LIST_BYTES);
                Response::Handovers(self.work(read).await??)
            }
            Request::Snapshot { height, offset } => {
                let store = self.store()?;
                let read = move || store.snapshot_part(height, offset);
                match self.work(read).await?? {
                    Some((height, size_bytes, part)) => {
                        Response::Snapshot { height, size_bytes, part: part.into() }
                    }
                    None => Response::Unavailable("there is no such snapshot".into()),
                }
            }
            Request::Stakes { after, limit } => {
                Response::Stakes(answers::stakes(state, after, limit))
            }
            Request::Entrust(vouchers) => return self.entrust(vouchers).await,
            Request::Forwarded(request) => return Box::pin(self.try_answer(*request)).await,
            Request::Adverts => Response::Unavailable("adverts are the mesh's to answer".into()),
        })
    }

    fn running(&self) -> Result<(), Error> {
        if let Some(reason) = self.failure() {
            return Err(Error::Stopped(reason.to_owned()));
        }
        match self.commands.is_closed() {
            true => Err(Error::Stopped("the node is stopping".into())),
            false => Ok(()),
        }
    }

    fn store(&self) -> Result<Arc<Store>, Error> {
        self.store.upgrade().ok_or_else(|| self.stopped())
    }

    fn stopped(&self) -> Error {
        Error::Stopped(self.failure().unwrap_or("the node is stopping").to_owned())
    }

    async fn work<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, workers::Lost> {
        workers::run(self.workers.as_ref(), f).await
    }

    /// Hands over a signed transaction, from the wire, for who steps the driver; the receipt comes
    /// once a block with it is durable, or it is refused. [`Coordinator::answer`] is for everybody
    /// else.
    ///
    /// # Errors
    /// Why it is refused at once.
    pub fn offer(&self, bytes: &[u8]) -> Result<oneshot::Receiver<TransactionReceipt>, Rejected> {
        let transaction = transaction::decode(bytes, self.network)?;
        let (answer, answered) = oneshot::channel();
        let id = TxId(Sha256::digest(bytes).into());
        let submission = Submission { id, transaction, bytes: bytes.into() };
        match self.commands.try_send(Command::Submit { submission, answer }) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Rejected::Busy),
            // Who waits for the answer learns that there is none.
            Err(mpsc::error::TrySendError::Closed(_)) | Ok(()) => Ok(answered),
        }
    }

    /// Takes a transaction that came by gossip, if the next block could execute it. One without a
    /// seat only passes it on.
    ///
    /// # Errors
    /// When the node is stopping.
    pub(crate) async fn hear(&self, bytes: Vec<u8>) -> Result<Verdict, Error> {
        let (state, network) = (self.state(), self.network);
        let decode = move || {
            let id = TxId(Sha256::digest(&bytes).into());
            let refused = Cell::new(false);
            // The signature last: what is old, early or nobody's costs none.
            let wanted =
                |one: &SignedTransaction| state.allows(one, id).inspect_err(|_| refused.set(true));
            let decoded = transaction::decode_all(&[&bytes], network, wanted).pop();
            match decoded {
                Some(Ok(transaction)) => Ok(Submission { id, transaction, bytes: bytes.into() }),
                // An honest node that is ahead of this one, or behind, may think otherwise.
                _ if refused.get() => Err(Verdict::Ignore),
                _ => Err(Verdict::Reject),
            }
        };
        let submission = match self.work(decode).await? {
            Ok(submission) => submission,
            Err(verdict) => return Ok(verdict),
        };
        if self.has_seat() && self.commands.try_send(Command::Hear { submission }).is_err() {
            return Ok(Verdict::Ignore);
        }
        Ok(Verdict::Accept)
    }

    /// Takes vouchers to redeem for their payees.
    async fn entrust(&self, vouchers: Vec<SignedVoucher>) -> Result<Response, Error> {
        if !self.has_seat() {
            return Ok(Response::Unavailable("this node has no seat".into()));
        }
        let (state, network) = (self.state(), self.network);
        let check = move || {
            let worth: Vec<_> =
                state.redeemable(crate::mesh::now(), &vouchers).into_iter().cloned().collect();
            let mut batch = Batch::new(network);
            for voucher in &worth {
                batch.add(voucher.signer, &voucher.value, &voucher.signature)?;
            }
            Ok::<_, Error>(if batch.verify().is_ok() { worth } else { Vec::new() })
        };
        let vouchers = self.work(check).await??;
        let count = u16::try_from(vouchers.len()).unwrap_or(u16::MAX);
        let taken = self.commands.try_send(Command::Entrust { vouchers });
        Ok(Response::Entrusted(taken.map_or(0, |()| count)))
    }

    async fn submit(&self, bytes: Vec<u8>) -> Result<Response, Error> {
        if let Some(reason) = self.unwritable() {
            return Err(Error::Unwritable(reason));
        }
        let id = TxId(Sha256::digest(&bytes).into());
        let (answer, answered) = oneshot::channel();
        match self.submissions.try_send(Submitted { bytes, answer }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                let (height, outcome) = (self.head.borrow().state.height, Err(Rejected::Busy));
                let receipt = TransactionReceipt { transaction: id, height, outcome };
                return Ok(Response::Submitted(receipt));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(self.stopped()),
        }
        let waits = async {
            match answered.await {
                Ok(receipt) => Ok(Response::Submitted(receipt)),
                Err(_) => {
                    // The task lets go of its submitters first and says why it ended then.
                    self.commands.closed().await;
                    Err(self.stopped())
                }
            }
        };
        tokio::select! {
            biased;
            answered = waits => answered,
            reason = self.disk_fails() => Err(Error::Unwritable(reason)),
            () = tokio::time::sleep(SUBMIT_WAIT) => {
                let waited = SUBMIT_WAIT.as_secs();
                let reason = format!(
                    "no block took transaction {id} within {waited} s; one may still: look before you send it again"
                );
                Ok(Response::Unavailable(reason))
            }
        }
    }

    /// Waits until the disk takes no block; gives the reason.
    async fn disk_fails(&self) -> String {
        let mut unwritable = self.shared.unwritable.subscribe();
        let reason = unwritable.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    async fn blocks(&self, from: u64, limit: u16) -> Result<Response, Error> {
        let (store, limit) = (self.store()?, usize::from(limit).min(MAX_PAGE));
        let read = self.work(move || store.blocks(from, limit, answers::LIST_BYTES)).await??;
        Ok(read.map_or_else(
            || Response::Unavailable(format!("block {from} is too long for this protocol")),
            Response::Blocks,
        ))
    }

    /// Executes the chain on disk again, at least from block `from` on (1 for all of it), and
    /// checks every link, certificate, transaction, state root and receipt. `progress` is called
    /// for each block, on the worker pool. Gives the state that the chain leads to.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the block that is wrong.
    pub async fn verify(
        &self,
        from: u64,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<State, Error> {
        let (store, genesis) = (self.store()?, self.state().genesis.clone());
        Ok(self.work(move || store.verify(genesis, from, progress)).await??)
    }
}
