//! Error answers: `{"error":{"type","message",…}}` with the status codes of `API.md`.
//!
//! Every handler fails with an [`Error`]. What a client sent never ends as a 500.

use crate::{catalog, consumer::Refused, jobs, jobs::credits, ledger};
use archipelag_protocol::ledger::Rejected;
use archipelag_runtimes::schema::FieldError;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Error {
    status: StatusCode,
    /// What kind of error it is, for programs.
    kind: &'static str,
    message: String,
    more: Map<String, Value>,
    retry_after_s: Option<u64>,
}

pub(super) type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), more: Map::new(), retry_after_s: None }
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        self.more.insert(field.into(), value);
        self
    }

    fn after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    pub(super) fn field(field: &str, message: impl std::fmt::Display) -> Self {
        Self::malformed(format!("field `{field}`: {message}")).with("field", field.into())
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "this path does not take this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn too_slow(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message)
    }

    pub(super) fn media_type() -> Self {
        let message = "send the body as JSON, with `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// Refused for what the fields say, by field.
    pub(super) fn invalid(message: impl Into<String>, errors: &[FieldError]) -> Self {
        let mut fields: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for error in errors {
            fields.entry(&error.field).or_default().push(&error.message);
        }
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_input", message)
            .with("errors", json!(fields))
    }

    pub(super) fn rate_limited(message: impl Into<String>, seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message).after(seconds)
    }

    /// Something that this node needs can't be reached now.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).after(1)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut error = self.more;
        error.insert("type".into(), self.kind.into());
        error.insert("message".into(), self.message.into());
        let body = json!({ "error": error }).to_string();
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::UnknownCargo(_) => Self::not_found(message),
            Refused::Invalid { field, .. } => Self::malformed(message).with("field", field.into()),
            Refused::Schema(errors) => {
                Self::invalid("the input does not match the Cargo's input_schema", &errors)
            }
            Refused::TooLarge { .. } => Self::too_large(message),
            Refused::AboveLevel(above) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Self::new(status, "above_trust_level", message).with("field", above.field.into())
            }
            Refused::Credits { required, available } => {
                Self::new(StatusCode::PAYMENT_REQUIRED, "insufficient_credits", message)
                    .with("required", credits(required))
                    .with("available", credits(available))
            }
            Refused::NoIsland { excluded } => {
                let reasons = excluded
                    .iter()
                    .map(|(node, reason)| json!({ "host_id": node, "reason": reason }))
                    .collect();
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_island", message)
                    .with("excluded", Value::Array(reasons))
                    .after(5)
            }
            Refused::Network(_) => Self::unavailable(message),
        }
    }
}

impl From<jobs::Error> for Error {
    fn from(error: jobs::Error) -> Self {
        let message = error.to_string();
        match error {
            jobs::Error::Refused(refused) => refused.into(),
            jobs::Error::TooManyUnfinished { .. } => Self::rate_limited(message, 1),
            jobs::Error::KeyReused
            | jobs::Error::KeyInProgress
            | jobs::Error::KeyOutlivedJob
            | jobs::Error::Ended(_) => Self::conflict(message),
            jobs::Error::Full { .. } | jobs::Error::Store(_) | jobs::Error::Stopping => {
                Self::unavailable(message)
            }
        }
    }
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Self {
        let message = error.to_string();
        match error {
            ledger::Error::Rejected(Rejected::VersionTaken { .. }) => Self::conflict(message),
            ledger::Error::Rejected(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", message)
            }
            _ => Self::unavailable(message),
        }
    }
}

impl From<catalog::Error> for Error {
    fn from(error: catalog::Error) -> Self {
        let message = error.to_string();
        match error {
            catalog::Error::Unknown(_) => Self::not_found(message),
            catalog::Error::Invalid(_) => Self::conflict(message),
            catalog::Error::Unreachable(_) | catalog::Error::Missing(_) => {
                Self::unavailable(message)
            }
        }
    }
}
