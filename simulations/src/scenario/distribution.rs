//! Numbers drawn from the seed: a constant, or a distribution by name.

use archipelag_simulation_kernel::Entropy;
use rand_distr::{Distribution as _, Exp, LogNormal, Normal, Pareto, Uniform, Weibull};
use serde::{Deserialize, Serialize};

/// Where a number comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Distribution {
    Constant(f64),
    Named(Named),
}

/// A distribution with its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Named {
    /// From, to.
    Uniform([f64; 2]),
    /// Mean.
    Exponential(f64),
    /// Mean, standard deviation; not below 0.
    Normal([f64; 2]),
    /// Median, standard deviation of the logarithm.
    LogNormal([f64; 2]),
    /// Least value, shape.
    Pareto([f64; 2]),
    /// Scale, shape.
    Weibull([f64; 2]),
    /// One of these.
    Choice(Vec<f64>),
}

impl Default for Distribution {
    fn default() -> Self {
        Self::Constant(0.0)
    }
}

impl Distribution {
    /// Draws a number from the entropy of whoever runs now.
    #[must_use]
    pub fn draw(&self) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Named(named) => named.draw(),
        }
    }

    /// Why nothing can be drawn from it, if so.
    pub(super) fn problem(&self) -> Option<&'static str> {
        match self {
            Self::Constant(value) if value.is_finite() => None,
            Self::Constant(_) => Some("must be finite"),
            Self::Named(named) => named.problem(),
        }
    }

    /// The least that may be drawn. Some come near 0 without ever being it.
    pub(super) fn least(&self) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Named(Named::Uniform([low, _]) | Named::Pareto([low, _])) => *low,
            Self::Named(Named::Choice(values)) => values.iter().copied().fold(f64::MAX, f64::min),
            Self::Named(Named::Normal(_)) => 0.0,
            Self::Named(Named::Exponential(_) | Named::LogNormal(_) | Named::Weibull(_)) => {
                f64::MIN_POSITIVE
            }
        }
    }

    /// The most that may be drawn; of those that know no bound, their middle.
    pub(super) fn most(&self) -> f64 {
        match self {
            Self::Named(Named::Uniform([_, high])) => *high,
            Self::Named(Named::Choice(values)) => values.iter().copied().fold(f64::MIN, f64::max),
            _ => self.middle(),
        }
    }

    /// The mean or, where it may be endless, the median: tells how often something happens, within
    /// a small factor.
    pub(super) fn middle(&self) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Named(Named::Uniform([low, high])) => f64::midpoint(*low, *high),
            Self::Named(Named::Exponential(mean)) => *mean,
            // What is below 0 becomes 0: with a mean of 0 that gives one of 0.4 deviations.
            Self::Named(Named::Normal([mean, deviation])) => mean.max(0.4 * deviation),
            Self::Named(Named::LogNormal([middle, _]) | Named::Weibull([middle, _])) => *middle,
            Self::Named(Named::Pareto([least, shape])) => least * 2f64.powf(1.0 / shape),
            Self::Named(Named::Choice(values)) => {
                let share = 1.0 / f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX).max(1));
                values.iter().map(|value| value * share).sum()
            }
        }
    }
}

impl Named {
    fn draw(&self) -> f64 {
        // Parameters were checked when the scenario was read.
        let drawn = match self {
            Self::Uniform([low, high]) => {
                Uniform::new_inclusive(*low, *high).map_or(*low, |d| d.sample(&mut Entropy))
            }
            Self::Exponential(mean) => {
                Exp::new(1.0 / mean).map_or(*mean, |d| d.sample(&mut Entropy))
            }
            Self::Normal([mean, deviation]) => {
                Normal::new(*mean, *deviation).map_or(*mean, |d| d.sample(&mut Entropy)).max(0.0)
            }
            Self::LogNormal([median, sigma]) => {
                LogNormal::new(median.ln(), *sigma).map_or(*median, |d| d.sample(&mut Entropy))
            }
            Self::Pareto([least, shape]) => {
                Pareto::new(*least, *shape).map_or(*least, |d| d.sample(&mut Entropy))
            }
            Self::Weibull([scale, shape]) => {
                Weibull::new(*scale, *shape).map_or(*scale, |d| d.sample(&mut Entropy))
            }
            Self::Choice(values) => {
                let drawn = Uniform::new(0, values.len()).map_or(0, |d| d.sample(&mut Entropy));
                values.get(drawn).copied().unwrap_or(0.0)
            }
        };
        if drawn.is_finite() { drawn } else { f64::MAX }
    }

    fn problem(&self) -> Option<&'static str> {
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        let positive = |values: &[f64]| finite(values) && values.iter().all(|value| *value > 0.0);
        match self {
            Self::Uniform(range) if !finite(range) || range[0] > range[1] => {
                Some("uniform takes [from, to] with from not above to")
            }
            Self::Exponential(mean) if !positive(&[*mean]) => {
                Some("exponential takes a mean above 0")
            }
            Self::Normal(parts) if !finite(parts) || parts[1] < 0.0 => {
                Some("normal takes [mean, standard deviation not below 0]")
            }
            Self::LogNormal(parts)
                if !positive(&parts[..1]) || !finite(parts) || parts[1] < 0.0 =>
            {
                Some("log-normal takes [median above 0, deviation not below 0]")
            }
            Self::Pareto(parts) if !positive(parts) => {
                Some("pareto takes [least value above 0, shape above 0]")
            }
            Self::Weibull(parts) if !positive(parts) => {
                Some("weibull takes [scale above 0, shape above 0]")
            }
            Self::Choice(values) if values.is_empty() || !finite(values) => {
                Some("choice takes a list of numbers")
            }
            _ => None,
        }
    }
}
