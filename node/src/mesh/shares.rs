//! What one address may take of the places for incoming connections, so that whoever has one
//! address can't keep everybody else out: by connecting and saying nothing, or by many identities.
//!
//! Many honest nodes may share an address. A connection without one (within a process) is not
//! counted.

use crate::origin::origin;
use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, ListenFailure,
        NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished, dummy,
    },
};
use std::{
    collections::HashMap,
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
};
use thiserror::Error;

#[derive(Debug, Error)]
#[error("{origin} has {most} {what} connections to this node, which is its share")]
struct Exceeded {
    origin: IpAddr,
    most: usize,
    what: &'static str,
}

/// Connections of one kind, by where they come from. The swarm bounds how many there are.
#[derive(Debug)]
struct Share {
    what: &'static str,
    most: usize,
    taken: HashMap<ConnectionId, IpAddr>,
}

impl Share {
    /// A part of `places`, rounded up.
    fn new(what: &'static str, places: u32, part: u32) -> Self {
        let most = usize::try_from(places.div_ceil(part)).unwrap_or(usize::MAX);
        Self { what, most, taken: HashMap::new() }
    }

    fn check(&self, origin: Option<IpAddr>) -> Result<(), ConnectionDenied> {
        let (Some(origin), most, what) = (origin, self.most, self.what) else { return Ok(()) };
        if self.taken.values().filter(|taken| **taken == origin).count() < most {
            return Ok(());
        }
        Err(ConnectionDenied::new(Exceeded { origin, most, what }))
    }

    fn take(&mut self, connection: ConnectionId, origin: Option<IpAddr>) {
        self.taken.extend(origin.map(|origin| (connection, origin)));
    }
}

/// Denies incoming connections beyond an address's share.
#[derive(Debug)]
pub(super) struct Behaviour {
    pending: Share,
    established: Share,
}

impl Behaviour {
    /// Of `pending` places that connections have until they are encrypted one address gets a
    /// quarter, of `established` ones half.
    pub(super) fn new(pending: u32, established: u32) -> Self {
        Self {
            pending: Share::new("unfinished", pending, 4),
            established: Share::new("incoming", established, 2),
        }
    }
}

/// Whom a connection counts for.
fn origin_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(origin(ip.into())),
        Protocol::Ip6(ip) => Some(origin(ip.into())),
        _ => None,
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let origin = origin_of(remote);
        self.pending.check(origin)?;
        self.pending.take(connection, origin);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.taken.remove(&connection);
        self.established.check(origin_of(remote))?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            // Not before: another behaviour may have denied it.
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                connection_id,
                endpoint: ConnectedPoint::Listener { send_back_addr, .. },
                ..
            }) => self.established.take(connection_id, origin_of(send_back_addr)),
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.established.taken.remove(&connection_id);
            }
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.pending.taken.remove(&connection_id);
            }
            _ => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::swarm::ListenError;

    const HERE: &str = "/ip4/192.0.2.1/tcp/1";

    /// A behaviour with shares of 2 pending and 3 established connections.
    struct Door {
        behaviour: Behaviour,
        next: usize,
    }

    impl Door {
        fn new() -> Self {
            Self { behaviour: Behaviour::new(8, 5), next: 0 }
        }

        fn knock(&mut self, from: &str) -> Option<ConnectionId> {
            self.next += 1;
            let (id, here) = (ConnectionId::new_unchecked(self.next), HERE.parse().unwrap());
            let from = from.parse().unwrap();
            self.behaviour.handle_pending_inbound_connection(id, &here, &from).ok().map(|()| id)
        }

        fn gives_up(&mut self, id: ConnectionId) {
            let address = HERE.parse().unwrap();
            self.behaviour.on_swarm_event(FromSwarm::ListenFailure(ListenFailure {
                local_addr: &address,
                send_back_addr: &address,
                error: &ListenError::Aborted,
                connection_id: id,
                peer_id: None,
            }));
        }

        fn enter(&mut self, from: &str) -> Option<ConnectionId> {
            let id = self.knock(from).expect("no place to knock");
            let (here, from): (Multiaddr, Multiaddr) =
                (HERE.parse().unwrap(), from.parse().unwrap());
            let peer = PeerId::random();
            let behaviour = &mut self.behaviour;
            behaviour.handle_established_inbound_connection(id, peer, &here, &from).ok()?;
            let endpoint = ConnectedPoint::Listener { local_addr: here, send_back_addr: from };
            behaviour.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: id,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
            Some(id)
        }

        fn leave(&mut self, id: ConnectionId) {
            let address: Multiaddr = HERE.parse().unwrap();
            let endpoint =
                ConnectedPoint::Listener { local_addr: address.clone(), send_back_addr: address };
            self.behaviour.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id: PeerId::random(),
                connection_id: id,
                endpoint: &endpoint,
                cause: None,
                remaining_established: 0,
            }));
        }
    }

    #[test]
    fn who_only_knocks_gets_a_quarter_of_the_places() {
        let mut door = Door::new();
        let first = door.knock("/ip4/10.0.0.1/tcp/1").unwrap();
        door.knock("/ip4/10.0.0.1/udp/2/quic-v1").unwrap();
        assert_eq!(door.knock("/ip4/10.0.0.1/tcp/3"), None);
        assert_eq!(door.knock("/ip6/::ffff:10.0.0.1/tcp/3"), None, "the same, written otherwise");
        assert!(door.knock("/ip4/10.0.0.2/tcp/3").is_some());
        door.gives_up(first);
        assert!(door.knock("/ip4/10.0.0.1/tcp/4").is_some());
        assert_eq!(door.knock("/ip4/10.0.0.1/tcp/5"), None);
        for _ in 0..9 {
            assert!(door.knock("/memory/1").is_some());
        }
    }

    #[test]
    fn a_64_of_ipv6_counts_as_one_address() {
        let mut door = Door::new();
        door.knock("/ip6/2001:db8::1/tcp/1").unwrap();
        door.knock("/ip6/2001:db8::ffff:0:0:1/tcp/1").unwrap();
        assert_eq!(door.knock("/ip6/2001:db8::2/tcp/1"), None);
        assert!(door.knock("/ip6/2001:db8:0:1::1/tcp/1").is_some());
    }

    #[test]
    fn who_has_entered_has_half_of_the_places_and_none_before_the_door() {
        let mut door = Door::new();
        let inside: Vec<_> = (0..3).map(|_| door.enter("/ip4/10.0.0.1/tcp/1").unwrap()).collect();
        assert_eq!(door.enter("/ip4/10.0.0.1/tcp/1"), None);
        assert!(door.enter("/ip4/10.0.0.2/tcp/1").is_some());
        door.leave(inside[1]);
        assert!(door.enter("/ip4/10.0.0.1/tcp/1").is_some());
        assert_eq!(door.enter("/ip4/10.0.0.1/tcp/1"), None);
    }
}
