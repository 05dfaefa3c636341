//! The swarm's task: drives libp2p, serves commands, signs and sends adverts.

mod adverts;
mod gossip;
mod queries;
mod records;
mod routes;

use super::{
    Command, Config, Gossiped, IncomingQuery,
    behaviour::{self, Behaviour, BehaviourEvent, REQUEST_TIMEOUT},
    identity, now,
    state::Shared,
};
use crate::environment::{MeshTransport, Tasks};
use archipelag_protocol::{
    advert::{Advert, MAX_ADDRESSES},
    catalog::Entry,
    codec,
    event::bounded,
    id::NodeId,
    query::{Request, Response},
    sign::SecretKey,
};
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, gossipsub, identify, kad, mdns,
    multiaddr::Protocol as Part,
    ping, request_response,
    swarm::{
        ConnectionId, DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use routes::Routes;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// How often lost bootstrap nodes are dialled again and old adverts are dropped.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Idle connections are closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Bad messages until a peer is blocked, and for how long.
const STRIKES: u32 = 5;
const BLOCK_TIME: Duration = Duration::from_secs(600);
/// Peers that a node asks which Islands there are, when it is new or was alone: what comes later it
/// hears by gossip.
const ASKED_FOR_ADVERTS: u32 = 3;
/// Pings in a row without an answer, of 20 seconds each, after which a connection counts as dead.
const PINGS_UNANSWERED: u32 = 2;
/// Lookups and dials that may be under way at a time.
const MAX_PENDING: usize = 1024;

/// Where the task gets its work from.
pub(super) struct Inbox {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) queries: mpsc::Sender<IncomingQuery>,
    pub(super) advert: watch::Receiver<Option<Advert>>,
}

pub(super) struct Actor {
    swarm: Swarm<Behaviour>,
    config: Config,
    key: SecretKey,
    shared: Arc<Shared>,
    inbox: Inbox,
    tasks: Tasks,
    topics: Topics,
    /// Who judges gossiped transactions.
    judge: Option<mpsc::Sender<Gossiped>>,
    sequence: u64,
    /// Nobody listened to the last advert.
    unheard: bool,
    dials: BTreeMap<PeerId, Vec<oneshot::Sender<Result<(), String>>>>,
    asked: BTreeMap<request_response::OutboundRequestId, Asked>,
    /// Peers that said which Islands they know, since this node was last alone.
    told: u32,
    lookups: BTreeMap<String, Lookup>,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    strikes: BTreeMap<NodeId, u32>,
    blocked: BTreeMap<PeerId, Instant>,
    routes: Routes,
    /// Pings in a row that were not answered.
    unanswered: BTreeMap<ConnectionId, u32>,
}

/// What is gossiped.
struct Topics {
    adverts: gossipsub::IdentTopic,
    transactions: gossipsub::IdentTopic,
}

/// Who waits for a query's answer.
enum Asked {
    Caller(oneshot::Sender<Result<Vec<u8>, String>>),
    /// The mesh itself: it asked a new peer which Islands it knows.
    Adverts(NodeId),
}

/// Who waits for a Kademlia query.
#[expect(clippy::large_enum_variant, reason = "few lookups run at a time")]
enum Lookup {
    Entry { key: [u8; 32], best: Option<Entry>, answer: oneshot::Sender<Option<Entry>> },
    Providers { found: Vec<NodeId>, answer: oneshot::Sender<Vec<NodeId>> },
}

impl Asked {
    fn whose_adverts(&self) -> Option<NodeId> {
        match self {
            Self::Adverts(node) => Some(*node),
            Self::Caller(_) => None,
        }
    }
}

type Answer = (request_response::ResponseChannel<Vec<u8>>, Response);

impl Actor {
    pub(super) fn new(
        config: Config,
        key: &libp2p::identity::Keypair,
        shared: Arc<Shared>,
        transport: MeshTransport,
        inbox: Inbox,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let behaviour = Behaviour::new(&config, shared.network, key, shared.streams.clone())?;
        let executor = tasks.clone();
        let swarm_config = libp2p::swarm::Config::with_executor(move |task| executor.spawn(task))
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_substream_upgrade_protocol_override(libp2p::core::upgrade::Version::V1Lazy);
        let peer = key.public().to_peer_id();
        let mut swarm = Swarm::new(transport, behaviour, peer, swarm_config);
        for address in &config.listen {
            swarm
                .listen_on(address.clone())
                .map_err(|e| anyhow::anyhow!("can't listen on {address}: {e}"))?;
        }
        let seed: [u8; 32] = key.clone().try_into_ed25519()?.secret().as_ref().try_into()?;
        let topics = Topics {
            adverts: behaviour::adverts_topic(shared.network),
            transactions: behaviour::transactions_topic(shared.network),
        };
        Ok(Self {
            swarm,
            config,
            key: SecretKey::from_seed(seed),
            shared,
            inbox,
            tasks: tasks.clone(),
            topics,
            judge: None,
            sequence: now().0,
            unheard: false,
            dials: BTreeMap::new(),
            asked: BTreeMap::new(),
            told: 0,
            lookups: BTreeMap::new(),
            answers: mpsc::channel(256),
            strikes: BTreeMap::new(),
            blocked: BTreeMap::new(),
            routes: Routes::new(Instant::now()),
            unanswered: BTreeMap::new(),
        })
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let period = Duration::from_millis(self.shared.genesis.policy.advert.interval_ms.max(100));
        let mut advertise = interval(period);
        advertise.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut upkeep = interval(UPKEEP_INTERVAL);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(command) = self.inbox.commands.recv() => self.on_command(command),
                Some((channel, response)) = self.answers.1.recv() => self.respond(channel, &response),
                Ok(()) = self.inbox.advert.changed() => self.advertise(),
                _ = advertise.tick() => self.advertise(),
                _ = upkeep.tick() => self.upkeep(),
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
    }

