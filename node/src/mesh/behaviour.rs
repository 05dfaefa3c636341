//! The swarm's behaviours and their settings.

use super::{Config, Protocol, codec::BytesCodec, shares, streams};
use archipelag_protocol::{
    id::NetworkId,
    limits::{MAX_ADVERT_BYTES, MAX_ENTRY_BYTES, MAX_TRANSACTION_BYTES},
};
use libp2p::{
    PeerId, StreamProtocol, allow_block_list, connection_limits, gossipsub, identify, identity,
    kad, mdns, ping, request_response,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a request may take; the ledger answers within 10 s.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Incoming connections that may be under way, not yet encrypted.
const MAX_PENDING_INCOMING: u32 = 64;

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    shares: shares::Behaviour,
    pub(super) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) gossip: gossipsub::Behaviour,
    pub(super) kad: kad::Behaviour<kad::store::MemoryStore>,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) query: request_response::Behaviour<BytesCodec>,
    pub(super) genesis: request_response::Behaviour<BytesCodec>,
    pub(super) streams: streams::Behaviour,
}

/// `/archipelag/<network>/<name>`, so that meshes don't mix.
fn scoped(network: NetworkId, name: &str) -> String {
    format!("/archipelag/{}/{name}", &network.to_string()[..16])
}

pub(super) fn protocol(network: NetworkId, name: &str) -> StreamProtocol {
    StreamProtocol::try_from_owned(scoped(network, name))
        .unwrap_or(StreamProtocol::new("/archipelag/invalid"))
}

/// The genesis protocol carries no network id: who joins doesn't know it yet.
pub(super) const GENESIS_PROTOCOL: StreamProtocol = StreamProtocol::new("/archipelag/genesis/1");

pub(super) fn stream_names(network: NetworkId) -> BTreeMap<Protocol, StreamProtocol> {
    BTreeMap::from([
        (Protocol::Job, protocol(network, "job/1")),
        (Protocol::Artifact, protocol(network, "artifact/1")),
        (Protocol::Consensus, protocol(network, "consensus/1")),
        (Protocol::Block, protocol(network, "block/1")),
    ])
}

pub(super) fn adverts_topic(network: NetworkId) -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(scoped(network, "capabilities/1"))
}

/// Signed transactions, for whoever keeps the ledger. Nobody else subscribes: only the state tells
/// whether one is worth passing on.
pub(super) fn transactions_topic(network: NetworkId) -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(scoped(network, "transactions/1"))
}

pub(super) fn genesis_requests() -> request_response::Behaviour<BytesCodec> {
    request_response::Behaviour::with_codec(
        BytesCodec::GENESIS,
        [(GENESIS_PROTOCOL, request_response::ProtocolSupport::Full)],
        request_response::Config::default().with_request_timeout(REQUEST_TIMEOUT),
    )
}

impl Behaviour {
    pub(super) fn new(
        config: &Config,
        network: NetworkId,
        key: &identity::Keypair,
        streams: Arc<streams::Streams>,
    ) -> anyhow::Result<Self> {
        let peer = key.public().to_peer_id();
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(MAX_PENDING_INCOMING))
            .with_max_pending_outgoing(Some(64))
            .with_max_established_per_peer(Some(4))
            .with_max_established_incoming(Some(config.max_connections))
            .with_max_established(Some(config.max_connections.saturating_mul(2)));
        let identify = identify::Config::new(scoped(network, "1"), key.public())
            .with_agent_version(concat!("archipelag/", env!("CARGO_PKG_VERSION")).into());
        let mdns = if config.mdns {
            Some(mdns::tokio::Behaviour::new(mdns::Config::default(), peer)?)
        } else {
            None
        };
        let query = request_response::Behaviour::with_codec(
            BytesCodec::QUERY,
            [(protocol(network, "query/1"), request_response::ProtocolSupport::Full)],
            request_response::Config::default()
                .with_request_timeout(REQUEST_TIMEOUT)
                .with_max_concurrent_streams(64),
        );
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            shares: shares::Behaviour::new(MAX_PENDING_INCOMING, config.max_connections),
            blocked: allow_block_list::Behaviour::default(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new()),
            gossip: gossip(network)?,
            kad: kademlia(config, network, peer),
            mdns: mdns.into(),
            query,
            genesis: genesis_requests(),
            streams: streams::Behaviour(streams),
        })
    }
}

/// What gossipsub adds to a message.
const GOSSIP_FRAME_BYTES: usize = 512;

/// Adverts and transactions carry their own signature, so gossip is anonymous: checking gossipsub's
/// on every copy would cost two thirds of the publish CPU (`DEPENDENCIES.md`).
fn gossip(network: NetworkId) -> anyhow::Result<gossipsub::Behaviour> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        // What is read of a frame at once; a topic's own limit counts below it.
        .max_transmit_size(2 * (MAX_TRANSACTION_BYTES + GOSSIP_FRAME_BYTES))
        .max_transmit_size_for_topic(
            MAX_ADVERT_BYTES + GOSSIP_FRAME_BYTES,
            adverts_topic(network).hash(),
        )
        .max_transmit_size_for_topic(
            MAX_TRANSACTION_BYTES + GOSSIP_FRAME_BYTES,
            transactions_topic(network).hash(),
        )
        // The topic, too: what was seen on another one must not count as seen.
        .message_id_fn(|message| {
            let id = Sha256::new_with_prefix(message.topic.as_str());
            gossipsub::MessageId::from(id.chain_update(&message.data).finalize().to_vec())
        })
        .build()?;
    let anonymous = gossipsub::MessageAuthenticity::Anonymous;
    let mut gossip: gossipsub::Behaviour =
        gossipsub::Behaviour::new(anonymous, config).map_err(anyhow::Error::msg)?;
    let adverts = adverts_topic(network);
    let mut score = gossipsub::PeerScoreParams::default();
    // Few publish, and seldom, so a quiet mesh is no fault of a peer.
    let quiet = || gossipsub::TopicScoreParams {
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        ..gossipsub::TopicScoreParams::default()
    };
    score.topics.insert(adverts.hash(), quiet());
    score.topics.insert(transactions_topic(network).hash(), quiet());
    // Many honest nodes may share an address (one machine, one household).
    score.ip_colocation_factor_weight = 0.0;
    gossip
        .with_peer_score(score, gossipsub::PeerScoreThresholds::default())
        .map_err(anyhow::Error::msg)?;
    gossip.subscribe(&adverts)?;
    Ok(gossip)
}

fn kademlia(
    config: &Config,
    network: NetworkId,
    peer: PeerId,
) -> kad::Behaviour<kad::store::MemoryStore> {
    let store = kad::store::MemoryStore::with_config(
        peer,
        kad::store::MemoryStoreConfig {
            max_value_bytes: MAX_ENTRY_BYTES,
            ..kad::store::MemoryStoreConfig::default()
        },
    );
    let mut kademlia = kad::Config::new(protocol(network, "kad/1"));
    kademlia
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_max_packet_size(MAX_ENTRY_BYTES + 1024)
        .set_query_timeout(Duration::from_secs(10))
        .disjoint_query_paths(true);
    let mut kad = kad::Behaviour::with_config(peer, store, kademlia);
    let mode = if config.listen.is_empty() { kad::Mode::Client } else { kad::Mode::Server };
    kad.set_mode(Some(mode));
    kad
}
