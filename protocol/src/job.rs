//! The frames of a job stream, `/archipelag/job/1` (`DESIGN.md`, "Mesh").
//!
//! ```text
//! Consumer                          Island
//!   Offer, Input…  ───────────────►
//!                  ◄───────────────  Accepted | Refused
//!                  ◄───────────────  Output (one JSON line), Alive, Due, …
//!   Voucher, Cancel ──────────────►
//!                  ◄───────────────  Finished (receipt signed by the Island)
//!   Settled        ───────────────►  voucher for the price and the receipt signed by the payer
//! ```
//! A frame is a big-endian `u32` length and CBOR of at most [`MAX_FRAME_BYTES`].

use crate::{
    amount::Credits,
    codec,
    event::bounded,
    id::{AccountId, CargoId, ContentId, HoldId, JobId, Signature},
    limits::{MAX_CHUNK_BYTES, MAX_FRAME_BYTES},
    payment::{IslandReceipt, Lane, SignedVoucher},
    sign::{Signable, Signed},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use thiserror::Error;

/// What a Consumer asks of an Island. Signed by the payer; refused after `expires`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub job: JobId,
    /// 0 for the first Island that gets the job, one more for each next.
    pub attempt: u32,
    pub cargo: CargoId,
    pub island: AccountId,
    pub hold: HoldId,
    pub lane: Lane,
    pub input: ContentId,
    pub input_bytes: u64,
    /// The most that the payer pays for this job.
    pub price_max: Credits,
    /// When the job was first offered to anybody: what a deterministic Cargo takes for the time, so
    /// that a later attempt repeats an earlier one.
    pub started: Timestamp,
    pub issued: Timestamp,
    pub expires: Timestamp,
}

impl Signable for Offer {
    const DOMAIN: &'static str = "offer";
}

pub type SignedOffer = Signed<Offer>;

/// What a deterministic Cargo draws randomness from: the same for every attempt at a job.
#[must_use]
pub fn seed(job: JobId) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(b"archipelag/seed/1\0");
    hasher.update(job.0);
    hasher.finalize().into()
}

/// From the Consumer to the Island.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToIsland {
    Offer(SignedOffer),
    /// The next part of the input, in order.
    Input(serde_bytes::ByteBuf),
    /// Pays for the work so far.
    Voucher(SignedVoucher),
    Cancel,
    /// Ends the stream: the receipt countersigned, and the voucher that covers it when it costs
    /// anything.
    Settled {
        payer: Signature,
        voucher: Option<SignedVoucher>,
    },
}

/// From the Island to the Consumer.
#[expect(
    clippy::large_enum_variant,
    reason = "the large frame comes once a job, and frames are never kept in numbers"
)]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToConsumer {
    Accepted,
    Refused(Refusal),
    /// The next line of output, numbered from 0, without its newline.
    Output {
        sequence: u64,
        line: String,
    },
    /// Nothing to say, still working.
    Alive,
    /// Work has cost `price` so far; a voucher must follow before it goes on.
    Due {
        price: Credits,
    },
    Finished {
        receipt: IslandReceipt,
        reason: Option<Failure>,
    },
}

/// Why an Island doesn't run a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
}

impl Refusal {
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: bounded(message.into()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What the Consumer does about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// As many jobs as it advertises: try another Island.
    Full,
    /// It can't run or doesn't have this Cargo: try another Island.
    Unsuitable,
    /// The offer expired, or was issued before the Island's last start: try another Island.
    Stale,
    /// This job id ran here already.
    Duplicate,
    /// Hold, voucher or debt: the payer must mend it.
    Payment,
    /// The offer or input is wrong for any Island.
    Invalid,
}

/// Why a job that ran did not complete: the step and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub step: Step,
    pub message: String,
}

impl Failure {
    #[must_use]
    pub fn new(step: Step, message: impl Into<String>) -> Self {
        Self { step, message: bounded(message.into()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.message)
    }
}

/// The steps at which a job can fail (`SPEC.md`, "Promises about a job").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The artifact is missing or is not what its hash says.
    Artifact,
    Signature,
    EntryPoint,
    /// The engine refused the artifact or could not start it.
    Engine,
    Trap,
    /// A limit was hit; the message names it.
    Limit,
    /// The output broke the JSON Lines protocol; the message names the line.
    Protocol,
    /// The Cargo itself said `error`.
    Cargo,
    Payment,
    /// The work was lost with its Island.
    Lost,
    /// No Island would take it.
    NoIsland,
    Cancelled,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Artifact => "artifact",
            Self::Signature => "signature",
            Self::EntryPoint => "entry point",
            Self::Engine => "engine",
            Self::Trap => "trap",
            Self::Limit => "limit",
            Self::Protocol => "protocol",
            Self::Cargo => "cargo",
            Self::Payment => "payment",
            Self::Lost => "lost",
            Self::NoIsland => "no island",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Why a frame was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error("job frame: an input chunk of {0} bytes, the limit is {MAX_CHUNK_BYTES}")]
    Chunk(usize),
}

/// Decodes a frame from a Consumer.
///
/// # Errors
/// When it is too long or malformed.
pub fn decode_to_island(bytes: &[u8]) -> Result<ToIsland, Error> {
    let frame = codec::decode_loose("job frame", MAX_FRAME_BYTES, bytes)?;
    match frame {
        ToIsland::Input(chunk) if chunk.len() > MAX_CHUNK_BYTES => Err(Error::Chunk(chunk.len())),
        frame => Ok(frame),
    }
}

/// Decodes a frame from an Island. Its texts are bounded here, its lines by
/// [`crate::event::Event::parse`].
///
/// # Errors
/// When it is too long or malformed.
pub fn decode_to_consumer(bytes: &[u8]) -> Result<ToConsumer, Error> {
    Ok(match codec::decode_loose("job frame", MAX_FRAME_BYTES, bytes)? {
        ToConsumer::Refused(Refusal { kind, message }) => {
            ToConsumer::Refused(Refusal::new(kind, message))
        }
        ToConsumer::Finished { receipt, reason } => ToConsumer::Finished {
            receipt,
            reason: reason.map(|f| Failure::new(f.step, f.message)),
        },
        frame => frame,
    })
}
