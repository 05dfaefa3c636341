//! What a request carries: a JSON body, query parameters; each refusal with the API's envelope.

use super::{
    Gateway,
    error::{Error, Result},
};
use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::BytesRejection},
    http::{header, request::Parts},
};
use serde::de::DeserializeOwned;

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

impl<T: DeserializeOwned> FromRequest<Gateway> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self> {
        if !is_json(&request) {
            return Err(Error::media_type());
        }
        let bytes = Bytes::from_request(request, gateway).await.map_err(refused)?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::malformed(format!("the body is not what is expected: {e}")))?;
        Ok(Self { value, bytes })
    }
}

fn refused(rejection: BytesRejection) -> Error {
    if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
        return Error::too_large("the body is longer than this path takes");
    }
    Error::malformed("the body could not be read to its end")
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
