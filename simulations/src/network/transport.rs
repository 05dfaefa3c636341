//! The libp2p transport of one simulated host.

use super::{
    Fidelity, Network,
    dial::{Half, Listener},
    muxer::Muxer,
    stream::Stream,
};
use archipelag_node::environment::{MeshTransport, secured};
use futures::future::{BoxFuture, Ready, ready};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    },
    identity::Keypair,
    multiaddr::Protocol,
};
use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::Ipv4Addr,
    pin::Pin,
    task::{Context, Poll},
};

/// Where nodes listen.
const PORT: u16 = 8420;
/// Where dials seem to come from.
const EPHEMERAL_PORT: u16 = 40_000;
/// Host 0 has the address after this one.
const FIRST_ADDRESS: u32 = 0x0a00_0000;

/// Where a host listens.
#[must_use]
pub fn address_of(host: usize) -> Multiaddr {
    at_port(host, PORT)
}

fn at_port(host: usize, port: u16) -> Multiaddr {
    let number = FIRST_ADDRESS + 1 + u32::try_from(host).unwrap_or(u32::MAX - FIRST_ADDRESS - 1);
    Multiaddr::empty().with(Protocol::Ip4(Ipv4Addr::from_bits(number))).with(Protocol::Tcp(port))
}

fn host_of(address: &Multiaddr) -> Option<(usize, u16)> {
    let mut parts = address.iter();
    let (Protocol::Ip4(ip), Protocol::Tcp(port)) = (parts.next()?, parts.next()?) else {
        return None;
    };
    let number = ip.to_bits().checked_sub(FIRST_ADDRESS + 1)?;
    Some((usize::try_from(number).ok()?, port))
}

/// A connection as the network gives it.
#[derive(Debug)]
pub enum Connected {
    Stream(Stream),
    Muxer(Muxer),
}

/// Listens and dials for one host.
#[derive(Debug)]
pub struct SimulatedTransport {
    network: Network,
    host: usize,
    ports: Vec<u16>,
}

impl SimulatedTransport {
    pub(super) fn new(network: Network, host: usize) -> Self {
        Self { network, host, ports: Vec::new() }
    }

    /// What a node is given: with its own Noise and Yamux, or with simulated streams.
    ///
    /// # Errors
    /// When the key is unusable.
    pub fn into_mesh(self, key: &Keypair) -> anyhow::Result<MeshTransport> {
        let wrong = || io::Error::other("the network simulates the other level");
        match self.network.fidelity() {
            Fidelity::Full => {
                let streams = self.and_then(move |connected, _| async move {
                    match connected {
                        Connected::Stream(stream) => Ok(stream),
                        Connected::Muxer(_) => Err(wrong()),
                    }
                });
                secured(streams, key)
            }
            Fidelity::Muxer => {
                let network = self.network.clone();
                let muxers = self.and_then(move |connected, _| async move {
                    match connected {
                        Connected::Muxer(muxer) => {
                            let peer = network.with(|inner| inner.peer_across(&muxer));
                            Ok((peer, StreamMuxerBox::new(muxer)))
                        }
                        Connected::Stream(_) => Err(wrong()),
                    }
                });
                Ok(muxers.boxed())
            }
        }
    }
}

impl super::Inner {
    /// Whom a muxer leads to: what Noise would have proven.
    fn peer_across(&self, muxer: &Muxer) -> PeerId {
        let (connection, side) = muxer.place();
        self.hosts[self.connections[connection].hosts[1 - side]].profile.peer
    }
}

/// A dial that has begun.
#[derive(Debug)]
struct Dialling {
    network: Network,
    id: u64,
}

impl Future for Dialling {
    type Output = io::Result<Connected>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let made = self.network.with(|inner| inner.poll_dial(self.id, context));
        made.map(|made| match made {
            Ok(half) => Ok(Half::take(half, &self.network)),
            Err(kind) => Err(kind.into()),
        })
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.network.with(|inner| inner.abandon_dial(self.id));
    }
}

impl Transport for SimulatedTransport {
    type Output = Connected;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Connected>>;
    type Dial = BoxFuture<'static, io::Result<Connected>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let Some(place) = host_of(&address).filter(|place| place.0 == self.host) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let listener =
            Listener { id, address, announced: false, incoming: VecDeque::new(), waker: None };
        self.network.with(|inner| inner.listeners.insert(place, listener));
        self.ports.push(place.1);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let ports = std::mem::take(&mut self.ports);
        let (removed, kept) = self.network.with(|inner| {
            ports.into_iter().partition::<Vec<_>, _>(|port| {
                inner.listeners.get(&(self.host, *port)).is_some_and(|known| known.id == id)
            })
        });
        self.ports = kept;
        for port in &removed {
            self.network.with(|inner| inner.stop_listening((self.host, *port)));
        }
        !removed.is_empty()
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(to) = host_of(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let id = self.network.with(|inner| inner.start_dial(self.host, to));
        Ok(Box::pin(Dialling { network: self.network.clone(), id }))
    }

    fn poll(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let this = self.get_mut();
        this.network.with(|inner| inner.poll_listeners(this.host, &this.ports, context)).map(
            |event| match event {
                Event::NewAddress(listener_id, listen_addr) => {
                    TransportEvent::NewAddress { listener_id, listen_addr }
                }
                Event::Incoming { listener_id, half, from, local_addr } => {
                    TransportEvent::Incoming {
                        listener_id,
                        upgrade: ready(Ok(half.take(&this.network))),
                        local_addr,
                        send_back_addr: at_port(from, EPHEMERAL_PORT),
                    }
                }
            },
        )
    }
}

impl Drop for SimulatedTransport {
    fn drop(&mut self) {
        for port in &self.ports {
            self.network.with(|inner| inner.stop_listening((self.host, *port)));
        }
    }
}

enum Event {
    NewAddress(ListenerId, Multiaddr),
    Incoming { listener_id: ListenerId, half: Half, from: usize, local_addr: Multiaddr },
}

impl super::Inner {
    fn poll_listeners(&mut self, host: usize, ports: &[u16], context: &Context<'_>) -> Poll<Event> {
        for port in ports {
            let Some(listener) = self.listeners.get_mut(&(host, *port)) else { continue };
            if !listener.announced {
                listener.announced = true;
                return Poll::Ready(Event::NewAddress(listener.id, listener.address.clone()));
            }
            if let Some((half, from)) = listener.incoming.pop_front() {
                let (listener_id, local_addr) = (listener.id, listener.address.clone());
                return Poll::Ready(Event::Incoming { listener_id, half, from, local_addr });
            }
            listener.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn stop_listening(&mut self, place: (usize, u16)) {
        let Some(listener) = self.listeners.remove(&place) else { return };
        for (half, _) in listener.incoming {
            self.drop_half(half);
        }
    }
}
