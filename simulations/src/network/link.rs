//! The way between two hosts: latency, bandwidth, loss, cuts.

use super::{Host, Inner, index, word};
use archipelag_simulation_kernel::{self as kernel, Nanos};
use std::{collections::VecDeque, sync::Arc};

const MS: Nanos = 1_000_000;
/// What a segment of TCP carries.
const SEGMENT_BYTES: u64 = 1448;
/// Headers of TCP and IPv4 with timestamps, per segment.
const HEADER_BYTES: u64 = 52;
/// What Noise and Yamux add to a write, where they are not simulated themselves.
const MUXER_BYTES: u64 = 12 + 18;
/// RFC 6928.
const INITIAL_WINDOW_BYTES: u64 = 10 * SEGMENT_BYTES;
const MAX_WINDOW_BYTES: u64 = 4 << 20;
/// A connection that was idle that long starts slowly again (RFC 5681, 4.1).
const IDLE_RESTART: Nanos = 1_000 * MS;
/// The first wait for an acknowledgement (Linux).
const FIRST_RETRY: Nanos = 200 * MS;
/// The longest (Linux).
const MAX_RETRY: Nanos = 120_000 * MS;

/// One-way delays between regions.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// Nanoseconds, by sender's and receiver's region.
    matrix: Vec<Vec<Nanos>>,
    /// Pairs of hosts differ from it by up to so many percent.
    spread_percent: u64,
}

impl Latency {
    /// # Panics
    /// When the matrix is not square.
    #[must_use]
    pub fn new(matrix: Vec<Vec<Nanos>>, spread_percent: u32) -> Self {
        assert!(matrix.iter().all(|row| row.len() == matrix.len()), "a latency for each pair");
        Self { matrix, spread_percent: spread_percent.into() }
    }

    /// The same for a pair at all times.
    fn between(&self, from: (usize, usize), to: (usize, usize)) -> Nanos {
        let base = self.matrix[from.1][to.1];
        let (low, high) = if from.0 < to.0 { (from.0, to.0) } else { (to.0, from.0) };
        let mixed = (word(low) << 32 | word(high)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let part = (mixed >> 40) % 2001;
        // From -spread to +spread.
        let shift = base / 100 * self.spread_percent / 1000;
        (base + shift * part).saturating_sub(shift * 1000)
    }
}

/// Hosts by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSet(Arc<[bool]>);

impl HostSet {
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = usize>) -> Self {
        let mut set = Vec::new();
        for host in hosts {
            if set.len() <= host {
                set.resize(host + 1, false);
            }
            set[host] = true;
        }
        Self(set.into())
    }

    fn has(&self, host: usize) -> bool {
        self.0.get(host).copied().unwrap_or(false)
    }
}

/// Nothing gets from the one side to the other.
#[derive(Clone, Debug)]
pub struct Cut {
    pub from: HostSet,
    pub to: HostSet,
    pub both_ways: bool,
}

impl Cut {
    pub(super) fn covers(&self, from: usize, to: usize) -> bool {
        self.from.has(from) && self.to.has(to)
            || self.both_ways && self.from.has(to) && self.to.has(from)
    }
}

/// One connection of two hosts.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) hosts: [usize; 2],
    lives: [u32; 2],
    directions: [Direction; 2],
    /// The side knows that the connection is gone.
    pub(super) broken: [bool; 2],
    pub(super) pipes: Vec<usize>,
    pub(super) muxer: Option<Box<super::muxer::State>>,
    /// Ends and pipes that hold it.
    pub(super) holders: u32,
}

/// What one side sends to the other: TCP's state.
#[derive(Debug, Default)]
struct Direction {
    /// When the last chunk arrives: none overtakes another.
    arrives_at: Nanos,
    window_bytes: u64,
    window_from: Nanos,
    window_used: u64,
    used_at: Nanos,
    stalled: VecDeque<Chunk>,
    stalled_since: Nanos,
    retry_after: Nanos,
}

/// Bytes on their way, or the end of them.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) pipe: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) last: bool,
    /// How long the receiver's line is busy with it.
    pub(super) line_ns: Nanos,
    /// When it has passed the receiver's line, once it has come so far.
    pub(super) received_at: Option<Nanos>,
}

impl Connection {
    fn new(inner: &Inner, from: usize, to: usize) -> Self {
        Self {
            hosts: [from, to],
            lives: [inner.hosts[from].life, inner.hosts[to].life],
            directions: [Direction::default(), Direction::default()],
            broken: [false; 2],
            pipes: Vec::new(),
            muxer: None,
            holders: 0,
        }
    }
}

