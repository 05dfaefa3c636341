//! `text-stats`: counts, frequent words, reading time and readability of a
//! text; with `stream` it also sends the text back word by word.
//!
//! Characters, words and sentences are those of Unicode (UAX #29). Streamed
//! tokens, put together, are the text itself, `repeat` times.

mod measure;

use archipelag_starter_guests::{
    Events, Failure, MAX_TEXT_BYTES, Outcome, no_longer, parse, serve, within,
};
use serde::Deserialize;
use std::borrow::Cow;
use std::process::ExitCode;

/// Tokens of one job: enough for a stream of many minutes.
const MAX_TOKENS: u64 = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(default = "ten")]
    top: u64,
    #[serde(default = "reading_speed")]
    words_per_minute: u64,
    #[serde(default)]
    stream: bool,
    repeat: Option<u64>,
}

fn ten() -> u64 {
    10
}

/// An adult who reads silently (Brysbaert 2019: 238 for English non-fiction).
fn reading_speed() -> u64 {
    238
}

fn run(input: &[u8], events: &mut Events<'_>) -> Outcome {
    let input: Input<'_> = parse(input)?;
    no_longer("text", &input.text, MAX_TEXT_BYTES)?;
    within("top", input.top, 0, 100)?;
    within("words_per_minute", input.words_per_minute, 50, 1000)?;
    let repeat = input.repeat.unwrap_or(1);
    within("repeat", repeat, 1, MAX_TOKENS)?;
    if input.stream {
        stream(&input.text, repeat, events)?;
    } else if input.repeat.is_some() {
        return Err(Failure::input(
            "repeat",
            "means something only with `stream`",
        ));
    }
    events.result(measure::measure(
        &input.text,
        input.top,
        input.words_per_minute,
    ))
}

fn stream(text: &str, repeat: u64, events: &mut Events<'_>) -> Outcome {
    let tokens = pieces(text).count() as u64 * repeat;
    if tokens > MAX_TOKENS {
        let problem = format!("{tokens} tokens in all, the limit is {MAX_TOKENS}");
        return Err(Failure::input("repeat", problem));
    }
    for _ in 0..repeat {
        for piece in pieces(text) {
            events.token(piece)?;
        }
    }
    Ok(())
}

/// The text in pieces: each a run of what is not space, with the space after
/// it. Space at the very start is a piece of its own.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let space = rest[word..]
            .find(|c: char| !c.is_whitespace())
            .unwrap_or(rest.len() - word);
        let (piece, after) = rest.split_at(word + space);
        rest = after;
        (!piece.is_empty()).then_some(piece)
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

    #[test]
    fn streamed_tokens_are_the_text_again() {
        let text = " Zoë  said:\n\u{3000}“ça va” ";
        let input = json!({"text": text, "stream": true, "repeat": 3});
        let events = replay(&input.to_string(), run);
        let tokens: Vec<&str> = events
            .iter()
            .filter_map(|e| e["content"].as_str())
            .collect();
        assert_eq!(tokens[..3], [" ", "Zoë  ", "said:\n\u{3000}"]);
        assert_eq!(tokens.concat(), text.repeat(3));
        assert_eq!(events.len(), tokens.len() + 2);
        // The figures are those of the text, once.
        assert_eq!(events[tokens.len()]["data"]["words"], 4);
    }

    #[test]
    fn an_empty_text_streams_nothing() {
        let events = replay(r#"{"text":"","stream":true,"repeat":1000000}"#, run);
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["data"]["sentences"], 0);
    }

    #[test]
    fn limits_are_named() {
        for (input, part) in [
            (
                json!({"text": "a b", "stream": true, "repeat": 500_001}),
                "1000002 tokens in all",
            ),
            (
                json!({"text": "a", "stream": true, "repeat": 0}),
                "repeat: 0 is outside",
            ),
            (json!({"text": "a", "repeat": 2}), "only with `stream`"),
            (
                json!({"text": "a", "top": 101}),
                "top: 101 is outside 0 to 100",
            ),
            (
                json!({"text": "a", "words_per_minute": 1}),
                "words_per_minute: 1",
            ),
            (
                json!({"text": "a".repeat(MAX_TEXT_BYTES + 1)}),
                "the limit is 8388608",
            ),
        ] {
            let events = replay(&input.to_string(), run);
            assert_eq!(events.len(), 1, "{part}");
            let message = events[0]["message"].as_str().expect("an error");
            assert!(message.contains(part), "{message}");
        }
    }
}
