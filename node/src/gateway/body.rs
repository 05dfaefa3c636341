//! What a request carries: a JSON body, query parameters, a part of the path, headers; each refusal
//! with the API's envelope.

use super::{
    Gateway,
    error::{Error, Result},
    plain,
};
use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::{self, FromRequest, FromRequestParts, Query, Request},
    http::{HeaderMap, HeaderValue, request::Parts},
};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Of a body that is too long, how much is read beyond the limit.
const DISCARDED_BYTES: usize = 64 << 20;
/// How long a body may pause.
const PAUSE: Duration = Duration::from_secs(10);

/// A JSON body, with its bytes as they came.
#[derive(Debug)]
pub(super) struct Json<T> {
    pub(super) value: T,
    pub(super) bytes: Bytes,
}

/// The header `name`, if there is one. Of two nobody knows which counts: they are refused.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() {
        return Err(Error::field(name, "the header is there twice"));
    }
    Ok(first)
}

fn is_json(headers: &HeaderMap) -> Result<bool> {
    let value = only(headers, "Content-Type")?.and_then(|v| v.to_str().ok());
    let essence = value.and_then(|v| v.split(';').next()).map(str::trim).unwrap_or_default();
    Ok(essence.eq_ignore_ascii_case("application/json"))
}

/// A body of a known greatest length.
pub(super) trait Bounded: DeserializeOwned {
    /// Bytes of the longest body that is taken.
    fn limit(gateway: &Gateway) -> usize;
}

impl<T: Bounded> FromRequest<Gateway> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self> {
        if !is_json(request.headers())? {
            return Err(Error::media_type());
        }
        let bytes = read(request.into_body(), T::limit(gateway), PAUSE).await?;
        Ok(Self { value: plain::decode(&bytes)?, bytes })
    }
}

/// Reads a body. What is too long is read on for a while and thrown away: a client that is still
/// writing when the answer comes would see a broken connection and not the answer. What pauses for
/// longer than `pause` is given up.
async fn read(body: Body, limit: usize, pause: Duration) -> Result<Bytes> {
    let (mut chunks, mut bytes, mut length) = (body.into_data_stream(), Vec::new(), 0_usize);
    let next = async |chunks: &mut BodyDataStream| {
        let next = tokio::time::timeout(pause, chunks.next()).await;
        next.map_err(|_| Error::too_slow(format!("nothing of the body came for {pause:?}")))
    };
    while let Some(chunk) = next(&mut chunks).await? {
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

/// The part of the path that names something.
#[derive(Debug)]
pub(super) struct Path(pub(super) String);

impl FromRequestParts<Gateway> for Path {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self> {
        let path = extract::Path::from_request_parts(parts, gateway).await;
        path.map(|extract::Path(part)| Self(part))
            .map_err(|_| Error::malformed("the path: what is percent-encoded must be UTF-8"))
    }
}

/// Query parameters. Those that nobody asks for are not looked at.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// The whole number that `name` is, if it is there.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>> {
        let mut all = self.0.iter().filter(|(found, _)| found == name);
        let first = all.next().map(|(_, value)| value.parse());
        if all.next().is_some() {
            return Err(Error::field(name, "the parameter is there twice"));
        }
        first.transpose().map_err(|_| Error::field(name, "it must be a whole number"))
    }
}

impl FromRequestParts<Gateway> for Params {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Gateway) -> Result<Self> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(params)| Self(params))
            .map_err(|_| Error::malformed("the query string is not one of names and values"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;
    use futures::stream;

    #[tokio::test]
    async fn a_body_that_pauses_is_given_up() {
        let first = stream::iter([Ok::<_, std::io::Error>("{")]);
        let body = Body::from_stream(first.chain(stream::pending()));
        let read = read(body, 100, Duration::from_millis(20));
        let read = tokio::time::timeout(Duration::from_secs(20), read).await.expect("given up");
        assert_eq!(read.unwrap_err().into_response().status(), 408);
    }

    #[test]
    fn a_header_counts_once() {
        let mut headers = HeaderMap::new();
        assert!(only(&headers, "Idempotency-Key").unwrap().is_none());
        headers.append("idempotency-key", HeaderValue::from_static("a"));
        assert_eq!(only(&headers, "Idempotency-Key").unwrap().unwrap(), "a");
        headers.append("idempotency-key", HeaderValue::from_static("a"));
        assert!(only(&headers, "Idempotency-Key").is_err());
    }
}
