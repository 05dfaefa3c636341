//! A connection whose streams are simulated one by one, without Noise and Yamux.

use super::{
    Inner, Network, index,
    stream::{Ends, Stream},
    word,
};
use archipelag_simulation_kernel as kernel;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// What both sides of a connection share.
#[derive(Debug, Default)]
pub(super) struct State {
    sides: [Side; 2],
}

#[derive(Debug, Default)]
struct Side {
    /// Streams that the other side opened and this one has not heard of.
    arriving: VecDeque<Ends>,
    arrived: VecDeque<Ends>,
    acceptor: Option<Waker>,
    watcher: Option<Waker>,
    /// This side has closed the connection.
    closed: bool,
    /// It knows that the other one has.
    told: bool,
}

impl State {
    pub(super) fn wake(&mut self, side: usize, woken: &mut Vec<Waker>) {
        woken.extend(self.sides[side].acceptor.take());
        woken.extend(self.sides[side].watcher.take());
    }
}

/// What an event of a muxer is about.
const OPENED: u64 = 0;
const CLOSED: u64 = 1;

fn event(connection: usize, side: usize, what: u64) -> u64 {
    word(connection) << 2 | word(side) << 1 | what
}

impl Inner {
    pub(super) fn start_muxer(&mut self, connection: usize) {
        let link = &mut self.connections[connection];
        link.muxer = Some(Box::default());
        link.holders += 2;
    }

    fn side(&mut self, connection: usize, side: usize) -> Option<&mut Side> {
        let link = self.connections.get_mut(connection)?;
        link.muxer.as_mut().map(|muxer| &mut muxer.sides[side])
    }

    /// Opens a stream from `side`; the other one hears of it later.
    fn open(&mut self, connection: usize, side: usize) -> io::Result<Ends> {
        let link = &self.connections[connection];
        let hosts = link.hosts;
        let gone =
            link.broken[side] || link.muxer.as_ref().is_some_and(|muxer| muxer.sides[side].told);
        if gone {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let ends = self.new_stream(connection);
        let at = kernel::now() + self.delay(hosts[side], hosts[1 - side]);
        if let Some(other) = self.side(connection, 1 - side) {
            other.arriving.push_back(ends[1 - side]);
        }
        // A new stream holds the connection until it has arrived.
        self.connections[connection].holders += 1;
        kernel::schedule(at, self.handlers.open, event(connection, 1 - side, OPENED));
        Ok(ends[side])
    }

    /// A stream, or the end of the connection, has reached a side.
    pub(super) fn opened(&mut self, which: u64) {
        let (connection, side) = (index(which >> 2), index(which >> 1 & 1));
        let Some(this) = self.side(connection, side) else { return };
        let mut woken = Vec::new();
        if which & 1 == CLOSED {
            this.told = true;
            woken.extend(this.watcher.take());
            woken.extend(this.acceptor.take());
        } else if let Some(ends) = this.arriving.pop_front() {
            woken.extend(this.acceptor.take());
            if this.closed {
                self.close_ends(ends);
            } else {
                this.arrived.push_back(ends);
            }
        }
        self.woken.extend(woken);
        self.release_connection(connection);
    }

    fn accept(
        &mut self,
        connection: usize,
        side: usize,
        context: &Context<'_>,
    ) -> Poll<io::Result<Ends>> {
        let broken = self.connections[connection].broken[side];
        let Some(this) = self.side(connection, side) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some(ends) = this.arrived.pop_front() {
            return Poll::Ready(Ok(ends));
        }
        if broken || this.told {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        this.acceptor = Some(context.waker().clone());
        Poll::Pending
    }

    /// Pending until the connection is gone.
    fn watch(
        &mut self,
        connection: usize,
        side: usize,
        context: &Context<'_>,
    ) -> Poll<io::Result<StreamMuxerEvent>> {
        let broken = self.connections[connection].broken[side];
        match self.side(connection, side) {
            Some(this) if !broken && !this.told => {
                this.watcher = Some(context.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    pub(super) fn close_muxer(&mut self, connection: usize, side: usize) {
        let link = &self.connections[connection];
        let (hosts, broken) = (link.hosts, link.broken[side]);
        let Some(this) = self.side(connection, side) else { return };
        this.closed = true;
        (this.watcher, this.acceptor) = (None, None);
        for ends in std::mem::take(&mut this.arrived) {
            self.close_ends(ends);
        }
        if !broken && !self.is_blocked(hosts[side], hosts[1 - side]) {
            let at = kernel::now() + self.delay(hosts[side], hosts[1 - side]);
            self.connections[connection].holders += 1;
            kernel::schedule(at, self.handlers.open, event(connection, 1 - side, CLOSED));
        }
        self.release_connection(connection);
    }
}

/// One side of a connection.
#[derive(Debug)]
pub struct Muxer {
    network: Network,
    connection: usize,
    side: usize,
}

impl Muxer {
    pub(super) fn new(network: Network, connection: usize, side: usize) -> Self {
        Self { network, connection, side }
    }

    pub(super) fn place(&self) -> (usize, usize) {
        (self.connection, self.side)
    }
}

impl StreamMuxer for Muxer {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let accepted = self.network.with(|inner| inner.accept(self.connection, self.side, context));
        accepted.map_ok(|ends| ends.into_stream(self.network.clone()))
    }

    fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let opened = self.network.with(|inner| inner.open(self.connection, self.side));
        Poll::Ready(opened.map(|ends| ends.into_stream(self.network.clone())))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.network.with(|inner| inner.watch(self.connection, self.side, context))
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        self.network.with(|inner| inner.close_muxer(self.connection, self.side));
    }
}
