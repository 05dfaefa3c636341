//! The actor's part for capability adverts: signing its own, checking and keeping others'.

use super::{Actor, now};
use archipelag_protocol::{
    advert::{self, MAX_ADDRESSES},
    codec,
    id::NodeId,
    limits::{MAX_ADVERT_BYTES, MAX_QUERY_BYTES},
    query::{self, Response},
};
use libp2p::gossipsub;

impl Actor {
    /// Signs the newest advert body and gossips it.
    pub(super) fn advertise(&mut self) {
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
            anyhow::ensure!(
                bytes.len() <= MAX_ADVERT_BYTES,
                "longer than {MAX_ADVERT_BYTES} bytes"
            );
            Ok((signed, bytes))
        });
        match sealed {
            Ok((signed, bytes)) => {
                self.shared.see(signed);
                tracing::trace!(
                    target: "archipelag::gossip",
                    publisher = self.shared.node.prefix(),
                    sequence = self.sequence,
                    bytes = bytes.len(),
                );
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                self.unheard = gossip.publish(self.topics.adverts.clone(), bytes).is_err();
            }
            Err(error) => tracing::error!(%error, "mesh.advertise: own advert is not valid"),
        }
    }

    pub(super) fn on_advert(&self, bytes: &[u8]) -> gossipsub::MessageAcceptance {
        let metrics = &self.shared.metrics;
        match advert::decode(bytes, self.shared.network, &self.shared.genesis.policy.advert, now())
        {
            Ok(advert) if advert.value.node == self.shared.node => {
                gossipsub::MessageAcceptance::Ignore
            }
            Ok(advert) => {
                if self.shared.see(advert) {
                    metrics.adverts_accepted.inc();
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
                metrics.adverts_rejected.inc();
                gossipsub::MessageAcceptance::Reject
            }
        }
    }

    pub(super) fn on_adverts(&mut self, node: NodeId, response: &[u8]) {
        match query::decode_response(response) {
            Ok(Response::Adverts(adverts)) => {
                self.told += 1;
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

    /// Adverts that this node would vouch for, at most as many as fit one answer.
    pub(super) fn known_adverts(&self) -> Vec<serde_bytes::ByteBuf> {
        let mut room = MAX_QUERY_BYTES - 1024;
        let mut adverts = Vec::new();
        for island in self.shared.islands(now()) {
            let Ok(bytes) = codec::encode("advert", &*island.advert) else { continue };
            let Some(left) = room.checked_sub(bytes.len() + 8) else { break };
            room = left;
            adverts.push(serde_bytes::ByteBuf::from(bytes));
        }
        adverts
    }
}
