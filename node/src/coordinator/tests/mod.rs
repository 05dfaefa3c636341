//! The coordinator through its handle, on real stores; [`crash`] breaks their disks.

mod corrupt;
mod crash;
mod entrusted;
mod gossip;
mod joining;

use super::{
    Config, Coordinator, Error,
    engine::{Engine, Input, Output},
    store,
};
use crate::{
    disk::{Disk, FileDisk, Handle, MemoryDisk},
    environment::{Executor, InlineWorkers, PoolWorkers, Tasks, TokioExecutor},
};
use archipelag_protocol::{
    amount::Credits,
    genesis::{Allocation, Genesis, Validator},
    id::{ContentId, HoldId, NodeId, StateRoot},
    ledger::{
        Action, Rejected, SignedTransaction, Transaction, TransactionReceipt, Trust, transaction,
    },
    limits::MAX_QUERY_BYTES,
    manifest::{Artifact, Manifest, Requirements, RuntimeType, Version},
    policy::Policy,
    pricing::Price,
    query::{self, Request, Response},
    sign::SecretKey,
    time::Timestamp,
};
use archipelag_runtimes::workers::Workers;
use serde_bytes::ByteBuf;
use std::{sync::Arc, time::Duration};

const USERS: u8 = 20;
const START: Credits = Credits::from_whole(1_000);

fn validator() -> SecretKey {
    SecretKey::from_seed([200; 32])
}

fn user(index: u8) -> SecretKey {
    SecretKey::from_seed([index + 1; 32])
}

fn genesis() -> Genesis {
    let mut policy = Policy::default();
    policy.publishing.open = true;
    // No epoch or hour ends, so that the state does not depend on the clock.
    policy.election.epoch_ms = u64::MAX;
    policy.reputation.sweep_interval_ms = u64::MAX;
    Genesis {
        name: "test".into(),
        created: Timestamp(1_000),
        policy,
        accounts: (0..USERS)
            .map(|i| Allocation { account: user(i).account(), balance: START })
            .collect(),
        treasury: Credits::from_whole(5),
        validators: vec![Validator { account: validator().account(), node: NodeId([9; 32]) }],
        publishers: Vec::new(),
    }
}

fn sign(from: &SecretKey, nonce: u64, action: Action) -> SignedTransaction {
    from.seal(genesis().network().unwrap(), Transaction { nonce, salt: 0, action }).unwrap()
}

fn transfer(from: u8, nonce: u64, to: u8, micro: u64) -> SignedTransaction {
    let amount = Credits::from_micro(micro);
    sign(&user(from), nonce, Action::Transfer { to: user(to).account(), amount })
}

fn request(transaction: &SignedTransaction) -> Request {
    Request::Submit(ByteBuf::from(transaction::to_bytes(transaction).unwrap()))
}

/// A node that is nothing but a coordinator. Dropping it is a kill: nothing gets to clean up.
struct Node {
    coordinator: Coordinator,
    tasks: Tasks,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    fn start(disk: &Arc<dyn Disk>) -> Result<Self, Error> {
        Self::start_with(disk, Config::alone(genesis(), validator()))
    }

    fn start_with(disk: &Arc<dyn Disk>, config: Config) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let executor: Arc<dyn Executor> = Arc::new(TokioExecutor(runtime.handle().clone()));
        let workers: Arc<dyn Workers> = Arc::new(InlineWorkers(Arc::clone(&executor)));
        let tasks = Tasks::new(executor);
        let started = Coordinator::start(config, Arc::clone(disk), workers, &tasks);
        let coordinator = runtime.block_on(started)?;
        Ok(Self { coordinator, tasks, runtime })
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(Duration::from_secs(60), future).await };
        self.runtime.block_on(limited).expect("it took longer than a minute")
    }

    fn ask(&self, request: Request) -> Response {
        self.run(self.coordinator.answer(request))
    }

    fn submit(&self, transaction: &SignedTransaction) -> TransactionReceipt {
        submitted(self.ask(request(transaction)))
    }

    fn stop(self) {
        self.run(self.tasks.stop());
    }

    fn balance(&self, index: u8) -> u64 {
        self.coordinator.state().accounts[&user(index).account()].balance.micro()
    }

    fn root(&self) -> StateRoot {
        self.coordinator.state().root()
    }

    fn verify(&self, from: u64) -> Result<Vec<u64>, Error> {
        let (seen, heights) = std::sync::mpsc::sync_channel(4_096);
        let verified = self.coordinator.verify(from, move |p| seen.send(p.height).unwrap());
        let state = self.run(verified)?;
        assert_eq!(state, *self.coordinator.state());
        Ok(heights.iter().collect())
    }
}

