//! Stakes, elections, turns and what becomes of who signs two things.

use super::*;
use crate::{
    id::BlockHash,
    ledger::{Evidence, Proposal, Stake, Vote, vote::Step},
};

const DAY_MS: u64 = 24 * 3_600_000;
const VALIDATORS: [u8; 4] = [10, 11, 12, 13];
const OTHERS: [u8; 3] = [20, 21, 22];
const VOTER: u8 = CONSUMER;

/// A network of four validators, and some more who would be.
fn network(validators: &[u8]) -> World {
    let mut genesis = genesis();
    let rich = |who: &u8| Allocation { account: account(*who), balance: whole(5_000) };
    genesis.accounts.extend(VALIDATORS.iter().chain(&OTHERS).map(rich));
    genesis.accounts[0].balance = whole(100_000);
    let validator = |who: &u8| Validator { account: account(*who), node: NodeId([*who; 32]) };
    genesis.validators = validators.iter().map(validator).collect();
    genesis.policy.election.absence_ms = 3;
    genesis.policy.election.turnout_percent = 0;
    World::with(genesis)
}

fn who(account_of: AccountId) -> u8 {
    (0..40).find(|who| account(*who) == account_of).unwrap()
}

impl World {
    fn seats(&self) -> Vec<u8> {
        let mut seats: Vec<_> = self.state.validators.iter().map(|v| who(v.account)).collect();
        seats.sort_unstable();
        seats
    }

    fn absent(&self) -> Vec<u8> {
        self.state.epoch.absent.keys().map(|account| who(*account)).collect()
    }

    /// Decides a block in `round` without the votes of `silent`, and checks that it applies.
    fn block(&mut self, ms: u64, round: u32, silent: &[u8], actions: Vec<(u8, Action)>) {
        let transactions: Vec<_> = actions.into_iter().map(|(w, a)| self.sign(w, a)).collect();
        let turns = self.state.turns();
        let proposer = turns[usize::try_from(round).unwrap() % turns.len()];
        let time = self.later(ms);
        let (block, next, receipts) =
            self.state.propose(proposer, time, self.last.clone(), transactions).unwrap();
        for receipt in receipts {
            assert_eq!(receipt.outcome, Ok(()));
        }
        assert_eq!(self.state.apply(&block).unwrap(), next);
        next.check_conservation().unwrap();
        assert_eq!(State::from_snapshot(&next.to_snapshot().unwrap()).unwrap(), next);
        let mut voters = self.seats();
        voters.retain(|voter| !silent.contains(voter));
        let last = super::blocks::certify(&block.header, round, &voters);
        *self = Self { state: next, last: Some(last) };
    }

    fn end_epoch(&mut self) {
        let ms = self.state.epoch.ends.since_ms(self.state.time);
        self.block(ms, 0, &[], Vec::new());
    }

    /// `who` stands for a seat, and the voter approves of all `approved`.
    fn stand(&mut self, candidates: &[u8], approved: &[u8]) {
        let mut actions = Vec::new();
        for who in candidates {
            let signed = |nonce, action| {
                key(*who).seal(self.state.network, Transaction { nonce, salt: 0, action }).unwrap()
            };
            let nonce = self.state.accounts[&account(*who)].nonce;
            let node = Some(NodeId([*who; 32]));
            actions.push(signed(nonce, Action::Bond { amount: whole(1_000) }));
            actions.push(signed(nonce + 1, Action::Candidate { node }));
        }
        let mut candidates: Vec<_> = approved.iter().map(|who| account(*who)).collect();
        candidates.sort_unstable();
        for transaction in actions {
            let id = transaction::id(&transaction).unwrap();
            self.state.execute(&transaction, id).unwrap();
        }
        self.send(VOTER, Action::Bond { amount: whole(100) }).unwrap();
        self.send(VOTER, Action::Approve { candidates }).unwrap();
    }
}

