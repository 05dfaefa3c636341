//! What accounts put at stake in the elections of coordinators, and what may be done with it.

use super::{
    Evidence, Rejected,
    draft::{Draft, sum},
};
use crate::{
    amount::Credits,
    id::{AccountId, NodeId},
    limits::MAX_APPROVALS,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Amounts of one account that are on their way back.
const MAX_UNBONDING: usize = 16;

/// An account's part in the elections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stake {
    /// Weighs in elections. A seat needs some of it.
    pub bonded: Credits,
    /// On its way back, the soonest first. Lost with what is bonded, if that is.
    pub unbonding: Vec<Unbonding>,
    /// Whom it wants to see in a seat, in the order of accounts.
    pub approves: Vec<AccountId>,
    /// The node with which it stands for a seat.
    pub node: Option<NodeId>,
    /// It signed two things: it gets no seat any more.
    pub slashed: bool,
}

/// Credits that go back to their account at the end of the first epoch that ends after `at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unbonding {
    pub at: Timestamp,
    pub amount: Credits,
}

impl Stake {
    /// All credits in it.
    #[must_use]
    pub fn credits(&self) -> Credits {
        let unbonding = self.unbonding.iter().map(|u| u.amount);
        unbonding.fold(self.bonded, Credits::saturating_add)
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_empty(&self) -> bool {
        self.credits() == Credits::ZERO && self.node.is_none() && !self.slashed
    }
}

pub(super) fn bond(
    draft: &mut Draft<'_>,
    sender: AccountId,
    amount: Credits,
) -> Result<(), Rejected> {
    let least = draft.policy().election.stake_min;
    draft.debit(sender, amount)?;
    let stake = draft.stake_mut(sender);
    stake.bonded = sum(stake.bonded, amount)?;
    if amount == Credits::ZERO || stake.bonded < least {
        let reason = format!("{} credits would be bonded, must be {least} or more", stake.bonded);
        return Err(Rejected::field("amount", reason));
    }
    Ok(())
}

/// Takes credits out of what is bonded. Who stands for a seat keeps the bond for it; who has stood
/// down may still have one for a while, in which what is unbonded stays in reach. A remainder that
/// is too little to count has to go, too.
pub(super) fn unbond(
    draft: &mut Draft<'_>,
    sender: AccountId,
    amount: Credits,
) -> Result<(), Rejected> {
    let (policy, now) = (&draft.policy().election, draft.state.time);
    let stake = draft.stake_mut(sender);
    let available = stake.bonded;
    let left = available
        .checked_sub(amount)
        .filter(|_| amount > Credits::ZERO)
        .ok_or(Rejected::Funds { needed: amount, available })?;
    if stake.node.is_some() && left < policy.bond_min {
        let reason =
            format!("{left} would be left, a seat needs {}: stand down first", policy.bond_min);
        return Err(Rejected::field("amount", reason));
    }
    if left > Credits::ZERO && left < policy.stake_min {
        let reason =
            format!("{left} would be left, less than {} do not count: take all", policy.stake_min);
        return Err(Rejected::field("amount", reason));
    }
    if stake.unbonding.len() >= MAX_UNBONDING {
        let reason = format!("{MAX_UNBONDING} amounts are on their way already: wait for one");
        return Err(Rejected::field("unbonding", reason));
    }
    stake.bonded = left;
    stake.unbonding.push(Unbonding { at: now.after_ms(policy.unbonding_ms), amount });
    Ok(())
}

/// Stands for a seat with `node`, or stands down. One that has a seat says by it, too, that it is
/// there again.
pub(super) fn candidate(
    draft: &mut Draft<'_>,
    sender: AccountId,
    node: Option<NodeId>,
) -> Result<(), Rejected> {
    let least = draft.policy().election.bond_min;
    let seated = draft.validators().contains(sender);
    let stake = draft.stake_mut(sender);
    if node.is_some() && stake.slashed {
        return Err(Rejected::NotAllowed("an account that never signed two things".into()));
    }
    // The first coordinators have no bond; who took its own back is not one of them.
    let bondless = seated && stake.unbonding.is_empty();
    if node.is_some() && stake.bonded < least && !bondless {
        let reason = format!("{} credits, a candidate needs {least}: bond more", stake.bonded);
        return Err(Rejected::field("bonded", reason));
    }
    stake.node = node;
    if node.is_some() && draft.state.epoch.absent.contains_key(&sender) {
        draft.epoch_mut().absent.remove(&sender);
    }
    Ok(())
}

pub(super) fn approve(
    draft: &mut Draft<'_>,
    sender: AccountId,
    candidates: &[AccountId],
) -> Result<(), Rejected> {
    let least = draft.policy().election.stake_min;
    if candidates.len() > MAX_APPROVALS {
        let reason = format!("{}, at most {MAX_APPROVALS}", candidates.len());
        return Err(Rejected::field("candidates", reason));
    }
    if !candidates.is_sorted_by(|a, b| a < b) {
        return Err(Rejected::field("candidates", "not each once, in the order of accounts"));
    }
    let stake = draft.stake_mut(sender);
    if stake.bonded < least && !candidates.is_empty() {
        let reason = format!("{} credits, to approve needs {least}: bond more", stake.bonded);
        return Err(Rejected::field("bonded", reason));
    }
    stake.approves = candidates.to_vec();
    Ok(())
}

/// Takes from who signed two things what the policy says of what it has at stake, which goes to the
/// treasury, and its seat for ever, unless it is the only validator.
pub(super) fn evidence(draft: &mut Draft<'_>, evidence: &Evidence) -> Result<(), Rejected> {
    let offender = evidence.offender()?;
    let percent = u64::from(draft.policy().election.slash_percent);
    let seated = draft.validators().contains(offender);
    let stake = draft.stake_mut(offender);
    if stake.slashed {
        return Err(Rejected::field("evidence", format!("{offender} has been slashed already")));
    }
    if !seated && stake.is_empty() {
        return Err(Rejected::field("evidence", format!("{offender} has nothing at stake")));
    }
    let before = stake.credits();
    let unbonding = stake.unbonding.iter_mut().map(|u| &mut u.amount);
    for amount in std::iter::once(&mut stake.bonded).chain(unbonding) {
        *amount = amount.saturating_sub(amount.fraction(percent, 100));
    }
    (stake.slashed, stake.node) = (true, None);
    let taken = before.saturating_sub(stake.credits());
    draft.set_treasury(sum(draft.treasury(), taken)?);
    if let Some(others) = draft.validators().without(offender, draft.state.height) {
        draft.set_validators(others);
        draft.epoch_mut().absent.remove(&offender);
    }
    Ok(())
}
