//! `csv-stats`: what each column of a CSV holds: type, missing values,
//! distinct values, range, mean, deviation, quantiles.
//!
//! One pass. Rows are never kept; what a column keeps is bounded, and the
//! result says where a bound was met (`distinct_capped`, `quantiles_exact`).

mod column;

use archipelag_starter_guests::{
    Events, Failure, MAX_TEXT_BYTES, Outcome, no_longer, parse, serve,
};
use column::{Column, Summary};
use csv::{ByteRecord, ReaderBuilder, Trim};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::process::ExitCode;

const MAX_COLUMNS: usize = 512;

/// Rows between two `progress` events, which count bytes.
const PROGRESS_ROWS: u64 = 20_000;

/// Characters of a column's name that the result repeats.
const MAX_NAME_CHARACTERS: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    #[serde(borrow)]
    csv: Cow<'a, str>,
    #[serde(default = "comma")]
    delimiter: String,
    #[serde(default = "yes")]
    header: bool,
    /// Cells that count as missing, besides empty ones.
    #[serde(default)]
    missing: Vec<String>,
}

fn comma() -> String {
    ",".to_owned()
}

fn yes() -> bool {
    true
}

#[derive(Serialize)]
struct Report {
    rows: u64,
    /// Rows with fewer or more cells than the first one.
    ragged_rows: u64,
    columns: Vec<Summary>,
}

fn run(input: &[u8], events: &mut Events<'_>) -> Outcome {
    let input: Input<'_> = parse(input)?;
    no_longer("csv", &input.csv, MAX_TEXT_BYTES)?;
    if input.missing.len() > 16 || input.missing.iter().any(|word| word.len() > 64) {
        return Err(Failure::input(
            "missing",
            "more than 16 words, or one of over 64 bytes",
        ));
    }
    let &[delimiter] = input.delimiter.as_bytes() else {
        return Err(Failure::input(
            "delimiter",
            "one ASCII character is expected",
        ));
    };
    if matches!(delimiter, b'"' | b'\r' | b'\n' | b' ') || !delimiter.is_ascii() {
        return Err(Failure::input(
            "delimiter",
            "a quote, space or line end can't delimit",
        ));
    }
    // A byte order mark is an artefact of how the file was saved.
    let text = input.csv.strip_prefix('\u{feff}').unwrap_or(&input.csv);
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .from_reader(text.as_bytes());

    let mut row = ByteRecord::new();
    let failed = |error: csv::Error| Failure::input("csv", error);
    if !reader.read_byte_record(&mut row).map_err(failed)? {
        return events.result(Report {
            rows: 0,
            ragged_rows: 0,
            columns: Vec::new(),
        });
    }
    if row.len() > MAX_COLUMNS {
        let problem = format!("{} columns, the limit is {MAX_COLUMNS}", row.len());
        return Err(Failure::input("csv", problem));
    }
    let mut columns = columns_of(&row, input.header);
    events.status(&format!("{} columns", columns.len()))?;

    let mut report = Report {
        rows: 0,
        ragged_rows: 0,
        columns: Vec::new(),
    };
    let mut waiting = !input.header;
    while waiting || reader.read_byte_record(&mut row).map_err(failed)? {
        waiting = false;
        report.rows += 1;
        report.ragged_rows += u64::from(row.len() != columns.len());
        for (index, column) in columns.iter_mut().enumerate() {
            let cell = row.get(index).unwrap_or_default();
            if cell.is_empty() || input.missing.iter().any(|word| word.as_bytes() == cell) {
                column.skip();
            } else {
                column.add(&String::from_utf8_lossy(cell));
            }
        }
        if report.rows.is_multiple_of(PROGRESS_ROWS) {
            events.progress(reader.position().byte(), text.len() as u64)?;
        }
    }
    report.columns = columns.into_iter().map(Column::finish).collect();
    events.result(report)
}

/// A column for each cell of the first row, named by it or by its number.
fn columns_of(first: &ByteRecord, header: bool) -> Vec<Column> {
    first
        .iter()
        .enumerate()
        .map(|(index, cell)| {
            let name = match header {
                true => String::from_utf8_lossy(cell)
                    .chars()
                    .take(MAX_NAME_CHARACTERS)
                    .collect(),
                false => format!("column_{}", index + 1),
            };
            Column::new(name, first.len())
        })
        .collect()
}

fn main() -> ExitCode {
    serve(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipelag_starter_guests::replay;
    use serde_json::{Value, json};

    fn report(input: &Value) -> Value {
        let events = replay(&input.to_string(), run);
        events
            .iter()
            .find(|event| event["type"] == "result")
            .expect("a result")["data"]
            .clone()
    }

    #[test]
    fn ragged_rows_and_missing_words_are_counted() {
        let data = report(&json!({"csv": "a,b\n1,\n2\n3,NA,x\n", "missing": ["NA"]}));
        assert_eq!(
            (&data["rows"], &data["ragged_rows"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(data["columns"][0]["mean"], 2);
        assert_eq!(data["columns"][1]["missing"], 3);
        assert_eq!(data["columns"][1]["type"], "empty");
    }

    #[test]
    fn without_a_header_the_first_row_counts() {
        let data = report(&json!({"csv": "\u{feff}1;\"x;y\"", "delimiter": ";", "header": false}));
        assert_eq!(data["rows"], 1);
        assert_eq!(data["columns"][0]["name"], "column_1");
        assert_eq!(data["columns"][1]["min"], "x;y");
    }

    #[test]
    fn a_long_file_reports_its_progress_in_bytes() {
        let csv = "n\n".to_owned() + &"7\n".repeat(45_000);
        let events = replay(&json!({ "csv": csv }).to_string(), run);
        assert_eq!(
            events[1],
            json!({"type": "progress", "step": 40_002, "total": 90_002})
        );
        assert_eq!(events[2]["step"], 80_002);
        assert_eq!(events.len(), 5);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let wide = ",".repeat(MAX_COLUMNS);
        for (input, part) in [
            (
                json!({"csv": "a", "delimiter": "ab"}),
                "delimiter: one ASCII",
            ),
            (
                json!({"csv": "a", "delimiter": "é"}),
                "delimiter: one ASCII",
            ),
            (json!({"csv": "a", "delimiter": "\""}), "delimiter: a quote"),
            (json!({"csv": wide}), "csv: 513 columns"),
            (
                json!({"csv": "", "missing": vec!["x"; 17]}),
                "missing: more than 16",
            ),
        ] {
            let events = replay(&input.to_string(), run);
            let message = events[0]["message"].as_str().expect("an error");
            assert!(message.contains(part), "{message}");
        }
    }
}
