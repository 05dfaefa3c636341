//! `/node`: what the operator of this node sees and does. The command line is its client.

use super::{
    Gateway,
    auth::{Owner, Reader},
    body::{Bounded, Json},
    error::{Error, Result},
};
use crate::{node::PublishError, project::Project};
use archipelag_protocol::{
    id::ContentId,
    limits::{MAX_ARTIFACT_BYTES, MAX_MANIFEST_BYTES},
    manifest::{Artifact, Manifest},
};
use axum::{Json as Answer, extract::State, http::StatusCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

/// A manifest and the longest module in base64.
#[expect(clippy::cast_possible_truncation, reason = "64 MiB fit into every usize")]
const BODY_BYTES: usize = (MAX_ARTIFACT_BYTES as usize).div_ceil(3) * 4 + 2 * MAX_MANIFEST_BYTES;

pub(super) async fn status(State(gateway): State<Gateway>, Reader(_): Reader) -> Answer<Value> {
    let node = &gateway.node;
    let (mesh, peers) = (&node.mesh, node.mesh.peers());
    let peers: Vec<Value> = peers
        .iter()
        .map(|peer| json!({ "id": peer.node, "address": peer.address, "rtt_us": peer.rtt_us }))
        .collect();
    let island = node.island.as_ref().map(|island| {
        json!({ "active_jobs": island.active_jobs(), "unsettled_receipts": island.unsettled() })
    });
    Answer(json!({ "data": {
        "id": mesh.node(),
        "network": mesh.network(),
        "network_name": mesh.genesis().name,
        "coordinator": node.coordinator.is_some(),
        "runs_jobs": node.island.is_some(),
        "operator": node.operator.account(),
        "consumer": node.payer.account(),
        "island": island,
        "listen_addresses": mesh.listen_addresses(),
        "peers": peers,
    } }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publication {
    manifest: Manifest,
    /// The module of a wasm Cargo, in base64.
    module: Option<String>,
}

impl Bounded for Publication {
    fn limit(_: &Gateway) -> usize {
        BODY_BYTES
    }
}

/// The module that a manifest names.
fn module(manifest: &Manifest, module: Option<&str>) -> Result<Bytes> {
    let bytes = module.map(|text| STANDARD.decode(text)).transpose();
    let bytes = bytes.map_err(|e| Error::field("module", format!("not base64: {e}")))?;
    match (&manifest.artifact, bytes) {
        (Artifact::Module { hash, size_bytes }, Some(bytes)) => {
            if bytes.len() as u64 != *size_bytes || ContentId::of(&bytes) != *hash {
                return Err(Error::field(
                    "module",
                    "not the one whose hash and size the manifest names",
                ));
            }
            Ok(bytes.into())
        }
        (Artifact::Module { .. }, None) => Err(Error::field("module", "a wasm Cargo needs one")),
        (_, Some(_)) => Err(Error::field("module", "only wasm Cargos have one")),
        (_, None) => Ok(Bytes::new()),
    }
}

pub(super) async fn publish(
    State(gateway): State<Gateway>,
    _: Owner,
    Json { value: wanted, .. }: Json<Publication>,
) -> Result<(StatusCode, Answer<Value>)> {
    let payout = &gateway.node.mesh.genesis().policy.payout;
    let field = |e: &dyn std::fmt::Display| Error::field("manifest", e);
    wanted.manifest.validate(payout).map_err(|e| field(&e))?;
    let module = module(&wanted.manifest, wanted.module.as_deref())?;
    let label = wanted.manifest.label();
    let project = Project { manifest: wanted.manifest, module, cases: Vec::new() };
    let cargo = gateway.node.publish(&project).await.map_err(|error| match error {
        PublishError::Ledger(error) => error.into(),
        PublishError::Catalog(error) => error.into(),
        PublishError::Sign(error) => field(&error),
    })?;
    Ok((StatusCode::CREATED, Answer(json!({ "data": { "cargo": cargo, "label": label } }))))
}
