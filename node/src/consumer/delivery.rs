//! What the Consumer has been given of a job's output, over all attempts at it.
//!
//! Nothing is given twice: of a later attempt as many lines are skipped as were delivered before.
//! Repeatable runs print the same lines again; when a run did not, the Consumer is told where the
//! output was joined. The last line is kept back until the Island's receipt has been checked.

use archipelag_protocol::{event::Event, id::ContentId};
use sha2::{Digest, Sha256};

/// What was delivered so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Delivered {
    lines: u64,
    /// Over these lines, each with its newline.
    hash: Sha256,
}

/// The output of one attempt.
#[derive(Debug)]
pub(super) struct Output {
    lines: u64,
    bytes: u64,
    tokens: u64,
    hash: Sha256,
    last: Option<Event>,
    /// Whether the first lines are not those that were delivered before.
    differs: bool,
}

/// What to do with a line.
#[derive(Debug)]
pub(super) enum Line {
    /// It was delivered before, or comes last and is kept back.
    Nothing,
    Deliver(Event),
    /// It follows on lines of an earlier attempt which this attempt did not repeat.
    Join(Event),
}

impl Output {
    pub(super) fn new() -> Self {
        Self { lines: 0, bytes: 0, tokens: 0, hash: Sha256::new(), last: None, differs: false }
    }

    /// Takes the next line of an attempt.
    ///
    /// # Errors
    /// What no honest Island sends.
    pub(super) fn take(
        &mut self,
        delivered: &mut Delivered,
        (sequence, line): (u64, &str),
        bytes_max: u64,
    ) -> Result<Line, String> {
        if sequence != self.lines {
            return Err(format!("output line {sequence} came where line {} was due", self.lines));
        }
        if self.last.is_some() {
            return Err(format!("output line {sequence} came after the last one"));
        }
        self.bytes = self.bytes.saturating_add(line.len() as u64 + 1);
        if self.bytes > bytes_max {
            return Err(format!("more than {bytes_max} bytes of output"));
        }
        let event =
            Event::parse(line.as_bytes()).map_err(|e| format!("output line {sequence}: {e}"))?;
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        self.lines += 1;
        if matches!(&event, Event::Token { content } if !content.is_empty()) {
            self.tokens += 1;
        }
        if event.is_last() {
            self.differs |= self.lines <= delivered.lines;
            self.last = Some(event);
            return Ok(Line::Nothing);
        }
        if self.lines <= delivered.lines {
            if self.lines == delivered.lines {
                self.differs = self.id() != id(&delivered.hash);
            }
            return Ok(Line::Nothing);
        }
        delivered.lines = self.lines;
        delivered.hash = self.hash.clone();
        Ok(if std::mem::take(&mut self.differs) { Line::Join(event) } else { Line::Deliver(event) })
    }

    /// SHA-256 over all lines of this attempt, each with its newline.
    pub(super) fn id(&self) -> ContentId {
        id(&self.hash)
    }

    /// Tokens with content that came.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// The line that came last of all, if it has come.
    pub(super) fn last(&self) -> Option<&Event> {
        self.last.as_ref()
    }

    /// Gives out the last line, and whether it must be joined to another attempt's.
    pub(super) fn take_last(&mut self) -> Option<(Event, bool)> {
        Some((self.last.take()?, self.differs))
    }
}

fn id(hash: &Sha256) -> ContentId {
    ContentId(hash.clone().finalize().into())
}

/// What the Consumer is told where outputs are joined.
pub(super) fn join_notice() -> Event {
    Event::Status {
        message: "another Island continued the output; it may differ at this point".into(),
    }
}

/// What the Consumer is told when a job waits.
pub(super) fn full_notice() -> Event {
    Event::Status { message: "every Island that can take it is full: waiting for room".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> String {
        Event::Token { content: text.into() }.to_line()
    }

    fn feed(delivered: &mut Delivered, texts: &[&str]) -> (Vec<String>, Output) {
        let (mut output, mut got) = (Output::new(), Vec::new());
        for (sequence, text) in (0..).zip(texts) {
            let line = if *text == "." { r#"{"type":"done"}"#.to_owned() } else { token(text) };
            match output.take(delivered, (sequence, &line), 1 << 20).unwrap() {
                Line::Nothing => {}
                Line::Deliver(Event::Token { content }) => got.push(content),
                Line::Join(Event::Token { content }) => got.push(format!("|{content}")),
                other => panic!("{other:?}"),
            }
        }
        (got, output)
    }

    #[test]
    fn a_repeated_output_goes_on_where_it_stopped() {
        let mut delivered = Delivered::default();
        assert_eq!(feed(&mut delivered, &["a", "b"]).0, ["a", "b"]);
        assert_eq!(feed(&mut delivered, &["a"]).0, [""; 0]);
        let (got, mut output) = feed(&mut delivered, &["a", "b", "c", "."]);
        assert_eq!(got, ["c"]);
        assert!(matches!(output.take_last(), Some((Event::Done { .. }, false))));
        assert!(output.take_last().is_none());
    }

    #[test]
    fn an_output_that_differs_is_joined_visibly_and_once() {
        let mut delivered = Delivered::default();
        feed(&mut delivered, &["a", "b"]);
        assert_eq!(feed(&mut delivered, &["a", "x", "c", "d"]).0, ["|c", "d"]);
        let (got, mut output) = feed(&mut delivered, &["a", "."]);
        assert_eq!(got, [""; 0]);
        assert!(matches!(output.take_last(), Some((_, true))));
        // The same number of lines, others than those delivered, and then the end.
        let (_, mut output) = feed(&mut delivered, &["1", "2", "3", "4", "."]);
        assert!(matches!(output.take_last(), Some((_, true))));
    }

    #[test]
    fn what_no_honest_island_sends_is_refused() {
        let mut delivered = Delivered::default();
        let mut output = Output::new();
        let mut take =
            |sequence, line: &str| output.take(&mut delivered, (sequence, line), 100).err();
        assert_eq!(take(1, "{}"), Some("output line 1 came where line 0 was due".into()));
        assert!(take(0, "{}").is_some_and(|e| e.starts_with("output line 0: not a JSON object")));
        let mut output = Output::new();
        let mut take =
            |sequence, line: &str| output.take(&mut delivered, (sequence, line), 100).err();
        assert_eq!(take(0, &token("x")), None);
        assert_eq!(take(1, &token(&"y".repeat(80))), Some("more than 100 bytes of output".into()));
        let mut output = Output::new();
        let mut take =
            |sequence, line: &str| output.take(&mut delivered, (sequence, line), 100).err();
        assert_eq!(take(0, r#"{"type":"done"}"#), None);
        assert_eq!(take(1, &token("x")), Some("output line 1 came after the last one".into()));
    }
}
