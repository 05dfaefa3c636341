//! What the swarm's task and the mesh handles share: seen Islands, peers, own addresses.

use super::{Metrics, PeerInfo, behaviour, identity, streams::Streams};
use archipelag_protocol::{
    advert::SignedAdvert,
    genesis::{self, Genesis},
    id::{NetworkId, NodeId},
    ledger::{Handover, Trust, light},
    time::Timestamp,
};
use libp2p::Multiaddr;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;

/// Islands that a node keeps in mind; the one heard of longest ago makes room.
const MAX_ISLANDS: usize = 10_000;

/// An Island as this node sees it.
#[derive(Clone, Debug)]
pub struct SeenIsland {
    pub advert: Arc<SignedAdvert>,
    /// Measured by ping when connected.
    pub rtt_us: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) node: NodeId,
    pub(super) network: NetworkId,
    pub(super) genesis: Arc<Genesis>,
    validators: RwLock<Validators>,
    pub(super) streams: Arc<Streams>,
    pub(super) metrics: Metrics,
    islands: RwLock<BTreeMap<NodeId, Arc<SignedAdvert>>>,
    peers: RwLock<BTreeMap<NodeId, PeerInfo>>,
    listen: RwLock<Vec<Multiaddr>>,
    changed: watch::Sender<u64>,
    /// In the mesh of adverts, as of the last upkeep.
    neighbours: AtomicUsize,
}

/// Whose word on the ledger counts.
#[derive(Debug)]
struct Validators {
    trust: Arc<Trust>,
    /// How that is known, from the genesis on.
    handovers: Vec<Handover>,
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(node: NodeId, genesis: Arc<Genesis>) -> Result<Self, genesis::Error> {
        let (network, trust) = (genesis.network()?, Trust::genesis(&genesis)?);
        Ok(Self {
            node,
            network,
            genesis,
            validators: RwLock::new(Validators { trust: Arc::new(trust), handovers: Vec::new() }),
            streams: Streams::new(behaviour::stream_names(network)),
            metrics: Metrics::default(),
            islands: RwLock::default(),
            peers: RwLock::default(),
            listen: RwLock::default(),
            changed: watch::Sender::new(0),
            neighbours: AtomicUsize::new(0),
        })
    }

    pub(super) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&read(&self.validators).trust)
    }

    pub(super) fn handovers(&self, before: u64) -> Vec<Handover> {
        let validators = read(&self.validators);
        let before = validators.handovers.iter().take_while(|h| h.0.header.height < before);
        before.cloned().collect()
    }

    pub(super) fn learn(&self, handover: Handover) -> Result<(), light::Error> {
        let mut validators = write(&self.validators);
        let mut trust = Trust::clone(&validators.trust);
        trust.follow(&handover)?;
        validators.trust = Arc::new(trust);
        validators.handovers.push(handover);
        Ok(())
    }

    /// Keeps an advert that has been verified; `false` when a newer one of the node is known.
    pub(super) fn see(&self, advert: SignedAdvert) -> bool {
        let mut islands = write(&self.islands);
        let node = advert.value.node;
        if let Some(known) = islands.get(&node) {
            if known.value.sequence >= advert.value.sequence {
                return false;
            }
        } else if islands.len() >= MAX_ISLANDS {
            let oldest = islands.iter().min_by_key(|(_, a)| a.value.issued).map(|(node, _)| *node);
            if let Some(oldest) = oldest {
                islands.remove(&oldest);
            }
        }
        tracing::trace!(
            target: "archipelag::gossip",
            publisher = node.prefix(),
            sequence = advert.value.sequence,
        );
        islands.insert(node, Arc::new(advert));
        drop(islands);
        self.changed.send_modify(|version| *version += 1);
        true
    }

    /// Forgets Islands whose adverts no longer count.
    pub(super) fn expire(&self, now: Timestamp) {
        let policy = &self.genesis.policy.advert;
        let mut islands = write(&self.islands);
        let before = islands.len();
        islands.retain(|_, advert| advert.value.check_age(now, policy).is_ok());
        let gone = islands.len() != before;
        drop(islands);
        if gone {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Forgets one Island, because its connection broke while it should have been there.
    pub(super) fn forget(&self, node: NodeId) {
        if write(&self.islands).remove(&node).is_some() {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    pub(super) fn islands(&self, now: Timestamp) -> Vec<SeenIsland> {
        let policy = &self.genesis.policy.advert;
        let peers = read(&self.peers);
        read(&self.islands)
            .values()
            .filter(|advert| advert.value.check_age(now, policy).is_ok())
            .map(|advert| SeenIsland {
                advert: advert.clone(),
                rtt_us: match peers.get(&advert.value.node) {
                    Some(peer) => peer.rtt_us,
                    None => (advert.value.node == self.node).then_some(0),
                },
            })
            .collect()
    }

    pub(super) fn advert_of(&self, node: NodeId) -> Option<Arc<SignedAdvert>> {
        read(&self.islands).get(&node).cloned()
    }

    pub(super) fn islands_changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn connected(&self, node: NodeId, address: &Multiaddr) {
        let peer = PeerInfo { node, address: address.to_string(), rtt_us: None };
        write(&self.peers).entry(node).or_insert(peer);
    }

    pub(super) fn disconnected(&self, node: NodeId) {
        write(&self.peers).remove(&node);
    }

    pub(super) fn measured(&self, node: NodeId, rtt_us: u32) {
        if let Some(peer) = write(&self.peers).get_mut(&node) {
            peer.rtt_us = Some(rtt_us);
        }
    }

    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        read(&self.peers).values().cloned().collect()
    }

    pub(super) fn neighbours(&self) -> usize {
        self.neighbours.load(Ordering::Relaxed)
    }

    pub(super) fn set_neighbours(&self, count: usize) {
        self.neighbours.store(count, Ordering::Relaxed);
    }

    pub(super) fn listening(&self, address: Multiaddr) {
        let mut listen = write(&self.listen);
        if !listen.contains(&address) {
            listen.push(address);
        }
    }

    pub(super) fn stopped_listening(&self, address: &Multiaddr) {
        write(&self.listen).retain(|known| known != address);
    }

    /// Own addresses with the own peer id at the end.
    pub(super) fn listen_addresses(&self) -> Vec<Multiaddr> {
        let Some(peer) = identity::peer_of(self.node) else { return Vec::new() };
        read(&self.listen)
            .iter()
            .map(|address| address.clone().with(libp2p::multiaddr::Protocol::P2p(peer)))
            .collect()
    }
}
