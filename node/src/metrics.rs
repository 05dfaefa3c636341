//! The node's metrics as Prometheus text, put together from each component's own.
//!
//! A component keeps its counters in one struct and names them in [`Component::register`]; the node
//! hands all of them to [`Metrics::new`] once, and the gateway serves [`Metrics::text`].

use prometheus_client::{encoding::text, registry::Registry};
use std::sync::Arc;

/// Declares a component's metrics: a public struct of counters and gauges whose doc comments are
/// the help in the Prometheus text.
macro_rules! component {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $($(#[doc = $help:literal])+ pub $field:ident: $kind:ty,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            $($(#[doc = $help])+ pub $field: $kind,)+
        }

        impl $crate::metrics::Component for $name {
            fn register(&self, registry: &mut prometheus_client::registry::Registry) {
                $(
                    let help = concat!($($help),+).trim().trim_end_matches('.');
                    registry.register(stringify!($field), help, self.$field.clone());
                )+
            }
        }
    };
}
pub(crate) use component;

/// Something that is set, not counted.
pub type Gauge = prometheus_client::metrics::gauge::Gauge<u64, std::sync::atomic::AtomicU64>;

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

component! {
    /// What a node sees of its network, measured when the metrics are read.
    pub struct Observed {
        /// Islands with an advert that counts.
        pub islands: Gauge,
        /// Connected peers.
        pub peers: Gauge,
    }
}