#[test]
fn who_is_just_elected_can_not_stop_the_network() {
    let all = [20, 21, 22, 11, 12, 13];
    // With one or two who stay, a new one would be needed for every block.
    for few in [&[10][..], &[10, 11]] {
        let mut world = network(few);
        world.stand(&all, &all);
        world.end_epoch();
        world.end_epoch();
        assert_eq!(world.seats(), few);
    }
    let mut world = network(&[10, 11, 12]);
    world.stand(&[20, 21, 22, 13], &[20, 21, 22, 13]);
    let mut sizes = Vec::new();
    for _ in 0..6 {
        world.end_epoch();
        sizes.push(world.seats().len());
    }
    assert_eq!(sizes, [4, 5, 6, 7, 7, 7]);
    assert_eq!(world.state.epoch.number, 6);
    // The first ones were never elected: somebody who is approved of takes a seat of theirs.
    world.send(CONSUMER, Action::Transfer { to: account(STRANGER), amount: whole(1_000) }).unwrap();
    world.stand(&[STRANGER], &[20, 21, 22, 13, STRANGER]);
    world.end_epoch();
    assert_eq!(world.seats().len(), 7);
    assert!(world.seats().contains(&STRANGER));
}

#[test]
fn few_who_approve_elect_nobody() {
    let mut genesis = Genesis::clone(&network(&VALIDATORS).state.genesis);
    genesis.policy.election.turnout_percent = 10;
    let mut world = World::with(genesis);
    world.stand(&[20], &[20]);
    world.end_epoch();
    assert_eq!(world.seats(), VALIDATORS, "100 of 136,006 credits");
    world.send(VOTER, Action::Bond { amount: whole(14_000) }).unwrap();
    world.end_epoch();
    assert_eq!(world.seats(), [10, 11, 12, 13, 20]);
}

#[test]
fn less_than_a_third_of_the_seats_change_in_an_epoch() {
    let mut world = network(&VALIDATORS);
    world.stand(&OTHERS, &OTHERS);
    // There is room for three more, but one of four at a time joins.
    for (epoch, size) in (0..).zip([5, 6, 7]) {
        let before = world.state.validators.clone();
        world.end_epoch();
        assert_eq!(world.state.validators.len(), size, "{epoch}");
        let stayed = world.state.validators.iter().filter(|v| before.contains(v.account)).count();
        assert_eq!(stayed, before.len());
    }
    // All of the first four stand down at once.
    for who in VALIDATORS {
        world.send(who, Action::Candidate { node: None }).unwrap();
    }
    assert_eq!(world.seats().len(), 7, "a seat is kept until the end of the epoch");
    for size in [5, 4, 4] {
        world.end_epoch();
        assert_eq!(world.seats().len(), size);
    }
    // Three could not do without one of them: the last one waits for a successor.
    world.send(CONSUMER, Action::Transfer { to: account(STRANGER), amount: whole(1_000) }).unwrap();
    world.stand(&[STRANGER], &[20, 21, 22, STRANGER]);
    for size in [5, 4, 4] {
        world.end_epoch();
        assert_eq!(world.seats().len(), size);
    }
    assert!(VALIDATORS.iter().all(|first| !world.seats().contains(first)));
    let since = world.state.validators.since();
    world.end_epoch();
    assert_eq!(world.state.validators.since(), since, "nothing changed");
}

#[test]
fn what_is_not_bonded_or_approved_elects_nobody() {
    let mut world = network(&VALIDATORS);
    let node = Some(NodeId([1; 32]));
    contains(&world.refused(20, Action::Candidate { node }), "a candidate needs 1000");
    contains(&world.refused(20, Action::Bond { amount: Credits::ZERO }), "`amount`");
    contains(&world.refused(20, Action::Bond { amount: micro(5) }), "must be 1 or more");
    assert!(matches!(
        world.send(20, Action::Bond { amount: whole(5_001) }),
        Err(Rejected::Funds { .. })
    ));
    let approve = |candidates| Action::Approve { candidates };
    contains(&world.refused(VOTER, approve(vec![account(20)])), "to approve needs 1");
    let mut two = vec![account(20), account(21)];
    two.sort_unstable();
    two.reverse();
    contains(&world.refused(VOTER, approve(two)), "in the order of accounts");
    contains(&world.refused(VOTER, approve(vec![account(20); 2])), "in the order");
    let many = (0..17).map(|i| AccountId([i; 32])).collect();
    contains(&world.refused(VOTER, approve(many)), "at most 16");
    // Candidates of whom nobody approves, and approval of who is no candidate.
    world.stand(&[20], &[21]);
    world.end_epoch();
    assert_eq!(world.seats(), VALIDATORS);
}

