//! `json-query`: selects from a JSON document with JMESPath, and gives what
//! was selected another shape.
//!
//! `query` picks; `reshape`, a template whose strings are queries, is filled
//! once per element of a selected list, else once. It never returns more than
//! [`MAX_RESULT_BYTES`] or deeper nesting than [`MAX_RESULT_DEPTH`].

use archipelag_starter_guests::{Events, Failure, Outcome, no_longer, parse, serve};
use jmespath::ast::Ast;
use jmespath::{Context, DEFAULT_RUNTIME, Rcvar, Variable, interpret};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

const MAX_QUERY_BYTES: usize = 2048;

/// Operators, dots and brackets nested in one another: the parser and the
/// interpreter call themselves for each, on a stack of 512 KiB.
const MAX_QUERY_NESTING: usize = 96;

/// A document takes up to 40 times its text in memory, 10 times as a rule: this
/// fits in the 192 MiB that `cargo.toml` asks for.
const MAX_DOCUMENT_BYTES: usize = 4 << 20;

const MAX_RESULT_BYTES: usize = 4 << 20;

/// JSON readers commonly stop at 128 levels; the event around it takes some.
const MAX_RESULT_DEPTH: usize = 100;

const MAX_TEMPLATE_QUERIES: usize = 256;
const MAX_TEMPLATE_DEPTH: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    #[serde(borrow)]
    document: &'a RawValue,
    query: String,
    reshape: Option<Map<String, Value>>,
}

#[derive(Serialize)]
struct Selection<'a> {
    /// The JSON type of `value`.
    r#type: &'static str,
    /// Elements of a list, members of an object, 1 for others, 0 for null.
    count: usize,
    value: &'a RawValue,
}

struct Query {
    expression: String,
    ast: Ast,
}

impl Query {
    fn compile(field: &str, expression: &str) -> Result<Self, Failure> {
        no_longer(field, expression, MAX_QUERY_BYTES)?;
        if nesting(expression) > MAX_QUERY_NESTING {
            let problem = format!("more than {MAX_QUERY_NESTING} nested operators");
            return Err(Failure::input(field, problem));
        }
        let ast = jmespath::parse(expression).map_err(|error| located(field, &error))?;
        Ok(Self {
            expression: expression.to_owned(),
            ast,
        })
    }

    fn select(&self, field: &str, from: &Rcvar) -> Result<Rcvar, Failure> {
        let mut context = Context::new(&self.expression, &DEFAULT_RUNTIME);
        interpret(from, &self.ast, &mut context).map_err(|error| located(field, &error))
    }
}

/// The reason on one line; the error's own text draws an arrow over several.
fn located(field: &str, error: &jmespath::JmespathError) -> Failure {
    Failure::input(
        field,
        format!("{} (at character {})", error.reason, error.offset),
    )
}

/// An upper bound of how deep the parser and the interpreter get: what follows
/// an operator, a dot or a bracket is nested in it, until a comma or the
/// bracket's end. Quoted text counts for nothing.
fn nesting(expression: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut outer = Vec::new();
    let mut quote = None;
    let mut bytes = expression.bytes();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => {
                let _ = bytes.next();
            }
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"' | b'`') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => {
                depth += 1;
                outer.push(depth);
            }
            (None, b')' | b']' | b'}') => depth = outer.pop().unwrap_or(depth),
            (None, b',') => depth = outer.last().copied().unwrap_or(depth),
            (None, b'.' | b'!' | b'&' | b'|' | b'<' | b'>' | b'=' | b'*') => depth += 1,
            (None, _) => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// A `reshape` template with its queries compiled.
enum Template {
    Query(Query),
    Object(Vec<(String, Template)>),
    List(Vec<Template>),
    Constant(Rcvar),
}

