//! The network policy: every number of `SPEC.md`, with that file's value as its default.
//!
//! It is part of the genesis document, so all coordinators and Islands use the same one. Amounts
//! are microcredits, fractions are integers in percent or milli, durations are milliseconds.

use crate::{
    amount::Credits,
    genesis::MAX_VALIDATORS,
    manifest::Requirements,
    trust::{SandboxLimits, Seccomp, TrustLevel},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub sandbox: SandboxPolicy,
    pub payout: PayoutPolicy,
    pub karma: KarmaPolicy,
    pub payment: PaymentPolicy,
    pub job: JobPolicy,
    pub advert: AdvertPolicy,
    pub publishing: PublishingPolicy,
    pub reputation: ReputationPolicy,
    pub election: ElectionPolicy,
}

impl Policy {
    /// Checks what the rules of the ledger rely on.
    ///
    /// # Errors
    /// The field that is out of its range, and the range.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let (payment, election) = (&self.payment, &self.election);
        let reputation = &self.reputation;
        let ranges = [
            ("policy.payout.fee_percent", u64::from(self.payout.fee_percent), 0, 100),
            ("policy.payment.lanes_per_hold_max", u64::from(payment.lanes_per_hold_max), 1, 1_024),
            (
                "policy.publishing.versions_per_cargo_max",
                u64::from(self.publishing.versions_per_cargo_max),
                1,
                4_096,
            ),
            ("policy.reputation.sweep_interval_ms", reputation.sweep_interval_ms, 1_000, u64::MAX),
            ("policy.reputation.memory_jobs", u64::from(reputation.memory_jobs), 1, 1 << 20),
            ("policy.reputation.memory_hours", u64::from(reputation.memory_hours), 1, 1 << 20),
            ("policy.reputation.prior_jobs", u64::from(reputation.prior_jobs), 0, 1 << 20),
            (
                "policy.reputation.success_weight_percent",
                u64::from(reputation.success_weight_percent),
                1,
                100,
            ),
            ("policy.election.epoch_ms", election.epoch_ms, 1_000, u64::MAX),
            ("policy.election.seats", u64::from(election.seats), 1, MAX_SEATS),
            ("policy.election.stake_min", election.stake_min.micro(), 1, u64::MAX),
            ("policy.election.bond_min", election.bond_min.micro(), 1, u64::MAX),
            ("policy.election.turnout_percent", u64::from(election.turnout_percent), 0, 100),
            ("policy.election.slash_percent", u64::from(election.slash_percent), 0, 100),
        ];
        match ranges.into_iter().find(|(_, found, from, to)| found < from || found > to) {
            None => Ok(()),
            Some((field, found, from, to)) => {
                Err((field, format!("{found}, must be {from} to {to}")))
            }
        }
    }
}

/// `SPEC.md`, "Trust levels and sandbox tiers".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxPolicy {
    pub level0: SandboxLimits,
    pub level1: SandboxLimits,
    pub level2: SandboxLimits,
    pub level3: SandboxLimits,
    /// Gives level 2 the FAQ's row (8 GB, 4 CPUs, 30 minutes, outbound network).
    pub level2_extended: bool,
}

const MB: u64 = 1 << 20;
const MAX_SEATS: u64 = MAX_VALIDATORS as u64;

impl Default for SandboxPolicy {
    fn default() -> Self {
        let standard = SandboxLimits {
            memory_bytes: 1024 * MB,
            time_ms: 300_000,
            cpus: 2,
            network: false,
            gpu: false,
            seccomp: Seccomp::Default,
        };
        Self {
            level0: SandboxLimits {
                memory_bytes: 256 * MB,
                time_ms: 60_000,
                cpus: 1,
                seccomp: Seccomp::Minimal,
                ..standard.clone()
            },
            level1: standard.clone(),
            level2: standard,
            level3: SandboxLimits {
                memory_bytes: 8 * 1024 * MB,
                time_ms: 600_000,
                cpus: 4,
                network: true,
                gpu: true,
                seccomp: Seccomp::GpuOrNetwork,
            },
            level2_extended: false,
        }
    }
}

impl SandboxPolicy {
    /// What a Cargo of `level` may use.
    #[must_use]
    pub fn limits(&self, level: TrustLevel) -> SandboxLimits {
        match level {
            TrustLevel::Untrusted => self.level0.clone(),
            TrustLevel::Basic => self.level1.clone(),
            TrustLevel::Verified if self.level2_extended => SandboxLimits {
                memory_bytes: 8 * 1024 * MB,
                time_ms: 1_800_000,
                cpus: 4,
                network: true,
                ..self.level2.clone()
            },
            TrustLevel::Verified => self.level2.clone(),
            TrustLevel::Official => self.level3.clone(),
        }
    }

