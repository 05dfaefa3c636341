//! Lookups of a published entry in the distributed table.

use super::{pause, until};
use crate::{
    draw::below,
    output::rows,
    record::{Record, word},
    scenario::{Lookups, WORK},
    world::{World, now_s, owner},
};
use archipelag_node::environment::Executor as _;
use archipelag_protocol::{catalog::Entry, id::CargoId};

/// Starts all of them.
pub(super) fn start(world: &World, record: &Record) {
    for lookups in world.scenario().lookups.clone() {
        world.executor().spawn(run(world.clone(), record.clone(), lookups));
    }
}

async fn run(world: World, record: Record, lookups: Lookups) {
    until(lookups.start_s).await;
    let members = world.scenario().members(&lookups.from);
    let stop_s = lookups.stop_s.unwrap_or(f64::MAX);
    let mut cargo = None;
    while now_s() < stop_s {
        pause(lookups.interarrival_s.draw()).await;
        let running: Vec<usize> =
            members.clone().filter(|index| world.node(*index).is_some()).collect();
        let Some(index) = running.get(below(running.len())).copied() else { continue };
        if cargo.is_none() {
            cargo = published(&world, index).await;
        }
        let Some(cargo) = cargo else { continue };
        let (task, record) = (world.clone(), record.clone());
        // The asking node's own task: with its entropy.
        world.executor().of(owner(index)).spawn(Box::pin(async move {
            look_up(&task, &record, index, cargo).await;
        }));
    }
}

/// The newest published `work`, as the ledger tells it.
async fn published(world: &World, index: usize) -> Option<CargoId> {
    let node = world.node(index)?;
    let resolved = node.catalog.resolve(WORK, None).await.ok()?;
    Some(resolved.cargo)
}

async fn look_up(world: &World, record: &Record, index: usize, cargo: CargoId) {
    let Some(node) = world.node(index) else { return };
    let began_s = now_s();
    let found = node.mesh.lookup(Entry::key_of_cargo(cargo)).await.is_some();
    drop(node);
    let latency_ms = (now_s() - began_s) * 1000.0;
    record.row(&rows::Lookup {
        time_s: began_s,
        node: word(index),
        kind: "record".into(),
        key: cargo.to_string(),
        found,
        latency_ms,
    });
    record.with(|seen| seen.lookups.push((found, latency_ms)));
}
