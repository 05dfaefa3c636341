//! The genesis document: the first accounts, coordinators and policy of a network. Its hash is the
//! network's id.

use crate::{
    amount::Credits,
    codec,
    id::{AccountId, NetworkId, NodeId},
    ledger::ValidatorSet,
    limits::MAX_GENESIS_BYTES,
    policy::Policy,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    pub name: String,
    pub created: Timestamp,
    pub policy: Policy,
    pub accounts: Vec<Allocation>,
    pub treasury: Credits,
    pub validators: Vec<Validator>,
    pub publishers: Vec<Publisher>,
}

/// Credits that an account starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    pub account: AccountId,
    pub balance: Credits,
}

/// A coordinator of the first set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    pub account: AccountId,
    pub node: NodeId,
}

/// A publisher whose tier the founders vouch for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    pub account: AccountId,
    pub tier: PublisherTier,
}

/// `SPEC.md`, "Trust levels": caps the level and number of a publisher's Cargos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublisherTier {
    #[default]
    Individual,
    Verified,
    Organization,
    Partner,
}

/// Why a genesis document was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("genesis field `{field}`: {reason}")]
    Field { field: &'static str, reason: String },
    #[error(transparent)]
    Codec(#[from] codec::Error),
}

pub const MAX_VALIDATORS: usize = 100;

impl Genesis {
    /// # Errors
    /// When it is longer than [`MAX_GENESIS_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, codec::Error> {
        let bytes = codec::encode("genesis", self)?;
        if bytes.len() > MAX_GENESIS_BYTES {
            let (what, limit) = ("genesis", MAX_GENESIS_BYTES);
            return Err(codec::Error::TooLong { what, limit, found: bytes.len() });
        }
        Ok(bytes)
    }

    /// Decodes and validates.
    ///
    /// # Errors
    /// The field that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let genesis: Self = codec::decode("genesis", MAX_GENESIS_BYTES, bytes)?;
        genesis.validate()?;
        Ok(genesis)
    }

    /// # Errors
    /// As [`Genesis::to_bytes`].
    pub fn network(&self) -> Result<NetworkId, codec::Error> {
        let mut hasher = Sha256::new_with_prefix(b"archipelag/genesis/1\0");
        hasher.update(self.to_bytes()?);
        Ok(NetworkId(hasher.finalize().into()))
    }

    /// # Errors
    /// The field that is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |field, reason: String| Err(Error::Field { field, reason });
        if self.name.is_empty() || self.name.len() > 64 {
            return refuse("name", format!("{} bytes, must be 1 to 64", self.name.len()));
        }
        self.validator_set()?;
        let distinct: BTreeSet<_> = self.accounts.iter().map(|a| a.account).collect();
        if distinct.len() != self.accounts.len() {
            return refuse("accounts", "an account stands twice".into());
        }
        self.policy.check().map_err(|(field, reason)| Error::Field { field, reason })?;
        let (seats, found) = (usize::from(self.policy.election.seats), self.validators.len());
        if found > seats {
            return refuse("validators", format!("{found}, policy.election.seats is {seats}"));
        }
        if self.minted().is_none() {
            return refuse(
                "accounts",
                "the balances add up to more than an amount can hold".into(),
            );
        }
        Ok(())
    }

    /// All credits that exist at the start; `None` when they overflow.
    #[must_use]
    pub fn minted(&self) -> Option<Credits> {
        self.accounts.iter().try_fold(self.treasury, |sum, a| sum.checked_add(a.balance))
    }

    /// The validator with this account, if it is one of the first set.
    #[must_use]
    pub fn validator(&self, account: AccountId) -> Option<&Validator> {
        self.validators.iter().find(|validator| validator.account == account)
    }

    /// Who decides the first block.
    ///
    /// # Errors
    /// When they are none or too many, or an account stands twice.
    pub fn validator_set(&self) -> Result<ValidatorSet, Error> {
        ValidatorSet::new(0, self.validators.clone())
            .map_err(|e| Error::Field { field: "validators", reason: e.to_string() })
    }
}
