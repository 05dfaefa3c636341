//! An account's key together with the ledger: sends transactions one after another.
//!
//! Used by the Consumer, the Island, publishers and the command line. It keeps the account's nonce,
//! so that a transaction costs no look-up, and looks it up again when the ledger disagrees.

use crate::ledger::{self, Ledger};
use archipelag_protocol::{
    id::{AccountId, NetworkId},
    ledger::{Action, Rejected, Transaction, TransactionReceipt},
    sign::SecretKey,
};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Attempts at a transaction whose nonce other processes with the same key keep taking.
const NONCE_ATTEMPTS: u32 = 64;

#[derive(Clone, Debug)]
pub struct Wallet {
    key: SecretKey,
    network: NetworkId,
    ledger: Ledger,
    next_nonce: Arc<Mutex<Option<u64>>>,
}

impl Wallet {
    #[must_use]
    pub fn new(key: SecretKey, network: NetworkId, ledger: Ledger) -> Self {
        Self { key, network, ledger, next_nonce: Arc::default() }
    }

    #[must_use]
    pub fn account(&self) -> AccountId {
        self.key.account()
    }

    #[must_use]
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.network
    }

    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Sends `action` and waits until it is in a block.
    ///
    /// # Errors
    /// [`ledger::Error::Rejected`] with the ledger's reason, or that no coordinator answered.
    pub async fn send(&self, action: Action) -> Result<TransactionReceipt, ledger::Error> {
        let mut next = self.next_nonce.lock().await;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let nonce = match *next {
                Some(nonce) => nonce,
                None => self.ledger.account(self.account()).await?.nonce,
            };
            *next = None;
            let salt = getrandom::u64()?;
            let transaction = Transaction { nonce, salt, action: action.clone() };
            let transaction = self.key.seal(self.network, transaction)?;
            let receipt = self.ledger.submit(&transaction).await?;
            match receipt.outcome.clone() {
                Ok(()) => {
                    *next = Some(nonce + 1);
                    return Ok(receipt);
                }
                Err(Rejected::Nonce { expected, found }) if attempts < NONCE_ATTEMPTS => {
                    // It names the first free one, of which a look-up of the account knows nothing.
                    *next = Some(expected).filter(|expected| *expected > found);
                }
                Err(Rejected::Nonce { expected, found }) => {
                    return Err(Rejected::Nonce { expected, found }.into());
                }
                Err(rejected) => {
                    *next = Some(nonce);
                    return Err(rejected.into());
                }
            }
        }
    }
}
