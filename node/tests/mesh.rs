//! The mesh by itself: nodes over an in-memory transport on one thread.

use archipelag_node::{
    environment::{MeshTransport, Tasks, TokioExecutor, memory_transport, network_transport},
    mesh::{Config, Mesh, Protocol},
};
use archipelag_protocol::{
    advert::{Advert, Hardware},
    amount::Credits,
    catalog::Entry,
    genesis::{Allocation, Genesis, Validator},
    id::{AccountId, CargoId, ContentId, NodeId},
    ledger::{Action, Certificate, Key, State, Transaction},
    manifest::{Artifact, Manifest, Platform, Requirements, RuntimeType},
    policy::{AdvertPolicy, Policy, PublishingPolicy},
    pricing::Price,
    query::{Request, Response},
    sign::SecretKey,
    time::Timestamp,
};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Multiaddr, identity::Keypair};
use std::{future::Future, sync::Arc, time::Duration};

const DEADLINE: Duration = Duration::from_secs(20);

struct Peer {
    mesh: Mesh,
    tasks: Tasks,
}

fn validator() -> SecretKey {
    SecretKey::from_seed([200; 32])
}

fn genesis() -> Arc<Genesis> {
    let advert = AdvertPolicy { interval_ms: 200, missed_max: 3 };
    let publishing = PublishingPolicy { open: true, ..PublishingPolicy::default() };
    Arc::new(Genesis {
        name: "test".into(),
        created: Timestamp(1),
        policy: Policy { advert, publishing, ..Policy::default() },
        accounts: vec![Allocation { account: publisher().account(), balance: Credits::ZERO }],
        treasury: Credits::ZERO,
        validators: vec![Validator { account: validator().account(), node: NodeId([0; 32]) }],
        publishers: vec![],
    })
}

fn start(seed: u8, listen: &str, bootstrap: Vec<Multiaddr>) -> Peer {
    let key = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
    let transport = memory_transport(&key).unwrap();
    start_on(transport, &key, listen, bootstrap)
}

fn start_on(
    transport: MeshTransport,
    key: &Keypair,
    listen: &str,
    bootstrap: Vec<Multiaddr>,
) -> Peer {
    let executor = Arc::new(TokioExecutor(tokio::runtime::Handle::current()));
    let tasks = Tasks::new(executor);
    let config = Config {
        listen: vec![listen.parse().unwrap()],
        bootstrap,
        mdns: false,
        max_connections: 50,
    };
    let mesh = Mesh::start(config, key, genesis(), transport, &tasks).unwrap();
    Peer { mesh, tasks }
}