fn submitted(response: Response) -> TransactionReceipt {
    match response {
        Response::Submitted(receipt) => receipt,
        other => panic!("not a receipt: {other:?}"),
    }
}

fn on_both_disks(test: impl Fn(Arc<dyn Disk>)) {
    test(Arc::new(MemoryDisk::new()));
    let directory = tempfile::tempdir().unwrap();
    test(Arc::new(FileDisk::new(directory.path()).unwrap()));
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    on_both_disks(|disk| {
        let node = Node::start(&disk).unwrap();
        let receipts: Vec<_> = (0..5).map(|n| node.submit(&transfer(0, n, 1, 10))).collect();
        for (height, receipt) in (1..).zip(&receipts) {
            assert_eq!((receipt.height, &receipt.outcome), (height, &Ok(())));
        }
        assert_eq!(node.balance(1), START.micro() + 50);
        let root = node.root();
        node.stop();

        let node = Node::start(&disk).unwrap();
        assert_eq!((node.root(), node.coordinator.state().height), (root, 5));
        // The same transactions again: the same receipts, and nothing moves.
        let again: Vec<_> = (0..5).map(|n| node.submit(&transfer(0, n, 1, 10))).collect();
        assert_eq!(again, receipts);
        assert_eq!((node.root(), node.coordinator.state().height), (root, 5));
        assert_eq!(node.submit(&transfer(0, 5, 1, 10)).height, 6);
        assert_eq!(node.verify(1).unwrap(), [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn a_restart_loop_ends_where_one_long_run_does() {
    on_both_disks(|disk| {
        let once: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let straight = Node::start(&once).unwrap();
        for round in 0..12 {
            let node = Node::start(&disk).unwrap();
            for nonce in round * 3..round * 3 + 3 {
                assert_eq!(node.submit(&transfer(2, nonce, 3, 7)).outcome, Ok(()));
                assert_eq!(straight.submit(&transfer(2, nonce, 3, 7)).outcome, Ok(()));
            }
            // Cleanly every second time; killed the others.
            if round % 2 == 0 { node.stop() } else { drop(node) }
        }
        assert_eq!(Node::start(&disk).unwrap().root(), straight.root());
    });
}

#[test]
fn a_thousand_transfers_share_few_blocks_and_conserve_credits() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(directory.path()).unwrap());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let tasks = Tasks::new(Arc::new(TokioExecutor(runtime.handle().clone())));
    let workers: Arc<dyn Workers> = Arc::new(PoolWorkers::start(2).unwrap());
    let config = Config::alone(genesis(), validator());
    let all = async {
        let coordinator =
            Coordinator::start(config, Arc::clone(&disk), workers, &tasks).await.unwrap();
        let submissions = (0..USERS).flat_map(|i| (0..50).map(move |n| (i, n))).map(|(i, n)| {
            let transaction = transfer(i, n, (i + 1) % USERS, u64::from(i) + 1);
            let coordinator = coordinator.clone();
            tokio::spawn(async move { submitted(coordinator.answer(request(&transaction)).await) })
        });
        for receipt in futures::future::join_all(submissions).await {
            assert_eq!(receipt.unwrap().outcome, Ok(()));
        }
        coordinator
    };
    let coordinator = runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), all).await })
        .expect("it took longer than a minute");
    let state = coordinator.state();
    state.check_conservation().unwrap();
    let senders = state.accounts.iter().filter(|(id, _)| **id != validator().account());
    let nonces: Vec<_> = senders.map(|(_, account)| account.nonce).collect();
    assert_eq!(nonces, [50; 20]);
    assert!(state.height <= 250, "{} blocks for 1,000 transfers", state.height);
    runtime.block_on(tasks.stop());
}

