//! Answers from a state: everything that needs no transaction and no disk.
//!
//! Called by [`super::Coordinator::answer`], for this node and for others.

use super::actor::Head;
use archipelag_protocol::{
    catalog::{self, Endorsement, Entry},
    codec,
    id::CargoId,
    ledger::{
        State,
        state::{Cargo, Slug},
    },
    limits::{MAX_PAGE, MAX_QUERY_BYTES},
    manifest::Version,
    query::{CatalogItem, LedgerStatus},
    sign::SecretKey,
};
use std::ops::Bound;

/// What a list may take of an answer; the rest is for the answer's own fields.
pub(super) const LIST_BYTES: usize = MAX_QUERY_BYTES - (64 << 10);

/// The entry of a Cargo version, with this coordinator's signature.
pub(super) fn entry(state: &State, key: &SecretKey, cargo: &Cargo) -> Result<Entry, codec::Error> {
    let signature = key.sign(state.network, &cargo.record)?;
    Ok(Entry {
        manifest: cargo.manifest.clone(),
        record: cargo.record.clone(),
        certificate: vec![Endorsement { validator: key.account(), signature }],
    })
}

pub(super) fn cargo(
    state: &State,
    key: &SecretKey,
    id: CargoId,
) -> Result<Option<Entry>, codec::Error> {
    state.cargos.get(&id).map(|cargo| entry(state, key, cargo)).transpose()
}

fn newest<'a>(state: &'a State, slug: &Slug) -> Option<&'a Cargo> {
    let newest_first = slug.versions.values().rev().filter_map(|id| state.cargos.get(id));
    newest_first.into_iter().find(|cargo| cargo.record.state == catalog::State::Published)
}

/// The newest published version of a slug, or the one named, whatever its state.
pub(super) fn slug(
    state: &State,
    key: &SecretKey,
    slug: &str,
    version: Option<&Version>,
) -> Result<Option<Entry>, codec::Error> {
    let Some(slug) = state.slugs.get(slug) else { return Ok(None) };
    let found = match version {
        Some(version) => slug.versions.get(version).and_then(|id| state.cargos.get(id)),
        None => newest(state, slug),
    };
    found.map(|cargo| entry(state, key, cargo)).transpose()
}

/// The newest published versions of the slugs behind `after`: at most `limit`, [`MAX_PAGE`] and what
/// fits into one answer, so a page may be shorter than asked for. An empty one is the end.
pub(super) fn catalog(
    state: &State,
    key: &SecretKey,
    after: Option<&str>,
    limit: u16,
) -> Result<Vec<CatalogItem>, codec::Error> {
    let after = after.map_or(Bound::Unbounded, Bound::Excluded);
    let slugs = state.slugs.range::<str, _>((after, Bound::Unbounded));
    let published = slugs.filter_map(|(_, slug)| newest(state, slug));
    let (mut items, mut room) = (Vec::new(), LIST_BYTES);
    for cargo in published.take(usize::from(limit).min(MAX_PAGE)) {
        let item = CatalogItem { entry: entry(state, key, cargo)?, counters: cargo.counters };
        let size = codec::encode_loose("catalog item", &item)?.len();
        let Some(left) = room.checked_sub(size) else { break };
        room = left;
        items.push(item);
    }
    Ok(items)
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

pub(super) fn status(head: &Head) -> LedgerStatus {
    let state = &head.state;
    LedgerStatus {
        height: state.height,
        state: head.root,
        time: state.time,
        minted: state.minted,
        treasury: state.treasury,
        accounts: count(state.accounts.len()),
        holds: count(state.holds.len()),
        cargos: count(state.cargos.len()),
    }
}
