//! The ledger's rules, as accounts of a small network meet them.

mod blocks;
mod cargos;
mod elections;
mod holds;
mod random;
mod receipts;

use super::{
    Action, Payee, Rejected, SignedTransaction, State, Transaction,
    transaction::{self, decode, to_bytes},
};
use crate::{
    amount::Credits,
    genesis::{Allocation, Genesis, Publisher, PublisherTier, Validator},
    id::{AccountId, CargoId, ContentId, HoldId, JobId, NodeId, TxId},
    manifest::{Artifact, Manifest, Requirements, RuntimeType},
    payment::{Receipt, SettledReceipt, SignedVoucher, Verdict, Voucher},
    policy::Policy,
    pricing::{HardwareTier, Metering, Price},
    sign::SecretKey,
    time::Timestamp,
};

/// Who is who. Only the Island has nothing at the start.
const VALIDATOR: u8 = 0;
const CONSUMER: u8 = 1;
const ISLAND: u8 = 2;
const PUBLISHER: u8 = 3;
const STRANGER: u8 = 4;

fn key(who: u8) -> SecretKey {
    SecretKey::from_seed([who + 1; 32])
}

fn account(who: u8) -> AccountId {
    key(who).account()
}

fn micro(amount: u64) -> Credits {
    Credits::from_micro(amount)
}

fn whole(amount: u64) -> Credits {
    Credits::from_whole(amount)
}

fn genesis() -> Genesis {
    let mut policy = Policy::default();
    policy.publishing.open = true;
    let balance = |who, credits| Allocation { account: account(who), balance: whole(credits) };
    Genesis {
        name: "test".into(),
        created: Timestamp(1_000_000),
        policy,
        accounts: vec![balance(CONSUMER, 1_000), balance(PUBLISHER, 1), balance(STRANGER, 5)],
        treasury: whole(100),
        validators: vec![Validator { account: account(VALIDATOR), node: NodeId([9; 32]) }],
        publishers: vec![Publisher { account: account(STRANGER), tier: PublisherTier::Verified }],
    }
}

fn manifest(slug: &str, version: &str) -> Manifest {
    Manifest {
        name: "Echo".into(),
        slug: slug.into(),
        version: version.parse().unwrap(),
        description: "Says what it hears.".into(),
        runtime_type: RuntimeType::Wasm,
        artifact: Artifact::Module { hash: ContentId([5; 32]), size_bytes: 1_000 },
        input_schema: "{}".into(),
        output_schema: "{}".into(),
        price: Price { per_job: whole(1), per_token: Credits::ZERO, per_second: micro(100) },
        requirements: Requirements::default(),
        category: None,
        tags: Vec::new(),
        revenue_share_percent: 70,
    }
}

/// A ledger and the means to act on it.
struct World {
    state: State,
    /// Why its last block is final.
    last: Option<super::Certificate>,
}

impl World {
    fn new() -> Self {
        Self::with(genesis())
    }

    fn with(genesis: Genesis) -> Self {
        Self { state: State::genesis(genesis).unwrap(), last: None }
    }

    fn sign(&self, who: u8, action: Action) -> SignedTransaction {
        let nonce = self.state.accounts.get(&account(who)).map_or(0, |a| a.nonce);
        key(who).seal(self.state.network, Transaction { nonce, salt: 0, action }).unwrap()
    }

    /// Sends an action through the decoder. What is refused must change nothing, and credits are
    /// conserved either way.
    fn send(&mut self, who: u8, action: Action) -> Result<TxId, Rejected> {
        let bytes = to_bytes(&self.sign(who, action)).unwrap();
        let transaction = decode(&bytes, self.state.network)?;
        let id = transaction::id(&transaction).unwrap();
        let before = self.state.clone();
        let outcome = self.state.execute(&transaction, id);
        self.state.check_conservation().unwrap();
        self.state.update_tree().unwrap();
        if outcome.is_err() {
            assert_eq!(self.state, before, "a refused transaction changed the state");
        }
        outcome.map(|()| id)
    }

    /// The refusal's text; panics when the action was allowed.
    fn refused(&mut self, who: u8, action: Action) -> String {
        self.send(who, action).expect_err("it was allowed").to_string()
    }

