//! Random scenarios for fault search: small networks in much trouble.

use archipelag_simulations::scenario::{
    Distribution, Fault, Fidelity, Group, Mix, Named, Network, Role, Scenario, Session, Target,
    Trouble, Workload,
};
use rand::{Rng as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

/// A source of choices.
struct Dice(Xoshiro256PlusPlus);

impl Dice {
    fn below(&mut self, of: u64) -> u64 {
        self.0.next_u64() % of.max(1)
    }

    fn from(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    fn part(&mut self) -> f64 {
        self.below(1_001) as f64 / 1_000.0
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        // Three digits, so that what is found reads well.
        ((low + (high - low) * self.part()) * 1000.0).round() / 1000.0
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn size(&mut self, low: u64, high: u64) -> usize {
        usize::try_from(self.from(low, high)).unwrap_or(1)
    }
}

/// The scenario that a seed gives.
pub(super) fn scenario(seed: u64) -> Scenario {
    let mut dice = Dice(Xoshiro256PlusPlus::seed_from_u64(seed));
    let duration_s = dice.between(60.0, 240.0).round();
    let coordinators = if dice.chance(40) { 1 } else { 4 };
    let mut groups = vec![group("coordinators", coordinators, &[Role::Coordinator])];
    let mut islands = group("islands", dice.size(2, 8), &[Role::Island]);
    islands.jobs_at_a_time = u32::try_from(dice.from(1, 4)).unwrap_or(1);
    islands.start_s = uniform(0.0, dice.between(0.0, 20.0));
    if dice.chance(30) {
        islands.speed = Distribution::Named(Named::LogNormal([1.0, 0.7]));
    }
    if dice.chance(25) {
        islands.session = Some(Session {
            up_s: Distribution::Named(Named::Exponential(dice.between(20.0, 80.0))),
            down_s: Distribution::Named(Named::Exponential(dice.between(2.0, 20.0))),
            abrupt: dice.chance(50),
        });
    }
    groups.push(islands);
    groups.push(group("consumers", dice.size(1, 4), &[]));
    if dice.chance(30) {
        groups.push(group("observers", dice.size(1, 2), &[Role::Observer]));
    }
    let network = Network {
        latency_ms: vec![vec![dice.between(1.0, 150.0)]],
        jitter_percent: u32::try_from(dice.below(60)).unwrap_or(0),
        loss_percent: if dice.chance(40) { dice.between(0.0, 3.0) } else { 0.0 },
        ..Network::default()
    };
    let workloads = (0..dice.from(1, 2)).map(|_| workload(&mut dice, duration_s)).collect();
    let faults = (0..dice.from(0, 5)).map(|_| fault(&mut dice, &groups, duration_s)).collect();
    let fidelity = if dice.chance(25) { Fidelity::Full } else { Fidelity::Muxer };
    Scenario {
        name: format!("search-{seed}"),
        seed: Some(seed),
        duration_s,
        fidelity,
        network,
        groups,
        workloads,
        faults,
        ..Scenario::default()
    }
}

fn group(name: &str, count: usize, roles: &[Role]) -> Group {
    Group { name: name.into(), count, roles: roles.to_vec(), ..Group::default() }
}

fn uniform(low: f64, high: f64) -> Distribution {
    Distribution::Named(Named::Uniform([low, high]))
}

fn workload(dice: &mut Dice, duration_s: f64) -> Workload {
    let from = if dice.chance(80) { "consumers" } else { "coordinators" };
    Workload {
        from: from.into(),
        cargo: Mix::One("work".into()),
        interarrival_s: Some(Distribution::Named(Named::Exponential(dice.between(0.3, 5.0)))),
        start_s: dice.between(5.0, 20.0),
        stop_s: Some(duration_s * 0.7),
        work_ms: Distribution::Named(Named::Exponential(dice.between(50.0, 8000.0))),
        events: uniform(0.0, dice.between(1.0, 200.0)),
        event_bytes: uniform(1.0, dice.between(10.0, 20_000.0)),
        ..Workload::default()
    }
}

fn fault(dice: &mut Dice, groups: &[Group], duration_s: f64) -> Fault {
    let at_s = dice.between(10.0, duration_s * 0.6);
    let for_s = Some(dice.between(1.0, duration_s * 0.25));
    let group = &groups[dice.size(0, u64::try_from(groups.len() - 1).unwrap_or(0))];
    let most = u64::try_from(group.count).unwrap_or(1);
    let nodes =
        Target { group: group.name.clone(), count: Some(dice.size(1, most)), fraction: None };
    let what = match dice.below(9) {
        0 => Trouble::Crash { nodes },
        1 => Trouble::Power { nodes },
        2 => Trouble::Restart { nodes, apart_s: dice.between(0.0, 5.0) },
        3 => Trouble::Partition { nodes, from: None, one_way: false },
        4 => Trouble::Partition { nodes, from: None, one_way: true },
        5 => Trouble::Flap { nodes, period_s: dice.between(0.5, 10.0) },
        6 => Trouble::Loss { percent: dice.between(1.0, 20.0) },
        7 => Trouble::Slow { nodes, factor: dice.between(2.0, 1000.0) },
        _ => Trouble::Clock { nodes, jump_ms: dice.between(-20_000.0, 20_000.0) },
    };
    Fault { at_s, for_s, what }
}
