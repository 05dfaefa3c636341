//! `/hosts`: the Islands that this node sees. A host of the API is an Island.

use super::{
    Gateway,
    auth::Reader,
    body::Path,
    error::{Error, Result},
};
use crate::{
    api,
    mesh::{SeenIsland, now},
};
use archipelag_protocol::{id::NodeId, ledger::IslandStanding};
use axum::{Json, extract::State};
use serde_json::{Value, json};

pub(super) async fn list(State(gateway): State<Gateway>, Reader(_): Reader) -> Json<Value> {
    let node = &gateway.node;
    let (seen, now) = (node.consumer.islands(&node.payer).await, now());
    let hosts: Vec<Value> =
        seen.iter().map(|(island, standing)| api::island(island, *standing, now)).collect();
    Json(json!({ "data": hosts }))
}

/// The Island, and what the ledger says of it now.
async fn find(gateway: &Gateway, id: &str) -> Result<(SeenIsland, IslandStanding)> {
    let unknown =
        || Error::not_found("this node sees no such Island now; `GET /api/v1/hosts` lists them");
    let id: NodeId = id.parse().map_err(|_| unknown())?;
    let islands = gateway.node.mesh.islands();
    let seen = islands.into_iter().find(|seen| seen.advert.value.node == id);
    let seen = seen.ok_or_else(unknown)?;
    let standing = gateway.node.ledger.standing(seen.advert.value.account).await?;
    Ok((seen, standing))
}

pub(super) async fn show(
    State(gateway): State<Gateway>,
    Reader(_): Reader,
    Path(id): Path,
) -> Result<Json<Value>> {
    let (seen, standing) = find(&gateway, &id).await?;
    Ok(Json(json!({ "data": api::island(&seen, Some(standing), now()) })))
}

pub(super) async fn karma(
    State(gateway): State<Gateway>,
    Reader(_): Reader,
    Path(id): Path,
) -> Result<Json<Value>> {
    let (seen, standing) = find(&gateway, &id).await?;
    let karma = json!({
        "host_id": seen.advert.value.node, "karma_score": api::karma(&standing),
        "suspended": standing.suspended, "jobs": standing.jobs,
        "earned": crate::jobs::credits(standing.earned),
    });
    Ok(Json(json!({ "data": karma })))
}
