//! Who gets the seats: sequential Phragmén, in integers.
//!
//! Each seat costs one unit, which is shared by those who approve of its holder, in proportion to
//! their weight; the next seat goes to whom its approvers can afford with the least load on the
//! most loaded of them. So a group with a k-th of the weight that agrees gets a k-th of the seats,
//! whatever the others do. (E. Phragmén, 1894; the form with weights is in S. Janson, "Phragmén's
//! and Thiele's election methods", 2016, section 3. The library that has it, `sp-npos-elections`,
//! brings its chain's runtime with it, and approximates by 128-bit rationals.)

use crate::id::AccountId;
use std::collections::BTreeSet;

/// One seat's cost in the unit of loads. Weights add up to less than 2^66 and loads times weights
/// to at most one of this for each seat, so no product is above 2^107.
const ONE: u128 = 1 << 100;

/// An account's say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voter<'a> {
    /// All weights together must be below 2^66.
    pub(super) weight: u128,
    pub(super) approves: &'a [AccountId],
}

/// Elects up to `seats` of `candidates`, the first elected first. Whom nobody approves of is not
/// elected; of equals the one with more approval is first, then the one with the lower account.
#[must_use]
pub(super) fn elect(
    candidates: &BTreeSet<AccountId>,
    voters: &[Voter<'_>],
    seats: usize,
) -> Vec<AccountId> {
    struct Candidate {
        account: AccountId,
        approval: u128,
        voters: Vec<usize>,
    }
    let new =
        |account: &AccountId| Candidate { account: *account, approval: 0, voters: Vec::new() };
    let mut open: Vec<Candidate> = candidates.iter().map(new).collect();
    for (index, voter) in voters.iter().enumerate().filter(|(_, voter)| voter.weight > 0) {
        let approves: BTreeSet<_> = voter.approves.iter().collect();
        for account in approves {
            if let Ok(found) = open.binary_search_by_key(account, |c| c.account)
                && let Some(candidate) = open.get_mut(found)
            {
                candidate.approval += voter.weight;
                candidate.voters.push(index);
            }
        }
    }
    open.retain(|candidate| candidate.approval > 0);

    let mut loads = vec![0_u128; voters.len()];
    let mut elected = Vec::new();
    while elected.len() < seats {
        let load = |voter: &usize| {
            let weight = voters.get(*voter).map_or(0, |v| v.weight);
            weight * loads.get(*voter).copied().unwrap_or_default()
        };
        let score = |candidate: &Candidate| {
            let carried: u128 = candidate.voters.iter().map(load).sum();
            (ONE + carried) / candidate.approval
        };
        let scores = open
            .iter()
            .enumerate()
            .map(|(index, c)| ((score(c), std::cmp::Reverse(c.approval), c.account), index));
        let Some(((score, ..), index)) = scores.min() else { break };
        let winner = open.remove(index);
        for voter in winner.voters {
            if let Some(load) = loads.get_mut(voter) {
                *load = score;
            }
        }
        elected.push(winner.account);
    }
    elected
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account(letter: char) -> AccountId {
        AccountId([letter as u8; 32])
    }

    fn accounts(letters: &str) -> Vec<AccountId> {
        letters.chars().map(account).collect()
    }

    fn letters(elected: &[AccountId]) -> String {
        elected.iter().map(|account| char::from(account.0[0])).collect()
    }

    fn run(votes: &[(u128, &str)], seats: usize) -> String {
        let lists: Vec<_> = votes.iter().map(|(weight, list)| (*weight, accounts(list))).collect();
        let voters: Vec<_> =
            lists.iter().map(|(weight, approves)| Voter { weight: *weight, approves }).collect();
        let candidates = lists.iter().flat_map(|(_, list)| list).copied().collect();
        letters(&elect(&candidates, &voters, seats))
    }

    /// Phragmén's own example of 1894, as Janson gives it (example 3.2): three seats go to A, Q, B.
    #[test]
    fn the_example_of_1894() {
        let votes = [(1034, "ABC"), (519, "PQR"), (90, "ABQ"), (47, "APQ")];
        assert_eq!(run(&votes, 3), "AQB");
    }

    #[test]
    fn ties_order_and_what_is_no_vote() {
        assert_eq!(run(&[(5, "A"), (5, "B")], 2), "AB", "the lower account");
        assert_eq!(run(&[(5, "B"), (6, "A")], 1), "A");
        assert_eq!(run(&[(0, "A")], 1), "", "no weight");
        assert_eq!(run(&[(5, "AA"), (6, "B")], 1), "B", "twice is once");
        assert_eq!(run(&[(5, "AB")], 9), "AB", "fewer candidates than seats");
        let voters = [Voter { weight: 9, approves: &accounts("Z") }];
        let candidates = accounts("A").into_iter().collect();
        assert_eq!(letters(&elect(&candidates, &voters, 1)), "", "no candidate");
        // The most that there can be of everything.
        let most = u128::from(u64::MAX);
        assert_eq!(run(&[(most, "ABC"), (1, "C"), (most, "D")], 4).len(), 4);
    }

    proptest! {
        /// Who agree and are a k-th of all weight get the seats that they can fill, up to the k-th
        /// of them: proportional justified representation (M. Brill and others, "Phragmén's voting
        /// methods and justified representation", 2017).
        #[test]
        fn a_part_that_agrees_gets_its_part(
            weights in proptest::collection::vec((1_u128..1_000, proptest::collection::btree_set(0_u8..12, 0..6)), 1..12),
            seats in 1_usize..8,
            share in 1_u128..8,
        ) {
            let group = accounts("UVWXYZ!#");
            let others: u128 = weights.iter().map(|(w, _)| w).sum();
            // The group's weight is at least `share` / `seats` of all.
            let share = share.min(seats as u128);
            let weight = if share == seats as u128 {
                others * 1_000_000
            } else {
                others * share / (seats as u128 - share) + 1
            };
            let lists: Vec<_> = weights
                .iter()
                .map(|(w, list)| (*w, list.iter().map(|i| AccountId([*i; 32])).collect::<Vec<_>>()))
                .collect();
            let mut voters: Vec<_> =
                lists.iter().map(|(w, approves)| Voter { weight: *w, approves }).collect();
            voters.push(Voter { weight, approves: &group });
            let candidates: BTreeSet<_> =
                (0..12).map(|i| AccountId([i; 32])).chain(group.iter().copied()).collect();
            let elected = elect(&candidates, &voters, seats);
            let theirs = elected.iter().filter(|account| group.contains(account)).count();
            prop_assert!(theirs as u128 >= share, "{theirs} of {share}");
        }
    }
}
