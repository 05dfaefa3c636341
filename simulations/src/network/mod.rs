//! The network between simulated nodes: who reaches whom, how fast, with what losses.
//!
//! Hosts have a region, bandwidth up and down, and perhaps a NAT; what they send queues, travels,
//! gets lost and is sent again as under TCP. Nodes use it through a libp2p transport
//! (`transport.rs`), at one of two levels: byte streams, on which the node's own Noise and Yamux
//! run, or streams of a simulated muxer. It knows nothing of what is sent.

mod dial;
mod link;
mod muxer;
mod pipe;
mod stream;
mod transport;

pub use link::{Cut, HostSet, Latency};
pub use stream::Stream;
pub use transport::{Connected, SimulatedTransport, address_of};

use crate::{
    lock,
    trace::{Kind, Trace},
};
use archipelag_simulation_kernel::{self as kernel, Handler, Nanos};
use dial::{Dial, Listener};
use libp2p::PeerId;
use link::Connection;
use pipe::Pipe;
use serde::{Deserialize, Serialize};
use slab::Slab;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
};

/// How much of a connection is simulated byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fidelity {
    /// The node's own Noise and Yamux over simulated byte streams.
    Full,
    /// Streams are simulated; encryption and multiplexing only by the time and bytes they take.
    Muxer,
}

/// How a host is reached by connections that it did not ask for. TCP through an address translator:
/// a mapping is made by connecting out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nat {
    /// By everyone.
    #[default]
    None,
    /// By everyone, once it has connected to anybody.
    FullCone,
    /// By those to whom it has connected.
    Restricted,
    /// By nobody: each destination sees another port.
    Symmetric,
}

/// One host's place in the network.
#[derive(Clone, Debug)]
pub struct Profile {
    pub peer: PeerId,
    /// Index into the latency matrix.
    pub region: usize,
    pub up_bits_per_s: u64,
    pub down_bits_per_s: u64,
    pub nat: Nat,
}

/// What a host has sent and received, framing included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub connections_made: u64,
    pub resent_chunks: u64,
}

#[derive(Debug)]
struct Host {
    profile: Profile,
    /// Off or unplugged: nothing leaves or enters, and nobody is told.
    silent: bool,
    /// How often it was off: connections of an earlier life are reset.
    life: u32,
    up_free_at: Nanos,
    down_free_at: Nanos,
    traffic: Traffic,
    connected_to: BTreeSet<usize>,
}

/// How links behave.
#[derive(Clone, Debug)]
pub struct Settings {
    pub fidelity: Fidelity,
    pub latency: Latency,
    /// Uniform, in percent of a link's latency.
    pub jitter_percent: u32,
    /// Lost segments per million.
    pub loss_ppm: u32,
    /// After how long without an answer a connection is given up.
    pub give_up: Nanos,
    pub slow_start: bool,
}

/// A handle to one simulated network.
#[derive(Clone, Debug)]
pub struct Network(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    hosts: Vec<Host>,
    pipes: Slab<Pipe>,
    connections: Slab<Connection>,
    listeners: BTreeMap<(usize, u16), Listener>,
    dials: BTreeMap<u64, Dial>,
    next_dial: u64,
    cuts: BTreeMap<u64, Cut>,
    handlers: Handlers,
    trace: Arc<Mutex<Trace>>,
    /// To be woken when the lock is free again.
    woken: Vec<Waker>,
}

#[derive(Clone, Copy, Debug)]
struct Handlers {
    arrive: Handler,
    retry: Handler,
    reset: Handler,
    dial: Handler,
    open: Handler,
    unwanted: Handler,
}

impl Network {
    /// A network without hosts, in virtual time.
    #[must_use]
    pub fn new(settings: Settings, trace: Arc<Mutex<Trace>>) -> Self {
        let network = Arc::new_cyclic(|weak: &std::sync::Weak<Mutex<Inner>>| {
            let handler = |act: fn(&mut Inner, u64)| {
                let weak = weak.clone();
                kernel::register(move |argument| {
                    if let Some(inner) = weak.upgrade() {
                        Network(inner).with(|inner| act(inner, argument));
                    }
                })
            };
            Mutex::new(Inner {
                settings,
                hosts: Vec::new(),
                pipes: Slab::new(),
                connections: Slab::new(),
                listeners: BTreeMap::new(),
                dials: BTreeMap::new(),
                next_dial: 0,
                cuts: BTreeMap::new(),
                handlers: Handlers {
                    arrive: handler(Inner::arrive),
                    retry: handler(Inner::retry),
                    reset: handler(Inner::reset_arrived),
                    dial: handler(Inner::dial_step),
                    open: handler(Inner::opened),
                    unwanted: handler(Inner::told_unwanted),
                },
                trace,
                woken: Vec::new(),
            })
        });
        Self(network)
    }

    /// Does something, then wakes who waited for it.
    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner: MutexGuard<'_, Inner> = lock(&self.0);
        let value = f(&mut inner);
        let woken = std::mem::take(&mut inner.woken);
        drop(inner);
        for waker in woken {
            waker.wake();
        }
        value
    }

    /// Adds a host; it gets the next number from 0 on.
    pub fn add(&self, profile: Profile) -> usize {
        self.with(|inner| {
            inner.hosts.push(Host {
                profile,
                silent: false,
                life: 0,
                up_free_at: 0,
                down_free_at: 0,
                traffic: Traffic::default(),
                connected_to: BTreeSet::new(),
            });
            inner.hosts.len() - 1
        })
    }

    /// What a host listens with and dials through.
    #[must_use]
    pub fn transport(&self, host: usize) -> SimulatedTransport {
        SimulatedTransport::new(self.clone(), host)
    }

    #[must_use]
    pub fn fidelity(&self) -> Fidelity {
        lock(&self.0).settings.fidelity
    }

    /// Unplugs a host, or plugs it in again. Its connections are gone then, but the other ends only
    /// learn it when they send.
    pub fn set_silent(&self, host: usize, silent: bool) {
        self.with(|inner| {
            let host = &mut inner.hosts[host];
            host.silent = silent;
            host.life += u32::from(!silent);
        });
    }

    /// From now on nothing passes the cut.
    pub fn cut(&self, id: u64, cut: Cut) {
        self.with(|inner| inner.cuts.insert(id, cut));
    }

    /// Takes a cut away.
    pub fn mend(&self, id: u64) {
        self.with(|inner| inner.cuts.remove(&id));
    }

    /// Lost segments per million, from now on.
    pub fn set_loss(&self, ppm: u32) {
        self.with(|inner| inner.settings.loss_ppm = ppm);
    }

    /// Changes a host's bandwidth, from now on.
    pub fn set_bandwidth(&self, host: usize, up_bits_per_s: u64, down_bits_per_s: u64) {
        self.with(|inner| {
            let profile = &mut inner.hosts[host].profile;
            (profile.up_bits_per_s, profile.down_bits_per_s) = (up_bits_per_s, down_bits_per_s);
        });
    }

    #[must_use]
    pub fn traffic(&self, host: usize) -> Traffic {
        lock(&self.0).hosts[host].traffic
    }

    /// Connections whose ends both live.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.0).connections.len()
    }
}

impl Inner {
    /// Whether what `from` sends can't reach `to` now.
    fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.hosts[from].silent
            || self.hosts[to].silent
            || self.cuts.values().any(|cut| cut.covers(from, to))
    }

    fn note(&self, kind: Kind, what: [u64; 4]) {
        lock(&self.trace).add(kind, what);
    }
}

fn word(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
