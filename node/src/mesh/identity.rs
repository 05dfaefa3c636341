//! Node ids and libp2p peer ids: the same ed25519 key in two spellings.

use archipelag_protocol::id::NodeId;
use libp2p::{PeerId, identity};

/// The libp2p peer id of a node; `None` when the bytes are not a public key.
#[must_use]
pub fn peer_of(node: NodeId) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(&node.0).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// The node behind a peer id; `None` when its key is not ed25519.
#[must_use]
pub fn node_of(peer: PeerId) -> Option<NodeId> {
    let key = identity::PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
    key.try_into_ed25519().ok().map(|key| NodeId(key.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_holds_the_node_id() {
        let key = identity::Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let peer = key.public().to_peer_id();
        let node = node_of(peer).unwrap();
        assert_eq!(peer_of(node), Some(peer));
        assert_eq!(node.0, key.try_into_ed25519().unwrap().public().to_bytes());
    }
}
