//! Who asks: the bearer key of a request, its scope and its rate.
//!
//! A handler that takes a [`Reader`], [`Writer`] or [`Owner`] is reached by such a key alone.

use super::{
    Gateway,
    body::only,
    error::{Error, Result},
    keys::{KeyId, Record, Scope},
};
use archipelag_protocol::id::AccountId;
use axum::{extract::FromRequestParts, http::request::Parts};
use tokio::time::Instant;

/// A request with a key that counts.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) key: Record,
    /// Who pays, and whose jobs it sees.
    pub(super) account: AccountId,
}

/// A caller that may read.
#[derive(Debug)]
pub(super) struct Reader(pub(super) Caller);

/// A caller that may change and spend.
#[derive(Debug)]
pub(super) struct Writer(pub(super) Caller);

/// A caller with the key in the node's home: whoever has it can act as the operator.
#[derive(Debug)]
pub(super) struct Owner;

fn secret(parts: &Parts) -> Result<&str> {
    let missing =
        || Error::unauthorized("send `Authorization: Bearer ak_…`; `archipelag up` prints a key");
    let value = only(&parts.headers, "Authorization")?.ok_or_else(missing)?;
    let (scheme, secret) =
        value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(secret.trim())
}

fn caller(parts: &Parts, gateway: &Gateway, scope: Scope) -> Result<Caller> {
    let unknown =
        || Error::unauthorized("this key does not count: it is unknown, revoked or expired");
    let key = gateway.keys.check(secret(parts)?).ok_or_else(unknown)?;
    gateway.limiter.take(key.id, Instant::now()).map_err(|wait| {
        let (most, seconds) = (gateway.limiter.per_minute(), wait.as_secs() + 1);
        let message = format!("this key may ask {most} times a minute; try again in {seconds} s");
        Error::rate_limited(message, seconds)
    })?;
    if !key.may(scope) {
        return Err(Error::forbidden(format!("this key lacks the scope `{}`", scope.name())));
    }
    Ok(Caller { key, account: gateway.node.payer.account() })
}

impl FromRequestParts<Gateway> for Reader {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self> {
        caller(parts, gateway, Scope::Read).map(Self)
    }
}

impl FromRequestParts<Gateway> for Writer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self> {
        caller(parts, gateway, Scope::Write).map(Self)
    }
}

impl FromRequestParts<Gateway> for Owner {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self> {
        let caller = caller(parts, gateway, Scope::Write)?;
        if caller.key.id != KeyId::OWN {
            return Err(Error::forbidden("only the key in the node's home acts for its operator"));
        }
        Ok(Self)
    }
}
