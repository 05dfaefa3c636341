//! Vouchers that a coordinator redeems for Islands that can't.

use super::*;
use archipelag_protocol::{
    ledger::Payee,
    payment::{SignedVoucher, Voucher},
};

pub(super) fn voucher(hold: HoldId, payer: u8, payee: u8, nonce: u64, micro: u64) -> SignedVoucher {
    let voucher = Voucher {
        hold,
        payee: user(payee).account(),
        lane: 0,
        nonce,
        cumulative: Credits::from_micro(micro),
        metering_digest: ContentId([0; 32]),
        expires: Timestamp(u64::MAX),
    };
    user(payer).seal(genesis().network().unwrap(), voucher).unwrap()
}

fn entrust(node: &Node, vouchers: Vec<SignedVoucher>) -> u16 {
    match node.ask(Request::Entrust(vouchers)) {
        Response::Entrusted(count) => count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_coordinator_redeems_for_who_can_not() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let node = Node::start(&disk).unwrap();
    let payees = vec![
        Payee { account: user(1).account(), cap: Credits::from_micro(100) },
        Payee { account: user(2).account(), cap: Credits::from_micro(100) },
    ];
    let dispute_ms = Policy::default().payment.dispute_window_ms;
    let expires = crate::mesh::now().after_ms(dispute_ms);
    let opening = sign(&user(0), 0, Action::OpenHold { payees, expires, dispute_ms });
    let opened = node.submit(&opening);
    assert_eq!(opened.outcome, Ok(()));
    let hold_of = |index| archipelag_protocol::ledger::state::hold_of(opened.transaction, index);
    let (one, other) = (hold_of(0), hold_of(1));
    let redeemed = |hold| node.coordinator.state().holds[&hold].redeemed.micro();

    // What pays nobody is not taken: of no hold, of another payer, for another payee, above the
    // cap.
    let worthless = vec![
        voucher(HoldId([7; 32]), 0, 1, 1, 10),
        voucher(one, 3, 1, 1, 10),
        voucher(one, 0, 2, 1, 10),
        voucher(one, 0, 1, 1, 101),
    ];
    assert_eq!(entrust(&node, worthless), 0);
    // Nor anything that comes with a forged one.
    let mut forged = voucher(other, 0, 2, 1, 10);
    forged.value.cumulative = Credits::from_micro(90);
    assert_eq!(entrust(&node, vec![voucher(one, 0, 1, 1, 10), forged]), 0);

    // Two Islands' in one transaction, which is the coordinator's.
    assert_eq!(entrust(&node, vec![voucher(one, 0, 1, 1, 40), voucher(other, 0, 2, 3, 60)]), 2);
    let wait = |hold, micro| {
        node.run(async {
            while redeemed(hold) != micro {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    };
    wait(one, 40);
    assert_eq!((redeemed(other), node.coordinator.state().height), (60, 2));
    let state = node.coordinator.state();
    assert_eq!(state.accounts[&validator().account()].nonce, 1);
    assert_eq!(state.accounts[&user(1).account()].nonce, 0);
    // An old one is worth nothing; the next is.
    assert_eq!(entrust(&node, vec![voucher(one, 0, 1, 1, 40)]), 0);
    assert_eq!(entrust(&node, vec![voucher(one, 0, 1, 2, 70)]), 1);
    // It waits for others to come, but no longer than for the next block.
    assert_eq!(node.submit(&transfer(5, 0, 6, 1)).outcome, Ok(()));
    wait(one, 70);
    state.check_conservation().unwrap();
    node.stop();
}
