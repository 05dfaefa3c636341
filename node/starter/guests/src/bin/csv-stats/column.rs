//! One column of `csv-stats`: takes its cells one by one, then sums them up.
//!
//! Used by its `main.rs` alone. Its memory is bounded whatever comes.

use archipelag_starter_guests::number;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Distinct values that all columns together keep, and bytes of each.
const DISTINCT_VALUES: usize = 100_000;
const DISTINCT_VALUE_BYTES: usize = 128;

/// Numbers that all columns together keep for their quantiles.
const SAMPLED_NUMBERS: usize = 1 << 20;

const TOP_VALUES: usize = 5;

/// Characters of a text value that the result repeats.
const SHOWN_CHARACTERS: usize = 100;

/// What a column's cells are: the narrowest that fits them all.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Empty,
    Boolean,
    Integer,
    Number,
    Date,
    Text,
}

impl Kind {
    fn of(cell: &str, value: Option<f64>) -> Self {
        match value {
            Some(_) if is_integer(cell) => Self::Integer,
            Some(_) => Self::Number,
            None if cell.eq_ignore_ascii_case("true") || cell.eq_ignore_ascii_case("false") => {
                Self::Boolean
            }
            None if is_date(cell) => Self::Date,
            None => Self::Text,
        }
    }

    fn join(self, other: Self) -> Self {
        match (self, other) {
            (one, same) if one == same => one,
            (Self::Empty, kind) | (kind, Self::Empty) => kind,
            (Self::Integer, Self::Number) | (Self::Number, Self::Integer) => Self::Number,
            _ => Self::Text,
        }
    }
}

fn is_integer(cell: &str) -> bool {
    cell.trim_start_matches(['+', '-'])
        .bytes()
        .all(|byte| byte.is_ascii_digit())
}

/// `2026-01-31`, alone or followed by a time as RFC 3339 or ISO 8601 write it.
fn is_date(cell: &str) -> bool {
    let mut bytes = cell.bytes();
    let mut parts = b"dddd-dd-dd".iter();
    parts.all(|&part| match (part, bytes.next()) {
        (b'd', Some(byte)) => byte.is_ascii_digit(),
        (dash, byte) => byte == Some(dash),
    }) && matches!(bytes.next(), None | Some(b'T' | b't' | b' '))
}

/// A number written in the usual way; words such as `nan` or `inf` are text.
fn parse_number(cell: &str) -> Option<f64> {
    let first = cell.trim_start_matches(['+', '-']).bytes().next()?;
    if !first.is_ascii_digit() && first != b'.' {
        return None;
    }
    cell.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A column as the result shows it. Fields that don't apply are absent.
#[derive(Serialize)]
pub struct Summary {
    name: String,
    r#type: Kind,
    count: u64,
    missing: u64,
    distinct: usize,
    distinct_capped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Value>,
    #[serde(flatten)]
    numeric: Option<Numeric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<Frequent>,
}

#[derive(Serialize)]
struct Numeric {
    sum: Value,
    mean: Value,
    /// Of a sample (n − 1); null for a single value.
    stddev: Value,
    q1: Value,
    median: Value,
    q3: Value,
    quantiles_exact: bool,
}

#[derive(Serialize)]
struct Frequent {
    value: String,
    count: u64,
}

pub struct Column {
    name: String,
    kind: Kind,
    count: u64,
    missing: u64,
    moments: Moments,
    sample: Sample,
    texts: Option<(String, String)>,
    frequencies: BTreeMap<Box<str>, u64>,
    most_distinct: usize,
    distinct_capped: bool,
}

impl Column {
    /// A column of a table that has `columns` of them, which share the memory.
    pub fn new(name: String, columns: usize) -> Self {
        Self {
            name,
            kind: Kind::Empty,
            count: 0,
            missing: 0,
            moments: Moments::default(),
            sample: Sample::new(SAMPLED_NUMBERS / columns.max(1)),
            texts: None,
            frequencies: BTreeMap::new(),
            most_distinct: DISTINCT_VALUES / columns.max(1),
            distinct_capped: false,
        }
    }

    /// A cell without a value.
    pub fn skip(&mut self) {
        self.missing += 1;
    }

    /// A cell with one.
    pub fn add(&mut self, cell: &str) {
        self.count += 1;
        let value = parse_number(cell);
        self.kind = self.kind.join(Kind::of(cell, value));
        if let Some(value) = value {
            self.moments.add(value);
            self.sample.add(value);
        }
        let shown = |cell: &str| cell.chars().take(SHOWN_CHARACTERS).collect::<String>();
        match &mut self.texts {
            None => self.texts = Some((shown(cell), shown(cell))),
            Some((least, _)) if cell < least.as_str() => *least = shown(cell),
            Some((_, greatest)) if cell > greatest.as_str() => *greatest = shown(cell),
            Some(_) => {}
        }
        if let Some(count) = self.frequencies.get_mut(cell) {
            *count += 1;
        } else if self.frequencies.len() < self.most_distinct && cell.len() <= DISTINCT_VALUE_BYTES
        {
            self.frequencies.insert(cell.into(), 1);
        } else {
            self.distinct_capped = true;
        }
    }

    pub fn finish(self) -> Summary {
        let numeric = matches!(self.kind, Kind::Integer | Kind::Number);
        let (min, max) = match self.texts {
            _ if numeric => (
                Some(number(self.moments.min)),
                Some(number(self.moments.max)),
            ),
            Some((least, greatest)) => (Some(least.into()), Some(greatest.into())),
            None => (None, None),
        };
        Summary {
            name: self.name,
            r#type: self.kind,
            count: self.count,
            missing: self.missing,
            distinct: self.frequencies.len(),
            distinct_capped: self.distinct_capped,
            min,
            max,
            numeric: numeric.then(|| summary_of(&self.moments, self.sample)),
            // Beyond the bound the most frequent value may be one not kept.
            top: if self.distinct_capped {
                Vec::new()
            } else {
                top(self.frequencies)
            },
        }
    }
}

/// The most frequent values that occur more than once.
fn top(frequencies: BTreeMap<Box<str>, u64>) -> Vec<Frequent> {
    let mut repeated: Vec<_> = frequencies
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .collect();
    // Stable: values of the same frequency stay in the order of their text.
    repeated.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    repeated.truncate(TOP_VALUES);
    let frequent = |(value, count): (Box<str>, u64)| Frequent {
        value: value.into(),
        count,
    };
    repeated.into_iter().map(frequent).collect()
}

fn summary_of(moments: &Moments, sample: Sample) -> Numeric {
    let exact = sample.stride == 1;
    let sorted = sample.sorted();
    Numeric {
        sum: number(moments.sum),
        // The sum of integers is exact, so their mean is as exact as it can be.
        mean: number(moments.sum / moments.count),
        stddev: number(moments.stddev()),
        q1: number(quantile(&sorted, 0.25)),
        median: number(quantile(&sorted, 0.5)),
        q3: number(quantile(&sorted, 0.75)),
        quantiles_exact: exact,
    }
}

/// Linear interpolation between the two nearest ranks (Hyndman and Fan, type 7).
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "a sample has at most 2^20 values"
    )]
    let rank = fraction * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the last index"
    )]
    let below = rank.floor() as usize;
    let above = sorted[(below + 1).min(last)];
    sorted[below] + (above - sorted[below]) * rank.fract()
}

