//! A job's events on the terminal: what the Cargo says on stdout, everything else on stderr.

use super::{
    exit::Outcome,
    output::{Progress, harmless, indented, plain, written},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// The fields of a stream event that are shown (`API.md`, "Stream events").
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: String,
    content: Option<String>,
    message: Option<String>,
    error: Option<String>,
    step: Option<u64>,
    total: Option<u64>,
    format: Option<String>,
    width: Option<u64>,
    height: Option<u64>,
    status: Option<String>,
    host_id: Option<String>,
    attempt: Option<u64>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Prints events as they come.
pub(crate) struct Printer {
    /// Each event as one JSON line, and nothing else.
    json: bool,
    /// Whether a person's terminal reads what is printed.
    terminal: bool,
    progress: Progress,
    out: BufWriter<Stdout>,
    in_line: bool,
    ended: bool,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            terminal: io::stdout().is_terminal(),
            progress: Progress::start("waiting for an Island"),
            out: BufWriter::new(io::stdout()),
            in_line: false,
            ended: false,
        }
    }

    /// Whether `done` or `error` has been printed.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Prints one event, given as its JSON line. [`Printer::flush`] makes it visible.
    pub(crate) fn event(&mut self, line: &str) -> Outcome {
        let Ok(event) = serde_json::from_str::<Event<'_>>(line) else {
            self.note("an event that this version can't read was left out");
            return Ok(());
        };
        self.ended |= matches!(event.kind.as_str(), "done" | "error");
        if self.json {
            return written(writeln!(self.out, "{line}"));
        }
        match event.kind.as_str() {
            "token" => self.token(&event.content.unwrap_or_default()),
            "status" => {
                let message = event.message.unwrap_or_default();
                match (event.host_id, event.attempt) {
                    (Some(host), attempt) => self.running(&host, attempt),
                    (None, _) => self.note(&message),
                }
                Ok(())
            }
            "progress" => {
                self.progress.position(event.step.unwrap_or(0), event.total.unwrap_or(0));
                Ok(())
            }
            "result" => {
                let text = event.data.map_or_else(|| "null".into(), |data| indented(data.get()));
                let text = if self.terminal { harmless(&text) } else { text };
                self.end_line()?;
                let out = &mut self.out;
                self.progress.around(|| written(writeln!(out, "{text}").and_then(|()| out.flush())))
            }
            "image" => {
                let (width, height) = (event.width.unwrap_or(0), event.height.unwrap_or(0));
                let format = event.format.unwrap_or_default();
                self.note(&format!("image: {format}, {width} × {height}; --json prints its data"));
                Ok(())
            }
            "error" => {
                let reason = event.error.or(event.message).unwrap_or_default();
                let status = event.status.unwrap_or_else(|| "failed".into());
                self.end_line()?;
                self.note(&format!("{status}: {reason}"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn token(&mut self, content: &str) -> Outcome {
        let Some(last) = content.chars().last() else { return Ok(()) };
        let content = if self.terminal { harmless(content) } else { content.to_owned() };
        self.in_line = last != '\n';
        written(self.out.write_all(content.as_bytes()))
    }

    fn running(&mut self, host: &str, attempt: Option<u64>) {
        let host: String = host.chars().take(8).collect();
        let text = match attempt {
            Some(attempt) if attempt > 0 => format!("running on {host} (attempt {})", attempt + 1),
            _ => format!("running on {host}"),
        };
        self.progress.message(text.clone());
        if attempt.is_some_and(|attempt| attempt > 0) {
            self.note(&text);
        }
    }

    fn end_line(&mut self) -> Outcome {
        if std::mem::take(&mut self.in_line) {
            written(writeln!(self.out))?;
        }
        self.flush()
    }

    /// A line on stderr.
    pub(crate) fn note(&mut self, text: &str) {
        self.progress.note(&plain(text));
    }

    /// Makes visible what was printed.
    pub(crate) fn flush(&mut self) -> Outcome {
        let out = &mut self.out;
        self.progress.around(|| written(out.flush()))
    }

    /// Ends the last line.
    pub(crate) fn finish(mut self) -> Outcome {
        if self.json { self.flush() } else { self.end_line() }
    }
}