    fn balance(&self, who: u8) -> Credits {
        self.state.accounts.get(&account(who)).map_or(Credits::ZERO, |a| a.balance)
    }

    fn later(&self, ms: u64) -> Timestamp {
        self.state.time.after_ms(ms)
    }

    fn pass(&mut self, ms: u64) {
        self.state.time = self.later(ms);
    }

    /// Opens a hold of the Consumer for the Island.
    fn hold(&mut self, cap: Credits) -> HoldId {
        let expires = self.later(1_000_000);
        let action = self.open_action(ISLAND, cap, expires);
        super::state::hold_of(self.send(CONSUMER, action).unwrap(), 0)
    }

    fn open_action(&self, payee: u8, cap: Credits, expires: Timestamp) -> Action {
        let dispute_ms = self.state.genesis.policy.payment.dispute_window_ms;
        let payees = vec![Payee { account: account(payee), cap }];
        Action::OpenHold { payees, expires, dispute_ms }
    }

    fn publish(&mut self) -> CargoId {
        let manifest = manifest("echo", "1.0.0");
        let id = manifest.id().unwrap();
        self.send(PUBLISHER, self.publish_action(PUBLISHER, manifest)).unwrap();
        id
    }

    fn publish_action(&self, who: u8, manifest: Manifest) -> Action {
        let manifest = key(who).seal(self.state.network, manifest).unwrap();
        Action::Publish { manifest: Box::new(manifest) }
    }

    fn voucher(&self, hold: HoldId, lane: u16, nonce: u64, cumulative: Credits) -> Voucher {
        let (payee, expires) = (account(ISLAND), self.later(500_000));
        let metering_digest = ContentId([3; 32]);
        Voucher { hold, payee, lane, nonce, cumulative, metering_digest, expires }
    }

    fn seal(&self, voucher: Voucher) -> SignedVoucher {
        key(CONSUMER).seal(self.state.network, voucher).unwrap()
    }

    fn redeem(&self, vouchers: impl IntoIterator<Item = Voucher>) -> Action {
        Action::Redeem { vouchers: vouchers.into_iter().map(|v| self.seal(v)).collect() }
    }

    /// A receipt of a completed job of `ms` on entry hardware.
    fn receipt(&self, hold: HoldId, cargo: CargoId, sequence: u64, ms: u64) -> Receipt {
        Receipt {
            job: JobId([7; 16]),
            cargo,
            payer: account(CONSUMER),
            island: account(ISLAND),
            hold,
            lane: 0,
            sequence,
            verdict: Verdict::Completed,
            metering: Metering { tokens: 0, duration_ms: ms },
            price: whole(1),
            tier: HardwareTier::Entry,
            input: ContentId([1; 32]),
            output: ContentId([2; 32]),
            finished: self.state.time,
        }
    }

    fn settle(&self, receipts: impl IntoIterator<Item = Receipt>) -> Action {
        let network = self.state.network;
        let both = |receipt: Receipt| SettledReceipt {
            island: key(ISLAND).sign(network, &receipt).unwrap(),
            payer: key(CONSUMER).sign(network, &receipt).unwrap(),
            receipt,
        };
        Action::Settle { receipts: receipts.into_iter().map(both).collect() }
    }

    fn set_karma(&mut self, karma_milli: i64) {
        self.state.islands.entry(account(ISLAND)).or_default().karma_milli = karma_milli;
        self.state.rebuild_tree().unwrap();
    }

    fn karma(&self) -> i64 {
        self.state.islands[&account(ISLAND)].karma_milli
    }
}

#[track_caller]
fn contains(text: &str, part: &str) {
    assert!(text.contains(part), "{text:?} does not say {part:?}");
}