/// How long a line is busy with so many bytes.
fn line_time(bytes: u64, bits_per_s: u64) -> Nanos {
    let takes = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(bits_per_s.max(1));
    Nanos::try_from(takes).unwrap_or(Nanos::MAX / 2)
}

fn draw(of: u64) -> u64 {
    if of == 0 { 0 } else { kernel::bits() % of }
}

impl Inner {
    pub(super) fn connect(&mut self, from: usize, to: usize) -> usize {
        let connection = Connection::new(self, from, to);
        self.hosts[from].connected_to.insert(to);
        self.hosts[from].traffic.connections_made += 1;
        self.connections.insert(connection)
    }

    /// One-way delay now, jitter included.
    pub(super) fn delay(&self, from: usize, to: usize) -> Nanos {
        let base = self.base_delay(from, to);
        base + draw(base / 100 * u64::from(self.settings.jitter_percent))
    }

    fn base_delay(&self, from: usize, to: usize) -> Nanos {
        let region = |host: usize| self.hosts[host].profile.region;
        self.settings.latency.between((from, region(from)), (to, region(to)))
    }

    /// Sends a chunk from side `side` of a connection.
    pub(super) fn send(&mut self, connection: usize, side: usize, chunk: Chunk) {
        let link = &self.connections[connection];
        let (from, to) = (link.hosts[side], link.hosts[1 - side]);
        if self.is_of_another_life(connection, side) {
            self.discard(chunk);
        } else if self.is_blocked(from, to) || !link.directions[side].stalled.is_empty() {
            self.stall(connection, side, chunk);
        } else {
            self.transmit(connection, side, chunk);
        }
    }

    /// The host of that side is off, or was since.
    pub(super) fn is_of_another_life(&self, connection: usize, side: usize) -> bool {
        let link = &self.connections[connection];
        let host = &self.hosts[link.hosts[side]];
        host.silent || link.lives[side] != host.life
    }

    fn discard(&mut self, chunk: Chunk) {
        let pipe = chunk.pipe;
        self.pipes[pipe].discard(&chunk);
        drop(chunk);
        self.release_pipe(pipe);
    }

    fn transmit(&mut self, connection: usize, side: usize, chunk: Chunk) {
        let now = kernel::now();
        let link = &self.connections[connection];
        let (from, to) = (link.hosts[side], link.hosts[1 - side]);
        let segments = word(chunk.bytes.len()).div_ceil(SEGMENT_BYTES).max(1);
        let muxing = if link.muxer.is_some() { MUXER_BYTES } else { 0 };
        let bytes = word(chunk.bytes.len()) + segments * HEADER_BYTES + muxing;
        let delay = self.delay(from, to);
        let starts = if self.settings.slow_start {
            let round_trip = 2 * self.base_delay(from, to);
            self.connections[connection].directions[side].open_window(now, bytes, round_trip)
        } else {
            now
        };
        let Host { up_free_at, profile, traffic, .. } = &mut self.hosts[from];
        *up_free_at = starts.max(*up_free_at) + line_time(bytes, profile.up_bits_per_s);
        let sent = *up_free_at;
        traffic.sent_bytes += bytes;
        let lost = self.resend_time(from, segments, delay);
        if lost > 0 {
            let window = &mut self.connections[connection].directions[side].window_bytes;
            *window = (*window / 2).max(INITIAL_WINDOW_BYTES);
        }
        let Host { profile, traffic, .. } = &mut self.hosts[to];
        let line_ns = line_time(bytes, profile.down_bits_per_s);
        traffic.received_bytes += bytes;
        let direction = &mut self.connections[connection].directions[side];
        direction.arrives_at = direction.arrives_at.max(sent + delay + lost + line_ns);
        let (pipe, arrives_at) = (chunk.pipe, direction.arrives_at);
        self.pipes[pipe].depart(Chunk { line_ns, ..chunk });
        kernel::schedule(arrives_at, self.handlers.arrive, word(pipe));
    }

    /// How much later a chunk arrives because segments were lost: once the next acknowledgement is
    /// missed, then at each timeout.
    fn resend_time(&mut self, from: usize, segments: u64, delay: Nanos) -> Nanos {
        let (mut later, mut round) = (0, 0);
        let chance = u64::from(self.settings.loss_ppm).saturating_mul(segments).min(900_000);
        while chance > 0 && round < 12 && draw(1_000_000) < chance {
            later += if round == 0 { 2 * delay + 10 * MS } else { FIRST_RETRY << round };
            round += 1;
            self.hosts[from].traffic.resent_chunks += 1;
        }
        later
    }