    fn upkeep(&mut self) {
        self.shared.expire(now());
        let entering = self.routes.due(Instant::now());
        self.enter(entering);
        let adverts = self.topics.adverts.hash();
        self.shared.set_neighbours(self.swarm.behaviour().gossip.mesh_peers(&adverts).count());
        let over: Vec<PeerId> = self
            .blocked
            .iter()
            .filter(|(_, until)| **until <= Instant::now())
            .map(|(p, _)| *p)
            .collect();
        for peer in over {
            self.blocked.remove(&peer);
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
        for address in self.config.bootstrap.clone() {
            let Some(Part::P2p(peer)) = address.iter().last() else { continue };
            if peer != *self.swarm.local_peer_id() && !self.swarm.is_connected(&peer) {
                self.dial(peer, vec![address]);
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { node, addresses, answer } => self.on_dial(node, addresses, answer),
            Command::Query { node, request, answer } => {
                let Some(peer) = identity::peer_of(node) else {
                    let _ = answer.send(Err("not a node id".into()));
                    return;
                };
                let addresses = self.addresses_of(node);
                let id = self
                    .swarm
                    .behaviour_mut()
                    .query
                    .send_request_with_addresses(&peer, request, addresses);
                self.asked.insert(id, Asked::Caller(answer));
            }
            Command::Lookup { key, answer } => {
                if self.lookups.len() >= MAX_PENDING {
                    return;
                }
                let id = self.swarm.behaviour_mut().kad.get_record(kad::RecordKey::new(&key));
                self.lookups.insert(id.to_string(), Lookup::Entry { key, best: None, answer });
            }
            Command::Announce(entry) => self.announce(&entry),
            Command::Provide(content) => {
                let key = kad::RecordKey::new(&content.0);
                if let Err(error) = self.swarm.behaviour_mut().kad.start_providing(key) {
                    tracing::warn!(%content, %error, "mesh.provide: the provider list is full");
                }
            }
            Command::Providers { content, answer } => {
                if self.lookups.len() >= MAX_PENDING {
                    return;
                }
                let id =
                    self.swarm.behaviour_mut().kad.get_providers(kad::RecordKey::new(&content.0));
                self.lookups
                    .insert(id.to_string(), Lookup::Providers { found: Vec::new(), answer });
            }
            Command::Misbehaved { node, reason } => self.strike(node, &reason),
            Command::Spread(transaction) => self.spread(transaction),
            Command::Listen(judge) => self.listen(judge),
            Command::Judged { gossiped, verdict } => self.judged(&gossiped, verdict),
        }
    }

    fn on_dial(
        &mut self,
        node: NodeId,
        addresses: Vec<Multiaddr>,
        answer: oneshot::Sender<Result<(), String>>,
    ) {
        let Some(peer) = identity::peer_of(node) else {
            let _ = answer.send(Err("not a node id".into()));
            return;
        };
        if self.swarm.is_connected(&peer) {
            let _ = answer.send(Ok(()));
            return;
        }
        if self.dials.len() >= MAX_PENDING {
            let _ = answer.send(Err("too many dials are under way".into()));
            return;
        }
        self.dials.entry(peer).or_default().push(answer);
        let addresses = if addresses.is_empty() { self.addresses_of(node) } else { addresses };
        self.dial(peer, addresses);
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            .build();
        match self.swarm.dial(options) {
            // A dial that is under way already answers for this one too.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.dialled(peer, &Err(error.to_string())),
        }
    }

    fn dialled(&mut self, peer: PeerId, outcome: &Result<(), String>) {
        for answer in self.dials.remove(&peer).unwrap_or_default() {
            let _ = answer.send(outcome.clone());
        }
    }

    fn addresses_of(&self, node: NodeId) -> Vec<Multiaddr> {
        let Some(advert) = self.shared.advert_of(node) else { return Vec::new() };
        let addresses = advert.value.addresses.iter();
        addresses.filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok()).collect()
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. } => {
                self.shared.listening(address);
                self.advertise();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.shared.stopped_listening(&address)
            }
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                self.dialled(peer_id, &Ok(()));
                if let Some(node) = identity::node_of(peer_id) {
                    self.shared.connected(node, endpoint.get_remote_address());
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id, connection_id, num_established, cause, ..
            } => {
                self.unanswered.remove(&connection_id);
                if num_established == 0 {
                    self.lost(peer_id, cause.is_some());
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                tracing::debug!(%peer, %error, "mesh.dial");
                if !self.swarm.is_connected(&peer) {
                    self.dialled(peer, &Err(bounded(error.to_string())));
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "mesh.listen"),
            _ => {}
        }
    }

    /// The last connection to a peer is gone.
    fn lost(&mut self, peer: PeerId, broke: bool) {
        let Some(node) = identity::node_of(peer) else { return };
        self.shared.disconnected(node);
        if self.swarm.connected_peers().next().is_none() {
            self.told = 0;
            self.routes.alone(Instant::now());
        }
        if broke {
            self.shared.forget(node);
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, info);
            }
            BehaviourEvent::Ping(ping::Event { connection, result: Err(failure), .. }) => {
                self.unanswered(connection, &failure);
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Ok(rtt) }) => {
                self.unanswered.remove(&connection);
                if let Some(node) = identity::node_of(peer) {
                    self.shared.measured(node, u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
                }
            }
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                let mut peers: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
                for (peer, address) in found.into_iter().take(MAX_PENDING) {
                    peers.entry(peer).or_default().push(address);
                }
                for (peer, addresses) in peers {
                    self.dial(peer, addresses);
                }
            }
            BehaviourEvent::Query(event) => self.on_query(event),
            BehaviourEvent::Genesis(request_response::Event::Message {
                message: request_response::Message::Request { channel, .. },
                ..
            }) => {
                if let Ok(bytes) = self.shared.genesis.to_bytes() {
                    let _ = self.swarm.behaviour_mut().genesis.send_response(channel, bytes);
                }
            }
            _ => {}
        }
    }

    fn enter(&mut self, peers: BTreeMap<PeerId, Vec<Multiaddr>>) {
        for (peer, addresses) in peers {
            for address in addresses {
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
    }

    /// A host without power or a network says nothing, and TCP believes in it for a quarter of an
    /// hour: by then gossip would have gone to nobody.
    fn unanswered(&mut self, connection: ConnectionId, failure: &ping::Failure) {
        if matches!(failure, ping::Failure::Unsupported) {
            return;
        }
        let count = self.unanswered.entry(connection).or_insert(0);
        *count += 1;
        if *count >= PINGS_UNANSWERED {
            self.swarm.close_connection(connection);
        }
    }

    /// A peer said who it is: remember it in the routing table when it speaks our network's
    /// protocols, and ask it which Islands it knows.
    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let Some(node) = identity::node_of(peer) else { return };
        let ours = behaviour::protocol(self.shared.network, "kad/1");
        if info.protocols.contains(&ours) {
            let addresses = info.listen_addrs.into_iter().take(MAX_ADDRESSES).collect();
            let entering = self.routes.met(peer, addresses);
            self.enter(entering);
        }
        let asking: Vec<NodeId> = self.asked.values().filter_map(Asked::whose_adverts).collect();
        let enough = self.told + u32::try_from(asking.len()).unwrap_or(u32::MAX);
        let query = behaviour::protocol(self.shared.network, "query/1");
        if enough >= ASKED_FOR_ADVERTS || asking.contains(&node) || !info.protocols.contains(&query)
        {
            return;
        }
        if let Ok(request) = codec::encode_loose("query", &Request::Adverts) {
            let id = self.swarm.behaviour_mut().query.send_request(&peer, request);
            self.asked.insert(id, Asked::Adverts(node));
        }
    }

    fn strike(&mut self, node: NodeId, reason: &str) {
        let Some(peer) = identity::peer_of(node) else { return };
        if self.strikes.len() > MAX_PENDING {
            self.strikes.clear();
        }
        let strikes = self.strikes.entry(node).or_insert(0);
        *strikes += 1;
        tracing::info!(node = %node.short(), strikes = *strikes, reason, "mesh.misbehaved");
        if *strikes >= STRIKES {
            self.strikes.remove(&node);
            self.blocked.insert(peer, Instant::now() + BLOCK_TIME);
            self.swarm.behaviour_mut().blocked.block_peer(peer);
            self.shared.forget(node);
            self.shared.metrics.peers_blocked.inc();
        }
    }
}
