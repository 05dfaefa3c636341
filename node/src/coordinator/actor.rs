//! The driver: one task that owns engine and store, and feeds one with what happens and the other
//! with what is decided.
//!
//! Started by [`super::Coordinator`]. Commands gather in a bounded queue; the task hands all that
//! are there to one step, which runs on the worker pool since it executes transactions and waits
//! for the disk. A disk that fails holds everything up: what the engine decided waits and is tried
//! again, and nothing is acknowledged meanwhile. Any other failure of store or engine ends the
//! task.

use super::{
    config::Outgoing,
    engine::{self, Decided, Engine, Input, Joined, Output, Submission},
    intake::Intake,
    metrics::Metrics,
    staged::Staged,
    store::{self, Store},
};
use crate::disk::RETRY_DELAY;
use archipelag_protocol::{
    consensus::{self, MAX_BLOCKS, MAX_MESSAGE_BYTES, Message},
    id::{AccountId, NodeId, TxId},
    ledger::{Certificate, Header, Rejected, State, TransactionReceipt},
    payment::SignedVoucher,
    query::CertifiedBlock,
    time::Timestamp,
};
use archipelag_runtimes::workers::{self, Workers};
use futures::future::Either;
use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Commands that one step takes from the queue; also the queue's length.
pub(super) const MAX_COMMANDS: usize = 4_096;
/// Decided blocks that go into one message; the rest is for its own fields.
const SERVED_BYTES: usize = MAX_MESSAGE_BYTES - (64 << 10);
/// Submitters that wait for one and the same transaction.
const MAX_WAITING_FOR_ONE: usize = 64;

/// Why a coordinator can't go on. Its node must be mended and started again.
#[derive(Debug, Error)]
pub enum Fatal {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Engine(#[from] engine::Fatal),
    #[error("the work on the next block was lost: {0}")]
    Lost(#[from] workers::Lost),
}

/// What a handle asks of the task.
#[derive(Debug)]
pub(super) enum Command {
    /// Answered once the transaction is durable or refused. Queue full: the submitter is refused as
    /// [`Rejected::Busy`].
    Submit { submission: Submission, answer: oneshot::Sender<TransactionReceipt> },
    /// A transaction that came by gossip. Queue full: it is not passed on.
    Hear { submission: Submission },
    /// Vouchers to redeem for others. Queue full: none is taken.
    Entrust { vouchers: Vec<SignedVoucher> },
    /// Two thirds of those who decide have no block after the last one here.
    Current,
    /// A later state to go on from.
    Join { joined: Box<Joined> },
    /// Decided blocks to follow. Queue full: who follows asks again.
    Follow { blocks: Vec<CertifiedBlock> },
    /// Queue full: dropped, since consensus allows for loss. `place` is the sender's budget.
    Peer { from: NodeId, message: Vec<u8>, place: Option<OwnedSemaphorePermit> },
}

/// What the task tells its handles.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) metrics: Metrics,
    /// Set when the task ended by [`Fatal`].
    pub(super) failure: OnceLock<String>,
    /// Whether the engine has been where the others are.
    pub(super) current: AtomicBool,
    /// Why the disk takes no block now; `None` while it does.
    pub(super) unwritable: watch::Sender<Option<String>>,
}

impl Shared {
    pub(super) fn new(current: bool) -> Self {
        let (unwritable, current) = (watch::Sender::new(None), AtomicBool::new(current));
        Self { metrics: Metrics::default(), failure: OnceLock::new(), current, unwritable }
    }
}

/// Where the ledger stands.
#[derive(Debug)]
pub(super) struct Head {
    /// After the last final block. It may not be on the own disk yet, when others decided it.
    pub(super) state: Arc<State>,
    /// That block's header, and why it is final. `None` before the first.
    pub(super) decided: Option<(Header, Certificate)>,
}

/// Engine and store, and who waits for what.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) engine: Box<dyn Engine>,
    pub(super) store: Arc<Store>,
    pub(super) head: watch::Sender<Arc<Head>>,
    pub(super) height: watch::Sender<u64>,
    pub(super) outgoing: Option<mpsc::Sender<Outgoing>>,
    pub(super) shared: Arc<Shared>,
    /// Submitters by transaction. Bounded by what the engine keeps pending, since it answers for
    /// each sooner or later.
    pub(super) waiting: BTreeMap<TxId, Vec<oneshot::Sender<TransactionReceipt>>>,
    /// Commands that the engine has not seen. Empty, as what follows, unless the disk fails.
    pub(super) commands: VecDeque<Command>,
    /// What the engine wants done, in order; it is asked for more when all is.
    pub(super) outputs: Vec<Output>,
    /// What of it waits for the disk.
    pub(super) staged: Option<Staged>,
    /// Whose votes the engine casts.
    pub(super) account: AccountId,
}

