//! What Consumer and Island ask of the rest of their node: routes to other nodes, Cargos, an
//! account's money.
//!
//! The mesh, the catalog and wallets answer; unit tests hand in stand-ins. Nothing here decides
//! anything.

use crate::{
    catalog::{self, Catalog, Resolved},
    ledger,
    mesh::{self, Mesh, Protocol, SeenIsland},
    wallet::Wallet,
};
use archipelag_protocol::{
    advert::Advert,
    amount::Credits,
    id::{AccountId, CargoId, HoldId, NodeId},
    ledger::{Action, Hold, IslandStanding, TransactionReceipt},
    manifest::Version,
    payment::SignedVoucher,
    sign::SecretKey,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A stream of bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A job stream, whatever carries it.
pub type JobStream = Box<dyn Duplex>;

/// Ways to other nodes.
#[async_trait]
pub trait Routes: Send + Sync + fmt::Debug {
    /// The Islands whose adverts count now.
    fn islands(&self) -> Vec<SeenIsland>;
    /// Opens a job stream.
    ///
    /// # Errors
    /// When the node can't be reached in time.
    async fn open_job(&self, node: NodeId) -> Result<JobStream, mesh::Error>;
    /// Sets what this node's adverts say.
    fn advertise(&self, advert: Advert);
    /// Scores a node down that sent what no honest node sends.
    fn misbehaved(&self, node: NodeId, reason: &str);
}

#[async_trait]
impl Routes for Mesh {
    fn islands(&self) -> Vec<SeenIsland> {
        Mesh::islands(self)
    }

    async fn open_job(&self, node: NodeId) -> Result<JobStream, mesh::Error> {
        Ok(Box::new(self.open_stream(node, Protocol::Job).await?))
    }

    fn advertise(&self, advert: Advert) {
        Mesh::advertise(self, advert);
    }

    fn misbehaved(&self, node: NodeId, reason: &str) {
        Mesh::misbehaved(self, node, reason);
    }
}

/// Verified Cargos and their artifacts.
#[async_trait]
pub trait Cargos: Send + Sync + fmt::Debug {
    /// # Errors
    /// As [`Catalog::resolve`].
    async fn resolve(
        &self,
        slug: &str,
        version: Option<&Version>,
    ) -> Result<Arc<Resolved>, catalog::Error>;
    /// # Errors
    /// As [`Catalog::cargo`].
    async fn cargo(&self, cargo: CargoId) -> Result<Arc<Resolved>, catalog::Error>;
    /// # Errors
    /// As [`Catalog::artifact`].
    async fn artifact(&self, resolved: &Resolved) -> Result<Bytes, catalog::Error>;
}

#[async_trait]
impl Cargos for Catalog {
    async fn resolve(
        &self,
        slug: &str,
        version: Option<&Version>,
    ) -> Result<Arc<Resolved>, catalog::Error> {
        Catalog::resolve(self, slug, version).await
    }

    async fn cargo(&self, cargo: CargoId) -> Result<Arc<Resolved>, catalog::Error> {
        Catalog::cargo(self, cargo).await
    }

    async fn artifact(&self, resolved: &Resolved) -> Result<Bytes, catalog::Error> {
        Catalog::artifact(self, resolved).await
    }
}

/// One account's key and its access to the ledger.
#[async_trait]
pub trait Bank: Send + Sync + fmt::Debug {
    fn key(&self) -> &SecretKey;
    /// What the account can spend or reserve.
    ///
    /// # Errors
    /// When no coordinator answers.
    async fn balance(&self) -> Result<Credits, ledger::Error>;
    /// # Errors
    /// When no coordinator answers.
    async fn hold(&self, hold: HoldId) -> Result<Option<Hold>, ledger::Error>;
    /// # Errors
    /// When no coordinator answers.
    async fn standing(&self, island: AccountId) -> Result<IslandStanding, ledger::Error>;
    /// Sends `action` and waits until it is in a block.
    ///
    /// # Errors
    /// The ledger's refusal, or that no coordinator answered.
    async fn send(&self, action: Action) -> Result<TransactionReceipt, ledger::Error>;
    /// Has a coordinator redeem vouchers, when this account can't. Gives how many it takes.
    ///
    /// # Errors
    /// When no coordinator answers.
    async fn entrust(&self, vouchers: Vec<SignedVoucher>) -> Result<u16, ledger::Error>;
}

#[async_trait]
impl Bank for Wallet {
    fn key(&self) -> &SecretKey {
        Wallet::key(self)
    }

    async fn balance(&self) -> Result<Credits, ledger::Error> {
        Ok(self.ledger().account(self.account()).await?.balance)
    }

    async fn hold(&self, hold: HoldId) -> Result<Option<Hold>, ledger::Error> {
        self.ledger().hold(hold).await
    }

    async fn standing(&self, island: AccountId) -> Result<IslandStanding, ledger::Error> {
        self.ledger().standing(island).await
    }

    async fn send(&self, action: Action) -> Result<TransactionReceipt, ledger::Error> {
        Wallet::send(self, action).await
    }

    async fn entrust(&self, vouchers: Vec<SignedVoucher>) -> Result<u16, ledger::Error> {
        self.ledger().entrust(vouchers).await
    }
}

/// Locks a mutex whose critical sections don't panic half-way.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
