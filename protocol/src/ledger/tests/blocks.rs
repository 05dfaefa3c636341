//! Blocks, snapshots and the root.

use super::*;
use crate::{
    catalog::Counters,
    codec,
    id::{BlockHash, NetworkId, Signature, StateRoot, ValidatorsId},
    ledger::{
        Block, Certificate, Header,
        block::{Error, transactions_root},
        snapshot,
    },
    limits::MAX_BLOCK_BYTES,
};
use imbl::OrdMap;
use std::sync::Arc;

fn propose(world: &World, candidates: Vec<SignedTransaction>) -> (Block, State) {
    let time = world.later(10);
    let last = world.last.clone();
    let (block, next, _) = world.state.propose(account(VALIDATOR), time, last, candidates).unwrap();
    (block, next)
}

/// Why a block is final when there is one validator.
fn certificate(header: &Header) -> Certificate {
    certify(header, 0, &[VALIDATOR])
}

/// Why a block is final that `voters` decided for in `round`.
pub(super) fn certify(header: &Header, round: u32, voters: &[u8]) -> Certificate {
    let (height, block) = (header.height, header.hash().unwrap());
    let mut certificate = Certificate { height, round, block, votes: Vec::new() };
    for voter in voters {
        let signature = key(*voter).sign(header.network, &certificate.vote()).unwrap();
        certificate.votes.push((account(*voter), signature));
    }
    certificate.votes.sort_by_key(|(voter, _)| *voter);
    certificate
}

fn transfer(nonce: u64, amount: Credits, network: NetworkId) -> SignedTransaction {
    let action = Action::Transfer { to: account(ISLAND), amount };
    key(CONSUMER).seal(network, Transaction { nonce, salt: 0, action }).unwrap()
}

#[test]
fn a_proposed_block_applies_to_the_same_state() {
    let mut world = World::new();
    for height in 1..=3 {
        let network = world.state.network;
        let candidates = vec![
            transfer(height - 1, whole(1), network),
            transfer(height - 1, whole(2), network),
            transfer(height, whole(5_000), network),
        ];
        let ids: Vec<_> = candidates.iter().map(|t| transaction::id(t).unwrap()).collect();
        let time = world.later(5);
        let (block, next, receipts) =
            world.state.propose(account(VALIDATOR), time, world.last, candidates).unwrap();
        assert_eq!(block.transactions.len(), 1);
        assert_eq!(receipts.iter().map(|r| r.transaction).collect::<Vec<_>>(), ids);
        assert!(receipts.iter().all(|r| r.height == height));
        let repeated = Err(Rejected::Nonce { expected: height, found: height - 1 });
        assert_eq!((&receipts[0].outcome, &receipts[1].outcome), (&Ok(()), &repeated));
        assert!(matches!(receipts[2].outcome, Err(Rejected::Funds { .. })));
        assert_eq!(world.state.apply(&block).unwrap(), next);
        assert_eq!(next.root(), block.header.state);
        assert!(next.apply(&block).is_err(), "a block was applied twice");
        world = World { state: next, last: Some(certificate(&block.header)) };
    }
    assert_eq!((world.state.height, world.state.time), (3, Timestamp(1_000_015)));
}

#[test]
fn time_never_goes_back_and_an_empty_block_is_one() {
    let world = World::new();
    let (block, next, _) =
        world.state.propose(account(VALIDATOR), Timestamp(5), None, Vec::new()).unwrap();
    assert_eq!(block.header.time, world.state.time);
    assert_eq!(world.state.apply(&block).unwrap(), next);
    let refused = world.state.propose(account(CONSUMER), world.later(1), None, Vec::new());
    assert!(matches!(refused, Err(Error::Field { field: "proposer", .. })));
}

