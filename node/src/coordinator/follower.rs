//! Follows the chain by the query protocol: a coordinator without a seat has no streams to those who
//! decide, and one that was away for long may know none of them.
//!
//! Whoever answers need not be trusted: blocks prove themselves.

use super::Coordinator;
use crate::{environment::Tasks, mesh::Mesh};
use archipelag_protocol::{
    id::NodeId,
    limits::MAX_PAGE,
    query::{Request, Response},
};
use std::time::Duration;

/// Between two questions of one that has no seat.
const EVERY: Duration = Duration::from_millis(500);
/// Of one that has, and hears from the others without asking.
const SEATED_EVERY: Duration = Duration::from_secs(15);
/// How long blocks that were handed over may take before the next are asked for.
const APPLY_WAIT: Duration = Duration::from_secs(10);

/// Keeps `coordinator` up to date until its node stops.
pub(crate) fn start(coordinator: &Coordinator, mesh: &Mesh, tasks: &Tasks) {
    let (coordinator, mesh, stop) = (coordinator.clone(), mesh.clone(), tasks.stopping());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(&coordinator, &mesh) => {}
        }
    });
}

async fn follow(coordinator: &Coordinator, mesh: &Mesh) {
    let mut turn = 0;
    loop {
        let others = others(coordinator, mesh);
        turn += 1;
        let one = others.get(turn % others.len().max(1)).copied();
        let found = match one {
            Some(node) => ask(coordinator, mesh, node).await,
            None => Found::Nothing,
        };
        match found {
            Found::More => {}
            Found::Nothing if coordinator.decides() => tokio::time::sleep(SEATED_EVERY).await,
            Found::Nothing | Found::NoAnswer => tokio::time::sleep(EVERY).await,
        }
    }
}

/// What a question for blocks came to.
enum Found {
    /// There were some, so there may be more.
    More,
    Nothing,
    NoAnswer,
}

/// Who may know more: those who decide by the newest block that is known here, those of the genesis,
/// and, since one that was away for long may know neither, whoever is connected.
fn others(coordinator: &Coordinator, mesh: &Mesh) -> Vec<NodeId> {
    let mut nodes = coordinator.deciders();
    nodes.extend(mesh.genesis().validators.iter().map(|validator| validator.node));
    nodes.extend(mesh.peers().iter().map(|peer| peer.node));
    nodes.remove(&mesh.node());
    nodes.into_iter().collect()
}

/// Asks `node` for the next blocks.
async fn ask(coordinator: &Coordinator, mesh: &Mesh, node: NodeId) -> Found {
    let mut committed = coordinator.committed();
    let height = *committed.borrow_and_update();
    let limit = u16::try_from(MAX_PAGE).unwrap_or(u16::MAX);
    let request = Request::Blocks { from: height.saturating_add(1), limit };
    let Ok(Response::Blocks(blocks)) = mesh.query(node, request).await else {
        return Found::NoAnswer;
    };
    let expected = height.saturating_add(1)..;
    let heights = blocks.iter().map(|certified| certified.block.header.height);
    if blocks.is_empty() || !heights.eq(expected.take(blocks.len())) {
        return Found::Nothing;
    }
    let last = height.saturating_add(u64::try_from(blocks.len()).unwrap_or(u64::MAX));
    coordinator.follow(blocks);
    let applied = committed.wait_for(|reached| *reached >= last);
    match tokio::time::timeout(APPLY_WAIT, applied).await {
        Ok(Ok(_)) => Found::More,
        // They did not prove themselves, or this node is busy.
        _ => Found::NoAnswer,
    }
}