impl Template {
    fn compile(template: Value, depth: usize, queries: &mut usize) -> Result<Self, Failure> {
        if depth > MAX_TEMPLATE_DEPTH {
            let problem = format!("deeper than {MAX_TEMPLATE_DEPTH} levels");
            return Err(Failure::input("reshape", problem));
        }
        Ok(match template {
            Value::String(expression) => {
                *queries += 1;
                if *queries > MAX_TEMPLATE_QUERIES {
                    let problem = format!("more than {MAX_TEMPLATE_QUERIES} queries");
                    return Err(Failure::input("reshape", problem));
                }
                Self::Query(Query::compile("reshape", &expression)?)
            }
            Value::Object(members) => Self::Object(
                members
                    .into_iter()
                    .map(|(name, part)| Ok((name, Self::compile(part, depth + 1, queries)?)))
                    .collect::<Result<_, Failure>>()?,
            ),
            Value::Array(parts) => Self::List(
                parts
                    .into_iter()
                    .map(|part| Self::compile(part, depth + 1, queries))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Null => Self::Constant(Rcvar::new(Variable::Null)),
            Value::Bool(value) => Self::Constant(Rcvar::new(Variable::Bool(value))),
            Value::Number(value) => Self::Constant(Rcvar::new(Variable::Number(value))),
        })
    }

    fn fill(&self, from: &Rcvar) -> Result<Rcvar, Failure> {
        Ok(match self {
            Self::Query(query) => query.select("reshape", from)?,
            Self::Constant(value) => value.clone(),
            Self::Object(members) => Rcvar::new(Variable::Object(
                members
                    .iter()
                    .map(|(name, part)| Ok((name.clone(), part.fill(from)?)))
                    .collect::<Result<BTreeMap<_, _>, Failure>>()?,
            )),
            Self::List(parts) => Rcvar::new(Variable::Array(
                parts
                    .iter()
                    .map(|part| part.fill(from))
                    .collect::<Result<_, _>>()?,
            )),
        })
    }
}

fn reshape(template: Map<String, Value>, selected: &Rcvar) -> Result<Rcvar, Failure> {
    let template = Template::compile(Value::Object(template), 1, &mut 0)?;
    match selected.as_array() {
        Some(elements) => {
            let filled = elements.iter().map(|element| template.fill(element));
            Ok(Rcvar::new(Variable::Array(
                filled.collect::<Result<_, _>>()?,
            )))
        }
        None if selected.is_null() => Ok(selected.clone()),
        None => template.fill(selected),
    }
}

/// JSON text that refuses to outgrow its limits. A short query can select a
/// part so often that the text would fill any memory: `[@,@]|[@,@]|…`.
#[derive(Default)]
struct Bounded {
    json: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.json.len() + bytes.len() > MAX_RESULT_BYTES {
            return Err(io::Error::other(format!(
                "larger than {MAX_RESULT_BYTES} bytes"
            )));
        }
        for &byte in bytes {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'[' | b'{' if !self.in_string => self.depth += 1,
                b']' | b'}' if !self.in_string => self.depth -= 1,
                _ => {}
            }
        }
        if self.depth > MAX_RESULT_DEPTH {
            return Err(io::Error::other(format!(
                "deeper than {MAX_RESULT_DEPTH} levels"
            )));
        }
        self.json.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run(input: &[u8], events: &mut Events<'_>) -> Outcome {
    let input: Input<'_> = parse(input)?;
    no_longer("document", input.document.get(), MAX_DOCUMENT_BYTES)?;
    let query = Query::compile("query", &input.query)?;
    let document = serde_json::from_str::<Variable>(input.document.get())
        .map_err(|error| Failure::input("document", error))?;
    let mut selected = query.select("query", &Rcvar::new(document))?;
    if let Some(template) = input.reshape {
        selected = reshape(template, &selected)?;
    }
    let (kind, count) = match &*selected {
        Variable::Null => ("null", 0),
        Variable::Bool(_) => ("boolean", 1),
        Variable::Number(_) => ("number", 1),
        Variable::String(_) => ("string", 1),
        Variable::Array(elements) => ("array", elements.len()),
        Variable::Object(members) => ("object", members.len()),
        Variable::Expref(_) => return Err(Failure::input("query", "selects an expression")),
    };
    let mut text = Bounded::default();
    serde_json::to_writer(&mut text, &*selected)
        .map_err(|error| Failure::input("query", format!("the result is {error}")))?;
    let value: &RawValue = parse(&text.json)?;
    events.result(Selection {
        r#type: kind,
        count,
        value,
    })
}

fn main() -> ExitCode {
    serve(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipelag_starter_guests::replay;
    use serde_json::json;

    fn first(input: &Value) -> Value {
        replay(&input.to_string(), run).swap_remove(0)
    }

    #[test]
    fn a_template_is_filled_for_each_element() {
        let event = first(&json!({
            "document": {"people": [{"n": "Zoë", "a": [1, 2]}, {"n": "Al", "a": []}], "x": 1},
            "query": "people",
            "reshape": {"name": "n", "stats": {"ages": "length(a)", "list": ["a[0]", 7]}},
        }));
        assert_eq!(
            event["data"],
            json!({"type": "array", "count": 2, "value": [
                {"name": "Zoë", "stats": {"ages": 2, "list": [1, 7]}},
                {"name": "Al", "stats": {"ages": 0, "list": [null, 7]}},
            ]})
        );
    }

    #[test]
    fn results_are_bounded_in_size_and_depth() {
        let doubling = vec!["[@,@]"; 30].join("|");
        let wrapping = vec!["[@]"; 30].join("|");
        let deep = (0..80).fold(json!(1), |inner, _| json!([inner]));
        for (document, query, part) in [
            (json!(1), doubling, "larger than 4194304"),
            (deep, wrapping, "deeper than 100"),
        ] {
            let event = first(&json!({"document": document, "query": query}));
            let message = event["message"].as_str().expect("an error");
            assert!(message.contains(part), "{message}");
        }
        // Brackets inside strings are not nesting.
        let text = format!("\"\\{}", "[".repeat(200));
        assert_eq!(
            first(&json!({"document": text, "query": "@"}))["data"]["value"],
            text
        );
    }

    #[test]
    fn nesting_counts_what_is_inside_something_else() {
        for (expression, depth) in [
            ("a", 0),
            ("{x: a.b, y: c.d}", 2),
            ("a[][]", 2),
            ("a[?b == '....']", 3),
            ("a || \"\\\"!!!!\"", 2),
            ("!!a", 2),
            (")]", 0),
        ] {
            assert_eq!(nesting(expression), depth, "{expression}");
        }
    }

    #[test]
    fn hostile_input_is_refused_with_the_field() {
        let nested = format!("{}a{}", "(".repeat(97), ")".repeat(97));
        let deep = (0..9).fold(json!("a"), |inner, _| json!({ "a": inner }));
        let many = vec!["a"; 257];
        for (query, template, part) in [
            ("a[", None, "query: Parse error"),
            (nested.as_str(), None, "query: more than 96 nested"),
            (&"!".repeat(2000), None, "query: more than 96 nested"),
            (&"a".repeat(2049), None, "query: 2049 bytes"),
            ("nope(@)", None, "undefined function nope"),
            ("&a", None, "selects an expression"),
            ("@", Some(deep), "reshape: deeper than 8"),
            ("@", Some(json!({ "a": many })), "reshape: more than 256"),
            ("@", Some(json!({"a": "b c"})), "reshape: Parse error"),
            ("@", Some(json!("a")), "expected a map"),
        ] {
            let event = first(&json!({"document": {}, "query": query, "reshape": template}));
            let message = event["message"].as_str().expect("an error");
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
