//! Answers HTTP connections with the gateway, until the node stops.
//!
//! Connections are counted and their headers timed, so that slow or many clients cost a bounded
//! amount. Handlers bound everything else.

use crate::{
    config,
    disk::Disk,
    environment::Tasks,
    gateway::{self, Gateway},
    node::Node,
};
use anyhow::Context as _;
use archipelag_runtimes::workers::Workers;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

/// Connections at a time; more wait in the operating system's queue.
const MAX_CONNECTIONS: usize = 512;
/// How long headers may take to come, and how long a connection may wait for its next request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 64 << 10;
/// How long answers that are under way may go on when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// How long accepting rests when the operating system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the gateway's stores and listens; gives the address. `own` is the key in the node's home.
///
/// # Errors
/// When a store can't be opened or the address can't be listened on.
pub async fn start(
    node: Arc<Node>,
    config: &config::Http,
    own: &str,
    disk: Arc<dyn Disk>,
    workers: Arc<dyn Workers>,
) -> anyhow::Result<SocketAddr> {
    let settings = gateway::Config {
        requests_per_minute: config.requests_per_minute,
        remote: !config.listen.ip().is_loopback(),
    };
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("HTTP can't listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let tasks = node.tasks.clone();
    let router = gateway::router(Gateway::open(settings, node, own, disk, workers).await?);
    tasks.spawn(accept(listener, router, tasks.clone()));
    Ok(address)
}

async fn accept(listener: TcpListener, router: Router, tasks: Tasks) {
    let (room, stop) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), tasks.stopping());
    let next = async || {
        let place = room.clone().acquire_owned().await;
        let accepted = listener.accept().await;
        (place, accepted)
    };
    loop {
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => return,
            next = next() => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                tasks.spawn(async move {
                    let _place = place;
                    connection(stream, router, stop).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "serve.accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    // Events are small and wanted at once. A socket that can't be told so works too.
    let _slower = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // Streams of jobs that will not end are cut off: their clients come back and resume.
            tokio::time::timeout(STOP_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "serve.connection");
    }
}
