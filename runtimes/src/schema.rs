//! JSON Schemas of Cargos: does an input fit, does a result?
//!
//! Nodes call this when a manifest arrives, before a job is held and paid for, and on Islands
//! again. Both schema and value come from strangers, so: nothing is ever fetched; patterns run in
//! linear time; a schema can neither refer to itself nor grow without bound through `$ref`, as both
//! make the time that a check takes exponential. `format` is an annotation, as the standard has it
//! by default.
//!
//! Checking a large value takes time in proportion to its size and the schema's: callers put it on
//! the worker pool ([`crate::workers`]).

use archipelag_protocol::limits::{MAX_JSON_DEPTH, MAX_SCHEMA_BYTES};
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;
use std::{collections::BTreeMap, fmt};
use thiserror::Error;

/// Errors that one check reports at most.
pub const MAX_ERRORS: usize = 20;
const MAX_TEXT_CHARS: usize = 200;
/// Nesting of a schema with its references followed.
const MAX_DEPTH: usize = 64;
/// Parts of a schema with its references followed; [`MAX_SCHEMA_BYTES`] hold about 3,000.
const MAX_PARTS: u64 = 10_000;
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// Collecting errors may cost memory for each pair of a part of the schema and a part, or a byte,
/// of the value. Above these, an error does not say where it is.
const MAX_PAIRS: u64 = 200_000;
const MAX_PAIR_BYTES: u64 = 256 << 20;
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Why a text is not a schema that Cargos may have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("{0} bytes long, the limit is {MAX_SCHEMA_BYTES}")]
    TooLong(usize),
    #[error("not JSON: line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("$schema must be {DRAFT}")]
    Draft,
    #[error("the reference {0:?} is not of the form `#/…` to a part of this schema")]
    Reference(String),
    #[error("the reference {0:?} leads to itself, and recursion is not supported")]
    Recursive(String),
    #[error("the keyword {0} is not supported")]
    Keyword(&'static str),
    #[error("nested deeper than {MAX_DEPTH}, references followed")]
    TooDeep,
    #[error("more than {MAX_PARTS} parts, references followed")]
    TooLarge,
    #[error("not a JSON Schema: at {place}: {reason}")]
    Invalid { place: String, reason: String },
}

/// One thing that is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON pointer to the field; empty for the whole value.
    pub field: String,
    /// What is wrong, without the value itself.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "the whole" } else { &self.field };
        write!(f, "{field}: {}", self.message)
    }
}

/// A schema that is ready for use.
#[derive(Clone, Debug)]
pub struct Schema {
    validator: Validator,
    parts: u64,
}

impl Schema {
    /// # Errors
    /// What is wrong with the schema, or which bound it breaks.
    pub fn compile(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(Error::TooLong(text.len()));
        }
        let schema: Value = serde_json::from_str(text)
            .map_err(|e| Error::NotJson { line: e.line(), column: e.column() })?;
        let draft = schema.get("$schema");
        if draft.is_some_and(|draft| draft.as_str().map(|d| d.trim_end_matches('#')) != Some(DRAFT))
        {
            return Err(Error::Draft);
        }
        let parts = Bounds { root: &schema, targets: BTreeMap::new() }.parts(&schema, 0)?;
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(MAX_PATTERN_BYTES)
                    .dfa_size_limit(MAX_PATTERN_BYTES),
            )
            .offline()
            .build(&schema)
            .map(|validator| Self { validator, parts })
            .map_err(|error| Error::Invalid {
                place: short(error.instance_path().as_str()),
                reason: short(&error.masked().to_string()),
            })
    }

    /// Checks a value.
    ///
    /// # Errors
    /// What is wrong with it: at most [`MAX_ERRORS`], at least one.
    pub fn validate(&self, value: &Value) -> Result<(), Vec<FieldError>> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let (parts, bytes) = size(value);
        if parts.saturating_mul(self.parts) > MAX_PAIRS
            || bytes.saturating_mul(self.parts) > MAX_PAIR_BYTES
        {
            let message = "does not fit the schema, and is too large to say where".into();
            return Err(vec![FieldError { field: String::new(), message }]);
        }
        let errors: Vec<_> = self
            .validator
            .iter_errors(value)
            .take(MAX_ERRORS)
            .map(|error| FieldError {
                field: short(error.instance_path().as_str()),
                message: short(&error.masked().to_string()),
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Checks a JSON text.
    ///
    /// # Errors
    /// As [`Schema::validate`]; text that is not JSON is one error.
    pub fn validate_text(&self, text: &[u8]) -> Result<(), Vec<FieldError>> {
        let value: Value = serde_json::from_slice(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let message = format!(
                "not JSON, or nested deeper than {MAX_JSON_DEPTH}: line {line}, column {column}"
            );
            vec![FieldError { field: String::new(), message }]
        })?;
        self.validate(&value)
    }
}

