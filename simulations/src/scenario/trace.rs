//! Jobs by a table of when each came: a CSV file beside the scenario.
//!
//! Who submits jobs calls [`Workload::load_trace`], `archipelag-sim` before a run. It reads that
//! one file, which may be large but not endless, and writes none.

use super::{Error, MAX_DURATION_S, MAX_JOBS, Scenario, Workload, cargos, keys};
use csv::StringRecord;
use std::{
    fs::File,
    io::Read,
    path::{Component, Path},
};

/// Of a trace.
const MAX_TRACE_BYTES: u64 = 64 << 20;

const COLUMNS: [&str; 6] = ["time_s", "node", "cargo", "work_ms", "events", "event_bytes"];
/// Columns that each trace has.
const NEEDED: usize = 2;

/// One job.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRow {
    /// Since the workload's `start_s`.
    pub time_s: f64,
    /// Within the group, from 0 on.
    pub node: usize,
    /// What is absent is drawn as the workload says.
    pub cargo: Option<&'static str>,
    pub work_ms: Option<f64>,
    pub events: Option<u64>,
    pub event_bytes: Option<u64>,
}

/// What is wrong with a trace's name, if anything.
pub(super) fn wrong_name(name: &str) -> Option<&'static str> {
    let inside = |part| matches!(part, Component::Normal(_));
    let parts: Vec<_> = Path::new(name).components().collect();
    let fine = !parts.is_empty() && parts.into_iter().all(inside) && !name.contains('\\');
    (!fine).then_some("is not possible: a file in the scenario's folder or below, without ..")
}

impl Workload {
    /// The rows of the trace; none when the workload has none. `folder` is the scenario's.
    ///
    /// # Errors
    /// What is wrong with it, and in which row. The header is row 1.
    pub fn load_trace(&self, folder: &Path) -> Result<Vec<TraceRow>, Error> {
        let Some(name) = &self.trace else { return Ok(Vec::new()) };
        let path = folder.join(name);
        let refuse = |what: String| Error::Trace { path: path.display().to_string(), what };
        if let Some(what) = wrong_name(name) {
            return Err(refuse(what.into()));
        }
        // Pipes and devices may have no end, or no beginning.
        let about = std::fs::metadata(&path).map_err(|error| refuse(error.to_string()))?;
        if !about.is_file() {
            return Err(refuse("is not a file: a CSV file".into()));
        }
        let file = File::open(&path).map_err(|error| refuse(error.to_string()))?;
        let mut text = Vec::new();
        let read = file.take(MAX_TRACE_BYTES + 1).read_to_end(&mut text);
        read.map_err(|error| refuse(error.to_string()))?;
        if u64::try_from(text.len()).is_ok_and(|bytes| bytes > MAX_TRACE_BYTES) {
            return Err(refuse(format!("is too long: up to {MAX_TRACE_BYTES} bytes")));
        }
        parse(&text).map_err(refuse)
    }
}

impl Scenario {
    /// The traces of all workloads, in their order.
    ///
    /// # Errors
    /// As [`Workload::load_trace`], and when a row is not of this scenario.
    pub fn load_traces(&self, folder: &Path) -> Result<Vec<Vec<TraceRow>>, Error> {
        let load = |workload: &Workload| {
            let rows = workload.load_trace(folder)?;
            let path = || folder.join(workload.trace.as_deref().unwrap_or_default());
            let refuse = |row: usize, what: String| Error::Trace {
                path: path().display().to_string(),
                what: format!("row {}: {what}", row + 2),
            };
            let nodes = self.group(&workload.from).map_or(0, |group| group.count);
            if let Some(at) = rows.iter().position(|row| row.node >= nodes) {
                let (node, of) = (rows[at].node, keys::quote(&workload.from));
                let last = nodes.saturating_sub(1);
                let what = format!("node: {node} is not possible, {of} has {nodes}: 0 to {last}");
                return Err(refuse(at, what));
            }
            let end = self.duration_s - workload.start_s;
            if rows.first().is_some_and(|row| row.time_s >= end) {
                let what = format!("time_s: no job comes before the end: below {end}");
                return Err(refuse(0, what));
            }
            Ok(rows)
        };
        self.workloads.iter().map(load).collect()
    }
}

