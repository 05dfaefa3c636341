//! What people and programs see: tables, JSON, spinners, texts that can't steer a terminal.

use super::exit::{Exit, Failed, Outcome};
use archipelag_protocol::text::is_hidden;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// Writes a line to stdout.
pub(crate) fn line(text: &str) -> Outcome {
    written(writeln!(io::stdout().lock(), "{text}"))
}

/// A reader that has gone, as in `archipelag … | head`, ends the command without a word.
pub(crate) fn written(result: io::Result<()>) -> Outcome {
    result.map_err(|error| {
        let gone = error.kind() == io::ErrorKind::BrokenPipe;
        let message = if gone { String::new() } else { format!("stdout: {error}") };
        Failed::new(Exit::JobFailed, message)
    })
}

/// Writes `value` as pretty JSON.
pub(crate) fn json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Failed::network(format!("the answer has no JSON form: {e}")))?;
    line(&text)
}

/// Aligned columns for people. The first row is the head.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| plain(&cell)).to_vec());
    }

    pub(crate) fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns).filter_map(width).collect();
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn print(&self) -> Outcome {
        line(&self.text())
    }
}

/// `key: value` lines, values aligned.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> Outcome {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 1;
    let lines =
        pairs.iter().map(|(key, value)| format!("{:<width$} {}", format!("{key}:"), plain(value)));
    line(&lines.collect::<Vec<_>>().join("\n"))
}

/// `text` on one line, without what a terminal would take for a command or not show.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect()
}

/// `text` for a terminal: line breaks and tabs stay, other control characters go.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Says on stderr what takes long; nothing when stderr is no terminal, or within the first second.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn start(message: impl Into<String>) -> Self {
        let bar = if io::stderr().is_terminal() {
            ProgressBar::new_spinner().with_message(message.into())
        } else {
            ProgressBar::hidden()
        };
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    pub(crate) fn message(&self, message: impl Into<String>) {
        self.0.set_message(plain(&message.into()));
    }

    /// Shows `step` of `total`.
    pub(crate) fn position(&self, step: u64, total: u64) {
        if self.0.length() != Some(total) {
            if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg}") {
                self.0.set_style(style);
            }
            self.0.set_length(total);
        }
        self.0.set_position(step);
    }

    /// Writes a line on stderr, above the bar when there is one.
    pub(crate) fn note(&self, text: &str) {
        self.0.suspend(|| eprintln!("{}", plain(text)));
    }

    /// Does `write` while the bar is out of the way.
    pub(crate) fn around<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// JSON text indented, its numbers, texts and order left as they are.
pub(crate) fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut characters = json.chars().peekable();
    let break_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = characters.next() {
        if in_string {
            out.push(c);
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while characters.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = characters.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    break_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                break_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_steer_nothing() {
        let mut table = Table::new(["NAME", "X"]);
        table.row(["ab".into(), "1".into()]);
        table.row(["löng\u{1b}[2Jer".into(), String::new()]);
        assert_eq!(table.text(), "NAME        X\nab          1\nlöng [2Jer");
        assert_eq!(harmless("a\u{1b}[31mb\n\tc\r"), "a[31mb\n\tc");
    }

    #[test]
    fn indenting_changes_nothing_but_space() {
        let text = r#"{ "b":[1e2 ,123456789012345678901234567890,[],{}],"a": "x\"{, \\" , "c":{"d":null}}"#;
        let pretty = indented(text);
        assert_eq!(
            pretty,
            "{\n  \"b\": [\n    1e2,\n    123456789012345678901234567890,\n    [],\n    {}\n  ],\n  \"a\": \"x\\\"{, \\\\\",\n  \"c\": {\n    \"d\": null\n  }\n}"
        );
        assert_eq!(indented("7"), "7");
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&pretty).unwrap(), value);
    }
}