/// Welford's running mean and variance: stable where sums of squares are not.
#[derive(Default)]
struct Moments {
    count: f64,
    sum: f64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        let first = self.count == 0.0;
        self.count += 1.0;
        self.sum += value;
        let distance = value - self.mean;
        self.mean += distance / self.count;
        self.squares += distance * (value - self.mean);
        self.min = if first { value } else { self.min.min(value) };
        self.max = if first { value } else { self.max.max(value) };
    }

    fn stddev(&self) -> f64 {
        if self.count < 2.0 {
            f64::NAN
        } else {
            (self.squares / (self.count - 1.0)).sqrt()
        }
    }
}

/// Every number while they fit, else every second, every fourth and so on:
/// chosen by position, so that two runs choose the same.
struct Sample {
    kept: Vec<f64>,
    most: usize,
    stride: u64,
    seen: u64,
}

impl Sample {
    fn new(most: usize) -> Self {
        Self {
            kept: Vec::new(),
            most: most.max(2),
            stride: 1,
            seen: 0,
        }
    }

    fn add(&mut self, value: f64) {
        if self.seen.is_multiple_of(self.stride) {
            if self.kept.len() == self.most {
                let mut position = 0;
                self.kept.retain(|_| {
                    position += 1;
                    position % 2 == 1
                });
                self.stride *= 2;
            }
            if self.seen.is_multiple_of(self.stride) {
                self.kept.push(value);
            }
        }
        self.seen += 1;
    }

    fn sorted(mut self) -> Vec<f64> {
        self.kept.sort_unstable_by(f64::total_cmp);
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(cells: &[&str]) -> Value {
        let mut column = Column::new("c".to_owned(), 1);
        cells.iter().for_each(|cell| column.add(cell));
        serde_json::to_value(column.finish()).expect("JSON")
    }

    #[test]
    fn types_are_the_narrowest_that_fit() {
        for (cells, kind) in [
            (&[][..], "empty"),
            (&["1", "-2", "+3"], "integer"),
            (&["1", "2.5", "-1e3", ".5"], "number"),
            (&["true", "FALSE"], "boolean"),
            (&["2026-01-31", "2026-01-31T10:00:00Z"], "date"),
            (&["2026-01-31", "1"], "text"),
            (&["nan", "inf"], "text"),
            (&["1", "1e999"], "text"),
            (&["-", "+", "."], "text"),
        ] {
            assert_eq!(summary(cells)["type"], kind, "{cells:?}");
        }
    }

    #[test]
    fn moments_and_quantiles_agree_with_a_known_set() {
        let data = summary(&["2", "4", "4", "4", "5", "5", "7", "9"]);
        assert_eq!((&data["mean"], &data["sum"]), (&5.into(), &40.into()));
        let stddev = data["stddev"].as_f64().expect("a number");
        assert!((stddev - (32.0f64 / 7.0).sqrt()).abs() < 1e-12, "{stddev}");
        assert_eq!(data["q1"], 4);
        assert_eq!(data["median"], 4.5);
        assert_eq!(data["q3"], 5.5);
        assert_eq!(
            data["top"][0],
            serde_json::json!({"value": "4", "count": 3})
        );
        assert_eq!(summary(&["3"])["stddev"], Value::Null);
    }

    #[test]
    fn a_full_sample_keeps_every_second_value() {
        let mut sample = Sample::new(4);
        (0..9).for_each(|value| sample.add(f64::from(value)));
        assert_eq!(sample.stride, 4);
        assert_eq!(sample.sorted(), [0.0, 4.0, 8.0]);
    }

    #[test]
    fn distinct_values_are_bounded() {
        let mut column = Column::new("c".to_owned(), DISTINCT_VALUES / 2);
        ["a", "b", "a", "c"]
            .iter()
            .for_each(|cell| column.add(cell));
        let data = serde_json::to_value(column.finish()).expect("JSON");
        assert_eq!(
            (&data["distinct"], &data["distinct_capped"]),
            (&2.into(), &true.into())
        );
        assert_eq!(data["top"], Value::Null);
        assert_eq!(summary(&[&"x".repeat(129)])["distinct_capped"], true);
    }
}