/// Messages may name fields and patterns, whose length strangers choose.
fn short(text: &str) -> String {
    let mut chars = text.chars();
    let mut cut: String =
        chars.by_ref().take(MAX_TEXT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if chars.next().is_some() {
        cut.push('…');
    }
    cut
}

/// How many values a value has in it, and about how many bytes.
fn size(value: &Value) -> (u64, u64) {
    let inner = |sizes: (u64, u64), (more, bytes): (u64, u64)| (sizes.0 + more, sizes.1 + bytes);
    match value {
        Value::String(text) => (1, text.len() as u64),
        Value::Array(items) => items.iter().map(size).fold((1, 8), inner),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let (parts, bytes) = size(value);
                (parts, bytes + name.len() as u64)
            };
            fields.iter().map(field).fold((1, 8), inner)
        }
        _ => (1, 8),
    }
}

/// Counts the parts of a schema, references followed.
struct Bounds<'a> {
    root: &'a Value,
    /// Parts behind each reference; none while it is being followed.
    targets: BTreeMap<&'a str, Option<u64>>,
}

impl<'a> Bounds<'a> {
    /// Every object or array counts as a schema, as data in `const` or `enum` can't be told from
    /// one without knowing all keywords: too strict there, never too lenient.
    fn parts(&mut self, part: &'a Value, depth: usize) -> Result<u64, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let mut parts = 1_u64;
        let mut factor = 1;
        match part {
            Value::Object(keywords) => {
                for (keyword, value) in keywords {
                    let more = match (keyword.as_str(), value) {
                        ("$ref", Value::String(reference)) => self.reference(reference, depth)?,
                        ("$dynamicRef", Value::String(_)) => {
                            return Err(Error::Keyword("$dynamicRef"));
                        }
                        ("$recursiveRef", Value::String(_)) => {
                            return Err(Error::Keyword("$recursiveRef"));
                        }
                        // It would change what references are relative to.
                        ("$id", Value::String(_)) if depth > 0 => {
                            return Err(Error::Keyword("$id within a schema"));
                        }
                        _ => self.parts(value, depth + 1)?,
                    };
                    if matches!(keyword.as_str(), "unevaluatedProperties" | "unevaluatedItems") {
                        // Looks at everything beside it once more.
                        factor = 2;
                    }
                    parts = parts.saturating_add(more);
                }
            }
            Value::Array(items) => {
                for item in items {
                    parts = parts.saturating_add(self.parts(item, depth + 1)?);
                }
            }
            _ => {}
        }
        let parts = parts.saturating_mul(factor);
        if parts > MAX_PARTS { Err(Error::TooLarge) } else { Ok(parts) }
    }

    fn reference(&mut self, reference: &'a str, depth: usize) -> Result<u64, Error> {
        match self.targets.get(reference) {
            Some(Some(parts)) => return Ok(*parts),
            Some(None) => return Err(Error::Recursive(short(reference))),
            None => {}
        }
        let target = reference
            .strip_prefix('#')
            .filter(|pointer| pointer.is_empty() || pointer.starts_with('/'))
            .filter(|pointer| !pointer.contains('%'))
            .and_then(|pointer| self.root.pointer(pointer))
            .ok_or_else(|| Error::Reference(short(reference)))?;
        self.targets.insert(reference, None);
        let parts = self.parts(target, depth + 1)?;
        self.targets.insert(reference, Some(parts));
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, Instant};

    fn compile(schema: &Value) -> Result<Schema, Error> {
        Schema::compile(&schema.to_string())
    }