impl Core {
    /// Takes `commands` and does what is due; everything that it acknowledges is durable. What a
    /// failing disk holds up waits for the next step.
    pub(super) fn step(&mut self, now: Timestamp, commands: Vec<Command>) -> Result<(), Fatal> {
        self.commands.extend(commands);
        let unwritable = match self.work(now) {
            Ok(()) => None,
            Err(Fatal::Store(store::Error::Failed(reason))) => Some(reason),
            Err(fatal) => return Err(fatal),
        };
        let before = self.shared.unwritable.send_replace(unwritable.clone());
        match (before, unwritable) {
            (None, Some(reason)) => tracing::error!(reason, "coordinator.disk_fails"),
            (Some(_), None) => tracing::info!("coordinator.disk_works_again"),
            _ => {}
        }
        self.shared.current.store(self.engine.is_current(), Ordering::Relaxed);
        let pending = u64::try_from(self.engine.pending()).unwrap_or(u64::MAX);
        self.shared.metrics.pending.set(pending);
        Ok(())
    }

    fn work(&mut self, now: Timestamp) -> Result<(), Fatal> {
        self.perform()?;
        loop {
            // A command leaves the queue when the disk has said what it knows of it; what peers
            // said before is durable then.
            let known = match self.commands.front() {
                Some(Command::Submit { submission, .. }) => {
                    let (id, signer) = (submission.id, submission.transaction.signer);
                    let nonce = submission.transaction.value.nonce;
                    self.perform()?;
                    self.receipt_of(id, signer, nonce)?
                }
                Some(_) | None => None,
            };
            let Some(command) = self.commands.pop_front() else { break };
            let input = match command {
                Command::Follow { blocks } => Input::Decided(blocks),
                Command::Hear { submission } => Input::Heard(submission),
                Command::Entrust { vouchers } => Input::Entrusted(vouchers),
                Command::Current => Input::Current,
                Command::Join { joined } => Input::Joined(joined),
                Command::Peer { from, message, place: _place } => Input::Peer { from, message },
                Command::Submit { submission, answer } => {
                    if let Some(receipt) = known {
                        self.shared.metrics.repeated.inc();
                        // A submitter that is gone wants no answer, here and below.
                        let _gone = answer.send(receipt);
                        continue;
                    }
                    if !self.wait(submission.id, answer) {
                        continue;
                    }
                    Input::Transaction(submission)
                }
            };
            // What many peers said becomes durable in one write.
            self.outputs.extend(self.engine.on(now, input)?);
        }
        self.perform()?;
        if self.engine.deadline().is_some_and(|due| due <= now) {
            self.outputs.extend(self.engine.tick(now)?);
            self.perform()?;
        }
        Ok(())
    }

    /// The receipt of a transaction that is in a block: in none, while its signer's nonce is not
    /// used up.
    fn receipt_of(
        &self,
        id: TxId,
        signer: AccountId,
        nonce: u64,
    ) -> Result<Option<TransactionReceipt>, Fatal> {
        let state = Arc::clone(&self.head.borrow().state);
        let next = state.accounts.get(&signer).map_or(0, |account| account.nonce);
        if nonce >= next {
            return Ok(None);
        }
        Ok(self.store.receipt(id)?)
    }

