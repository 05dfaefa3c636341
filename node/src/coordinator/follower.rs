//! Follows the chain by the query protocol: a coordinator without a seat has no streams to those
//! who decide, and one that was away for long may know none of them.
//!
//! Whoever answers need not be trusted: blocks prove themselves.

use super::Coordinator;
use crate::{environment::Tasks, mesh::Mesh};
use anyhow::{Context as _, anyhow, bail, ensure};
use archipelag_protocol::{
    id::NodeId,
    limits::MAX_PAGE,
    query::{CertifiedBlock, MAX_SNAPSHOT_PART_BYTES, Request, Response},
};
use std::{collections::BTreeSet, time::Duration};

/// Between two questions of one that has no seat.
const EVERY: Duration = Duration::from_millis(500);
/// Of one that has, and hears from the others without asking.
const SEATED_EVERY: Duration = Duration::from_secs(15);
/// Times that an empty coordinator asks for a snapshot before it follows from the first block on.
const JOIN_ATTEMPTS: u32 = 10;
/// How long one of them may take.
const JOIN_WAIT: Duration = Duration::from_secs(600);
/// The longest snapshot that is taken, so that no liar fills the memory.
const MAX_JOIN_BYTES: u64 = 256 << 20;
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
    if !coordinator.decides_alone() && *coordinator.committed().borrow() == 0 {
        join(coordinator, mesh).await;
    }
    // Those who had no block that is not here.
    let mut shown = BTreeSet::new();
    loop {
        turn += 1;
        // Those who decide every other time, whoever else is connected.
        let others =
            if turn % 2 == 0 { others(coordinator, mesh) } else { seated(coordinator, mesh) };
        let one = others.get(turn / 2 % others.len().max(1)).copied();
        let found = match one {
            Some(node) => ask(coordinator, mesh, node).await,
            None => Found::Nothing,
        };
        if let (Found::Nothing, Some(node)) = (&found, one) {
            shown.insert(node);
            let state = coordinator.state();
            let deciders = state.validators.iter().filter(|seat| shown.contains(&seat.node));
            if deciders.count() >= state.validators.quorum() {
                coordinator.is_current();
                shown.clear();
            }
        }
        match found {
            Found::More => {}
            Found::Nothing if coordinator.decides() => tokio::time::sleep(SEATED_EVERY).await,
            Found::Nothing | Found::NoAnswer => tokio::time::sleep(EVERY).await,
        }
    }
}

/// Goes on from the newest snapshot that somebody has, instead of all blocks from the first on.
async fn join(coordinator: &Coordinator, mesh: &Mesh) {
    for _ in 0..JOIN_ATTEMPTS {
        tokio::time::sleep(EVERY).await;
        let mut answered = false;
        for node in others(coordinator, mesh) {
            let joined = tokio::time::timeout(JOIN_WAIT, join_by(coordinator, mesh, node)).await;
            match joined.unwrap_or_else(|_| Err(anyhow!("it takes too long"))) {
                Ok(true) => return,
                Ok(false) => answered = true,
                Err(error) => tracing::debug!(node = %node.short(), %error, "coordinator.join"),
            }
        }
        // The chain is short, or has begun here.
        if answered || *coordinator.committed().borrow() > 0 {
            return;
        }
    }
}

/// Whether this node goes on from a snapshot of `node`.
async fn join_by(coordinator: &Coordinator, mesh: &Mesh, node: NodeId) -> anyhow::Result<bool> {
    let (mut bytes, mut at, mut certified) = (Vec::new(), 0, None);
    loop {
        let offset = u64::try_from(bytes.len())?;
        let request = Request::Snapshot { height: at, offset };
        let Response::Snapshot { height, size_bytes, part } = mesh.query(node, request).await?
        else {
            return Ok(false);
        };
        ensure!(at == 0 || at == height, "it answers with another snapshot");
        ensure!(size_bytes <= MAX_JOIN_BYTES, "its snapshot has {size_bytes} bytes");
        let left = size_bytes.saturating_sub(offset).min(u64::try_from(MAX_SNAPSHOT_PART_BYTES)?);
        ensure!(u64::try_from(part.len())? == left && left > 0, "a part of it is not whole");
        if at == 0 {
            certified = Some(block_of(mesh, node, height).await?);
        }
        at = height;
        bytes.extend_from_slice(&part);
        tracing::info!(height, got = bytes.len(), of = size_bytes, "coordinator.joining");
        if u64::try_from(bytes.len())? >= size_bytes {
            break;
        }
    }
    let certified = certified.context("its snapshot is empty")?;
    let handovers = mesh.handovers(at.saturating_add(1));
    let mut committed = coordinator.committed();
    coordinator.join(bytes, certified, handovers).await?;
    let joined = committed.wait_for(|reached| *reached >= at);
    tokio::time::timeout(APPLY_WAIT, joined).await??;
    Ok(true)
}

/// The block of a height, decided by validators that are known here.
async fn block_of(mesh: &Mesh, node: NodeId, height: u64) -> anyhow::Result<CertifiedBlock> {
    let request = Request::Blocks { from: height, limit: 1 };
    let Response::Blocks(blocks) = mesh.query(node, request).await? else {
        bail!("it does not have the block of its snapshot");
    };
    let certified = blocks.into_iter().next().context("it does not have the block")?;
    let (header, certificate) = (&certified.block.header, &certified.certificate);
    ensure!(header.height == height, "it answers with another block");
    mesh.trust().check(header, certificate)?;
    Ok(certified)
}

/// What a question for blocks came to.
enum Found {
    /// There were some, so there may be more.
    More,
    Nothing,
    NoAnswer,
}

/// Those who decide by the newest block that is known here.
fn seated(coordinator: &Coordinator, mesh: &Mesh) -> Vec<NodeId> {
    let mut nodes = coordinator.deciders();
    nodes.remove(&mesh.node());
    nodes.into_iter().collect()
}

/// Who may know more: those who decide by the newest block that is known here, those of the
/// genesis, and, since one that was away for long may know neither, whoever is connected.
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
    if blocks.is_empty() {
        // One that joined later has none either: where is it?
        return match mesh.query(node, Request::Status).await {
            Ok(Response::Status(status)) if status.height <= height => Found::Nothing,
            _ => Found::NoAnswer,
        };
    }
    if !heights.eq(expected.take(blocks.len())) {
        return Found::NoAnswer;
    }
    let state = coordinator.state();
    if let Some(CertifiedBlock { block, certificate }) = blocks.first()
        && state.height == height
        && let Err(error) = block.header.verify(certificate, &state.validators)
    {
        tracing::warn!(node = %node.short(), %error, "coordinator.bad_blocks");
        return Found::NoAnswer;
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