    fn errors(schema: &Value, value: &Value) -> Vec<String> {
        let errors = compile(schema).unwrap().validate(value).expect_err("accepted");
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_value_that_fits_is_accepted_and_errors_name_the_field() {
        let schema = json!({
            "$schema": DRAFT, "type": "object", "required": ["text"], "additionalProperties": false,
            "properties": {"text": {"type": "string", "maxLength": 3}, "n": {"$ref": "#/$defs/n"}},
            "$defs": {"n": {"type": "integer", "minimum": 1}},
        });
        let compiled = compile(&schema).unwrap();
        assert_eq!(compiled.validate(&json!({"text": "abc", "n": 2})), Ok(()));
        assert_eq!(compiled.validate_text(br#"{"text":"abc"}"#), Ok(()));
        assert!(
            compiled.validate_text(br#"{"text":"#).unwrap_err()[0].message.contains("not JSON")
        );
        assert_eq!(
            errors(&schema, &json!({"text": "secret"})),
            ["/text: value is longer than 3 characters"]
        );
        assert_eq!(
            errors(&schema, &json!({"text": "a", "n": 0})),
            ["/n: value is less than the minimum of 1"]
        );
        assert_eq!(errors(&schema, &json!({})), ["the whole: \"text\" is a required property"]);
    }

    #[test]
    fn errors_are_bounded_in_number_and_length() {
        let schema = json!({"additionalProperties": false, "items": {"type": "string"}});
        let many = Value::Array((0..1000).map(Value::from).collect());
        assert_eq!(errors(&schema, &many).len(), MAX_ERRORS);
        let long = json!({ "x".repeat(100_000): 1 });
        let found = errors(&schema, &long);
        assert!(found.iter().all(|error| error.chars().count() <= 2 * MAX_TEXT_CHARS), "{found:?}");
    }

    #[test]
    fn errors_in_a_value_of_many_parts_are_not_collected() {
        let schema = json!({"anyOf": [{"items": {"type": "string"}}, {"type": "null"}]});
        let many = Value::Array((0..500_000).map(Value::from).collect());
        let message = "the whole: does not fit the schema, and is too large to say where";
        assert_eq!(errors(&schema, &many), [message]);
        let text = json!({"properties": {"text": {"maxLength": 3}}});
        let message = "/text: value is longer than 3 characters";
        assert_eq!(errors(&text, &json!({"text": "x".repeat(8 << 20)})), [message]);
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        assert!(matches!(Schema::compile("{"), Err(Error::NotJson { line: 1, .. })));
        assert_eq!(
            Schema::compile(&" ".repeat(MAX_SCHEMA_BYTES + 1)).unwrap_err(),
            Error::TooLong(MAX_SCHEMA_BYTES + 1)
        );
        assert_eq!(
            compile(&json!({"$schema": "http://json-schema.org/draft-07/schema#"})).unwrap_err(),
            Error::Draft
        );
        let error = compile(&json!({"properties": {"a": {"type": "strin"}}})).unwrap_err();
        assert!(
            matches!(&error, Error::Invalid { place, .. } if place == "/properties/a/type"),
            "{error}"
        );
        let error = compile(&json!({"pattern": "("})).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }

    #[test]
    fn nothing_outside_the_schema_is_referred_to() {
        for reference in [
            "https://example.com/schema.json",
            "file:///etc/passwd",
            "other.json",
            "#anchor",
            "#/$defs/none",
            "#/%24defs/a",
            DRAFT,
        ] {
            let schema = json!({"$ref": reference, "$defs": {"a": {"$anchor": "anchor"}}});
            assert_eq!(compile(&schema).unwrap_err(), Error::Reference(reference.into()));
        }
        let schema = json!({"properties": {"a": {"$id": "https://example.com/", "$ref": "#/x"}}});
        assert_eq!(compile(&schema).unwrap_err(), Error::Keyword("$id within a schema"));
        assert_eq!(
            compile(&json!({"$dynamicRef": "#a"})).unwrap_err(),
            Error::Keyword("$dynamicRef")
        );
    }

    #[test]
    fn recursion_and_exponential_growth_are_refused() {
        assert_eq!(compile(&json!({"$ref": "#"})).unwrap_err(), Error::Recursive("#".into()));
        let mutual = json!({"$ref": "#/$defs/a", "$defs": {
            "a": {"items": {"$ref": "#/$defs/b"}}, "b": {"items": {"$ref": "#/$defs/a"}}}});
        assert!(matches!(compile(&mutual).unwrap_err(), Error::Recursive(_)));
        let mut definitions = serde_json::Map::new();
        for n in 0..30 {
            let next = json!({"$ref": format!("#/$defs/{}", n + 1)});
            definitions.insert(n.to_string(), json!({"anyOf": [next, next]}));
        }
        definitions.insert("30".into(), json!(false));
        let doubling = json!({"$ref": "#/$defs/0", "$defs": definitions});
        assert!(matches!(compile(&doubling).unwrap_err(), Error::TooLarge | Error::TooDeep));
        let deep = format!("{}true{}", r#"{"not":"#.repeat(100), "}".repeat(100));
        assert_eq!(Schema::compile(&deep).unwrap_err(), Error::TooDeep);
        let unevaluated = (0..20)
            .fold(json!({}), |inner, _| json!({"allOf": [inner], "unevaluatedProperties": false}));
        assert_eq!(compile(&unevaluated).unwrap_err(), Error::TooLarge);
    }

    #[test]
    fn patterns_take_linear_time_and_bounded_memory() {
        let schema = compile(&json!({"pattern": "^(a+)+$"})).unwrap();
        let started = Instant::now();
        assert!(schema.validate(&json!("a".repeat(50_000) + "!")).is_err());
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(compile(&json!({"pattern": "((a{1000}){1000}){1000}"})).is_err());
        assert!(
            compile(&json!({"pattern": "(a)\\1"})).is_err(),
            "back-references need backtracking"
        );
    }
}
