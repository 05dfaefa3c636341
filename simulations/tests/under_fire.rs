//! Coordinators under each kind of trouble, by a few seeds. `archipelag-sim coordinators` runs
//! more.

use archipelag_simulations::coordinators::{Tally, Trouble, run};

/// Seeds of each kind.
const SEEDS: u64 = 12;

fn survive(trouble: Trouble) -> Tally {
    survive_some(trouble, SEEDS)
}

fn survive_some(trouble: Trouble, seeds: u64) -> Tally {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    run(trouble, 0..seeds, threads, || {}).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn they_agree_on_every_block_and_one_seed_gives_one_history() {
    let (one, again) = (survive_some(Trouble::Calm, 20), survive_some(Trouble::Calm, 20));
    assert_eq!(one, again);
    assert!(one.acknowledged > 200, "{one:?}");
    let elections = || survive_some(Trouble::Elections, 3).digest;
    assert_eq!(elections(), elections());
}

#[test]
fn loss_delay_and_clocks_only_slow_them_down() {
    survive(Trouble::Loss);
}

#[test]
fn crashes_lose_nothing_that_was_acknowledged() {
    let tally = survive(Trouble::Crashes);
    assert!(tally.crashes > 5 * SEEDS && tally.blackouts > 2, "{tally:?}");
}

#[test]
fn who_loses_its_disk_says_nothing_twice() {
    let tally = survive(Trouble::LostDisks);
    assert!(tally.disks_lost * 2 > SEEDS, "{tally:?}");
}

#[test]
fn a_disk_that_fails_holds_only_its_own_coordinator_up() {
    let tally = survive(Trouble::FailingDisks);
    assert!(tally.disks_failed > SEEDS, "{tally:?}");
}

#[test]
fn partitions_heal() {
    survive(Trouble::Partitions);
}

#[test]
fn a_validator_that_says_two_things_changes_nothing() {
    survive(Trouble::TwoFaced);
}

#[test]
fn what_a_liar_makes_up_is_refused() {
    let tally = survive(Trouble::Forger);
    assert!(tally.forged > 1_000, "{tally:?}");
}

#[test]
fn silence_of_one_is_waited_for_and_no_more() {
    survive(Trouble::Silent);
}

#[test]
fn seats_change_hands_while_everything_goes_wrong() {
    let tally = survive(Trouble::Elections);
    assert!(tally.elections * 2 > SEEDS, "{tally:?}");
}

#[test]
fn who_says_two_things_is_found_out_now_and_then() {
    let tally = survive(Trouble::Purges);
    assert!(tally.slashed * 4 > SEEDS, "{tally:?}");
}

#[test]
fn late_joiners_go_on_from_a_snapshot() {
    let tally = survive_some(Trouble::LateJoiners, 2);
    assert_eq!(tally.joined, 4, "{tally:?}");
}
