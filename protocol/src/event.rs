//! The JSON Lines that a Cargo prints (`SPEC.md`, "Input and output of a Cargo").
//!
//! Islands parse a Cargo's stdout with this, Consumers parse what an Island sends with it again:
//! neither is trusted to have done it.

use crate::limits::{MAX_JSON_DEPTH, MAX_LINE_BYTES, MAX_REASON_BYTES};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use thiserror::Error;

/// One line of a Cargo's output. Its JSON has a `type` field and the variant's fields.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    Status {
        message: String,
    },
    Token {
        content: String,
    },
    Progress {
        step: u64,
        total: u64,
    },
    Image {
        data: String,
        format: String,
        width: u32,
        height: u32,
    },
    Result {
        data: Box<RawValue>,
    },
    Done {
        #[serde(skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seed: Option<u64>,
    },
    Error {
        message: String,
    },
}

/// What a Cargo says it used. Any subset; `tokens` is the plain total of `cargos.txt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_tokens: Option<u64>,
}

/// Why a line is not an event. The line itself is never part of the message: output is the
/// Consumer's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("{bytes} bytes long, the limit is {MAX_LINE_BYTES}")]
    TooLong { bytes: usize },
    #[error("it has a line break inside")]
    LineBreak,
    #[error("not UTF-8")]
    NotText,
    #[error("not a JSON object: {0}")]
    NotJson(String),
    #[error("type {0:?} is none of status, token, progress, image, result, done, error")]
    UnknownType(String),
    #[error("{kind} needs the field `{field}`")]
    MissingField { kind: &'static str, field: &'static str },
    #[error("nested deeper than {MAX_JSON_DEPTH}")]
    TooDeep,
}

/// Every field that a line may have; what an event needs is checked by [`Event::parse`]. Unknown
/// fields are ignored, so that Cargos may print more than this version reads.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    message: Option<String>,
    content: Option<String>,
    step: Option<u64>,
    total: Option<u64>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    format: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    usage: Option<Usage>,
    seed: Option<u64>,
}

fn need<T>(kind: &'static str, field: &'static str, value: Option<T>) -> Result<T, Error> {
    value.ok_or(Error::MissingField { kind, field })
}

impl Event {
    /// Parses one line (without its newline; a trailing carriage return is allowed).
    ///
    /// # Errors
    /// Says what is wrong with the line, without quoting it.
    pub fn parse(line: &[u8]) -> Result<Self, Error> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_LINE_BYTES {
            return Err(Error::TooLong { bytes: line.len() });
        }
        // JSON takes them for spaces, and what is passed on as it came would no longer be one line.
        if line.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return Err(Error::LineBreak);
        }
        let text = std::str::from_utf8(line).map_err(|_| Error::NotText)?;
        if depth(text) > MAX_JSON_DEPTH {
            return Err(Error::TooDeep);
        }
        let line: Line<'_> =
            serde_json::from_str(text).map_err(|e| Error::NotJson(describe(&e)))?;
        Ok(match &*line.kind {
            "status" => Self::Status { message: need("status", "message", line.message)? },
            "token" => Self::Token { content: need("token", "content", line.content)? },
            "progress" => Self::Progress {
                step: need("progress", "step", line.step)?,
                total: need("progress", "total", line.total)?,
            },
            "image" => Self::Image {
                data: serde_json::from_str(need("image", "data", line.data)?.get())
                    .map_err(|e| Error::NotJson(describe(&e)))?,
                format: need("image", "format", line.format)?,
                width: need("image", "width", line.width)?,
                height: need("image", "height", line.height)?,
            },
            "result" => Self::Result { data: need("result", "data", line.data)?.to_owned() },
            "done" => Self::Done { usage: line.usage, seed: line.seed },
            "error" => Self::Error { message: bounded(need("error", "message", line.message)?) },
            other => return Err(Error::UnknownType(other.chars().take(32).collect())),
        })
    }

    /// The event as one JSON line without a newline.
    ///
    /// # Panics
    /// Never: every variant is JSON.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether the stream ends with this event.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Error { .. })
    }
}

/// Cuts a message to [`MAX_REASON_BYTES`], at a character.
#[must_use]
pub fn bounded(mut message: String) -> String {
    if message.len() > MAX_REASON_BYTES {
        let mut end = MAX_REASON_BYTES;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message
}

/// What the parser disliked and where, without the text around it.
fn describe(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Syntax => "syntax error",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a field is missing or has the wrong type",
        serde_json::error::Category::Io => "unreadable",
    };
    format!("{kind} at column {}", error.column())
}

/// How deep arrays and objects nest in `json`, which need not be valid.
#[must_use]
pub fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<String, Error> {
        Event::parse(text.as_bytes()).map(|e| e.to_line())
    }

    #[test]
    fn every_type_is_read_and_printed() {
        for text in [
            r#"{"type":"status","message":"m"}"#,
            r#"{"type":"token","content":"é"}"#,
            r#"{"type":"progress","step":1,"total":3}"#,
            r#"{"type":"image","data":"aGk=","format":"png","width":1,"height":2}"#,
            r#"{"type":"result","data":{"x":[1.5e300,null]}}"#,
            r#"{"type":"done"}"#,
            r#"{"type":"done","usage":{"tokens":2},"seed":42}"#,
            r#"{"type":"error","message":"no"}"#,
        ] {
            assert_eq!(line(text).as_deref(), Ok(text));
        }
        assert_eq!(line("{\"type\":\"done\",\"more\":1}\r").as_deref(), Ok(r#"{"type":"done"}"#));
    }

    #[test]
    fn what_is_not_an_event_is_refused_without_being_quoted() {
        let cases: [(&[u8], Error); 8] = [
            (b"{\"type\":\"result\",\"data\":\n{}}", Error::LineBreak),
            (b"{\"type\":\r\"done\"}", Error::LineBreak),
            (b"secret", Error::NotJson("syntax error at column 1".into())),
            (b"[1]", Error::NotJson("a field is missing or has the wrong type at column 0".into())),
            (b"{\"type\":\"dance\"}", Error::UnknownType("dance".into())),
            (b"{\"type\":\"token\"}", Error::MissingField { kind: "token", field: "content" }),
            (b"\xff", Error::NotText),
            (&[b' '; MAX_LINE_BYTES + 1], Error::TooLong { bytes: MAX_LINE_BYTES + 1 }),
        ];
        for (input, expected) in cases {
            let found = Event::parse(input).expect_err("accepted");
            match (&found, &expected) {
                (Error::NotJson(text), Error::NotJson(_)) => assert!(!text.contains("secret")),
                _ => assert_eq!(found, expected),
            }
        }
        let deep =
            format!("{{\"type\":\"result\",\"data\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(Event::parse(deep.as_bytes()).err(), Some(Error::TooDeep));
        assert!(Event::parse(br#"{"type":"result","data":"[[[["}"#).is_ok());
    }
}
