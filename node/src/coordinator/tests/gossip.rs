//! Transactions that no coordinator takes when it is asked, by gossip.

use super::*;
use crate::{
    coordinator::gossip,
    environment::memory_transport,
    ledger::{self, Ledger},
    mesh::{self, Mesh},
};
use archipelag_protocol::ledger::{Payee, state::hold_of};
use entrusted::voucher;
use libp2p::{Multiaddr, identity::Keypair};

fn mesh(seed: u8, address: &str, bootstrap: Vec<Multiaddr>, tasks: &Tasks) -> Mesh {
    let key = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
    let config = mesh::Config {
        listen: vec![address.parse().unwrap()],
        bootstrap,
        mdns: false,
        max_connections: 50,
    };
    let transport = memory_transport(&key).unwrap();
    Mesh::start(config, &key, Arc::new(genesis()), transport, tasks).unwrap()
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not in time");
}

/// A hold of user 0 for user 1.
async fn open_hold(coordinator: &Coordinator) -> HoldId {
    let payees = vec![Payee { account: user(1).account(), cap: Credits::from_micro(1_000) }];
    let dispute_ms = Policy::default().payment.dispute_window_ms;
    let expires = mesh::now().after_ms(dispute_ms);
    let opening = sign(&user(0), 1, Action::OpenHold { payees, expires, dispute_ms });
    let opened = submitted(coordinator.answer(request(&opening)).await);
    assert_eq!(opened.outcome, Ok(()));
    hold_of(opened.transaction, 0)
}

#[test]
fn what_no_coordinator_takes_goes_to_all_of_them() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let node = Node::start(&disk).unwrap();
    let coordinator = node.coordinator.clone();
    node.run(async {
        let keeper = mesh(1, "/memory/880101", vec![], &node.tasks);
        gossip::start(&coordinator, &keeper, &node.tasks);
        eventually("an address", || !keeper.listen_addresses().is_empty()).await;
        let known: Vec<Multiaddr> = vec![keeper.listen_addresses()[0].parse().unwrap()];
        let user = mesh(2, "/memory/880102", known.clone(), &node.tasks);
        let liar = mesh(3, "/memory/880103", known, &node.tasks);
        eventually("two peers", || keeper.peers().len() == 2).await;

        // Whoever has the seat by the genesis document is not there to be asked.
        let ledger = Ledger::by(NodeId([77; 32]), user.clone());
        let nonce = || coordinator.state().accounts[&super::user(0).account()].nonce;
        for attempt in 0.. {
            let sent = ledger.submit(&transfer(0, 0, 1, 10)).await;
            assert!(matches!(sent, Err(ledger::Error::Unreachable(_))), "{sent:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            // Who subscribes is told with the first heartbeat.
            if nonce() == 1 {
                break;
            }
            assert!(attempt < 100, "it did not arrive");
        }
        assert_eq!(coordinator.state().height, 1);

        // A long one travels as well as a short one.
        let hold = open_hold(&coordinator).await;
        let vouchers: Vec<_> = (1..=256).map(|n| voucher(hold, 0, 1, n, n)).collect();
        let redeem = sign(&super::user(1), 0, Action::Redeem { vouchers });
        assert!(transaction::to_bytes(&redeem).unwrap().len() > 64 << 10);
        let sent = ledger.submit(&redeem).await;
        assert!(matches!(sent, Err(ledger::Error::Unreachable(_))), "{sent:?}");
        let redeemed = || coordinator.state().holds[&hold].redeemed;
        eventually("a long one", || redeemed() == Credits::from_micro(256)).await;
        // So do many.
        for nonce in 0..40 {
            user.spread(transaction::to_bytes(&transfer(10, nonce, 2, 1)).unwrap());
            let sent = || coordinator.state().accounts[&super::user(10).account()].nonce;
            eventually("one of many", || sent() == nonce + 1).await;
        }
        let height = coordinator.state().height;

        // What is old, early, nobody's or not affordable is dropped, and nobody is to blame.
        let stranger =
            sign(&SecretKey::from_seed([99; 32]), 0, Action::CloseHold { hold: HoldId([0; 32]) });
        let dear = transfer(0, 2, 1, u64::MAX);
        for honest in [transfer(0, 0, 1, 11), transfer(0, 9, 1, 10), stranger, dear] {
            user.spread(transaction::to_bytes(&honest).unwrap());
        }
        // What nobody signed is no accident.
        let mut forged = transfer(3, 0, 2, 10);
        for amount in 0..10 {
            forged.value.action = Action::Transfer {
                to: super::user(2).account(),
                amount: Credits::from_micro(amount),
            };
            liar.spread(transaction::to_bytes(&forged).unwrap());
        }
        eventually("the liar is blocked", || keeper.metrics().peers_blocked.get() == 1).await;
        eventually("it is gone", || keeper.peers().len() == 1).await;
        assert_eq!((keeper.peers()[0].node, coordinator.state().height), (user.node(), height));
    });
    node.stop();
}
