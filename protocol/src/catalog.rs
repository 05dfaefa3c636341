//! The registry's record of a Cargo version, beside the publisher's manifest, and the certificate
//! with which coordinators vouch for it.
//!
//! An entry travels through Kademlia and request-response; it counts only with the publisher's
//! signature and a quorum of coordinators (`DESIGN.md`, "Mesh"), so a lying peer can hide a Cargo
//! but not forge one.

use crate::{
    codec,
    genesis::Genesis,
    id::{AccountId, CargoId, ContentId, NetworkId, Signature},
    limits::MAX_ENTRY_BYTES,
    manifest::{self, SignedManifest},
    sign::{self, Signable},
    trust::{SandboxTier, TrustLevel},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use thiserror::Error;

/// Where a submission stands (`SPEC.md`, "Submission states"). Later states come with the review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Draft,
    PendingReview,
    Approved,
    Rejected,
    Published,
    Suspended,
    Retired,
}

/// What coordinators agree on about a Cargo version, apart from its running counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub cargo: CargoId,
    pub publisher: AccountId,
    pub state: State,
    pub trust_level: TrustLevel,
    /// The block height of its last change: of two certified records the higher one counts.
    pub height: u64,
}

impl Record {
    #[must_use]
    pub fn sandbox_tier(&self) -> SandboxTier {
        self.trust_level.tier()
    }
}

impl Signable for Record {
    const DOMAIN: &'static str = "cargo-record";
}

/// One coordinator's signature over a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endorsement {
    pub validator: AccountId,
    pub signature: Signature,
}

/// Everything that a node needs to trust and run a Cargo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub manifest: SignedManifest,
    pub record: Record,
    pub certificate: Vec<Endorsement>,
}

/// Why an entry was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("catalog entry: the record is for Cargo {record}, the manifest is {manifest}")]
    OtherCargo { record: CargoId, manifest: CargoId },
    #[error("catalog entry: the manifest is signed by {signer}, the record names {publisher}")]
    OtherPublisher { signer: AccountId, publisher: AccountId },
    #[error("catalog entry: {found} coordinators vouch for it, {needed} must")]
    NoQuorum { found: usize, needed: usize },
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error(transparent)]
    Signature(#[from] sign::Error),
}

impl Entry {
    /// Decodes and checks an entry from the wire.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8], network: NetworkId, genesis: &Genesis) -> Result<Self, Error> {
        let entry: Self = codec::decode("catalog entry", MAX_ENTRY_BYTES, bytes)?;
        entry.verify(network, genesis)?;
        Ok(entry)
    }

    /// Checks the manifest, that the record belongs to it, and the quorum.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, network: NetworkId, genesis: &Genesis) -> Result<(), Error> {
        let needed = genesis.quorum();
        if self.certificate.len() > genesis.validators.len() {
            return Err(Error::NoQuorum { found: 0, needed });
        }
        let cargo = manifest::verify(&self.manifest, network, &genesis.policy.payout)?;
        if cargo != self.record.cargo {
            return Err(Error::OtherCargo { record: self.record.cargo, manifest: cargo });
        }
        if self.manifest.signer != self.record.publisher {
            return Err(Error::OtherPublisher {
                signer: self.manifest.signer,
                publisher: self.record.publisher,
            });
        }
        let mut vouching = BTreeSet::new();
        for endorsement in &self.certificate {
            if genesis.is_validator(endorsement.validator) {
                sign::verify(network, endorsement.validator, &self.record, &endorsement.signature)?;
                vouching.insert(endorsement.validator);
            }
        }
        if vouching.len() < needed {
            return Err(Error::NoQuorum { found: vouching.len(), needed });
        }
        Ok(())
    }

    /// # Errors
    /// When it has no canonical encoding or is longer than [`MAX_ENTRY_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, codec::Error> {
        let bytes = codec::encode("catalog entry", self)?;
        if bytes.len() > MAX_ENTRY_BYTES {
            let (what, limit) = ("catalog entry", MAX_ENTRY_BYTES);
            return Err(codec::Error::TooLong { what, limit, found: bytes.len() });
        }
        Ok(bytes)
    }

    /// The key under which Kademlia holds the entry of a Cargo version.
    #[must_use]
    pub fn key_of_cargo(cargo: CargoId) -> [u8; 32] {
        cargo.0
    }

    /// The key under which Kademlia holds the entry of a slug's newest version.
    #[must_use]
    pub fn key_of_slug(slug: &str) -> [u8; 32] {
        ContentId::of(format!("archipelag/slug/{slug}").as_bytes()).0
    }
}

/// How a Cargo's executions went, kept by the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub total_jobs: u64,
    pub successful_jobs: u64,
    pub failed_jobs: u64,
    /// Sum over successful jobs; the average is derived.
    pub execution_ms: u64,
}

impl Counters {
    #[must_use]
    pub fn avg_execution_time_ms(&self) -> u64 {
        self.execution_ms.checked_div(self.successful_jobs).unwrap_or(0)
    }
}
