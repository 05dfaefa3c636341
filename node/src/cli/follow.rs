//! Follows a job's events over HTTP until they end, over broken connections and restarts of the
//! node, without losing or repeating one.

use super::{
    client::{Client, data},
    events::Printer,
    exit::{Exit, Failed, Outcome},
    sse::Parser,
};
use futures::StreamExt as _;
use serde_json::Value;
use std::time::Duration;

/// Connections that may fail in a row.
const ATTEMPTS: u32 = 8;
const WAIT: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(4);
/// How long a cancelled job may take to say so.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints a job's events and gives the job as it ended. Ctrl-C and `limit` cancel it.
pub(crate) async fn follow(
    client: &Client,
    job: &str,
    printer: &mut Printer,
    limit: Option<Duration>,
) -> Outcome<Value> {
    let too_long = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let mut last = None;
    let why = tokio::select! {
        streamed = stream(client, job, printer, &mut last) => {
            if let Err(failed) = streamed {
                if failed.exit == Exit::JobFailed {
                    // Nobody reads what it says: it need not go on.
                    cancel(client, job).await?;
                }
                return Err(failed);
            }
            None
        }
        _ = tokio::signal::ctrl_c() => Some("cancelling; Ctrl-C again leaves the job alone"),
        () = too_long => Some("--timeout is over: cancelling"),
    };
    if let Some(why) = why {
        printer.note(why);
        cancel(client, job).await?;
        tokio::select! {
            streamed = stream(client, job, printer, &mut last) => streamed?,
            _ = tokio::signal::ctrl_c() => {}
            () = tokio::time::sleep(CANCEL_TIMEOUT) => {}
        }
    }
    Ok(data(client.get(&format!("api/v1/jobs/{job}")).await?))
}

/// A job that has just ended is not an error.
async fn cancel(client: &Client, job: &str) -> Outcome {
    match client.delete(&format!("api/v1/jobs/{job}")).await {
        Err(failed) if failed.exit == Exit::Network => Err(failed),
        _ => Ok(()),
    }
}

async fn stream(
    client: &Client,
    job: &str,
    printer: &mut Printer,
    last: &mut Option<String>,
) -> Outcome {
    let (mut failures, mut wait) = (0, WAIT);
    while !printer.ended() {
        let before = last.clone();
        let error = match once(client, job, printer, last).await {
            Ok(()) if printer.ended() => break,
            Ok(()) => Failed::network("the stream ended before the job did"),
            Err(failed) if failed.exit != Exit::Network => return Err(failed),
            Err(failed) => failed,
        };
        if *last == before {
            failures += 1;
        } else {
            (failures, wait) = (0, WAIT);
        }
        if failures >= ATTEMPTS {
            let next = format!("`archipelag jobs stream {job}` goes on where it stopped");
            return Err(Failed::network(format!("{error}; {next}")));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
    Ok(())
}

/// Reads one connection to its end.
async fn once(
    client: &Client,
    job: &str,
    printer: &mut Printer,
    last: &mut Option<String>,
) -> Outcome {
    let response = client.events(job, last.as_deref()).await?;
    let mut chunks = response.bytes_stream();
    let (mut parser, mut items) = (Parser::default(), Vec::new());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| Failed::network(format!("the stream broke: {e}")))?;
        let parsed = parser.push(&chunk, &mut items);
        for item in items.drain(..) {
            // Where to go on counts from what was printed.
            printer.event(&item.data)?;
            if item.id.is_some() {
                *last = item.id;
            }
        }
        printer.flush()?;
        parsed.map_err(|_| Failed::network("the stream is not one of events"))?;
    }
    Ok(())
}

/// The exit of a job that ended so.
pub(crate) fn verdict(job: &Value) -> Outcome {
    match job["status"].as_str() {
        Some("completed") => Ok(()),
        // The reason was the last event.
        _ if job["error_step"] == "no_island" => Err(Failed::new(Exit::NoIsland, "")),
        _ => Err(Failed::new(Exit::JobFailed, "")),
    }
}