#[test]
fn karma_adds_to_a_stake_and_no_more_than_the_stake() {
    let mut world = network(&VALIDATORS);
    for who in VALIDATORS {
        world.send(who, Action::Candidate { node: None }).unwrap();
    }
    world.send(CONSUMER, Action::Transfer { to: account(ISLAND), amount: whole(150) }).unwrap();
    world.stand(&[20, 21], &[20]);
    let approve_21 = Action::Approve { candidates: vec![account(21)] };
    // 60 credits with much karma weigh 120, more than the voter's 100; without they do not.
    for (bonded, karma, first) in [(60, 0, 20), (60, 1_000_000, 21), (49, 1_000_000, 20)] {
        let mut world = World { state: world.state.clone(), last: None };
        world.send(ISLAND, Action::Bond { amount: whole(bonded) }).unwrap();
        world.send(ISLAND, approve_21.clone()).unwrap();
        world.set_karma(karma);
        world.end_epoch();
        assert_eq!(
            world.seats().iter().filter(|s| **s >= 20).copied().collect::<Vec<_>>(),
            [first]
        );
    }
}

#[test]
fn unbonded_credits_come_back_after_their_time() {
    let mut world = network(&VALIDATORS);
    world.send(VOTER, Action::Bond { amount: whole(10) }).unwrap();
    contains(&world.refused(VOTER, Action::Unbond { amount: micro(9_500_000) }), "take all");
    assert!(world.send(VOTER, Action::Unbond { amount: whole(11) }).is_err());
    assert!(world.send(VOTER, Action::Unbond { amount: Credits::ZERO }).is_err());
    world.send(VOTER, Action::Unbond { amount: whole(4) }).unwrap();
    world.block(DAY_MS, 0, &[], Vec::new());
    world.send(VOTER, Action::Unbond { amount: whole(6) }).unwrap();
    assert_eq!(world.balance(VOTER), whole(99_990));
    world.block(20 * DAY_MS, 0, &[], Vec::new());
    assert_eq!(world.balance(VOTER), whole(99_994));
    world.block(DAY_MS, 0, &[], Vec::new());
    assert_eq!(world.balance(VOTER), whole(100_000));
    assert_eq!(world.state.stakes.get(&account(VOTER)), Some(&Stake::default()).filter(|_| false));
    // Who has a seat keeps its bond.
    world.send(10, Action::Bond { amount: whole(1_500) }).unwrap();
    world.send(10, Action::Unbond { amount: whole(500) }).unwrap();
    contains(&world.refused(10, Action::Unbond { amount: whole(1) }), "stand down first");
    for _ in 1..16 {
        world.send(10, Action::Bond { amount: whole(1) }).unwrap();
        world.send(10, Action::Unbond { amount: whole(1) }).unwrap();
    }
    world.send(10, Action::Bond { amount: whole(1) }).unwrap();
    contains(&world.refused(10, Action::Unbond { amount: whole(1) }), "wait for one");
}

#[test]
fn who_misses_its_turn_comes_last_until_it_is_seen() {
    let mut world = network(&VALIDATORS);
    world.block(1, 0, &[], Vec::new());
    let first = who(world.state.turns()[0]);
    // The first one does not propose; the second does, in the next round, without its vote.
    world.block(1, 1, &[first], Vec::new());
    assert!(world.absent().is_empty(), "nothing says so yet");
    world.block(1, 0, &[first], Vec::new());
    assert_eq!(world.absent(), [first]);
    for _ in 0..4 {
        let turns = world.state.turns();
        assert_eq!(who(turns[3]), first);
        world.block(1, 0, &[first], Vec::new());
    }
    // It is seen again.
    let second = VALIDATORS.into_iter().find(|v| *v != first).unwrap();
    world.block(1, 0, &[second], Vec::new());
    world.block(1, 0, &[second], Vec::new());
    assert!(world.absent().is_empty(), "{second} missed no turn, {first} was seen");
    // Who missed its turn and voted all the same is there.
    world.block(1, 2, &[], Vec::new());
    world.block(1, 0, &[], Vec::new());
    assert!(world.absent().is_empty());
}

#[test]
fn the_turns_of_a_height_are_those_that_it_began_with() {
    // The order in which a height's rounds go is decided before its block, whose certificate may
    // change the order of the next: who missed a turn must be found by the order that was.
    let mut world = network(&VALIDATORS);
    for round in [1, 1, 2, 1, 0, 3, 1, 0, 0] {
        let turns = world.state.turns();
        let rounds = usize::try_from(round).unwrap();
        let missed: Vec<_> = turns[..rounds].iter().map(|a| who(*a)).collect();
        // One of them is silent, the others only missed their turn.
        let silent: Vec<_> = missed.iter().copied().take(1).collect();
        let before = world.absent();
        world.block(1, round, &silent, Vec::new());
        assert!(world.absent().len() <= before.len() + 1);
        let mut probe = World { state: world.state.clone(), last: world.last.clone() };
        probe.block(1, 0, &[], Vec::new());
        assert_eq!(probe.absent(), silent, "round {round}");
    }
}

