//! One direction of one stream: what is on its way, what waits to be read.

use super::{Inner, index, link::Chunk, word};
use crate::trace::{Kind, fingerprint};
use archipelag_simulation_kernel::{self as kernel, Nanos};
use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll, Waker},
};

/// What may be sent and not yet read: the receive window of Yamux.
const WINDOW_BYTES: usize = 256 << 10;
/// The most that one write takes.
const WRITE_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) connection: usize,
    /// Which side of the connection writes.
    pub(super) side: usize,
    on_the_way: VecDeque<Chunk>,
    /// Chunks that were sent and neither arrived nor were given up.
    unsettled: usize,
    arrived: VecDeque<Vec<u8>>,
    /// Bytes of the first that were read.
    offset: usize,
    /// Bytes written and not yet read.
    unread: usize,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// No more will be written.
    closed: bool,
    /// The writer knows that nobody reads.
    unwanted: bool,
    /// Whose end was dropped.
    reader_gone: bool,
    writer_gone: bool,
}

impl Pipe {
    pub(super) fn new(connection: usize, side: usize) -> Self {
        Self {
            connection,
            side,
            on_the_way: VecDeque::new(),
            unsettled: 0,
            arrived: VecDeque::new(),
            offset: 0,
            unread: 0,
            ended: false,
            reader: None,
            writer: None,
            closed: false,
            unwanted: false,
            reader_gone: false,
            writer_gone: false,
        }
    }

    pub(super) fn depart(&mut self, chunk: Chunk) {
        self.on_the_way.push_back(chunk);
    }

    /// A chunk that will never arrive.
    pub(super) fn discard(&mut self, chunk: &Chunk) {
        self.unsettled -= 1;
        self.unread = self.unread.saturating_sub(chunk.bytes.len());
    }

    pub(super) fn wake_both(&mut self, woken: &mut Vec<Waker>) {
        woken.extend(self.reader.take());
        woken.extend(self.writer.take());
    }

    fn keep(&mut self, chunk: Chunk) {
        if chunk.last {
            self.ended = true;
        } else if self.reader_gone {
            self.unread = self.unread.saturating_sub(chunk.bytes.len());
        } else {
            self.arrived.push_back(chunk.bytes);
        }
    }

    /// Copies what has arrived; 0 when nothing has.
    fn take(&mut self, out: &mut [u8]) -> usize {
        let mut taken = 0;
        while let Some(first) = self.arrived.front()
            && taken < out.len()
        {
            let count = (first.len() - self.offset).min(out.len() - taken);
            out[taken..taken + count].copy_from_slice(&first[self.offset..self.offset + count]);
            taken += count;
            self.offset += count;
            if self.offset == first.len() {
                self.arrived.pop_front();
                self.offset = 0;
            }
        }
        if self.arrived.is_empty() {
            self.arrived = VecDeque::new();
        }
        self.unread -= taken;
        taken
    }
}

fn wait(slot: &mut Option<Waker>, context: &Context<'_>) {
    if !slot.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
        *slot = Some(context.waker().clone());
    }
}

impl Inner {
    pub(super) fn new_pipe(&mut self, connection: usize, side: usize) -> usize {
        let key = self.pipes.insert(Pipe::new(connection, side));
        let link = &mut self.connections[connection];
        link.holders += 1;
        link.pipes.push(key);
        key
    }

    /// The next chunk of a pipe reaches the other host.
    pub(super) fn arrive(&mut self, pipe: u64) {
        let key = index(pipe);
        let (connection, side) = (self.pipes[key].connection, self.pipes[key].side);
        let link = &self.connections[connection];
        let (from, to) = (link.hosts[side], link.hosts[1 - side]);
        if let Some(later) = self.waits_for_line(key, to) {
            kernel::schedule(later, self.handlers.arrive, word(key));
            return;
        }
        let pipe = &mut self.pipes[key];
        let Some(chunk) = pipe.on_the_way.pop_front() else { return };
        pipe.unsettled -= 1;
        if self.connections[connection].broken[1 - side] {
            self.refuse(connection, side);
        } else if self.is_of_another_life(connection, 1 - side) {
            if !self.hosts[to].silent {
                self.refuse(connection, side);
            }
        } else {
            let what = [word(from), word(to), word(chunk.bytes.len()), fingerprint(&chunk.bytes)];
            self.note(Kind::Arrived, what);
            let pipe = &mut self.pipes[key];
            let unread = pipe.reader_gone && !chunk.last;
            pipe.keep(chunk);
            self.woken.extend(pipe.reader.take());
            if unread {
                self.tell_writer(key);
            }
        }
        self.release_pipe(key);
    }