    /// Whether `level` gives what a Cargo says it needs. A Cargo may be published before its level
    /// is high enough; it runs from then on.
    ///
    /// # Errors
    /// The first requirement that is above the level.
    pub fn check(&self, level: TrustLevel, needs: &Requirements) -> Result<(), AboveLevel> {
        let limits = self.limits(level);
        let vram = if limits.gpu { u64::MAX } else { 0 };
        let above = [
            ("required_ram_mb", u64::from(needs.ram_mb), limits.memory_bytes / MB),
            ("required_cpu_cores", u64::from(needs.cpu_cores), u64::from(limits.cpus)),
            ("required_vram_mb", u64::from(needs.vram_mb), vram),
        ];
        match above.into_iter().find(|(_, needed, given)| needed > given) {
            None => Ok(()),
            Some((field, needed, given)) => Err(AboveLevel { field, needed, level, given }),
        }
    }
}

/// A Cargo needs more than its trust level gives.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("field `{field}`: the Cargo needs {needed}, its trust level {level} gives {given}")]
pub struct AboveLevel {
    pub field: &'static str,
    pub needed: u64,
    pub level: TrustLevel,
    pub given: u64,
}

/// `SPEC.md`, "Price and payout".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutPolicy {
    pub fee_percent: u8,
    pub revenue_share_default_percent: u8,
    pub revenue_share_max_percent: u8,
    /// Multipliers of the Island's part, in percent.
    pub enterprise_percent: u16,
    pub high_end_percent: u16,
    pub mid_range_percent: u16,
    pub entry_percent: u16,
    pub cpu_only_percent: u16,
}

impl Default for PayoutPolicy {
    fn default() -> Self {
        Self {
            fee_percent: 20,
            revenue_share_default_percent: 70,
            revenue_share_max_percent: 80,
            enterprise_percent: 200,
            high_end_percent: 150,
            mid_range_percent: 120,
            entry_percent: 100,
            cpu_only_percent: 50,
        }
    }
}

/// `SPEC.md`, "Karma of an Island". Karma is in milli-points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KarmaPolicy {
    /// Below this an Island's payout goes to the treasury.
    pub monetization_threshold_milli: i64,
    /// Successful compute that earns one point.
    pub compute_ms_per_point: u64,
    /// What a millisecond counts below the threshold, in percent.
    pub below_threshold_percent: u16,
    pub failure_cost_milli: i64,
    pub timeout_cost_milli: i64,
    pub wrong_result_cost_milli: i64,
}

impl Default for KarmaPolicy {
    fn default() -> Self {
        Self {
            monetization_threshold_milli: 10_000,
            compute_ms_per_point: 3_600_000,
            below_threshold_percent: 150,
            failure_cost_milli: 1_000,
            timeout_cost_milli: 2_000,
            wrong_result_cost_milli: 50_000,
        }
    }
}

/// Holds and vouchers (`DESIGN.md`, "Ledger").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentPolicy {
    /// Work that an Island does before it must be paid: who is at risk, for how much.
    pub unpaid_chunk: Credits,
    /// What a Consumer reserves for an Island when it first meets it.
    pub hold_default: Credits,
    pub hold_life_ms: u64,
    pub hold_life_max_ms: u64,
    /// How long a payee may still redeem after the payer asked to close.
    pub dispute_window_ms: u64,
    pub lanes_per_hold_max: u16,
    /// Open holds that one account may have as payer.
    pub holds_per_account_max: u32,
}

impl Default for PaymentPolicy {
    fn default() -> Self {
        Self {
            unpaid_chunk: Credits::from_whole(1),
            hold_default: Credits::from_whole(10),
            hold_life_ms: 24 * 3_600_000,
            hold_life_max_ms: 30 * 24 * 3_600_000,
            dispute_window_ms: 3_600_000,
            lanes_per_hold_max: 16,
            holds_per_account_max: 1024,
        }
    }
}

/// Bounds on one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPolicy {
    pub input_bytes_max: u64,
    /// All of a job's output lines together.
    pub output_bytes_max: u64,
    pub stderr_bytes_max: u64,
    /// How long an offer may wait for its Island.
    pub offer_life_ms: u64,
    /// Islands that one job may try.
    pub attempts_max: u32,
    /// Silence after which an Island that runs a job counts as lost; Islands send a sign of life
    /// three times as often.
    pub silence_ms: u64,
}

impl Default for JobPolicy {
    fn default() -> Self {
        Self {
            input_bytes_max: 8 * MB,
            output_bytes_max: 32 * MB,
            stderr_bytes_max: 64 << 10,
            offer_life_ms: 30_000,
            attempts_max: 5,
            silence_ms: 6_000,
        }
    }
}

/// Capability adverts (`DESIGN.md`, "Mesh").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertPolicy {
    pub interval_ms: u64,
    pub missed_max: u32,
}

impl Default for AdvertPolicy {
    fn default() -> Self {
        Self { interval_ms: 10_000, missed_max: 3 }
    }
}

impl AdvertPolicy {
    /// How long an advert counts.
    #[must_use]
    pub fn life_ms(&self) -> u64 {
        self.interval_ms.saturating_mul(u64::from(self.missed_max))
    }
}

