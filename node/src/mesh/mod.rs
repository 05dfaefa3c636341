//! The mesh: one libp2p swarm per node, owned by one task, spoken to through a [`Mesh`] handle.
//!
//! It connects, gossips adverts, keeps catalog entries in Kademlia, answers and asks queries, and
//! opens streams. It verifies what arrives before it keeps or forwards it, and scores down peers
//! that send what can't be valid. It knows nothing of jobs, money or Cargos beyond their
//! signatures.

mod actor;
pub mod artifact;
mod behaviour;
mod codec;
mod gossip;
pub mod identity;
mod join;
mod metrics;
mod shares;
mod state;
mod streams;

pub use gossip::{Gossiped, Verdict};
pub use join::fetch_genesis;
pub use metrics::Metrics;
pub use state::SeenIsland;

use crate::environment::{MeshTransport, Tasks};
use archipelag_protocol::{
    advert::Advert,
    catalog::Entry,
    codec as encoding,
    genesis::Genesis,
    id::{ContentId, NetworkId, NodeId},
    ledger::{Handover, Trust, light},
    query::{self, Request, Response},
    time::Timestamp,
};
use futures::{AsyncRead, AsyncWrite};
use libp2p::Multiaddr;
use state::Shared;
use std::{
    collections::BTreeMap,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// How the mesh is reached and how many may come.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on; none makes a client that others can't dial.
    pub listen: Vec<Multiaddr>,
    /// Addresses of nodes to join through, each ending in `/p2p/<peer>`.
    pub bootstrap: Vec<Multiaddr>,
    pub mdns: bool,
    pub max_connections: u32,
}

/// The protocols of raw streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Job,
    Artifact,
    /// Short messages between coordinators.
    Consensus,
    /// Blocks between coordinators: votes must not wait behind them.
    Block,
}

/// Why the mesh could not do what it was asked.
#[derive(Clone, Debug, Error)]
pub enum Error {
    #[error("node {} can't be reached: {reason}", node.short())]
    Unreachable { node: NodeId, reason: String },
    #[error("the other node's answer is not valid: {0}")]
    Invalid(String),
    #[error("no answer in time")]
    Timeout,
    #[error("the node is stopping")]
    Closed,
}

/// A connected node.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    pub node: NodeId,
    pub address: String,
    pub rtt_us: Option<u32>,
}

/// A query from another node, to be answered through the channel.
pub type IncomingQuery = (NodeId, Request, oneshot::Sender<Response>);

/// How long opening a stream may take, dialling included.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Queries that may wait for their answer here.
const QUERY_QUEUE: usize = 256;
/// Commands that may wait for the swarm's task.
const COMMAND_QUEUE: usize = 256;
/// Gossiped transactions that may wait to be looked at.
const GOSSIP_QUEUE: usize = 256;
/// Buffer of a stream from this node to itself, in bytes.
const LOCAL_STREAM_BYTES: usize = 64 << 10;

/// A stream to another node, or to this one.
#[derive(Debug)]
pub struct Stream(Inner);

#[derive(Debug)]
enum Inner {
    Mesh(streams::LimitedStream),
    Local(Compat<tokio::io::DuplexStream>),
}

macro_rules! delegate {
    ($self:ident, $method:ident $(, $argument:ident)*) => {
        match &mut $self.get_mut().0 {
            Inner::Mesh(stream) => Pin::new(stream).$method($($argument),*),
            Inner::Local(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_close, cx)
    }
}

/// What other parts ask of the swarm's task.
#[derive(Debug)]
enum Command {
    Dial { node: NodeId, addresses: Vec<Multiaddr>, answer: oneshot::Sender<Result<(), String>> },
    Query { node: NodeId, request: Vec<u8>, answer: oneshot::Sender<Result<Vec<u8>, String>> },
    Lookup { key: [u8; 32], answer: oneshot::Sender<Option<Entry>> },
    Announce(Box<Entry>),
    Provide(ContentId),
    Providers { content: ContentId, answer: oneshot::Sender<Vec<NodeId>> },
    Misbehaved { node: NodeId, reason: String },
    Spread(Vec<u8>),
    Listen(mpsc::Sender<Gossiped>),
    Judged { gossiped: gossip::Source, verdict: Verdict },
}

/// Who accepts streams here, by protocol.
type Accepting = BTreeMap<Protocol, mpsc::Sender<(NodeId, Stream)>>;

/// A handle to the mesh; cheap to clone.
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    advert: Arc<watch::Sender<Option<Advert>>>,
    local: Arc<std::sync::Mutex<Accepting>>,
    queries: Arc<Mutex<Option<mpsc::Receiver<IncomingQuery>>>>,
    tasks: Tasks,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("node", &self.shared.node).finish_non_exhaustive()
    }
}

