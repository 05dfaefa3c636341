//! What the operator of an Island sets.

use super::hardware;
use archipelag_protocol::{advert::Hardware, manifest::Platform, trust::SandboxLimits};
use std::time::Duration;

/// How this node behaves as an Island.
#[derive(Clone, Debug)]
pub struct Config {
    /// Shown to others.
    pub name: String,
    pub region: String,
    pub platform: Platform,
    pub hardware: Hardware,
    /// Jobs that run at a time; more are refused.
    pub max_jobs: u32,
    /// Asking price in percent of a Cargo's price. It ranks the Island; what is charged is the
    /// Cargo's price.
    pub asking_percent: u16,
    pub tighten: Tighten,
    /// How often vouchers and receipts go to the ledger.
    pub settle_interval: Duration,
}

impl Config {
    /// Defaults for this machine: as many jobs at a time as it has cores, at least 2.
    #[must_use]
    pub fn detect(name: impl Into<String>, region: impl Into<String>) -> Self {
        let hardware = hardware::detect();
        Self {
            name: name.into(),
            region: region.into(),
            platform: Platform::Desktop,
            max_jobs: hardware.cpu_cores.max(2),
            hardware,
            asking_percent: 100,
            tighten: Tighten::default(),
            settle_interval: Duration::from_secs(5),
        }
    }
}

/// Limits of the operator on top of those of the trust level. They can only lower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tighten {
    pub memory_bytes: Option<u64>,
    pub time_ms: Option<u64>,
    pub cpus: Option<u32>,
    pub no_network: bool,
    pub no_gpu: bool,
}

impl Tighten {
    /// The limits under both.
    #[must_use]
    pub fn apply(&self, limits: SandboxLimits) -> SandboxLimits {
        let lower = |limit: u64, own: Option<u64>| own.map_or(limit, |own| own.min(limit));
        SandboxLimits {
            memory_bytes: lower(limits.memory_bytes, self.memory_bytes),
            time_ms: lower(limits.time_ms, self.time_ms),
            cpus: self.cpus.map_or(limits.cpus, |own| own.min(limits.cpus)),
            network: limits.network && !self.no_network,
            gpu: limits.gpu && !self.no_gpu,
            ..limits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipelag_protocol::{policy::SandboxPolicy, trust::TrustLevel};

    #[test]
    fn an_operator_only_lowers() {
        let limits = SandboxPolicy::default().limits(TrustLevel::Official);
        let tighten = Tighten {
            memory_bytes: Some(1 << 20),
            time_ms: Some(u64::MAX),
            cpus: Some(64),
            no_network: true,
            no_gpu: false,
        };
        let tight = tighten.apply(limits.clone());
        assert_eq!(tight, SandboxLimits { memory_bytes: 1 << 20, network: false, ..limits });
        assert_eq!(Tighten::default().apply(limits.clone()), limits);
    }
}
