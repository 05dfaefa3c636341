//! A disk that fails or loses what was not synced: what was acknowledged must survive, and what
//! could not be made durable must not be acknowledged.

use super::{Node, START, request, transfer};
use crate::disk::flaky::FlakyDisk;
use archipelag_protocol::query::{Request, Response};
use std::time::Duration;

/// Which unsynced writes survive: none, all, and mixtures.
fn survivors(round: u64) -> impl FnMut(usize) -> bool {
    let mut seed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match round % 4 {
            0 => false,
            1 => true,
            _ => seed >> 63 == 0,
        }
    }
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let disk = FlakyDisk::default();
    let mut receipts = Vec::new();
    for round in 0..24 {
        let node = Node::start(&disk.shared()).unwrap();
        assert_eq!(node.coordinator.state().height, receipts.len() as u64, "round {round}");
        for nonce in receipts.len() as u64..receipts.len() as u64 + 4 {
            let receipt = node.submit(&transfer(0, nonce, 1, 10));
            assert_eq!(receipt.outcome, Ok(()));
            receipts.push(receipt);
        }
        disk.cut_power(survivors(round));
        drop(node);
    }
    let node = Node::start(&disk.shared()).unwrap();
    assert_eq!(node.verify(1).unwrap().len(), receipts.len());
    for (nonce, receipt) in (0..).zip(&receipts) {
        assert_eq!(node.submit(&transfer(0, nonce, 1, 10)), *receipt);
    }
    assert_eq!(node.balance(1), START.micro() + 10 * receipts.len() as u64);
}

/// Transfers until the disk fails; gives how many were acknowledged, and whether it failed.
fn transfer_until_failure(node: &Node) -> (u64, bool) {
    for nonce in 1..6 {
        match node.ask(request(&transfer(0, nonce, 1, 10))) {
            Response::Submitted(receipt) => assert_eq!(receipt.outcome, Ok(())),
            Response::Unavailable(reason) => {
                assert!(reason.contains("the ledger's disk does not accept writes"), "{reason}");
                assert!(reason.contains("no space left"), "{reason}");
                return (nonce, true);
            }
            other => panic!("{other:?}"),
        }
    }
    (6, false)
}

/// Breaks the disk after each possible number of operations, then cuts the power.
#[test]
fn a_failing_disk_holds_the_ledger_up_before_it_acknowledges() {
    let mut failures = 0;
    for operations in 0..60 {
        let disk = FlakyDisk::default();
        let node = Node::start(&disk.shared()).unwrap();
        node.submit(&transfer(0, 0, 1, 10));
        disk.break_after(operations);
        let (acknowledged, failed) = transfer_until_failure(&node);
        if failed {
            failures += 1;
            // It answers with what is durable.
            let Response::Status(status) = node.ask(Request::Status) else { panic!("no status") };
            assert_eq!(status.height, acknowledged);
        }
        disk.cut_power(survivors(operations));
        drop(node);
        let node = Node::start(&disk.shared()).unwrap();
        let height = node.coordinator.state().height;
        // The block that was being written may have become durable all the same.
        let may = [acknowledged, acknowledged + 1];
        assert!(may.contains(&height), "{operations}: {acknowledged} acknowledged, {height} there");
        node.coordinator.state().check_conservation().unwrap();
        assert_eq!(node.submit(&transfer(0, height, 1, 10)).outcome, Ok(()));
    }
    assert!(failures > 5, "the disk failed only {failures} times");
}

/// Waits for something that the coordinator's task does.
fn wait_until(node: &Node, what: impl Fn() -> bool) {
    node.run(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn the_ledger_goes_on_by_itself_when_its_disk_works_again() {
    let fail_and_mend = |operations| {
        let disk = FlakyDisk::default();
        let node = Node::start(&disk.shared()).unwrap();
        node.submit(&transfer(0, 0, 1, 10));
        disk.break_after(operations);
        let (acknowledged, failed) = transfer_until_failure(&node);
        assert!(failed, "{operations}: the disk did not fail");
        // What comes meanwhile is refused at once, and is nowhere later.
        let refused = node.ask(request(&transfer(2, 0, 1, 10)));
        assert!(matches!(refused, Response::Unavailable(_)), "{refused:?}");

        disk.mend();
        wait_until(&node, || node.coordinator.unwritable().is_none());
        assert_eq!(node.coordinator.failure(), None);
        // The block that was held up, with the transfer that was in it.
        assert_eq!(node.coordinator.state().height, acknowledged + 1);
        for nonce in 0..10 {
            assert_eq!(node.submit(&transfer(0, nonce, 1, 10)).height, nonce + 1);
        }
        assert_eq!(node.balance(1), START.micro() + 100);
        assert_eq!(node.verify(1).unwrap().len(), 10);
        let root = node.root();
        disk.cut_power(survivors(operations));
        drop(node);
        assert_eq!(Node::start(&disk.shared()).unwrap().root(), root);
    };
    // Together: each waits for its next attempt.
    std::thread::scope(|threads| {
        for operations in 0..16 {
            threads.spawn(move || fail_and_mend(operations));
        }
    });
}

/// A full disk tempts to move the ledger away: its end must not be written into an empty file.
#[test]
fn a_ledger_that_was_moved_away_while_its_disk_failed_is_not_begun_anew() {
    let disk = FlakyDisk::default();
    let node = Node::start(&disk.shared()).unwrap();
    node.submit(&transfer(0, 0, 1, 10));
    disk.break_after(0);
    assert_eq!(transfer_until_failure(&node), (1, true));
    disk.replace_with_an_empty_one();
    wait_until(&node, || node.coordinator.failure().is_some());
    let why = node.coordinator.failure().unwrap();
    assert!(why.contains("the block before it is missing"), "{why}");
}

/// Nothing but a new start, with a backup, helps then.
#[test]
fn a_ledger_that_was_damaged_while_its_disk_failed_stops() {
    let disk = FlakyDisk::default();
    let node = Node::start(&disk.shared()).unwrap();
    node.submit(&transfer(0, 0, 1, 10));
    disk.break_after(0);
    assert_eq!(transfer_until_failure(&node), (1, true));
    disk.damage();
    wait_until(&node, || node.coordinator.failure().is_some());
    let why = node.coordinator.failure().unwrap();
    assert!(why.contains("corrupt") && why.contains("restore it from a backup"), "{why}");
}

#[test]
fn a_disk_that_fails_at_once_is_an_error_of_the_start() {
    let disk = FlakyDisk::default();
    disk.break_after(0);
    let error = Node::start(&disk.shared()).err().expect("it started").to_string();
    assert!(error.contains("no space left on device"), "{error}");
}
