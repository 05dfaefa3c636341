//! Answers from a state: everything that needs no transaction and no disk.
//!
//! Called by [`super::Coordinator::answer`], for this node and for others.

use super::actor::Head;
use archipelag_protocol::{
    catalog::{self, Entry},
    codec,
    id::{AccountId, CargoId},
    ledger::{
        Key, Proven, Stake, State, block,
        state::{Cargo, Slug},
    },
    limits::{MAX_PAGE, MAX_PROOFS, MAX_QUERY_BYTES},
    manifest::Version,
    query::{CatalogItem, LedgerStatus},
};
use std::{ops::Bound, sync::Arc};

/// What a list may take of an answer; the rest is for the answer's own fields.
pub(super) const LIST_BYTES: usize = MAX_QUERY_BYTES - (64 << 10);

/// The entry of a Cargo version, with the proof that it is in the state. `None` before the first
/// block, when there is no Cargo.
fn entry(head: &Head, cargo: &Cargo) -> Result<Option<Entry>, block::Error> {
    let Some((header, certificate)) = &head.decided else { return Ok(None) };
    Ok(Some(Entry {
        manifest: cargo.manifest.clone(),
        record: cargo.record.clone(),
        header: header.clone(),
        certificate: certificate.clone(),
        path: head.state.prove(&Key::Cargo(cargo.record.cargo))?.path,
    }))
}

/// What the state has under each of `keys`, proven by the last block. `None` before the first.
pub(super) fn prove(head: &Head, keys: &[Key]) -> Result<Option<Vec<Proven>>, block::Error> {
    let Some((header, certificate)) = &head.decided else { return Ok(None) };
    let prove = |key| {
        let (header, certificate) = (header.clone(), certificate.clone());
        Ok(Proven { header, certificate, proof: head.state.prove(key)? })
    };
    keys.iter().take(MAX_PROOFS).map(prove).collect::<Result<_, _>>().map(Some)
}

pub(super) fn cargo(head: &Head, id: CargoId) -> Result<Option<Entry>, block::Error> {
    match head.state.cargos.get(&id) {
        Some(cargo) => entry(head, cargo),
        None => Ok(None),
    }
}

fn newest<'a>(state: &'a State, slug: &Slug) -> Option<&'a Cargo> {
    let newest_first = slug.versions.values().rev().filter_map(|id| state.cargos.get(id));
    newest_first.map(Arc::as_ref).find(|cargo| cargo.record.state == catalog::State::Published)
}

/// The newest published version of a slug, or the one named, whatever its state.
pub(super) fn slug(
    head: &Head,
    slug: &str,
    version: Option<&Version>,
) -> Result<Option<Entry>, block::Error> {
    let state = &head.state;
    let Some(slug) = state.slugs.get(slug) else { return Ok(None) };
    let found = match version {
        Some(version) => {
            slug.versions.get(version).and_then(|id| state.cargos.get(id)).map(Arc::as_ref)
        }
        None => newest(state, slug),
    };
    match found {
        Some(cargo) => entry(head, cargo),
        None => Ok(None),
    }
}

/// The newest published versions of the slugs behind `after`: at most `limit`, [`MAX_PAGE`] and
/// what fits into one answer, so a page may be shorter than asked for. An empty one is the end.
pub(super) fn catalog(
    head: &Head,
    after: Option<&str>,
    limit: u16,
) -> Result<Vec<CatalogItem>, block::Error> {
    let state = &head.state;
    let after = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_owned()));
    let slugs = state.slugs.range((after, Bound::Unbounded));
    let published = slugs.filter_map(|(_, slug)| newest(state, slug));
    let (mut items, mut room) = (Vec::new(), LIST_BYTES);
    for cargo in published.take(usize::from(limit).min(MAX_PAGE)) {
        let counters = state.counters.get(&cargo.record.cargo).copied().unwrap_or_default();
        let Some(entry) = entry(head, cargo)? else { break };
        let item = CatalogItem { entry, counters };
        let size = codec::encode_loose("catalog item", &item)?.len();
        let Some(left) = room.checked_sub(size) else { break };
        room = left;
        items.push(item);
    }
    Ok(items)
}

/// Stakes of the accounts behind `after`: at most `limit` and [`MAX_PAGE`].
pub(super) fn stakes(
    state: &State,
    after: Option<AccountId>,
    limit: u16,
) -> Vec<(AccountId, Stake)> {
    let after = after.map_or(Bound::Unbounded, Bound::Excluded);
    let stakes = state.stakes.range((after, Bound::Unbounded));
    let page = stakes.take(usize::from(limit).min(MAX_PAGE));
    page.map(|(account, stake)| (*account, stake.clone())).collect()
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

pub(super) fn status(state: &State) -> LedgerStatus {
    LedgerStatus {
        height: state.height,
        state: state.root(),
        time: state.time,
        minted: state.minted,
        treasury: state.treasury,
        accounts: count(state.accounts.len()),
        holds: count(state.holds.len()),
        cargos: count(state.cargos.len()),
    }
}
