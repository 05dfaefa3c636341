//! The ledger as a node reaches it: its own coordinator, or another node's by the query protocol.
//!
//! Consumer, Island, gateway and command line all ask through here, so none of them knows whether
//! this node is a coordinator.

use crate::coordinator::Coordinator;
use crate::mesh::Mesh;
use archipelag_protocol::{
    catalog::Entry,
    codec,
    id::{AccountId, CargoId, HoldId, NodeId},
    ledger::{
        Account, Hold, IslandStanding, Key, Proven, Rejected, SignedTransaction,
        TransactionReceipt, transaction,
    },
    manifest::Version,
    query::{CatalogItem, CertifiedBlock, LedgerStatus, Request, Response},
};
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
pub struct Ledger(Access);

#[derive(Clone, Debug)]
enum Access {
    Local(Coordinator),
    Remote { mesh: Mesh, coordinators: Vec<NodeId> },
}

impl Ledger {
    #[must_use]
    pub fn local(coordinator: Coordinator) -> Self {
        Self(Access::Local(coordinator))
    }

    /// Asks `coordinators` in turn, by the mesh.
    #[must_use]
    pub fn remote(mesh: Mesh, coordinators: Vec<NodeId>) -> Self {
        Self(Access::Remote { mesh, coordinators })
    }

    /// Answers `request` here or at a coordinator.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when nobody answers.
    pub async fn ask(&self, request: Request) -> Result<Response, Error> {
        match &self.0 {
            Access::Local(coordinator) => Ok(coordinator.answer(request).await),
            Access::Remote { mesh, coordinators } => {
                let mut last = "this network's genesis names none".to_owned();
                for node in coordinators {
                    match mesh.query(*node, request.clone()).await {
                        Ok(Response::Unavailable(reason)) => last = reason,
                        Ok(response) => return Ok(response),
                        Err(error) => last = error.to_string(),
                    }
                }
                Err(Error::Unreachable(last))
            }
        }
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