    /// Notes who waits for a transaction; false when too many do, which answers this one.
    fn wait(&mut self, id: TxId, answer: oneshot::Sender<TransactionReceipt>) -> bool {
        let height = self.head.borrow().state.height;
        let waiting = self.waiting.entry(id).or_default();
        waiting.retain(|a| !a.is_closed());
        if waiting.len() >= MAX_WAITING_FOR_ONE {
            let outcome = Err(Rejected::Busy);
            let _gone = answer.send(TransactionReceipt { transaction: id, height, outcome });
            return false;
        }
        waiting.push(answer);
        true
    }

    fn answer(&mut self, receipt: &TransactionReceipt) {
        for answer in self.waiting.remove(&receipt.transaction).unwrap_or_default() {
            let _gone = answer.send(receipt.clone());
        }
    }

    /// Does what the engine wants done, in the order that [`Staged`] says. What the disk does not
    /// take is tried again the next time.
    fn perform(&mut self) -> Result<(), Fatal> {
        if let Some(staged) = self.staged.take() {
            self.finish(staged)?;
        }
        let staged = Staged::of(std::mem::take(&mut self.outputs), self.account);
        for message in &staged.early {
            self.send(None, message.clone());
        }
        if staged.settled && staged.joined.is_none() {
            self.announce(&staged.decided);
        }
        self.finish(staged)
    }

    fn finish(&mut self, staged: Staged) -> Result<(), Fatal> {
        if let Err(error) = self.persist(&staged) {
            self.staged = Some(staged);
            return Err(error);
        }
        if let Some(joined) = &staged.joined {
            self.go_on_from(joined);
        }
        if !staged.settled || staged.joined.is_some() {
            self.announce(&staged.decided);
        }
        for output in staged.after {
            match output {
                Output::Refused { transaction, reason } => {
                    self.shared.metrics.refused.inc();
                    let height = self.head.borrow().state.height;
                    self.answer(&TransactionReceipt { transaction, height, outcome: Err(reason) });
                }
                Output::Serve { to, first } => self.serve(to, first),
                Output::Send { to, message } => self.send(Some(to), message),
                Output::Broadcast { message } => self.send(None, message),
                // They are in the step's other parts.
                Output::Log { .. }
                | Output::Early { .. }
                | Output::Decided(_)
                | Output::Joined(_)
                | Output::Voter => {}
            }
        }
        Ok(())
    }

    /// Makes durable, at once, blocks that are decided and the log.
    fn persist(&self, staged: &Staged) -> Result<(), Fatal> {
        if let Some(joined) = &staged.joined {
            self.store.join(joined)?;
        }
        if staged.log.is_empty() && staged.decided.is_empty() && !staged.votes {
            return Ok(());
        }
        let started = Instant::now();
        let decided: Vec<_> = staged.decided.iter().collect();
        self.store.commit(&decided, &staged.log, staged.votes)?;
        let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.metrics.commit_us.inc_by(took);
        Ok(())
    }

    fn go_on_from(&mut self, joined: &Joined) {
        let CertifiedBlock { block, certificate } = &joined.certified;
        let last = (block.header.clone(), certificate.clone());
        let height = joined.state.height;
        let head = Head { state: Arc::clone(&joined.state), decided: Some(last) };
        self.head.send_replace(Arc::new(head));
        self.height.send_replace(height);
        self.shared.metrics.height.set(height);
        tracing::info!(height, "coordinator.joined");
    }

    fn announce(&mut self, decided: &[Decided]) {
        for decided in decided {
            self.decided(decided);
        }
    }

    /// Tells everybody of a block that is final.
    fn decided(&mut self, decided: &Decided) {
        let metrics = &self.shared.metrics;
        metrics.blocks.inc();
        let count = u64::try_from(decided.receipts.len()).unwrap_or(u64::MAX);
        metrics.transactions.inc_by(count);
        let height = decided.state.height;
        metrics.height.set(height);
        // The new state first: who has a receipt must find what it did.
        let CertifiedBlock { block, certificate } = &decided.certified;
        let last = (block.header.clone(), certificate.clone());
        let head = Head { state: Arc::clone(&decided.state), decided: Some(last) };
        self.head.send_replace(Arc::new(head));
        self.height.send_replace(height);
        for receipt in &decided.receipts {
            self.answer(receipt);
        }
        tracing::debug!(height, transactions = count, "coordinator.block");
    }

