//! What users and coordinators want meanwhile.

use super::World;
use archipelag_protocol::{
    id::TxId,
    ledger::{SignedTransaction, transaction},
    query::Request,
};

/// What coordinators do about elections per act of a user, when there are some.
const CANVASSED: usize = 5;

impl World {
    /// Some user wants something; then some time passes.
    ///
    /// # Errors
    /// The rule that was broken.
    pub(crate) fn act(&mut self, elections: bool) -> anyhow::Result<()> {
        let transfer = self.users.transfer(&mut self.random)?;
        self.submit(&transfer)?;
        self.sent.push(transfer);
        if self.random.percent(60) {
            let state = self.latest()?;
            let payment = self.users.payment(&mut self.random, &state)?;
            self.submit(&payment)?;
        }
        if self.random.percent(30) {
            self.entrust()?;
        }
        if self.random.percent(10)
            && let Some(again) = self.random.pick(&self.sent).cloned()
        {
            self.submit(&again)?;
        }
        for _ in 0..if elections { CANVASSED } else { 0 } {
            let state = self.latest()?;
            let vote = self.users.canvass(&mut self.random, &self.keys, &state)?;
            self.submit(&vote)?;
        }
        self.go_wrong()?;
        let pause = self.random.below(400);
        self.run(pause)
    }

    /// A payee has some coordinator redeem a voucher.
    fn entrust(&mut self) -> anyhow::Result<()> {
        let state = self.latest()?;
        let Some(voucher) = self.users.entrusted(&mut self.random, &state)? else { return Ok(()) };
        let index = usize::try_from(self.random.below(u64::try_from(self.processes.len())?))?;
        let process = self.process(index)?;
        if process.running.is_some() {
            process.ask(Request::Entrust(vec![voucher]))?;
            self.plan(index, 0)?;
        }
        Ok(())
    }

    /// Brings a transaction to somebody who decides; to all of them when some may be away or lie,
    /// since who gets no answer asks another.
    pub(super) fn submit(
        &mut self,
        (id, signed): &(TxId, SignedTransaction),
    ) -> anyhow::Result<()> {
        let bytes = transaction::to_bytes(signed)?;
        let faults = self.faults;
        let lies = !self.two_faced.is_empty() || !self.liars.is_empty();
        let unsafe_here = lies || faults.crash_every + faults.fail_every > 0 || faults.partition;
        let seats = self.seats();
        let seated: Vec<_> = (0..self.processes.len())
            .filter(|index| {
                let process = self.processes.get(*index);
                let key = process.and_then(|process| self.keys.get(process.validator));
                key.is_some_and(|key| seats.contains(&key.account()))
            })
            .collect();
        let one = self.random.pick(&seated).copied();
        for index in 0..self.processes.len() {
            if !unsafe_here && Some(index) != one {
                continue;
            }
            let process = self.process(index)?;
            let Some(running) = &mut process.running else { continue };
            // One whose disk refuses writes takes nothing: its submitters are told at once.
            if running.coordinator.unwritable().is_none()
                && let Ok(answer) = running.coordinator.offer(&bytes)
            {
                running.waiting.push((*id, answer));
                self.plan(index, 0)?;
            }
        }
        Ok(())
    }
}
