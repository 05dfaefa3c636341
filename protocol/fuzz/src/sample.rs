//! Real values of everything that is decoded, in a small network of one validator.
//!
//! Called by [`crate::seed`] for their bytes and by [`crate::check`] for the network that they
//! belong to.

use archipelag_protocol::{
    advert::{Advert, Hardware, SignedAdvert},
    amount::Credits,
    catalog::{Counters, Entry, Record, State as RecordState},
    codec,
    consensus::{self, Message, NewRound, Polka, RoundVote, Why},
    event::{Event, Usage},
    genesis::{Allocation, Genesis, Publisher, PublisherTier, Validator},
    id::{AccountId, BlockHash, CargoId, ContentId, JobId, NetworkId, NodeId, StateRoot},
    job::{Failure, Offer, Refusal, RefusalKind, Step, ToConsumer, ToIsland},
    ledger::{
        Action, Block, Certificate, Evidence, Handover, Key, Payee, Proposal, Proven,
        SignedTransaction, State, Transaction, Trust, Vote, state::hold_of, transaction,
        tree::Path, vote,
    },
    manifest::{Artifact, Manifest, Platform, Requirements, RuntimeType, SignedManifest},
    payment::{Receipt, SettledReceipt, SignedVoucher, Verdict, Voucher},
    policy::Policy,
    pricing::{HardwareTier, Metering, Price},
    query::{CatalogItem, CertifiedBlock, LedgerStatus, Request, Response},
    sign::SecretKey,
    time::Timestamp,
    trust::TrustLevel,
};
use serde::Serialize;
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

pub const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// The network that samples belong to, and the keys of its accounts.
#[derive(Debug)]
pub struct World {
    pub genesis: Genesis,
    pub network: NetworkId,
    pub trust: Trust,
    pub state: State,
    /// Validator, publisher and Island.
    pub island: SecretKey,
    pub consumer: SecretKey,
}

pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let (island, consumer) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
    let mut policy = Policy::default();
    policy.publishing.open = true;
    policy.election.bond_min = Credits::from_whole(1);
    let allocation = |key: &SecretKey, credits| Allocation {
        account: key.account(),
        balance: Credits::from_whole(credits),
    };
    let genesis = Genesis {
        name: "fuzz".into(),
        created: NOW,
        policy,
        accounts: vec![allocation(&consumer, 1_000), allocation(&island, 5)],
        treasury: Credits::from_whole(100),
        validators: vec![Validator { account: island.account(), node: NodeId([3; 32]) }],
        publishers: vec![Publisher { account: island.account(), tier: PublisherTier::Partner }],
    };
    let network = genesis.network().expect("a genesis of few accounts is short");
    let state = State::genesis(genesis.clone()).expect("the genesis is valid");
    let trust = Trust::genesis(&genesis).expect("the genesis is valid");
    World { genesis, network, trust, state, island, consumer }
});

/// The state in which a hold is open and a Cargo published.
pub static BUSY: LazyLock<State> = LazyLock::new(|| {
    let [opening, .., publish] = &actions()[..4] else { unreachable!("there are more") };
    let begun = [opening.clone(), publish.clone()];
    WORLD.state.propose(WORLD.island.account(), NOW, None, begun).expect("a block").1
});

fn canonical<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode("sample", value).expect("samples have bytes")
}

fn loose<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode_loose("sample", value).expect("samples have bytes")
}

fn manifest(runtime_type: RuntimeType) -> Manifest {
    let artifact = match runtime_type {
        RuntimeType::Wasm => Artifact::Module { hash: ContentId::of(b"wasm"), size_bytes: 4 },
        RuntimeType::Container => Artifact::Image {
            container_image: "registry.example/count".into(),
            image_digest: format!("sha256:{}", ContentId::of(b"image")),
        },
        _ => Artifact::Model {
            uri: "hf://owner/repo:model.onnx".into(),
            sha256: Some(ContentId::of(b"model")),
            task_type: Some("fill-mask".into()),
        },
    };
    Manifest {
        name: "Count".into(),
        slug: "count".into(),
        version: "1.2.3-rc.1".parse().expect("a version"),
        description: "Counts words.".into(),
        runtime_type,
        artifact,
        input_schema: r#"{"type":"object","required":["text"]}"#.into(),
        output_schema: "{}".into(),
        price: Price { per_second: Credits::from_micro(1_000), ..Price::default() },
        requirements: Requirements::default(),
        category: Some("text".into()),
        tags: vec!["count".into(), "words".into()],
        revenue_share_percent: 70,
    }
}

