//! Settling: the split of the price, karma and counters.

use super::*;

/// A world with a published Cargo and `redeemed` credits to settle.
fn ready(redeemed: u64) -> (World, HoldId, CargoId) {
    let mut world = World::new();
    let cargo = world.publish();
    let hold = world.hold(whole(500));
    let redeem = world.redeem([world.voucher(hold, 0, 1, whole(redeemed))]);
    world.send(ISLAND, redeem).unwrap();
    (world, hold, cargo)
}

#[test]
fn the_price_is_split_as_the_specification_says() {
    // Karma, tier, then what one credit becomes: Island, publisher, treasury.
    let cases = [
        (10_000, HardwareTier::Entry, 700_000, 100_000, 200_000),
        (10_000, HardwareTier::CpuOnly, 350_000, 100_000, 550_000),
        (10_000, HardwareTier::MidRange, 840_000, 100_000, 60_000),
        (10_000, HardwareTier::Enterprise, 1_400_000, 100_000, -500_000),
        (9_999, HardwareTier::Entry, 0, 100_000, 900_000),
        (9_999, HardwareTier::Enterprise, 0, 100_000, 900_000),
    ];
    for (karma, tier, island, publisher, treasury) in cases {
        let (mut world, hold, cargo) = ready(1);
        world.set_karma(karma);
        let receipt = Receipt { tier, ..world.receipt(hold, cargo, 0, 0) };
        world.send(STRANGER, world.settle([receipt])).unwrap();
        assert_eq!(world.balance(ISLAND), micro(island));
        assert_eq!(world.balance(PUBLISHER), micro(1_000_000 + publisher));
        assert_eq!(world.state.treasury, micro(100_000_000_u64.strict_add_signed(treasury)));
        assert_eq!(world.state.holds[&hold].settled, whole(1));
        assert_eq!(world.state.islands[&account(ISLAND)].earned, micro(island));
    }
}

#[test]
fn a_suspended_island_earns_nothing() {
    let (mut world, hold, cargo) = ready(1);
    world.set_karma(50_000);
    world.state.islands.get_mut(&account(ISLAND)).unwrap().suspended = true;
    world.send(ISLAND, world.settle([world.receipt(hold, cargo, 0, 0)])).unwrap();
    assert_eq!(world.balance(ISLAND), Credits::ZERO);
}

#[test]
fn a_bonus_never_takes_more_than_the_treasury_holds() {
    let mut poor = genesis();
    poor.treasury = Credits::ZERO;
    let mut world = World::with(poor);
    let (cargo, hold) = (world.publish(), world.hold(whole(10)));
    world.set_karma(10_000);
    world.send(ISLAND, world.redeem([world.voucher(hold, 0, 1, whole(2))])).unwrap();
    let receipts = [0, 1].map(|sequence| Receipt {
        tier: HardwareTier::Enterprise,
        ..world.receipt(hold, cargo, sequence, 0)
    });
    world.send(ISLAND, world.settle(receipts)).unwrap();
    // The first finds an empty treasury and leaves 0.2 in it, which the second takes.
    assert_eq!(world.balance(ISLAND), micro(700_000 + 900_000));
    assert_eq!(world.state.treasury, micro(200_000));
}

#[test]
fn receipts_that_break_a_rule_are_refused() {
    let (mut world, hold, cargo) = ready(3);
    world.send(ISLAND, world.settle([world.receipt(hold, cargo, 4, 1_000)])).unwrap();
    let other = world.hold(whole(1));
    let good = world.receipt(hold, cargo, 6, 1_000);
    let with = |change: &dyn Fn(&mut Receipt)| {
        let mut receipt = good.clone();
        change(&mut receipt);
        receipt
    };
    let cases = [
        (with(&|r| r.sequence = 4), "`sequence`: 4, the lane is settled up to 6"),
        (with(&|r| r.sequence = u64::MAX), "`sequence`: used up"),
        (with(&|r| r.hold = HoldId([0; 32])), "no hold"),
        (with(&|r| r.hold = other), "`price`: 1 credits, 0 are redeemed"),
        (with(&|r| r.cargo = CargoId([0; 32])), "`cargo`"),
        (with(&|r| r.lane = 16), "`lane`"),
        (with(&|r| r.price = micro(1_000_101)), "at most 1.0001"),
        (with(&|r| r.verdict = Verdict::Failed), "at most 0"),
        (with(&|r| r.verdict = Verdict::CargoFailed), "at most 0"),
        (with(&|r| r.verdict = Verdict::Timeout), "at most 0"),
        (with(&|r| (r.metering.duration_ms, r.price) = (20_000_000, whole(3))), "2 are redeemed"),
    ];
    for (bad, reason) in cases {
        let first = world.receipt(hold, cargo, 5, 0);
        let first = Receipt { price: Credits::ZERO, ..first };
        let text = world.refused(ISLAND, world.settle([first, bad]));
        contains(&text, "item 1: ");
        contains(&text, reason);
    }
    // A receipt between others than the hold's payer and payee, honestly signed by both.
    for (payer, island, field) in [(STRANGER, ISLAND, "`payer`"), (CONSUMER, STRANGER, "`island`")]
    {
        let receipt = Receipt { payer: account(payer), island: account(island), ..good.clone() };
        let sign = |who: u8| key(who).sign(world.state.network, &receipt).unwrap();
        let settled =
            SettledReceipt { island: sign(island), payer: sign(payer), receipt: receipt.clone() };
        let text = world.refused(ISLAND, Action::Settle { receipts: vec![settled] });
        contains(&text, field);
    }
    world.send(ISLAND, world.settle([good])).unwrap();
}

