//! Random actions by several accounts, block after block: what must hold whatever they do.

use super::*;
use crate::{
    id::Signature,
    ledger::{Evidence, Vote, vote::Step as VoteStep},
};
use proptest::prelude::*;

const PEOPLE: u8 = 4;

/// One attempt of somebody; much of it is refused, which is part of the test.
#[derive(Clone, Debug)]
enum Step {
    Transfer {
        from: u8,
        to: u8,
        amount: u64,
    },
    Open {
        from: u8,
        to: u8,
        cap: u64,
        life_ms: u64,
    },
    TopUp {
        from: u8,
        hold: usize,
        amount: u64,
    },
    Redeem {
        hold: usize,
        lane: u16,
        nonce: u64,
        amount: u64,
    },
    Settle {
        hold: usize,
        sequence: u64,
        price: u64,
        verdict: u8,
        tier: u8,
        ms: u64,
    },
    Close {
        from: u8,
        hold: usize,
    },
    Publish {
        from: u8,
        slug: u8,
        version: u8,
    },
    Bond {
        from: u8,
        amount: u64,
    },
    Unbond {
        from: u8,
        amount: u64,
    },
    Candidate {
        from: u8,
        stands: bool,
    },
    Approve {
        from: u8,
        of: u8,
    },
    Evidence {
        from: u8,
        of: u8,
    },
    /// Ends the block.
    Block {
        after_ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (who, hold) = (0..PEOPLE, 0_usize..4);
    // Small and near the caps, so that limits are met often.
    let amount = prop_oneof![0_u64..4, 0_u64..3_000_000];
    prop_oneof![
        2 => (who.clone(), who.clone(), amount.clone())
            .prop_map(|(from, to, amount)| Step::Transfer { from, to, amount }),
        3 => (who.clone(), who.clone(), amount.clone(), 1_u64..20_000)
            .prop_map(|(from, to, cap, life_ms)| Step::Open { from, to, cap, life_ms }),
        3 => (who.clone(), hold.clone(), amount.clone())
            .prop_map(|(from, hold, amount)| Step::TopUp { from, hold, amount }),
        6 => (hold.clone(), 0_u16..3, 0_u64..6, amount.clone())
            .prop_map(|(hold, lane, nonce, amount)| Step::Redeem { hold, lane, nonce, amount }),
        6 => (hold.clone(), 0_u64..6, amount.clone(), 0_u8..5, 0_u8..5, 0_u64..70_000).prop_map(
            |(hold, sequence, price, verdict, tier, ms)| Step::Settle {
                hold, sequence, price, verdict, tier, ms,
            }
        ),
        2 => (who.clone(), hold).prop_map(|(from, hold)| Step::Close { from, hold }),
        2 => (who.clone(), amount.clone()).prop_map(|(from, amount)| Step::Bond { from, amount }),
        2 => (who.clone(), amount).prop_map(|(from, amount)| Step::Unbond { from, amount }),
        2 => (who.clone(), prop::bool::weighted(0.8))
            .prop_map(|(from, stands)| Step::Candidate { from, stands }),
        2 => (who.clone(), who.clone()).prop_map(|(from, of)| Step::Approve { from, of }),
        1 => (who.clone(), who.clone(), 0_u8..8)
            .prop_map(|(from, of, rarely)| match rarely {
                0 => Step::Evidence { from, of },
                _ => Step::Candidate { from, stands: true },
            }),
        1 => (who, 0_u8..5, 0_u8..3)
            .prop_map(|(from, slug, version)| Step::Publish { from, slug, version }),
        3 => (0_u64..10_000).prop_map(|after_ms| Step::Block { after_ms }),
    ]
}

/// A network where everybody pays, works and publishes, with windows of seconds.
fn crowd() -> World {
    let mut genesis = genesis();
    let balance = |who| Allocation { account: account(who), balance: micro(4_000_000) };
    genesis.accounts = (0..PEOPLE).map(balance).collect();
    genesis.treasury = micro(300_000);
    genesis.policy.payment.dispute_window_ms = 5_000;
    genesis.policy.karma.monetization_threshold_milli = 5;
    genesis.policy.payment.holds_per_account_max = 3;
    genesis.policy.election.epoch_ms = 6_000;
    genesis.policy.election.unbonding_ms = 9_000;
    genesis.policy.election.bond_min = micro(400_000);
    genesis.policy.election.stake_min = micro(100);
    genesis.policy.election.seats = 3;
    genesis.policy.election.slash_percent = 70;
    genesis.policy.election.absence_ms = 2_000;
    genesis.validators[0].account = account(0);
    let mut world = World::with(genesis);
    let action = world.publish_action(1, manifest("cargo-9", "1.0.0"));
    world.send(1, action).unwrap();
    world
}

fn who(id: AccountId) -> u8 {
    (0..PEOPLE).find(|w| account(*w) == id).unwrap()
}

/// Signs what a step asks for, honestly: by those whom the hold names.
fn action(world: &World, step: &Step) -> Option<(u8, Action)> {
    let hold = |n: usize| world.state.holds.iter().nth(n);
    Some(match *step {
        Step::Transfer { from, to, amount } => {
            (from, Action::Transfer { to: account(to), amount: micro(amount) })
        }
        Step::Open { from, to, cap, life_ms } => {
            let expires = world.later(life_ms);
            let mut action = world.open_action(to, micro(cap), expires);
            if let (Action::OpenHold { payees, .. }, 0) = (&mut action, cap % 3) {
                payees.push(Payee { account: account(from), cap: micro(cap / 2) });
            }
            (from, action)
        }
        Step::TopUp { from, hold: n, amount } => {
            (from, Action::TopUp { hold: *hold(n)?.0, amount: micro(amount) })
        }
        Step::Redeem { hold: n, lane, nonce, amount } => {
            let (id, hold) = hold(n)?;
            let voucher = world.voucher(*id, lane, nonce, micro(amount));
            let voucher = Voucher { payee: hold.payee, ..voucher };
            let signed = key(who(hold.payer)).seal(world.state.network, voucher).unwrap();
            (who(hold.payee), Action::Redeem { vouchers: vec![signed] })
        }
        Step::Settle { hold: n, sequence, price, verdict, tier, ms } => {
            use HardwareTier::{CpuOnly, Enterprise, Entry, HighEnd, MidRange};
            use Verdict::{Cancelled, CargoFailed, Completed, Failed, Timeout};
            let (id, hold) = hold(n)?;
            let failed = if ms % 2 == 0 { Failed } else { CargoFailed };
            let verdicts = [Completed, Completed, Cancelled, Timeout, failed];
            let receipt = world.receipt(*id, *world.state.cargos.keys().next()?, sequence, ms);
            let receipt = Receipt {
                payer: hold.payer,
                island: hold.payee,
                verdict: verdicts[usize::from(verdict)],
                price: micro(price),
                tier: [CpuOnly, Entry, MidRange, HighEnd, Enterprise][usize::from(tier)],
                ..receipt
            };
            let sign = |account| key(who(account)).sign(world.state.network, &receipt).unwrap();
            let (island, payer) = (sign(hold.payee), sign(hold.payer));
            let receipts = vec![SettledReceipt { island, payer, receipt: receipt.clone() }];
            (who(hold.payee), Action::Settle { receipts })
        }
        Step::Close { from, hold: n } => (from, Action::CloseHold { hold: *hold(n)?.0 }),
        Step::Publish { from, slug, version } => {
            let manifest = manifest(&format!("cargo-{slug}"), &format!("1.0.{version}"));
            (from, world.publish_action(from, manifest))
        }
        Step::Bond { from, amount } => (from, Action::Bond { amount: micro(amount) }),
        Step::Unbond { from, amount } => (from, Action::Unbond { amount: micro(amount) }),
        Step::Candidate { from, stands } => {
            (from, Action::Candidate { node: stands.then_some(NodeId([from; 32])) })
        }
        Step::Approve { from, of } => (from, Action::Approve { candidates: vec![account(of)] }),
        Step::Evidence { from, of } => {
            let vote = |block| {
                let vote = Vote { height: 1, round: 0, step: VoteStep::Prevote, block };
                key(of).seal(world.state.network, vote).unwrap()
            };
            let evidence = Evidence::Votes(vote(None), vote(Some(world.state.last_block)));
            (from, Action::Evidence { evidence: Box::new(evidence) })
        }
        Step::Block { .. } => return None,
    })
}

/// What holds in every state that blocks lead to.
fn check(state: &State) {
    state.check_conservation().unwrap();
    let mut open = std::collections::BTreeMap::new();
    for hold in state.holds.values() {
        assert!(hold.settled <= hold.redeemed && hold.redeemed <= hold.cap);
        let lanes: u64 = hold.lanes.values().map(|l| l.cumulative.micro()).sum();
        assert_eq!(lanes, hold.redeemed.micro(), "lanes add up to what was redeemed");
        *open.entry(hold.payer).or_insert(0) += 1;
    }
    assert!(state.stakes.values().all(|stake| !stake.is_empty()));
    assert!(state.epoch.absent.keys().all(|absent| state.validators.contains(*absent)));
    for (id, account) in &state.accounts {
        assert_eq!(account.holds, open.get(id).copied().unwrap_or(0));
        let slugs = state.slugs.values().filter(|s| s.owner == *id).count();
        assert_eq!(usize::try_from(account.cargos), Ok(slugs));
    }
}

/// Makes a block of `candidates`, and checks that it and only it applies.
fn seal(world: &mut World, after_ms: u64, candidates: Vec<SignedTransaction>) {
    let executed = candidates.len();
    let time = world.later(after_ms);
    let validators: Vec<_> = world.state.validators.iter().map(|v| who(v.account)).collect();
    // Now and then the first ones miss their turns.
    let round = u32::try_from(after_ms % 7).unwrap().saturating_sub(4);
    let turns = world.state.turns();
    let proposer = turns[usize::try_from(round).unwrap() % turns.len()];
    let (block, next, _) =
        world.state.propose(proposer, time, world.last.clone(), candidates).unwrap();
    assert_eq!(block.transactions.len(), executed);
    let applied = world.state.apply(&block).unwrap();
    assert_eq!(applied, next);
    assert_eq!(applied.root(), block.header.state);
    check(&applied);
    assert!(applied.apply(&block).is_err(), "a block was applied twice");
    let block_header = block.header.clone();
    if executed > 0 {
        let mut changed = block;
        changed.transactions[executed - 1].signature = Signature([1; 64]);
        assert!(world.state.apply(&changed).is_err());
        changed.transactions.pop();
        assert!(world.state.apply(&changed).is_err());
    }
    let snapshot = State::from_snapshot(&applied.to_snapshot().unwrap()).unwrap();
    assert_eq!(snapshot, applied);
    let last = super::blocks::certify(&block_header, round, &validators);
    *world = World { state: next, last: Some(last) };
}

/// Plays the steps: each is tried at once on a trial state, and what it takes goes into the next
/// block. The trial stands at the time of the last block, so the blocks are made at that time and
/// an empty one passes the time.
fn play(world: &mut World, steps: &[Step]) -> usize {
    let mut trial = World { state: world.state.clone(), last: None };
    let (mut candidates, mut executed) = (Vec::new(), 0);
    for step in steps {
        if let Step::Block { after_ms } = step {
            seal(world, 0, std::mem::take(&mut candidates));
            seal(world, *after_ms, Vec::new());
            trial.state = world.state.clone();
        } else if let Some((from, action)) = action(&trial, step) {
            let transaction = trial.sign(from, action.clone());
            if trial.send(from, action).is_ok() {
                candidates.push(transaction);
                executed += 1;
            }
            check(&trial.state);
        }
    }
    seal(world, 0, candidates);
    executed
}

/// The random test would prove little if its steps were all refused.
#[test]
fn every_action_is_executed_now_and_then() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut world = crowd();
    let before = world.state.clone();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..800 {
        let step = step().new_tree(&mut runner).unwrap().current();
        if play(&mut world, std::slice::from_ref(&step)) > 0 {
            seen.insert(format!("{step:?}").split(' ').next().unwrap().to_owned());
        }
        if let Step::Block { after_ms } = step {
            seal(&mut world, after_ms, Vec::new());
        }
    }
    let all = [
        "Approve",
        "Bond",
        "Candidate",
        "Close",
        "Evidence",
        "Open",
        "Publish",
        "Redeem",
        "Settle",
        "TopUp",
        "Transfer",
        "Unbond",
    ];
    assert!(seen.iter().eq(all), "only {seen:?} were executed");
    assert_ne!(world.state.treasury, before.treasury);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_they_do_the_ledger_holds(steps in prop::collection::vec(step(), 1..60)) {
        play(&mut crowd(), &steps);
    }
}
