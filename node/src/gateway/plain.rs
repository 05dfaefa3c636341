//! JSON bodies decoded, and what is wrong with them said in the words of JSON and with the field's
//! name: the decoder speaks of this program's types, which no client knows.

use super::error::{Error, Result};
use axum::Json;
use serde::de::DeserializeOwned;
use std::error::Error as _;

/// Characters of a name in an answer: it may be the client's.
const MAX_NAME_CHARS: usize = 64;
/// Characters of a reason in an answer: it may repeat what the client wrote.
const MAX_REASON_CHARS: usize = 240;

/// Decodes a body, which is a JSON object.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::malformed("the body must be a JSON object"));
    }
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) if error.is_data() => error.to_string(),
        Err(error) => return Err(Error::malformed(format!("the body is not JSON: {error}"))),
    };
    let path = path::<T>(bytes, &error);
    let text = error.rsplit_once(" at line ").map_or(&*error, |(text, _)| text);
    let (field, reason) = said(&path, text);
    Err(match field.is_empty() {
        true => Error::malformed(format!("the body: {reason}")),
        false => Error::field(&clip(&field, MAX_NAME_CHARS), reason),
    })
}

/// Where in the body `error` is, as in `scopes[1]`; empty for the body itself. Decodes again: to
/// follow the path costs, and only who made an error needs it.
fn path<T: DeserializeOwned>(bytes: &[u8], error: &str) -> String {
    let rejection = Json::<T>::from_bytes(bytes).err();
    let source = rejection.as_ref().and_then(|rejection| rejection.source());
    let text = source.map(ToString::to_string).unwrap_or_default();
    let path = text.strip_suffix(error).and_then(|text| text.strip_suffix(": "));
    path.unwrap_or_default().to_owned()
}

/// The field and what is wrong with it, of serde's words (`serde::de::Error`) about what is at
/// `path`.
fn said(path: &str, text: &str) -> (String, String) {
    let inner = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let named = |start: &str| text.strip_prefix(start)?.strip_suffix('`');
    if let Some(name) = named("missing field `") {
        return (inner(name), "it is missing".into());
    }
    if let Some(name) = named("duplicate field `") {
        return (inner(name), "it is there twice".into());
    }
    let reason = match text.rsplit_once(", expected ") {
        Some((start, expected)) if start.starts_with("unknown field `") => {
            format!("there is no such field; there is {}", choice(expected))
        }
        Some((start, expected)) if start.starts_with("unknown variant `") => {
            let found = start.trim_start_matches("unknown variant ").trim_matches('`');
            format!("`{}` is not {}", clip(found, MAX_NAME_CHARS), choice(expected))
        }
        Some((start, expected)) if start.starts_with("invalid ") => {
            format!("it must be {}", kind(expected))
        }
        _ => clip(text, MAX_REASON_CHARS),
    };
    (path.to_owned(), reason)
}

fn choice(expected: &str) -> &str {
    expected.trim_start_matches("one of ")
}

/// What JSON calls what serde expected.
fn kind(expected: &str) -> String {
    let whole = |most: &dyn std::fmt::Display| format!("a whole number from 0 to {most}");
    match expected {
        "u8" => whole(&u8::MAX),
        "u16" => whole(&u16::MAX),
        "u32" => whole(&u32::MAX),
        "u64" | "usize" => whole(&u64::MAX),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "an object".into(),
        object if object.starts_with("struct ") => "an object".into(),
        id if id.ends_with(" bytes") => "hexadecimal digits".into(),
        plain if plain.starts_with("a ") => plain.to_owned(),
        _ => "of another kind".into(),
    }
}

fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{account::NewKey, jobs::NewJob, operator::Publication},
        *,
    };
    use axum::response::IntoResponse as _;
    use futures::FutureExt as _;
    use serde_json::Value;

    /// The field and the message of the refusal.
    fn refused<T: DeserializeOwned>(body: &str) -> (String, String) {
        let response = decode::<T>(body.as_bytes()).err().expect(body).into_response();
        assert_eq!(response.status(), 400, "{body}");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).now_or_never();
        let answer: Value = serde_json::from_slice(&bytes.unwrap().unwrap()).unwrap();
        let text = |name: &str| answer["error"][name].as_str().unwrap_or_default().to_owned();
        (text("field"), text("message"))
    }

    fn check<T: DeserializeOwned>(cases: &[(&str, &str, &str)]) {
        for (body, field, says) in cases {
            let (found, message) = refused::<T>(body);
            assert_eq!(found, *field, "{body}: {message}");
            assert!(message.contains(says), "{body}: {message}");
            let leaks = ["struct", "enum", "u16", "u64", "sequence", "variant", "New", "line"];
            assert!(!leaks.iter().any(|leak| message.contains(leak)), "{body}: {message}");
        }
    }

    #[test]
    fn refusals_name_the_field_and_no_type() {
        check::<NewJob>(&[
            (r#"["text-stats", null, {}]"#, "", "JSON object"),
            ("5", "", "JSON object"),
            ("", "", "JSON object"),
            (r#"{"input": {}}"#, "workload", "missing"),
            (r#"{"workload": 5, "input": {}}"#, "workload", "a string"),
            (r#"{"workload": "x", "workload": "y"}"#, "workload", "twice"),
            (r#"{"workload": "x", "bid_percent": "9"}"#, "bid_percent", "number from 0 to 65535"),
            (r#"{"workload": "x", "bid_percent": 65536}"#, "bid_percent", "65535"),
            (r#"{"workload": "x", "bid_price": "9"}"#, "bid_price", "a JSON number"),
            (r#"{"workload": "x", "regions": "eu"}"#, "regions", "a list"),
            (r#"{"workload": "x", "regions": ["eu", 1]}"#, "regions[1]", "a string"),
            (r#"{"colour": 1}"#, "colour", "`workload`"),
        ]);
        check::<NewKey>(&[
            (r#"{"name": {}}"#, "name", "a string"),
            (r#"{"name": "x", "scopes": {}}"#, "scopes", "a list"),
            (r#"{"name": "x", "scopes": ["root"]}"#, "scopes[0]", "`root` is not `read`"),
            (r#"{"name": "x", "expires_at": "soon"}"#, "expires_at", "RFC 3339"),
            (r#"{"name": "x", "expires_at": 5}"#, "expires_at", "a string"),
        ]);
        check::<Publication>(&[
            (r#"{"manifest": []}"#, "manifest", "an object"),
            (r#"{"manifest": {}}"#, "manifest.name", "missing"),
            (r#"{"manifest": {"tags": 1}}"#, "manifest.tags", "a list"),
            (r#"{"manifest": {"version": "x"}}"#, "manifest.version", ""),
            (r#"{"manifest": {"runtime_type": "x"}}"#, "manifest.runtime_type", "`wasm`"),
        ]);
    }

    #[test]
    fn what_is_no_json_is_shown_where_and_what_is_long_is_clipped() {
        let (_, message) = refused::<NewKey>(r#"{"name": "#);
        assert!(message.contains("not JSON") && message.contains("line 1"), "{message}");
        let long = "x".repeat(100_000);
        for body in [format!(r#"{{"{long}": 1}}"#), format!(r#"{{"scopes": ["{long}"]}}"#)] {
            let (_, message) = refused::<NewKey>(&body);
            assert!(message.len() < 400 && message.contains('…'), "{} bytes", message.len());
        }
    }
}
