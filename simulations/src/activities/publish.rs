//! Publishes the Cargos that the scenario's jobs and lookups need.

use super::pause;
use crate::{
    record::Record,
    scenario::{Mix, Role, Scenario, WORK},
    world::{World, cargos},
};
use std::collections::BTreeSet;

/// Between two attempts while the network does not answer yet.
const RETRY_S: f64 = 1.0;

fn needed(scenario: &Scenario) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for workload in &scenario.workloads {
        match &workload.cargo {
            Mix::One(name) => {
                names.insert(name.clone());
            }
            Mix::Shares(shares) => names.extend(shares.keys().cloned()),
        }
    }
    if !scenario.lookups.is_empty() {
        names.insert(WORK.into());
    }
    names
}

/// Has the first coordinator publish them, as soon as it runs.
pub(super) fn start(world: &World, record: &Record) {
    let names = needed(world.scenario());
    let publisher = world.places().iter().position(|place| place.is(Role::Coordinator));
    let (Some(publisher), false) = (publisher, names.is_empty()) else { return };
    let (task, record) = (world.clone(), record.clone());
    world.executor().spawn(async move {
        let all = match cargos() {
            Ok(all) => all,
            Err(error) => return record.violation("publish", None, error.to_string()),
        };
        for cargo in all.iter().filter(|cargo| names.contains(&cargo.manifest.slug)) {
            loop {
                let Some(node) = task.node(publisher) else {
                    pause(RETRY_S).await;
                    continue;
                };
                if node.publish(cargo).await.is_ok() {
                    break;
                }
                pause(RETRY_S).await;
            }
        }
    });
}
