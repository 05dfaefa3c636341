//! A coordinator that has just started. Until it has heard from the others where they are it does
//! not answer for the ledger; and one whose disk knows of no vote of its own, since it is new or
//! has lost its disk, watches before it votes: it may have voted already.
//!
//! Who votes at a height has seen the one before decided, and for that two thirds had seen the one
//! before that. So when enough others have said that they are not ahead of it, this one's own
//! forgotten votes are at most two heights ahead, and it votes from the third on. While the others
//! have no block at all the network begins, and it votes at once: who loses its disk before the
//! second block of a network is not held back.

use archipelag_protocol::{
    id::NodeId,
    ledger::{State, ValidatorSet},
    time::Timestamp,
};
use std::collections::BTreeMap;

/// How long nothing may come of a claim to be ahead.
const PROOF_MS: u64 = 10_000;
/// Heights that forgotten votes may be ahead.
const AHEAD: u64 = 2;

#[derive(Debug)]
pub(super) struct Newcomer {
    /// Whether it may have voted and does not know.
    forgot: bool,
    /// Where others say they are.
    said: BTreeMap<NodeId, u64>,
    /// Where this one is, and since when.
    at: (u64, Timestamp),
    /// The last height of which one that forgot only watches; known when it is not behind.
    watches: Option<u64>,
}

impl Newcomer {
    pub(super) fn new(forgot: bool) -> Self {
        Self { forgot, said: BTreeMap::new(), at: (0, Timestamp(0)), watches: None }
    }

    pub(super) fn forgot(&self) -> bool {
        self.forgot
    }

    /// Another one says that its last block has this height; ours has `ours`.
    pub(super) fn hear(&mut self, now: Timestamp, from: NodeId, height: u64, ours: u64) {
        let said = self.said.entry(from).or_insert(height);
        // What there is to wait for begins now.
        if *said <= ours && height > ours {
            self.at.1 = now;
        }
        *said = height.max(*said);
    }

    /// Whether it is where the others are, and has forgotten nothing of what is still to be
    /// decided.
    pub(super) fn has_arrived(
        &mut self,
        now: Timestamp,
        state: &State,
        own: Option<NodeId>,
    ) -> bool {
        if self.at.0 != state.height {
            self.at = (state.height, now);
        }
        if self.watches.is_none() {
            self.watches = self.last_watched(now, state.height, &state.validators, own);
        }
        self.watches.is_some_and(|last| !self.forgot || state.height >= last)
    }

    /// Enough others have shown, in another way, that they have no block after `height`.
    pub(super) fn is_at(&mut self, height: u64) {
        let ahead = if height == 0 { 0 } else { AHEAD };
        self.watches.get_or_insert_with(|| height.saturating_add(ahead));
    }

    /// Whether it has been where the others are.
    pub(super) fn is_current(&self) -> bool {
        self.watches.is_some()
    }

    fn last_watched(
        &self,
        now: Timestamp,
        height: u64,
        validators: &ValidatorSet,
        own: Option<NodeId>,
    ) -> Option<u64> {
        let others = validators.iter().filter(|validator| Some(validator.node) != own);
        let said: Vec<_> = others.filter_map(|validator| self.said.get(&validator.node)).collect();
        if said.len() + 1 < validators.quorum() {
            return None;
        }
        let ahead = said.iter().filter(|theirs| ***theirs > height).count();
        // Enough are not: whatever the rest claims, no liar holds this one up.
        let level = said.len() - ahead + 1 >= validators.quorum();
        // So few may all be liars, when nothing comes of what they say.
        let waited = now.since_ms(self.at.1) >= PROOF_MS;
        let lies = waited && ahead < validators.one_honest();
        if !level && !lies {
            return None;
        }
        let watched = if height == 0 { 0 } else { AHEAD };
        Some(height.saturating_add(watched))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipelag_protocol::{genesis::Validator, id::AccountId};

    fn validators(count: u8) -> ValidatorSet {
        let validator = |i| Validator { account: AccountId([i; 32]), node: NodeId([i; 32]) };
        ValidatorSet::new(0, (0..count).map(validator).collect()).unwrap()
    }

    fn node(index: u8) -> NodeId {
        NodeId([index; 32])
    }

    #[test]
    fn it_watches_until_its_own_votes_must_be_past() {
        let (set, own, now) = (validators(4), Some(node(0)), Timestamp(1_000));
        let mut newcomer = Newcomer::new(true);
        let watched = |newcomer: &mut Newcomer, now, height| {
            newcomer.at = if newcomer.at.0 == height { newcomer.at } else { (height, now) };
            newcomer.last_watched(now, height, &set, own)
        };
        newcomer.hear(now, node(1), 7, 0);
        assert_eq!(watched(&mut newcomer, now, 0), None, "one is not enough");
        newcomer.hear(now, node(2), 9, 0);
        assert_eq!(watched(&mut newcomer, now, 0), None, "they have blocks");
        let later = now.after_ms(10 * PROOF_MS);
        assert_eq!(watched(&mut newcomer, later, 0), None, "however long it takes");
        assert_eq!(watched(&mut newcomer, later, 7), None);
        assert_eq!(watched(&mut newcomer, later, 9), Some(11));
        // A claim changes nothing while enough others say otherwise.
        newcomer.hear(later, node(3), u64::MAX, 9);
        assert_eq!(watched(&mut newcomer, later, 9), Some(11));
        // One of which nothing comes.
        newcomer.said.remove(&node(1));
        assert_eq!(watched(&mut newcomer, later, 9), None);
        let last = later.after_ms(PROOF_MS);
        assert_eq!(watched(&mut newcomer, last, 9), Some(11));
        assert_eq!(watched(&mut newcomer, last, 10), None, "there is progress");
    }

    #[test]
    fn a_network_that_begins_begins() {
        let (set, own, now) = (validators(4), Some(node(0)), Timestamp(1_000));
        let mut newcomer = Newcomer::new(true);
        for other in 1..4 {
            newcomer.hear(now, node(other), 0, 0);
        }
        assert_eq!(newcomer.last_watched(now, 0, &set, own), Some(0));
        newcomer.hear(now, node(3), 5, 0);
        assert_eq!(newcomer.last_watched(now, 0, &set, own), Some(0), "one may lie");
        newcomer.hear(now, node(2), 5, 0);
        assert_eq!(newcomer.last_watched(now, 0, &set, own), None);
        newcomer.said.remove(&node(2));
        assert_eq!(newcomer.last_watched(now.after_ms(PROOF_MS), 0, &set, own), Some(0));
        // Strangers' words do not count.
        let mut newcomer = Newcomer::new(true);
        for other in 4..9 {
            newcomer.hear(now, node(other), 0, 0);
        }
        assert_eq!(newcomer.last_watched(now, 0, &set, own), None);
    }
}
