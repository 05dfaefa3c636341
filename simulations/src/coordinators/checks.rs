//! What must hold at any time, looked at after every step.

use super::users::Users;
use anyhow::{Context as _, ensure};
use archipelag_protocol::{
    amount::Credits,
    consensus::{self, Message},
    id::{AccountId, BlockHash, TxId},
    ledger::{State, vote::Step},
};
use std::collections::BTreeMap;

/// A proposal (no step) or a vote of a height and round.
type Act = (AccountId, u64, u32, Option<Step>);

#[derive(Default)]
pub(super) struct Checks {
    /// The last block of each height that some honest process was at.
    decided: BTreeMap<u64, BlockHash>,
    /// What each honest validator signed.
    signed: BTreeMap<Act, Option<BlockHash>>,
    /// Transactions of which somebody was told that they are final, and by which block.
    pub(super) acknowledged: BTreeMap<TxId, u64>,
}

impl Checks {
    /// An honest process is at `state`, which is looked at when none was before.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(super) fn state(
        &mut self,
        state: &State,
        minted: Credits,
        users: &Users,
    ) -> anyhow::Result<()> {
        if self.decided.contains_key(&state.height) {
            return self.agreed(state);
        }
        self.block(state, minted, users)
    }

    /// A block led to `state`: no two decide differently; credits are conserved; no hold paid more
    /// than its payer reserved, or signed.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(super) fn block(
        &mut self,
        state: &State,
        minted: Credits,
        users: &Users,
    ) -> anyhow::Result<()> {
        self.agreed(state)?;
        let height = state.height;
        ensure!(state.minted == minted, "{} credits at block {height}, not {minted}", state.minted);
        state.check_conservation().map_err(|broken| {
            anyhow::anyhow!("block {height}: {} microcredits of {}", broken.found, broken.minted)
        })?;
        for (id, hold) in &state.holds {
            ensure!(hold.redeemed <= hold.cap, "hold {id} paid {} of {}", hold.redeemed, hold.cap);
            let signed = users.signed.get(id).with_context(|| format!("nobody opened {id}"))?;
            let mut sum = Credits::ZERO;
            for (lane, redeemed) in &hold.lanes {
                let most = signed.get(lane).map_or(Credits::ZERO, |v| v.value.cumulative);
                let found = redeemed.cumulative;
                ensure!(found <= most, "hold {id} paid {found} in lane {lane}, signed {most}");
                sum = sum.saturating_add(found);
            }
            ensure!(sum == hold.redeemed, "hold {id}: its lanes paid {sum}, it {}", hold.redeemed);
        }
        Ok(())
    }

    fn agreed(&mut self, state: &State) -> anyhow::Result<()> {
        let decided = *self.decided.entry(state.height).or_insert(state.last_block);
        ensure!(decided == state.last_block, "two blocks are decided at height {}", state.height);
        Ok(())
    }

    /// An honest validator says `message`: it never says two things, before or after a crash.
    ///
    /// # Errors
    /// When it does.
    pub(super) fn said(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let (act, block) = match consensus::decode(message)? {
            Message::Vote(vote) => {
                let value = vote.value;
                ((vote.signer, value.height, value.round, Some(value.step)), value.block)
            }
            Message::Proposal(proposal) => {
                let value = proposal.value;
                ((proposal.signer, value.height, value.round, None), Some(value.block))
            }
            _ => return Ok(()),
        };
        let said = self.signed.entry(act).or_insert(block);
        ensure!(
            *said == block,
            "{} says two things at {}/{} {:?}",
            act.0.short(),
            act.1,
            act.2,
            act.3
        );
        Ok(())
    }

    /// Somebody was told that a transaction is in the block of `height`.
    ///
    /// # Errors
    /// When somebody was told otherwise.
    pub(super) fn acknowledged(&mut self, id: TxId, height: u64) -> anyhow::Result<()> {
        let before = *self.acknowledged.entry(id).or_insert(height);
        ensure!(before == height, "{id} is said to be in blocks {before} and {height}");
        Ok(())
    }

    /// What was acknowledged is in the blocks that were named; when everybody is back, since one
    /// may acknowledge what others decided before its own disk has it.
    ///
    /// # Errors
    /// What is not.
    pub(super) fn nothing_lost(&self, included: &BTreeMap<TxId, u64>) -> anyhow::Result<()> {
        let lost = |(id, height): &(&TxId, &u64)| included.get(id) != Some(height);
        let lost: Vec<_> = self.acknowledged.iter().filter(lost).collect();
        ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        Ok(())
    }
}
