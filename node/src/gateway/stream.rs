//! `/jobs/{id}/stream`: a job's events as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), from the start or after
//! `Last-Event-ID`, to the last one.
//!
//! Written here and not with axum's, which makes a chunk, and with it a system call, of every
//! event.

use super::{
    Gateway,
    auth::Reader,
    body::{Path, only},
    error::{Error, Result},
    jobs::{job_id, unknown},
};
use crate::jobs::Events;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use std::{fmt::Write as _, time::Duration};

/// A comment so often keeps proxies from taking a quiet stream for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The number of the first event that is wanted.
fn first(headers: &HeaderMap) -> Result<u64> {
    let Some(last) = only(headers, "Last-Event-ID")? else { return Ok(0) };
    let last = last.to_str().ok().and_then(|last| last.parse::<u64>().ok());
    let next = last.and_then(|last| last.checked_add(1));
    next.ok_or_else(|| Error::field("Last-Event-ID", "the `id` of an event of this stream"))
}

/// What can be sent now; `None` after the last event.
async fn chunk(events: &mut Events) -> std::result::Result<Option<Bytes>, crate::jobs::Error> {
    let Ok(ready) = tokio::time::timeout(KEEP_ALIVE, events.next()).await else {
        return Ok(Some(Bytes::from_static(b":\n\n")));
    };
    let ready = ready?;
    let mut text = String::with_capacity(ready.iter().map(|(_, line)| line.len() + 32).sum());
    for (number, line) in &ready {
        // A line is JSON on one line. Writing to a string fails never.
        let _written = write!(text, "id: {number}\ndata: {line}\n\n");
    }
    Ok((!ready.is_empty()).then(|| text.into()))
}

pub(super) async fn stream(
    State(gateway): State<Gateway>,
    Reader(caller): Reader,
    Path(id): Path,
    headers: HeaderMap,
) -> Result<Response> {
    let from = first(&headers)?;
    let events = gateway.jobs.events(caller.account, job_id(&id)?, from).ok_or_else(unknown)?;
    let chunks = stream::try_unfold(events, async |mut events| {
        Ok::<_, crate::jobs::Error>(chunk(&mut events).await?.map(|chunk| (chunk, events)))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    // Who reads with a key reads for as long as it counts.
    let over = async move { gateway.keys.over(caller.key.id).await };
    Ok((kind, Body::from_stream(chunks.take_until(over))).into_response())
}
