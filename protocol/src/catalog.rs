//! The registry's record of a Cargo version, beside the publisher's manifest, and the proof that
//! coordinators agreed on it.
//!
//! An entry travels through Kademlia and request-response; it counts only with the publisher's
//! signature and the certificate of a quorum of coordinators over a state that has the record
//! (`DESIGN.md`, "Mesh"), so a lying peer can hide a Cargo but not forge one.

use crate::{
    codec,
    id::{AccountId, CargoId, ContentId},
    ledger::{Certificate, Header, Key, Trust, light, tree::Path},
    limits::MAX_ENTRY_BYTES,
    manifest::{self, SignedManifest},
    policy::PayoutPolicy,
    reputation::Reputation,
    trust::{SandboxTier, TrustLevel},
};
use serde::{Deserialize, Serialize};
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

/// What coordinators agree on about a Cargo version, apart from its running counters. The state has
/// it under [`Key::Cargo`].
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

/// Everything that a node needs to trust and run a Cargo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub manifest: SignedManifest,
    pub record: Record,
    /// A block whose state has the record.
    pub header: Header,
    /// That coordinators decided for that block.
    pub certificate: Certificate,
    /// That the record is in that state.
    pub path: Path,
}

/// Why an entry was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("catalog entry: the record is for Cargo {record}, the manifest is {manifest}")]
    OtherCargo { record: CargoId, manifest: CargoId },
    #[error("catalog entry: the manifest is signed by {signer}, the record names {publisher}")]
    OtherPublisher { signer: AccountId, publisher: AccountId },
    #[error("catalog entry: {0}")]
    NotProven(#[from] light::Error),
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error(transparent)]
    Codec(#[from] codec::Error),
}

impl Error {
    /// Whether an honest node may send it: one that knows of a change of the validators that is not
    /// known here, or the other way round.
    #[must_use]
    pub fn is_of_another_time(&self) -> bool {
        use light::Error::{NotInOffice, UnknownValidators};
        matches!(self, Self::NotProven(UnknownValidators { .. } | NotInOffice { .. }))
    }
}

impl Entry {
    /// Decodes and checks an entry from the wire.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8], trust: &Trust, policy: &PayoutPolicy) -> Result<Self, Error> {
        let entry: Self = codec::decode("catalog entry", MAX_ENTRY_BYTES, bytes)?;
        entry.verify(trust, policy)?;
        Ok(entry)
    }

    /// Checks the manifest, that the record belongs to it, and that coordinators agreed on it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, trust: &Trust, policy: &PayoutPolicy) -> Result<(), Error> {
        let cargo = manifest::verify(&self.manifest, self.header.network, policy)?;
        if cargo != self.record.cargo {
            return Err(Error::OtherCargo { record: self.record.cargo, manifest: cargo });
        }
        if self.manifest.signer != self.record.publisher {
            return Err(Error::OtherPublisher {
                signer: self.manifest.signer,
                publisher: self.record.publisher,
            });
        }
        trust.check(&self.header, &self.certificate)?;
        let (key, record) = (Key::Cargo(cargo), codec::encode("state value", &self.record)?);
        let proven = self.path.verify(self.header.state, &key.to_bytes()?, Some(&record));
        Ok(proven.map_err(|e| light::Error::Entry(e.into()))?)
    }

    /// Whether this entry takes the other's place where both claim it. Of one Cargo the later
    /// record counts, then the later proof; of a slug's versions the highest that is published.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        if self.record.cargo == other.record.cargo {
            let age = |entry: &Self| (entry.record.height, entry.header.height);
            return age(self) > age(other);
        }
        let rank = |entry: &Self| {
            let published = entry.record.state == State::Published;
            (published, entry.manifest.value.version.clone())
        };
        rank(self) > rank(other)
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
    pub reputation: Reputation,
}

impl Counters {
    #[must_use]
    pub fn avg_execution_time_ms(&self) -> u64 {
        self.execution_ms.checked_div(self.successful_jobs).unwrap_or(0)
    }
}
