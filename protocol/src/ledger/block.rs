//! Blocks: what coordinators agree on, one after another.

use super::{
    transaction::{SignedTransaction, check_batch, measure},
    validators::ValidatorSet,
    vote::{self, Certificate},
};
use crate::{
    codec,
    id::{AccountId, BlockHash, ContentId, NetworkId, StateRoot, TxId, ValidatorsId},
    limits::MAX_BLOCK_BYTES,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
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
    /// Who decides this block.
    pub validators: ValidatorsId,
    pub proposer: AccountId,
    /// The hash of [`Block::last`].
    pub last: Option<ContentId>,
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

    /// Checks that `validators` decided for the block of this header.
    ///
    /// # Errors
    /// When they are not the ones that it names, or the certificate is of another block or not
    /// valid.
    pub fn verify(
        &self,
        certificate: &Certificate,
        validators: &ValidatorSet,
    ) -> Result<(), Error> {
        let refuse = |field, reason| Err(Error::Field { height: self.height, field, reason });
        if self.validators != validators.id()? {
            return refuse("validators", format!("it names {}", self.validators));
        }
        if (certificate.height, certificate.block) != (self.height, self.hash()?) {
            return refuse("certificate", "it is for another block".into());
        }
        Ok(certificate.verify(self.network, validators)?)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub header: Header,
    /// Why the block before is final. `None` in the first block.
    pub last: Option<Certificate>,
    pub transactions: Vec<SignedTransaction>,
}

/// Why a block or certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("block {height}: {field} is not what it must be: {reason}")]
    Field { height: u64, field: &'static str, reason: String },
    #[error(transparent)]
    Certificate(#[from] vote::Error),
    #[error("block {height}: transaction {index}: {reason}")]
    Transaction { height: u64, index: usize, reason: String },
    /// A broken rule of ours, not a peer's fault: whoever sees it must stop.
    #[error(
        "block {height}: credits are not conserved: {found} microcredits exist, {minted} were minted"
    )]
    NotConserved { height: u64, minted: u128, found: u128 },
    #[error(transparent)]
    Codec(#[from] codec::Error),
}

impl Block {
    /// Checks that the block is what its header says and within its limits, apart from the state
    /// that it leads to. One that is not says nothing about a block with the same header. Gives the
    /// ids of its transactions.
    ///
    /// # Errors
    /// What is not as the header says, or too much.
    pub fn check_body(&self) -> Result<Vec<TxId>, Error> {
        let height = self.header.height;
        let refuse = |field, reason| Err(Error::Field { height, field, reason });
        if self.header.last != self.last.as_ref().map(Certificate::id).transpose()? {
            return refuse("last", "it has another hash".into());
        }
        let (mut ids, mut bytes) = (Vec::with_capacity(self.transactions.len()), 0_usize);
        for (index, transaction) in self.transactions.iter().enumerate() {
            let bad = |reason: String| Error::Transaction { height, index, reason };
            check_batch(&transaction.value.action).map_err(|e| bad(e.to_string()))?;
            let (id, size) = measure(transaction).map_err(|e| bad(e.to_string()))?;
            ids.push(id);
            bytes = bytes.saturating_add(size);
        }
        if bytes > MAX_BLOCK_BYTES {
            let reason = format!("{bytes} bytes, the limit is {MAX_BLOCK_BYTES}");
            return refuse("transactions", reason);
        }
        let root = transactions_root(&ids);
        if self.header.transactions != root {
            return refuse("transactions", format!("their root is {root}"));
        }
        Ok(ids)
    }
}

impl Error {
    /// Whether a rule of ours is broken, so that who sees it must stop; else the block is at fault.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::NotConserved { .. })
    }
}
