//! What must hold, whatever happened: checked after a run.

use crate::world::{CONSUMER_CREDITS, TREASURY, World};
use anyhow::{Context as _, ensure};
use archipelag_protocol::{amount::Credits, event::Event, ledger::State};
use sha2::{Digest, Sha256};

/// Everything that one job delivered, as its Consumer saw it.
#[derive(Debug, Default)]
pub struct Delivered {
    pub events: u64,
    pub last: u64,
    digest: Sha256,
}

impl Delivered {
    /// Takes the next event into account.
    ///
    /// # Errors
    /// When something comes after the last event.
    pub fn take(&mut self, event: &Event) -> anyhow::Result<()> {
        ensure!(self.last == 0, "an event came after the last one");
        self.events += 1;
        self.last += u64::from(event.is_last());
        self.digest.update(event.to_line());
        self.digest.update(b"\n");
        Ok(())
    }

    /// The hash of all lines: equal for two jobs that delivered the same.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }
}

/// The coordinator's state: credits are conserved and no hold paid more than its cap.
///
/// # Errors
/// Which rule is broken, and by how much.
pub fn ledger(world: &World) -> anyhow::Result<State> {
    let coordinator = world.node(0)?.coordinator.as_ref().context("node 0 is the coordinator")?;
    let state = (*coordinator.state()).clone();
    let minted = CONSUMER_CREDITS.saturating_mul(world.len() as u64).saturating_add(TREASURY);
    ensure!(
        state.minted == minted,
        "{} credits are said to be minted, {minted} were",
        state.minted
    );
    state.check_conservation().map_err(|broken| {
        anyhow::anyhow!("{} microcredits exist, {} were minted", broken.found, broken.minted)
    })?;
    for (id, hold) in &state.holds {
        ensure!(hold.redeemed <= hold.cap, "hold {id} paid {} of {}", hold.redeemed, hold.cap);
        ensure!(hold.settled <= hold.redeemed, "hold {id} settled more than it paid");
    }
    Ok(state)
}

/// What a Consumer has spent or reserved, holds included.
#[must_use]
pub fn spent(state: &State, consumer: archipelag_protocol::id::AccountId) -> Credits {
    let free = state.accounts.get(&consumer).map_or(Credits::ZERO, |account| account.balance);
    let reserved = state
        .holds
        .values()
        .filter(|hold| hold.payer == consumer)
        .fold(Credits::ZERO, |sum, hold| {
            sum.saturating_add(hold.cap).saturating_sub(hold.redeemed)
        });
    CONSUMER_CREDITS.saturating_sub(free).saturating_sub(reserved)
}
