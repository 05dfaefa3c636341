//! `/account` and `/api-keys`: who pays, and the keys that may make it pay.

use super::{
    Gateway,
    auth::{Reader, Writer},
    body::{Bounded, Json, Params, Path},
    error::{Error, Result},
    keys::{self, KeyId, Record, Scope, Wanted},
};
use crate::{clock::Moment, jobs::credits, node::Node};
use archipelag_protocol::{
    id::AccountId,
    ledger::{Account, Key, light::Document},
};
use axum::{Json as Answer, extract::State, http::StatusCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the body that asks for a key may hold.
const KEY_BYTES: usize = 16 << 10;

impl From<keys::Error> for Error {
    fn from(error: keys::Error) -> Self {
        let message = error.to_string();
        match error {
            keys::Error::Field { field, reason } => Self::field(field, reason),
            keys::Error::Scope(_) => Self::forbidden(message),
            keys::Error::Full | keys::Error::Own => Self::conflict(message),
            keys::Error::Store(_) => Self::unavailable(message),
        }
    }
}

pub(super) async fn show(
    State(gateway): State<Gateway>,
    Reader(caller): Reader,
    params: Params,
) -> Result<Answer<Value>> {
    let node = &gateway.node;
    let wants_proof = params.number("proof")?.is_some_and(|n| n > 0);
    let (account, proof) = match wants_proof {
        true => prove(node, caller.account).await?,
        false => (node.ledger.account(caller.account).await?, None),
    };
    let mut data = json!({
        "id": caller.account,
        // Accounts are keys: the ledger knows no address, and no birthday but the network's.
        "email": null,
        "created_at": Moment(node.mesh.genesis().created),
        "credits": credits(account.balance),
        "open_holds": account.holds,
        "nonce": account.nonce,
    });
    if let Some(proof) = proof {
        data["proof"] = json!(proof);
    }
    Ok(Answer(json!({ "data": data })))
}

/// An account as the ledger proves it, and the proof as `archipelag ledger verify --proof` takes
/// it, in base64.
async fn prove(node: &Node, account: AccountId) -> Result<(Account, Option<String>)> {
    let wrong = |e: &dyn std::fmt::Display| Error::unavailable(format!("the ledger's proof: {e}"));
    let key = Key::Account(account);
    let proven = node.ledger.prove(key.clone()).await?;
    node.ledger.know(&proven.header).await;
    let found = proven.verify(&node.mesh.trust(), &key).map_err(|e| wrong(&e))?;
    let handovers = node.mesh.handovers(proven.header.height);
    let bytes = Document { key, proven, handovers }.to_bytes().map_err(|e| wrong(&e))?;
    Ok((found.unwrap_or_default(), Some(STANDARD.encode(bytes))))
}

fn shown(record: &Record) -> Value {
    json!({
        "id": record.id.to_string(), "name": record.name, "prefix": record.prefix,
        "scopes": record.scopes,
        "created_at": Moment(record.created),
        "last_used_at": record.last_used.map(Moment),
        "expires_at": record.expires.map(Moment),
    })
}

pub(super) async fn list_keys(
    State(gateway): State<Gateway>,
    Reader(caller): Reader,
) -> Answer<Value> {
    let keys: Vec<Value> = gateway.keys.list(caller.key.id).iter().map(shown).collect();
    Answer(json!({ "data": keys }))
}

impl Bounded for NewKey {
    fn limit(_: &Gateway) -> usize {
        KEY_BYTES
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    name: String,
    /// What the key that asks may do, when absent.
    scopes: Option<Vec<Scope>>,
    expires_at: Option<Moment>,
}

pub(super) async fn create_key(
    State(gateway): State<Gateway>,
    Writer(caller): Writer,
    Json { value: wanted, .. }: Json<NewKey>,
) -> Result<(StatusCode, Answer<Value>)> {
    let wanted = Wanted {
        name: wanted.name,
        scopes: wanted.scopes.unwrap_or_else(|| caller.key.scopes.clone()),
        expires: wanted.expires_at.map(|moment| moment.0),
    };
    let (record, secret) = gateway.keys.create(&caller.key, wanted).await?;
    let answer = json!({ "data": shown(&record), "key": secret });
    Ok((StatusCode::CREATED, Answer(answer)))
}

pub(super) async fn revoke_key(
    State(gateway): State<Gateway>,
    Writer(caller): Writer,
    Path(id): Path,
) -> Result<Answer<Value>> {
    let unknown = || Error::not_found("no key that this key may revoke has this id");
    let id: KeyId = id.parse().map_err(|()| unknown())?;
    let record = gateway.keys.revoke(caller.key.id, id).await?.ok_or_else(unknown)?;
    Ok(Answer(json!({ "data": shown(&record) })))
}
