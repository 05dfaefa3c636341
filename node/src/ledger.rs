//! The ledger as a node reaches it: its own coordinator, or another node's by the query protocol.
//!
//! Consumer, Island, gateway and command line all ask through here, so none of them knows whether
//! this node is a coordinator.

use crate::{coordinator::Coordinator, mesh::Mesh};
use archipelag_protocol::{
    catalog::Entry,
    codec,
    id::{AccountId, CargoId, HoldId, NodeId},
    ledger::{
        Account, Header, Hold, IslandStanding, Key, Proven, Rejected, SignedTransaction,
        TransactionReceipt, transaction,
    },
    manifest::Version,
    query::{CatalogItem, CertifiedBlock, LedgerStatus, Request, Response},
};
use std::collections::BTreeSet;
use thiserror::Error;

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
}

impl Ledger {
    /// A coordinator's own, of a node that reaches no other.
    #[must_use]
    pub fn local(coordinator: Coordinator) -> Self {
        Self { local: Some(coordinator), mesh: None, dialled: None }
    }

    /// Asks `coordinator`, if there is one and it has a seat, or those who have, by the mesh.
    #[must_use]
    pub fn of_node(coordinator: Option<Coordinator>, mesh: Mesh) -> Self {
        Self { local: coordinator, mesh: Some(mesh), dialled: None }
    }

    /// Asks the node `dialled` first, and then those who have a seat, by the mesh.
    #[must_use]
    pub fn by(dialled: NodeId, mesh: Mesh) -> Self {
        Self { local: None, mesh: Some(mesh), dialled: Some(dialled) }
    }

    /// The nodes to ask: who has a seat, as far as is known here. On one's own behalf also who had one
    /// at first; on another's not the asker, so that no question goes in circles.
    fn coordinators(&self, mesh: &Mesh, asker: Option<NodeId>) -> Vec<NodeId> {
        let (trust, genesis) = (mesh.trust(), mesh.genesis());
        let followed = self.local.iter().flat_map(Coordinator::deciders);
        let seated = followed.chain(trust.validators().iter().map(|v| v.node));
        let mut nodes: Vec<_> = self.dialled.into_iter().chain(seated).collect();
        if asker.is_none() {
            nodes.extend(genesis.validators.iter().map(|v| v.node));
        }
        let mut seen = BTreeSet::from([mesh.node()]);
        seen.extend(asker);
        nodes.retain(|node| seen.insert(*node));
        nodes
    }

    /// Whether this node answers for the ledger by itself.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.local.as_ref().is_some_and(Coordinator::decides) || self.mesh.is_none()
    }

    /// Learns of changes of the validators, from whoever answers.
    ///
    /// # Errors
    /// When no coordinator answers, or what it says does not count.
    pub async fn follow_validators(&self) -> Result<(), Error> {
        let Some(mesh) = &self.mesh else { return Ok(()) };
        loop {
            let after = mesh.trust().height();
            let handovers = match self.ask(Request::Handovers { after }).await? {
                Response::Handovers(handovers) => handovers,
                other => return Err(unexpected(other)),
            };
            if handovers.is_empty() {
                return Ok(());
            }
            for handover in handovers {
                // Another task may have learnt it meanwhile.
                if handover.0.header.height > mesh.trust().height() {
                    mesh.learn(handover).map_err(|e| Error::Unproven(e.to_string()))?;
                }
            }
        }
    }

    /// Learns who decided the block of `header`, when they may have taken over since the last change
    /// that is known here. That nobody answers shows when the header is checked.
    pub async fn know(&self, header: &Header) {
        let known = self.mesh.as_ref().is_none_or(|mesh| mesh.trust().knows(header));
        if !known && let Err(error) = self.follow_validators().await {
            tracing::debug!(%error, "ledger.handovers");
        }
    }

    /// Answers `request` here or at a coordinator.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when nobody answers.
    pub async fn ask(&self, request: Request) -> Result<Response, Error> {
        self.ask_for(None, request).await
    }

    /// As [`Ledger::ask`], on behalf of another node.
    ///
    /// # Errors
    /// As [`Ledger::ask`].
    pub async fn ask_for(
        &self,
        asker: Option<NodeId>,
        request: Request,
    ) -> Result<Response, Error> {
        if let Some(local) = &self.local
            && (local.decides() || self.mesh.is_none())
        {
            return Ok(local.answer(request).await);
        }
        let mut last = "none is known".to_owned();
        let Some(mesh) = &self.mesh else { return Err(Error::Unreachable(last)) };
        for node in self.coordinators(mesh, asker) {
            match mesh.query(node, request.clone()).await {
                Ok(Response::Unavailable(reason)) => last = reason,
                Ok(response) => return Ok(response),
                Err(error) => last = error.to_string(),
            }
        }
        Err(Error::Unreachable(last))
    }

    /// Submits and waits for inclusion or refusal. The outcome is in the receipt.
    ///
    /// # Errors
    /// When no coordinator answers; the transaction may still be included.
    pub async fn submit(
        &self,
        transaction: &SignedTransaction,
    ) -> Result<TransactionReceipt, Error> {
        let bytes = serde_bytes::ByteBuf::from(transaction::to_bytes(transaction)?);
        match self.ask(Request::Submit(bytes)).await? {
            Response::Submitted(receipt) => Ok(receipt),
            other => Err(unexpected(other)),
        }
    }

    /// # Errors
    /// When no coordinator answers.
    pub async fn account(&self, account: AccountId) -> Result<Account, Error> {
        match self.ask(Request::Account(account)).await? {
            Response::Account(account) => Ok(account),
            other => Err(unexpected(other)),
        }
    }

    /// # Errors
    /// When no coordinator answers.
    pub async fn hold(&self, hold: HoldId) -> Result<Option<Hold>, Error> {
        match self.ask(Request::Hold(hold)).await? {
            Response::Hold(hold) => Ok(hold),
            other => Err(unexpected(other)),
        }
    }

    /// # Errors
    /// When no coordinator answers.
    pub async fn standing(&self, island: AccountId) -> Result<IslandStanding, Error> {
        match self.ask(Request::Standing(island)).await? {
            Response::Standing(standing) => Ok(standing),
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
        match self.ask(Request::Prove(key)).await? {
            Response::Proven(proven) => Ok(*proven),
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

fn unexpected(response: Response) -> Error {
    match response {
        Response::Unavailable(reason) => Error::Unreachable(reason),
        _ => Error::WrongAnswer,
    }
}
