//! What goes wrong with processes, their disks and clocks, and the lines between them.

use super::{Event, World};
use crate::coordinators::process::Process;

impl World {
    /// What may go wrong between two acts of users.
    ///
    /// # Errors
    /// When there is no such process.
    pub(super) fn go_wrong(&mut self) -> anyhow::Result<()> {
        if self.faults.partition && self.random.percent(20) {
            for side in &mut self.sides {
                *side = self.random.percent(50);
            }
        }
        if self.random.percent(self.faults.blackout_percent) {
            self.black_out()?;
        }
        if self.faults.skew_ms > 0 && self.random.percent(30) {
            let index = self.random.below(u64::try_from(self.processes.len())?);
            let skew_ms = self.random.below(self.faults.skew_ms + 1);
            self.process(usize::try_from(index)?)?.skew_ms = skew_ms;
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, index: usize) -> anyhow::Result<()> {
        // A killed process leaves all that it wrote to the operating system; a power cut none, or a
        // part.
        let keeps = [0, 50, 100];
        let keep = self.random.pick(&keeps).copied().unwrap_or_default();
        let mut draws = self.random.split();
        let losable = self.faults.lose_disks && self.can_lose_disk() && self.random.percent(95);
        let process = self.process(index)?;
        process.kill(|_| draws.percent(keep));
        if losable {
            *process = Process::new(process.validator);
            self.tally.disks_lost += 1;
        }
        self.tally.crashes += 1;
        let at = self.now + 50 + self.random.below(3_000);
        self.schedule(at, Event::Restart { process: index });
        Ok(())
    }

    /// One at a time, not while another one has not come back from the same, and not before the
    /// second block, when nobody could tell a loss from a beginning.
    fn can_lose_disk(&self) -> bool {
        let back = |process: &Process| {
            process.running.as_ref().is_some_and(|running| running.coordinator.votes())
        };
        let begun = self.processes.iter().all(|process| process.height >= 2);
        begun && self.processes.iter().all(back)
    }

    /// Kills everybody at once.
    fn black_out(&mut self) -> anyhow::Result<()> {
        self.tally.blackouts += 1;
        let disks = std::mem::replace(&mut self.faults.lose_disks, false);
        for index in 0..self.processes.len() {
            if self.process(index)?.running.is_some() {
                self.crash(index)?;
            }
        }
        self.faults.lose_disks = disks;
        Ok(())
    }
}
