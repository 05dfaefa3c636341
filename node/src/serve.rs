//! Answers HTTP connections with the gateway, until the node stops.
//!
//! Connections are bounded in number, each client's too, and none waits for its client for long:
//! for a request, or to read what is sent to it. So slow or many clients cost a bounded amount and
//! keep out nobody but themselves. Handlers bound everything else.

mod io;
mod places;

use crate::{
    config,
    disk::Disk,
    environment::Tasks,
    gateway::{self, Gateway},
    node::Node,
};
use anyhow::Context as _;
use archipelag_runtimes::workers::Workers;
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
};
use hyper::{
    Request, Response,
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use io::Io;
use places::{Busy, Place, Places};
use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

/// What clients may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at a time.
    connections: usize,
    /// Connections of one client address at a time. Half of all: on loopback, where everybody has
    /// the same, that is still many.
    share: usize,
    /// How long a request's headers may take to come, from when the connection is there or from the
    /// end of the answer before.
    request: Duration,
    /// How long a client may read nothing of what is sent to it.
    unread: Duration,
    /// How long it may do so and keep its place when another needs one.
    grace: Duration,
}

const LIMITS: Limits = Limits {
    connections: 512,
    share: 256,
    request: Duration::from_secs(10),
    unread: Duration::from_secs(20),
    grace: Duration::from_secs(2),
};
const BUFFER_BYTES: usize = 64 << 10;
/// What the system keeps of an answer that is not read yet. Linux says that there is room again
/// when a third of it is free, and would make it megabytes: who reads them slowly and steadily
/// would look for longer than `unread` as if it did not read.
const SEND_BUFFER_BYTES: u32 = 128 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
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
    let listener =
        listen(config.listen).with_context(|| format!("HTTP can't listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let tasks = node.tasks.clone();
    let router = gateway::router(Gateway::open(settings, node, own, disk, workers).await?);
    tasks.spawn(accept(listener, router, tasks.clone(), LIMITS));
    Ok(address)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The next start must not wait for what the last left; on Windows it need not, and this means
    // to share the address.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, router: Router, tasks: Tasks, limits: Limits) {
    let places = Arc::new(Places::new(limits.connections, limits.share, limits.grace));
    let stop = tasks.stopping();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(place) = places.take(address.ip()) else {
                    tracing::debug!(%address, "serve.full");
                    continue;
                };
                let (router, stop) = (router.clone(), stop.clone());
                tasks.spawn(connection(stream, place, router, stop, limits));
            }
            Err(error) => {
                tracing::warn!(%error, "serve.accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The body of an answer; its connection is busy until all of it is written, which may be after the
/// body is dropped.
#[derive(Debug)]
struct Answer {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn connection(
    stream: TcpStream,
    place: Place,
    router: Router,
    stop: CancellationToken,
    limits: Limits,
) {
    // Events are small and wanted at once. A socket that can't be told so works too.
    let _slower = stream.set_nodelay(true);
    let (place, router) = (Arc::new(place), TowerToHyperService::new(router));
    let given_up = place.given_up();
    let io = Io::new(stream, place.clone(), limits.unread);
    let service = service_fn(move |request: Request<Incoming>| {
        let (busy, answer) = (place.busy(), router.call(request));
        async move {
            let answer: Response<Body> = answer.await?;
            Ok::<_, std::convert::Infallible>(answer.map(|body| Answer { body, _busy: busy }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = given_up.cancelled() => Ok(()),
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

#[cfg(test)]
mod tests;