#[test]
fn nonces_of_one_account_may_come_in_any_order() {
    let node = Node::start(&(Arc::new(MemoryDisk::new()) as Arc<dyn Disk>)).unwrap();
    let order = [3, 1, 0, 4, 2];
    let answers = order.map(|n| {
        let transaction = transfer(0, n, 1, 1);
        let coordinator = node.coordinator.clone();
        async move { submitted(coordinator.answer(request(&transaction)).await) }
    });
    for receipt in node.run(futures::future::join_all(answers)) {
        assert_eq!(receipt.outcome, Ok(()));
    }
    assert_eq!(node.balance(1), START.micro() + 5);
}

#[test]
fn the_same_transaction_at_the_same_time_is_included_once() {
    let node = Node::start(&(Arc::new(MemoryDisk::new()) as Arc<dyn Disk>)).unwrap();
    let transaction = transfer(0, 0, 1, 25);
    let answers = (0..10).map(|_| node.coordinator.answer(request(&transaction)));
    let receipts: Vec<_> =
        node.run(futures::future::join_all(answers)).into_iter().map(submitted).collect();
    assert!(receipts.iter().all(|r| *r == receipts[0] && r.outcome.is_ok()), "{receipts:?}");
    assert_eq!((node.balance(1), node.coordinator.state().height), (START.micro() + 25, 1));
}

#[test]
fn refusals_say_why_and_make_no_block() {
    let node = Node::start(&(Arc::new(MemoryDisk::new()) as Arc<dyn Disk>)).unwrap();
    let outcome = |t: &SignedTransaction| node.submit(t).outcome;
    let forged = SignedTransaction { signer: user(5).account(), ..transfer(0, 0, 1, 1) };
    assert_eq!(outcome(&forged), Err(Rejected::Signature));
    let needed = Credits::from_whole(2_000);
    let poor = transfer(0, 0, 1, needed.micro());
    assert_eq!(outcome(&poor), Err(Rejected::Funds { needed, available: START }));
    let nobody = transfer(USERS, 0, 1, 1);
    assert_eq!(outcome(&nobody), Err(Rejected::NoAccount(user(USERS).account())));
    let garbage = Request::Submit(ByteBuf::from(vec![0xff; 100]));
    assert!(matches!(submitted(node.ask(garbage)).outcome, Err(Rejected::Field { .. })));
    assert_eq!(node.coordinator.state().height, 0);
    assert_eq!(outcome(&transfer(0, 0, 1, 1)), Ok(()));
    let used = Rejected::Nonce { expected: 1, found: 0 };
    assert_eq!(outcome(&transfer(0, 0, 1, 2)), Err(used));
}

fn manifest(version: u64, description_bytes: usize) -> Manifest {
    Manifest {
        name: "Echo".into(),
        slug: "echo".into(),
        version: Version { major: version, minor: 0, patch: 0, pre: String::new() },
        description: "d".repeat(description_bytes),
        runtime_type: RuntimeType::Wasm,
        artifact: Artifact::Module { hash: ContentId([1; 32]), size_bytes: 10 },
        input_schema: "{}".into(),
        output_schema: "{}".into(),
        price: Price { per_job: Credits::from_micro(1), ..Price::default() },
        requirements: Requirements::default(),
        category: None,
        tags: Vec::new(),
        revenue_share_percent: 70,
    }
}

fn publish(from: u8, nonce: u64, manifest: Manifest) -> SignedTransaction {
    let manifest = user(from).seal(genesis().network().unwrap(), manifest).unwrap();
    sign(&user(from), nonce, Action::Publish { manifest: Box::new(manifest) })
}