#[test]
fn transfers_move_credits_and_count_nonces() {
    let mut world = World::new();
    let transfer = |to, amount| Action::Transfer { to: account(to), amount };
    world.send(CONSUMER, transfer(ISLAND, whole(10))).unwrap();
    assert_eq!((world.balance(CONSUMER), world.balance(ISLAND)), (whole(990), whole(10)));
    assert_eq!(world.state.accounts[&account(CONSUMER)].nonce, 1);
    world.send(CONSUMER, transfer(CONSUMER, whole(990))).unwrap();
    assert_eq!(world.balance(CONSUMER), whole(990));

    let funds = Rejected::Funds { needed: whole(991), available: whole(990) };
    assert_eq!(world.send(CONSUMER, transfer(ISLAND, whole(991))), Err(funds));
    contains(&world.refused(CONSUMER, transfer(9, Credits::ZERO)), "`amount`");
    let nobody = Rejected::NoAccount(account(9));
    assert_eq!(world.send(9, transfer(ISLAND, whole(1))), Err(nobody));
    assert!(!world.state.accounts.contains_key(&account(9)), "a refusal made an account");
}

#[test]
fn a_nonce_counts_once_and_in_order() {
    let mut world = World::new();
    let action = Action::Transfer { to: account(ISLAND), amount: whole(1) };
    let first = world.sign(CONSUMER, action.clone());
    let id = transaction::id(&first).unwrap();
    assert_eq!(world.state.execute(&first, id), Ok(()));
    let replay = Err(Rejected::Nonce { expected: 1, found: 0 });
    assert_eq!(world.state.execute(&first, id), replay);
    assert_eq!(world.state.check(&first), replay);

    let ahead = Transaction { nonce: 2, salt: 0, action };
    let ahead = key(CONSUMER).seal(world.state.network, ahead).unwrap();
    assert_eq!(world.state.check(&ahead), Ok(()), "a mempool keeps it for later");
    let gap = Err(Rejected::Nonce { expected: 1, found: 2 });
    assert_eq!(world.state.execute(&ahead, transaction::id(&ahead).unwrap()), gap);
}

#[test]
fn the_decoder_checks_every_signature_form_and_batch() {
    let mut world = World::new();
    let (cargo, network) = (world.publish(), world.state.network);
    let hold = world.hold(whole(10));
    let mut cases = Vec::new();
    let good = world.sign(CONSUMER, Action::CloseHold { hold });
    cases.push(SignedTransaction { signer: account(STRANGER), ..good.clone() });
    cases.push(SignedTransaction { value: Transaction { nonce: 9, ..good.value.clone() }, ..good });
    for spoilt in [0, 1] {
        let mut redeem = world.redeem([1, 2].map(|n| world.voucher(hold, 0, n, whole(n))));
        if let Action::Redeem { vouchers } = &mut redeem {
            vouchers[spoilt].value.cumulative = whole(9);
        }
        cases.push(world.sign(ISLAND, redeem));
        let mut settle = world.settle([world.receipt(hold, cargo, 0, 1)]);
        if let Action::Settle { receipts } = &mut settle {
            let signatures = [receipts[0].island, receipts[0].payer];
            receipts[0].island = signatures[1];
            if spoilt == 1 {
                (receipts[0].island, receipts[0].payer) = (signatures[0], signatures[0]);
            }
        }
        cases.push(world.sign(ISLAND, settle));
    }
    let mut publish = world.publish_action(PUBLISHER, manifest("other", "1.0.0"));
    if let Action::Publish { manifest } = &mut publish {
        manifest.value.name = "Changed".into();
    }
    cases.push(world.sign(PUBLISHER, publish));
    for case in cases {
        assert_eq!(decode(&to_bytes(&case).unwrap(), network), Err(Rejected::Signature));
    }

    for action in [Action::Redeem { vouchers: vec![] }, Action::Settle { receipts: vec![] }] {
        contains(&world.refused(ISLAND, action), "0 items, must be 1 to 256");
    }
    let vouchers = (1..=257).map(|n| world.voucher(hold, 0, n, micro(n)));
    let many = world.redeem(vouchers);
    contains(&world.refused(ISLAND, many), "257 items");
    let bytes = to_bytes(&world.sign(CONSUMER, Action::CloseHold { hold })).unwrap();
    assert!(decode(&bytes, crate::id::NetworkId([0; 32])).is_err(), "it is for another network");
    assert!(decode(&bytes[1..], network).is_err());
    assert!(decode(&[&bytes[..], &[0]].concat(), network).is_err());
}