#[test]
fn a_changed_block_is_refused() {
    let mut world = World::new();
    let (first, next) = propose(&world, Vec::new());
    world = World { state: next, last: Some(certificate(&first.header)) };
    let (network, nonces) = (world.state.network, 0..2);
    let candidates = nonces.map(|nonce| transfer(nonce, whole(1), network)).collect();
    let (block, _) = propose(&world, candidates);
    type Change = fn(&mut Block);
    let fields: [(&str, Change); 11] = [
        ("network", |b| b.header.network = NetworkId([0; 32])),
        ("height", |b| b.header.height += 1),
        ("previous", |b| b.header.previous = BlockHash([0; 32])),
        ("time", |b| b.header.time = Timestamp(b.header.time.0 - 11)),
        ("validators", |b| b.header.validators = ValidatorsId([0; 32])),
        ("proposer", |b| b.header.proposer = account(CONSUMER)),
        ("last", |b| b.header.last = None),
        ("last", |b| b.last = None),
        ("last", |b| (b.last, b.header.last) = (None, None)),
        ("last", |b| {
            let other = Certificate { height: 2, ..b.last.clone().unwrap() };
            (b.header.last, b.last) = (Some(other.id().unwrap()), Some(other));
        }),
        ("state", |b| b.header.state = StateRoot([0; 32])),
    ];
    for (name, change) in fields {
        let mut changed = block.clone();
        change(&mut changed);
        match world.state.apply(&changed) {
            Err(Error::Field { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let lists: [Change; 4] = [
        |b| b.transactions.swap(0, 1),
        |b| b.transactions.truncate(1),
        |b| b.transactions.push(b.transactions[0].clone()),
        |b| b.transactions[1].signature = Signature([0; 64]),
    ];
    for (n, change) in lists.into_iter().enumerate() {
        let mut changed = block.clone();
        change(&mut changed);
        let refused = world.state.apply(&changed);
        assert!(matches!(refused, Err(Error::Field { field: "transactions", .. })), "{n}");
        // A proposer who lies consistently gets no further.
        let ids: Vec<_> =
            changed.transactions.iter().map(|t| transaction::id(t).unwrap()).collect();
        changed.header.transactions = transactions_root(&ids);
        assert!(world.state.apply(&changed).is_err(), "{n}, with its root");
    }
    // Later times make other blocks, valid ones; the certificate is for this block's hash.
    let mut later = block.clone();
    later.header.time = later.header.time.after_ms(1);
    let certificate = certificate(&block.header);
    let verify = |b: &Block| b.header.verify(&certificate, &world.state.validators);
    assert!(verify(&block).is_ok() && verify(&later).is_err());
    assert!(world.state.apply(&block).is_ok());
    // A certificate of the block before with a vote that nobody gave.
    let mut forged = block;
    if let Some(last) = &mut forged.last {
        last.votes[0].1.0[0] ^= 1;
        forged.header.last = Some(last.id().unwrap());
    }
    assert!(matches!(world.state.apply(&forged), Err(Error::Certificate(_))));
}

#[test]
fn a_block_with_a_bad_transaction_is_refused_whole_and_names_it() {
    let world = World::new();
    let network = world.state.network;
    let good = transfer(0, whole(1), network);
    let mut forged = transfer(1, whole(1), network);
    forged.signature = good.signature;
    let poor = transfer(1, whole(5_000), network);
    let empty = Action::Redeem { vouchers: Vec::new() };
    for (bad, reason) in [
        (forged, "the signature is not"),
        (poor, "credits needed"),
        (world.sign(CONSUMER, empty), "0 items"),
    ] {
        let (mut block, _) = propose(&world, vec![good.clone()]);
        block.transactions.push(bad);
        let ids: Vec<_> = block.transactions.iter().map(|t| transaction::id(t).unwrap()).collect();
        block.header.transactions = transactions_root(&ids);
        match world.state.apply(&block) {
            Err(Error::Transaction { height: 1, index: 1, reason: found }) => {
                contains(&found, reason);
            }
            other => panic!("{reason}: {other:?}"),
        }
    }
}

#[test]
fn a_block_is_bounded_in_bytes() {
    let mut world = World::new();
    let hold = world.hold(whole(500));
    let network = world.state.network;
    // Distinct and large; none needs to be valid to be measured.
    let vouchers: Vec<_> =
        (1..=256).map(|n| world.seal(world.voucher(hold, 0, n, micro(n)))).collect();
    let large = |nonce| {
        let action = Action::Redeem { vouchers: vouchers.clone() };
        key(STRANGER).seal(network, Transaction { nonce, salt: 0, action }).unwrap()
    };
    let size = to_bytes(&large(0)).unwrap().len();
    let (mut block, _) = propose(&world, Vec::new());
    let count = u64::try_from(MAX_BLOCK_BYTES / size + 1).unwrap();
    block.transactions = (0..count).map(large).collect();
    match world.state.apply(&block) {
        Err(Error::Field { field: "transactions", reason, .. }) => {
            contains(&reason, "the limit is")
        }
        other => panic!("{other:?}"),
    }
    // The proposer leaves what does not fit for the next block, without a receipt.
    let schema = format!("{{\"title\":\"{}\"}}", "x".repeat(12_000));
    let publish = |nonce: u64| {
        let mut big = manifest("big", &format!("1.0.{nonce}"));
        (big.input_schema, big.output_schema) = (schema.clone(), schema.clone());
        let action = world.publish_action(PUBLISHER, big);
        key(PUBLISHER).seal(network, Transaction { nonce, salt: 0, action }).unwrap()
    };
    let candidates: Vec<_> = (0..190).map(publish).collect();
    let (block, next, receipts) =
        world.state.propose(account(VALIDATOR), world.later(1), None, candidates).unwrap();
    assert!(block.transactions.len() < 190 && block.transactions.len() == receipts.len());
    assert_eq!(world.state.apply(&block).unwrap(), next);
}

fn change_each<K: Ord + Clone, V: Clone>(map: &mut OrdMap<K, V>, change: impl Fn(&mut V)) {
    let keys: Vec<K> = map.keys().cloned().collect();
    for key in keys {
        change(map.get_mut(&key).unwrap());
    }
}

#[test]
fn a_snapshot_is_the_state_and_is_checked() {
    let mut world = World::new();
    let cargo = world.publish();
    let hold = world.hold(whole(10));
    world.send(ISLAND, world.redeem([world.voucher(hold, 3, 1, whole(2))])).unwrap();
    let receipt = Receipt { lane: 3, ..world.receipt(hold, cargo, 0, 5_000) };
    world.send(ISLAND, world.settle([receipt])).unwrap();
    let state = &world.state;
    let bytes = state.to_snapshot().unwrap();
    let back = State::from_snapshot(&bytes).unwrap();
    assert_eq!((&back, back.root()), (state, state.root()));

    type Change = fn(&mut State);
    let rename: Change = |s| {
        change_each(&mut s.cargos, |c| Arc::make_mut(c).manifest.value.name = "X".into());
    };
    let cases: [(&str, Change); 5] = [
        ("network", |s| s.network = NetworkId([0; 32])),
        ("minted", |s| s.treasury = whole(7)),
        ("holds", |s| change_each(&mut s.holds, |h| h.settled = whole(3))),
        ("cargos", rename),
        ("slugs", |s| {
            s.cargos.clear();
            s.counters.clear();
        }),
    ];
    for (name, change) in cases {
        let mut wrong = state.clone();
        change(&mut wrong);
        match State::from_snapshot(&wrong.to_snapshot().unwrap()) {
            Err(snapshot::Error::Field { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let longer = [&bytes[..], &[0]].concat();
    for wrong in [&bytes[..bytes.len() - 1], &longer, &[]] {
        assert!(matches!(State::from_snapshot(wrong), Err(snapshot::Error::Codec(_))));
    }
}

#[test]
fn the_root_is_over_everything_but_the_header() {
    let mut world = World::new();
    world.publish();
    world.hold(whole(10));
    world.set_karma(5);
    let root = world.state.root();
    type Change = fn(&mut State);
    let changes: [Change; 11] = [
        |s| s.treasury = whole(7),
        |s| s.minted = whole(7),
        |s| s.network = NetworkId([0; 32]),
        |s| change_each(&mut s.accounts, |a| a.nonce += 1),
        |s| s.holds.clear(),
        |s| {
            let one = Counters { total_jobs: 1, ..Counters::default() };
            s.counters = s.cargos.keys().map(|id| (*id, one)).collect();
        },
        |s| change_each(&mut s.cargos, |c| Arc::make_mut(c).record.height += 1),
        |s| change_each(&mut s.slugs, |slug| slug.versions.clear()),
        |s| change_each(&mut s.islands, |i| i.remainder += 1),
        |s| change_each(&mut s.stakes, |stake| stake.slashed = true),
        |s| s.epoch.number += 1,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut other = world.state.clone();
        change(&mut other);
        other.rebuild_tree().unwrap();
        assert_ne!(other.root(), root, "change {n} is not in the root");
    }
    let mut header = State {
        height: 9,
        time: Timestamp(u64::MAX),
        last_block: BlockHash([1; 32]),
        ..world.state.clone()
    };
    header.rebuild_tree().unwrap();
    assert_eq!(header.root(), root);
}

#[test]
fn genesis_is_checked_and_mints_what_it_says() {
    let world = World::new();
    assert_eq!(world.state.minted, whole(1_106));
    world.state.check_conservation().unwrap();
    assert_eq!(world.state.accounts[&account(STRANGER)].tier, PublisherTier::Verified);
    let mut broken = world.state;
    broken.treasury = whole(101);
    let sums = broken.check_conservation().unwrap_err();
    assert_eq!((sums.minted, sums.found), (1_106_000_000, 1_107_000_000));
    let mut wrong = genesis();
    wrong.validators.clear();
    assert!(State::genesis(wrong).is_err());
}

#[test]
fn a_credit_from_nowhere_stops_the_chain() {
    let mut world = World::new();
    let (block, _) = propose(&world, Vec::new());
    let honest = world.state.clone();
    let (minted, found) = (1_106_000_000, 1_107_000_000);
    let broken = Error::NotConserved { height: 1, minted, found };
    // A rule of a transaction that made one.
    world.state.gained = 1_000_000;
    assert_eq!(world.state.apply(&block).unwrap_err(), broken);
    let proposed = world.state.propose(account(VALIDATOR), world.later(1), None, Vec::new());
    assert_eq!(proposed.unwrap_err(), broken);
    // Wherever it came from, the end of the epoch finds it.
    let broken_state = State { treasury: whole(101), ..honest };
    let time = broken_state.epoch.ends;
    let proposed = broken_state.propose(account(VALIDATOR), time, None, Vec::new());
    assert_eq!(proposed.unwrap_err(), broken);
}

#[test]
fn a_block_has_one_encoding() {
    let world = World::new();
    let (block, _) = propose(&world, vec![transfer(0, whole(1), world.state.network)]);
    let bytes = codec::encode("block", &block).unwrap();
    assert_eq!(codec::decode("block", MAX_BLOCK_BYTES, &bytes), Ok(block));
}
