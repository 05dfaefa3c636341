//! stdout and stderr of a wasm Cargo.
//!
//! stdout goes through the line reader into the job's channel. While the channel is full the Cargo
//! is not given leave to write, so a slow Consumer slows the Cargo down and nothing piles up beyond
//! one write.

use crate::lines::{End, Exit, Lines, is_charged_token};
use archipelag_protocol::event::Event;
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    io::Write,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::AsyncWrite,
    sync::{Notify, mpsc},
};
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

/// The most that a Cargo may write at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The receiver of the events has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// One job's stdout; the Cargo and the job hold it together.
#[derive(Clone)]
pub(super) struct Stdout(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    events: mpsc::Sender<Event>,
    /// Events wait to be sent.
    waiting: Notify,
    /// No event waits any more.
    drained: Notify,
}

struct State {
    lines: Lines,
    queue: VecDeque<Event>,
    /// Token events that the channel took.
    tokens: u64,
}

impl Stdout {
    pub(super) fn new(output_bytes_max: u64, events: mpsc::Sender<Event>) -> Self {
        let lines = Lines::new(output_bytes_max);
        Self(Arc::new(Shared {
            state: Mutex::new(State { lines, queue: VecDeque::new(), tokens: 0 }),
            events,
            waiting: Notify::new(),
            drained: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tokens(&self) -> u64 {
        self.state().tokens
    }

    /// Sends what waits, for as long as it is polled.
    pub(super) async fn pump(&self) -> Gone {
        loop {
            if self.drain().await.is_err() {
                return Gone;
            }
            self.0.waiting.notified().await;
        }
    }

    /// Sends everything that waits.
    pub(super) async fn drain(&self) -> Result<(), Gone> {
        while !self.state().queue.is_empty() {
            let permit = self.0.events.reserve().await.map_err(|_| Gone)?;
            let mut state = self.state();
            if let Some(event) = state.queue.pop_front() {
                state.tokens += u64::from(is_charged_token(&event));
                permit.send(event);
            }
        }
        self.0.drained.notify_waiters();
        Ok(())
    }

    /// Ends the output. The last events wait to be sent by [`Stdout::drain`].
    pub(super) fn finish(&self, exit: Exit) -> End {
        let mut state = self.state();
        let lines = std::mem::replace(&mut state.lines, Lines::new(0));
        let mut end = lines.finish(exit);
        state.queue.extend(end.events.drain(..));
        end
    }

    fn take(&self, bytes: &[u8]) -> StreamResult<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        if !state.queue.is_empty() || bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("stdout: written without leave"));
        }
        let mut events = Vec::new();
        let taken = state.lines.push(bytes, &mut events);
        for event in events {
            let token = u64::from(is_charged_token(&event));
            if !state.queue.is_empty() {
                state.queue.push_back(event);
                continue;
            }
            match self.0.events.try_send(event) {
                Ok(()) => state.tokens += token,
                Err(mpsc::error::TrySendError::Full(event)) => state.queue.push_back(event),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    return Err(StreamError::trap("stdout: nobody reads"));
                }
            }
        }
        if !state.queue.is_empty() {
            self.0.waiting.notify_one();
        }
        // The reason is in the line reader; this only ends the Cargo.
        taken.map_err(|_| StreamError::trap("stdout: stopped"))
    }
}

#[async_trait]
impl Pollable for Stdout {
    async fn ready(&mut self) {
        loop {
            let mut drained = pin!(self.0.drained.notified());
            drained.as_mut().enable();
            if self.state().queue.is_empty() {
                break;
            }
            drained.await;
        }
        // A long write is many of these: the Cargo must be stoppable between them.
        tokio::task::coop::consume_budget().await;
    }
}

#[async_trait]
impl OutputStream for Stdout {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if self.state().queue.is_empty() { WRITE_BYTES_MAX } else { 0 })
    }
}

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdout {
    /// Only WASI preview 3 asks for this, which no Cargo is linked with.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

/// The start of what a job writes to stderr.
#[derive(Clone)]
pub(super) struct Stderr(Arc<Mutex<Captured>>);

struct Captured {
    kept: Vec<u8>,
    bytes_max: usize,
    dropped: u64,
}

impl Stderr {
    pub(super) fn new(bytes_max: u64) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self(Arc::new(Mutex::new(Captured { kept: Vec::new(), bytes_max, dropped: 0 })))
    }

    /// What was kept, with a note when it is not all.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = std::mem::take(&mut captured.kept);
        if captured.dropped > 0 {
            // Writing to a vector does not fail.
            let _written = write!(kept, "\n[{} more bytes]\n", captured.dropped);
        }
        kept
    }
}

#[async_trait]
impl Pollable for Stderr {
    async fn ready(&mut self) {
        // A Cargo that floods stderr inside one call must still be stoppable.
        tokio::task::coop::consume_budget().await;
    }
}

#[async_trait]
impl OutputStream for Stderr {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = captured.bytes_max - captured.kept.len();
        let (kept, dropped) = bytes.split_at(bytes.len().min(room));
        captured.kept.extend_from_slice(kept);
        captured.dropped = captured.dropped.saturating_add(dropped.len() as u64);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl IsTerminal for Stderr {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stderr {
    /// Only WASI preview 3 asks for this, which no Cargo is linked with.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
