//! The actor's part for gossip: messages and who judges them.

use super::{Actor, Gossiped, identity};
use crate::mesh::gossip::{Source, Verdict};
use libp2p::gossipsub;
use tokio::sync::mpsc;

impl Actor {
    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source: from, message_id: id, message } => {
                let source = Source { id, from };
                if message.topic != self.topics.transactions.hash() {
                    let acceptance = self.on_advert(&message.data);
                    self.report(&source, acceptance, "it sent an invalid advert");
                } else if let Some(judge) = &self.judge
                    && let Err(unheard) = judge.try_send(Gossiped { bytes: message.data, source })
                {
                    self.judged(&unheard.into_inner().source, Verdict::Ignore);
                }
            }
            // The first who listens need not wait for the next interval. Who comes later asks.
            gossipsub::Event::Subscribed { topic, .. }
                if self.unheard && topic == self.topics.adverts.hash() =>
            {
                self.advertise();
            }
            _ => {}
        }
    }

    pub(super) fn spread(&mut self, transaction: Vec<u8>) {
        let topic = self.topics.transactions.clone();
        if let Err(error) = self.swarm.behaviour_mut().gossip.publish(topic, transaction) {
            tracing::debug!(%error, "mesh.spread");
        }
    }

    pub(super) fn listen(&mut self, judge: mpsc::Sender<Gossiped>) {
        self.judge = Some(judge);
        if let Err(error) = self.swarm.behaviour_mut().gossip.subscribe(&self.topics.transactions) {
            tracing::error!(%error, "mesh.listen");
        }
    }

    pub(super) fn judged(&mut self, source: &Source, verdict: Verdict) {
        self.report(source, verdict.into(), "it passed on an invalid transaction");
    }

    fn report(&mut self, source: &Source, acceptance: gossipsub::MessageAcceptance, invalid: &str) {
        if acceptance == gossipsub::MessageAcceptance::Reject
            && let Some(node) = identity::node_of(source.from)
        {
            self.strike(node, invalid);
        }
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(&source.id, &source.from, acceptance);
    }
}
