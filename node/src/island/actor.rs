//! The Island's tasks: one takes streams, one keeps the advert true, one settles.

use super::{Core, config::Config, serve::serve, settle::Settler};
use crate::environment::Tasks;
use archipelag_protocol::{
    advert::{Advert, MAX_WARM},
    id::{AccountId, CargoId, NodeId},
    manifest::RuntimeType,
    time::Timestamp,
};
use archipelag_runtimes::runtime::Runtime;
use futures::{AsyncRead, AsyncWrite};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Streams beyond the running jobs: handshakes, refusals and receipts on their way.
const WAITING_STREAMS: usize = 256;
/// A change of the advert waits this long for others.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// How long the streams may take to end when the node stops.
const DRAIN_WAIT: Duration = Duration::from_secs(3);
/// How long the last settlement may take when the node stops.
const LAST_SETTLE_WAIT: Duration = Duration::from_secs(5);

/// What an advert says that does not change while the node runs.
pub(super) fn capabilities(
    config: &Config,
    (node, account): (NodeId, AccountId),
    runtimes: &BTreeMap<RuntimeType, Arc<dyn Runtime>>,
) -> Advert {
    Advert {
        node,
        account,
        sequence: 0,
        issued: Timestamp(0),
        name: config.name.clone(),
        region: config.region.clone(),
        platform: config.platform,
        supported_runtimes: runtimes.keys().copied().collect(),
        hardware: config.hardware.clone(),
        active_jobs: 0,
        max_jobs: config.max_jobs,
        asking_percent: config.asking_percent,
        warm: Vec::new(),
        addresses: Vec::new(),
    }
}

/// Takes streams until the node stops.
pub(super) async fn take_streams<S>(
    island: Arc<Core>,
    mut incoming: mpsc::Receiver<(NodeId, S)>,
    tasks: Tasks,
    streams: Arc<Semaphore>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    loop {
        let next = tokio::select! {
            () = island.stop.cancelled() => return,
            next = incoming.recv() => next,
        };
        let Some((peer, stream)) = next else { return };
        island.metrics.streams.inc();
        // Dropping the stream sends the Consumer to another Island.
        let Ok(permit) = streams.clone().try_acquire_owned() else {
            island.metrics.streams_dropped.inc();
            continue;
        };
        let island = island.clone();
        tasks.spawn(async move {
            serve(island, peer, stream).await;
            drop(permit);
        });
    }
}

/// The most streams at a time.
pub(super) fn streams_max(config: &Config) -> usize {
    WAITING_STREAMS
        .saturating_add(usize::try_from(config.max_jobs).unwrap_or(usize::MAX))
        .min(Semaphore::MAX_PERMITS)
}

/// Tells the mesh what this Island is and does, now and whenever it changes. The mesh repeats it.
pub(super) async fn keep_advert(island: Arc<Core>) {
    let mut said = None;
    loop {
        let advert = island.advert();
        if said.as_ref() != Some(&advert) {
            island.routes.advertise(advert.clone());
            said = Some(advert);
        }
        let changed = async {
            island.state.changed.notified().await;
            tokio::time::sleep(DEBOUNCE).await;
        };
        tokio::select! {
            () = island.stop.cancelled() => return,
            () = changed => {}
        }
    }
}

/// Settles while the node runs, and what is left when it stops.
pub(super) async fn settle(
    island: Arc<Core>,
    mut settler: Settler,
    streams: Arc<Semaphore>,
    store_stop: CancellationToken,
    all_streams: usize,
) {
    settler.run(island.stop.clone()).await;
    let all = u32::try_from(all_streams).unwrap_or(u32::MAX);
    let drained = timeout(DRAIN_WAIT, streams.acquire_many(all)).await;
    if drained.is_err() {
        tracing::warn!("island.stop: some jobs did not end in time");
    }
    settler.store.flush().await;
    if timeout(LAST_SETTLE_WAIT, settler.settle_all()).await.is_err() {
        tracing::warn!(
            waiting = settler.store.waiting(),
            "island.stop: settled after the next start"
        );
    }
    store_stop.cancel();
    island.ended.cancel();
}

/// Cargos that ran lately and would start at once, newest first.
pub(super) fn warm(island: &Core) -> Vec<CargoId> {
    let ready = |cargo: &CargoId| island.runtimes.values().any(|runtime| runtime.is_ready(*cargo));
    island.state.recent().into_iter().filter(ready).take(MAX_WARM).collect()
}
