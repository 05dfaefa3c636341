//! The exact bytes of everything that is signed or hashed, with fixed keys.
//!
//! A line of `golden.hex` that changes means that old signatures, blocks or networks stop being
//! valid: never accept it in passing. `GOLDEN_WRITE=1` writes the file anew.

use archipelag_protocol::{
    advert::{Advert, Hardware},
    amount::Credits,
    catalog::{Entry, Record, State as Submission},
    codec,
    genesis::{Allocation, Genesis, Publisher, PublisherTier, Validator},
    id::{
        AccountId, BlockHash, CargoId, ContentId, HoldId, JobId, NetworkId, NodeId, StateRoot, TxId,
    },
    job::Offer,
    ledger::{
        Action, Certificate, Evidence, Header, Key, Payee, Proposal, State, Transaction, Vote,
        block::transactions_root,
        transaction,
        tree::{Neighbour, Path},
        vote::Step,
    },
    manifest::{Artifact, Manifest, Platform, Requirements, RuntimeType},
    payment::{Receipt, SettledReceipt, Verdict, Voucher},
    policy::Policy,
    pricing::{HardwareTier, Metering, Price},
    sign::SecretKey,
    time::Timestamp,
    trust::TrustLevel,
};
use serde::Serialize;
use std::fmt::Write;

