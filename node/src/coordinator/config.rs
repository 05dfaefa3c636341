//! What a coordinator is started with.

use super::links::OUTGOING;
use archipelag_protocol::{genesis::Genesis, id::NodeId, sign::SecretKey};
use tokio::sync::mpsc;

/// A message to other coordinators' nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// `None` for all of them.
    pub to: Option<NodeId>,
    pub message: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Config {
    /// The document whose hash is the network.
    pub genesis: Genesis,
    /// Whose seat it is, when it has one.
    pub key: SecretKey,
    /// The node that it runs on; a seat is that of an account on a node. `None` decides nothing.
    pub node: Option<NodeId>,
    /// Where messages to other coordinators go. Consensus allows for loss: what finds this queue
    /// full is dropped and counted. `None` when there are no others.
    pub outgoing: Option<mpsc::Sender<Outgoing>>,
}

impl Config {
    /// A coordinator without others, on the node that the genesis names.
    #[must_use]
    pub fn alone(genesis: Genesis, key: SecretKey) -> Self {
        let node = genesis.validator(key.account()).map(|validator| validator.node);
        Self { genesis, key, node, outgoing: None }
    }

    /// A coordinator among others, and where its messages to them come out.
    #[must_use]
    pub fn among_others(
        genesis: Genesis,
        key: SecretKey,
        node: Option<NodeId>,
    ) -> (Self, mpsc::Receiver<Outgoing>) {
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        (Self { genesis, key, node, outgoing: Some(sender) }, outgoing)
    }
}
