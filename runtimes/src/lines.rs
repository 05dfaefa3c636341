//! From a Cargo's stdout to events and a verdict (`SPEC.md`, "Input and output of a Cargo" and
//! "Promises about a job").
//!
//! Every runtime feeds the bytes that its Cargo prints into one [`Lines`] and ends it with how the
//! Cargo exited. This does no I/O and holds at most one line.

use archipelag_protocol::{
    event::{self, Event, Usage},
    job::{Failure, Step},
    limits::MAX_LINE_BYTES,
    payment::Verdict,
};

/// Reads one execution's stdout. However the bytes are cut into pieces, the result is the same.
#[derive(Debug)]
pub struct Lines {
    /// The start of a line whose end has not come; with room for a carriage return.
    partial: Vec<u8>,
    /// Lines that are complete.
    complete: u64,
    bytes: u64,
    bytes_max: u64,
    /// `done` or `error`, which is withheld until the Cargo has ended.
    last: Option<Event>,
    broken: Option<Failure>,
}

/// How a Cargo stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// A trap, a limit or the runtime itself ended it.
    Stopped(Failure),
}

/// What an execution comes to.
#[derive(Clone, Debug)]
pub struct End {
    /// What is still to be sent: a last line without a newline, and `done` or `error`.
    pub events: Vec<Event>,
    pub verdict: Verdict,
    /// Present unless completed.
    pub failure: Option<Failure>,
    /// What the Cargo claims in its `done`.
    pub usage: Option<Usage>,
}

impl Lines {
    /// `bytes_max` is for everything that is printed, newlines included.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { partial: Vec::new(), complete: 0, bytes: 0, bytes_max, last: None, broken: None }
    }

    /// Takes the next bytes and appends the events that they complete to `events`.
    ///
    /// # Errors
    /// The first breach of protocol or limit; the Cargo is then to be stopped. Events before it
    /// have been appended. Every later call gives the same failure.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Failure> {
        if let Some(failure) = &self.broken {
            return Err(failure.clone());
        }
        let taken = self.take(bytes, events);
        if let Err(failure) = &taken {
            self.broken = Some(failure.clone());
            self.partial = Vec::new();
        }
        taken
    }

    fn take(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Failure> {
        let room = usize::try_from(self.bytes_max - self.bytes).unwrap_or(usize::MAX);
        let allowed = &bytes[..bytes.len().min(room)];
        self.bytes += allowed.len() as u64;
        for piece in allowed.split_inclusive(|byte| *byte == b'\n') {
            self.piece(piece, events)?;
        }
        if allowed.len() < bytes.len() {
            let message = format!("output: more than {} bytes", self.bytes_max);
            return Err(Failure::new(Step::Limit, message));
        }
        Ok(())
    }

    /// Takes a part of one line, with its newline when it is the line's end.
    fn piece(&mut self, piece: &[u8], events: &mut Vec<Event>) -> Result<(), Failure> {
        if let Some(last) = &self.last {
            return Err(self.broken_line(format!("output after `{}`", name(last))));
        }
        let (piece, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |line| (line, true));
        if self.partial.len() + piece.len() > MAX_LINE_BYTES + 1 {
            return Err(self.too_long());
        }
        if !ends {
            self.partial.extend_from_slice(piece);
        } else if self.partial.is_empty() {
            self.line(piece, events)?;
        } else {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(piece);
            self.line(&line, events)?;
            line.clear();
            self.partial = line;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], events: &mut Vec<Event>) -> Result<(), Failure> {
        let event = Event::parse(line).map_err(|error| match error {
            event::Error::TooLong { .. } => self.too_long(),
            // The error names the type, which is output, and so the Consumer's.
            event::Error::UnknownType(_) => self.broken_line("its type is not one of an event"),
            error => self.broken_line(error),
        })?;
        self.complete += 1;
        if event.is_last() {
            self.last = Some(event);
        } else {
            events.push(event);
        }
        Ok(())
    }

    fn too_long(&self) -> Failure {
        self.broken_line(format!("longer than {MAX_LINE_BYTES} bytes"))
    }

    fn broken_line(&self, what: impl std::fmt::Display) -> Failure {
        Failure::new(Step::Protocol, format!("line {}: {what}", self.complete + 1))
    }

    /// Ends the execution.
    #[must_use]
    pub fn finish(mut self, exit: Exit) -> End {
        let mut events = Vec::new();
        // A Cargo that was stopped did not mean its last line to end where it does.
        if matches!(exit, Exit::Code(_)) && self.broken.is_none() && !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.broken = self.line(&line, &mut events).err();
        }
        let (verdict, failure) = match (self.broken.take(), &self.last, exit) {
            (Some(failure), ..) => (Verdict::Failed, failure),
            (None, Some(Event::Error { .. }), _) => {
                let message = format!("the Cargo said `error` in line {}", self.complete);
                (Verdict::CargoFailed, Failure::new(Step::Cargo, message))
            }
            (None, _, Exit::Stopped(failure)) => (Verdict::Failed, failure),
            (None, Some(_), Exit::Code(0)) => return self.completed(events),
            (None, Some(_), Exit::Code(code)) => {
                let message = format!("exit code {code} after `done`");
                (Verdict::Failed, Failure::new(Step::Protocol, message))
            }
            (None, None, Exit::Code(code)) => {
                let lines = self.complete;
                let message =
                    format!("exit code {code} after {lines} lines without `done` or `error`");
                (Verdict::Failed, Failure::new(Step::Protocol, message))
            }
        };
        if verdict == Verdict::CargoFailed {
            events.extend(self.last);
        }
        End { events, verdict, failure: Some(failure), usage: None }
    }

    fn completed(self, mut events: Vec<Event>) -> End {
        let usage = match &self.last {
            Some(Event::Done { usage, .. }) => *usage,
            _ => None,
        };
        events.extend(self.last);
        End { events, verdict: Verdict::Completed, failure: None, usage }
    }
}

fn name(last: &Event) -> &'static str {
    if matches!(last, Event::Error { .. }) { "error" } else { "done" }
}

/// Whether the event counts as a token when the job is priced: empty ones would be free to make.
#[must_use]
pub fn is_charged_token(event: &Event) -> bool {
    matches!(event, Event::Token { content } if !content.is_empty())
}

/// The tokens to charge for: those that were delivered, or fewer when the Cargo claims fewer. A
/// claim is `total_tokens`, else prompt and completion together, else `tokens`.
#[must_use]
pub fn charged_tokens(delivered: u64, usage: Option<Usage>) -> u64 {
    let Some(usage) = usage else { return delivered };
    let parts = match (usage.prompt_tokens, usage.completion_tokens) {
        (None, None) => None,
        (prompt, completion) => Some(prompt.unwrap_or(0).saturating_add(completion.unwrap_or(0))),
    };
    usage.total_tokens.or(parts).or(usage.tokens).map_or(delivered, |claim| claim.min(delivered))
}

#[cfg(test)]
mod tests;
