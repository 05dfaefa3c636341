//! Reads a scenario and says what is wrong with it: each problem with its line and key.
//!
//! The text is parsed once into a tree that knows where everything stands; `shape.rs` checks the
//! tree, `rules.rs`, `loads.rs` and `faults.rs` what became of it. `archipelag-sim` and fault search call it.
//! It opens no file and starts no run.

use super::{MAX_BYTES, MAX_DURATION_S, Scenario, faults, loads, rules, schema::SCENARIO, shape};
use serde::Deserialize as _;
use std::fmt;
use thiserror::Error;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

/// Problems told at once.
const MAX_PROBLEMS: usize = 20;

/// Why a scenario was refused.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{0} bytes are too long for a scenario: up to {MAX_BYTES}")]
    TooLong(usize),
    /// Not TOML.
    #[error("line {line}: {what}")]
    Toml { line: usize, what: String },
    /// TOML, but no scenario that is possible.
    #[error("{}", listed(problems, *more))]
    Refused {
        problems: Vec<Problem>,
        /// Problems beyond those.
        more: usize,
    },
    /// A trace of jobs that can't be used.
    #[error("{path}: {what}")]
    Trace { path: String, what: String },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1 on.
    pub line: usize,
    /// As in `faults[2].nodes.group`.
    pub path: String,
    /// What is wrong, and what is accepted.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.path, self.what)
    }
}

fn listed(problems: &[Problem], more: usize) -> String {
    let mut lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

/// Problems found so far in one text.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    /// Where each line begins.
    lines: Vec<usize>,
    tree: &'a DeTable<'a>,
    found: Vec<Problem>,
    more: usize,
}

impl<'a> Problems<'a> {
    fn new(text: &str, tree: &'a DeTable<'a>) -> Self {
        Self { lines: lines(text), tree, found: Vec::new(), more: 0 }
    }

    /// Something is wrong at a byte of the text.
    pub(super) fn add_at(&mut self, byte: usize, path: &str, what: String) {
        if self.found.len() == MAX_PROBLEMS {
            self.more += 1;
            return;
        }
        let line = self.lines.partition_point(|start| *start <= byte);
        self.found.push(Problem { line, path: path.into(), what });
    }

    /// Something is wrong with what stands at `path`, or would stand there.
    pub(super) fn add(&mut self, path: &str, what: String) {
        self.add_at(self.byte_of(path), path, what);
    }

    /// Where a path stands, or the nearest around it that stands somewhere.
    fn byte_of(&self, path: &str) -> usize {
        let mut byte = 0;
        let mut table = self.tree;
        for segment in path.split('.') {
            let (name, index) = match segment.split_once('[') {
                Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
                None => (segment, None),
            };
            let Some((key, value)) = table.get_key_value(name) else { break };
            byte = key.span().start;
            let mut value = value.get_ref();
            if let (DeValue::Array(elements), Some(index)) = (value, index) {
                let Some(element) = elements.get(index) else { break };
                byte = element.span().start;
                value = element.get_ref();
            }
            let DeValue::Table(inner) = value else { break };
            table = inner;
        }
        byte
    }

    fn refused(mut self) -> Option<Error> {
        self.found.sort_by_key(|problem| problem.line);
        let (problems, more) = (self.found, self.more);
        (!problems.is_empty()).then_some(Error::Refused { problems, more })
    }
}

fn lines(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

fn not_toml(text: &str, error: &toml::de::Error) -> Error {
    let byte = error.span().map_or(0, |span| span.start);
    let line = lines(text).partition_point(|start| *start <= byte);
    Error::Toml { line, what: error.message().replace('\n', ", ") }
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// All that is wrong with it, up to 20 problems.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if u64::try_from(text.len()).is_ok_and(|bytes| bytes > MAX_BYTES) {
            return Err(Error::TooLong(text.len()));
        }
        let parsed = DeTable::parse(text).map_err(|error| not_toml(text, &error))?;
        let tree = parsed.get_ref().clone();
        let mut problems = Problems::new(text, &tree);
        let mut known = parsed;
        shape::check(known.get_mut(), SCENARIO, &mut problems);
        // What is known of it is checked further even when there is something unknown beside it.
        match Self::deserialize(Deserializer::from(Spanned::new(0..text.len(), known.into_inner())))
        {
            Ok(scenario) => {
                let checked = scenario.without_echoes();
                rules::check(&checked, &mut problems);
                loads::check(&checked, &mut problems);
                faults::check(&checked, &mut problems);
                problems.refused().map_or(Ok(scenario), Err)
            }
            Err(error) => Err(problems.refused().unwrap_or_else(|| not_toml(text, &error))),
        }
    }

    /// With something possible for what nothing else could agree with, and was refused already.
    fn without_echoes(&self) -> Self {
        let mut checked = self.clone();
        if !(checked.duration_s > 0.0 && checked.duration_s <= MAX_DURATION_S) {
            checked.duration_s = MAX_DURATION_S;
        }
        for group in &mut checked.groups {
            group.count = group.count.max(1);
        }
        checked
    }

    /// Checks one that was not read but made, as when it is read: lines are those of
    /// [`Scenario::to_toml`].
    ///
    /// # Errors
    /// As [`Scenario::parse`].
    pub fn check(&self) -> Result<(), Error> {
        Self::parse(&self.to_toml()).map(drop)
    }
}
