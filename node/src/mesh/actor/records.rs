//! The actor's part for Kademlia: catalog entries, verified when stored and when read, and
//! providers.

use super::{Actor, Lookup, identity};
use archipelag_protocol::{catalog::Entry, codec, event::bounded, limits::MAX_ENTRY_BYTES};
use libp2p::{PeerId, kad};

/// Why a record is not taken.
enum Bad {
    /// Its sender knows other validators than this node; one of the two is behind.
    OfAnotherTime,
    /// No honest node sends it.
    Wrong(String),
}

impl Actor {
    pub(super) fn announce(&mut self, entry: &Entry) {
        let bytes = match entry.to_bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, "mesh.announce");
                return;
            }
        };
        let slug = Entry::key_of_slug(&entry.manifest.value.slug);
        for key in [Entry::key_of_cargo(entry.record.cargo), slug] {
            let record = kad::Record::new(kad::RecordKey::new(&key), bytes.clone());
            if let Err(error) = self.swarm.behaviour_mut().kad.put_record(record, kad::Quorum::One)
            {
                tracing::warn!(%error, "mesh.announce: the record store is full");
            }
        }
    }

    pub(super) fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request: kad::InboundRequest::PutRecord { source, record: Some(record), .. },
            } => self.on_put(source, record),
            kad::Event::InboundRequest {
                request: kad::InboundRequest::AddProvider { record: Some(record) },
            } => {
                // Provider claims are hints only: who fetches verifies the content.
                if let Err(error) = kad::store::RecordStore::add_provider(
                    self.swarm.behaviour_mut().kad.store_mut(),
                    record,
                ) {
                    tracing::debug!(%error, "mesh.provider");
                }
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                let id = id.to_string();
                self.on_lookup(&id, result);
                if step.last {
                    self.finish_lookup(&id);
                }
            }
            _ => {}
        }
    }

    fn on_put(&mut self, source: PeerId, record: kad::Record) {
        match self.check_record(record.key.as_ref(), &record.value) {
            Ok(entry) => {
                let store = self.swarm.behaviour_mut().kad.store_mut();
                let newer = kad::store::RecordStore::get(store, &record.key)
                    .and_then(|known| {
                        codec::decode::<Entry>("catalog entry", MAX_ENTRY_BYTES, &known.value).ok()
                    })
                    .is_none_or(|known| entry.supersedes(&known));
                if newer && kad::store::RecordStore::put(store, record).is_ok() {
                    self.shared.metrics.records_accepted.inc();
                }
            }
            Err(error) => {
                self.shared.metrics.records_rejected.inc();
                if let (Bad::Wrong(reason), Some(node)) = (error, identity::node_of(source)) {
                    self.strike(node, &reason);
                }
            }
        }
    }

    /// A record counts only under its own key, signed by its publisher and proven.
    fn check_record(&self, key: &[u8], value: &[u8]) -> Result<Entry, Bad> {
        let payout = &self.shared.genesis.policy.payout;
        let entry =
            Entry::decode(value, &self.shared.trust(), payout).map_err(|error| {
                match error.is_of_another_time() {
                    true => Bad::OfAnotherTime,
                    false => Bad::Wrong(bounded(error.to_string())),
                }
            })?;
        let own = [
            Entry::key_of_cargo(entry.record.cargo),
            Entry::key_of_slug(&entry.manifest.value.slug),
        ];
        if own.iter().any(|k| k == key) {
            Ok(entry)
        } else {
            Err(Bad::Wrong("a record under another's key".into()))
        }
    }

    fn on_lookup(&mut self, id: &str, result: kad::QueryResult) {
        match (self.lookups.get_mut(id), result) {
            (
                Some(Lookup::Entry { key, .. }),
                kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))),
            ) => {
                let key = *key;
                let checked = self.check_record(&key, &found.record.value);
                match (checked, self.lookups.get_mut(id)) {
                    (Ok(entry), Some(Lookup::Entry { best, .. })) => {
                        self.shared.metrics.records_accepted.inc();
                        if best.as_ref().is_none_or(|best| entry.supersedes(best)) {
                            *best = Some(entry);
                        }
                    }
                    (Err(error), _) => {
                        self.shared.metrics.records_rejected.inc();
                        let source = found.peer.and_then(identity::node_of);
                        if let (Bad::Wrong(reason), Some(node)) = (error, source) {
                            self.strike(node, &reason);
                        }
                    }
                    (Ok(_), _) => {}
                }
            }
            (
                Some(Lookup::Providers { found, .. }),
                kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders {
                    providers,
                    ..
                })),
            ) => found.extend(providers.into_iter().filter_map(identity::node_of)),
            _ => {}
        }
    }

    fn finish_lookup(&mut self, id: &str) {
        match self.lookups.remove(id) {
            Some(Lookup::Entry { best, answer, .. }) => {
                let _ = answer.send(best);
            }
            Some(Lookup::Providers { found, answer }) => {
                let _ = answer.send(found);
            }
            None => {}
        }
    }
}
