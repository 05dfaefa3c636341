//! How a key of a scenario is described: what it takes, what it is without, what it means.
//!
//! `schema.rs` has the descriptions; `shape.rs` checks by them and `help.rs` prints them. Knows
//! nothing of what several keys mean together.

use std::fmt;

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) need: Need,
    pub(super) says: &'static str,
}

/// Whether a key may be absent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    Required,
    /// As TOML; a test compares it with what the structs say.
    Default(&'static str),
    /// Absent means what is said here.
    Optional(&'static str),
}

/// A number's bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    from: f64,
    to: f64,
    /// `from` itself is too little.
    above: bool,
}

impl Range {
    pub(super) const fn new(from: f64, to: f64) -> Self {
        Self { from, to, above: false }
    }

    pub(super) const fn above(from: f64, to: f64) -> Self {
        Self { from, to, above: true }
    }

    /// Whether all from `least` to `most` are within.
    pub(super) fn holds(&self, least: f64, most: f64) -> bool {
        let enough = if self.above { least > self.from } else { least >= self.from };
        enough && most <= self.to
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = if self.above { "above " } else { "" };
        write!(f, "{above}{} to {}", self.from, self.to)
    }
}

/// One of the words that a key takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
    pub(super) says: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Up to so many bytes; without control characters unless it is prose.
    Text {
        max: usize,
        prose: bool,
    },
    Flag,
    Whole {
        from: u64,
        to: u64,
    },
    Number(Range),
    /// A number or a distribution.
    Random(Range),
    Word(&'static [Word]),
    /// Words, each at most once.
    Words(&'static [Word]),
    /// Names of up to so many bytes.
    Names {
        max: usize,
    },
    /// A name, or names with weights.
    Shares,
    /// Rows of numbers.
    Matrix(Range),
    /// Any TOML that is also JSON.
    Free,
    Table(&'static [Key]),
    /// Up to so many tables.
    Tables {
        keys: &'static [Key],
        max: usize,
    },
    /// Up to so many tables with the keys that all faults have, `kind`, and that kind's own.
    Faults {
        max: usize,
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { max, .. } => write!(f, "text of up to {max} bytes"),
            Self::Flag => f.write_str("true or false"),
            Self::Whole { from, to } => write!(f, "a whole number from {from} to {to}"),
            Self::Number(range) => write!(f, "a number, {range}"),
            Self::Random(range) => write!(f, "a number, {range}, or a distribution"),
            Self::Word(words) => write!(f, "one of {}", names(words)),
            Self::Words(words) => write!(f, "a list of {}", names(words)),
            Self::Names { max } => write!(f, "a list of names of up to {max} bytes"),
            Self::Shares => f.write_str("a name, or a table of names and weights"),
            Self::Matrix(range) => write!(f, "a list of lists of numbers, {range}"),
            Self::Free | Self::Table(_) => f.write_str("a table"),
            Self::Tables { max, .. } | Self::Faults { max } => {
                write!(f, "up to {max} tables in double brackets")
            }
        }
    }
}

fn names(words: &[Word]) -> String {
    words.iter().map(|word| word.name).collect::<Vec<_>>().join(", ")
}

/// What is accepted instead of `wrong`, and which of it comes nearest.
pub(super) fn suggest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.dedup();
    if known.is_empty() {
        return "none".into();
    }
    const SHOWN: usize = 40;
    let mut all = known.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if known.len() > SHOWN {
        all.push_str(&format!(" and {} more", known.len() - SHOWN));
    }
    let nearest = known.iter().map(|name| (distance(wrong, name), *name)).min();
    match nearest {
        Some((far, name)) if far <= name.chars().count().div_ceil(3) => {
            format!("{all} (did you mean \"{name}\"?)")
        }
        _ => all,
    }
}

/// How many letters to add, drop or change to make `one` into `other`.
fn distance(one: &str, other: &str) -> usize {
    const LONGEST: usize = 64;
    let other: Vec<char> = other.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().take(LONGEST).enumerate() {
        let mut corner = at;
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
        for (index, another) in other.iter().enumerate() {
            let changed = corner + usize::from(letter != *another);
            corner = row[index + 1];
            row[index + 1] = changed.min(row[index] + 1).min(corner + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// What somebody wrote, short and without control characters.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let short: String = text.chars().take(LONGEST).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("\"{}{dots}\"", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let known = || ["coordinators", "islands"].into_iter();
        assert!(suggest("isands", known()).ends_with("(did you mean \"islands\"?)"));
        assert_eq!(suggest("x", known()), "coordinators, islands");
        assert_eq!(suggest("x", [].into_iter()), "none");
        assert_eq!([distance("", "abc"), distance("kitten", "sitting")], [3, 3]);
    }
}
