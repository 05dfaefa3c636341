//! Epochs: spans of ledger time. At the end of one seats change hands and unbonded credits go back;
//! within it validators take turns.

use super::{
    Certificate, Key, Rejected, Stake, State, ValidatorSet,
    draft::Draft,
    election::{Voter, elect},
    pairs,
    validators::quorum,
};
use crate::{
    genesis::Validator,
    id::{AccountId, NodeId},
    policy::{ElectionPolicy, Policy},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    pub number: u64,
    /// The first block of this time or later is the epoch's last.
    pub ends: Timestamp,
    /// The first block of this time or later sweeps: what becomes of Cargos whose jobs go badly.
    pub sweep: Timestamp,
    /// Who decided its first block: how many seats may change is counted from these.
    pub first: ValidatorSet,
    /// Validators that missed their turn, with the time of the block that says so, and have not
    /// been seen since.
    #[serde(with = "pairs")]
    pub absent: BTreeMap<AccountId, Timestamp>,
    /// What [`Epoch::absent`] was before the last block.
    #[serde(with = "pairs")]
    pub absent_before: BTreeMap<AccountId, Timestamp>,
}

impl Epoch {
    /// The one of the first block.
    pub(super) fn first(created: Timestamp, policy: &Policy, first: ValidatorSet) -> Self {
        let ends = created.after_ms(policy.election.epoch_ms);
        let sweep = created.after_ms(policy.reputation.sweep_interval_ms);
        let (absent, absent_before) = (BTreeMap::new(), BTreeMap::new());
        Self { number: 0, ends, sweep, first, absent, absent_before }
    }
}

/// The order in which `validators` propose the block after the one of `height`. Each begins in
/// turn; who is absent comes last.
fn turns(
    validators: &ValidatorSet,
    height: u64,
    absent: &BTreeMap<AccountId, Timestamp>,
) -> Vec<AccountId> {
    let accounts = validators.iter().map(|validator| validator.account);
    let (last, mut turns): (Vec<_>, Vec<_>) = accounts.partition(|a| absent.contains_key(a));
    let count = u64::try_from(turns.len()).unwrap_or(u64::MAX).max(1);
    let first = usize::try_from(height % count).unwrap_or_default();
    turns.rotate_left(first);
    turns.extend(last);
    turns
}

impl State {
    /// Who proposes the next block, round by round; it begins again when all had their turn.
    #[must_use]
    pub fn turns(&self) -> Vec<AccountId> {
        turns(&self.validators, self.height, &self.epoch.absent)
    }

    /// Notes in `next`, the state at the block after this one's, who missed a turn to propose this
    /// one's and who is there, by the certificate of this one's.
    pub(super) fn call_the_roll(&self, next: &mut Self, last: &Certificate) {
        let was = &self.epoch.absent_before;
        let turns = turns(&self.last_validators, self.height.saturating_sub(1), was);
        let rounds = usize::try_from(last.round).unwrap_or(usize::MAX);
        let mut absent = self.epoch.absent.clone();
        for account in turns.into_iter().take(rounds) {
            absent.entry(account).or_insert(next.time);
        }
        let voted = |account: &AccountId| last.votes.iter().any(|(voter, _)| voter == account);
        absent.retain(|account, _| self.validators.contains(*account) && !voted(account));
        if absent != self.epoch.absent || self.epoch.absent != *was {
            let absent_before = self.epoch.absent.clone();
            next.epoch = Epoch { absent, absent_before, ..self.epoch.clone() };
            next.touched.insert(Key::Epoch);
        }
    }

    /// Ends the epoch, after the last transaction of its last block.
    ///
    /// # Errors
    /// When a sum overflows, which none can while credits are conserved.
    pub(super) fn end_epoch(&mut self) -> Result<(), Rejected> {
        let members = seats(self);
        let mut draft = Draft::new(self);
        pay_back(&mut draft)?;
        for account in dead(self).filter(|dead| !members.contains(*dead)) {
            // It stands for a seat again when it is back and says so.
            draft.stake_mut(account).node = None;
        }
        let epoch = draft.epoch_mut();
        epoch.absent.retain(|account, _| members.contains(*account));
        epoch.number += 1;
        epoch.ends = self.time.after_ms(self.genesis.policy.election.epoch_ms);
        epoch.first = members.clone();
        draft.set_validators(members);
        let changes = draft.finish();
        self.absorb(changes);
        Ok(())
    }
}

/// Pays back what has been unbonded for long enough; forgets stakes with nothing in them.
fn pay_back(draft: &mut Draft<'_>) -> Result<(), Rejected> {
    let (state, now) = (draft.state, draft.state.time);
    for (account, stake) in &state.stakes {
        for due in stake.unbonding.iter().filter(|u| u.at <= now) {
            draft.credit(*account, due.amount)?;
        }
        if stake.is_empty() || stake.unbonding.iter().any(|u| u.at <= now) {
            draft.stake_mut(*account).unbonding.retain(|u| u.at > now);
        }
    }
    Ok(())
}

/// Validators that have been absent for long.
fn dead(state: &State) -> impl Iterator<Item = AccountId> {
    let absence_ms = state.genesis.policy.election.absence_ms;
    let long = move |since: Timestamp| state.time.since_ms(since) >= absence_ms;
    state.epoch.absent.iter().filter(move |(_, since)| long(**since)).map(|(dead, _)| *dead)
}

