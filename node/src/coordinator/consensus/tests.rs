//! The engine of one of four, fed by hand.

use super::*;
use crate::coordinator::engine::Submission;
use archipelag_protocol::{
    amount::Credits,
    genesis::{Allocation, Genesis, Validator},
    id::{AccountId, ContentId, HoldId},
    ledger::{Action, Payee, SignedTransaction, Transaction, state::hold_of, transaction},
    payment::{SignedVoucher, Voucher},
    policy::Policy,
    query::CertifiedBlock,
};

const START: Timestamp = Timestamp(1_000);

fn key(index: u8) -> SecretKey {
    SecretKey::from_seed([100 + index; 32])
}

fn user(index: u8) -> SecretKey {
    SecretKey::from_seed([1 + index; 32])
}

fn node(index: u8) -> NodeId {
    NodeId([index; 32])
}

fn genesis() -> State {
    let account = |index| user(index).account();
    let validator = |index| Validator { account: key(index).account(), node: node(index) };
    let balance = Credits::from_whole(10);
    let genesis = Genesis {
        name: "test".into(),
        created: START,
        policy: Policy::default(),
        accounts: (0..3).map(|i| Allocation { account: account(i), balance }).collect(),
        treasury: Credits::ZERO,
        validators: (0..4).map(validator).collect(),
        publishers: Vec::new(),
    };
    State::genesis(genesis).unwrap()
}

/// A block that all four decided, and the state after it.
fn block(
    state: &State,
    last: Option<Certificate>,
    batch: &[Submission],
) -> (CertifiedBlock, State) {
    let proposer = *state.turns().first().unwrap();
    let transactions = batch.iter().map(|submission| submission.transaction.clone());
    let now = state.time.after_ms(100);
    let (block, next, receipts) = state.propose(proposer, now, last, transactions).unwrap();
    assert!(receipts.iter().all(|receipt| receipt.outcome.is_ok()), "{receipts:?}");
    let (height, hash) = (block.header.height, block.header.hash().unwrap());
    let mut certificate = Certificate { height, round: 0, block: hash, votes: Vec::new() };
    let vote = certificate.vote();
    let sign = |index| (key(index).account(), key(index).sign(state.network, &vote).unwrap());
    certificate.votes = (0..4).map(sign).collect();
    certificate.votes.sort_by_key(|(voter, _)| *voter);
    (CertifiedBlock { block, certificate }, next)
}

fn submission(state: &State, from: u8, action: Action) -> Submission {
    let nonce = state.accounts.get(&user(from).account()).map_or(0, |account| account.nonce);
    let transaction: SignedTransaction =
        user(from).seal(state.network, Transaction { nonce, salt: 0, action }).unwrap();
    let (id, bytes) = (transaction::id(&transaction), transaction::to_bytes(&transaction));
    Submission { id: id.unwrap(), transaction, bytes: bytes.unwrap().into() }
}

fn voucher(state: &State, hold: HoldId, payee: AccountId) -> SignedVoucher {
    let voucher = Voucher {
        hold,
        payee,
        lane: 0,
        nonce: 1,
        cumulative: Credits::from_micro(5),
        metering_digest: ContentId([0; 32]),
        expires: Timestamp(u64::MAX),
    };
    user(0).seal(state.network, voucher).unwrap()
}

/// One who proposes neither the first block after `states` nor any other of them.
fn listener(states: &[&State]) -> u8 {
    let proposes = |index: u8| states.iter().any(|s| s.turns()[0] == key(index).account());
    (0..4).find(|index| !proposes(*index)).unwrap()
}

/// Whoever waits for a block that nobody has anything for takes its proposer for absent.
#[test]
fn what_the_next_block_can_not_have_begins_none() {
    let first = genesis();
    let payees = vec![Payee { account: user(1).account(), cap: Credits::from_micro(10) }];
    let dispute_ms = Policy::default().payment.dispute_window_ms;
    let open = Action::OpenHold { payees, expires: START.after_ms(dispute_ms), dispute_ms };
    let open = submission(&first, 0, open);
    let (opened, second) = block(&first, None, std::slice::from_ref(&open));

    // Two who redeem one voucher: each may, until the other has.
    let voucher = voucher(&second, hold_of(open.id, 0), user(1).account());
    let redeem =
        |from| submission(&second, from, Action::Redeem { vouchers: vec![voucher.clone()] });
    let (ours, theirs) = (redeem(1), redeem(2));
    let last = Some(opened.certificate);
    let (redeemed, third) = block(&second, last.clone(), std::slice::from_ref(&theirs));

    let me = listener(&[&second, &third]);
    let state = Arc::new(second.clone());
    let mut engine = Consensus::new(key(me), Some(node(me)), state, last, Vec::new(), true);
    let now = third.time;
    let refused = |outputs: &[Output]| -> Vec<_> {
        let refused = outputs.iter().filter_map(|output| match output {
            Output::Refused { transaction, .. } => Some(*transaction),
            _ => None,
        });
        refused.collect()
    };
    let outputs = engine.on(now, Input::Transaction(ours.clone())).unwrap();
    assert_eq!(refused(&outputs), []);
    let outputs = engine.on(now, Input::Decided(vec![redeemed])).unwrap();
    assert_eq!((refused(&outputs), engine.pending()), (Vec::new(), 1));
    let outputs = engine.tick(now).unwrap();
    assert_eq!((refused(&outputs), engine.pending()), (vec![ours.id], 0));
    assert!(!engine.io.running && engine.deadline() > Some(now));

    // What it can have does.
    let to = user(2).account();
    let transfer = Action::Transfer { to, amount: Credits::from_micro(1) };
    engine.on(now, Input::Transaction(submission(&third, 0, transfer))).unwrap();
    engine.tick(now).unwrap();
    assert!(engine.io.running);
}
