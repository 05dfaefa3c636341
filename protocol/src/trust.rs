//! Trust levels and what each lets a Cargo do (`SPEC.md`, "Trust levels and sandbox tiers").
//!
//! Sandbox limits come from the trust level alone: a Cargo can't lift one, an operator can only
//! tighten them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How far a Cargo is trusted, 0 to 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum TrustLevel {
    #[default]
    Untrusted,
    Basic,
    Verified,
    Official,
}

impl TrustLevel {
    pub const ALL: [Self; 4] = [Self::Untrusted, Self::Basic, Self::Verified, Self::Official];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Untrusted => "Untrusted",
            Self::Basic => "Basic",
            Self::Verified => "Verified",
            Self::Official => "Official",
        }
    }

    #[must_use]
    pub fn tier(self) -> SandboxTier {
        match self {
            Self::Untrusted => SandboxTier::Restricted,
            Self::Basic | Self::Verified => SandboxTier::Standard,
            Self::Official => SandboxTier::Elevated,
        }
    }

    /// Whether an Island must find a cosign signature before anything of the Cargo runs.
    #[must_use]
    pub fn needs_signature(self) -> bool {
        self >= Self::Verified
    }
}

impl From<TrustLevel> for u8 {
    fn from(level: TrustLevel) -> Self {
        match level {
            TrustLevel::Untrusted => 0,
            TrustLevel::Basic => 1,
            TrustLevel::Verified => 2,
            TrustLevel::Official => 3,
        }
    }
}

impl TryFrom<u8> for TrustLevel {
    type Error = String;

    fn try_from(level: u8) -> Result<Self, String> {
        Self::ALL
            .get(usize::from(level))
            .copied()
            .ok_or_else(|| format!("trust level {level}: levels are 0 to 3"))
    }
}

impl fmt::Display for TrustLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", u8::from(*self), self.name())
    }
}

/// The sandbox of a trust level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxTier {
    Restricted,
    Standard,
    Elevated,
}

/// The seccomp profile of a sandbox, for runtimes that the operating system holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    Minimal,
    Default,
    GpuOrNetwork,
}

/// What one execution may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxLimits {
    pub memory_bytes: u64,
    pub time_ms: u64,
    pub cpus: u32,
    pub network: bool,
    pub gpu: bool,
    pub seccomp: Seccomp,
}
