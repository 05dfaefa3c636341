//! Coordinators without a seat: they go on from a snapshot and follow the others.

use super::{Event, World, network::blocks_of};
use crate::coordinators::process::Running;
use anyhow::Context as _;
use archipelag_protocol::{
    ledger::Trust,
    limits::MAX_PAGE,
    query::{Request, Response},
};
use futures::FutureExt as _;

impl World {
    /// Starts the coordinators without a seat. They go on from a snapshot, if there is one, and
    /// follow the others.
    pub(crate) fn start_spares(&mut self) -> anyhow::Result<()> {
        for index in self.spares.clone() {
            self.start(index)?;
            self.tally.joined += u64::from(self.join(index)?);
            self.schedule(self.now + 1, Event::Follow { process: index });
        }
        // Whoever loses its seat follows as well.
        for index in 0..self.processes.len() {
            if !self.spares.contains(&index) {
                self.schedule(self.now + 1, Event::Follow { process: index });
            }
        }
        Ok(())
    }

    /// Whether there was a snapshot to go on from.
    fn join(&mut self, index: usize) -> anyhow::Result<bool> {
        let other = self.processes.first().context("there is nobody")?;
        let (mut bytes, mut at) = (Vec::new(), 0);
        loop {
            let offset = u64::try_from(bytes.len())?;
            let request = Request::Snapshot { height: at, offset };
            let Response::Snapshot { height, size_bytes, part } = other.ask(request)? else {
                return Ok(false);
            };
            at = height;
            bytes.extend_from_slice(&part);
            if u64::try_from(bytes.len())? >= size_bytes {
                break;
            }
        }
        let certified = blocks_of(other, at, 1)?.pop().context("the snapshot has no block")?;
        Trust::genesis(&self.genesis)?.check(&certified.block.header, &certified.certificate)?;
        let process = self.process(index)?;
        let running = process.running.as_mut().context("it is down")?;
        let joined = running.coordinator.join(bytes, certified, Vec::new());
        joined.now_or_never().context("it does not join at once")??;
        self.plan(index, 0)?;
        Ok(true)
    }

    pub(super) fn follow(&mut self, index: usize) -> anyhow::Result<()> {
        let again = self.now + 300 + self.random.below(400);
        self.schedule(again, Event::Follow { process: index });
        let one = usize::try_from(self.random.below(u64::try_from(self.processes.len())?))?;
        let apart = self.faults.partition && self.sides.get(one) != self.sides.get(index);
        let Some(state) = self.process(index)?.state() else { return Ok(()) };
        let other = self.processes.get(one).context("there is no such process")?;
        if apart || other.running.is_none() || self.random.percent(self.faults.loss_percent) {
            return Ok(());
        }
        let blocks = blocks_of(other, state.height + 1, MAX_PAGE)?;
        if let Some(Running { coordinator, .. }) = &self.process(index)?.running
            && !blocks.is_empty()
        {
            coordinator.follow(blocks);
            self.plan(index, 0)?;
        }
        Ok(())
    }
}