#[test]
fn published_cargos_are_found_and_proven() {
    let node = Node::start(&(Arc::new(MemoryDisk::new()) as Arc<dyn Disk>)).unwrap();
    for (nonce, version) in [(0, 1), (1, 3), (2, 2)] {
        assert_eq!(node.submit(&publish(4, nonce, manifest(version, 10))).outcome, Ok(()));
    }
    let other = Manifest { slug: "other".into(), ..manifest(1, 10) };
    assert_eq!(node.submit(&publish(5, 0, other)).outcome, Ok(()));
    let find = |version: Option<u64>| {
        let version = version.map(|v| manifest(v, 10).version);
        match node.ask(Request::Slug { slug: "echo".into(), version }) {
            Response::Entry(entry) => entry.map(|e| {
                let trust = Trust::genesis(&genesis()).unwrap();
                e.verify(&trust, &genesis().policy.payout).unwrap();
                e.manifest.value.version.major
            }),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([find(None), find(Some(1)), find(Some(9))], [Some(3), Some(1), None]);
    let page = |after: Option<&str>, limit| match node
        .ask(Request::Catalog { after: after.map(str::to_owned), limit })
    {
        Response::Catalog(items) => {
            items.into_iter().map(|i| i.entry.manifest.value.label()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(page(None, 100), ["echo@3.0.0", "other@1.0.0"]);
    assert_eq!(
        (page(None, 1), page(Some("echo"), 1)),
        (vec!["echo@3.0.0".into()], vec!["other@1.0.0".into()])
    );
    assert_eq!(page(Some("other"), 100), Vec::<String>::new());
}

#[test]
fn lists_fit_into_an_answer() {
    let node = Node::start(&(Arc::new(MemoryDisk::new()) as Arc<dyn Disk>)).unwrap();
    let schema = format!("{{\"description\":\"{}\"}}", "x".repeat(11 << 10));
    for i in 0..60_u8 {
        let slug = format!("cargo-{i:02}");
        let large = Manifest {
            slug,
            input_schema: schema.clone(),
            output_schema: schema.clone(),
            ..manifest(1, 10)
        };
        assert_eq!(node.submit(&publish(i % USERS, u64::from(i / USERS), large)).outcome, Ok(()));
    }
    let mut after = None;
    let mut found = 0;
    loop {
        let response = node.ask(Request::Catalog { after: after.clone(), limit: 100 });
        let size = archipelag_protocol::codec::encode_loose("answer", &response).unwrap().len();
        assert!(size <= MAX_QUERY_BYTES, "an answer of {size} bytes");
        let Response::Catalog(items) = response else { panic!("{response:?}") };
        let Some(last) = items.last() else { break };
        after = Some(last.entry.manifest.value.slug.clone());
        found += items.len();
    }
    assert_eq!(found, 60);
    let response = node.ask(Request::Blocks { from: 1, limit: 100 });
    let bytes = archipelag_protocol::codec::encode_loose("answer", &response).unwrap();
    assert!(query::decode_response(&bytes).is_ok(), "{} bytes", bytes.len());
    let Response::Blocks(blocks) = response else { panic!("{response:?}") };
    assert!((10..60).contains(&blocks.len()), "{} blocks", blocks.len());
}

#[test]
fn anyone_can_follow_the_blocks_to_the_same_state() {
    let node = Node::start(&(Arc::new(MemoryDisk::new()) as Arc<dyn Disk>)).unwrap();
    for nonce in 0..7 {
        node.submit(&transfer(0, nonce, 1, 10));
    }
    let mut state = archipelag_protocol::ledger::State::genesis(genesis()).unwrap();
    while let Response::Blocks(blocks) =
        node.ask(Request::Blocks { from: state.height + 1, limit: 3 })
    {
        if blocks.is_empty() {
            break;
        }
        for block in &blocks {
            state = store::follow(&state, block).unwrap();
        }
    }
    assert_eq!(state, *node.coordinator.state());
    let Response::Status(status) = node.ask(Request::Status) else { panic!("no status") };
    assert_eq!((status.height, status.state), (7, state.root()));
}

#[test]
fn snapshots_bound_what_an_opening_replays() {
    let disk = MemoryDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let node = Node::start(&shared).unwrap();
    let count = store::SNAPSHOT_EVERY * 2 + 9;
    for nonce in 0..count {
        assert_eq!(node.submit(&transfer(0, nonce, 1, 1)).height, nonce + 1);
    }
    let root = node.root();
    assert_eq!(node.verify(store::SNAPSHOT_EVERY * 2 + 1).unwrap().len(), 9);
    drop(node);
    // The first half of the chain is not looked at any more, except by `verify`.
    corrupt::change_block(&disk, 3, |bytes| bytes.truncate(10));
    let node = Node::start(&shared).unwrap();
    assert_eq!(node.root(), root);
    let error = node.verify(1).unwrap_err().to_string();
    assert!(error.contains("corrupt at height 3"), "{error}");
}

#[test]
fn a_second_coordinator_on_the_same_disk_is_refused() {
    on_both_disks(|disk| {
        let node = Node::start(&disk).unwrap();
        let error = Node::start(&disk).err().expect("it started").to_string();
        assert!(error.contains("another node runs on this home"), "{error}");
        node.stop();
        Node::start(&disk).unwrap();
    });
}

#[test]
fn after_the_stop_every_answer_says_so() {
    let node = Node::start(&(Arc::new(MemoryDisk::new()) as Arc<dyn Disk>)).unwrap();
    let mut committed = node.coordinator.committed();
    node.submit(&transfer(0, 0, 1, 1));
    assert_eq!(*committed.borrow_and_update(), 1);
    node.run(node.tasks.stop());
    for request in
        [request(&transfer(0, 1, 1, 1)), Request::Status, Request::Blocks { from: 1, limit: 1 }]
    {
        let Response::Unavailable(reason) = node.ask(request) else { panic!("it answered") };
        assert!(reason.contains("the node is stopping"), "{reason}");
    }
    assert!(node.run(committed.changed()).is_err());
    assert_eq!(node.coordinator.failure(), None);
}

/// Sends back what peers say, so that the driver's side of messages is seen to work.
#[derive(Debug)]
struct Echo;

impl Engine for Echo {
    fn on(&mut self, _: Timestamp, input: Input) -> Result<Vec<Output>, super::engine::Fatal> {
        Ok(match input {
            Input::Peer { from, message } => {
                let broadcast = Output::Broadcast { message: message.clone() };
                vec![Output::Send { to: from, message }, broadcast]
            }
            _ => Vec::new(),
        })
    }

    fn tick(&mut self, _: Timestamp) -> Result<Vec<Output>, super::engine::Fatal> {
        Ok(Vec::new())
    }

    fn deadline(&self) -> Option<Timestamp> {
        None
    }

    fn pending(&self) -> usize {
        0
    }

    fn is_current(&self) -> bool {
        true
    }
}

#[test]
fn messages_of_peers_reach_the_engine_and_its_answers_go_out() {
    use super::actor::{Command, Core, Shared};
    let database = Handle::open(Arc::new(MemoryDisk::new()), store::NAME).unwrap();
    let (opened, head) = store::Store::open(database, genesis()).unwrap();
    let (outgoing, mut sent) = tokio::sync::mpsc::channel(3);
    let mut core = Core {
        engine: Box::new(Echo),
        store: Arc::new(opened),
        head: tokio::sync::watch::Sender::new(Arc::new(head)),
        height: tokio::sync::watch::Sender::new(0),
        outgoing: Some(outgoing),
        shared: Arc::new(Shared::new(true)),
        waiting: Default::default(),
        account: validator().account(),
        commands: Default::default(),
        outputs: Default::default(),
        staged: None,
    };
    let from = NodeId([3; 32]);
    let say = |text: &str| Command::Peer { from, message: text.into(), place: None };
    core.step(crate::mesh::now(), vec![say("a"), say("b")]).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| sent.try_recv().ok()).collect();
    let of = |to, text: &str| super::Outgoing { to, message: text.into() };
    assert_eq!(sent, [of(Some(from), "a"), of(None, "a"), of(Some(from), "b")]);
    let dropped = &core.shared.metrics.messages_dropped;
    assert_eq!(dropped.get(), 1);
}