/// `SPEC.md`, "Trust levels" and "Submission states".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishingPolicy {
    /// Without review: a valid manifest is published at level 0 at once. For development networks.
    pub open: bool,
    pub individual_cargos_max: u32,
    pub verified_cargos_max: u32,
    /// Versions of one slug that the ledger keeps.
    pub versions_per_cargo_max: u32,
    pub high_findings_max: u32,
    pub successes_to_rise: u64,
    pub score_to_rise_milli: u32,
    pub rescan_interval_ms: u64,
}

impl Default for PublishingPolicy {
    fn default() -> Self {
        Self {
            open: false,
            individual_cargos_max: 3,
            verified_cargos_max: 10,
            versions_per_cargo_max: 256,
            high_findings_max: 5,
            successes_to_rise: 100,
            score_to_rise_milli: 800,
            rescan_interval_ms: 7 * 24 * 3_600_000,
        }
    }
}

/// `SPEC.md`, "Reputation of a Cargo". Scores are in thousandths of 0..1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReputationPolicy {
    pub success_weight_percent: u8,
    pub reliability_weight_percent: u8,
    pub feedback_weight_percent: u8,
    /// Jobs from which the strict rule applies.
    pub established_jobs: u64,
    pub suspend_score_milli: u32,
    pub suspend_success_milli: u32,
    pub warn_score_milli: u32,
    pub demote_score_milli: u32,
    pub new_suspend_score_milli: u32,
    pub sweep_interval_ms: u64,
    /// Good jobs that precede a Cargo's first.
    pub prior_jobs: u32,
    /// Jobs, and hours with jobs, after which one weighs a third of the newest.
    pub memory_jobs: u32,
    pub memory_hours: u32,
}

impl Default for ReputationPolicy {
    fn default() -> Self {
        Self {
            success_weight_percent: 60,
            reliability_weight_percent: 25,
            feedback_weight_percent: 15,
            established_jobs: 100,
            suspend_score_milli: 500,
            suspend_success_milli: 900,
            warn_score_milli: 300,
            demote_score_milli: 200,
            new_suspend_score_milli: 100,
            sweep_interval_ms: 3_600_000,
            prior_jobs: 10,
            memory_jobs: 128,
            memory_hours: 168,
        }
    }
}

/// Elections of coordinators (`DESIGN.md`, "Ledger").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionPolicy {
    /// Between two elections.
    pub epoch_ms: u64,
    /// Seats that elections fill. The first set may be smaller.
    pub seats: u8,
    /// What a candidate must have at stake.
    pub bond_min: Credits,
    /// What must be at stake for an account's approval to count.
    pub stake_min: Credits,
    /// How long unbonded credits can still be lost: how late a proof that somebody signed two
    /// things may come.
    pub unbonding_ms: u64,
    /// What a milli-point of karma adds to the weight of a stake. It at most doubles it.
    pub karma_weight: Credits,
    /// Karma that counts.
    pub karma_max_milli: i64,
    /// What who signed two things loses of its stake.
    pub slash_percent: u8,
    /// What of all credits outside the treasury must be bonded by those who approve of somebody for
    /// an election to fill seats.
    pub turnout_percent: u8,
    /// How long a validator that missed its turn must not have been seen to lose its seat, at the
    /// end of the epoch.
    pub absence_ms: u64,
}

const DAY_MS: u64 = 24 * 3_600_000;

impl Default for ElectionPolicy {
    fn default() -> Self {
        Self {
            epoch_ms: DAY_MS / 4,
            seats: 7,
            bond_min: Credits::from_whole(1_000),
            stake_min: Credits::from_whole(1),
            unbonding_ms: 21 * DAY_MS,
            karma_weight: Credits::from_micro(10_000),
            karma_max_milli: 100_000,
            slash_percent: 100,
            turnout_percent: 10,
            absence_ms: DAY_MS / 24,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_gives_what_its_row_says_and_no_more() {
        let policy = SandboxPolicy::default();
        let needs = |ram_mb, cpu_cores, vram_mb| Requirements { vram_mb, cpu_cores, ram_mb };
        let fits = |level, needs| policy.check(level, &needs).map_err(|e| e.field);
        assert_eq!(fits(TrustLevel::Untrusted, Requirements::default()), Ok(()));
        assert_eq!(fits(TrustLevel::Untrusted, needs(257, 1, 0)), Err("required_ram_mb"));
        assert_eq!(fits(TrustLevel::Basic, needs(1024, 2, 0)), Ok(()));
        assert_eq!(fits(TrustLevel::Basic, needs(1024, 3, 0)), Err("required_cpu_cores"));
        assert_eq!(fits(TrustLevel::Verified, needs(1024, 2, 1)), Err("required_vram_mb"));
        assert_eq!(fits(TrustLevel::Official, needs(8192, 4, 80_000)), Ok(()));
    }
}
