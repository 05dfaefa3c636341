//! `/jobs/{id}/stream`: a job's events as server-sent events, from the start or after
//! `Last-Event-ID`, to the last one.

use super::{
    Gateway,
    auth::Reader,
    error::{Error, Result},
    jobs::{job_id, unknown},
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::stream;
use std::time::Duration;

/// A comment so often keeps proxies from taking a quiet stream for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The number of the first event that is wanted.
fn first(headers: &HeaderMap) -> Result<u64> {
    let Some(last) = headers.get("last-event-id") else { return Ok(0) };
    let last = last.to_str().ok().and_then(|last| last.parse::<u64>().ok());
    let next = last.and_then(|last| last.checked_add(1));
    next.ok_or_else(|| Error::field("Last-Event-ID", "the `id` of an event of this stream"))
}

pub(super) async fn stream(
    State(gateway): State<Gateway>,
    Reader(caller): Reader,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let from = first(&headers)?;
    let events = gateway.jobs.events(caller.account, job_id(&id)?, from).ok_or_else(unknown)?;
    let lines = stream::try_unfold(events, async |mut events| {
        let next = events.next().await?;
        let event = next.map(|(number, line)| Event::default().id(number.to_string()).data(line));
        Ok::<_, crate::jobs::Error>(event.map(|event| (event, events)))
    });
    Ok(Sse::new(lines).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}
