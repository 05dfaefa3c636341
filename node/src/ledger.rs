//! The ledger as a node reaches it: its own coordinator, or another node's by the query protocol.
//!
//! Consumer, Island, gateway and command line all ask through here, so none of them knows whether
//! this node is a coordinator.

use crate::{
    coordinator::{self, Coordinator},
    mesh::{self, Mesh},
};
use archipelag_protocol::{
    amount::Credits,
    catalog::Entry,
    codec,
    genesis::Genesis,
    id::{AccountId, CargoId, HoldId, NodeId},
    ledger::{
        Account, Handover, Header, Hold, IslandStanding, Key, Proven, Rejected, SignedTransaction,
        State, TransactionReceipt, Trust, transaction,
    },
    manifest::Version,
    payment::SignedVoucher,
    query::{CatalogItem, CertifiedBlock, LedgerStatus, Request, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use thiserror::Error;

/// How long an own coordinator that has just started may take to find out where the others are.
const CURRENT_WAIT: Duration = Duration::from_secs(5);
/// Connected nodes that are asked for changes of the validators, besides those who have a seat.
const CONNECTED_ASKED: usize = 3;

/// Why the ledger did not do what it was asked.
#[derive(Clone, Debug, Error)]
pub enum Error {
    #[error("the ledger refused: {0}")]
    Rejected(Rejected),
    #[error("no coordinator answered: {0}; check `archipelag status` for connected peers")]
    Unreachable(String),
    #[error("a coordinator answered something else than it was asked")]
    WrongAnswer,
    #[error("a coordinator answered what it can't prove: {0}")]
    Unproven(String),
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error("the operating system gives no randomness: {0}")]
    Entropy(#[from] getrandom::Error),
}

// By hand, so that the ledger's reason is not the source too: it is said already.
impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

#[derive(Clone, Debug)]
pub struct Ledger {
    /// Answers while it has a seat. One that follows is behind what it would have another decide.
    local: Option<Coordinator>,
    mesh: Option<Mesh>,
    /// The node to ask first.
    dialled: Option<NodeId>,
    seen: Arc<Seen>,
}

/// How far the ledger is known to be, so that what is older is not believed when there is newer.
#[derive(Debug, Default)]
struct Seen {
    /// The newest block that something was proven by.
    proven: AtomicU64,
    /// The newest block that somebody spoke of. Nobody need have told the truth.
    told: AtomicU64,
    /// Whether the own coordinator had its time to find out where the others are.
    waited: AtomicBool,
}

impl Ledger {
    /// A coordinator's own, of a node that reaches no other.
    #[must_use]
    pub fn local(coordinator: Coordinator) -> Self {
        Self { local: Some(coordinator), mesh: None, dialled: None, seen: Arc::default() }
    }

    /// Asks `coordinator`, if there is one and it has a seat, or those who have, by the mesh.
    #[must_use]
    pub fn of_node(coordinator: Option<Coordinator>, mesh: Mesh) -> Self {
        Self { local: coordinator, mesh: Some(mesh), dialled: None, seen: Arc::default() }
    }

    /// Asks the node `dialled` first, and then those who have a seat, by the mesh.
    #[must_use]
    pub fn by(dialled: NodeId, mesh: Mesh) -> Self {
        Self { local: None, mesh: Some(mesh), dialled: Some(dialled), seen: Arc::default() }
    }

    /// The nodes to ask: who has a seat, as far as is known here, and who had one at first.
    fn coordinators(&self, mesh: &Mesh) -> Vec<NodeId> {
        let (trust, genesis) = (mesh.trust(), mesh.genesis());
        let followed = self.local.iter().flat_map(Coordinator::deciders);
        let seated = trust.validators().iter().chain(&genesis.validators).map(|v| v.node);
        let mut nodes: Vec<_> = self.dialled.into_iter().chain(followed).chain(seated).collect();
        let mut seen = BTreeSet::from([mesh.node()]);
        nodes.retain(|node| seen.insert(*node));
        nodes
    }

    /// Whether this node answers for the ledger by itself.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.answering().is_some()
    }

    /// Gives an own coordinator that has just started the time to find out where the others are.
    pub(crate) async fn wait(&self) {
        let Some(local) = self.local.as_ref().filter(|local| local.has_seat()) else { return };
        if self.mesh.is_none() || self.seen.waited.swap(true, Ordering::Relaxed) {
            return;
        }
        let current = async {
            while !local.decides() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(CURRENT_WAIT, current).await.is_err() {
            tracing::warn!("ledger: too few coordinators say where they are");
        }
    }

    /// Answers what another node was asked, by the own coordinator; `None` when that has no seat.
    pub(crate) async fn answer_here(&self, request: Request) -> Option<Response> {
        self.wait().await;
        Some(self.last_resort()?.answer(request).await)
    }

    /// The own coordinator when nobody else answers: it may be behind, and knows no better.
    fn last_resort(&self) -> Option<&Coordinator> {
        self.local.as_ref().filter(|local| local.has_seat())
    }

    /// The own coordinator, if that answers.
    fn answering(&self) -> Option<&Coordinator> {
        self.local.as_ref().filter(|local| local.decides() || self.mesh.is_none())
    }

    /// Learns of changes of the validators: from the own coordinator, those who have a seat and
    /// some who are connected, until it is `enough`. Changes prove themselves; that there are none
    /// is a word, so all of them are asked.
    pub async fn follow_validators(&self, enough: impl Fn(&Trust) -> bool) {
        let Some(mesh) = &self.mesh else { return };
        if let Some(local) = &self.local {
            while let Response::Handovers(list) = local.answer(after(mesh)).await {
                if !learn(mesh, list) {
                    break;
                }
            }
            if local.decides() {
                return;
            }
        }
        let mut nodes = self.coordinators(mesh);
        let connected = mesh.peers().into_iter().map(|peer| peer.node);
        nodes.extend(connected.take(CONNECTED_ASKED));
        for node in nodes {
            if enough(&mesh.trust()) {
                return;
            }
            while let Ok(Response::Handovers(list)) = mesh.query(node, after(mesh)).await {
                if !learn(mesh, list) {
                    break;
                }
            }
        }
    }

    /// Learns who decided the block of `header`, when they may have taken over since the last
    /// change that is known here. That nobody answers shows when the header is checked.
    pub async fn know(&self, header: &Header) {
        let known = self.mesh.as_ref().is_none_or(|mesh| mesh.trust().knows(header));
        if !known {
            self.follow_validators(|trust| trust.knows(header)).await;
        }
    }

    /// Answers `request` here or at a coordinator.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when nobody answers.
    pub async fn ask(&self, request: Request) -> Result<Response, Error> {
        self.wait().await;
        if let Some(local) = self.answering() {
            return Ok(local.answer(request).await);
        }
        let mut last = "none is known".to_owned();
        let Some(mesh) = &self.mesh else { return Err(Error::Unreachable(last)) };
        let (mut busy, mut transaction) = (None, transaction_of(&request));
        for node in self.coordinators(mesh) {
            let answer = mesh.query(node, request.clone()).await;
            // The others have to hear of what this one did not take.
            if !took(&answer)
                && let Some(transaction) = transaction.take()
            {
                mesh.spread(transaction.to_vec());
            }
            match answer {
                Ok(Response::Unavailable(reason)) => last = reason,
                Ok(response) if is_busy(&response) => busy = Some(response),
                Ok(response) => return Ok(response),
                Err(error) => last = error.to_string(),
            }
        }
        match (self.last_resort(), busy) {
            (Some(local), _) => Ok(local.answer(request).await),
            (None, Some(busy)) => Ok(busy),
            (None, None) => Err(Error::Unreachable(last)),
        }
    }

    /// Submits and waits for inclusion or refusal. The outcome is in the receipt. What the
    /// coordinator that is asked first does not take goes to all others by gossip, too.
    ///
    /// # Errors
    /// When no coordinator answers; the transaction may still be included.
    pub async fn submit(
        &self,
        transaction: &SignedTransaction,
    ) -> Result<TransactionReceipt, Error> {
        let bytes = serde_bytes::ByteBuf::from(transaction::to_bytes(transaction)?);
        match self.ask(Request::Submit(bytes)).await? {
            Response::Submitted(receipt) => {
                self.seen.told.fetch_max(receipt.height, Ordering::Relaxed);
                Ok(receipt)
            }
            other => Err(unexpected(other)),
        }
    }

    /// What the state has under `key`: by the own coordinator, or proven by another. `of` reads it
    /// from a state at hand.
    ///
    /// # Errors
    /// When no coordinator answers with a proof that counts.
    async fn read<T: DeserializeOwned + Serialize>(
        &self,
        key: Key,
        of: impl Fn(&State) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.wait().await;
        if let Some(local) = self.answering() {
            return Ok(of(&*local.running_state()?));
        }
        let found = self.verified(vec![key], |values| values.into_iter().next()).await;
        let found = match (found, self.last_resort()) {
            (Ok(found), _) => found,
            (Err(_), Some(local)) => return Ok(of(&*local.running_state()?)),
            (Err(error), None) => return Err(error),
        };
        match (found, &self.mesh) {
            (Some((_, value)), _) => Ok(value.flatten()),
            // What holds before the first block is in the genesis document.
            (None, Some(mesh)) => {
                let first = State::genesis(Genesis::clone(mesh.genesis()));
                first.map(|state| of(&state)).map_err(|_| Error::WrongAnswer)
            }
            (None, None) => Ok(None),
        }
    }

    /// The balances of some accounts at one height, proven; `None` before the first block.
    ///
    /// # Errors
    /// As [`Ledger::account`].
    pub async fn balances(
        &self,
        accounts: &[AccountId],
    ) -> Result<Option<(u64, Vec<Credits>)>, Error> {
        let keys = accounts.iter().map(|id| Key::Account(*id)).collect();
        let balance = |account: Option<Account>| account.unwrap_or_default().balance;
        self.verified(keys, |values| values.into_iter().map(balance).collect()).await
    }

    /// What the state of one block has under `keys`, and that block's height, by the first
    /// coordinator whose proofs count; `None` before the first block.
    async fn verified<T: DeserializeOwned + Serialize, U>(
        &self,
        keys: Vec<Key>,
        collect: impl Fn(Vec<Option<T>>) -> U,
    ) -> Result<Option<(u64, U)>, Error> {
        let mut last = Error::Unreachable("none is known".to_owned());
        let Some(mesh) = &self.mesh else { return Err(last) };
        let request = Request::Prove(keys.clone());
        let own = self.is_local().then(|| mesh.node());
        let (mut best, mut without) = (None, 0_usize);
        let proven = self.seen.proven.load(Ordering::Relaxed);
        for node in own.into_iter().chain(self.coordinators(mesh)) {
            let answer = match own {
                Some(_) => self.ask(request.clone()).await,
                None => mesh.query(node, request.clone()).await.map_err(Error::from),
            };
            match answer {
                Ok(Response::Proven(proven)) => match self.check(mesh, &keys, &proven).await {
                    Ok((height, values)) => {
                        self.seen.proven.fetch_max(height, Ordering::Relaxed);
                        if best.as_ref().is_none_or(|(known, _)| *known < height) {
                            best = Some((height, values));
                        }
                        if height >= self.seen.told.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    Err(error) => last = error,
                },
                // It proves nothing, so one honest one must be among those who say it; who dials a
                // node by hand takes that for one.
                Ok(Response::NoBlock) if self.dialled == Some(node) => {
                    without = mesh.trust().validators().one_honest();
                }
                Ok(Response::NoBlock) => without += 1,
                Ok(other) => last = unexpected(other),
                Err(error) => last = error,
            }
        }
        match best {
            Some((height, values)) if height >= proven => {
                // Whoever told of more could not show it.
                self.seen.told.store(height, Ordering::Relaxed);
                Ok(Some((height, collect(values))))
            }
            None if proven == 0
                && mesh.trust().height() == 0
                && without >= mesh.trust().validators().one_honest() =>
            {
                Ok(None)
            }
            Some(_) => Err(Error::Unproven("only older blocks than one that is known".into())),
            None => Err(last),
        }
    }

    async fn check<T: DeserializeOwned + Serialize>(
        &self,
        mesh: &Mesh,
        keys: &[Key],
        proven: &[Proven],
    ) -> Result<(u64, Vec<Option<T>>), Error> {
        let Some(first) = proven.first().map(|first| &first.header) else {
            return Err(Error::WrongAnswer);
        };
        if proven.len() != keys.len() || proven.iter().any(|one| one.header != *first) {
            return Err(Error::WrongAnswer);
        }
        self.know(first).await;
        let trust = mesh.trust();
        let pairs = keys.iter().zip(proven);
        let values = pairs.map(|(key, proven)| {
            proven.verify(&trust, key).map_err(|e| Error::Unproven(e.to_string()))
        });
        Ok((first.height, values.collect::<Result<_, _>>()?))
    }

    /// # Errors
    /// When no coordinator answers with a proof that counts.
    pub async fn account(&self, account: AccountId) -> Result<Account, Error> {
        let found = self.read(Key::Account(account), |s| s.accounts.get(&account).copied()).await?;
        Ok(found.unwrap_or_default())
    }

    /// # Errors
    /// As [`Ledger::account`].
    pub async fn hold(&self, hold: HoldId) -> Result<Option<Hold>, Error> {
        self.read(Key::Hold(hold), |s| s.holds.get(&hold).cloned()).await
    }

    /// # Errors
    /// As [`Ledger::account`].
    pub async fn standing(&self, island: AccountId) -> Result<IslandStanding, Error> {
        let found = self.read(Key::Island(island), |s| s.islands.get(&island).copied()).await?;
        Ok(found.unwrap_or_default())
    }

    /// Has a coordinator redeem `vouchers` for their payees. Gives how many it takes.
    ///
    /// # Errors
    /// When no coordinator answers.
    pub async fn entrust(&self, vouchers: Vec<SignedVoucher>) -> Result<u16, Error> {
        match self.ask(Request::Entrust(vouchers)).await? {
            Response::Entrusted(count) => Ok(count),
            other => Err(unexpected(other)),
        }
    }

    /// The newest published version of `slug`, or `version`. The caller verifies the entry.
    ///
    /// # Errors
    /// When no coordinator answers.
    pub async fn slug(
        &self,
        slug: String,
        version: Option<Version>,
    ) -> Result<Option<Entry>, Error> {
        self.entry(Request::Slug { slug, version }).await
    }

    /// # Errors
    /// When no coordinator answers.
    pub async fn cargo(&self, cargo: CargoId) -> Result<Option<Entry>, Error> {
        self.entry(Request::Cargo(cargo)).await
    }

    async fn entry(&self, request: Request) -> Result<Option<Entry>, Error> {
        match self.ask(request).await? {
            Response::Entry(entry) => Ok(entry.map(|e| *e)),
            other => Err(unexpected(other)),
        }
    }

    /// # Errors
    /// When no coordinator answers.
    pub async fn catalog(
        &self,
        after: Option<String>,
        limit: u16,
    ) -> Result<Vec<CatalogItem>, Error> {
        match self.ask(Request::Catalog { after, limit }).await? {
            Response::Catalog(items) => Ok(items),
            other => Err(unexpected(other)),
        }
    }

    /// What the ledger has under `key`, with the proof. The caller verifies it.
    ///
    /// # Errors
    /// When no coordinator answers, or there is no block yet.
    pub async fn prove(&self, key: Key) -> Result<Proven, Error> {
        match self.ask(Request::Prove(vec![key])).await? {
            Response::Proven(proven) => proven.into_iter().next().ok_or(Error::WrongAnswer),
            other => Err(unexpected(other)),
        }
    }

    /// # Errors
    /// When no coordinator answers.
    pub async fn status(&self) -> Result<LedgerStatus, Error> {
        match self.ask(Request::Status).await? {
            Response::Status(status) => Ok(status),
            other => Err(unexpected(other)),
        }
    }

    /// # Errors
    /// When no coordinator answers.
    pub async fn blocks(&self, from: u64, limit: u16) -> Result<Vec<CertifiedBlock>, Error> {
        match self.ask(Request::Blocks { from, limit }).await? {
            Response::Blocks(blocks) => Ok(blocks),
            other => Err(unexpected(other)),
        }
    }
}

/// The transaction that a request submits.
fn transaction_of(request: &Request) -> Option<serde_bytes::ByteBuf> {
    match request {
        Request::Submit(bytes) => Some(bytes.clone()),
        Request::Forwarded(request) => transaction_of(request),
        _ => None,
    }
}

/// Whether a submitted transaction is in a block, or refused for good, by the word of who was
/// asked.
fn took(answer: &Result<Response, mesh::Error>) -> bool {
    let Ok(Response::Submitted(receipt)) = answer else { return false };
    !matches!(receipt.outcome, Err(Rejected::Busy | Rejected::Undecided))
}

/// Whether another coordinator may do what this one has no room for.
fn is_busy(response: &Response) -> bool {
    match response {
        Response::Submitted(receipt) => receipt.outcome == Err(Rejected::Busy),
        Response::Entrusted(count) => *count == 0,
        _ => false,
    }
}

fn after(mesh: &Mesh) -> Request {
    Request::Handovers { after: mesh.trust().height() }
}

/// Learns what counts of `handovers`; gives whether there was something, so there may be more.
fn learn(mesh: &Mesh, handovers: Vec<Handover>) -> bool {
    let before = mesh.trust().height();
    for handover in handovers {
        // Another task may have learnt it meanwhile.
        if handover.0.header.height > mesh.trust().height()
            && let Err(error) = mesh.learn(handover)
        {
            tracing::debug!(%error, "ledger.handover");
            break;
        }
    }
    mesh.trust().height() > before
}

impl From<mesh::Error> for Error {
    fn from(error: mesh::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<coordinator::Error> for Error {
    fn from(error: coordinator::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}

fn unexpected(response: Response) -> Error {
    match response {
        Response::Unavailable(reason) => Error::Unreachable(reason),
        Response::NoBlock => {
            Error::Unreachable("there is no block yet to prove anything by".into())
        }
        _ => Error::WrongAnswer,
    }
}
