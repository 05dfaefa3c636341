//! The swarm's task: drives libp2p, serves commands, signs and sends adverts.

use super::{
    Command, Config, IncomingQuery, Metrics,
    behaviour::{self, Behaviour, BehaviourEvent, REQUEST_TIMEOUT},
    identity, now,
    state::Shared,
};
use crate::environment::{MeshTransport, Tasks};
use archipelag_protocol::{
    advert::{self, Advert, MAX_ADDRESSES},
    catalog::Entry,
    codec,
    event::bounded,
    id::NodeId,
    limits::MAX_ADVERT_BYTES,
    query::{self, Request, Response},
    sign::SecretKey,
};
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, gossipsub, identify, kad, mdns,
    multiaddr::Protocol as Part,
    ping, request_response,
    swarm::{DialError, SwarmEvent, dial_opts::{DialOpts, PeerCondition}},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::Duration,
};
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
    topic: gossipsub::IdentTopic,
    sequence: u64,
    dials: BTreeMap<PeerId, Vec<oneshot::Sender<Result<(), String>>>>,
    asked: BTreeMap<request_response::OutboundRequestId, Asked>,
    lookups: BTreeMap<String, Lookup>,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    strikes: BTreeMap<NodeId, u32>,
    blocked: BTreeMap<PeerId, Instant>,
}

/// Who waits for a query's answer.
enum Asked {
    Caller(oneshot::Sender<Result<Vec<u8>, String>>),
    /// The mesh itself: it asked a new peer which Islands it knows.
    Adverts(NodeId),
}