    /// Sends decided blocks to a coordinator that is behind. It asks again for what is missing.
    fn serve(&self, to: NodeId, first: u64) {
        let blocks = match self.store.blocks(first, MAX_BLOCKS, SERVED_BYTES) {
            Ok(blocks) => blocks.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, first, "coordinator.can_not_serve");
                return;
            }
        };
        match consensus::encode(&Message::Decided(blocks)) {
            Ok(message) => self.send(Some(to), message),
            Err(error) => tracing::warn!(%error, first, "coordinator.can_not_serve"),
        }
    }

    fn send(&self, to: Option<NodeId>, message: Vec<u8>) {
        let Some(outgoing) = &self.outgoing else { return };
        if outgoing.try_send(Outgoing { to, message }).is_err() {
            self.shared.metrics.messages_dropped.inc();
        }
    }

    fn wait_for_deadline(&self) -> impl Future<Output = ()> + use<> {
        let due = self.engine.deadline().map(|due| due.since_ms(crate::mesh::now()));
        async move {
            match due {
                Some(0) => {}
                Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// What makes a coordinator go on: its engine and store, and the commands that its handles gave.
///
/// Production runs one as a task; a simulation steps it, with a clock of its own.
pub struct Driver {
    core: Core,
    inbox: mpsc::Receiver<Command>,
    intake: Intake,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Driver").field(&self.core.engine).finish()
    }
}

impl Driver {
    pub(super) fn new(core: Core, inbox: mpsc::Receiver<Command>, intake: Intake) -> Self {
        Self { core, inbox, intake }
    }

    /// Takes what the handles gave so far and does what is due. Messages to others are in the queue
    /// of [`super::Config::outgoing`] when it returns, and submitters have their answers.
    ///
    /// # Errors
    /// [`Fatal`]: the coordinator can't go on.
    pub fn step(&mut self, now: Timestamp) -> Result<(), Fatal> {
        let mut commands = Vec::new();
        while commands.len() < MAX_COMMANDS
            && let Ok(command) = self.inbox.try_recv()
        {
            commands.push(command);
        }
        self.core.step(now, commands)
    }

    /// When there is something to do again, if nothing comes; a moment that has passed means at
    /// once.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.core.engine.deadline()
    }

    /// Runs until `stop`, until no handle is left, or until something fatal.
    pub(super) async fn run(self, workers: Arc<dyn Workers>, stop: CancellationToken) {
        let Self { core, mut inbox, intake } = self;
        let shared = Arc::clone(&core.shared);
        let drive = pin!(drive(core, &mut inbox, workers.as_ref(), stop));
        let intake = pin!(intake.run(workers.as_ref()));
        let driven = match futures::future::select(drive, intake).await {
            Either::Left((driven, _)) => driven,
            Either::Right(((), drive)) => drive.await,
        };
        if let Err(fatal) = driven {
            tracing::error!(reason = %fatal, "coordinator.stopped");
            shared.failure.get_or_init(|| fatal.to_string());
        }
    }
}

async fn drive(
    mut core: Core,
    inbox: &mut mpsc::Receiver<Command>,
    workers: &dyn Workers,
    stop: CancellationToken,
) -> Result<(), Fatal> {
    let mut batch = Vec::new();
    loop {
        let held_up = core.shared.unwritable.borrow().is_some();
        // Commands before the deadline: what has gathered goes into the block that is due.
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(RETRY_DELAY), if held_up => {}
            count = inbox.recv_many(&mut batch, MAX_COMMANDS), if !held_up => {
                if count == 0 { break }
            }
            () = core.wait_for_deadline(), if !held_up => {}
        }
        let batch = std::mem::take(&mut batch);
        let step = move || core.step(crate::mesh::now(), batch).map(|()| core);
        core = workers::run(workers, step).await??;
    }
    // Nothing is lost without it: the next opening replays the blocks since the last one.
    let head = Arc::clone(&core.head.borrow());
    Ok(workers::run(workers, move || core.store.snapshot(&head.state)).await??)
}
