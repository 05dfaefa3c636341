//! Holds and vouchers.

use super::*;

#[test]
fn a_hold_takes_its_cap_and_makes_its_payee_known() {
    let mut world = World::new();
    let hold = world.hold(whole(10));
    assert_eq!(world.balance(CONSUMER), whole(990));
    assert_eq!(world.state.holds[&hold].cap, whole(10));
    assert_eq!(world.state.accounts[&account(CONSUMER)].holds, 1);
    assert!(world.state.accounts.contains_key(&account(ISLAND)), "it could not send its vouchers");

    let (now, most) = (world.state.time, world.state.genesis.policy.payment.hold_life_max_ms);
    let template = World::new();
    let open = |cap, expires| template.open_action(ISLAND, cap, expires);
    contains(&world.refused(CONSUMER, open(Credits::ZERO, now.after_ms(1))), "`cap`");
    contains(&world.refused(CONSUMER, open(whole(1), now)), "`expires`");
    contains(&world.refused(CONSUMER, open(whole(1), now.after_ms(most + 1))), "`expires`");
    contains(&world.refused(CONSUMER, open(whole(991), now.after_ms(1))), "991 credits needed");
    world.send(CONSUMER, open(whole(990), now.after_ms(most))).unwrap();
}

#[test]
fn the_number_of_open_holds_is_bounded() {
    let mut genesis = genesis();
    genesis.policy.payment.holds_per_account_max = 2;
    let mut world = World::with(genesis);
    let hold = world.hold(whole(1));
    world.hold(whole(1));
    let expires = world.later(1);
    let third = world.open_action(ISLAND, whole(1), expires);
    contains(&world.refused(CONSUMER, third.clone()), "2 are open");
    world.send(ISLAND, Action::CloseHold { hold }).unwrap();
    world.send(CONSUMER, third).unwrap();
}

#[test]
fn only_the_payer_tops_up_and_only_while_it_lives() {
    let mut world = World::new();
    let hold = world.hold(whole(10));
    let top_up = |amount| Action::TopUp { hold, amount };
    world.send(CONSUMER, top_up(whole(5))).unwrap();
    assert_eq!((world.state.holds[&hold].cap, world.balance(CONSUMER)), (whole(15), whole(985)));
    contains(&world.refused(STRANGER, top_up(whole(1))), "only the hold's payer");
    contains(&world.refused(CONSUMER, top_up(Credits::ZERO)), "`amount`");
    contains(&world.refused(CONSUMER, top_up(whole(986))), "986 credits needed");
    let unknown = Action::TopUp { hold: HoldId([0; 32]), amount: whole(1) };
    assert_eq!(world.send(CONSUMER, unknown), Err(Rejected::NoHold(HoldId([0; 32]))));
    let mut closing = World { state: world.state.clone(), last: None };
    closing.send(CONSUMER, Action::CloseHold { hold }).unwrap();
    contains(&closing.refused(CONSUMER, top_up(whole(1))), "closing or expired");
    world.pass(1_000_000);
    contains(&world.refused(CONSUMER, top_up(whole(1))), "closing or expired");
}

#[test]
fn a_payer_can_not_make_worthless_what_it_has_signed() {
    let mut world = World::new();
    let hold = world.hold(whole(10));
    let earned = world.voucher(hold, 0, 5, whole(4));
    // Higher nonces for less, redeemed by the payer itself.
    for (nonce, amount) in [(6, whole(1)), (u64::MAX, whole(2))] {
        let voucher = world.voucher(hold, 0, nonce, amount);
        world.send(CONSUMER, world.redeem([voucher])).unwrap();
    }
    let nothing = world.voucher(hold, 0, u64::MAX, Credits::ZERO);
    contains(&world.refused(CONSUMER, world.redeem([nothing])), "`cumulative`");
    world.send(ISLAND, world.redeem([earned])).unwrap();
    assert_eq!(world.state.holds[&hold].redeemed, whole(4));
}

