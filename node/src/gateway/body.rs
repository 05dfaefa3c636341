//! What a request carries: a JSON body, query parameters; each refusal with the API's envelope.

use super::{
    Gateway,
    error::{Error, Result},
};
use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{header, request::Parts},
};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;

/// Of a body that is too long, how much is read beyond the limit.
const DISCARDED_BYTES: usize = 64 << 20;

/// A JSON body, with its bytes as they came.
#[derive(Debug)]
pub(super) struct Json<T> {
    pub(super) value: T,
    pub(super) bytes: Bytes,
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let essence = value.and_then(|v| v.split(';').next()).map(str::trim).unwrap_or_default();
    essence.eq_ignore_ascii_case("application/json")
}

/// A body of a known greatest length.
pub(super) trait Bounded: DeserializeOwned {
    /// Bytes of the longest body that is taken.
    fn limit(gateway: &Gateway) -> usize;
}

impl<T: Bounded> FromRequest<Gateway> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self> {
        if !is_json(&request) {
            return Err(Error::media_type());
        }
        let bytes = read(request.into_body(), T::limit(gateway)).await?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::malformed(format!("the body is not what is expected: {e}")))?;
        Ok(Self { value, bytes })
    }
}

/// Reads a body. What is too long is read on for a while and thrown away: a client that is still
/// writing when the answer comes would see a broken connection and not the answer.
async fn read(body: Body, limit: usize) -> Result<Bytes> {
    let (mut chunks, mut bytes, mut length) = (body.into_data_stream(), Vec::new(), 0_usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Error::malformed("the body could not be read to its end"))?;
        length = length.saturating_add(chunk.len());
        if length <= limit {
            bytes.extend_from_slice(&chunk);
        } else if length - limit > DISCARDED_BYTES {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if length > limit {
        return Err(Error::too_large(format!("the body is too long: the limit is {limit} bytes")));
    }
    Ok(bytes.into())
}

/// Query parameters.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Gateway> for Params<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Gateway) -> Result<Self> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(params)| Self(params))
            .map_err(|e| Error::malformed(format!("the query string: {}", e.body_text())))
    }
}
