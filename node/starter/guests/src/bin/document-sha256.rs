//! `document-sha256`: SHA-256 of a document, and SHA-384 or SHA-512 on request.
//!
//! The document comes as `text` (its UTF-8 bytes are hashed) or as `data`
//! (base64, decoded piece by piece). It never holds a decoded copy.

use archipelag_starter_guests::{Events, Failure, MAX_TEXT_BYTES, Outcome, parse, serve};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::borrow::Cow;
use std::fmt::Write;
use std::process::ExitCode;

/// Bytes hashed at a time: a multiple of 3, so that base64 splits cleanly.
const PIECE_BYTES: usize = 48 << 10;

/// Bytes between two `progress` events.
const PROGRESS_BYTES: usize = 1 << 20;

/// Padding may be present or absent: both spellings are common.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<Cow<'a, str>>,
    #[serde(default)]
    algorithms: Vec<Algorithm>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Serialize)]
struct Digests {
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha384: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha512: Option<String>,
    size_bytes: usize,
}

/// The hashes of what came so far, and how far that is.
struct Hashing {
    sha256: Sha256,
    sha384: Option<Sha384>,
    sha512: Option<Sha512>,
    size_bytes: usize,
    total_bytes: usize,
}

impl Hashing {
    fn new(algorithms: &[Algorithm], total_bytes: usize) -> Self {
        Self {
            sha256: Sha256::new(),
            sha384: algorithms.contains(&Algorithm::Sha384).then(Sha384::new),
            sha512: algorithms.contains(&Algorithm::Sha512).then(Sha512::new),
            size_bytes: 0,
            total_bytes,
        }
    }

    fn add(&mut self, piece: &[u8], events: &mut Events<'_>) -> Outcome {
        self.sha256.update(piece);
        if let Some(sha384) = &mut self.sha384 {
            sha384.update(piece);
        }
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(piece);
        }
        let before = self.size_bytes / PROGRESS_BYTES;
        self.size_bytes += piece.len();
        let step = self.size_bytes / PROGRESS_BYTES;
        if step > before && self.total_bytes > PROGRESS_BYTES {
            let total = self.total_bytes.div_ceil(PROGRESS_BYTES);
            events.progress(step as u64, total as u64)?;
        }
        Ok(())
    }

    fn finish(self) -> Digests {
        Digests {
            sha256: hex(&self.sha256.finalize()),
            sha384: self.sha384.map(|hash| hex(&hash.finalize())),
            sha512: self.sha512.map(|hash| hex(&hash.finalize())),
            size_bytes: self.size_bytes,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn run(input: &[u8], events: &mut Events<'_>) -> Outcome {
    let input: Input<'_> = parse(input)?;
    let digests = match (&input.text, &input.data) {
        (Some(text), None) => of_text(text, &input.algorithms, events)?,
        (None, Some(data)) => of_base64(data, &input.algorithms, events)?,
        _ => return Err(Failure::input("input", "needs either `text` or `data`")),
    };
    events.result(digests)
}

fn of_text(
    text: &str,
    algorithms: &[Algorithm],
    events: &mut Events<'_>,
) -> Result<Digests, Failure> {
    fits("text", text.len())?;
    let mut hashing = Hashing::new(algorithms, text.len());
    for piece in text.as_bytes().chunks(PIECE_BYTES) {
        hashing.add(piece, events)?;
    }
    Ok(hashing.finish())
}

fn of_base64(
    data: &str,
    algorithms: &[Algorithm],
    events: &mut Events<'_>,
) -> Result<Digests, Failure> {
    let letters = data.trim_end_matches('=').len();
    let total_bytes = letters / 4 * 3 + letters % 4 * 3 / 4;
    fits("data", total_bytes)?;
    let mut hashing = Hashing::new(algorithms, total_bytes);
    let piece_letters = PIECE_BYTES / 3 * 4;
    let mut decoded = vec![0; PIECE_BYTES];
    for (number, piece) in data.as_bytes().chunks(piece_letters).enumerate() {
        let start = number * piece_letters;
        // The decoder takes padding at the end of what it is given; here only
        // the end of the document may have it.
        if start + piece.len() < letters && piece.ends_with(b"=") {
            return Err(Failure::input("data", "base64 padding before the end"));
        }
        let size = BASE64
            .decode_slice(piece, &mut decoded)
            .map_err(|error| Failure::input("data", base64_problem(start, error)))?;
        hashing.add(&decoded[..size], events)?;
    }
    Ok(hashing.finish())
}

fn base64_problem(start: usize, error: base64::DecodeSliceError) -> String {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol};
    match error {
        base64::DecodeSliceError::DecodeError(
            InvalidByte(offset, _) | InvalidLastSymbol(offset, _),
        ) => {
            format!("not base64 at character {}", start + offset)
        }
        _ => "not base64: it ends early or is padded wrongly".to_owned(),
    }
}

fn fits(field: &str, size_bytes: usize) -> Outcome {
    if size_bytes <= MAX_TEXT_BYTES {
        return Ok(());
    }
    let problem = format!("{size_bytes} bytes, the limit is {MAX_TEXT_BYTES}");
    Err(Failure::input(field, problem))
}

fn main() -> ExitCode {
    serve(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipelag_starter_guests::replay;
    use serde_json::json;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn text_and_base64_of_the_same_bytes_agree_with_the_standard() {
        let wanted = [
            json!({"type": "result", "data": {"sha256": ABC, "size_bytes": 3}}),
            json!({"type": "done"}),
        ];
        assert_eq!(replay(r#"{"text":"abc"}"#, run), wanted);
        assert_eq!(replay(r#"{"data":"YWJj"}"#, run), wanted);
    }

    #[test]
    fn a_long_document_reports_progress_and_survives_the_cuts() {
        let bytes = vec![b'a'; 2 * PROGRESS_BYTES + 5];
        let text = replay(
            &json!({"text": String::from_utf8_lossy(&bytes)}).to_string(),
            run,
        );
        let data = replay(&json!({"data": BASE64.encode(&bytes)}).to_string(), run);
        assert_eq!(text, data);
        assert_eq!(text[0], json!({"type": "progress", "step": 1, "total": 3}));
        assert_eq!(text[2]["data"]["sha256"], hex(&Sha256::digest(&bytes)));
        assert_eq!(text.len(), 4);
    }

    #[test]
    fn bad_documents_are_refused_with_the_reason() {
        // Padding exactly where two pieces meet.
        let inner = format!("{}A===QUJD", "A".repeat(PIECE_BYTES / 3 * 4 - 4));
        let long = "A".repeat(MAX_TEXT_BYTES / 3 * 4 + 8);
        for (input, part) in [
            (json!({}), "either `text` or `data`"),
            (json!({"text": "", "data": ""}), "either `text` or `data`"),
            (json!({"data": "YW*j"}), "character 2"),
            (json!({"data": "YWJjZ"}), "ends early"),
            (json!({"data": inner}), "padding before the end"),
            (json!({"data": long}), "the limit is 8388608"),
            (
                json!({"text": "", "algorithms": ["md5"]}),
                "unknown variant `md5`",
            ),
        ] {
            let events = replay(&input.to_string(), run);
            assert_eq!(events.len(), 1, "{part}");
            let message = events[0]["message"].as_str().expect("an error");
            assert!(message.contains(part), "{message}");
        }
    }
}