#[test]
fn a_voucher_supersedes_the_one_before_it_in_its_lane() {
    let mut world = World::new();
    let hold = world.hold(whole(10));
    let voucher =
        |world: &World, lane, nonce, amount| world.voucher(hold, lane, nonce, whole(amount));
    let batch = [voucher(&world, 0, 1, 2), voucher(&world, 0, 5, 3), voucher(&world, 15, 1, 4)];
    world.send(ISLAND, world.redeem(batch)).unwrap();
    assert_eq!(world.state.holds[&hold].redeemed, whole(7));
    assert_eq!(world.balance(ISLAND), Credits::ZERO, "redeemed is not yet paid out");

    let cases = [
        (voucher(&world, 0, 6, 3), "`cumulative`: 3, the lane is at 3"),
        (voucher(&world, 0, 6, 2), "`cumulative`: 2, the lane is at 3"),
        (voucher(&world, 2, 7, 0), "`cumulative`: 0, the lane is at 0"),
        (voucher(&world, 0, 6, 7), "4 credits more, 2 are left"),
        (voucher(&world, 2, 1, 4), "4 credits more, 2 are left"),
        (voucher(&world, 16, 1, 1), "`lane`: 16, must be below 16"),
        (Voucher { payee: account(STRANGER), ..voucher(&world, 0, 6, 4) }, "`payee`"),
        (Voucher { expires: Timestamp(999_999), ..voucher(&world, 0, 6, 4) }, "`expires`"),
        (Voucher { hold: HoldId([0; 32]), ..voucher(&world, 0, 6, 4) }, "no hold"),
    ];
    for (bad, reason) in cases {
        let good = voucher(&world, 1, 1, 1);
        let text = world.refused(ISLAND, world.redeem([good, bad]));
        contains(&text, "item 1: ");
        contains(&text, reason);
    }
    let forged = key(STRANGER).seal(world.state.network, voucher(&world, 0, 6, 4)).unwrap();
    let text = world.refused(ISLAND, Action::Redeem { vouchers: vec![forged] });
    contains(&text, "item 0: field `signer`");
    // All that is left is allowed.
    let rest = [voucher(&world, 0, 7, 6)];
    world.send(STRANGER, world.redeem(rest)).unwrap();
    assert_eq!(world.state.holds[&hold].redeemed, whole(10));
}

#[test]
fn a_voucher_counts_up_to_its_last_moment() {
    let mut world = World::new();
    let hold = world.hold(whole(1));
    let redeem = world.redeem([world.voucher(hold, 0, 1, whole(1))]);
    world.pass(500_000);
    let mut late = World { state: world.state.clone(), last: None };
    world.send(ISLAND, redeem.clone()).unwrap();
    late.pass(1);
    contains(&late.refused(ISLAND, redeem), "`expires`");
}

#[test]
fn the_payee_closes_at_once() {
    let mut world = World::new();
    let hold = world.hold(whole(10));
    world.send(ISLAND, Action::CloseHold { hold }).unwrap();
    assert!(world.state.holds.is_empty());
    assert_eq!(world.balance(CONSUMER), whole(1_000));
    assert_eq!(world.state.accounts[&account(CONSUMER)].holds, 0);
    contains(&world.refused(ISLAND, Action::CloseHold { hold }), "no hold");
}

#[test]
fn the_payer_waits_for_the_dispute_window() {
    let mut world = World::new();
    let hold = world.hold(whole(10));
    let close = Action::CloseHold { hold };
    world.send(CONSUMER, close.clone()).unwrap();
    contains(&world.refused(CONSUMER, close.clone()), "ask again then");
    world.pass(400_000);
    let redeem = world.redeem([world.voucher(hold, 0, 1, whole(3))]);
    world.send(ISLAND, redeem).unwrap();
    world.pass(3_600_000 - 400_001);
    contains(&world.refused(CONSUMER, close.clone()), "ask again then");
    world.pass(1);
    contains(&world.refused(STRANGER, close.clone()), "only its payer and payee");
    world.send(CONSUMER, close).unwrap();
    assert_eq!(world.balance(CONSUMER), whole(997));
}

#[test]
fn anyone_closes_after_expiry_and_the_window() {
    let mut world = World::new();
    let hold = world.hold(whole(10));
    let close = Action::CloseHold { hold };
    world.pass(1_000_000 + 3_600_000 - 1);
    contains(&world.refused(STRANGER, close.clone()), "only its payer and payee, others from");
    world.pass(1);
    world.send(STRANGER, close).unwrap();
    assert_eq!(world.balance(CONSUMER), whole(1_000));
}