#[test]
fn a_dead_validator_loses_its_seat_at_the_end_of_the_epoch() {
    let mut world = network(&VALIDATORS);
    let first = who(world.state.turns()[0]);
    world.block(1, 1, &[first], Vec::new());
    world.block(1, 0, &[first], Vec::new());
    world.block(1, 0, &[first], Vec::new());
    world.block(2, 0, &[first], Vec::new());
    assert_eq!(world.seats().len(), 4);
    let ms = world.state.epoch.ends.since_ms(world.state.time);
    world.block(ms, 0, &[first], Vec::new());
    assert_eq!(world.seats().len(), 3);
    assert!(!world.seats().contains(&first));
    assert!(world.absent().is_empty());
    // Three that decide together can't lose another: they would not have made a block without it.
    world.end_epoch();
    assert_eq!(world.seats().len(), 3);
    // It comes back when it says so, is bonded and somebody approves of it.
    world.stand(&[first], &[first]);
    world.end_epoch();
    assert_eq!(world.seats(), VALIDATORS);
}

#[test]
fn one_that_was_away_for_a_moment_keeps_its_seat() {
    let mut genesis = Genesis::clone(&network(&VALIDATORS).state.genesis);
    genesis.policy.election.absence_ms = 2 * DAY_MS;
    let mut world = World::with(genesis);
    let first = who(world.state.turns()[0]);
    world.block(1, 1, &[first], Vec::new());
    world.end_epoch();
    assert_eq!(world.absent(), [first]);
    assert_eq!(world.seats(), VALIDATORS);
    assert!(world.state.stakes[&account(first)].node.is_some());
}

#[test]
fn one_that_says_that_it_is_back_gets_its_turn() {
    let mut world = network(&VALIDATORS);
    let first = who(world.state.turns()[0]);
    world.block(1, 1, &[first], Vec::new());
    world.block(1, 0, &[first], Vec::new());
    assert_eq!(world.absent(), [first]);
    let node = Some(NodeId([first; 32]));
    world.block(1, 0, &[first], vec![(first, Action::Candidate { node })]);
    assert!(world.absent().is_empty());
    world.block(1, 0, &[first], Vec::new());
    world.block(1, 0, &[first], Vec::new());
    assert!(world.absent().is_empty(), "it missed no turn since");
}

fn votes(network: crate::id::NetworkId, signer: u8) -> [super::super::SignedVote; 2] {
    [Some(BlockHash([1; 32])), None].map(|block| {
        let vote = Vote { height: 7, round: 1, step: Step::Prevote, block };
        key(signer).seal(network, vote).unwrap()
    })
}

fn evidence(network: crate::id::NetworkId, signer: u8) -> Action {
    let [one, other] = votes(network, signer);
    Action::Evidence { evidence: Box::new(Evidence::Votes(one, other)) }
}

#[test]
fn who_signs_two_things_loses_stake_and_seat() {
    let mut world = network(&VALIDATORS);
    let network = world.state.network;
    world.send(11, Action::Bond { amount: whole(1_200) }).unwrap();
    world.send(11, Action::Unbond { amount: whole(200) }).unwrap();
    let treasury = world.state.treasury;
    world.block(1, 0, &[], vec![(STRANGER, evidence(network, 11))]);
    assert_eq!(world.seats(), [10, 12, 13], "at once");
    let stake = &world.state.stakes[&account(11)];
    assert!(stake.slashed && stake.node.is_none() && stake.credits() == Credits::ZERO);
    assert_eq!(world.state.treasury, treasury.saturating_add(whole(1_200)));
    contains(&world.refused(STRANGER, evidence(network, 11)), "slashed already");
    world.send(11, Action::Bond { amount: whole(2_000) }).unwrap();
    let node = Some(NodeId([11; 32]));
    contains(&world.refused(11, Action::Candidate { node }), "never signed two things");
    world.send(VOTER, Action::Bond { amount: whole(10) }).unwrap();
    world.send(VOTER, Action::Approve { candidates: vec![account(11)] }).unwrap();
    world.end_epoch();
    assert_eq!(world.seats(), [10, 12, 13]);
    // It is never the last one that goes.
    let mut alone = super::elections::network(&[10]);
    let network = alone.state.network;
    alone.block(1, 0, &[], vec![(STRANGER, evidence(network, 10))]);
    assert_eq!(alone.seats(), [10]);
}