pub fn manifests() -> Vec<Vec<u8>> {
    [RuntimeType::Wasm, RuntimeType::Container, RuntimeType::Onnx]
        .map(|runtime| canonical(&WORLD.island.seal(WORLD.network, manifest(runtime)).unwrap()))
        .into()
}

fn advert() -> SignedAdvert {
    let account = WORLD.island.account();
    let advert = Advert {
        node: NodeId(account.0),
        account,
        sequence: 7,
        issued: NOW,
        name: "island".into(),
        region: "eu".into(),
        platform: Platform::Desktop,
        supported_runtimes: vec![RuntimeType::Wasm, RuntimeType::Llmcpp],
        hardware: Hardware { cpu_cores: 2, ram_mb: 4_096, ..Hardware::default() },
        active_jobs: 1,
        max_jobs: 2,
        asking_percent: 100,
        warm: vec![CargoId([5; 32])],
        addresses: vec![ByteBuf::from([4, 127, 0, 0, 1, 6, 0x1f, 0x90])],
    };
    WORLD.island.seal(WORLD.network, advert).expect("an advert has bytes")
}

pub fn adverts() -> Vec<Vec<u8>> {
    vec![canonical(&advert())]
}

pub fn entry() -> Entry {
    let world = &*WORLD;
    let manifest = world.island.seal(world.network, manifest(RuntimeType::Wasm)).unwrap();
    let record = Record {
        cargo: manifest.value.id().unwrap(),
        publisher: manifest.signer,
        state: RecordState::Published,
        trust_level: TrustLevel::Untrusted,
        height: 3,
    };
    prove(manifest, record)
}

/// An entry in a state that holds nothing but its record.
pub fn prove(manifest: SignedManifest, record: Record) -> Entry {
    let (key, value) = (Key::Cargo(record.cargo).to_bytes(), codec::encode("record", &record));
    let mut leaf = Sha256::new_with_prefix([0]);
    leaf.update(Sha256::digest(key.unwrap()));
    leaf.update(Sha256::digest(value.unwrap()));
    let empty = WORLD.state.propose(WORLD.island.account(), NOW, None, []).expect("a block").0;
    let mut header = empty.header;
    header.state = StateRoot(leaf.finalize().into());
    let certificate = certify(header.height, header.hash().unwrap());
    let path = Path { siblings: Vec::new(), neighbour: None };
    Entry { manifest, record, header, certificate, path }
}

pub fn entries() -> Vec<Vec<u8>> {
    vec![canonical(&entry())]
}

pub fn geneses() -> Vec<Vec<u8>> {
    vec![canonical(&WORLD.genesis)]
}

pub fn snapshots() -> Vec<Vec<u8>> {
    let later = block().1;
    vec![canonical(&WORLD.state), canonical(&later)]
}

fn voucher() -> SignedVoucher {
    let voucher = Voucher {
        hold: hold_of(transaction::id(&opening()).unwrap(), 0),
        payee: WORLD.island.account(),
        lane: 1,
        nonce: 1,
        cumulative: Credits::from_micro(1_000),
        metering_digest: ContentId::of(b"meter"),
        expires: NOW.after_ms(60_000),
    };
    WORLD.consumer.seal(WORLD.network, voucher).unwrap()
}

