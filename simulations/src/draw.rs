//! Small draws from the entropy of whoever runs now.

use archipelag_simulation_kernel as kernel;
use std::collections::BTreeMap;

/// One of the names, by weight.
pub(crate) fn pick(shares: &BTreeMap<String, f64>) -> Option<&String> {
    let total: f64 = shares.values().sum();
    let mut drawn = unit() * total;
    for (name, weight) in shares {
        drawn -= weight;
        if drawn < 0.0 {
            return Some(name);
        }
    }
    shares.keys().next_back()
}

/// A number from 0 to below 1.
pub(crate) fn unit() -> f64 {
    let bits = u32::try_from(kernel::bits() >> 32).unwrap_or(u32::MAX);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// A number from 0 to below `of`; 0 when there is none.
pub(crate) fn below(of: usize) -> usize {
    let of = u64::try_from(of).unwrap_or(u64::MAX);
    if of == 0 { 0 } else { usize::try_from(kernel::bits() % of).unwrap_or(0) }
}

/// A number that was drawn as a fraction, as a whole one.
pub(crate) fn whole(drawn: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast keeps to the range by itself, and a fraction is to be lost"
    )]
    let whole = drawn.round() as u64;
    whole
}
