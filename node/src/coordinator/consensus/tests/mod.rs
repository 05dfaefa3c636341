//! Engines that agree in spite of what happens to them.

mod world;

use archipelag_protocol::{amount::Credits, policy::ElectionPolicy};
use world::{CALM, Faults, World};

/// Seeds of each kind of trouble. `CONSENSUS_SEEDS` sets another number.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("CONSENSUS_SEEDS").ok().and_then(|n| n.parse().ok());
    0..asked.unwrap_or(usual)
}

/// Submits `count` transfers over some time under `faults`, heals everything, and checks that all of
/// them are decided, by everybody, and that nothing was decided twice or lost.
fn trouble(seed: u64, validators: u8, liars: &[usize], faults: Faults, count: usize) -> World {
    endure(World::new(seed, validators, liars), seed, faults, count)
}

fn endure(mut world: World, seed: u64, faults: Faults, count: usize) -> World {
    // They find each other first.
    world.run(2_000);
    world.faults = faults;
    for _ in 0..count {
        world.submit();
        if world.has_spares() {
            (0..3).for_each(|_| world.canvass());
        }
        if world.faults.partition && world.random.percent(20) {
            world.divide();
        }
        if world.faults.crash_every > 0 && world.random.percent(5) {
            world.kill_all();
        }
        let pause = world.random.below(400);
        world.run(pause);
        world.check();
    }
    world.faults = CALM;
    // What was lost may have left a gap in its account; another account's must get through.
    world.run(60_000);
    let before = world.included();
    let fresh = world.submit_fresh();
    for _ in 0..120 {
        world.run(1_000);
        let heights = world.heights();
        if heights.iter().all(|h| *h == heights[0]) && world.acknowledged.contains(&fresh) {
            break;
        }
    }
    world.check();
    world.check_acknowledged();
    assert!(
        world.acknowledged.contains(&fresh),
        "seed {seed}: nothing is decided any more: {:?}",
        world.standing()
    );
    // What waits in memory everywhere is lost when everybody is killed; nobody was told otherwise.
    let all_lost = world.killed_all > 0;
    assert!(before >= count.min(1) || all_lost, "seed {seed}: nothing was decided");
    world
}

#[test]
fn one_validator_decides_at_once() {
    let world = trouble(1, 1, &[], CALM, 20);
    assert_eq!(world.included(), 21);
    assert_eq!(world.heights(), [21]);
}

#[test]
fn validators_agree_on_every_block() {
    for validators in [2, 4, 7] {
        let world = trouble(7, validators, &[], CALM, 20);
        assert_eq!(world.included(), 21, "{validators}");
        let heights = world.heights();
        assert!(heights.iter().all(|h| *h == heights[0]), "{heights:?}");
        let again = trouble(7, validators, &[], CALM, 20);
        assert_eq!(again.digest(), world.digest(), "one seed twice");
    }
}

#[test]
fn loss_delay_and_skew_only_slow_them_down() {
    for seed in seeds(40) {
        let faults = Faults { loss_percent: 5, delay_ms: 300, skew_ms: 1_500, ..CALM };
        let world = trouble(seed, 4, &[], faults, 10);
        assert_eq!(world.included(), 11, "seed {seed}: {:?}", world.heights());
    }
}

#[test]
fn crashes_lose_nothing_that_was_acknowledged() {
    for seed in seeds(60) {
        let faults = Faults { loss_percent: 2, crash_every: 60, ..CALM };
        let world = trouble(seed, 4, &[], faults, 10);
        let heights = world.heights();
        assert!(heights.iter().all(|h| *h == heights[0]), "seed {seed}: {heights:?}");
    }
}

#[test]
fn who_loses_its_disk_says_nothing_twice() {
    let mut lost = 0;
    for seed in seeds(60) {
        let faults = Faults { loss_percent: 2, crash_every: 80, lose_disks: true, ..CALM };
        let world = trouble(seed, 4, &[], faults, 30);
        let heights = world.heights();
        assert!(heights.iter().all(|h| *h == heights[0]), "seed {seed}: {heights:?}");
        lost += world.disks_lost;
    }
    assert!(lost * 2 > seeds(60).end, "{lost} disks were lost");
}

#[test]
fn partitions_heal() {
    for seed in seeds(40) {
        let faults = Faults { partition: true, crash_every: 150, ..CALM };
        let world = trouble(seed, 4, &[], faults, 10);
        let heights = world.heights();
        assert!(heights.iter().all(|h| *h == heights[0]), "seed {seed}: {heights:?}");
    }
}

#[test]
fn a_validator_that_says_two_things_changes_nothing() {
    for seed in seeds(60) {
        let faults = Faults { loss_percent: 2, delay_ms: 100, crash_every: 200, ..CALM };
        let world = trouble(seed, 4, &[usize::try_from(seed % 4).unwrap()], faults, 10);
        let heights = world.heights();
        assert!(heights.iter().all(|h| *h == heights[0]), "seed {seed}: {heights:?}");
    }
}

/// Four validators and three coordinators more, with epochs of seconds.
fn elections(seed: u64, liars: &[usize]) -> World {
    let election = ElectionPolicy {
        epoch_ms: 1_500,
        seats: 5,
        bond_min: Credits::from_whole(100),
        unbonding_ms: 4_000,
        absence_ms: 500,
        turnout_percent: 0,
        ..ElectionPolicy::default()
    };
    World::with_spares(seed, 4, 3, liars, election)
}

#[test]
fn seats_change_hands_while_everything_goes_wrong() {
    let mut changed = 0;
    for seed in seeds(40) {
        let faults = Faults { loss_percent: 3, delay_ms: 60, crash_every: 150, ..CALM };
        let world = elections(seed, &[]);
        let before = world.seats();
        let world = endure(world, seed, faults, 30);
        let heights = world.heights();
        assert!(heights.iter().all(|h| *h == heights[0]), "seed {seed}: {heights:?}");
        changed += u64::from(world.seats() != before);
    }
    assert!(changed * 2 > seeds(40).end, "seats changed in {changed} of {:?} only", seeds(40));
}

#[test]
fn who_says_two_things_is_found_out_now_and_then() {
    let (mut found, count) = (0, seeds(30).end);
    for seed in seeds(30) {
        let faults = Faults { loss_percent: 2, delay_ms: 100, ..CALM };
        let liar = usize::try_from(seed % 4).unwrap();
        let world = endure(elections(seed, &[liar]), seed, faults, 15);
        if world.is_slashed(liar) {
            found += 1;
            assert!(!world.seats().contains(&world.account(liar)), "seed {seed}");
        }
        for honest in (0..7).filter(|other| *other != liar) {
            assert!(!world.is_slashed(honest), "seed {seed}: {honest} is honest");
        }
    }
    assert!(found * 4 > count, "found {found} of {count}");
}

#[test]
fn one_seed_twice_gives_one_history_of_elections() {
    let faults = Faults { loss_percent: 3, crash_every: 100, ..CALM };
    let run = || endure(elections(3, &[]), 3, faults, 20).digest();
    assert_eq!(run(), run());
}
