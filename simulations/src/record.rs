//! What a run has seen. The activities and the oracles write to it; tables are filled as it goes,
//! the summary is made of it at the end.

use crate::{
    lock,
    output::{Tables, rows},
    world::now_s,
};
use serde::Serialize;
use std::sync::{Arc, Mutex};

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Submitted,
    Running,
    Completed,
    Failed,
    /// Not taken: no money moved.
    Refused,
    /// Its own node went.
    Orphaned,
}

impl State {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Orphaned => "orphaned",
        }
    }

    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Submitted | Self::Running)
    }
}

/// A job as its Consumer saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub consumer: usize,
    pub cargo: String,
    pub submitted_s: f64,
    pub started_s: Option<f64>,
    pub first_event_s: Option<f64>,
    pub ended_s: Option<f64>,
    pub state: State,
    pub attempts: u32,
    pub island: Option<usize>,
    pub events: u64,
    pub price_microcredits: u64,
    pub reason: String,
    /// One of its Islands was dishonest.
    pub lied_to: bool,
    /// What was delivered is not what the Cargo says.
    pub wrong: bool,
}

impl Job {
    #[must_use]
    pub fn new(consumer: usize, cargo: &str) -> Self {
        Self {
            consumer,
            cargo: cargo.into(),
            submitted_s: now_s(),
            started_s: None,
            first_event_s: None,
            ended_s: None,
            state: State::Submitted,
            attempts: 0,
            island: None,
            events: 0,
            price_microcredits: 0,
            reason: String::new(),
            lied_to: false,
            wrong: false,
        }
    }
}

/// What a run has seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    tables: Option<Tables>,
    pub jobs: Vec<Job>,
    pub violations: Vec<rows::Violation>,
    pub lookups: Vec<(bool, f64)>,
    pub delivery_ms: Vec<f32>,
    pub faults: Vec<rows::Fault>,
}

/// A handle to it.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Seen>>);

pub(crate) fn word(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Record {
    #[must_use]
    pub fn new(tables: Option<Tables>) -> Self {
        Self(Arc::new(Mutex::new(Seen { tables, ..Seen::default() })))
    }

    /// Looks at what was seen, or changes it.
    pub fn with<T>(&self, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(&mut lock(&self.0))
    }

    /// Adds a row to its table, when there are tables.
    pub fn row<R: crate::output::table::Row>(&self, row: &R) {
        self.with(|seen| seen.row(row));
    }

    /// Something that must hold does not.
    pub fn violation(&self, oracle: &str, node: Option<usize>, what: String) {
        let row =
            rows::Violation { time_s: now_s(), oracle: oracle.into(), node: node.map(word), what };
        self.with(|seen| {
            seen.row(&row);
            seen.violations.push(row);
        });
    }

    /// Writes out what the tables hold back.
    pub fn flush(&self) {
        self.with(|seen| {
            let failed = seen.tables.as_mut().is_some_and(|tables| tables.flush().is_err());
            if failed {
                seen.lose_tables();
            }
        });
    }

    /// Ends the tables.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn finish(&self) -> anyhow::Result<()> {
        let tables = self.with(|seen| seen.tables.take());
        Ok(tables.map_or(Ok(()), Tables::finish)?)
    }
}

impl Seen {
    pub fn row<R: crate::output::table::Row>(&mut self, row: &R) {
        let failed = self.tables.as_mut().is_some_and(|tables| tables.push(row).is_err());
        if failed {
            self.lose_tables();
        }
    }

    /// The run goes on: its hash and its summary need no tables.
    fn lose_tables(&mut self) {
        self.tables = None;
        eprintln!("the tables can't be written any more: is the disk full?");
    }
}
