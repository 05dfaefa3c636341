//! Amounts of credits: integers in microcredits, with checked arithmetic only.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// Microcredits in one credit (`SPEC.md`, "Words").
pub const MICROCREDITS_PER_CREDIT: u64 = 1_000_000;

/// An amount in microcredits.
///
/// On the wire it is an integer; as text it is a decimal number of credits (`"0.01"`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credits(u64);

/// Why a text is not an amount of credits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not an amount of credits: write a number with at most six decimals, below 18 trillion"
)]
pub struct ParseError {
    text: String,
}

impl Credits {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub const fn from_micro(microcredits: u64) -> Self {
        Self(microcredits)
    }

    /// Whole credits; saturates.
    #[must_use]
    pub const fn from_whole(credits: u64) -> Self {
        Self(credits.saturating_mul(MICROCREDITS_PER_CREDIT))
    }

    #[must_use]
    pub const fn micro(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self × units`, saturating: a price that overflows is one that nobody can pay.
    #[must_use]
    pub fn saturating_mul(self, units: u64) -> Self {
        Self(self.0.saturating_mul(units))
    }

    /// `self × numerator / denominator`, rounded down. `denominator` must not be zero.
    #[must_use]
    pub fn fraction(self, numerator: u64, denominator: u64) -> Self {
        let scaled = u128::from(self.0) * u128::from(numerator) / u128::from(denominator);
        Self(u64::try_from(scaled).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / MICROCREDITS_PER_CREDIT, self.0 % MICROCREDITS_PER_CREDIT);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{rest:06}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl FromStr for Credits {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError { text: text.chars().take(40).collect() };
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let complete = !whole.is_empty() && (decimals.is_empty() != text.contains('.'));
        if !complete || decimals.len() > 6 || !digits(whole) || !digits(decimals) {
            return Err(refuse());
        }
        let whole: u64 = whole.parse().map_err(|_| refuse())?;
        let micro: u64 = format!("{decimals:0<6}").parse().map_err(|_| refuse())?;
        whole
            .checked_mul(MICROCREDITS_PER_CREDIT)
            .and_then(|w| w.checked_add(micro))
            .map(Self)
            .ok_or_else(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_and_amount_agree() {
        assert_eq!("0.01".parse(), Ok(Credits::from_micro(10_000)));
        assert_eq!("12".parse(), Ok(Credits::from_whole(12)));
        assert_eq!(Credits::from_micro(1_500_000).to_string(), "1.5");
        for bad in
            ["", ".", "1.", ".5", "-1", "+1", "1e3", "1.0000001", "99999999999999999999", "1 "]
        {
            assert!(bad.parse::<Credits>().is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn every_amount_survives_its_text(micro: u64) {
            let amount = Credits::from_micro(micro);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }

        #[test]
        fn a_fraction_never_exceeds_the_whole(micro: u64, part in 0u64..=100) {
            prop_assert!(Credits::from_micro(micro).fraction(part, 100).micro() <= micro);
        }
    }
}
