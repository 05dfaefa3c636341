//! What the book keeps of a job: a small head, held in memory and on disk, and its input and
//! output, on disk alone.

use archipelag_protocol::{
    amount::Credits,
    id::{AccountId, CargoId, JobId, NodeId},
    job::Step,
    manifest::Version,
    matching::RegionPolicy,
    payment::{SettledReceipt, Verdict},
    pricing::Metering,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Being taken on; not acknowledged yet.
    Pending,
    /// Taken on; no Island has started it.
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
    Timeout,
}

impl Status {
    pub const FINAL: [Self; 4] = [Self::Completed, Self::Failed, Self::Cancelled, Self::Timeout];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
        }
    }

    #[must_use]
    pub fn is_final(self) -> bool {
        Self::FINAL.contains(&self)
    }
}

impl From<Verdict> for Status {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Completed => Self::Completed,
            Verdict::CargoFailed | Verdict::Failed => Self::Failed,
            Verdict::Timeout => Self::Timeout,
            Verdict::Cancelled => Self::Cancelled,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a job used and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    pub charged: Credits,
}

impl Usage {
    /// What the Cargo said, completed by what was metered.
    pub(super) fn new(
        claimed: Option<archipelag_protocol::event::Usage>,
        metering: Metering,
        charged: Credits,
    ) -> Self {
        let claimed = claimed.unwrap_or_default();
        let prompt_tokens = claimed.prompt_tokens.unwrap_or(0);
        let completion_tokens =
            claimed.completion_tokens.or(claimed.tokens).unwrap_or(metering.tokens);
        let sum = prompt_tokens.saturating_add(completion_tokens);
        let total_tokens = claimed.total_tokens.unwrap_or(sum);
        Self { prompt_tokens, completion_tokens, total_tokens, charged }
    }
}

/// The island that a job runs or ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub island: AccountId,
    pub node: NodeId,
}

/// What a job's owner asked for beside Cargo and input: whoever runs it again needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    #[serde(with = "Regions")]
    pub regions: RegionPolicy,
    pub bid_percent: Option<u16>,
    pub wait_s: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RegionPolicy", rename_all = "snake_case")]
enum Regions {
    Any,
    Prefer(String),
    Only(Vec<String>),
}

/// A job without its input and output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub id: JobId,
    pub account: AccountId,
    /// Rises with every job of this book: newer jobs have higher numbers.
    pub number: u64,
    pub cargo: CargoId,
    pub slug: String,
    pub version: Version,
    pub terms: Terms,
    pub status: Status,
    pub created: Timestamp,
    pub started: Option<Timestamp>,
    pub completed: Option<Timestamp>,
    pub error: Option<String>,
    /// The step that failed.
    pub step: Option<Step>,
    pub usage: Usage,
    pub place: Option<Place>,
    pub attempts: u32,
    pub receipt: Option<SettledReceipt>,
    /// Bytes of input, output and events, for the retention limit.
    pub stored_bytes: u64,
}

impl Head {
    /// From the start on an Island to the end, or as long as it took until it ended without one.
    #[must_use]
    pub fn duration_ms(&self) -> Option<u64> {
        self.completed.map(|end| end.since_ms(self.started.unwrap_or(self.created)))
    }
}

/// A job as it is shown.
#[derive(Clone, Debug)]
pub struct Job {
    pub head: Head,
    /// The input as JSON text; `None` when it is too long for a list.
    pub input: Option<String>,
    /// `None` while the job runs, when it left none, or when it is too long for a list.
    pub output: Option<String>,
    /// Whether input or output were left out for their length.
    pub shortened: bool,
}