impl Mesh {
    /// Starts the swarm's task. `key` is the node's identity and signs its adverts.
    ///
    /// # Errors
    /// When an address can't be listened on, or a setting is out of range.
    pub fn start(
        config: Config,
        key: &libp2p::identity::Keypair,
        genesis: Arc<Genesis>,
        transport: MeshTransport,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let node = identity::node_of(key.public().to_peer_id())
            .ok_or_else(|| anyhow::anyhow!("the node key is not an ed25519 key"))?;
        let shared = Arc::new(Shared::new(node, genesis)?);
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (query_sender, queries) = mpsc::channel(QUERY_QUEUE);
        let advert = Arc::new(watch::Sender::new(None));
        let actor = actor::Actor::new(
            config,
            key,
            shared.clone(),
            transport,
            actor::Inbox {
                commands: command_queue,
                queries: query_sender,
                advert: advert.subscribe(),
            },
            tasks,
        )?;
        tasks.spawn(actor.run(tasks.stopping()));
        Ok(Self {
            shared,
            commands,
            advert,
            local: Arc::default(),
            queries: Arc::new(Mutex::new(Some(queries))),
            tasks: tasks.clone(),
        })
    }

    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.shared.network
    }

    #[must_use]
    pub fn genesis(&self) -> &Arc<Genesis> {
        &self.shared.genesis
    }

    /// The validators that this node knows, by which it judges what it is told of the ledger.
    #[must_use]
    pub fn trust(&self) -> Arc<Trust> {
        self.shared.trust()
    }

    /// The changes of the validators that are known here, as far as they were before the block of
    /// height `before`: with the genesis document they prove who decided that one.
    #[must_use]
    pub fn handovers(&self, before: u64) -> Vec<Handover> {
        self.shared.handovers(before)
    }

    /// Learns who took over from the latest validators that are known here.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn learn(&self, handover: Handover) -> Result<(), light::Error> {
        self.shared.learn(handover)
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Islands whose adverts count now, this node's own included.
    #[must_use]
    pub fn islands(&self) -> Vec<SeenIsland> {
        self.shared.islands(now())
    }

    /// Changes whenever an advert comes, changes or goes.
    #[must_use]
    pub fn islands_changed(&self) -> watch::Receiver<u64> {
        self.shared.islands_changed()
    }

    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared.peers()
    }

    /// Addresses that others can dial, with this node's peer id.
    /// How many nodes this one exchanges adverts with at first hand: its neighbours in gossip.
    #[must_use]
    pub fn neighbours(&self) -> usize {
        self.shared.neighbours()
    }

    #[must_use]
    pub fn listen_addresses(&self) -> Vec<String> {
        self.shared.listen_addresses().iter().map(ToString::to_string).collect()
    }

    /// Sets what this node's adverts say; the mesh fills in sequence, time and addresses.
    pub fn advertise(&self, advert: Advert) {
        self.advert.send_replace(Some(advert));
    }

    /// Hands out inbound streams of `protocol` from now on. Call once per protocol.
    #[must_use]
    pub fn accept(&self, protocol: Protocol) -> mpsc::Receiver<(NodeId, Stream)> {
        let (sender, receiver) = mpsc::channel(64);
        self.local
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(protocol, sender.clone());
        let mut inbound = self.shared.streams.accept(protocol);
        let stopping = self.tasks.stopping();
        self.tasks.spawn(async move {
            loop {
                let next = tokio::select! {
                    () = stopping.cancelled() => return,
                    next = inbound.recv() => next,
                };
                let Some((peer, stream)) = next else { return };
                let Some(node) = identity::node_of(peer) else { continue };
                if sender.send((node, Stream(Inner::Mesh(stream)))).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }

    /// Queries from other nodes. There is one receiver; the first caller gets it.
    pub async fn incoming_queries(&self) -> Option<mpsc::Receiver<IncomingQuery>> {
        self.queries.lock().await.take()
    }

    /// Opens a stream to `node`, dialling it when needed.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Timeout`].
    pub async fn open_stream(&self, node: NodeId, protocol: Protocol) -> Result<Stream, Error> {
        if node == self.node() {
            return self.open_local(protocol).await;
        }
        let unreachable = |reason: String| Error::Unreachable { node, reason };
        let peer = identity::peer_of(node).ok_or_else(|| unreachable("not a node id".into()))?;
        let open = async {
            if let Some(opened) = self.shared.streams.open(peer, protocol).await {
                return opened.map_err(unreachable);
            }
            self.dial(node, Vec::new()).await?;
            let opened = self.shared.streams.open(peer, protocol).await;
            opened.unwrap_or_else(|| Err("the connection closed".into())).map_err(unreachable)
        };
        let stream =
            tokio::time::timeout(OPEN_TIMEOUT, open).await.map_err(|_| Error::Timeout)??;
        Ok(Stream(Inner::Mesh(stream)))
    }

    async fn open_local(&self, protocol: Protocol) -> Result<Stream, Error> {
        let sender = self
            .local
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(&protocol)
            .cloned();
        let refused = || Error::Unreachable {
            node: self.node(),
            reason: "this node doesn't serve that protocol".into(),
        };
        let sender = sender.ok_or_else(refused)?;
        let (ours, theirs) = tokio::io::duplex(LOCAL_STREAM_BYTES);
        let theirs = Stream(Inner::Local(theirs.compat()));
        sender.send((self.node(), theirs)).await.map_err(|_| refused())?;
        Ok(Stream(Inner::Local(ours.compat())))
    }

    /// Connects to `node`, by `addresses` and what is known of it.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what went wrong at each address.
    pub async fn dial(&self, node: NodeId, addresses: Vec<Multiaddr>) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::Dial { node, addresses, answer }).await?;
        let outcome = answered.await.map_err(|_| Error::Closed)?;
        outcome.map_err(|reason| Error::Unreachable { node, reason })
    }

    /// Asks `node` something. The answer is decoded, not verified.
    ///
    /// # Errors
    /// When it can't be reached or answers nonsense.
    pub async fn query(&self, node: NodeId, request: Request) -> Result<Response, Error> {
        let invalid = |e: encoding::Error| Error::Invalid(e.to_string());
        let request = encoding::encode_loose("query", &request).map_err(invalid)?;
        let (answer, answered) = oneshot::channel();
        self.command(Command::Query { node, request, answer }).await?;
        let bytes = answered
            .await
            .map_err(|_| Error::Closed)?
            .map_err(|reason| Error::Unreachable { node, reason })?;
        query::decode_response(&bytes).map_err(invalid)
    }

    /// Looks a catalog entry up in Kademlia. What is returned has been verified.
    pub async fn lookup(&self, key: [u8; 32]) -> Option<Entry> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::Lookup { key, answer }).await.ok()?;
        answered.await.ok()?
    }

    /// Puts a catalog entry into Kademlia, under its id and its slug.
    ///
    /// # Errors
    /// [`Error::Closed`] when the node is stopping.
    pub async fn announce(&self, entry: Entry) -> Result<(), Error> {
        self.command(Command::Announce(Box::new(entry))).await
    }

    /// Tells the mesh that this node serves `content`.
    ///
    /// # Errors
    /// [`Error::Closed`] when the node is stopping.
    pub async fn provide(&self, content: ContentId) -> Result<(), Error> {
        self.command(Command::Provide(content)).await
    }

    /// Nodes that say they serve `content`.
    pub async fn providers(&self, content: ContentId) -> Vec<NodeId> {
        let (answer, answered) = oneshot::channel();
        if self.command(Command::Providers { content, answer }).await.is_err() {
            return Vec::new();
        }
        answered.await.unwrap_or_default()
    }

    /// Scores a node down that sent what no honest node sends. Never blocks: a report that finds
    /// the queue full is dropped, others will follow.
    pub fn misbehaved(&self, node: NodeId, reason: &str) {
        let reason = archipelag_protocol::event::bounded(reason.to_owned());
        if self.commands.try_send(Command::Misbehaved { node, reason }).is_err() {
            tracing::debug!(node = %node.short(), "mesh.misbehaved: queue full");
        }
    }

    /// Gossips a signed transaction to whoever keeps the ledger. Never blocks: one that finds the
    /// queue full is dropped.
    pub fn spread(&self, transaction: Vec<u8>) {
        if self.commands.try_send(Command::Spread(transaction)).is_err() {
            tracing::debug!("mesh.spread: queue full");
        }
    }

    /// Subscribes to gossiped transactions. Each has to be judged. Those that find the queue full
    /// are dropped, and not passed on.
    ///
    /// # Errors
    /// [`Error::Closed`] when the node is stopping.
    pub async fn transactions(&self) -> Result<mpsc::Receiver<Gossiped>, Error> {
        let (sender, receiver) = mpsc::channel(GOSSIP_QUEUE);
        self.command(Command::Listen(sender)).await?;
        Ok(receiver)
    }

    /// Says what becomes of a gossiped transaction.
    ///
    /// # Errors
    /// [`Error::Closed`] when the node is stopping.
    pub async fn judge(&self, gossiped: gossip::Source, verdict: Verdict) -> Result<(), Error> {
        self.command(Command::Judged { gossiped, verdict }).await
    }

    async fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Closed)
    }
}

/// The time now, for rules that take it as an input.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
