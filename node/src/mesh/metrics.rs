//! Counters of the mesh.

use crate::metrics::component;
use prometheus_client::metrics::counter::Counter;

component! {
    /// What happened since the node started.
    pub struct Metrics {
        /// Adverts that were verified and kept.
        pub adverts_accepted: Counter,
        /// Adverts that were refused as invalid; their senders were scored down.
        pub adverts_rejected: Counter,
        /// Kademlia records that were verified and kept.
        pub records_accepted: Counter,
        /// Kademlia records that were refused.
        pub records_rejected: Counter,
        /// Queries received from other nodes.
        pub queries: Counter,
        /// Peers blocked for sending what no honest node sends.
        pub peers_blocked: Counter,
    }
}