    /// When a chunk that arrives now has passed its host's line: behind what came before it.
    pub(super) fn receive(&mut self, host: usize, line_ns: Nanos) -> Nanos {
        let free_at = &mut self.hosts[host].down_free_at;
        *free_at = (*free_at).max(kernel::now().saturating_sub(line_ns)) + line_ns;
        *free_at
    }

    fn stall(&mut self, connection: usize, side: usize, chunk: Chunk) {
        let direction = &mut self.connections[connection].directions[side];
        if direction.stalled.is_empty() {
            direction.stalled_since = kernel::now();
            direction.retry_after = FIRST_RETRY;
            let at = kernel::now() + FIRST_RETRY;
            kernel::schedule(at, self.handlers.retry, word(connection) << 1 | word(side));
        }
        direction.stalled.push_back(chunk);
    }

    /// A sender tries again what was not acknowledged.
    pub(super) fn retry(&mut self, which: u64) {
        let (connection, side) = (index(which >> 1), index(which & 1));
        let Some(link) = self.connections.get_mut(connection) else { return };
        let (from, to) = (link.hosts[side], link.hosts[1 - side]);
        let direction = &mut link.directions[side];
        if direction.stalled.is_empty() {
            return;
        }
        let given_up =
            kernel::now() > direction.stalled_since.saturating_add(self.settings.give_up);
        if given_up || self.is_of_another_life(connection, side) {
            self.break_off(connection, side);
        } else if self.is_blocked(from, to) {
            let direction = &mut self.connections[connection].directions[side];
            direction.retry_after = (direction.retry_after * 2).min(MAX_RETRY);
            let at = kernel::now() + direction.retry_after;
            kernel::schedule(at, self.handlers.retry, which);
        } else {
            for chunk in std::mem::take(&mut self.connections[connection].directions[side].stalled)
            {
                self.transmit(connection, side, chunk);
            }
        }
    }

    /// A host that knows nothing of a connection says so to the side that sent.
    pub(super) fn refuse(&mut self, connection: usize, side: usize) {
        let link = &self.connections[connection];
        let (from, to) = (link.hosts[side], link.hosts[1 - side]);
        if !self.is_blocked(to, from) {
            let at = kernel::now() + self.delay(to, from);
            self.connections[connection].holders += 1;
            kernel::schedule(at, self.handlers.reset, word(connection) << 1 | word(side));
        }
    }

    /// The word that a connection is gone has arrived.
    pub(super) fn reset_arrived(&mut self, which: u64) {
        let (connection, side) = (index(which >> 1), index(which & 1));
        self.break_off(connection, side);
        self.release_connection(connection);
    }

    /// From now on a side knows that its connection is gone.
    fn break_off(&mut self, connection: usize, side: usize) {
        let link = &mut self.connections[connection];
        link.broken[side] = true;
        let dropped = std::mem::take(&mut link.directions[side].stalled);
        if let Some(muxer) = &mut link.muxer {
            muxer.wake(side, &mut self.woken);
        }
        for pipe in link.pipes.clone() {
            self.pipes[pipe].wake_both(&mut self.woken);
        }
        // They may be what holds the connection.
        self.connections[connection].holders += 1;
        for chunk in dropped {
            self.discard(chunk);
        }
        self.release_connection(connection);
    }

    /// Forgets a connection that nobody holds.
    pub(super) fn release_connection(&mut self, connection: usize) {
        let link = &mut self.connections[connection];
        link.holders -= 1;
        if link.holders == 0 {
            self.connections.remove(connection);
        }
    }
}

impl Direction {
    /// When `bytes` may start, by slow start: a window per round trip, twice as large each time.
    fn open_window(&mut self, now: Nanos, bytes: u64, round_trip: Nanos) -> Nanos {
        if self.window_bytes == 0 || now > self.used_at.saturating_add(IDLE_RESTART) {
            (self.window_bytes, self.window_from, self.window_used) =
                (INITIAL_WINDOW_BYTES, now, 0);
        }
        if now >= self.window_from + round_trip {
            (self.window_from, self.window_used) = (now, 0);
        }
        self.window_used += bytes;
        while self.window_used > self.window_bytes {
            self.window_used -= self.window_bytes;
            self.window_bytes = (self.window_bytes * 2).min(MAX_WINDOW_BYTES);
            self.window_from += round_trip;
        }
        let starts = self.window_from.max(now);
        self.used_at = starts;
        starts
    }
}
