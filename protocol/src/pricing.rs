//! What a job costs and how the money is split (`SPEC.md`, "Price and payout").

use crate::{amount::Credits, policy::PayoutPolicy};
use serde::{Deserialize, Serialize};

/// A Cargo's prices. At least one is set; they may be combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    pub per_job: Credits,
    pub per_token: Credits,
    pub per_second: Credits,
}

/// What an execution used, as far as prices look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metering {
    pub tokens: u64,
    /// Time from start to end of the Cargo, in milliseconds.
    pub duration_ms: u64,
}

impl Price {
    /// `per_job + per_token × tokens + per_second × seconds`, rounded up to the microcredit.
    #[must_use]
    pub fn of(&self, metering: Metering) -> Credits {
        let seconds = u128::from(self.per_second.micro()) * u128::from(metering.duration_ms);
        let seconds =
            Credits::from_micro(u64::try_from(seconds.div_ceil(1000)).unwrap_or(u64::MAX));
        self.per_job
            .saturating_add(self.per_token.saturating_mul(metering.tokens))
            .saturating_add(seconds)
    }

    /// Whether work costs more the longer it goes on.
    #[must_use]
    pub fn grows(&self) -> bool {
        self.per_token != Credits::ZERO || self.per_second != Credits::ZERO
    }

    #[must_use]
    pub fn is_free(&self) -> bool {
        *self == Self::default()
    }
}

/// Hardware tiers and their payout multipliers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HardwareTier {
    #[default]
    CpuOnly,
    Entry,
    MidRange,
    HighEnd,
    Enterprise,
}

impl HardwareTier {
    /// The multiplier of the Island's part, in percent.
    #[must_use]
    pub fn multiplier_percent(self, policy: &PayoutPolicy) -> u16 {
        match self {
            Self::CpuOnly => policy.cpu_only_percent,
            Self::Entry => policy.entry_percent,
            Self::MidRange => policy.mid_range_percent,
            Self::HighEnd => policy.high_end_percent,
            Self::Enterprise => policy.enterprise_percent,
        }
    }
}

/// Who gets what of one charged price. `island + publisher + to_treasury = price + from_treasury`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub island: Credits,
    pub publisher: Credits,
    pub to_treasury: Credits,
    pub from_treasury: Credits,
}

/// Splits `price`. `paid` says whether the Island is above the monetization threshold;
/// `treasury` is what the treasury holds before this payment, of which a bonus never takes more.
#[must_use]
pub fn split(
    policy: &PayoutPolicy,
    price: Credits,
    revenue_share_percent: u8,
    tier: HardwareTier,
    paid: bool,
    treasury: Credits,
) -> Split {
    let fee = price.fraction(u64::from(policy.fee_percent), 100);
    let base = price.saturating_sub(fee);
    let share = u64::from(revenue_share_percent.min(policy.revenue_share_max_percent));
    let base_island = price.fraction(share, 100).min(base);
    let publisher = base.saturating_sub(base_island);
    if !paid {
        let to_treasury = fee.saturating_add(base_island);
        return Split {
            island: Credits::ZERO,
            publisher,
            to_treasury,
            from_treasury: Credits::ZERO,
        };
    }
    let wanted = base_island.fraction(u64::from(tier.multiplier_percent(policy)), 100);
    let bonus = wanted.saturating_sub(base_island).min(treasury);
    let withheld = base_island.saturating_sub(wanted);
    Split {
        island: base_island.saturating_add(bonus).saturating_sub(withheld),
        publisher,
        to_treasury: fee.saturating_add(withheld),
        from_treasury: bonus,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_price_rounds_up_to_the_microcredit() {
        let price = Price {
            per_job: Credits::from_micro(5),
            per_token: Credits::from_micro(3),
            per_second: Credits::from_micro(1),
        };
        assert_eq!(price.of(Metering { tokens: 2, duration_ms: 1 }), Credits::from_micro(12));
        assert_eq!(price.of(Metering { tokens: 2, duration_ms: 2000 }), Credits::from_micro(13));
    }

    #[test]
    fn the_worked_example_of_a_credit() {
        let policy = PayoutPolicy::default();
        let price = Credits::from_whole(1);
        let rich = Credits::from_whole(100);
        let micro =
            |s: Split| [s.island, s.publisher, s.to_treasury, s.from_treasury].map(Credits::micro);
        let of = |tier, paid, treasury| micro(split(&policy, price, 70, tier, paid, treasury));
        assert_eq!(of(HardwareTier::Entry, true, rich), [700_000, 100_000, 200_000, 0]);
        assert_eq!(of(HardwareTier::CpuOnly, true, rich), [350_000, 100_000, 550_000, 0]);
        assert_eq!(
            of(HardwareTier::Enterprise, true, rich),
            [1_400_000, 100_000, 200_000, 700_000]
        );
        assert_eq!(
            of(HardwareTier::Enterprise, true, Credits::ZERO),
            [700_000, 100_000, 200_000, 0]
        );
        assert_eq!(of(HardwareTier::Entry, false, rich), [0, 100_000, 900_000, 0]);
    }

    proptest! {
        #[test]
        fn nothing_appears_or_vanishes(
            micro in 0u64..1 << 60, share: u8, paid: bool, treasury: u64, tier in 0usize..5,
        ) {
            let tier = [
                HardwareTier::CpuOnly, HardwareTier::Entry, HardwareTier::MidRange,
                HardwareTier::HighEnd, HardwareTier::Enterprise,
            ][tier];
            let price = Credits::from_micro(micro);
            let treasury = Credits::from_micro(treasury);
            let s = split(&PayoutPolicy::default(), price, share, tier, paid, treasury);
            prop_assert!(s.from_treasury <= treasury);
            let out = u128::from(s.island.micro())
                + u128::from(s.publisher.micro())
                + u128::from(s.to_treasury.micro());
            prop_assert_eq!(out, u128::from(price.micro()) + u128::from(s.from_treasury.micro()));
        }
    }
}
