//! Percentiles, means with their uncertainty and inequality. Used by `figures` and the plots; never
//! sees a table.
//!
//! Values that are not finite say nothing about a distribution and are left out at the door.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// A mean, and the interval that holds the true mean with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// How many values it is made of. With one, the interval is the value itself.
    pub count: usize,
}

/// The finite values of a sample, sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    sorted: Vec<f64>,
}

impl FromIterator<f64> for Distribution {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }
}

impl Distribution {
    #[must_use]
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The values in ascending order.
    #[must_use]
    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    #[must_use]
    pub fn min(&self) -> Option<f64> {
        self.sorted.first().copied()
    }

    #[must_use]
    pub fn max(&self) -> Option<f64> {
        self.sorted.last().copied()
    }

    /// The value below which the share `q` of all values lies, `q` from 0 to 1, linear between two
    /// values (type 7 of Hyndman and Fan 1996): what `quantile` of pandas and NumPy says.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let last = self.sorted.len().checked_sub(1)?;
        let place = q.clamp(0.0, 1.0) * last as f64;
        #[expect(clippy::cast_possible_truncation, reason = "at most the index of the last value")]
        #[expect(clippy::cast_sign_loss, reason = "not negative")]
        let below = (place.floor() as usize).min(last);
        let above = (below + 1).min(last);
        let (low, high, share) = (self.sorted[below], self.sorted[above], place.fract());
        // Not low + share * (high - low): the difference of two huge values is infinite.
        Some(if share == 0.0 { low } else { low * (1.0 - share) + high * share })
    }

    #[must_use]
    pub fn p50(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    #[must_use]
    pub fn p90(&self) -> Option<f64> {
        self.quantile(0.9)
    }

    #[must_use]
    pub fn p99(&self) -> Option<f64> {
        self.quantile(0.99)
    }

    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let count = self.sorted.len() as f64;
        // Divided before summing: the sum of huge values is infinite.
        (count > 0.0).then(|| self.sorted.iter().map(|value| value / count).sum())
    }

    /// The mean's 95 % confidence interval by Student's t, for values that are independent, as
    /// those of runs with different seeds are.
    #[must_use]
    pub fn interval95(&self) -> Option<Interval> {
        let mean = self.mean()?;
        let count = self.sorted.len();
        let freedom = count as f64 - 1.0;
        // Without freedom there is no distribution, and no spread to speak of.
        let Ok(student) = StudentsT::new(0.0, 1.0, freedom) else {
            return Some(Interval { mean, low: mean, high: mean, count });
        };
        let squares: f64 = self.sorted.iter().map(|value| (value - mean).powi(2) / freedom).sum();
        let half = student.inverse_cdf(0.975) * (squares / count as f64).sqrt();
        Some(Interval { mean, low: mean - half, high: mean + half, count })
    }

    /// The Gini coefficient: 0 when all have the same (nothing included), towards 1 when one has
    /// all. None without values or with negative ones, for which it means nothing.
    #[must_use]
    pub fn gini(&self) -> Option<f64> {
        let mean = self.mean()?;
        if self.sorted.first().is_some_and(|&least| least < 0.0) {
            return None;
        }
        if mean == 0.0 {
            return Some(0.0);
        }
        let count = self.sorted.len() as f64;
        let weighted: f64 = self
            .sorted
            .iter()
            .enumerate()
            .map(|(rank, value)| (2.0 * rank as f64 + 1.0 - count) * (value / mean))
            .sum();
        Some(weighted / (count * count))
    }

    /// The Lorenz curve: for each share of the poorest, from 0 to 1, the share of all that they
    /// have. Empty where [`Self::gini`] has no answer.
    #[must_use]
    pub fn lorenz(&self) -> Vec<(f64, f64)> {
        let (Some(mean), Some(_)) = (self.mean(), self.gini()) else { return Vec::new() };
        let count = self.sorted.len() as f64;
        let mut held = 0.0;
        let mut curve = vec![(0.0, 0.0)];
        for (rank, value) in self.sorted.iter().enumerate() {
            held += if mean == 0.0 { 1.0 / count } else { value / mean / count };
            curve.push(((rank as f64 + 1.0) / count, held.min(1.0)));
        }
        curve
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Distribution {
        values.iter().copied().collect()
    }

    fn close(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([1, 2, 4, 8, 16], q)
        let values = of(&[16.0, 1.0, 8.0, 2.0, 4.0]);
        close(values.p50(), 4.0);
        close(values.p90(), 12.8);
        close(values.p99(), 15.68);
        close(values.quantile(0.1), 1.4);
        close(values.quantile(0.0), 1.0);
        close(values.quantile(1.0), 16.0);
        close(values.quantile(7.0), 16.0);
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // scipy.stats.t.interval(0.95, 4, loc=3, scale=scipy.stats.sem([1, 2, 3, 4, 5]))
        let interval = of(&[1.0, 2.0, 3.0, 4.0, 5.0]).interval95().unwrap();
        close(Some(interval.low), 1.036_756_8);
        close(Some(interval.high), 4.963_243_2);
        let one = of(&[7.0]).interval95().unwrap();
        assert_eq!(one, Interval { mean: 7.0, low: 7.0, high: 7.0, count: 1 });
    }

    #[test]
    fn inequality_has_its_extremes() {
        close(of(&[5.0; 10]).gini(), 0.0);
        close(of(&[0.0; 10]).gini(), 0.0);
        close(of(&[0.0, 0.0, 0.0, 1.0]).gini(), 0.75);
        close(of(&[1.0, 2.0, 3.0, 4.0]).gini(), 0.25);
        assert_eq!(of(&[-1.0, 2.0]).gini(), None);
        assert_eq!(of(&[1.0, 3.0]).lorenz(), [(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)]);
        assert_eq!(of(&[0.0, 0.0]).lorenz(), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)]);
    }

    #[test]
    fn nothing_says_nothing_and_the_infinite_is_left_out() {
        let none = of(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(none.count(), 0);
        assert_eq!((none.p50(), none.mean(), none.interval95()), (None, None, None));
        assert_eq!((none.gini(), none.lorenz()), (None, Vec::new()));
        close(of(&[f64::NAN, 3.0]).mean(), 3.0);
    }

    #[test]
    fn huge_values_stay_finite() {
        let huge = of(&[f64::MAX, f64::MAX, f64::MIN]);
        assert!(huge.mean().unwrap().is_finite());
        assert!(huge.quantile(0.3).unwrap().is_finite());
        let gini = of(&[f64::MAX, f64::MAX]).gini();
        close(gini, 0.0);
    }
}
