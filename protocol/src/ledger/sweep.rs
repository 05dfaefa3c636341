//! The hourly sweep: what becomes of Cargos whose jobs go badly (`SPEC.md`, "Reputation of a
//! Cargo").

use super::{State, draft::Draft};
use crate::{
    catalog::{self, Record},
    reputation::Finding,
    trust::TrustLevel,
};

impl State {
    /// Sweeps, at the end of the first block of an hour.
    pub(super) fn sweep(&mut self) {
        let policy = &self.genesis.policy.reputation;
        let mut draft = Draft::new(self);
        for (id, before) in &self.counters {
            // Where nothing happened nothing changes.
            if before.reputation.hour_jobs == 0 {
                continue;
            }
            let counters = draft.counters_mut(*id);
            let jobs = counters.successful_jobs.saturating_add(counters.failed_jobs);
            let finding = counters.reputation.sweep(jobs, policy);
            let Some(cargo) = self.cargos.get(id) else { continue };
            let record = &cargo.record;
            let changed = match finding {
                _ if record.state != catalog::State::Published => None,
                Finding::Fine | Finding::Warn => None,
                Finding::Demote => lower(record.trust_level)
                    .map(|trust_level| Record { trust_level, ..record.clone() }),
                Finding::Suspend => {
                    Some(Record { state: catalog::State::Suspended, ..record.clone() })
                }
            };
            if let Some(changed) = changed {
                let record = Record { height: self.height, ..changed };
                draft.set_record(cargo, record);
            }
        }
        draft.epoch_mut().sweep = self.time.after_ms(policy.sweep_interval_ms);
        let changes = draft.finish();
        self.absorb(changes);
    }
}

fn lower(level: TrustLevel) -> Option<TrustLevel> {
    match level {
        TrustLevel::Untrusted => None,
        TrustLevel::Basic => Some(TrustLevel::Untrusted),
        TrustLevel::Verified => Some(TrustLevel::Basic),
        TrustLevel::Official => Some(TrustLevel::Verified),
    }
}
