//! In which order the outputs of an engine are carried out.
//!
//! The rule is that no message leaves before what led to it is durable, with two exceptions that
//! spare a commit its two slowest waits: a proposal for which a place was reserved in the log, and
//! the acknowledgement of a block that others' votes decide without ours, which are durable where
//! they were signed. Driver and simulation share this.

use super::{
    consensus::log::Entry,
    engine::{Decided, Joined, Output},
};
use archipelag_protocol::{id::AccountId, ledger::vote};

/// What one step of a coordinator has to do.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// Messages to all others, before anything is durable.
    pub(crate) early: Vec<Vec<u8>>,
    /// To be made durable at once, with the blocks.
    pub(crate) log: Vec<(u64, Entry)>,
    pub(crate) decided: Vec<Decided>,
    /// Where the chain goes on for one that joins; before the blocks.
    pub(crate) joined: Option<Box<Joined>>,
    /// That this coordinator votes from now on, too.
    pub(crate) votes: bool,
    /// Whether the blocks are final without what this step makes durable, so that they may be
    /// acknowledged before.
    pub(crate) settled: bool,
    /// When that is durable.
    pub(crate) after: Vec<Output>,
}

impl Staged {
    /// What `outputs` of the engine of `me` come to.
    pub(crate) fn of(outputs: Vec<Output>, me: AccountId) -> Self {
        let mut staged = Self::default();
        for output in outputs {
            match output {
                Output::Early { message } => staged.early.push(message),
                Output::Log { height, entry } => staged.log.push((height, entry)),
                Output::Decided(decided) => staged.decided.push(*decided),
                Output::Joined(joined) => {
                    // It has what came before.
                    staged.decided.clear();
                    staged.joined = Some(joined);
                }
                Output::Voter => staged.votes = true,
                other => staged.after.push(other),
            }
        }
        if staged.log.iter().any(|(_, entry)| matches!(entry, Entry::Reserved { .. })) {
            // The place itself is not durable yet.
            let later = staged.early.drain(..).map(|message| Output::Broadcast { message });
            staged.after.splice(..0, later);
        }
        staged.settled = !staged.decided.iter().any(|decided| staged.decides(decided, me));
        staged
    }

    /// Whether a vote of ours that is not durable yet may be among those that decide a block.
    fn decides(&self, decided: &Decided, me: AccountId) -> bool {
        self.log.iter().any(|(height, entry)| {
            let ours = matches!(
                entry,
                Entry::Vote(vote) if vote.signer == me && vote.value.step == vote::Step::Precommit
            );
            ours && *height == decided.state.height
        })
    }
}