/// Who has a seat in the next epoch. Less than a third of the seats change hands, or one of three
/// or fewer; who signed two things has left already and counts. Seats are added up to the policy's
/// number, as long as those who stay can decide without the new ones, so that nobody who was just
/// elected can stop the network: one or two stay alone. A seat for which nobody was elected stays
/// with who has it, unless that one does not stand for it any more; the last that lets another one
/// fail stays until it has a successor.
fn seats(state: &State) -> ValidatorSet {
    let (policy, current) = (&state.genesis.policy.election, &state.validators);
    let dead: BTreeSet<_> = dead(state).collect();
    let stake = |account: AccountId| state.stakes.get(&account);
    let node_of = |account: AccountId| stake(account)?.node.filter(|_| !dead.contains(&account));
    let most = usize::from(policy.seats);
    let ranking = ranking(state, policy, &dead, most.saturating_mul(2));
    let elected = ranking.get(..most).unwrap_or(&ranking);

    let first = &state.epoch.first;
    let limit = (first.len().saturating_sub(1) / 3).max(1);
    let lost = first.iter().filter(|validator| !current.contains(validator.account)).count();
    let mut may_leave = limit.saturating_sub(lost);
    let mut members: BTreeMap<AccountId, NodeId> =
        current.iter().map(|v| (v.account, node_of(v.account).unwrap_or(v.node))).collect();

    let stands_down = |v: &&Validator| node_of(v.account).is_none();
    let mut leaving: Vec<_> = current.iter().filter(stands_down).map(|v| v.account).collect();
    // The dead first: they help nobody.
    leaving.sort_by_key(|account| !dead.contains(account));
    let tolerates = |members: usize| members > quorum(members);
    for account in leaving {
        // Who is there helps as long as it stays: it waits for a successor when without it nobody
        // else might fail.
        let needed = tolerates(members.len()) && !tolerates(members.len() - 1);
        if may_leave > 0 && members.len() > 1 && (dead.contains(&account) || !needed) {
            members.remove(&account);
            may_leave -= 1;
        }
    }
    let joining = elected.iter().filter(|account| !current.contains(**account)).take(limit);
    for account in joining {
        let stay = members.keys().filter(|member| first.contains(**member)).count();
        let replaces = members.len() >= most;
        let (stay, size) = match replaces {
            true => (stay.saturating_sub(1), most),
            false => (stay, members.len() + 1),
        };
        if stay < quorum(size) {
            break;
        }
        if replaces {
            // Who is least approved of makes room.
            let rank = |member: &&AccountId| {
                ranking.iter().position(|ranked| ranked == *member).unwrap_or(usize::MAX)
            };
            let unelected = members.keys().filter(|member| !elected.contains(member));
            let Some(loser) = unelected.max_by_key(rank).copied().filter(|_| may_leave > 0) else {
                break;
            };
            members.remove(&loser);
            may_leave -= 1;
        }
        if let Some(node) = node_of(*account) {
            members.insert(*account, node);
        }
    }
    let members = members.into_iter().map(|(account, node)| Validator { account, node });
    // There is one at least, and no more than there were or than the policy has seats.
    let next = ValidatorSet::new(state.height, members.collect());
    next.ok().filter(|next| !next.is_alike(current)).unwrap_or_else(|| current.clone())
}

/// Whom somebody approves of, in the order in which they would be elected; `most` at most. Nobody
/// while too little is bonded by those who approve of somebody: whoever stands would win.
fn ranking(
    state: &State,
    policy: &ElectionPolicy,
    dead: &BTreeSet<AccountId>,
    most: usize,
) -> Vec<AccountId> {
    let approving = state.stakes.values().filter(|stake| !stake.approves.is_empty());
    let turnout: u128 = approving.map(|stake| u128::from(stake.bonded.micro())).sum();
    let held = state.minted.saturating_sub(state.treasury).micro();
    if turnout * 100 < u128::from(held) * u128::from(policy.turnout_percent) {
        return Vec::new();
    }
    let stands = |stake: &Stake| stake.node.is_some() && stake.bonded >= policy.bond_min;
    let candidates: BTreeSet<_> = state
        .stakes
        .iter()
        .filter(|(account, stake)| stands(stake) && !dead.contains(*account))
        .map(|(account, _)| *account)
        .collect();
    let voters: Vec<_> = state
        .stakes
        .iter()
        .map(|(account, stake)| Voter {
            weight: weight(state, *account, stake.bonded.micro(), policy),
            approves: &stake.approves,
        })
        .collect();
    elect(&candidates, &voters, most)
}

/// What an account's approval weighs: its bond in microcredits, and what its karma adds to that,
/// which is no more than the bond itself, since karma is cheap for who makes many Islands.
fn weight(state: &State, account: AccountId, bonded: u64, policy: &ElectionPolicy) -> u128 {
    let karma = state.islands.get(&account).map_or(0, |standing| standing.karma_milli);
    let karma = karma.clamp(0, policy.karma_max_milli.max(0));
    let added = u64::try_from(karma).unwrap_or(0).saturating_mul(policy.karma_weight.micro());
    u128::from(bonded) + u128::from(added.min(bonded))
}
