//! Messages between processes: lost, late, or others than were said.

use super::{Event, World, node_of};
use crate::coordinators::process::Process;
use archipelag_protocol::{
    id::NodeId,
    query::{CertifiedBlock, Request, Response},
};
use std::sync::Arc;

/// How long one validator says nothing before it is another's turn, when some do.
const MUTE_MS: u64 = 5_000;

impl World {
    pub(super) fn send(
        &mut self,
        from: usize,
        to: Option<NodeId>,
        message: Vec<u8>,
    ) -> anyhow::Result<()> {
        let sender = self.process(from)?.validator;
        if self.is_honest(sender) {
            self.checks.said(&message)?;
            for liar in self.liars.values_mut() {
                liar.hear(&message);
            }
        }
        let turn = (self.now / MUTE_MS) % u64::try_from(self.keys.len())?;
        if self.faults.mute && turn == u64::try_from(sender)? {
            return Ok(());
        }
        let message: Arc<[u8]> = message.into();
        for index in 0..self.processes.len() {
            let receiver = self.process(index)?.validator;
            if receiver == sender || to.is_some_and(|to| to != node_of(receiver)) {
                continue;
            }
            // Each half of a liar hears and says only a part.
            let halved = self.two_faced.contains(&sender) || self.two_faced.contains(&receiver);
            let apart = self.faults.partition && self.sides.get(from) != self.sides.get(index);
            if apart
                || (halved && self.random.percent(40))
                || self.random.percent(self.faults.loss_percent)
            {
                continue;
            }
            let mut bytes = Arc::clone(&message);
            if let Some(liar) = self.liars.get_mut(&sender)
                && let Some(other) = liar.instead_of(&mut self.random, &message)
            {
                bytes = other.into();
                self.tally.forged += 1;
            }
            let at = self.now + 1 + self.random.below(self.faults.delay_ms);
            self.tally.messages += 1;
            self.schedule(at, Event::Deliver { to: index, from: node_of(sender), bytes });
        }
        Ok(())
    }

    pub(super) fn deliver(&mut self, to: usize, from: NodeId, bytes: &[u8]) -> anyhow::Result<()> {
        let process = self.process(to)?;
        let Some(running) = &process.running else { return Ok(()) };
        running.coordinator.receive(from, bytes.to_vec());
        // What comes within a moment is looked at together, as in a busy process.
        let moment = 1 + self.random.below(3);
        self.plan(to, moment)
    }
}

/// At most `limit` blocks from `from` on that a process has.
pub(super) fn blocks_of(
    process: &Process,
    from: u64,
    limit: usize,
) -> anyhow::Result<Vec<CertifiedBlock>> {
    match process.ask(Request::Blocks { from, limit: u16::try_from(limit)? })? {
        Response::Blocks(blocks) => Ok(blocks),
        // Its disk fails.
        _ => Ok(Vec::new()),
    }
}
