//! The streams among coordinators: what an engine sends goes out here, and what others send comes
//! in.
//!
//! Each other coordinator has two streams from us, one for short messages and one for blocks, so
//! that votes don't wait behind a body. A stream that breaks is opened again after a while.
//! Consensus allows for loss: a message that finds its queue full, or no stream, is dropped and
//! counted.

use super::{Coordinator, config::Outgoing};
use crate::{
    environment::Tasks,
    frames,
    mesh::{Mesh, Protocol, Stream},
};
use archipelag_protocol::{consensus::MAX_MESSAGE_BYTES, id::NodeId};
use futures::AsyncWriteExt as _;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc};

/// Messages that may wait for one stream.
const QUEUE: usize = 1024;
/// Blocks that may wait for one stream.
const BLOCK_QUEUE: usize = 8;
/// A message up to this size is short.
const SHORT_BYTES: usize = 32 << 10;
/// Messages of all engines' outputs that may wait to be sorted by their receivers.
pub(super) const OUTGOING: usize = 4096;
/// Between two attempts to open a stream.
const RETRY: Duration = Duration::from_millis(500);
/// How long a message may take to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Incoming streams of one coordinator, of each kind.
const STREAMS_PER_NODE: usize = 4;
/// Bytes of one coordinator's messages that may wait for the engine, of each kind. When they are
/// used up its streams wait.
const BUDGET_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// The queues of one coordinator's two streams.
struct Link {
    short: mpsc::Sender<Vec<u8>>,
    blocks: mpsc::Sender<Vec<u8>>,
}

/// Connects a coordinator with the others that have a seat, until its node stops.
pub(crate) fn start(
    coordinator: &Coordinator,
    mesh: &Mesh,
    outgoing: mpsc::Receiver<Outgoing>,
    tasks: &Tasks,
) {
    for protocol in [Protocol::Consensus, Protocol::Block] {
        let limit = if protocol == Protocol::Block { MAX_MESSAGE_BYTES } else { SHORT_BYTES };
        let incoming = mesh.accept(protocol);
        tasks.spawn(listen(coordinator.clone(), limit, incoming, tasks.clone()));
    }
    tasks.spawn(sort(coordinator.clone(), mesh.clone(), outgoing, tasks.clone()));
}

impl Link {
    fn open(mesh: &Mesh, node: NodeId, tasks: &Tasks) -> Self {
        let queue = |protocol, length| {
            let (sender, receiver) = mpsc::channel(length);
            tasks.spawn(write(mesh.clone(), node, protocol, receiver, tasks.clone()));
            sender
        };
        let short = queue(Protocol::Consensus, QUEUE);
        Self { short, blocks: queue(Protocol::Block, BLOCK_QUEUE) }
    }
}

/// Hands each message to the streams of its receivers.
async fn sort(
    coordinator: Coordinator,
    mesh: Mesh,
    mut outgoing: mpsc::Receiver<Outgoing>,
    tasks: Tasks,
) {
    let stopping = tasks.stopping();
    let mut links: BTreeMap<NodeId, Link> = BTreeMap::new();
    loop {
        let next = tokio::select! {
            () = stopping.cancelled() => return,
            next = outgoing.recv() => next,
        };
        let Some(Outgoing { to, message }) = next else { return };
        let mut seated = coordinator.deciders();
        seated.remove(&mesh.node());
        links.retain(|node, _| seated.contains(node));
        for node in seated {
            links.entry(node).or_insert_with(|| Link::open(&mesh, node, &tasks));
        }
        let receivers = links.iter().filter(|(node, _)| to.is_none_or(|to| to == **node));
        for (_, link) in receivers {
            let queue = if message.len() > SHORT_BYTES { &link.blocks } else { &link.short };
            if queue.try_send(message.clone()).is_err() {
                coordinator.metrics().messages_dropped.inc();
            }
        }
    }
}

/// Writes what comes from `queue` to a stream to `node`, and opens one anew when it broke.
async fn write(
    mesh: Mesh,
    node: NodeId,
    protocol: Protocol,
    mut queue: mpsc::Receiver<Vec<u8>>,
    tasks: Tasks,
) {
    let stopping = tasks.stopping();
    let mut stream: Option<Stream> = None;
    loop {
        let next = tokio::select! {
            () = stopping.cancelled() => return,
            next = queue.recv() => next,
        };
        let Some(message) = next else { return };
        let work = async {
            if stream.is_none() {
                stream = mesh.open_stream(node, protocol).await.ok();
            }
            let Some(open) = &mut stream else { return false };
            let written = async {
                frames::write_up_to(open, &message, MAX_MESSAGE_BYTES).await?;
                Ok::<_, frames::Error>(open.flush().await?)
            };
            matches!(tokio::time::timeout(WRITE_TIMEOUT, written).await, Ok(Ok(())))
        };
        let sent = tokio::select! {
            () = stopping.cancelled() => return,
            sent = work => sent,
        };
        if !sent {
            stream = None;
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
            // What waited is old by now; the library and the others repeat what still matters.
            while queue.try_recv().is_ok() {}
        }
    }
}

/// Reads the streams of other coordinators; those of anybody else are refused.
async fn listen(
    coordinator: Coordinator,
    limit: usize,
    mut incoming: mpsc::Receiver<(NodeId, Stream)>,
    tasks: Tasks,
) {
    let stopping = tasks.stopping();
    let mut places = BTreeMap::new();
    loop {
        let next = tokio::select! {
            () = stopping.cancelled() => return,
            next = incoming.recv() => next,
        };
        let Some((from, stream)) = next else { return };
        let seated = coordinator.deciders();
        places.retain(|node, _| seated.contains(node));
        if !seated.contains(&from) {
            continue;
        }
        let semaphore = |places| Arc::new(Semaphore::new(places));
        let new = || (semaphore(STREAMS_PER_NODE), semaphore(BUDGET_BYTES));
        let (streams, budget) = places.entry(from).or_insert_with(new).clone();
        let Ok(place) = streams.try_acquire_owned() else { continue };
        let (coordinator, stopping) = (coordinator.clone(), tasks.stopping());
        tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = stopping.cancelled() => {}
                () = read(coordinator, limit, budget, from, stream) => {}
            }
        });
    }
}

async fn read(
    coordinator: Coordinator,
    limit: usize,
    budget: Arc<Semaphore>,
    from: NodeId,
    mut stream: Stream,
) {
    // An end, a failure and a frame that is too long are one: the other side opens a stream anew.
    while let Ok(message) = frames::read_up_to(&mut stream, limit).await {
        let bytes = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let Ok(place) = Arc::clone(&budget).acquire_many_owned(bytes).await else { return };
        coordinator.receive_in(from, message, Some(place));
    }
}
