//! Who gets the seats: sequential Phragmén, in integers.
//!
//! Approval voting with proportional representation: each candidate that is elected puts a load of
//! one on its voters, spread so that the most loaded voter carries as little as possible; the next
//! seat goes to the candidate whose voters would carry the least. So a group with a third of the
//! weight gets about a third of the seats, however the others vote.
//! Source: M. Brill, R. Freeman, S. Janson, M. Lackner, "Phragmén's voting methods and justified
//! representation", Mathematical Programming 203 (2024), section 3, with weighted voters.
//!
//! Pure arithmetic, called at the end of an epoch; which candidates and voters count, and how fast
//! the set may change, is `epoch`'s.

use crate::{amount::Credits, id::AccountId};
use std::collections::{BTreeMap, BTreeSet};

/// A load of one. With weights below 2^64 and at most 2^7 seats no product or sum below passes 2^107:
/// the weighted loads of all voters add up to one for each elected candidate.
const ONE: u128 = 1 << 100;

/// A voter: its weight and whom it approves of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ballot<'a> {
    pub(super) weight: Credits,
    pub(super) approves: &'a BTreeSet<AccountId>,
}

struct Candidate {
    /// The voters who approve of it, by index.
    voters: Vec<usize>,
    /// Their weight, all together.
    approval: u128,
}

/// Fills up to `seats` seats, in the order in which they are won. Candidates without any approval
/// win none. Ties go to the candidate with more approval, then to the lower account.
pub(super) fn elect(
    candidates: &BTreeSet<AccountId>,
    ballots: &[Ballot<'_>],
    seats: usize,
) -> Vec<AccountId> {
    let mut running: BTreeMap<AccountId, Candidate> = BTreeMap::new();
    for (index, ballot) in ballots.iter().enumerate() {
        let weight = u128::from(ballot.weight.micro());
        if weight == 0 {
            continue;
        }
        for approved in ballot.approves.intersection(candidates) {
            let candidate = running
                .entry(*approved)
                .or_insert_with(|| Candidate { voters: Vec::new(), approval: 0 });
            candidate.voters.push(index);
            candidate.approval += weight;
        }
    }
    let mut loads = vec![0_u128; ballots.len()];
    let mut elected = Vec::new();
    while elected.len() < seats {
        let scored = running.iter().map(|(account, candidate)| {
            let carried: u128 = candidate
                .voters
                .iter()
                .map(|voter| loads[*voter] * u128::from(ballots[*voter].weight.micro()))
                .sum();
            let load = (ONE + carried) / candidate.approval;
            (load, std::cmp::Reverse(candidate.approval), *account)
        });
        let Some((load, _, winner)) = scored.min() else { break };
        let Some(candidate) = running.remove(&winner) else { break };
        for voter in candidate.voters {
            loads[voter] = load;
        }
        elected.push(winner);
    }
    elected
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account(index: u8) -> AccountId {
        AccountId([index; 32])
    }

    fn set(indices: &[u8]) -> BTreeSet<AccountId> {
        indices.iter().map(|i| account(*i)).collect()
    }

    /// The winners when voter after voter approves as said, each with its weight.
    fn winners(votes: &[(u64, &[u8])], seats: usize) -> Vec<u8> {
        let approvals: Vec<_> = votes.iter().map(|(_, approves)| set(approves)).collect();
        let candidates = approvals.iter().flatten().copied().collect();
        let ballots: Vec<_> = votes
            .iter()
            .zip(&approvals)
            .map(|((weight, _), approves)| Ballot {
                weight: Credits::from_micro(*weight),
                approves,
            })
            .collect();
        elect(&candidates, &ballots, seats).iter().map(|a| a.0[0]).collect()
    }

    #[test]
    fn the_example_of_the_paper_gives_its_winners() {
        // Three of ten voters want D first of all; with plain approval A, B and C would win.
        let votes: [(u64, &[u8]); 2] = [(7, &[1, 2, 3]), (3, &[4])];
        assert_eq!(winners(&votes, 3), [1, 2, 4]);
        // Loads after 1 and 2: 2/7 each for the first group; 3 would cost 3/7, 4 costs 1/3.
        assert_eq!(winners(&votes, 4), [1, 2, 4, 3]);
        // Phragmén's example of 1894: 1034 ABC, 519 PQR, 90 ABQ, 47 APQ elect A, Q, B.
        let votes: [(u64, &[u8]); 4] =
            [(1034, &[1, 2, 3]), (519, &[16, 17, 18]), (90, &[1, 2, 17]), (47, &[1, 16, 17])];
        assert_eq!(winners(&votes, 3), [1, 17, 2]);
    }

    #[test]
    fn nobody_without_weight_counts_and_ties_are_settled() {
        assert_eq!(winners(&[(0, &[1]), (5, &[2])], 3), [2]);
        assert_eq!(winners(&[], 3), [0; 0]);
        assert_eq!(winners(&[(5, &[9]), (5, &[8])], 1), [8]);
        assert_eq!(winners(&[(5, &[9, 8]), (1, &[9])], 1), [9]);
    }

    proptest! {
        /// Proportional justified representation: whoever has `n` seats' worth of the weight and
        /// agrees on `n` candidates is represented by at least `n` of those elected.
        #[test]
        fn an_agreeing_group_gets_its_share(
            group in 1..1_000_000_u64,
            others in proptest::collection::vec((1..1_000_000_u64, proptest::collection::vec(10..30_u8, 1..8)), 0..12),
            seats in 1..10_usize,
        ) {
            let own: Vec<u8> = (0..9).collect();
            let mut votes: Vec<(u64, &[u8])> = vec![(group, &own)];
            votes.extend(others.iter().map(|(w, a)| (*w, a.as_slice())));
            let total: u64 = votes.iter().map(|v| v.0).sum();
            let winners = winners(&votes, seats);
            let due = (u128::from(group) * seats as u128 / u128::from(total)) as usize;
            let got = winners.iter().filter(|w| own.contains(w)).count();
            prop_assert!(got >= due.min(own.len()), "{got} of {due}");
        }

        /// The largest weights and numbers overflow nothing.
        #[test]
        fn extremes_are_counted(weights in proptest::collection::vec(u64::MAX / 8..u64::MAX / 4, 1..4)) {
            let all: Vec<u8> = (0..100).collect();
            let votes: Vec<(u64, &[u8])> = weights.iter().map(|w| (*w, all.as_slice())).collect();
            prop_assert_eq!(winners(&votes, 100).len(), 100);
        }
    }
}
