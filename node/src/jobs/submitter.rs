//! What the job book asks of the node's Consumer, and how a node answers it.

use crate::{
    catalog::{self, Catalog},
    consumer::{Consumer, Refused, Request, Update},
    wallet::Wallet,
};
use archipelag_protocol::{
    id::{AccountId, CargoId, JobId},
    manifest::Version,
    payment::SettledReceipt,
    pricing::Price,
};
use async_trait::async_trait;
use std::{fmt, sync::Arc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The wallets of the accounts whose keys this node holds.
pub trait Accounts: Send + Sync + fmt::Debug {
    fn wallet(&self, account: AccountId) -> Option<Wallet>;
}

/// The Cargo version that a request means.
#[derive(Clone, Debug)]
pub struct Workload {
    pub cargo: CargoId,
    pub slug: String,
    pub version: Version,
    pub price: Price,
}

/// A job that the Consumer has taken on.
#[derive(Debug)]
pub struct Started {
    pub updates: mpsc::Receiver<Update>,
    pub cancel: CancellationToken,
}

/// Takes jobs on. Implemented by the node's Consumer, and by a scripted one in tests.
#[async_trait]
pub trait Submitter: Send + Sync + fmt::Debug {
    /// Finds the Cargo; no money moves.
    async fn resolve(&self, slug: &str, version: Option<&Version>) -> Result<Workload, Refused>;

    /// Takes the job on for `payer`, or says why not.
    async fn submit(
        &self,
        payer: AccountId,
        id: JobId,
        request: Request,
    ) -> Result<Started, Refused>;

    /// What was signed for a job that ended lately. Blocks.
    ///
    /// # Errors
    /// When that can't be read.
    fn receipt(&self, job: JobId) -> Result<Option<SettledReceipt>, String>;
}

/// The Consumer, catalog and wallets of this node as a [`Submitter`].
#[derive(Clone, Debug)]
pub struct NodeSubmitter {
    pub consumer: Consumer,
    pub catalog: Catalog,
    pub accounts: Arc<dyn Accounts>,
}

#[async_trait]
impl Submitter for NodeSubmitter {
    async fn resolve(&self, slug: &str, version: Option<&Version>) -> Result<Workload, Refused> {
        let resolved = self.catalog.resolve(slug, version).await.map_err(|error| match error {
            catalog::Error::Unknown(what) => Refused::UnknownCargo(what),
            other => Refused::Network(other.to_string()),
        })?;
        let manifest = &resolved.entry.manifest.value;
        Ok(Workload {
            cargo: resolved.cargo,
            slug: manifest.slug.clone(),
            version: manifest.version.clone(),
            price: manifest.price,
        })
    }

    async fn submit(
        &self,
        payer: AccountId,
        id: JobId,
        request: Request,
    ) -> Result<Started, Refused> {
        let Some(wallet) = self.accounts.wallet(payer) else {
            return Err(Refused::Network(format!(
                "this node does not hold the key of account {payer}"
            )));
        };
        let running = self.consumer.submit(&wallet, id, request).await?;
        Ok(Started { updates: running.updates, cancel: running.cancel })
    }

    fn receipt(&self, job: JobId) -> Result<Option<SettledReceipt>, String> {
        self.consumer.receipt(job).map_err(|e| e.to_string())
    }
}