    /// Until when the first chunk waits behind others on its host's line, if it does.
    fn waits_for_line(&mut self, key: usize, host: usize) -> Option<Nanos> {
        let first = self.pipes[key].on_the_way.front()?;
        let received_at = match first.received_at {
            Some(received_at) => received_at,
            None => self.receive(host, first.line_ns),
        };
        self.pipes[key].on_the_way.front_mut()?.received_at = Some(received_at);
        (received_at > kernel::now()).then_some(received_at)
    }

    pub(super) fn read(
        &mut self,
        key: usize,
        context: &Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let pipe = &mut self.pipes[key];
        if !pipe.arrived.is_empty() {
            let taken = pipe.take(out);
            if pipe.unread < WINDOW_BYTES {
                self.woken.extend(pipe.writer.take());
            }
            return Poll::Ready(Ok(taken));
        }
        if pipe.ended {
            return Poll::Ready(Ok(0));
        }
        if self.connections[pipe.connection].broken[1 - pipe.side] {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        wait(&mut pipe.reader, context);
        Poll::Pending
    }

    pub(super) fn write(
        &mut self,
        key: usize,
        context: &Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let pipe = &mut self.pipes[key];
        if self.connections[pipe.connection].broken[pipe.side] {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.unwanted || pipe.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.unread >= WINDOW_BYTES {
            wait(&mut pipe.writer, context);
            return Poll::Pending;
        }
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES)];
        pipe.unread += bytes.len();
        self.send_chunk(key, bytes.to_vec(), false);
        Poll::Ready(Ok(bytes.len()))
    }

    fn send_chunk(&mut self, key: usize, bytes: Vec<u8>, last: bool) {
        let pipe = &mut self.pipes[key];
        pipe.unsettled += 1;
        let (connection, side) = (pipe.connection, pipe.side);
        self.send(
            connection,
            side,
            Chunk { pipe: key, bytes, last, line_ns: 0, received_at: None },
        );
    }

    /// The writer has no more to say.
    pub(super) fn end(&mut self, key: usize) {
        let pipe = &mut self.pipes[key];
        if pipe.closed {
            return;
        }
        pipe.closed = true;
        pipe.writer = None;
        let (connection, side) = (pipe.connection, pipe.side);
        if !self.connections[connection].broken[side] {
            self.send_chunk(key, Vec::new(), true);
        }
    }

    /// The writer has gone.
    pub(super) fn stop_writing(&mut self, key: usize) {
        self.end(key);
        self.pipes[key].writer_gone = true;
        self.release_pipe(key);
    }

    /// The reader has gone: what comes is thrown away.
    pub(super) fn stop_reading(&mut self, key: usize) {
        let pipe = &mut self.pipes[key];
        pipe.reader_gone = true;
        pipe.reader = None;
        pipe.arrived = VecDeque::new();
        if !pipe.closed {
            self.tell_writer(key);
        }
        self.release_pipe(key);
    }

    /// Sends word to the writer that nobody reads, if it can.
    fn tell_writer(&mut self, key: usize) {
        let pipe = &self.pipes[key];
        let (connection, side) = (pipe.connection, pipe.side);
        let hosts = self.connections[connection].hosts;
        let (from, to) = (hosts[1 - side], hosts[side]);
        if self.is_of_another_life(connection, 1 - side) || self.is_blocked(from, to) {
            return;
        }
        let at = kernel::now() + self.delay(from, to);
        self.pipes[key].unsettled += 1;
        kernel::schedule(at, self.handlers.unwanted, word(key));
    }

    /// The word that nobody reads has reached the writer.
    pub(super) fn told_unwanted(&mut self, key: u64) {
        let key = index(key);
        let pipe = &mut self.pipes[key];
        pipe.unsettled -= 1;
        pipe.unwanted = true;
        self.woken.extend(pipe.writer.take());
        self.release_pipe(key);
    }

    /// Forgets a pipe that nobody uses and nothing is on its way through.
    pub(super) fn release_pipe(&mut self, key: usize) {
        let pipe = &self.pipes[key];
        if pipe.reader_gone && pipe.writer_gone && pipe.unsettled == 0 {
            let connection = pipe.connection;
            self.pipes.remove(key);
            self.connections[connection].pipes.retain(|pipe| *pipe != key);
            self.release_connection(connection);
        }
    }
}
