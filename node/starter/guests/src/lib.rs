//! What the starter Cargos share: reading one JSON object from stdin, and
//! writing JSON Lines to stdout (SPEC.md, "Input and output of a Cargo").
//!
//! Called by every program under `src/bin`. It never reads a clock, draws a
//! random number or iterates a hash table: the same input gives the same lines.

#[cfg(target_os = "wasi")]
mod memory;

use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// The longest input read from stdin, in bytes. It leaves room for a document
/// of [`MAX_TEXT_BYTES`] in base64, or with escapes here and there.
pub const MAX_INPUT_BYTES: usize = 12 << 20;

/// The longest text or document that a Cargo takes, in bytes.
pub const MAX_TEXT_BYTES: usize = 8 << 20;

/// Why a Cargo stopped before `done`.
#[derive(Debug)]
pub enum Failure {
    /// The input can't be used: becomes the one `error` event.
    Input(String),
    /// Nobody reads stdout any more: there is no one left to tell.
    Output(io::Error),
}

impl Failure {
    /// The input's fault, with the field that is wrong.
    pub fn input(field: &str, problem: impl Display) -> Self {
        Self::Input(format!("{field}: {problem}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// How a Cargo's work ends.
pub type Outcome = Result<(), Failure>;

/// One line of output. `done` and `error` are written by [`answer`] alone, so
/// that a stream has exactly one of them.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Event<'a, D: Serialize> {
    Status { message: &'a str },
    Token { content: &'a str },
    Progress { step: u64, total: u64 },
    Result { data: D },
    Done,
    Error { message: &'a str },
}

/// The stream of events. Each line is flushed: a reader sees it at once.
pub struct Events<'a> {
    sink: &'a mut dyn Write,
}

impl Events<'_> {
    fn write<D: Serialize>(&mut self, event: &Event<'_, D>) -> Outcome {
        let mut line = serde_json::to_vec(event).map_err(io::Error::from)?;
        line.push(b'\n');
        self.sink.write_all(&line)?;
        Ok(self.sink.flush()?)
    }

    /// What is going on, for a person.
    pub fn status(&mut self, message: &str) -> Outcome {
        self.write::<()>(&Event::Status { message })
    }

    /// A piece of streamed text.
    pub fn token(&mut self, content: &str) -> Outcome {
        self.write::<()>(&Event::Token { content })
    }

    /// `step` of `total` is done.
    pub fn progress(&mut self, step: u64, total: u64) -> Outcome {
        self.write::<()>(&Event::Progress { step, total })
    }

    /// The result, as the output schema describes it.
    pub fn result(&mut self, data: impl Serialize) -> Outcome {
        self.write(&Event::Result { data })
    }
}

/// The program around a Cargo: stdin to `cargo`, its events to stdout.
///
/// Bad input ends with an `error` event and exit status 0, for the event says
/// it all; a status of 1 means that stdin or stdout broke.
pub fn serve(cargo: impl FnOnce(&[u8], &mut Events<'_>) -> Outcome) -> ExitCode {
    let mut input = Vec::new();
    let most = MAX_INPUT_BYTES as u64 + 1;
    let read = io::stdin().lock().take(most).read_to_end(&mut input);
    let mut stdout = io::stdout().lock();
    match read.and_then(|_| answer(&input, &mut stdout, cargo)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stdin or stdout: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `cargo` on `input` and ends the stream with one `done` or `error`.
/// Apart from [`serve`], unit tests call it.
pub fn answer(
    input: &[u8],
    sink: &mut dyn Write,
    cargo: impl FnOnce(&[u8], &mut Events<'_>) -> Outcome,
) -> io::Result<()> {
    let mut events = Events { sink };
    let outcome = if input.len() > MAX_INPUT_BYTES {
        let problem = format!("longer than the limit of {MAX_INPUT_BYTES} bytes");
        Err(Failure::input("input", problem))
    } else if !input.trim_ascii_start().starts_with(b"{") {
        // A list would otherwise fill the fields of a struct by position.
        Err(Failure::input("input", "one JSON object is expected"))
    } else {
        cargo(input, &mut events)
    };
    let closed = match outcome {
        Ok(()) => events.write::<()>(&Event::Done),
        Err(Failure::Input(message)) => events.write::<()>(&Event::Error { message: &message }),
        Err(broken) => Err(broken),
    };
    match closed {
        Ok(()) => Ok(()),
        Err(Failure::Output(error)) => Err(error),
        Err(Failure::Input(message)) => Err(io::Error::other(message)),
    }
}

/// The input as the type that a Cargo expects.
pub fn parse<'a, T: Deserialize<'a>>(input: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(input).map_err(|error| Failure::input("input", error))
}

/// Refuses a number outside `least..=most`.
pub fn within(field: &str, value: u64, least: u64, most: u64) -> Outcome {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Failure::input(
        field,
        format!("{value} is outside {least} to {most}"),
    ))
}

/// Refuses a text of more than `most` bytes.
pub fn no_longer(field: &str, text: &str, most: usize) -> Outcome {
    if text.len() <= most {
        return Ok(());
    }
    let problem = format!("{} bytes, the limit is {most}", text.len());
    Err(Failure::input(field, problem))
}

/// A number of JSON: integers stay integers, so that 3 is not written 3.0.
/// Values that JSON can't express (NaN, infinities) become null.
pub fn number(value: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "integral and at most 2^53 in size"
        )]
        let integer = value as i64;
        return integer.into();
    }
    value.into()
}

/// The events that `cargo` answers with, for unit tests of the programs.
///
/// # Panics
/// When the output is not JSON Lines.
pub fn replay(
    input: &str,
    cargo: impl FnOnce(&[u8], &mut Events<'_>) -> Outcome,
) -> Vec<serde_json::Value> {
    let mut lines = Vec::new();
    answer(input.as_bytes(), &mut lines, cargo).expect("a vector takes every write");
    String::from_utf8(lines)
        .expect("JSON is UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Greeting {
        name: String,
    }

    fn greet(input: &[u8], events: &mut Events<'_>) -> Outcome {
        let Greeting { name } = parse(input)?;
        events.status("greeting")?;
        events.token(&name)?;
        events.progress(1, 2)?;
        events.result(json!({ "greeting": format!("hello {name}") }))
    }

    #[test]
    fn a_stream_has_each_event_in_the_shape_of_the_specification() {
        assert_eq!(
            replay(r#"{"name":"Zoë"}"#, greet),
            [
                json!({"type": "status", "message": "greeting"}),
                json!({"type": "token", "content": "Zoë"}),
                json!({"type": "progress", "step": 1, "total": 2}),
                json!({"type": "result", "data": {"greeting": "hello Zoë"}}),
                json!({"type": "done"}),
            ]
        );
    }

    #[test]
    fn bad_input_ends_with_one_error() {
        let long = " ".repeat(MAX_INPUT_BYTES + 1);
        for (input, part) in [
            ("", "one JSON object"),
            (" \n", "one JSON object"),
            (r#"["a"]"#, "one JSON object"),
            (long.as_str(), "limit of 12582912 bytes"),
            (r#"{"name":"a""#, "EOF"),
            ("{}", "missing field `name`"),
            (r#"{"name":1}"#, "expected a string"),
            (r#"{"name":"a","nom":"b"}"#, "unknown field `nom`"),
            ("{\"name\":\"\u{1}\"}", "control character"),
        ] {
            let events = replay(input, greet);
            assert_eq!(events.len(), 1, "{part}");
            assert_eq!(events[0]["type"], "error");
            let message = events[0]["message"].as_str().expect("a message");
            assert!(
                message.starts_with("input: ") && message.contains(part),
                "{message}"
            );
        }
        assert!(answer(b"{\"name\":\"\xff\"}", &mut Vec::new(), greet).is_ok());
    }

    #[test]
    fn a_closed_stdout_is_reported_to_the_caller() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let closed = answer(br#"{"name":"a"}"#, &mut Closed, greet);
        assert_eq!(
            closed.map_err(|error| error.kind()),
            Err(io::ErrorKind::BrokenPipe)
        );
    }

    #[test]
    fn integers_stay_integers() {
        assert_eq!(number(3.0).to_string(), "3");
        assert_eq!(number(-2.5).to_string(), "-2.5");
        assert_eq!(number(f64::NAN), serde_json::Value::Null);
    }
}
