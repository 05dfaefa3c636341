//! `regex-extract`: every match of a regular expression, with its groups.
//!
//! The engine never backtracks: a search takes time linear in the text, and
//! `limit` bounds the searches. It never returns more than [`MAX_OUTPUT_BYTES`].

use archipelag_starter_guests::{
    Events, Failure, MAX_TEXT_BYTES, Outcome, no_longer, parse, serve, within,
};
use regex_lite::{Captures, Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::process::ExitCode;

const MAX_PATTERN_BYTES: usize = 4096;
const MAX_LIMIT: u64 = 10_000;
const DEFAULT_LIMIT: u64 = 1_000;

/// Matched text returned at most, groups included.
const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// Nested groups of a pattern: enough for people, too few to exhaust a stack.
const MAX_NESTING: u32 = 64;

/// Memory that a compiled pattern may take (`a{1000}{1000}` asks for more).
const MAX_COMPILED_BYTES: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    pattern: String,
    #[serde(default)]
    flags: String,
    #[serde(default = "default_limit")]
    limit: u64,
}

fn default_limit() -> u64 {
    DEFAULT_LIMIT
}

#[derive(Serialize)]
struct Extraction<'a> {
    count: usize,
    /// More matches exist than are returned.
    truncated: bool,
    matches: Vec<Match<'a>>,
}

/// Positions count Unicode code points from the start of the text.
#[derive(Serialize)]
struct Match<'a> {
    start: usize,
    end: usize,
    text: &'a str,
    groups: Vec<Option<&'a str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    named: BTreeMap<&'a str, Option<&'a str>>,
}

fn compile(pattern: &str, flags: &str) -> Result<Regex, Failure> {
    let mut builder = RegexBuilder::new(pattern);
    builder
        .nest_limit(MAX_NESTING)
        .size_limit(MAX_COMPILED_BYTES);
    for (position, flag) in flags.char_indices() {
        if flags[..position].contains(flag) {
            return Err(Failure::input("flags", format!("`{flag}` is given twice")));
        }
        match flag {
            'i' => builder.case_insensitive(true),
            'm' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            'x' => builder.ignore_whitespace(true),
            'U' => builder.swap_greed(true),
            _ => {
                return Err(Failure::input(
                    "flags",
                    format!("`{flag}` is not one of imsxU"),
                ));
            }
        };
    }
    builder
        .build()
        .map_err(|error| Failure::input("pattern", error))
}

/// Code points before a byte offset, for offsets that only grow.
struct Position<'a> {
    text: &'a str,
    bytes: usize,
    characters: usize,
}

impl Position<'_> {
    fn of(&mut self, bytes: usize) -> usize {
        self.characters += self.text[self.bytes..bytes].chars().count();
        self.bytes = bytes;
        self.characters
    }
}

fn extract<'a>(text: &'a str, regex: &'a Regex, limit: usize) -> Extraction<'a> {
    let mut position = Position {
        text,
        bytes: 0,
        characters: 0,
    };
    let mut matches = Vec::new();
    let mut output_bytes = 0;
    let mut truncated = false;
    for captures in regex.captures_iter(text) {
        let Some(whole) = captures.get(0) else {
            continue;
        };
        output_bytes += captured_bytes(&captures);
        if matches.len() == limit || output_bytes > MAX_OUTPUT_BYTES {
            truncated = true;
            break;
        }
        let group = |group: regex_lite::Match<'a>| group.as_str();
        matches.push(Match {
            start: position.of(whole.start()),
            end: position.of(whole.end()),
            text: whole.as_str(),
            groups: captures
                .iter()
                .skip(1)
                .map(|found| found.map(group))
                .collect(),
            named: regex
                .capture_names()
                .flatten()
                .map(|name| (name, captures.name(name).map(group)))
                .collect(),
        });
    }
    Extraction {
        count: matches.len(),
        truncated,
        matches,
    }
}

/// What a match adds to the output: a group counts each time it is written,
/// and an absent one still takes a `null`.
fn captured_bytes(captures: &Captures<'_>) -> usize {
    let text: usize = captures
        .iter()
        .flatten()
        .map(|group| group.as_str().len())
        .sum();
    2 * text + 16 * captures.len()
}

fn run(input: &[u8], events: &mut Events<'_>) -> Outcome {
    let input: Input<'_> = parse(input)?;
    no_longer("text", &input.text, MAX_TEXT_BYTES)?;
    no_longer("pattern", &input.pattern, MAX_PATTERN_BYTES)?;
    within("limit", input.limit, 1, MAX_LIMIT)?;
    let regex = compile(&input.pattern, &input.flags)?;
    let limit = usize::try_from(input.limit).unwrap_or(usize::MAX);
    events.result(extract(&input.text, &regex, limit))
}

fn main() -> ExitCode {
    serve(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipelag_starter_guests::replay;
    use serde_json::{Value, json};

    fn error(input: &Value) -> String {
        let events = replay(&input.to_string(), run);
        assert_eq!(events.len(), 1);
        events[0]["message"].as_str().expect("an error").to_owned()
    }

    #[test]
    fn positions_count_code_points_and_absent_groups_are_null() {
        let input = json!({"text": "é1 ÿb", "pattern": r"(?P<digit>\d)|(b)"});
        let data = &replay(&input.to_string(), run)[0]["data"];
        assert_eq!(
            data["matches"],
            json!([
                {"start": 1, "end": 2, "text": "1", "groups": ["1", null], "named": {"digit": "1"}},
                {"start": 4, "end": 5, "text": "b", "groups": [null, "b"], "named": {"digit": null}},
            ])
        );
    }

    #[test]
    fn output_is_bounded_by_matches_and_by_bytes() {
        let input = json!({"text": "aaa", "pattern": "a", "limit": 2});
        let data = replay(&input.to_string(), run)[0]["data"].clone();
        assert_eq!(
            (&data["count"], &data["truncated"]),
            (&json!(2), &json!(true))
        );
        let exact = json!({"text": "aa", "pattern": "a", "limit": 2});
        assert_eq!(
            replay(&exact.to_string(), run)[0]["data"]["truncated"],
            false
        );
        let text = "b".repeat(MAX_OUTPUT_BYTES);
        let large = json!({"text": text, "pattern": "(b+)"});
        let data = replay(&large.to_string(), run)[0]["data"].clone();
        assert_eq!(
            (&data["count"], &data["truncated"]),
            (&json!(0), &json!(true))
        );
    }

    #[test]
    fn hostile_patterns_are_refused() {
        let nested = format!("{}a{}", "(".repeat(65), ")".repeat(65));
        for (pattern, flags) in [
            ("(", ""),
            ("a{1000}{1000}{1000}", ""),
            (nested.as_str(), ""),
        ] {
            let message = error(&json!({"text": "", "pattern": pattern, "flags": flags}));
            assert!(message.starts_with("pattern: "), "{message}");
        }
        assert!(error(&json!({"text": "", "pattern": "a", "flags": "g"})).contains("imsxU"));
        assert!(error(&json!({"text": "", "pattern": "a", "flags": "ii"})).contains("twice"));
        assert!(error(&json!({"text": "", "pattern": "a", "limit": 0})).contains("1 to 10000"));
    }
}