const NETWORK: NetworkId = NetworkId([0x11; 32]);
const HOLD: HoldId = HoldId([0x22; 32]);
const CARGO: CargoId = CargoId([0x33; 32]);

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn account(seed: u8) -> AccountId {
    key(seed).account()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes<T: Serialize>(value: &T) -> String {
    hex(&codec::encode("golden", value).unwrap())
}

fn genesis() -> Genesis {
    Genesis {
        name: "golden".into(),
        created: Timestamp(1_700_000_000_000),
        policy: Policy::default(),
        accounts: vec![Allocation { account: account(1), balance: Credits::from_whole(1_000) }],
        treasury: Credits::from_whole(100),
        validators: vec![Validator { account: account(2), node: NodeId([0x44; 32]) }],
        publishers: vec![Publisher { account: account(3), tier: PublisherTier::Verified }],
    }
}

fn manifest() -> Manifest {
    Manifest {
        name: "Echo".into(),
        slug: "echo".into(),
        version: "1.2.3-rc.1".parse().unwrap(),
        description: "Says what it hears.".into(),
        runtime_type: RuntimeType::Wasm,
        artifact: Artifact::Module { hash: ContentId([0x55; 32]), size_bytes: 1_000 },
        input_schema: r#"{"type":"object"}"#.into(),
        output_schema: "{}".into(),
        price: Price {
            per_job: Credits::from_micro(10_000),
            per_token: Credits::ZERO,
            per_second: Credits::from_micro(100),
        },
        requirements: Requirements::default(),
        category: Some("text".into()),
        tags: vec!["demo".into()],
        revenue_share_percent: 70,
    }
}

fn voucher() -> Voucher {
    Voucher {
        hold: HOLD,
        payee: account(2),
        lane: 1,
        nonce: 7,
        cumulative: Credits::from_micro(1_234_567),
        metering_digest: ContentId([0x66; 32]),
        expires: Timestamp(1_700_000_100_000),
    }
}

fn receipt() -> Receipt {
    Receipt {
        job: JobId([0x77; 16]),
        cargo: CARGO,
        payer: account(1),
        island: account(2),
        hold: HOLD,
        lane: 1,
        sequence: 9,
        verdict: Verdict::Completed,
        metering: Metering { tokens: 12, duration_ms: 3_456 },
        price: Credits::from_micro(10_346),
        tier: HardwareTier::MidRange,
        input: ContentId([0x88; 32]),
        output: ContentId([0x99; 32]),
        finished: Timestamp(1_700_000_050_000),
    }
}

fn offer() -> Offer {
    Offer {
        job: JobId([0x77; 16]),
        attempt: 1,
        cargo: CARGO,
        island: account(2),
        hold: HOLD,
        lane: 1,
        input: ContentId([0x88; 32]),
        input_bytes: 42,
        price_max: Credits::from_whole(1),
        started: Timestamp(1_699_999_999_000),
        issued: Timestamp(1_700_000_000_000),
        expires: Timestamp(1_700_000_030_000),
    }
}

fn advert() -> Advert {
    Advert {
        node: NodeId([0x44; 32]),
        account: account(2),
        sequence: 1_700_000_000_001,
        issued: Timestamp(1_700_000_000_500),
        name: "isle".into(),
        region: "eu-west".into(),
        platform: Platform::Desktop,
        supported_runtimes: vec![RuntimeType::Wasm, RuntimeType::Container],
        hardware: Hardware {
            tier: HardwareTier::HighEnd,
            cpu_cores: 8,
            ram_mb: 32_768,
            vram_mb: 16_384,
            memory_bandwidth_mbps: 500_000,
        },
        active_jobs: 1,
        max_jobs: 4,
        asking_percent: 100,
        warm: vec![CARGO],
        addresses: vec![serde_bytes::ByteBuf::from(vec![4, 127, 0, 0, 1, 6, 15, 161])],
    }
}

fn actions() -> Vec<(&'static str, Action)> {
    let voucher = key(1).seal(NETWORK, voucher()).unwrap();
    let receipt = receipt();
    let settled = SettledReceipt {
        island: key(2).sign(NETWORK, &receipt).unwrap(),
        payer: key(1).sign(NETWORK, &receipt).unwrap(),
        receipt,
    };
    let manifest = Box::new(key(3).seal(NETWORK, manifest()).unwrap());
    let (cap, expires) = (Credits::from_whole(10), Timestamp(1_700_000_100_000));
    vec![
        ("transfer", Action::Transfer { to: account(2), amount: Credits::from_whole(5) }),
        (
            "open_hold",
            Action::OpenHold {
                payees: vec![Payee { account: account(2), cap }],
                expires,
                dispute_ms: 3_600_000,
            },
        ),
        ("top_up", Action::TopUp { hold: HOLD, amount: Credits::from_whole(1) }),
        ("redeem", Action::Redeem { vouchers: vec![voucher] }),
        ("settle", Action::Settle { receipts: vec![settled] }),
        ("close_hold", Action::CloseHold { hold: HOLD }),
        ("publish", Action::Publish { manifest }),
        ("bond", Action::Bond { amount: Credits::from_whole(1_000) }),
        ("unbond", Action::Unbond { amount: Credits::from_whole(1) }),
        ("candidate", Action::Candidate { node: Some(NodeId([0x44; 32])) }),
        ("stand_down", Action::Candidate { node: None }),
        ("approve", Action::Approve { candidates: vec![account(2)] }),
        ("evidence.votes", Action::Evidence { evidence: Box::new(two_votes()) }),
        ("evidence.proposals", Action::Evidence { evidence: Box::new(two_proposals()) }),
    ]
}

fn two_votes() -> Evidence {
    let vote = |block| {
        let vote = Vote { height: 3, round: 1, step: Step::Prevote, block };
        key(2).seal(NETWORK, vote).unwrap()
    };
    Evidence::Votes(vote(None), vote(Some(BlockHash([0xaa; 32]))))
}

fn two_proposals() -> Evidence {
    let proposal = |valid_round| {
        let proposal = Proposal { height: 3, round: 1, block: BlockHash([0xaa; 32]), valid_round };
        key(2).seal(NETWORK, proposal).unwrap()
    };
    Evidence::Proposals(proposal(None), proposal(Some(0)))
}

fn entry() -> Entry {
    let manifest = key(3).seal(NETWORK, manifest()).unwrap();
    let record = Record {
        cargo: manifest.value.id().unwrap(),
        publisher: account(3),
        state: Submission::Published,
        trust_level: TrustLevel::Basic,
        height: 17,
    };
    let path = Path {
        siblings: vec![ContentId([0xcc; 32])],
        neighbour: Some(Neighbour { key: ContentId([0xdd; 32]), value: ContentId([0xee; 32]) }),
    };
    Entry { manifest, record, header: header(&[]), certificate: certificate(), path }
}

fn header(ids: &[TxId]) -> Header {
    Header {
        network: NETWORK,
        height: 3,
        previous: BlockHash([0xaa; 32]),
        time: Timestamp(1_700_000_060_000),
        validators: genesis().validator_set().unwrap().id().unwrap(),
        proposer: account(2),
        last: Some(certificate().id().unwrap()),
        transactions: transactions_root(ids),
        state: StateRoot([0xbb; 32]),
    }
}

fn certificate() -> Certificate {
    let block = BlockHash([0xaa; 32]);
    let mut certificate = Certificate { height: 2, round: 1, block, votes: Vec::new() };
    let signature = key(2).sign(NETWORK, &certificate.vote()).unwrap();
    certificate.votes.push((account(2), signature));
    certificate
}

/// Name and hex of every golden value.
fn values() -> Vec<(String, String)> {
    let mut values = Vec::new();
    let mut add = |name: &str, hex: String| values.push((name.to_owned(), hex));
    let mut ids = Vec::new();
    for (nonce, (name, action)) in (0..).zip(actions()) {
        let signed = key(1).seal(NETWORK, Transaction { nonce, salt: 0, action }).unwrap();
        let encoded = transaction::to_bytes(&signed).unwrap();
        assert_eq!(transaction::decode(&encoded, NETWORK), Ok(signed.clone()), "{name}");
        ids.push(transaction::id(&signed).unwrap());
        add(&format!("transaction.{name}"), hex(&encoded));
        add(&format!("transaction.{name}.id"), hex(&ids[ids.len() - 1].0));
    }
    let header = header(&ids);
    let block = header.hash().unwrap();
    add("block.header", bytes(&header));
    add("block.hash", hex(&block.0));
    let (height, round, block) = (3, 1, Some(block));
    for (name, step) in [("prevote", Step::Prevote), ("precommit", Step::Precommit)] {
        add(name, bytes(&key(2).seal(NETWORK, Vote { height, round, step, block }).unwrap()));
    }
    let nothing = Vote { height, round, step: Step::Prevote, block: None };
    add("prevote.nothing", bytes(&key(2).seal(NETWORK, nothing).unwrap()));
    for (name, valid_round) in [("proposal", None), ("proposal.again", Some(0))] {
        let proposal = Proposal { height, round, block: BlockHash([0xaa; 32]), valid_round };
        add(name, bytes(&key(2).seal(NETWORK, proposal).unwrap()));
    }
    add("certificate", bytes(&certificate()));
    add("certificate.id", hex(&certificate().id().unwrap().0));
    let validators = genesis().validator_set().unwrap();
    add("validators", bytes(&validators));
    add("validators.id", hex(&validators.id().unwrap().0));
    for (name, key) in [
        ("network", Key::Network),
        ("minted", Key::Minted),
        ("treasury", Key::Treasury),
        ("validators", Key::Validators),
        ("account", Key::Account(account(1))),
        ("hold", Key::Hold(HOLD)),
        ("cargo", Key::Cargo(CargoId([0xcc; 32]))),
        ("counters", Key::Counters(CargoId([0xcc; 32]))),
        ("slug", Key::Slug("echo".into())),
        ("island", Key::Island(account(2))),
        ("stake", Key::Stake(account(2))),
        ("epoch", Key::Epoch),
    ] {
        add(&format!("key.{name}"), hex(&key.to_bytes().unwrap()));
    }
    add("voucher", bytes(&key(1).seal(NETWORK, voucher()).unwrap()));
    add("receipt", bytes(&key(2).seal(NETWORK, receipt()).unwrap()));
    add("offer", bytes(&key(1).seal(NETWORK, offer()).unwrap()));
    add("advert", bytes(&key(2).seal(NETWORK, advert()).unwrap()));
    add("manifest", bytes(&key(3).seal(NETWORK, manifest()).unwrap()));
    add("manifest.id", hex(&manifest().id().unwrap().0));
    add("catalog.entry", hex(&entry().to_bytes().unwrap()));
    let state = State::genesis(genesis()).unwrap();
    add("genesis", hex(&genesis().to_bytes().unwrap()));
    add("genesis.network", hex(&genesis().network().unwrap().0));
    add("genesis.root", hex(&state.root().0));
    add("genesis.snapshot", hex(&state.to_snapshot().unwrap()));
    values
}

#[test]
fn bytes_are_what_they_always_were() {
    let found = values();
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        let text: String = found.iter().map(|(name, hex)| format!("{name} {hex}\n")).collect();
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.hex"), text).unwrap();
        return;
    }
    let expected: Vec<_> =
        include_str!("golden.hex").lines().map(|l| l.split_once(' ').unwrap()).collect();
    for ((name, hex), expected) in found.iter().zip(&expected) {
        assert_eq!((name.as_str(), hex.as_str()), *expected);
    }
    assert_eq!(found.len(), expected.len());
}
