//! `/workloads`: what can be run. A workload of the API is a Cargo.

use super::{
    Gateway,
    auth::Reader,
    body::Path,
    error::{Error, Result},
};
use crate::api;
use archipelag_protocol::{limits::MAX_PAGE, manifest::check_slug};
use axum::{Json, extract::State};
use serde_json::{Value, json};

/// Pages of the catalog that one answer holds.
const MAX_PAGES: usize = 100;

pub(super) async fn list(State(gateway): State<Gateway>, Reader(_): Reader) -> Result<Json<Value>> {
    let node = &gateway.node;
    let limit = u16::try_from(MAX_PAGE).unwrap_or(u16::MAX);
    let (mut cargos, mut after) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let page = node.ledger.catalog(after.take(), limit).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.entry.manifest.value.slug.clone());
        // What is not signed by its publisher and proven is not shown, whoever answered.
        node.ledger.know(&last.entry.header).await;
        let (trust, payout) = (node.mesh.trust(), &node.mesh.genesis().policy.payout);
        let right = page.iter().filter(|item| item.entry.verify(&trust, payout).is_ok());
        let policy = &node.mesh.genesis().policy.reputation;
        cargos.extend(right.map(|item| api::catalog_item(item, policy)));
    }
    Ok(Json(json!({ "data": cargos })))
}

pub(super) async fn show(
    State(gateway): State<Gateway>,
    Reader(_): Reader,
    Path(slug): Path,
) -> Result<Json<Value>> {
    if check_slug(&slug).is_err() {
        return Err(Error::not_found("no workload has such a slug"));
    }
    let resolved = gateway.node.catalog.resolve(&slug, None).await?;
    Ok(Json(json!({ "data": api::cargo(&resolved.entry) })))
}
