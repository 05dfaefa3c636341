//! Axes: which range is drawn, in which unit, with which ticks. Used by the plots beside it; draws
//! nothing.

use super::{
    style::label,
    unit::{Unit, number, short},
};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// Beyond this no picture says anything, and differences would overflow.
const LARGEST: f64 = 1e30;
/// Ticks that an axis has about.
const TICKS: f64 = 6.0;
/// The same ratio for a parameter, whose values are chosen.
const PARAMETER_LOG_FROM_RATIO: f64 = 12.0;
/// Values of a parameter that have room for a tick.
const MOST_PARAMETER_TICKS: f64 = 16.0;
/// Ticks can be names.
const MOST_TICK_CHARS: usize = 24;
/// From this ratio of the largest value to a typical small one an axis is logarithmic.
const LOG_FROM_RATIO: f64 = 50.0;

/// One axis of a panel. Its range and ticks are where they are drawn: in the shown unit, or in its
/// decimal logarithm.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub name: String,
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<(f64, String)>,
    divisor: f64,
    log: bool,
}

impl Axis {
    /// From zero (or below, if a value is) to the first tick above the largest value.
    pub(super) fn from_zero(name: &str, unit: Unit, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        let mut axis = Self::linear(name, unit, low.min(0.0), high.max(0.0));
        let step = axis.step();
        axis.low = (axis.low / step).floor() * step;
        axis.high = (axis.high / step).ceil() * step;
        axis.set_ticks(unit);
        axis
    }

    /// Of virtual time, from the start of the run to the last value.
    pub(super) fn time(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        Self::linear("virtual time", Unit::Seconds, low.min(0.0), high)
    }

    /// All shares, from 0 to 100 %.
    pub(super) fn share(name: &str) -> Self {
        Self::linear(name, Unit::Share, 0.0, 1.0)
    }

    /// From zero to `high` and no further.
    pub(super) fn up_to(name: &str, unit: Unit, high: f64) -> Self {
        Self::linear(name, unit, 0.0, high)
    }

    /// Of a parameter that a sweep varies: with a tick for each of its values if there is room, and
    /// logarithmic if they span orders of magnitude.
    pub(super) fn parameter(name: &str, values: &[f64]) -> Self {
        let (low, high) = range(values.iter().copied()).unwrap_or((0.0, 1.0));
        let mut axis = Self::around(name, Unit::Plain, [low, high]);
        axis.log = low > 0.0 && high / low >= PARAMETER_LOG_FROM_RATIO;
        if axis.log {
            let (low, high) = (low.log10(), high.min(LARGEST).log10());
            let margin = (high - low) * 0.04;
            (axis.low, axis.high) = (low - margin, high + margin);
        }
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for &value in values {
            let Some(place) = axis.place(value) else { continue };
            let room = (axis.high - axis.low) / MOST_PARAMETER_TICKS;
            if ticks.last().is_none_or(|last| place - last.0 >= room) {
                ticks.push((place, short(value)));
            }
        }
        axis.ticks = ticks;
        axis
    }

    /// Just around the values.
    fn around(name: &str, unit: Unit, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        let margin = if high > low { (high - low) * 0.04 } else { low.abs().max(1.0) * 0.5 };
        Self::linear(name, unit, low - margin, high + margin)
    }

    /// One place for each name, at 0, 1 and so on.
    pub(super) fn names(name: &str, names: &[String]) -> Self {
        let ticks = names.iter().enumerate().map(|(place, name)| (place as f64, name.clone()));
        Self {
            name: name.to_owned(),
            low: -0.5,
            high: names.len().max(1) as f64 - 0.5,
            ticks: ticks.collect(),
            divisor: 1.0,
            log: false,
        }
    }

    /// Logarithmic if the values span orders of magnitude, else from zero. Which it is depends on
    /// the bulk of them: `typical` is a small one that still counts, such as their tenth
    /// percentile.
    pub(super) fn spread(name: &str, unit: Unit, typical: f64, sorted: &[f64]) -> Self {
        let positive = &sorted[sorted.partition_point(|&value| value <= 0.0)..];
        let (Some(&low), Some(&high)) = (positive.first(), positive.last()) else {
            return Self::from_zero(name, unit, sorted.iter().copied());
        };
        let few_zeros = (sorted.len() - positive.len()) * 10 <= sorted.len();
        if few_zeros && high / typical.max(low) >= LOG_FROM_RATIO {
            Self::log(name, unit, low.max(high / 1e9), high)
        } else {
            Self::from_zero(name, unit, sorted.iter().copied())
        }
    }

    fn linear(name: &str, unit: Unit, low: f64, high: f64) -> Self {
        let (low, high) = (low.max(-LARGEST), high.min(LARGEST));
        let high = if high > low { high } else { low + 1.0 };
        let (divisor, shown) = unit.shown(low.abs().max(high));
        let mut axis = Self {
            name: with_unit(name, shown),
            low: low / divisor,
            high: high / divisor,
            ticks: Vec::new(),
            divisor,
            log: false,
        };
        axis.set_ticks(unit);
        axis
    }

    fn log(name: &str, unit: Unit, low: f64, high: f64) -> Self {
        let (low, high) = (low.min(LARGEST), high.min(LARGEST));
        // The middle decides: at the far end of a long tail stand few.
        let (divisor, shown) = unit.shown((low * high).sqrt());
        let (low, high) = (low / divisor, high / divisor);
        let (first, last) = (low.log10().floor(), high.log10().ceil());
        let every = ((last - first) / 8.0).ceil().max(1.0);
        let within: &[f64] = if last - first <= 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let mut decade = first;
        while decade <= last {
            for multiple in within {
                let value = multiple * 10f64.powf(decade);
                ticks.push((value.log10(), number(value, value / multiple)));
            }
            decade += every;
        }
        let end = |tick: Option<&(f64, String)>, other: f64| tick.map_or(other, |tick| tick.0);
        let slack = 1e-9;
        let low = end(ticks.iter().rfind(|tick| tick.0 <= low.log10() + slack), first);
        let high = end(ticks.iter().find(|tick| tick.0 >= high.log10() - slack), last);
        let high = if high > low { high } else { low + 1.0 };
        ticks.retain(|tick| tick.0 >= low - slack && tick.0 <= high + slack);
        Self { name: with_unit(name, shown), low, high, ticks, divisor, log: true }
    }

