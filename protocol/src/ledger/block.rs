//! Blocks: what coordinators agree on, one after another.

use super::transaction::SignedTransaction;
use crate::{
    codec,
    genesis::Genesis,
    id::{AccountId, BlockHash, ContentId, NetworkId, Signature, StateRoot, TxId},
    sign::{self, Signable},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use thiserror::Error;

/// The part of a block that is hashed and signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub network: NetworkId,
    /// The first block has height 1; genesis is height 0.
    pub height: u64,
    pub previous: BlockHash,
    /// Never earlier than the block before.
    pub time: Timestamp,
    pub proposer: AccountId,
    /// SHA-256 over the transactions' ids, in order ([`transactions_root`]).
    pub transactions: ContentId,
    /// The state after this block.
    pub state: StateRoot,
}

/// What [`Header::transactions`] must be for transactions with these ids.
#[must_use]
pub fn transactions_root(ids: &[TxId]) -> ContentId {
    let mut hasher = Sha256::new();
    for id in ids {
        hasher.update(id.0);
    }
    ContentId(hasher.finalize().into())
}

impl Header {
    /// # Errors
    /// When it has no canonical encoding; a header always has one.
    pub fn hash(&self) -> Result<BlockHash, codec::Error> {
        let mut hasher = Sha256::new_with_prefix(b"archipelag/block/1\0");
        hasher.update(codec::encode("block header", self)?);
        Ok(BlockHash(hasher.finalize().into()))
    }
}

/// A validator's vote for a block, by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub height: u64,
    pub block: BlockHash,
}

impl Signable for Commit {
    const DOMAIN: &'static str = "commit";
}

/// The votes of more than two thirds of the validators for one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub commit: Commit,
    pub votes: Vec<(AccountId, Signature)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub header: Header,
    pub transactions: Vec<SignedTransaction>,
}

/// Why a block or certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("block {height}: {field} is not what it must be: {reason}")]
    Field { height: u64, field: &'static str, reason: String },
    #[error("block {height}: {found} votes, {needed} needed")]
    NoQuorum { height: u64, found: usize, needed: usize },
    #[error("block {height}: transaction {index}: {reason}")]
    Transaction { height: u64, index: usize, reason: String },
    /// A broken rule of ours, not a peer's fault: whoever sees it must stop.
    #[error(
        "block {height}: credits are not conserved: {found} microcredits exist, {minted} were minted"
    )]
    NotConserved { height: u64, minted: u128, found: u128 },
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error(transparent)]
    Signature(#[from] sign::Error),
}

impl Certificate {
    /// Checks that a quorum of the network's validators voted for `block`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(
        &self,
        network: NetworkId,
        genesis: &Genesis,
        header: &Header,
    ) -> Result<(), Error> {
        let height = header.height;
        if self.commit != (Commit { height, block: header.hash()? }) {
            let reason = "it is for another block".into();
            return Err(Error::Field { height, field: "certificate", reason });
        }
        let needed = genesis.quorum();
        let mut voters = BTreeSet::new();
        for (voter, signature) in self.votes.iter().take(genesis.validators.len()) {
            if genesis.is_validator(*voter) {
                sign::verify(network, *voter, &self.commit, signature)?;
                voters.insert(*voter);
            }
        }
        if voters.len() < needed {
            return Err(Error::NoQuorum { height, found: voters.len(), needed });
        }
        Ok(())
    }
}