/// Who waits for a Kademlia query.
enum Lookup {
    Entry { key: [u8; 32], best: Option<Entry>, answer: oneshot::Sender<Option<Entry>> },
    Providers { found: Vec<NodeId>, answer: oneshot::Sender<Vec<NodeId>> },
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
        let topic = behaviour::adverts_topic(shared.network);
        Ok(Self {
            swarm,
            config,
            key: SecretKey::from_seed(seed),
            shared,
            inbox,
            tasks: tasks.clone(),
            topic,
            sequence: now().0,
            dials: BTreeMap::new(),
            asked: BTreeMap::new(),
            lookups: BTreeMap::new(),
            answers: mpsc::channel(256),
            strikes: BTreeMap::new(),
            blocked: BTreeMap::new(),
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
        let over: Vec<PeerId> =
            self.blocked.iter().filter(|(_, until)| **until <= Instant::now()).map(|(p, _)| *p).collect();
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
                let id = self.swarm.behaviour_mut().kad.get_providers(kad::RecordKey::new(&content.0));
                self.lookups.insert(id.to_string(), Lookup::Providers { found: Vec::new(), answer });
            }
            Command::Misbehaved { node, reason } => self.strike(node, &reason),
        }
    }

    fn on_dial(&mut self, node: NodeId, addresses: Vec<Multiaddr>, answer: oneshot::Sender<Result<(), String>>) {
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

    /// Signs the newest advert body and gossips it.
    fn advertise(&mut self) {
        let Some(mut advert) = self.inbox.advert.borrow_and_update().clone() else { return };
        self.sequence += 1;
        advert.node = self.shared.node;
        advert.sequence = self.sequence;
        advert.issued = now();
        advert.addresses = self
            .shared
            .listen_addresses()
            .into_iter()
            .take(MAX_ADDRESSES)
            .map(|address| serde_bytes::ByteBuf::from(address.to_vec()))
            .collect();
        let sealed = advert.validate().map_err(anyhow::Error::from).and_then(|()| {
            let signed = self.key.seal(self.shared.network, advert)?;
            let bytes = codec::encode("advert", &signed)?;
            anyhow::ensure!(bytes.len() <= MAX_ADVERT_BYTES, "longer than {MAX_ADVERT_BYTES} bytes");
            Ok((signed, bytes))
        });
        match sealed {
            Ok((signed, bytes)) => {
                self.shared.see(signed);
                // With nobody subscribed there is nobody to tell; the next one is 10 s away.
                let _ = self.swarm.behaviour_mut().gossip.publish(self.topic.clone(), bytes);
            }
            Err(error) => tracing::error!(%error, "mesh.advertise: own advert is not valid"),
        }
    }

    fn announce(&mut self, entry: &Entry) {
        let bytes = match entry.to_bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, "mesh.announce");
                return;
            }
        };
        let slug = Entry::key_of_slug(&entry.manifest.value.slug);
        for key in [Entry::key_of_cargo(entry.record.cargo), slug] {
            let record = kad::Record::new(kad::RecordKey::new(&key), bytes.clone());
            if let Err(error) = self.swarm.behaviour_mut().kad.put_record(record, kad::Quorum::One) {
                tracing::warn!(%error, "mesh.announce: the record store is full");
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. } => {
                self.shared.listening(address);
                self.advertise();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.shared.stopped_listening(&address),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                self.dialled(peer_id, &Ok(()));
                if let Some(node) = identity::node_of(peer_id) {
                    self.shared.connected(node, endpoint.get_remote_address());
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                if let Some(node) = identity::node_of(peer_id) {
                    self.shared.disconnected(node);
                    if cause.is_some() {
                        self.shared.forget(node);
                    }
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

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, info);
            }
            BehaviourEvent::Ping(ping::Event { peer, result: Ok(rtt), .. }) => {
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

    /// A peer said who it is: remember it in the routing table when it speaks our network's
    /// protocols, and ask it which Islands it knows.
    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let Some(node) = identity::node_of(peer) else { return };
        let ours = behaviour::protocol(self.shared.network, "kad/1");
        if info.protocols.contains(&ours) {
            for address in info.listen_addrs.into_iter().take(MAX_ADDRESSES) {
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
        let asking = self.asked.values().any(|asked| matches!(asked, Asked::Adverts(n) if *n == node));
        let query = behaviour::protocol(self.shared.network, "query/1");
        if asking || !info.protocols.contains(&query) {
            return;
        }
        if let Ok(request) = codec::encode_loose("query", &Request::Adverts) {
            let id = self.swarm.behaviour_mut().query.send_request(&peer, request);
            self.asked.insert(id, Asked::Adverts(node));
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let acceptance = self.on_advert(&message.data);
                if acceptance == gossipsub::MessageAcceptance::Reject {
                    if let Some(node) = identity::node_of(propagation_source) {
                        self.strike(node, "it sent an invalid advert");
                    }
                }
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                gossip.report_message_validation_result(&message_id, &propagation_source, acceptance);
            }
            // A newcomer need not wait for the next interval.
            gossipsub::Event::Subscribed { .. } => self.advertise(),
            _ => {}
        }
    }

    fn on_advert(&self, bytes: &[u8]) -> gossipsub::MessageAcceptance {
        let metrics = &self.shared.metrics;
        match advert::decode(bytes, self.shared.network, &self.shared.genesis.policy.advert, now()) {
            Ok(advert) if advert.value.node == self.shared.node => gossipsub::MessageAcceptance::Ignore,
            Ok(advert) => {
                if self.shared.see(advert) {
                    Metrics::add(&metrics.adverts_accepted);
                    gossipsub::MessageAcceptance::Accept
                } else {
                    gossipsub::MessageAcceptance::Ignore
                }
            }
            Err(advert::Error::Expired { .. } | advert::Error::FromTheFuture(_)) => {
                gossipsub::MessageAcceptance::Ignore
            }
            Err(error) => {
                tracing::debug!(%error, "mesh.advert");
                Metrics::add(&metrics.adverts_rejected);
                gossipsub::MessageAcceptance::Reject
            }
        }
    }

    fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request: kad::InboundRequest::PutRecord { source, record: Some(record), .. },
            } => self.on_put(source, record),
            kad::Event::InboundRequest {
                request: kad::InboundRequest::AddProvider { record: Some(record) },
            } => {
                // Provider claims are hints only: who fetches verifies the content.
                if let Err(error) = kad::store::RecordStore::add_provider(
                    self.swarm.behaviour_mut().kad.store_mut(),
                    record,
                ) {
                    tracing::debug!(%error, "mesh.provider");
                }
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                let id = id.to_string();
                self.on_lookup(&id, result);
                if step.last {
                    self.finish_lookup(&id);
                }
            }
            _ => {}
        }
    }

    fn on_put(&mut self, source: PeerId, record: kad::Record) {
        match self.check_record(record.key.as_ref(), &record.value) {
            Ok(entry) => {
                let store = self.swarm.behaviour_mut().kad.store_mut();
                let newer = kad::store::RecordStore::get(store, &record.key)
                    .and_then(|known| codec::decode::<Entry>("catalog entry", usize::MAX, &known.value).ok())
                    .is_none_or(|known| known.record.height <= entry.record.height);
                if newer && kad::store::RecordStore::put(store, record).is_ok() {
                    Metrics::add(&self.shared.metrics.records_accepted);
                }
            }
            Err(error) => {
                Metrics::add(&self.shared.metrics.records_rejected);
                if let Some(node) = identity::node_of(source) {
                    self.strike(node, &error);
                }
            }
        }
    }

    /// A record counts only under its own key and with its signatures.
    fn check_record(&self, key: &[u8], value: &[u8]) -> Result<Entry, String> {
        let entry = Entry::decode(value, self.shared.network, &self.shared.genesis)
            .map_err(|e| bounded(e.to_string()))?;
        let own = [
            Entry::key_of_cargo(entry.record.cargo),
            Entry::key_of_slug(&entry.manifest.value.slug),
        ];
        if own.iter().any(|k| k == key) { Ok(entry) } else { Err("a record under another's key".into()) }
    }

    fn on_lookup(&mut self, id: &str, result: kad::QueryResult) {
        match (self.lookups.get_mut(id), result) {
            (Some(Lookup::Entry { key, .. }), kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found)))) => {
                let key = *key;
                let checked = self.check_record(&key, &found.record.value);
                match (checked, self.lookups.get_mut(id)) {
                    (Ok(entry), Some(Lookup::Entry { best, .. })) => {
                        Metrics::add(&self.shared.metrics.records_accepted);
                        if best.as_ref().is_none_or(|b| b.record.height < entry.record.height) {
                            *best = Some(entry);
                        }
                    }
                    (Err(error), _) => {
                        Metrics::add(&self.shared.metrics.records_rejected);
                        if let Some(node) = found.peer.and_then(identity::node_of) {
                            self.strike(node, &error);
                        }
                    }
                    (Ok(_), _) => {}
                }
            }
            (
                Some(Lookup::Providers { found, .. }),
                kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })),
            ) => found.extend(providers.into_iter().filter_map(identity::node_of)),
            _ => {}
        }
    }

    fn finish_lookup(&mut self, id: &str) {
        match self.lookups.remove(id) {
            Some(Lookup::Entry { best, answer, .. }) => {
                let _ = answer.send(best);
            }
            Some(Lookup::Providers { found, answer }) => {
                let _ = answer.send(found);
            }
            None => {}
        }
    }

    fn on_query(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    Metrics::add(&self.shared.metrics.queries);
                    self.on_request(peer, &request, channel);
                }
                request_response::Message::Response { request_id, response } => {
                    match self.asked.remove(&request_id) {
                        Some(Asked::Caller(answer)) => {
                            let _ = answer.send(Ok(response));
                        }
                        Some(Asked::Adverts(node)) => self.on_adverts(node, &response),
                        None => {}
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(Asked::Caller(answer)) = self.asked.remove(&request_id) {
                    let _ = answer.send(Err(error.to_string()));
                }
            }
            _ => {}
        }
    }

    fn on_adverts(&mut self, node: NodeId, response: &[u8]) {
        match query::decode_response(response) {
            Ok(Response::Adverts(adverts)) => {
                for bytes in adverts {
                    if self.on_advert(&bytes) == gossipsub::MessageAcceptance::Reject {
                        self.strike(node, "it answered with an invalid advert");
                    }
                }
            }
            Ok(_) => {}
            Err(error) => self.strike(node, &error.to_string()),
        }
    }

    fn on_request(&mut self, peer: PeerId, bytes: &[u8], channel: request_response::ResponseChannel<Vec<u8>>) {
        let Some(node) = identity::node_of(peer) else { return };
        match query::decode_request(bytes) {
            Ok(Request::Adverts) => self.respond(channel, &Response::Adverts(self.known_adverts())),
            Ok(request) => {
                let (answer, answered) = oneshot::channel();
                if self.inbox.queries.try_send((node, request, answer)).is_err() {
                    self.respond(channel, &Response::Unavailable("this node is busy: try again".into()));
                    return;
                }
                let answers = self.answers.0.clone();
                self.tasks.spawn(async move {
                    let answered = tokio::time::timeout(REQUEST_TIMEOUT, answered).await;
                    let response = match answered {
                        Ok(Ok(response)) => response,
                        _ => Response::Unavailable("this node did not answer in time".into()),
                    };
                    // When the swarm's task is gone, so is the asker's connection.
                    let _ = answers.send((channel, response)).await;
                });
            }
            Err(error) => {
                self.strike(node, &error.to_string());
                self.respond(channel, &Response::Unavailable(bounded(error.to_string())));
            }
        }
    }

    /// Adverts that this node would vouch for, at most as many as fit one answer.
    fn known_adverts(&self) -> Vec<serde_bytes::ByteBuf> {
        let mut room = archipelag_protocol::limits::MAX_QUERY_BYTES - 1024;
        let mut adverts = Vec::new();
        for island in self.shared.islands(now()) {
            let Ok(bytes) = codec::encode("advert", &*island.advert) else { continue };
            let Some(left) = room.checked_sub(bytes.len() + 8) else { break };
            room = left;
            adverts.push(serde_bytes::ByteBuf::from(bytes));
        }
        adverts
    }

    fn respond(&mut self, channel: request_response::ResponseChannel<Vec<u8>>, response: &Response) {
        let bytes = codec::encode_loose("query answer", response)
            .ok()
            .filter(|bytes| bytes.len() <= archipelag_protocol::limits::MAX_QUERY_BYTES)
            .or_else(|| {
                let reason = "the answer is longer than a message may be: ask for fewer items";
                codec::encode_loose("query answer", &Response::Unavailable(reason.into())).ok()
            });
        if let Some(bytes) = bytes {
            // The asker may be gone.
            let _ = self.swarm.behaviour_mut().query.send_response(channel, bytes);
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
            Metrics::add(&self.shared.metrics.peers_blocked);
        }
    }
}