#[test]
fn a_cargo_in_review_settles_nothing() {
    let mut closed = genesis();
    closed.policy.publishing.open = false;
    let mut world = World::with(closed);
    let (cargo, hold) = (world.publish(), world.hold(whole(1)));
    let receipt = Receipt { price: Credits::ZERO, ..world.receipt(hold, cargo, 0, 1) };
    contains(&world.refused(ISLAND, world.settle([receipt])), "`cargo`");
}

#[test]
fn an_hour_of_compute_is_one_point_and_half_more_below_the_threshold() {
    let hour_in_minutes = |world: &World, hold, cargo, from: u64| {
        let minutes = (from..from + 60).map(|sequence| Receipt {
            price: Credits::ZERO,
            ..world.receipt(hold, cargo, sequence, 60_000)
        });
        world.settle(minutes)
    };
    let (mut world, hold, cargo) = ready(1);
    world.send(ISLAND, hour_in_minutes(&world, hold, cargo, 0)).unwrap();
    assert_eq!(world.karma(), 1_500);
    world.set_karma(10_000);
    world.send(ISLAND, hour_in_minutes(&world, hold, cargo, 60)).unwrap();
    assert_eq!(world.karma(), 11_000);
    assert_eq!(world.state.islands[&account(ISLAND)].jobs, 120);
}

#[test]
fn the_remainder_carries_over() {
    let (mut world, hold, cargo) = ready(1);
    world.set_karma(10_000);
    // A milli-point is 3.6 seconds: twice 1.8 make one.
    for (sequence, karma) in [(0, 10_000), (1, 10_001), (2, 10_001), (3, 10_002)] {
        let receipt = world.receipt(hold, cargo, sequence, 1_800);
        let receipt = Receipt { price: Credits::ZERO, ..receipt };
        world.send(ISLAND, world.settle([receipt])).unwrap();
        assert_eq!(world.karma(), karma);
    }
}

#[test]
fn verdicts_count_for_karma_and_cargo_as_documented() {
    // Verdict and milliseconds (the Cargo's limit is 60,000), then karma and the Cargo's counters:
    // total, successful, failed, milliseconds.
    let cases = [
        (Verdict::Completed, 36_000, 20_010, [1, 1, 0, 36_000]),
        (Verdict::Completed, 7_200_000, 20_016, [1, 1, 0, 60_000]),
        (Verdict::CargoFailed, 36_000, 20_000, [1, 0, 1, 0]),
        (Verdict::Failed, 36_000, 20_000, [1, 0, 1, 0]),
        (Verdict::Timeout, 60_000, 20_000, [1, 0, 1, 0]),
        (Verdict::Timeout, 59_999, 18_000, [1, 0, 0, 0]),
        (Verdict::Cancelled, 36_000, 20_000, [1, 0, 0, 0]),
    ];
    for (verdict, ms, karma, counters) in cases {
        let (mut world, hold, cargo) = ready(1);
        world.set_karma(20_000);
        let receipt = world.receipt(hold, cargo, 0, ms);
        let receipt = Receipt { verdict, price: Credits::ZERO, ..receipt };
        world.send(ISLAND, world.settle([receipt])).unwrap();
        let c = world.state.counters[&cargo];
        let found = [c.total_jobs, c.successful_jobs, c.failed_jobs, c.execution_ms];
        assert_eq!((world.karma(), found), (karma, counters), "{verdict:?} after {ms} ms");
    }
}

#[test]
fn a_cancelled_job_is_charged_what_was_delivered() {
    let (mut world, hold, cargo) = ready(1);
    world.set_karma(10_000);
    let receipt = world.receipt(hold, cargo, 0, 0);
    let receipt = Receipt { verdict: Verdict::Cancelled, price: micro(100), ..receipt };
    world.send(ISLAND, world.settle([receipt])).unwrap();
    assert_eq!((world.balance(ISLAND), world.balance(PUBLISHER)), (micro(70), micro(1_000_010)));
}

#[test]
fn a_full_batch_of_receipts_and_vouchers_fits_one_transaction() {
    let (mut world, hold, cargo) = ready(1);
    let vouchers = (2..258).map(|n| world.voucher(hold, 0, n, micro(1_000_000 + n)));
    world.send(ISLAND, world.redeem(vouchers)).unwrap();
    let receipts = (0..256)
        .map(|sequence| Receipt { price: micro(1), ..world.receipt(hold, cargo, sequence, 1) });
    world.send(ISLAND, world.settle(receipts)).unwrap();
    assert_eq!(world.state.counters[&cargo].total_jobs, 256);

    let largest = |sequence| Receipt {
        verdict: Verdict::CargoFailed,
        tier: HardwareTier::Enterprise,
        lane: u16::MAX,
        sequence: u64::MAX - sequence,
        metering: Metering { tokens: u64::MAX, duration_ms: u64::MAX },
        price: micro(u64::MAX),
        finished: Timestamp(u64::MAX),
        ..world.receipt(hold, cargo, 0, 0)
    };
    let action = world.settle((0..256).map(largest));
    let transaction = Transaction { nonce: u64::MAX, salt: 0, action };
    to_bytes(&key(ISLAND).seal(world.state.network, transaction).unwrap()).unwrap();
}