    /// The same without its name, for a panel above another with the same axis.
    pub(super) fn unnamed(mut self) -> Self {
        self.name.clear();
        self
    }

    /// Where a value is drawn, if it is anywhere.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        if value.is_nan() {
            return None;
        }
        let shown = value / self.divisor;
        let place = if self.log { shown.max(f64::MIN_POSITIVE).log10() } else { shown };
        Some(place.clamp(self.low, self.high))
    }

    /// A distance between ticks that reads well: 1, 2, 2.5 or 5 times a power of ten.
    fn step(&self) -> f64 {
        let rough = (self.high - self.low) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let nice = [1.0, 2.0, 2.5, 5.0].into_iter().find(|multiple| multiple * power >= rough);
        nice.unwrap_or(10.0) * power
    }

    fn set_ticks(&mut self, unit: Unit) {
        let mut step = self.step();
        if unit == Unit::Count {
            step = step.ceil();
        }
        self.ticks.clear();
        let mut place = (self.low / step - 1e-9).ceil();
        while place * step <= self.high + step * 1e-9 && self.ticks.len() < 50 {
            let value = place * step;
            self.ticks.push((value, number(value, step)));
            place += 1.0;
        }
    }
}

/// For the plotting library, in whose terms a value is a place.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let share = (place - self.low) / (self.high - self.low);
        let (from, until) = (f64::from(limit.0), f64::from(limit.1));
        #[expect(clippy::cast_possible_truncation, reason = "a unit of the drawing")]
        let unit = (from + share * (until - from)).round() as i32;
        unit
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|tick| tick.0).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        let tick = self.ticks.iter().find(|tick| tick.0.total_cmp(place).is_eq());
        tick.map(|tick| label(&tick.1, MOST_TICK_CHARS)).unwrap_or_default()
    }
}

fn with_unit(name: &str, shown: &str) -> String {
    if shown.is_empty() { name.to_owned() } else { format!("{name} ({shown})") }
}

/// The least and the largest of the finite values.
fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|value| value.is_finite()).fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> String {
        axis.ticks.iter().map(|tick| tick.1.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_numbers_in_a_fitting_unit() {
        let time = Axis::time([0.0, 3600.0]);
        assert_eq!(
            (time.name.as_str(), texts(&time).as_str()),
            ("virtual time (min)", "0 10 20 30 40 50 60")
        );
        assert_eq!(texts(&Axis::share("x")), "0 20 40 60 80 100");
        assert_eq!(
            texts(&Axis::from_zero("x", Unit::Plain, [0.71])),
            "0.0 0.2 0.4 0.6 0.8".replace("0.0", "0")
        );
        assert_eq!(texts(&Axis::from_zero("x", Unit::Count, [1.0])), "0 1");
        assert_eq!(texts(&Axis::from_zero("x", Unit::Plain, [90_000.0])), "0 20k 40k 60k 80k 100k");
        assert_eq!(Axis::from_zero("traffic", Unit::Bytes, [3e6]).name, "traffic (MB)");
    }

    #[test]
    fn wide_spreads_get_a_logarithmic_axis() {
        let axis = Axis::spread("x", Unit::Milliseconds, 3.0, &[2.0, 3.0, 4.0, 900.0]);
        assert_eq!(texts(&axis), "2 5 10 20 50 100 200 500 1000");
        let even = Axis::spread("x", Unit::Milliseconds, 3.0, &[2.0, 3.0, 4.0, 9.0]);
        assert_eq!(texts(&even), "0 2 4 6 8 10");
    }

    #[test]
    fn a_parameter_has_its_values_as_ticks() {
        let axis = Axis::parameter("nodes", &[4.0, 8.0, 16.0, 32.0, 64.0]);
        assert_eq!(texts(&axis), "4 8 16 32 64");
        assert!((axis.ticks[1].0 - axis.ticks[0].0 - 2f64.log10()).abs() < 1e-9);
        assert_eq!(texts(&Axis::parameter("loss", &[0.0, 0.001, 0.05, 0.1])), "0 0.05 0.1");
    }

    #[test]
    fn no_values_and_strange_values_still_make_an_axis() {
        for values in [
            vec![],
            vec![f64::NAN],
            vec![0.0],
            vec![-5.0],
            vec![f64::MAX, f64::MIN],
            vec![1e-300, 1e300],
            vec![f64::MIN_POSITIVE],
        ] {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            for axis in [
                Axis::from_zero("x", Unit::Plain, values.clone()),
                Axis::from_zero("x", Unit::Count, values.clone()),
                Axis::around("x", Unit::Plain, values.clone()),
                Axis::time(values.clone()),
                Axis::parameter("x", &sorted),
                Axis::spread("x", Unit::Bytes, 1e-300, &sorted),
            ] {
                assert!(axis.low < axis.high && axis.low.is_finite() && axis.high.is_finite());
                assert!(axis.ticks.len() < 60, "{axis:?}");
                let places = values.iter().filter_map(|value| axis.place(*value));
                assert!(places.into_iter().all(|place| (axis.low..=axis.high).contains(&place)));
            }
        }
    }
}
