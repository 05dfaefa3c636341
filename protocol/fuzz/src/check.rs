//! What must hold for any bytes, decoder by decoder. Each function says whether the bytes were
//! accepted, and panics where a property is broken.
//!
//! Called by the fuzz targets and by [`crate::seed`]. Random bytes never carry a valid signature,
//! so what is behind signatures is reached by signing a decoded value again with a key of the
//! sample network.

use crate::sample::{self, BUSY, NOW, WORLD};
use archipelag_protocol::{
    advert,
    amount::Credits,
    catalog::Entry,
    codec,
    consensus::{self, MAX_BLOCKS, MAX_TRANSACTIONS, Message},
    event::{self, Event},
    genesis::{Genesis, MAX_VALIDATORS},
    id::{AccountId, CargoId, JobId, NodeId, Signature},
    job::{self, ToConsumer, ToIsland},
    ledger::{
        Action, Block, Certificate, Evidence, Key, Proof, SignedTransaction, State, Transaction,
        transaction,
    },
    limits::{
        MAX_ADVERT_BYTES, MAX_BATCH, MAX_BLOCK_BYTES, MAX_CHUNK_BYTES, MAX_ENTRY_BYTES,
        MAX_FRAME_BYTES, MAX_JSON_DEPTH, MAX_MANIFEST_BYTES, MAX_PAGE, MAX_QUERY_BYTES,
        MAX_REASON_BYTES, MAX_TRANSACTION_BYTES,
    },
    manifest::{self, SignedManifest, Version, check_slug},
    payment::{IslandReceipt, SettledReceipt, SignedVoucher},
    pricing,
    query::{self, Request, Response},
    sign::SecretKey,
    trust::TrustLevel,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{cmp::Ordering, fmt::Display, str::FromStr};

/// Decodes canonical bytes, which must be the only ones for their value.
fn canonical<T: Serialize + DeserializeOwned>(limit: usize, bytes: &[u8]) -> Option<T> {
    let value = codec::decode("fuzz", limit, bytes).ok()?;
    assert_eq!(codec::encode("fuzz", &value).as_deref(), Ok(bytes));
    Some(value)
}

/// What loose bytes decode to has bytes that decode to the same.
fn assert_stable<T: Serialize + DeserializeOwned>(value: &T) {
    let first = codec::encode_loose("fuzz", value).expect("decoded values have bytes");
    let again: T = codec::decode_loose("fuzz", first.len(), &first).expect("its own bytes");
    assert_eq!(codec::encode_loose("fuzz", &again), Ok(first));
}

pub fn event_line(bytes: &[u8]) -> bool {
    let Ok(event) = Event::parse(bytes) else { return false };
    let line = event.to_line();
    assert!(event::depth(&line) <= MAX_JSON_DEPTH);
    assert!(!line.contains(['\n', '\r']), "an event is one line");
    let again = Event::parse(line.as_bytes()).expect("a printed event is an event");
    assert_eq!(again.to_line(), line);
    assert_eq!(again.is_last(), event.is_last());
    if let Event::Error { message } = event {
        assert!(message.len() <= MAX_REASON_BYTES);
    }
    true
}

pub fn manifest(bytes: &[u8]) -> bool {
    let Some(signed) = canonical::<SignedManifest>(MAX_MANIFEST_BYTES, bytes) else { return false };
    let (world, payout) = (&*WORLD, &WORLD.genesis.policy.payout);
    let label = signed.value.label();
    if signed.value.validate(payout).is_ok() {
        let id = signed.value.id().expect("a valid manifest has an id");
        let (slug, version) = label.split_once('@').expect("a label has both");
        assert_eq!(version.parse(), Ok(signed.value.version.clone()));
        check_slug(slug).expect("the slug was checked");
        let sealed = world.island.seal(world.network, signed.value.clone()).expect("it has bytes");
        assert_eq!(manifest::verify(&sealed, world.network, payout), Ok(id));
    }
    manifest::verify(&signed, world.network, payout).is_ok()
}

pub fn advert(bytes: &[u8]) -> bool {
    let (world, policy) = (&*WORLD, &WORLD.genesis.policy.advert);
    let decode = |bytes: &[u8]| advert::decode(bytes, world.network, policy, NOW);
    let Some(signed) = canonical::<advert::SignedAdvert>(MAX_ADVERT_BYTES, bytes) else {
        assert!(decode(bytes).is_err());
        return false;
    };
    let mut value = signed.value;
    if value.validate().is_ok() && value.check_age(NOW, policy).is_ok() {
        assert!(value.active_jobs <= value.max_jobs);
        value.node = NodeId(world.island.account().0);
        let sealed = world.island.seal(world.network, value).expect("it has bytes");
        let bytes = codec::encode("advert", &sealed).expect("it has bytes");
        if bytes.len() <= MAX_ADVERT_BYTES {
            assert_eq!(decode(&bytes), Ok(sealed));
        }
    }
    decode(bytes).is_ok()
}

pub fn catalog_entry(bytes: &[u8]) -> bool {
    let world = &*WORLD;
    let decode = |bytes: &[u8]| Entry::decode(bytes, &world.trust, &world.genesis.policy.payout);
    let Some(mut entry) = canonical::<Entry>(MAX_ENTRY_BYTES, bytes) else {
        assert!(decode(bytes).is_err());
        return false;
    };
    assert_eq!(entry.to_bytes().as_deref(), Ok(bytes));
    if entry.manifest.value.validate(&world.genesis.policy.payout).is_ok() {
        let (key, network) = (&world.island, world.network);
        entry.manifest = key.seal(network, entry.manifest.value).expect("it has bytes");
        entry.record.cargo = entry.manifest.value.id().expect("it is valid");
        entry.record.publisher = key.account();
        entry = sample::prove(entry.manifest, entry.record);
        if let Ok(bytes) = entry.to_bytes() {
            assert_eq!(decode(&bytes), Ok(entry));
        }
    }
    decode(bytes).is_ok()
}

pub fn genesis(bytes: &[u8]) -> bool {
    let Ok(genesis) = Genesis::decode(bytes) else { return false };
    assert_eq!(genesis.to_bytes().as_deref(), Ok(bytes));
    let validators = genesis.validator_set().expect("a genesis that decodes has some");
    assert!((1..=genesis.validators.len()).contains(&validators.quorum()));
    let network = genesis.network().expect("it has bytes");
    let state = State::genesis(genesis).expect("a genesis that decodes begins a network");
    assert_eq!(state.network, network);
    assert_eq!(state.check_conservation(), Ok(()));
    true
}

pub fn snapshot(bytes: &[u8]) -> bool {
    let Ok(state) = State::from_snapshot(bytes) else { return false };
    assert_eq!(state.to_snapshot().as_deref(), Ok(bytes));
    advance(&state, []);
    true
}

pub fn job_to_island(bytes: &[u8]) -> bool {
    let Ok(frame) = job::decode_to_island(bytes) else { return false };
    assert!(bytes.len() <= MAX_FRAME_BYTES);
    assert_stable(&frame);
    match &frame {
        ToIsland::Input(chunk) => assert!(chunk.len() <= MAX_CHUNK_BYTES),
        ToIsland::Offer(offer) => drop(offer.verify(WORLD.network)),
        ToIsland::Voucher(voucher) => drop(voucher.verify(WORLD.network)),
        ToIsland::Cancel | ToIsland::Settled { .. } => {}
    }
    true
}

pub fn job_to_consumer(bytes: &[u8]) -> bool {
    let Ok(frame) = job::decode_to_consumer(bytes) else { return false };
    assert!(bytes.len() <= MAX_FRAME_BYTES);
    assert_stable(&frame);
    match &frame {
        ToConsumer::Refused(refusal) => assert!(refusal.message.len() <= MAX_REASON_BYTES),
        ToConsumer::Output { line, .. } => drop(Event::parse(line.as_bytes())),
        ToConsumer::Finished { receipt, reason } => {
            drop(receipt.verify(WORLD.network));
            assert!(reason.as_ref().is_none_or(|r| r.message.len() <= MAX_REASON_BYTES));
        }
        ToConsumer::Accepted | ToConsumer::Alive | ToConsumer::Due { .. } => {}
    }
    true
}

pub fn transaction(bytes: &[u8]) -> bool {
    let world = &*WORLD;
    let limit = MAX_TRANSACTION_BYTES;
    let Some(signed) = canonical::<SignedTransaction>(limit, bytes) else {
        assert!(transaction::decode(bytes, world.network).is_err());
        return false;
    };
    assert_eq!(transaction::to_bytes(&signed).as_deref(), Ok(bytes));
    for key in [&world.consumer, &world.island] {
        try_in(&BUSY, key, signed.value.clone());
    }
    transaction::decode(bytes, world.network).is_ok()
}

/// Signs what is in `transaction` again and brings it to the ledger.
fn try_in(state: &State, key: &SecretKey, mut transaction: Transaction) {
    let (network, payer, payee) = (WORLD.network, &WORLD.consumer, &WORLD.island);
    transaction.nonce = state.accounts[&key.account()].nonce;
    match &mut transaction.action {
        Action::Redeem { vouchers } => {
            vouchers.truncate(4);
            for voucher in vouchers {
                *voucher = payer.seal(network, voucher.value.clone()).expect("it has bytes");
            }
        }
        Action::Settle { receipts } => {
            receipts.truncate(4);
            for settled in receipts {
                settled.payer = payer.sign(network, &settled.receipt).expect("it has bytes");
                settled.island = payee.sign(network, &settled.receipt).expect("it has bytes");
            }
        }
        Action::Publish { manifest } => {
            **manifest = key.seal(network, manifest.value.clone()).expect("it has bytes");
        }
        Action::Evidence { evidence } => match evidence.as_mut() {
            Evidence::Votes(one, other) => {
                *one = payee.seal(network, one.value.clone()).expect("it has bytes");
                *other = payee.seal(network, other.value.clone()).expect("it has bytes");
            }
            Evidence::Proposals(one, other) => {
                *one = payee.seal(network, one.value.clone()).expect("it has bytes");
                *other = payee.seal(network, other.value.clone()).expect("it has bytes");
            }
        },
        _ => {}
    }
    let sealed = key.seal(network, transaction).expect("it has bytes");
    let Ok(bytes) = transaction::to_bytes(&sealed) else { return };
    if let Ok(decoded) = transaction::decode(&bytes, network) {
        assert_eq!(decoded, sealed);
        advance(state, [decoded]);
    }
}

/// A block that a coordinator proposes is one that the others apply, to the same state.
fn advance<const N: usize>(state: &State, transactions: [SignedTransaction; N]) {
    let proposer = state.genesis.validators[0].account;
    let last = (state.height > 0).then(|| sample::certify(state.height, state.last_block));
    // The state may stand at the last height or time that there is, or be other validators'.
    let Ok((block, next, _)) = state.propose(proposer, NOW, last, transactions) else {
        let own = (&WORLD.state.validators, WORLD.network);
        let is_ours =
            (&state.last_validators, state.network) == own && state.validators.contains(proposer);
        assert!(state.height == u64::MAX || !is_ours, "no block can follow");
        return;
    };
    assert_eq!(next.check_conservation(), Ok(()));
    assert_eq!(state.apply(&block).as_ref(), Ok(&next));
}

pub fn block(bytes: &[u8]) -> bool {
    let Some(block) = canonical::<Block>(MAX_BLOCK_BYTES, bytes) else { return false };
    block.header.hash().expect("a header has bytes");
    match WORLD.state.apply(&block) {
        Ok(next) => {
            assert_eq!(next.check_conservation(), Ok(()));
            assert_eq!(next.height, WORLD.state.height + 1);
            assert_eq!(next.root(), block.header.state);
            true
        }
        Err(_) => false,
    }
}

pub fn certificate(bytes: &[u8]) -> bool {
    let Some(mut certificate) = canonical::<Certificate>(MAX_QUERY_BYTES, bytes) else {
        return false;
    };
    let (world, proposer) = (&*WORLD, WORLD.island.account());
    let (block, ..) = world.state.propose(proposer, NOW, None, []).expect("a block");
    let header = &block.header;
    let verify = |c: &Certificate| header.verify(c, &world.state.validators);
    assert!(verify(&certificate).is_err(), "no sample is for this block");
    // With the validator's vote and no other it counts, in whatever round.
    (certificate.height, certificate.block) = (1, header.hash().expect("it has bytes"));
    certificate.votes.retain(|(voter, _)| *voter != proposer);
    let vote = world.island.sign(world.network, &certificate.vote()).expect("it has bytes");
    assert!(verify(&certificate).is_err(), "nobody who counts has voted");
    certificate.votes = vec![(proposer, vote)];
    assert_eq!(verify(&certificate), Ok(()));
    certificate.votes.push((proposer, vote));
    assert!(verify(&certificate).is_err(), "a vote counted twice");
    true
}

pub fn consensus_message(bytes: &[u8]) -> bool {
    let Ok(message) = consensus::decode(bytes) else { return false };
    assert_stable(&message);
    match &message {
        Message::Polka(polka) => assert!(polka.votes.len() <= MAX_VALIDATORS),
        Message::NewRound(new) => assert!(new.votes.len() <= MAX_VALIDATORS),
        Message::Decided(blocks) => assert!(blocks.len() <= MAX_BLOCKS),
        Message::Vote(vote) => drop(vote.verify(WORLD.network)),
        Message::Proposal(proposal) => drop(proposal.verify(WORLD.network)),
        Message::Transactions(list) => assert!(list.len() <= MAX_TRANSACTIONS),
        Message::Block(_)
        | Message::WantBlock { .. }
        | Message::Status { .. }
        | Message::WantDecided { .. } => {}
    }
    true
}

/// No proof shows anything that the state does not say.
pub fn proof(bytes: &[u8]) -> bool {
    let Some(proof) = canonical::<Proof>(MAX_QUERY_BYTES, bytes) else { return false };
    let (state, root) = (&*BUSY, BUSY.root());
    let mut proves = false;
    for (key, value) in sample::keys() {
        let own = state.prove(&key).expect("every key has a proof");
        assert_eq!(own.value, value, "{key:?}");
        if proof
            .path
            .verify(
                root,
                &key.to_bytes().expect("a key"),
                proof.value.as_ref().map(|v| v.as_slice()),
            )
            .is_ok()
        {
            assert_eq!(proof.value, value, "{key:?}");
            proves = true;
        }
    }
    proves
}

pub fn payment(bytes: &[u8]) -> bool {
    let (world, network) = (&*WORLD, WORLD.network);
    let limit = MAX_TRANSACTION_BYTES;
    if let Some(signed) = canonical::<SignedVoucher>(limit, bytes) {
        let sealed = world.consumer.seal(network, signed.value.clone()).expect("it has bytes");
        assert!(sealed.verify(network).is_ok());
        return signed.verify(network).is_ok();
    }
    if let Some(signed) = canonical::<IslandReceipt>(limit, bytes) {
        let (receipt, policy) = (&signed.value, &world.genesis.policy.payout);
        let (price, treasury) = (receipt.price, world.genesis.treasury);
        let split = pricing::split(policy, price, 80, receipt.tier, true, treasury);
        let sum = |parts: &[Credits]| parts.iter().map(|c| u128::from(c.micro())).sum::<u128>();
        assert_eq!(
            sum(&[split.island, split.publisher, split.to_treasury]),
            sum(&[price, split.from_treasury])
        );
        return signed.verify(network).is_ok();
    }
    canonical::<SettledReceipt>(limit, bytes).is_some()
}

pub fn query_request(bytes: &[u8]) -> bool {
    let Ok(request) = query::decode_request(bytes) else { return false };
    assert!(bytes.len() <= MAX_QUERY_BYTES);
    assert_stable(&request);
    match &request {
        Request::Catalog { limit, .. }
        | Request::Blocks { limit, .. }
        | Request::Stakes { limit, .. } => {
            assert!(usize::from(*limit) <= MAX_PAGE);
        }
        Request::Submit(bytes) => drop(transaction::decode(bytes, WORLD.network)),
        Request::Entrust(vouchers) => {
            assert!(vouchers.len() <= MAX_BATCH);
            assert!(WORLD.state.redeemable(WORLD.state.time, vouchers).len() <= vouchers.len());
        }
        _ => {}
    }
    true
}

pub fn query_response(bytes: &[u8]) -> bool {
    let (world, policy) = (&*WORLD, &WORLD.genesis.policy.advert);
    let payout = &world.genesis.policy.payout;
    let Ok(response) = query::decode_response(bytes) else { return false };
    assert!(bytes.len() <= MAX_QUERY_BYTES);
    assert_stable(&response);
    match &response {
        Response::Entry(Some(entry)) => drop(entry.verify(&world.trust, payout)),
        Response::Catalog(items) => {
            for item in items {
                let counters = &item.counters;
                assert!(counters.avg_execution_time_ms() <= counters.execution_ms);
                drop(item.entry.verify(&world.trust, payout));
            }
        }
        Response::Blocks(blocks) => {
            for certified in blocks {
                let (block, certificate) = (&certified.block, &certified.certificate);
                drop(world.trust.check(&block.header, certificate));
                drop(world.state.apply(block));
            }
        }
        Response::Proven(list) => {
            for proven in list {
                drop(proven.verify::<Credits>(&world.trust, &Key::Treasury));
            }
        }
        Response::Handovers(handovers) => {
            let mut trust = world.trust.clone();
            for handover in handovers {
                let before = trust.height();
                match trust.follow(handover) {
                    Ok(()) => assert!(trust.height() > before),
                    Err(_) => assert_eq!(trust.height(), before),
                }
            }
        }
        Response::Adverts(adverts) => {
            for bytes in adverts {
                drop(advert::decode(bytes, world.network, policy, NOW));
            }
        }
        _ => {}
    }
    true
}

/// What parses prints as a text that parses to the same value.
fn text_of<T: FromStr + Display + PartialEq>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    assert!(value.to_string().parse().is_ok_and(|again: T| again == value), "{text:?}");
    Some(value)
}

pub fn text(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let (first, second) = text.split_once('\n').unwrap_or((text, text));
    let versions = (text_of::<Version>(first), text_of::<Version>(second));
    if let (Some(a), Some(b)) = &versions {
        assert_eq!(a.cmp(b), b.cmp(a).reverse());
        assert_eq!(a.cmp(b) == Ordering::Equal, a == b);
        assert_eq!(a.to_string(), first);
    }
    let amount = text_of::<Credits>(first).is_some();
    let account = text_of::<AccountId>(first).is_some();
    let job = text_of::<JobId>(first).is_some();
    let signature = text_of::<Signature>(first).is_some();
    assert_eq!(account, text_of::<CargoId>(first).is_some());
    for byte in bytes {
        assert_eq!(TrustLevel::try_from(*byte).is_ok(), *byte <= 3);
    }
    let cut = event::bounded(text.to_owned());
    assert!(cut.len() <= MAX_REASON_BYTES && text.starts_with(&cut));
    let slug = check_slug(first).is_ok();
    versions.0.is_some() || amount || account || job || signature || slug
}
