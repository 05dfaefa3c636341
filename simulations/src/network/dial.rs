//! Making connections: who listens, who is being dialled, what a NAT lets in.

use super::{Fidelity, Inner, Nat, Network, muxer, stream::Ends, transport::Connected, word};
use crate::trace::Kind;
use archipelag_simulation_kernel::{self as kernel, Nanos};
use libp2p::{Multiaddr, core::transport::ListenerId};
use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll, Waker},
};

/// When a host that does not answer is given up: two repetitions of the first packet (Linux: 1 and 2
/// seconds later, and again 4).
const CONNECT_TIMEOUT: Nanos = 7_000_000_000;
/// Round trips of Noise and of agreeing on it and on Yamux, where these are not simulated.
const HANDSHAKE_ROUND_TRIPS: u64 = 2;

/// Where a host takes connections.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) address: Multiaddr,
    pub(super) announced: bool,
    pub(super) incoming: VecDeque<(Half, usize)>,
    pub(super) waker: Option<Waker>,
}

/// One side of a connection that its host has not taken yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    Stream(Ends),
    Muxer { connection: usize, side: usize },
}

/// A connection that is being made.
#[derive(Debug)]
pub(super) struct Dial {
    from: usize,
    to: (usize, u16),
    state: State,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum State {
    /// The first packet is on its way.
    Asking,
    /// The answer is: the own half, or that there is none.
    Answered(Result<Half, io::ErrorKind>),
    Done(Result<Half, io::ErrorKind>),
}

impl Half {
    pub(super) fn take(self, network: &Network) -> Connected {
        match self {
            Self::Stream(ends) => Connected::Stream(ends.into_stream(network.clone())),
            Self::Muxer { connection, side } => {
                Connected::Muxer(muxer::Muxer::new(network.clone(), connection, side))
            }
        }
    }
}

impl Inner {
    pub(super) fn start_dial(&mut self, from: usize, to: (usize, u16)) -> u64 {
        let id = self.next_dial;
        self.next_dial += 1;
        let dial = Dial { from, to, state: State::Asking, waker: None };
        self.dials.insert(id, dial);
        // A mapping is made by trying.
        self.hosts[from].connected_to.insert(to.0);
        let at = kernel::now() + self.delay(from, to.0);
        kernel::schedule(at, self.handlers.dial, id);
        id
    }

    /// The first packet arrives, or the answer to it.
    pub(super) fn dial_step(&mut self, id: u64) {
        let Some(dial) = self.dials.get(&id) else { return };
        let (from, to) = (dial.from, dial.to);
        let next = match dial.state {
            State::Asking => {
                let (answer, after) = self.answer_dial(from, to);
                kernel::schedule(kernel::now() + after, self.handlers.dial, id);
                State::Answered(answer)
            }
            State::Answered(answer) => State::Done(answer),
            State::Done(_) => return,
        };
        if let Some(dial) = self.dials.get_mut(&id) {
            if matches!(next, State::Done(_)) {
                self.woken.extend(dial.waker.take());
            }
            dial.state = next;
        }
    }

    /// What the dialled host says, and when the dialling one hears it.
    fn answer_dial(
        &mut self,
        from: usize,
        to: (usize, u16),
    ) -> (Result<Half, io::ErrorKind>, Nanos) {
        let silent = self.is_blocked(from, to.0) || self.is_blocked(to.0, from);
        let made = !silent && self.lets_in(to.0, from) && self.listeners.contains_key(&to);
        self.note(Kind::Dialled, [word(from), word(to.0), u64::from(made), 0]);
        if silent || !self.lets_in(to.0, from) {
            return (Err(io::ErrorKind::TimedOut), CONNECT_TIMEOUT);
        }
        let back = self.delay(to.0, from);
        if !made {
            return (Err(io::ErrorKind::ConnectionRefused), back);
        }
        let connection = self.connect(from, to.0);
        let (mut after, halves) = (back, self.halves(connection));
        if self.settings.fidelity == Fidelity::Muxer {
            after += HANDSHAKE_ROUND_TRIPS * (self.delay(from, to.0) + self.delay(to.0, from));
        }
        if let Some(listener) = self.listeners.get_mut(&to) {
            listener.incoming.push_back((halves[1], from));
            self.woken.extend(listener.waker.take());
        }
        (Ok(halves[0]), after)
    }

    fn halves(&mut self, connection: usize) -> [Half; 2] {
        match self.settings.fidelity {
            Fidelity::Full => self.new_stream(connection).map(Half::Stream),
            Fidelity::Muxer => {
                self.start_muxer(connection);
                [0, 1].map(|side| Half::Muxer { connection, side })
            }
        }
    }

    fn lets_in(&self, host: usize, from: usize) -> bool {
        let reached = &self.hosts[host].connected_to;
        match self.hosts[host].profile.nat {
            Nat::None => true,
            Nat::FullCone => !reached.is_empty(),
            Nat::Restricted => reached.contains(&from),
            Nat::Symmetric => false,
        }
    }

    pub(super) fn poll_dial(
        &mut self,
        id: u64,
        context: &Context<'_>,
    ) -> Poll<Result<Half, io::ErrorKind>> {
        let Some(dial) = self.dials.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected));
        };
        let State::Done(outcome) = dial.state else {
            dial.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        self.dials.remove(&id);
        Poll::Ready(outcome)
    }

    /// Nobody waits for the dial any more.
    pub(super) fn abandon_dial(&mut self, id: u64) {
        let Some(dial) = self.dials.remove(&id) else { return };
        if let State::Answered(Ok(half)) | State::Done(Ok(half)) = dial.state {
            self.drop_half(half);
        }
    }

    pub(super) fn drop_half(&mut self, half: Half) {
        match half {
            Half::Stream(ends) => self.close_ends(ends),
            Half::Muxer { connection, side } => self.close_muxer(connection, side),
        }
    }
}
