//! Raw streams for the job and artifact protocols, as a swarm behaviour.
//!
//! Opening a stream goes straight to the connection's task, not through the swarm's loop. Streams
//! in both directions are bounded per connection; an inbound stream that finds no room is dropped,
//! counted, and looks to its sender like a refused connection.

use super::Protocol;
use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, InboundUpgrade, OutboundUpgrade, UpgradeInfo, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Streams that one connection may have open at a time, in each direction.
const STREAMS_PER_CONNECTION: usize = 256;
/// Requests to open a stream that may wait for one connection.
const OPEN_QUEUE: usize = 64;
/// Inbound streams that may wait to be accepted, per protocol.
const ACCEPT_QUEUE: usize = 256;

/// A libp2p stream that gives its place back when dropped.
#[derive(Debug)]
pub(super) struct LimitedStream {
    stream: libp2p::swarm::Stream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Asks a connection for a stream.
#[derive(Debug)]
struct Open {
    protocol: StreamProtocol,
    answer: oneshot::Sender<Result<LimitedStream, String>>,
}

type Accepted = (PeerId, LimitedStream);

/// What the behaviour, its connections and the mesh handle share.
#[derive(Debug)]
pub(super) struct Streams {
    names: BTreeMap<Protocol, StreamProtocol>,
    accepting: Mutex<BTreeMap<Protocol, mpsc::Sender<Accepted>>>,
    connections: Mutex<BTreeMap<PeerId, BTreeMap<ConnectionId, mpsc::Sender<Open>>>>,
    /// Inbound streams dropped for want of room.
    pub(super) dropped: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    pub(super) fn new(names: BTreeMap<Protocol, StreamProtocol>) -> Arc<Self> {
        Arc::new(Self {
            names,
            accepting: Mutex::default(),
            connections: Mutex::default(),
            dropped: AtomicU64::new(0),
        })
    }

    /// From now on hands out inbound streams of `protocol`.
    pub(super) fn accept(&self, protocol: Protocol) -> mpsc::Receiver<Accepted> {
        let (sender, receiver) = mpsc::channel(ACCEPT_QUEUE);
        lock(&self.accepting).insert(protocol, sender);
        receiver
    }

    /// Opens a stream over an established connection; `None` when there is none to this peer.
    pub(super) async fn open(
        &self,
        peer: PeerId,
        protocol: Protocol,
    ) -> Option<Result<LimitedStream, String>> {
        let name = self.names.get(&protocol)?.clone();
        let connection = lock(&self.connections)
            .get(&peer)
            .and_then(|connections| connections.values().next_back().cloned())?;
        let (answer, answered) = oneshot::channel();
        connection.send(Open { protocol: name, answer }).await.ok()?;
        Some(answered.await.unwrap_or_else(|_| Err("the connection closed".into())))
    }

    fn deliver(&self, peer: PeerId, name: &StreamProtocol, stream: LimitedStream) {
        let protocol = self.names.iter().find(|(_, n)| *n == name).map(|(p, _)| *p);
        let sender = protocol.and_then(|p| lock(&self.accepting).get(&p).cloned());
        if sender.is_none_or(|sender| sender.try_send((peer, stream)).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The behaviour; one per swarm.
#[derive(Debug)]
pub(super) struct Behaviour(pub(super) Arc<Streams>);

impl Behaviour {
    fn handler(&self, connection: ConnectionId, peer: PeerId) -> Handler {
        let (sender, receiver) = mpsc::channel(OPEN_QUEUE);
        lock(&self.0.connections).entry(peer).or_default().insert(connection, sender);
        Handler {
            streams: self.0.clone(),
            peer,
            requests: receiver,
            inbound: Arc::new(Semaphore::new(STREAMS_PER_CONNECTION)),
            outbound: Arc::new(Semaphore::new(STREAMS_PER_CONNECTION)),
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            let mut connections = lock(&self.0.connections);
            if let Some(of_peer) = connections.get_mut(&closed.peer_id) {
                of_peer.remove(&closed.connection_id);
                if of_peer.is_empty() {
                    connections.remove(&closed.peer_id);
                }
            }
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// One connection's part.
#[derive(Debug)]
pub(super) struct Handler {
    streams: Arc<Streams>,
    peer: PeerId,
    requests: mpsc::Receiver<Open>,
    inbound: Arc<Semaphore>,
    outbound: Arc<Semaphore>,
}

/// What an outbound stream waits with: its place and who asked for it.
#[derive(Debug)]
pub(super) struct Waiting {
    place: OwnedSemaphorePermit,
    answer: oneshot::Sender<Result<LimitedStream, String>>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Waiting;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade, ()> {
        let accepting = lock(&self.streams.accepting);
        let names = accepting.keys().filter_map(|p| self.streams.names.get(p).cloned()).collect();
        SubstreamProtocol::new(Upgrade(names), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Upgrade, Waiting, Infallible>> {
        while let Poll::Ready(Some(Open { protocol, answer })) = self.requests.poll_recv(cx) {
            let Ok(place) = self.outbound.clone().try_acquire_owned() else {
                let limit = STREAMS_PER_CONNECTION;
                // The asker may have given up waiting; then nobody needs the answer.
                let _ = answer.send(Err(format!("{limit} streams to this peer are open already")));
                continue;
            };
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(
                    Upgrade(vec![protocol]),
                    Waiting { place, answer },
                ),
            });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade, (), Waiting>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol,
                info: (),
            }) => {
                let (stream, name) = protocol;
                match self.inbound.clone().try_acquire_owned() {
                    Ok(place) => {
                        let stream = LimitedStream { stream, _place: place };
                        self.streams.deliver(self.peer, &name, stream);
                    }
                    Err(_) => {
                        self.streams.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => {
                let stream = LimitedStream { stream: protocol.0, _place: info.place };
                // A dropped asker drops the stream, which resets it.
                let _ = info.answer.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let reason = match error {
                    StreamUpgradeError::Timeout => "opening the stream timed out".into(),
                    StreamUpgradeError::NegotiationFailed => {
                        "the peer doesn't speak this protocol".into()
                    }
                    StreamUpgradeError::Io(error) => error.to_string(),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = info.answer.send(Err(reason));
            }
            _ => {}
        }
    }
}

/// Negotiates one of some protocols and nothing more.
#[derive(Clone, Debug)]
pub(super) struct Upgrade(Vec<StreamProtocol>);

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<libp2p::swarm::Stream> for Upgrade {
    type Output = (libp2p::swarm::Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: libp2p::swarm::Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

impl OutboundUpgrade<libp2p::swarm::Stream> for Upgrade {
    type Output = (libp2p::swarm::Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: libp2p::swarm::Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}