fn receipt() -> Receipt {
    Receipt {
        job: JobId([8; 16]),
        cargo: entry().record.cargo,
        payer: WORLD.consumer.account(),
        island: WORLD.island.account(),
        hold: voucher().value.hold,
        lane: 1,
        sequence: 0,
        verdict: Verdict::Completed,
        metering: Metering { tokens: 0, duration_ms: 1_000 },
        price: Credits::from_micro(1_000),
        tier: HardwareTier::Entry,
        input: ContentId::of(b"in"),
        output: ContentId::of(b"out"),
        finished: NOW,
    }
}

fn settled() -> SettledReceipt {
    let receipt = receipt();
    SettledReceipt {
        island: WORLD.island.sign(WORLD.network, &receipt).unwrap(),
        payer: WORLD.consumer.sign(WORLD.network, &receipt).unwrap(),
        receipt,
    }
}

pub fn payments() -> Vec<Vec<u8>> {
    let island = WORLD.island.seal(WORLD.network, receipt()).unwrap();
    vec![canonical(&voucher()), canonical(&island), canonical(&settled())]
}

fn act(key: &SecretKey, nonce: u64, action: Action) -> SignedTransaction {
    key.seal(WORLD.network, Transaction { nonce, salt: 0, action }).unwrap()
}

fn opening() -> SignedTransaction {
    let payee = Payee { account: WORLD.island.account(), cap: Credits::from_whole(10) };
    let (expires, dispute_ms) = (NOW.after_ms(3_600_000), 3_600_000);
    act(&WORLD.consumer, 0, Action::OpenHold { payees: vec![payee], expires, dispute_ms })
}

/// Two votes of the Island's where an honest validator has one.
fn evidence() -> Evidence {
    let vote = |block| {
        let vote = Vote { height: 3, round: 1, step: vote::Step::Prevote, block };
        WORLD.island.seal(WORLD.network, vote).unwrap()
    };
    Evidence::Votes(vote(None), vote(Some(BlockHash([1; 32]))))
}

/// Everything that one job brings to the ledger and that an election does, in an order that is
/// valid from genesis on.
pub fn actions() -> Vec<SignedTransaction> {
    let (island, consumer, hold) = (&WORLD.island, &WORLD.consumer, voucher().value.hold);
    let amount = Credits::from_whole(1);
    let manifest = Box::new(entry().manifest);
    vec![
        opening(),
        act(consumer, 1, Action::TopUp { hold, amount }),
        act(consumer, 2, Action::Transfer { to: AccountId([9; 32]), amount }),
        act(island, 0, Action::Publish { manifest }),
        act(island, 1, Action::Redeem { vouchers: vec![voucher()] }),
        act(island, 2, Action::Settle { receipts: vec![settled()] }),
        act(island, 3, Action::CloseHold { hold }),
        act(consumer, 3, Action::Bond { amount: Credits::from_whole(2) }),
        act(consumer, 4, Action::Candidate { node: Some(NodeId([4; 32])) }),
        act(consumer, 5, Action::Approve { candidates: vec![consumer.account()] }),
        act(consumer, 6, Action::Unbond { amount }),
        act(consumer, 7, Action::Evidence { evidence: Box::new(evidence()) }),
    ]
}

pub fn transactions() -> Vec<Vec<u8>> {
    actions().iter().map(canonical).collect()
}

fn block() -> (Block, State) {
    let (block, state, receipts) =
        WORLD.state.propose(WORLD.island.account(), NOW, None, actions()).expect("a block");
    for receipt in receipts {
        assert_eq!(receipt.outcome, Ok(()), "a sample transaction is refused");
    }
    (block, state)
}

pub fn blocks() -> Vec<Vec<u8>> {
    let empty = WORLD.state.propose(WORLD.island.account(), NOW, None, []).expect("a block").0;
    vec![canonical(&empty), canonical(&block().0)]
}

/// The only validator's vote for a block.
pub fn certify(height: u64, block: BlockHash) -> Certificate {
    let mut certificate = Certificate { height, round: 0, block, votes: Vec::new() };
    let vote = WORLD.island.sign(WORLD.network, &certificate.vote()).unwrap();
    certificate.votes.push((WORLD.island.account(), vote));
    certificate
}