#[test]
fn what_was_redeemed_without_receipts_is_split_by_the_default() {
    for (karma, island, treasury) in [(10_000, 350_000, 650_000), (9_999, 0, 1_000_000)] {
        let mut world = World::new();
        let hold = world.hold(whole(10));
        world.set_karma(karma);
        world.send(ISLAND, world.redeem([world.voucher(hold, 0, 1, whole(1))])).unwrap();
        world.send(ISLAND, Action::CloseHold { hold }).unwrap();
        assert_eq!(world.balance(ISLAND), micro(island));
        assert_eq!(world.state.islands[&account(ISLAND)].earned, micro(island));
        assert_eq!(world.state.treasury, micro(100_000_000 + treasury));
        assert_eq!(world.balance(CONSUMER), whole(999));
    }
}

#[test]
fn an_account_may_pay_itself() {
    let mut world = World::new();
    let action = world.open_action(CONSUMER, whole(1), world.later(1));
    let id = world.send(CONSUMER, action).unwrap();
    world.send(CONSUMER, Action::CloseHold { hold: HoldId(id.0) }).unwrap();
    assert_eq!(world.balance(CONSUMER), whole(1_000));
}

#[test]
fn one_transaction_reserves_for_many_a_share_each() {
    let mut world = World::new();
    let expires = world.later(1_000);
    let dispute_ms = world.state.genesis.policy.payment.dispute_window_ms;
    let share = |who, cap| Payee { account: account(who), cap };
    let open = |payees| Action::OpenHold { payees, expires, dispute_ms };
    let three = vec![share(ISLAND, whole(1)), share(STRANGER, whole(2)), share(ISLAND, whole(3))];
    let id = world.send(CONSUMER, open(three)).unwrap();
    let holds: Vec<_> = (0..3).map(|index| super::super::state::hold_of(id, index)).collect();
    let caps: Vec<_> = holds.iter().map(|hold| world.state.holds[hold].cap).collect();
    assert_eq!(caps, [whole(1), whole(2), whole(3)]);
    assert_eq!(world.state.accounts[&account(CONSUMER)].holds, 3);
    assert_eq!(world.balance(CONSUMER), whole(994));
    // Each takes its own share, and nobody another's.
    let voucher = Voucher { payee: account(STRANGER), ..world.voucher(holds[1], 0, 1, whole(2)) };
    let action = world.redeem([voucher]);
    world.send(STRANGER, action).unwrap();
    let voucher = Voucher { payee: account(STRANGER), ..world.voucher(holds[0], 0, 1, whole(1)) };
    let action = world.redeem([voucher]);
    contains(&world.refused(STRANGER, action), "`payee`");
    // All or none.
    let before = world.state.holds.len();
    let much = vec![share(ISLAND, whole(1)), share(STRANGER, whole(5_000))];
    contains(&world.refused(CONSUMER, open(much)), "5000 credits needed");
    contains(&world.refused(CONSUMER, open(vec![share(ISLAND, Credits::ZERO)])), "`cap`");
    contains(&world.refused(CONSUMER, open(Vec::new())), "0 items, must be 1 to 16");
    let many = vec![share(ISLAND, whole(1)); 17];
    contains(&world.refused(CONSUMER, open(many)), "17 items");
    assert_eq!(world.state.holds.len(), before);
}

#[test]
fn a_hold_has_a_dispute_window_of_its_own() {
    let mut world = World::new();
    let policy = world.state.genesis.policy.payment.clone();
    let expires = world.later(1_000_000);
    let open = |dispute_ms| Action::OpenHold {
        payees: vec![Payee { account: account(ISLAND), cap: whole(1) }],
        expires,
        dispute_ms,
    };
    let (least, most) = (policy.dispute_window_ms, policy.hold_life_max_ms);
    contains(&world.refused(CONSUMER, open(least - 1)), "`dispute_ms`");
    contains(&world.refused(CONSUMER, open(most + 1)), "`dispute_ms`");
    let long = HoldId(world.send(CONSUMER, open(2 * least)).unwrap().0);
    world.send(CONSUMER, Action::CloseHold { hold: long }).unwrap();
    world.pass(least);
    contains(&world.refused(CONSUMER, Action::CloseHold { hold: long }), "may redeem until");
    world.pass(least);
    world.send(CONSUMER, Action::CloseHold { hold: long }).unwrap();
    assert_eq!(world.balance(CONSUMER), whole(1_000));
}
