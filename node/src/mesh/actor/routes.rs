//! Which peers enter the routing table, and when.
//!
//! Each peer that enters makes Kademlia look around in all its buckets again, where it meets more
//! peers. So only the first few enter as they are met; the others wait and enter together, less and
//! less often.

use super::{MAX_PENDING, identity};
use libp2p::{Multiaddr, PeerId};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Peers that enter at once: enough to look things up from the start.
const AT_ONCE: usize = 4;
/// The first wait of those that are met later; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest: how often Kademlia looks around by itself.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Peers that were met.
#[derive(Debug)]
pub(super) struct Routes {
    entered: usize,
    waiting: BTreeMap<PeerId, Vec<Multiaddr>>,
    next: Instant,
    pause: Duration,
}

impl Routes {
    pub(super) fn new(now: Instant) -> Self {
        let next = now + FIRST_PAUSE;
        Self { entered: 0, waiting: BTreeMap::new(), next, pause: FIRST_PAUSE }
    }

    /// A peer of this network said where it listens. Gives whom to enter now.
    pub(super) fn met(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    ) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        if self.waiting.len() < MAX_PENDING && identity::node_of(peer).is_some() {
            self.waiting.insert(peer, addresses);
        }
        if self.entered < AT_ONCE { self.take() } else { BTreeMap::new() }
    }

    /// Whom to enter now.
    pub(super) fn due(&mut self, now: Instant) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        if now < self.next || self.waiting.is_empty() {
            return BTreeMap::new();
        }
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        self.next = now + self.pause;
        self.take()
    }

    /// The node is alone: whom it meets next is as good as the first.
    pub(super) fn alone(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    fn take(&mut self) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        self.entered += self.waiting.len();
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    fn peer() -> PeerId {
        Keypair::generate_ed25519().public().to_peer_id()
    }

    #[test]
    fn the_first_enter_at_once_and_the_others_together() {
        let start = Instant::now();
        let mut routes = Routes::new(start);
        for _ in 0..AT_ONCE {
            assert_eq!(routes.met(peer(), Vec::new()).len(), 1);
        }
        for _ in 0..10 {
            assert_eq!(routes.met(peer(), Vec::new()).len(), 0);
        }
        assert_eq!(routes.due(start).len(), 0);
        assert_eq!(routes.due(start + FIRST_PAUSE).len(), 10);
        assert_eq!(routes.met(peer(), Vec::new()).len(), 0);
        assert_eq!(routes.due(start + FIRST_PAUSE * 2).len(), 0, "the second wait is longer");
        assert_eq!(routes.due(start + FIRST_PAUSE * 3).len(), 1);
        routes.alone(start);
        assert_eq!(routes.met(peer(), Vec::new()).len(), 1);
    }
}