fn certified() -> CertifiedBlock {
    let block = block().0;
    let certificate = certify(block.header.height, block.header.hash().unwrap());
    CertifiedBlock { block, certificate }
}

/// Keys of the busy state, with what it has there.
pub fn keys() -> Vec<(Key, Option<ByteBuf>)> {
    let (consumer, state) = (WORLD.consumer.account(), &*BUSY);
    let stranger = AccountId([9; 32]);
    let account = state.accounts.get(&consumer).map(canonical);
    vec![
        (Key::Account(consumer), account.map(ByteBuf::from)),
        (Key::Account(stranger), None),
        (Key::Island(stranger), None),
        (Key::Minted, Some(ByteBuf::from(canonical(&state.minted)))),
        (Key::Validators, Some(ByteBuf::from(canonical(&state.validators)))),
        (Key::Slug("nobody-took-it".into()), None),
    ]
}

fn proven() -> Proven {
    let CertifiedBlock { block: Block { header, .. }, certificate } = certified();
    let proof = block().1.prove(&Key::Treasury).expect("a proof");
    Proven { header, certificate, proof }
}

pub fn proofs() -> Vec<Vec<u8>> {
    keys().iter().map(|(key, _)| canonical(&BUSY.prove(key).expect("a proof"))).collect()
}

pub fn consensus_messages() -> Vec<Vec<u8>> {
    let (key, network) = (&WORLD.island, WORLD.network);
    let (height, round, block) = (1, 2, block().0);
    let hash = block.header.hash().expect("a header has a hash");
    let ballot = Vote { height, round, step: vote::Step::Precommit, block: Some(hash) };
    let signature = key.sign(network, &ballot).expect("a vote has bytes");
    let proposal = Proposal { height, round, block: hash, valid_round: Some(1) };
    let (voter, step) = (key.account(), vote::Step::Prevote);
    let votes = vec![RoundVote { voter, step, block: None, signature }];
    [
        Message::Vote(key.seal(network, ballot).expect("a vote has bytes")),
        Message::Proposal(key.seal(network, proposal).expect("a proposal has bytes")),
        Message::Polka(Polka { height, round, block: hash, votes: vec![(voter, signature)] }),
        Message::NewRound(NewRound { height, round, why: Why::OthersAhead, votes }),
        Message::Block(Box::new(block)),
        Message::WantBlock { height, block: hash },
        Message::Transactions(vec![ByteBuf::from(canonical(&opening()))]),
        Message::Status { height },
        Message::WantDecided { from: height },
        Message::Decided(vec![certified()]),
    ]
    .iter()
    .map(|message| consensus::encode(message).expect("a message is short"))
    .collect()
}

pub fn certificates() -> Vec<Vec<u8>> {
    vec![canonical(&certified().certificate)]
}

pub fn frames_to_island() -> Vec<Vec<u8>> {
    let offer = Offer {
        job: JobId([8; 16]),
        attempt: 0,
        cargo: entry().record.cargo,
        island: WORLD.island.account(),
        hold: voucher().value.hold,
        lane: 1,
        input: ContentId::of(b"in"),
        input_bytes: 2,
        price_max: Credits::from_whole(1),
        issued: NOW,
        started: NOW,
        expires: NOW.after_ms(30_000),
    };
    let offer = WORLD.consumer.seal(WORLD.network, offer).unwrap();
    let settled = ToIsland::Settled { payer: settled().payer, voucher: Some(voucher()) };
    [
        ToIsland::Offer(offer),
        ToIsland::Input(ByteBuf::from(b"in")),
        ToIsland::Voucher(voucher()),
        ToIsland::Cancel,
        settled,
    ]
    .iter()
    .map(loose)
    .collect()
}

