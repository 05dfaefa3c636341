//! Trust without a copy of the ledger: what a node that is no coordinator needs to check what it is
//! told of the state.
//!
//! It starts with the validators of the genesis document or of a checkpoint, and follows each change
//! of them by a [`Handover`]: a block that the old ones decided, whose state names the new ones. A
//! header counts when validators that are known so decided for it; a state's entry counts when it is
//! proven against such a header. Nobody who answers needs to be trusted.
//!
//! Source: E. Buchman, J. Kwon, Z. Milosevic and others, "A Tendermint Light Client" (2020), the
//! sequential one. It holds as long as less than a third of the validators of every set were faulty
//! when they were in office; keys that leak afterwards are what unbonding and recent checkpoints are
//! for.

use super::{
    Header, Key, Proof, block,
    entry::{self},
    validators::ValidatorSet,
    vote::Certificate,
};
use crate::{
    codec,
    genesis::{self, Genesis},
    id::{NetworkId, ValidatorsId},
    limits::MAX_QUERY_BYTES,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, sync::Arc};
use thiserror::Error;

/// Why what a node was told does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Ask for the handovers after [`Trust::height`] and try again.
    #[error("block {height} was decided by validators {found}, who are not known here yet")]
    UnknownValidators { height: u64, found: ValidatorsId },
    #[error("it is of network {found}, ours is {expected}")]
    OtherNetwork { expected: NetworkId, found: NetworkId },
    #[error("the handover of height {found} is not after height {known}")]
    NotAfter { known: u64, found: u64 },
    #[error("the state of height {0} names no validators")]
    NoValidators(u64),
    #[error(transparent)]
    Block(#[from] block::Error),
    #[error(transparent)]
    Entry(#[from] entry::Error),
}

impl From<codec::Error> for Error {
    fn from(error: codec::Error) -> Self {
        Self::Block(error.into())
    }
}

/// An entry of the state, or its absence, with all that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    pub header: Header,
    pub certificate: Certificate,
    pub proof: Proof,
}

impl Proven {
    /// Checks it; gives the value, `None` when there is no such entry.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify<T: DeserializeOwned + Serialize>(
        &self,
        trust: &Trust,
        key: &Key,
    ) -> Result<Option<T>, Error> {
        trust.check(&self.header, &self.certificate)?;
        Ok(self.proof.verify(self.header.state, key)?)
    }
}

/// A proof that can be handed on: canonical DAG-CBOR, in a file or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub key: Key,
    pub proven: Proven,
}

impl Document {
    /// # Errors
    /// When it has no canonical encoding; every document has one.
    pub fn to_bytes(&self) -> Result<Vec<u8>, codec::Error> {
        codec::encode("proof", self)
    }

    /// Decodes a document; nothing in it was verified.
    ///
    /// # Errors
    /// When it is longer than [`MAX_QUERY_BYTES`] or malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        codec::decode("proof", MAX_QUERY_BYTES, bytes)
    }
}

/// Proves who decides from the next block on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handover(pub Proven);

/// The validators that are known to have decided blocks of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    network: NetworkId,
    height: u64,
    sets: BTreeMap<ValidatorsId, Arc<ValidatorSet>>,
    latest: Arc<ValidatorSet>,
}

impl Trust {
    /// Starts with the genesis document.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn genesis(genesis: &Genesis) -> Result<Self, genesis::Error> {
        let (network, validators) = (genesis.network()?, genesis.validator_set()?);
        Ok(Self::checkpoint(network, 0, validators)?)
    }

    /// Starts with validators that somebody trustworthy has named: they decide the block after
    /// `height`.
    ///
    /// # Errors
    /// When they have no canonical encoding; every set has one.
    pub fn checkpoint(
        network: NetworkId,
        height: u64,
        validators: ValidatorSet,
    ) -> Result<Self, codec::Error> {
        let (id, latest) = (validators.id()?, Arc::new(validators));
        Ok(Self { network, height, sets: BTreeMap::from([(id, Arc::clone(&latest))]), latest })
    }

    /// The height after which the latest known validators took over.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The latest known validators.
    #[must_use]
    pub fn validators(&self) -> &ValidatorSet {
        &self.latest
    }

    /// Checks that known validators decided for a block.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn check(&self, header: &Header, certificate: &Certificate) -> Result<(), Error> {
        let (expected, found) = (self.network, header.network);
        if expected != found {
            return Err(Error::OtherNetwork { expected, found });
        }
        let found = header.validators;
        let height = header.height;
        let Some(validators) = self.sets.get(&found) else {
            return Err(Error::UnknownValidators { height, found });
        };
        Ok(header.verify(certificate, validators)?)
    }

    /// Learns who took over; the handovers of a network in order, none left out.
    ///
    /// # Errors
    /// Why it does not count. Nothing was learnt then.
    pub fn follow(&mut self, handover: &Handover) -> Result<(), Error> {
        let found = handover.0.header.height;
        if found <= self.height {
            return Err(Error::NotAfter { known: self.height, found });
        }
        let validators: Option<ValidatorSet> = handover.0.verify(self, &Key::Validators)?;
        let validators = validators.ok_or(Error::NoValidators(found))?;
        self.latest = Arc::new(validators);
        self.sets.insert(self.latest.id()?, Arc::clone(&self.latest));
        self.height = found;
        Ok(())
    }
}