fn parse(text: &[u8]) -> Result<Vec<TraceRow>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let header = reader.headers().map_err(|error| unreadable(&error))?.clone();
    let mut columns = [None; COLUMNS.len()];
    for (at, name) in header.iter().enumerate() {
        let Some(known) = COLUMNS.iter().position(|column| *column == name) else {
            let accepted = keys::suggest(name, COLUMNS.into_iter());
            let name = keys::quote(name);
            return Err(format!("row 1: there is no column {name}; columns are: {accepted}"));
        };
        if columns[known].replace(at).is_some() {
            return Err(format!("row 1: the column {name} stands twice: each at most once"));
        }
    }
    if let Some(missing) = columns.iter().take(NEEDED).position(Option::is_none) {
        return Err(format!("row 1: the column {} is missing: time_s and node", COLUMNS[missing]));
    }
    let (mut rows, mut record) = (Vec::<TraceRow>::new(), StringRecord::new());
    while reader.read_record(&mut record).map_err(|error| unreadable(&error))? {
        let number = rows.len() + 2;
        if u64::try_from(rows.len()).is_ok_and(|rows| rows >= MAX_JOBS) {
            return Err(format!("row {number}: too many rows: up to {MAX_JOBS}"));
        }
        let row = row(&record, &columns).map_err(|what| format!("row {number}: {what}"))?;
        if let Some(last) = rows.last().filter(|last| last.time_s > row.time_s) {
            let (time, before) = (row.time_s, last.time_s);
            let what = "is before the row above it: rows in the order of time, from";
            return Err(format!("row {number}: time_s: {time} {what} {before} on"));
        }
        rows.push(row);
    }
    if rows.is_empty() { Err("has no rows: one at least".into()) } else { Ok(rows) }
}

fn row(record: &StringRecord, columns: &[Option<usize>]) -> Result<TraceRow, String> {
    // An empty cell is as an absent column.
    let cell = |column: usize| -> Option<&str> {
        let at = columns.get(column).copied().flatten()?;
        record.get(at).filter(|cell| !cell.is_empty())
    };
    let needed = |column: usize| {
        cell(column).ok_or_else(|| format!("{}: the cell is empty: a number", COLUMNS[column]))
    };
    let number = |column: usize, cell: &str, most: f64| -> Result<f64, String> {
        let wrong =
            || format!("{}: {} is not possible: 0 to {most}", COLUMNS[column], keys::quote(cell));
        let read: f64 = cell.parse().map_err(|_| wrong())?;
        if (0.0..=most).contains(&read) { Ok(read) } else { Err(wrong()) }
    };
    let whole = |column: usize, cell: &str, most: u64| -> Result<u64, String> {
        let read = cell.parse().ok().filter(|read| *read <= most);
        read.ok_or_else(|| {
            let cell = keys::quote(cell);
            format!("{}: {cell} is not possible: a whole number from 0 to {most}", COLUMNS[column])
        })
    };
    let cargo = |name: &str| {
        cargos::cargo(name).map(|cargo| cargo.name).ok_or_else(|| {
            let accepted = keys::suggest(name, cargos::CARGOS.iter().map(|cargo| cargo.name));
            format!("cargo: there is no Cargo {}; Cargos are: {accepted}", keys::quote(name))
        })
    };
    Ok(TraceRow {
        time_s: number(0, needed(0)?, MAX_DURATION_S)?,
        node: usize::try_from(whole(1, needed(1)?, MAX_JOBS)?).map_err(|e| e.to_string())?,
        cargo: cell(2).map(cargo).transpose()?,
        work_ms: cell(3).map(|cell| number(3, cell, MAX_DURATION_S * 1000.0)).transpose()?,
        events: cell(4).map(|cell| whole(4, cell, 1_000_000)).transpose()?,
        event_bytes: cell(5).map(|cell| whole(5, cell, 60_000)).transpose()?,
    })
}

fn unreadable(error: &csv::Error) -> String {
    let row = error.position().map_or(1, |position| position.record() + 1);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("row {row}: {len} cells: {expected_len}, as in the header")
        }
        csv::ErrorKind::Utf8 { .. } => format!("row {row}: is not UTF-8: UTF-8 text"),
        _ => format!("row {row}: {error}"),
    }
}