pub fn frames_to_consumer() -> Vec<Vec<u8>> {
    let receipt = || WORLD.island.seal(WORLD.network, receipt()).unwrap();
    let failure = Failure::new(Step::Trap, "unreachable");
    [
        ToConsumer::Accepted,
        ToConsumer::Refused(Refusal::new(RefusalKind::Full, "2 of 2 jobs")),
        ToConsumer::Output { sequence: 0, line: r#"{"type":"done"}"#.into() },
        ToConsumer::Alive,
        ToConsumer::Due { price: Credits::from_micro(5) },
        ToConsumer::Finished { receipt: receipt(), reason: None },
        ToConsumer::Finished { receipt: receipt(), reason: Some(failure) },
    ]
    .iter()
    .map(loose)
    .collect()
}

pub fn lines() -> Vec<Vec<u8>> {
    let data = serde_json::value::RawValue::from_string(r#"{"words":[1,-2.5e3,null]}"#.into());
    [
        Event::Status { message: "loading".into() },
        Event::Token { content: "é\n".into() },
        Event::Progress { step: 1, total: 20 },
        Event::Image { data: "aGk=".into(), format: "png".into(), width: 1, height: 1 },
        Event::Result { data: data.expect("JSON") },
        Event::Done { usage: Some(Usage { tokens: Some(3), ..Usage::default() }), seed: Some(42) },
        Event::Done { usage: None, seed: None },
        Event::Error { message: "no".into() },
    ]
    .iter()
    .map(|event| event.to_line().into_bytes())
    .collect()
}

pub fn requests() -> Vec<Vec<u8>> {
    let version = Some("1.0.0".parse().expect("a version"));
    [
        Request::Submit(ByteBuf::from(canonical(&opening()))),
        Request::Slug { slug: "count".into(), version },
        Request::Cargo(entry().record.cargo),
        Request::Catalog { after: Some("count".into()), limit: 10 },
        Request::Status,
        Request::Prove(vec![Key::Account(WORLD.consumer.account()), Key::Minted]),
        Request::Forwarded(Box::new(Request::Status)),
        Request::Blocks { from: 1, limit: 10 },
        Request::Adverts,
        Request::Handovers { after: 7 },
        Request::Snapshot { height: 256, offset: 7 },
        Request::Stakes { after: Some(WORLD.consumer.account()), limit: 10 },
        Request::Entrust(vec![voucher()]),
    ]
    .iter()
    .map(loose)
    .collect()
}

pub fn responses() -> Vec<Vec<u8>> {
    let state = block().1;
    let (_, _, receipts) =
        WORLD.state.propose(WORLD.island.account(), NOW, None, actions().split_off(1)).unwrap();
    let status = LedgerStatus {
        height: state.height,
        state: state.root(),
        time: state.time,
        minted: state.minted,
        treasury: state.treasury,
        accounts: 3,
        holds: 1,
        cargos: 1,
    };
    let item = CatalogItem { entry: entry(), counters: Counters::default() };
    let mut responses: Vec<Response> = receipts.into_iter().map(Response::Submitted).collect();
    responses.extend([
        Response::Proven(vec![proven(), proven()]),
        Response::NoBlock,
        Response::Entrusted(3),
        Response::Snapshot { height: 256, size_bytes: 9, part: ByteBuf::from(vec![1, 2]) },
        Response::Handovers(vec![Handover(proven())]),
        Response::Stakes(state.stakes.iter().map(|(id, stake)| (*id, stake.clone())).collect()),
        Response::Entry(Some(Box::new(entry()))),
        Response::Catalog(vec![item]),
        Response::Status(status),
        Response::Blocks(vec![certified()]),
        Response::Adverts(vec![ByteBuf::from(canonical(&advert()))]),
        Response::Unavailable("no coordinator answers".into()),
    ]);
    responses.iter().map(loose).collect()
}

pub fn texts() -> Vec<Vec<u8>> {
    let hex = WORLD.consumer.account().to_string();
    let job = JobId([8; 16]).to_string();
    [
        "1.2.3",
        "1.0.0-rc.1\n1.0.0-rc.2",
        "0.010001",
        "18446744073709.551615",
        "count-words",
        &hex,
        &job,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
