//! Counters of the mesh.

use std::sync::atomic::{AtomicU64, Ordering};

/// What happened since the node started.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Adverts that were verified and kept.
    pub adverts_accepted: AtomicU64,
    /// Adverts that were refused as invalid; their senders were scored down.
    pub adverts_rejected: AtomicU64,
    /// Kademlia records that were verified and kept.
    pub records_accepted: AtomicU64,
    /// Kademlia records that were refused.
    pub records_rejected: AtomicU64,
    /// Queries received from other nodes.
    pub queries: AtomicU64,
    /// Peers blocked for sending what no honest node sends.
    pub peers_blocked: AtomicU64,
}

impl Metrics {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
