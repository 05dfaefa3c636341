//! What a node is given from outside: transport, disk, executor, worker pool.
//!
//! Production hands in sockets, files and threads; tests and the simulator hand in memory and one
//! thread. Node code uses nothing else to reach the world, apart from time and entropy through std
//! and tokio, which the simulator interposes.

use crate::disk::Disk;
use archipelag_runtimes::workers::Workers;
use futures::future::BoxFuture;
use libp2p::{
    PeerId, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed},
    identity,
};
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a new TCP connection may take to be encrypted and multiplexed.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);

/// A transport that yields authenticated, multiplexed connections.
pub type MeshTransport = Boxed<(PeerId, StreamMuxerBox)>;

/// Starts tasks. Everything a node does concurrently goes through here.
pub trait Executor: Send + Sync + fmt::Debug {
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// The parts of the world that one node may touch.
pub struct Environment {
    pub transport: MeshTransport,
    pub disk: Arc<dyn Disk>,
    pub executor: Arc<dyn Executor>,
    pub workers: Arc<dyn Workers>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// A node's tasks: started through the executor, counted, and ended together.
#[derive(Clone, Debug)]
pub struct Tasks {
    executor: Arc<dyn Executor>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    #[must_use]
    pub fn new(executor: Arc<dyn Executor>) -> Self {
        Self { executor, tracker: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Starts `task`; [`Tasks::stop`] waits for it. Long tasks must watch [`Tasks::stopping`].
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.executor.spawn(Box::pin(self.tracker.track_future(task)));
    }

    /// Cancelled when the node stops.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Ends all tasks and waits until they have.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// The executor of production: the tokio runtime that the node runs on.
#[derive(Debug)]
pub struct TokioExecutor(pub tokio::runtime::Handle);

impl Executor for TokioExecutor {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }
}

/// The worker pool of production: a tokio runtime of its own, so that Cargos and disk writes don't
/// hold up the network.
#[derive(Debug)]
pub struct PoolWorkers {
    handle: tokio::runtime::Handle,
    /// Taken when it is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for PoolWorkers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The last one to hold the pool may be a task, which must not block.
            runtime.shutdown_background();
        }
    }
}

impl PoolWorkers {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the operating system refuses threads.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("archipelag-work")
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Workers for PoolWorkers {
    fn spawn(&self, work: BoxFuture<'static, ()>) {
        self.handle.spawn(work);
    }
}

/// A worker pool on the executor's own threads: for tests and the simulator.
#[derive(Debug)]
pub struct InlineWorkers(pub Arc<dyn Executor>);

impl Workers for InlineWorkers {
    fn spawn(&self, work: BoxFuture<'static, ()>) {
        self.0.spawn(work);
    }
}

/// The transport of production: TCP with Noise and Yamux, QUIC, and DNS names.
///
/// # Errors
/// When the operating system's resolver settings can't be read or a key is unusable.
pub fn network_transport(key: &identity::Keypair) -> anyhow::Result<MeshTransport> {
    use libp2p::{dns, quic, tcp};
    let tcp = secured(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)), key)?;
    let quic = quic::tokio::Transport::new(quic::Config::new(key))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = quic.or_transport(tcp).map(|either, _| either.into_inner());
    Ok(dns::tokio::Transport::system(both)?.boxed())
}

/// A transport within this process, for tests.
///
/// # Errors
/// When the key is unusable.
pub fn memory_transport(key: &identity::Keypair) -> anyhow::Result<MeshTransport> {
    secured(libp2p::core::transport::MemoryTransport::default(), key)
}

/// Encrypts and multiplexes what a transport of byte streams yields: Noise and Yamux.
///
/// # Errors
/// When the key is unusable.
pub fn secured<T>(streams: T, key: &identity::Keypair) -> anyhow::Result<MeshTransport>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    use libp2p::{core::upgrade::Version, noise, yamux};
    Ok(streams
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(yamux::Config::default())
        // Who connects and says nothing must not keep a place.
        .timeout(UPGRADE_TIMEOUT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed())
}