#[test]
fn a_part_of_a_stake_is_taken_where_the_policy_says_so() {
    let mut genesis = Genesis::clone(&network(&VALIDATORS).state.genesis);
    genesis.policy.election.slash_percent = 30;
    let mut world = World::with(genesis);
    world.send(11, Action::Bond { amount: whole(1_200) }).unwrap();
    world.send(11, Action::Unbond { amount: whole(200) }).unwrap();
    let action = evidence(world.state.network, 11);
    world.send(STRANGER, action).unwrap();
    let stake = &world.state.stakes[&account(11)];
    assert_eq!((stake.bonded, stake.unbonding[0].amount), (whole(700), whole(140)));
}

#[test]
fn what_proves_nothing_takes_nothing() {
    let mut world = network(&VALIDATORS);
    let network = world.state.network;
    let [one, other] = votes(network, 11);
    let [_, of_another] = votes(network, 12);
    let seal = |vote: Vote| key(11).seal(network, vote).unwrap();
    let later = seal(Vote { round: 2, ..other.value });
    let step = seal(Vote { step: Step::Precommit, ..other.value });
    let forged = super::super::SignedVote { signer: account(12), ..of_another.clone() };
    let forged = super::super::SignedVote { signature: one.signature, ..forged };
    let send = |world: &mut World, a: &super::super::SignedVote, b: &super::super::SignedVote| {
        let evidence = Box::new(Evidence::Votes(a.clone(), b.clone()));
        world.refused(STRANGER, Action::Evidence { evidence })
    };
    contains(&send(&mut world, &one, &of_another), "two signers");
    contains(&send(&mut world, &one, &later), "different heights");
    contains(&send(&mut world, &one, &step), "different heights");
    contains(&send(&mut world, &one, &one), "the same");
    contains(&send(&mut world, &of_another, &forged), "signature");
    contains(&world.refused(STRANGER, evidence(network, STRANGER)), "nothing at stake");
    let elsewhere = evidence(crate::id::NetworkId([3; 32]), 11);
    contains(&world.refused(STRANGER, elsewhere), "signature");

    let proposal = |block, valid_round| {
        let proposal = Proposal { height: 3, round: 2, block: BlockHash([block; 32]), valid_round };
        key(13).seal(network, proposal).unwrap()
    };
    let pair = |a, b| Action::Evidence { evidence: Box::new(Evidence::Proposals(a, b)) };
    let same = pair(proposal(1, None), proposal(1, None));
    contains(&world.refused(STRANGER, same), "the same");
    world.send(STRANGER, pair(proposal(1, None), proposal(1, Some(0)))).unwrap();
    assert_eq!(world.seats(), [10, 11, 12]);
}

#[test]
fn a_slashed_seat_counts_among_those_that_change() {
    let mut world = network(&VALIDATORS);
    world.stand(&OTHERS, &OTHERS);
    let action = evidence(world.state.network, 10);
    world.send(STRANGER, action).unwrap();
    world.send(11, Action::Candidate { node: None }).unwrap();
    world.end_epoch();
    // One of four has gone; one comes, and 11 waits for the next epoch.
    assert_eq!(world.seats().len(), 4);
    assert!(world.seats().contains(&11));
    // Then for a successor.
    world.end_epoch();
    assert_eq!(world.seats().len(), 5);
    world.end_epoch();
    assert!(!world.seats().contains(&11));
}

#[test]
fn stakes_are_entries_of_the_state() {
    let mut world = network(&VALIDATORS);
    world.stand(&[20], &[20]);
    world.end_epoch();
    let root = world.state.root();
    for key in [super::super::Key::Stake(account(20)), super::super::Key::Epoch] {
        let proof = world.state.prove(&key).unwrap();
        assert!(proof.value.is_some());
        let value = proof.value.as_ref().map(|bytes| bytes.as_slice());
        proof.path.verify(root, &key.to_bytes().unwrap(), value).unwrap();
    }
}
