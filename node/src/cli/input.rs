//! The input of a job from the command line: `--input` and `--file`.

use super::exit::{Failed, Outcome};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use std::io::Read as _;

/// What is read of stdin or a file; the network's own limit is lower or equal.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Input {
    /// The input: a JSON object, @FILE with one, or - for stdin
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub(crate) input: Option<String>,
    /// Puts a file into an input field: as base64 where the schema says so, else as text
    #[arg(long = "file", value_name = "FIELD=PATH")]
    pub(crate) files: Vec<String>,
}

impl Input {
    /// Puts the input together. `schema` is the Cargo's input schema, as JSON text.
    pub(crate) fn read(&self, schema: &str) -> Outcome<Value> {
        let mut input = self.object()?;
        let schema: Value = serde_json::from_str(schema).unwrap_or_default();
        for file in &self.files {
            let Some((field, path)) = file.split_once('=').filter(|(field, _)| !field.is_empty())
            else {
                return Err(Failed::usage(format!("--file {file}: write FIELD=PATH")));
            };
            if input.contains_key(field) {
                return Err(Failed::usage(format!("input field `{field}` is given twice")));
            }
            let bytes = read_file(path)?;
            let text = if is_base64(&schema, field) {
                STANDARD.encode(bytes)
            } else {
                String::from_utf8(bytes).map_err(|_| {
                    let hint = base64_fields(&schema);
                    Failed::usage(format!(
                        "--file {file}: the file is not UTF-8 text, and field `{field}` takes text{hint}"
                    ))
                })?
            };
            input.insert(field.to_owned(), text.into());
        }
        Ok(Value::Object(input))
    }

    fn object(&self) -> Outcome<Map<String, Value>> {
        let text = match self.input.as_deref() {
            None => return Ok(Map::new()),
            Some("-") => text("stdin", read_limited("stdin", std::io::stdin().lock())?)?,
            Some(input) => match input.strip_prefix('@') {
                Some(path) => text(path, read_file(path)?)?,
                None => input.to_owned(),
            },
        };
        match serde_json::from_str(&text) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => {
                Err(Failed::usage("--input: a JSON object is needed, such as '{\"text\": \"hi\"}'"))
            }
            Err(error) => Err(Failed::usage(format!("--input: not JSON: {error}"))),
        }
    }
}

fn read_file(path: &str) -> Outcome<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|e| Failed::usage(format!("{path}: {e}")))?;
    read_limited(path, file)
}

fn read_limited(name: &str, reader: impl std::io::Read) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| Failed::usage(format!("{name}: {e}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failed::refused(format!("{name}: longer than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

fn text(name: &str, bytes: Vec<u8>) -> Outcome<String> {
    String::from_utf8(bytes).map_err(|_| Failed::usage(format!("{name}: not UTF-8")))
}

fn is_base64(schema: &Value, field: &str) -> bool {
    schema["properties"][field]["contentEncoding"] == "base64"
}

/// Says which fields take bytes, if any.
fn base64_fields(schema: &Value) -> String {
    let fields: Vec<&str> = schema["properties"]
        .as_object()
        .map(|fields| fields.keys().filter(|f| is_base64(schema, f)).map(String::as_str).collect())
        .unwrap_or_default();
    if fields.is_empty() {
        return String::new();
    }
    format!("; fields for any file: {}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str =
        r#"{"properties":{"data":{"type":"string","contentEncoding":"base64"},"text":{}}}"#;

    fn input(input: Option<&str>, files: &[String]) -> Input {
        Input { input: input.map(str::to_owned), files: files.to_vec() }
    }

    #[test]
    fn files_go_in_as_the_schema_asks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bytes");
        std::fs::write(&path, [0, 0xff]).unwrap();
        let (data, text) = (format!("data={}", path.display()), format!("text={}", path.display()));
        let read = input(Some(r#"{"n":1}"#), std::slice::from_ref(&data)).read(SCHEMA).unwrap();
        assert_eq!(read, serde_json::json!({ "n": 1, "data": "AP8=" }));
        let refused = input(None, std::slice::from_ref(&text)).read(SCHEMA).unwrap_err().message;
        assert!(refused.contains("`text`") && refused.contains("data"), "{refused}");
        std::fs::write(&path, "é").unwrap();
        let read = input(None, &[text]).read(SCHEMA).unwrap();
        assert_eq!(read, serde_json::json!({ "text": "é" }));
        let twice = input(Some(r#"{"data":""}"#), &[data]).read(SCHEMA).unwrap_err();
        assert!(twice.message.contains("twice"));
    }

    #[test]
    fn what_is_no_object_is_a_usage_error() {
        for bad in ["[1]", "{", "@/no/such/file", ""] {
            let refused = input(Some(bad), &[]).read(SCHEMA).unwrap_err();
            assert_eq!(refused.exit, super::super::exit::Exit::Usage, "{bad}");
        }
        for bad in ["x", "=x", "a=/no/such/file"] {
            assert!(input(None, &[bad.to_owned()]).read(SCHEMA).is_err(), "{bad}");
        }
    }
}
