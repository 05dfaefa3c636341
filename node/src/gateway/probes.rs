//! Health for clients, probes for supervisors, metrics for Prometheus.

use super::{Gateway, auth::Reader, error::Result};
use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// What an operator may see: on loopback everybody, elsewhere who has a key.
#[derive(Debug)]
pub(super) struct Insider;

impl FromRequestParts<Gateway> for Insider {
    type Rejection = super::Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self> {
        if gateway.config.remote {
            Reader::from_request_parts(parts, gateway).await?;
        }
        Ok(Self)
    }
}

pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// Fails only where nothing but a new start helps.
pub(super) async fn live(State(gateway): State<Gateway>) -> (StatusCode, &'static str) {
    match gateway.node.coordinator.as_ref().and_then(|coordinator| coordinator.failure()) {
        None => (StatusCode::OK, "ok\n"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "the ledger has stopped\n"),
    }
}

/// What has to hold for jobs to be taken, with the reason where it doesn't.
fn checks(gateway: &Gateway) -> [(&'static str, std::result::Result<(), String>); 3] {
    let node = &gateway.node;
    let jobs = gateway.jobs.failure().map_or(Ok(()), Err);
    let ledger = match &node.coordinator {
        Some(coordinator) => match (coordinator.failure(), coordinator.unwritable()) {
            (Some(why), _) => Err(why.to_owned()),
            (_, Some(why)) => Err(format!("its disk does not accept writes ({why})")),
            (None, None) => Ok(()),
        },
        None => {
            let trust = node.mesh.trust();
            let validators = trust.validators();
            let reached =
                node.mesh.peers().iter().any(|p| validators.iter().any(|v| v.node == p.node));
            if reached { Ok(()) } else { Err("not connected to a coordinator".to_owned()) }
        }
    };
    let mesh = if node.mesh.listen_addresses().is_empty() && node.mesh.peers().is_empty() {
        Err("neither listening nor connected".to_owned())
    } else {
        Ok(())
    };
    [("jobs", jobs), ("ledger", ledger), ("mesh", mesh)]
}

fn status(checks: &[(&'static str, std::result::Result<(), String>)]) -> StatusCode {
    if checks.iter().all(|(_, result)| result.is_ok()) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

pub(super) async fn ready(State(gateway): State<Gateway>) -> (StatusCode, &'static str) {
    match status(&checks(&gateway)) {
        StatusCode::OK => (StatusCode::OK, "ok\n"),
        status => (status, "not ready; /healthz says why\n"),
    }
}

pub(super) async fn verbose(State(gateway): State<Gateway>, _: Insider) -> (StatusCode, String) {
    let checks = checks(&gateway);
    let lines = checks.iter().map(|(name, result)| match result {
        Ok(()) => format!("[+] {name} ok\n"),
        Err(reason) => format!("[-] {name} failed: {reason}\n"),
    });
    (status(&checks), lines.collect())
}

pub(super) async fn metrics(State(gateway): State<Gateway>, _: Insider) -> Response {
    let mesh = &gateway.node.mesh;
    gateway.observed.islands.set(mesh.islands().len() as u64);
    gateway.observed.peers.set(mesh.peers().len() as u64);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], gateway.metrics.text()).into_response()
}
