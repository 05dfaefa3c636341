//! The node's metrics as Prometheus text, put together from each component's own.
//!
//! A component keeps its counters in one struct and names them in [`Component::register`]; the node
//! hands all of them to [`Metrics::new`] once, and the gateway serves [`Metrics::text`].

use prometheus_client::{encoding::text, metrics::gauge::Gauge, registry::Registry};
use std::sync::Arc;

/// Metrics of one part of the node.
pub trait Component {
    /// Adds them to `registry`, which has the component's prefix already.
    fn register(&self, registry: &mut Registry);
}

/// All metrics of a node; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Registry>);

impl Metrics {
    /// Assembles the components, each under its prefix: `archipelag_<prefix>_<name>`.
    #[must_use]
    pub fn new(components: &[(&str, &dyn Component)]) -> Self {
        let mut registry = Registry::with_prefix("archipelag");
        for (prefix, component) in components {
            component.register(registry.sub_registry_with_prefix(prefix));
        }
        Self(Arc::new(registry))
    }

    /// The OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails never.
        let _written = text::encode(&mut text, &self.0);
        text
    }
}

/// What a node sees of its network, measured when the metrics are read.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Islands with an advert that counts.
    pub islands: Gauge,
    /// Connected peers.
    pub peers: Gauge,
    /// Height of the newest block known.
    pub ledger_height: Gauge,
}

impl Component for Observed {
    fn register(&self, registry: &mut Registry) {
        registry.register("islands", "Islands with an advert that counts", self.islands.clone());
        registry.register("peers", "Connected peers", self.peers.clone());
        let help = "Height of the newest block known";
        registry.register("ledger_height", help, self.ledger_height.clone());
    }
}
