//! Publishing.

use super::*;
use crate::{catalog, trust::TrustLevel};

#[test]
fn a_version_is_published_at_once_where_publishing_is_open() {
    let mut world = World::new();
    world.state.height = 41;
    let id = world.publish();
    let record = &world.state.cargos[&id].record;
    assert_eq!((record.cargo, record.publisher), (id, account(PUBLISHER)));
    assert_eq!(record.state, catalog::State::Published);
    assert_eq!((record.trust_level, record.height), (TrustLevel::Untrusted, 41));
    let slug = &world.state.slugs["echo"];
    assert_eq!((slug.owner, slug.versions.len()), (account(PUBLISHER), 1));
}

#[test]
fn a_version_waits_for_review_elsewhere() {
    let mut closed = genesis();
    closed.policy.publishing.open = false;
    let mut world = World::with(closed);
    let id = world.publish();
    assert_eq!(world.state.cargos[&id].record.state, catalog::State::PendingReview);
}

#[test]
fn a_slug_belongs_to_its_first_taker_and_a_version_is_unique() {
    let mut world = World::new();
    world.publish();
    let mut changed = manifest("echo", "1.0.0");
    changed.description = "Says something else.".into();
    let taken = Rejected::VersionTaken { label: "echo@1.0.0".into() };
    let again = world.publish_action(PUBLISHER, changed);
    assert_eq!(world.send(PUBLISHER, again), Err(taken));
    let theirs = world.publish_action(STRANGER, manifest("echo", "2.0.0"));
    let taken = Rejected::SlugTaken { slug: "echo".into() };
    assert_eq!(world.send(STRANGER, theirs), Err(taken));
    for version in ["2.0.0", "1.0.1", "2.0.0-rc.1"] {
        let next = world.publish_action(PUBLISHER, manifest("echo", version));
        world.send(PUBLISHER, next).unwrap();
    }
    let versions: Vec<_> =
        world.state.slugs["echo"].versions.keys().map(|v| v.to_string()).collect();
    assert_eq!(versions, ["1.0.0", "1.0.1", "2.0.0-rc.1", "2.0.0"]);
}

#[test]
fn a_manifest_is_checked_and_sent_by_its_signer() {
    let mut world = World::new();
    let mut bad = manifest("echo", "1.0.0");
    bad.revenue_share_percent = 81;
    let bad = world.publish_action(PUBLISHER, bad);
    contains(&world.refused(PUBLISHER, bad), "revenue_share");
    let theirs = world.publish_action(PUBLISHER, manifest("echo", "1.0.0"));
    contains(&world.refused(STRANGER, theirs), "only the manifest's signer");
}

#[test]
fn active_cargos_are_bounded_by_tier_and_versions_by_policy() {
    let mut genesis = genesis();
    genesis.policy.publishing.verified_cargos_max = 4;
    genesis.policy.publishing.versions_per_cargo_max = 2;
    let mut world = World::with(genesis);
    for (who, limit) in [(PUBLISHER, 3), (STRANGER, 4)] {
        for n in 0..limit {
            let one = world.publish_action(who, manifest(&format!("cargo-{who}-{n}"), "1.0.0"));
            world.send(who, one).unwrap();
        }
        let more = world.publish_action(who, manifest("one-more", "1.0.0"));
        assert_eq!(world.send(who, more), Err(Rejected::TooManyCargos { limit, found: limit }));
        let slug = format!("cargo-{who}-0");
        let second = world.publish_action(who, manifest(&slug, "2.0.0"));
        world.send(who, second).unwrap();
        let third = world.publish_action(who, manifest(&slug, "3.0.0"));
        contains(&world.refused(who, third), "has 2, the limit");
    }
}

/// The state after an hour in which `good` jobs of a Cargo succeeded and `bad` failed.
fn after_an_hour(good: u64, bad: u64, level: TrustLevel) -> (World, CargoId) {
    let mut world = World::new();
    let cargo = world.publish();
    let swept = world.state.cargos[&cargo].clone();
    let mut record = swept.record.clone();
    record.trust_level = level;
    let manifest = swept.manifest.clone();
    world
        .state
        .cargos
        .insert(cargo, std::sync::Arc::new(super::super::state::Cargo { manifest, record }));
    world.state.rebuild_tree().unwrap();
    let hold = world.hold(whole(10));
    let outcomes = (0..good).map(|_| Verdict::Completed).chain((0..bad).map(|_| Verdict::Failed));
    let receipts: Vec<_> = (0..)
        .zip(outcomes)
        .map(|(sequence, verdict)| {
            let price = Credits::ZERO;
            Receipt { verdict, price, ..world.receipt(hold, cargo, sequence, 10) }
        })
        .collect();
    for batch in receipts.chunks(200) {
        let action = world.settle(batch.to_vec());
        world.send(ISLAND, action).unwrap();
    }
    let early = world.state.epoch.sweep.0 - 1;
    for time in [early, early + 1] {
        let time = crate::time::Timestamp(time);
        let last = world.last.clone();
        let (block, next, _) =
            world.state.propose(account(VALIDATOR), time, last, Vec::new()).unwrap();
        if time.0 == early {
            assert_eq!(next.cargos[&cargo].record.state, catalog::State::Published);
        }
        let last = super::blocks::certify(&block.header, 0, &[VALIDATOR]);
        assert_eq!(world.state.apply(&block).unwrap(), next);
        world = World { state: next, last: Some(last) };
    }
    (world, cargo)
}

#[test]
fn the_hourly_sweep_suspends_and_demotes() {
    use TrustLevel::{Basic, Untrusted};
    use catalog::State::{Published, Suspended};
    for (good, bad, level, state, left) in [
        (200, 0, Basic, Published, Basic),
        // 100 jobs or more: fewer than nine in ten.
        (170, 30, Basic, Suspended, Basic),
        // Fewer: by the ladder, after ten good ones in front of the first. There is no level below
        // the lowest.
        (0, 70, Basic, Suspended, Basic),
        (0, 40, Basic, Published, Untrusted),
        (0, 40, Untrusted, Published, Untrusted),
        (0, 20, Basic, Published, Basic),
    ] {
        let (world, cargo) = after_an_hour(good, bad, level);
        let record = &world.state.cargos[&cargo].record;
        let counters = world.state.counters[&cargo];
        assert_eq!((record.state, record.trust_level), (state, left), "{good} {bad}: {counters:?}");
        let changed = record.state != Published || record.trust_level != level;
        assert_eq!(record.height, if changed { 2 } else { 0 }, "{good} {bad}");
        let hour = world.state.genesis.policy.reputation.sweep_interval_ms;
        assert_eq!(world.state.epoch.sweep, world.state.time.after_ms(hour));
    }
    // What ran before is still settled.
    let (mut world, cargo) = after_an_hour(170, 30, Basic);
    let hold = *world.state.holds.keys().next().unwrap();
    let receipt = Receipt { price: Credits::ZERO, ..world.receipt(hold, cargo, 1_000, 10) };
    let action = world.settle([receipt]);
    world.send(ISLAND, action).unwrap();
}
