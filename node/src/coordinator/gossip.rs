//! Transactions that come by gossip, from nodes of which no coordinator would take them.
//!
//! A coordinator that is asked for a transaction may leave it out. Then it travels by gossip to all
//! who keep the ledger, and whoever proposes next has it.

use super::Coordinator;
use crate::{
    environment::Tasks,
    mesh::{Mesh, Verdict},
};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Between two transactions that are looked at: what comes faster is dropped, so that nobody keeps
/// this node busy.
const PACE: Duration = Duration::from_millis(2);

/// Takes gossiped transactions for `coordinator`, and judges them, until its node stops.
pub(crate) fn start(coordinator: &Coordinator, mesh: &Mesh, tasks: &Tasks) {
    let (coordinator, mesh, stop) = (coordinator.clone(), mesh.clone(), tasks.stopping());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = listen(&coordinator, &mesh) => {}
        }
    });
}

async fn listen(coordinator: &Coordinator, mesh: &Mesh) {
    let Ok(mut heard) = mesh.transactions().await else { return };
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(gossiped) = heard.recv().await {
        pace.tick().await;
        let verdict = coordinator.hear(gossiped.bytes).await.unwrap_or(Verdict::Ignore);
        if mesh.judge(gossiped.source, verdict).await.is_err() {
            return;
        }
    }
}