/// Waits for `check` to hold, by looking again whenever something may have changed.
async fn eventually<T>(what: &str, check: impl Fn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = check() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(what, looking).await
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

async fn address(peer: &Peer) -> Multiaddr {
    eventually("a listening address", || peer.mesh.listen_addresses().first().cloned())
        .await
        .parse()
        .unwrap()
}

fn advert(name: &str) -> Advert {
    Advert {
        node: NodeId([0; 32]),
        account: AccountId([1; 32]),
        sequence: 0,
        issued: Timestamp(0),
        name: name.into(),
        region: "here".into(),
        platform: Platform::Desktop,
        supported_runtimes: vec![RuntimeType::Wasm],
        hardware: Hardware::default(),
        active_jobs: 0,
        max_jobs: 2,
        asking_percent: 100,
        warm: vec![],
        addresses: vec![],
    }
}

fn publisher() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

/// A published Cargo, in a block that `decider` decided.
fn entry(decider: &SecretKey) -> Entry {
    let network = genesis().network().unwrap();
    let manifest = Manifest {
        name: "Echo".into(),
        slug: "echo".into(),
        version: "1.0.0".parse().unwrap(),
        description: "Says it again".into(),
        runtime_type: RuntimeType::Wasm,
        artifact: Artifact::Module { hash: ContentId::of(b"module"), size_bytes: 6 },
        input_schema: "{}".into(),
        output_schema: "{}".into(),
        price: Price { per_job: Credits::from_whole(1), ..Price::default() },
        requirements: Requirements::default(),
        category: None,
        tags: vec![],
        revenue_share_percent: 70,
    };
    let cargo = manifest.id().unwrap();
    let manifest = publisher().seal(network, manifest).unwrap();
    let action = Action::Publish { manifest: Box::new(manifest.clone()) };
    let publish = publisher().seal(network, Transaction { nonce: 0, salt: 0, action }).unwrap();
    let before = State::genesis((*genesis()).clone()).unwrap();
    let proposer = validator().account();
    let (block, state, _) = before.propose(proposer, Timestamp(2), None, [publish]).unwrap();
    let hash = block.header.hash().unwrap();
    let mut certificate = Certificate { height: 1, round: 0, block: hash, votes: Vec::new() };
    let vote = decider.sign(network, &certificate.vote()).unwrap();
    certificate.votes.push((decider.account(), vote));
    Entry {
        manifest,
        record: state.cargos[&cargo].record.clone(),
        header: block.header,
        certificate,
        path: state.prove(&Key::Cargo(cargo)).unwrap().path,
    }
}

#[tokio::test]
async fn adverts_spread_through_a_node_in_the_middle_and_expire() {
    let middle = start(1, "/memory/10001", vec![]);
    let through = address(&middle).await;
    let a = start(2, "/memory/10002", vec![through.clone()]);
    let b = start(3, "/memory/10003", vec![through]);
    a.mesh.advertise(advert("a"));
    let node = a.mesh.node();
    let seen = eventually("b sees a", || {
        b.mesh.islands().into_iter().find(|island| island.advert.value.node == node)
    })
    .await;
    assert_eq!(seen.advert.value.name, "a");
    a.tasks.stop().await;
    eventually("a's advert expires", || b.mesh.islands().is_empty().then_some(())).await;
}

#[tokio::test]
async fn queries_and_streams_reach_the_other_node_and_this_one() {
    let a = start(11, "/memory/10011", vec![]);
    let b = start(12, "/memory/10012", vec![address(&a).await]);
    let mut queries = a.mesh.incoming_queries().await.unwrap();
    tokio::spawn(async move {
        while let Some((_, _, answer)) = queries.recv().await {
            answer.send(Response::Unavailable("hello".into())).unwrap();
        }
    });
    let node = a.mesh.node();
    eventually("connected", || b.mesh.peers().into_iter().find(|peer| peer.node == node)).await;
    let answer = within("an answer", b.mesh.query(node, Request::Status)).await.unwrap();
    assert!(matches!(answer, Response::Unavailable(reason) if reason == "hello"));

    let mut accepted = a.mesh.accept(Protocol::Job);
    tokio::spawn(async move {
        while let Some((_, mut stream)) = accepted.recv().await {
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream.close().await.unwrap();
        }
    });
    for opener in [&a, &b] {
        let mut stream =
            within("a stream", opener.mesh.open_stream(node, Protocol::Job)).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        stream.flush().await.unwrap();
        let mut echoed = Vec::new();
        within("the echo", stream.read_to_end(&mut echoed)).await.unwrap();
        assert_eq!(echoed, b"ping");
    }
    let nobody = NodeId(
        Keypair::ed25519_from_bytes([99; 32])
            .unwrap()
            .try_into_ed25519()
            .unwrap()
            .public()
            .to_bytes(),
    );
    assert!(within("a refusal", b.mesh.open_stream(nobody, Protocol::Job)).await.is_err());
}

#[tokio::test]
async fn a_record_counts_only_with_its_signatures() {
    let a = start(21, "/memory/10021", vec![]);
    let b = start(22, "/memory/10022", vec![address(&a).await]);
    let node = a.mesh.node();
    eventually("connected", || b.mesh.peers().into_iter().find(|peer| peer.node == node)).await;
    let forged = entry(&SecretKey::from_seed([8; 32]));
    let good = entry(&validator());
    let key = Entry::key_of_slug("echo");

    // The routing tables fill once identify has run; until then there is nobody to tell.
    within("the forged record is refused", async {
        while a.mesh.metrics().records_rejected.get() == 0 {
            b.mesh.announce(forged.clone()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(a.mesh.lookup(key).await, None);

    let c = start(23, "/memory/10023", vec![address(&a).await]);
    within("the good record arrives", async {
        while a.mesh.metrics().records_accepted.get() == 0 {
            c.mesh.announce(good.clone()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let found = within("a lookup", async {
        loop {
            if let Some(found) = c.mesh.lookup(key).await {
                return found;
            }
        }
    })
    .await;
    assert_eq!(found, good);
    assert_eq!(c.mesh.lookup(Entry::key_of_cargo(CargoId([9; 32]))).await, None);
}

#[tokio::test]
async fn who_sends_nonsense_is_blocked() {
    let a = start(31, "/memory/10031", vec![]);
    let b = start(32, "/memory/10032", vec![address(&a).await]);
    let node = b.mesh.node();
    eventually("connected", || a.mesh.peers().into_iter().find(|peer| peer.node == node)).await;
    for _ in 0..5 {
        a.mesh.misbehaved(node, "test");
    }
    eventually("disconnected", || a.mesh.peers().is_empty().then_some(())).await;
}

/// More silent connections than there are places for such, from one address of the loopback. They
/// are given up after five seconds, and replaced: the peer must get in at once.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_connects_and_says_nothing_keeps_out_only_itself() {
    let on_tcp = |seed: u8, bootstrap| {
        let key = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        start_on(network_transport(&key).unwrap(), &key, "/ip4/127.0.0.1/tcp/0", bootstrap)
    };
    let node = on_tcp(1, vec![]);
    let through = address(&node).await;
    let Some(libp2p::multiaddr::Protocol::Tcp(port)) = through.iter().nth(1) else {
        panic!("{through} has no port")
    };
    let mut silent = Vec::new();
    for _ in 0..80 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(([127, 0, 0, 1], port).into()).await.unwrap());
    }
    let peer = on_tcp(2, vec![]);
    let dialled = peer.mesh.dial(node.mesh.node(), vec![through]);
    let dialled = tokio::time::timeout(Duration::from_secs(4), dialled).await;
    assert!(matches!(dialled, Ok(Ok(()))), "{dialled:?}");
    drop(silent);
    node.tasks.stop().await;
    peer.tasks.stop().await;
}
