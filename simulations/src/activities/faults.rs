//! What the scenario has go wrong, and its mending.

use super::{pause, until};
use crate::{
    draw::{below, whole},
    network::{Cut, HostSet},
    output::rows,
    record::{Record, word},
    scenario::{Fault, Target, Trouble, members_of},
    trace::Kind,
    world::{End, World, now_s, owner},
};
use archipelag_simulation_kernel as kernel;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// When the last fault was over, as nanoseconds of virtual time; `u64::MAX` while one lasts.
#[derive(Clone, Debug)]
pub(crate) struct Healed {
    lasting: Arc<AtomicU64>,
    since: Arc<AtomicU64>,
}

impl Healed {
    /// Since when nothing is broken; `None` while something is, or will be.
    pub(crate) fn since(&self) -> Option<u64> {
        let lasting = self.lasting.load(Ordering::Relaxed);
        (lasting == 0).then(|| self.since.load(Ordering::Relaxed))
    }

    fn one_less(&self) {
        self.since.store(kernel::now(), Ordering::Relaxed);
        self.lasting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts all of them.
pub(super) fn start(world: &World, record: &Record) -> Healed {
    let faults = world.scenario().faults.clone();
    let healed =
        Healed { lasting: Arc::new(AtomicU64::new(word(faults.len()))), since: Arc::default() };
    for (number, fault) in faults.into_iter().enumerate() {
        let (task, record, healed) = (world.clone(), record.clone(), healed.clone());
        world.executor().spawn(async move {
            until(fault.at_s).await;
            let number = word(number);
            task.note(Kind::Fault, [number, 1, 0, 0]);
            let row = rows::Fault {
                time_s: fault.at_s,
                kind: kind(&fault.what).into(),
                target: target(&fault.what),
                until_s: fault.for_s.map(|for_s| fault.at_s + for_s),
            };
            record.row(&row);
            record.with(|seen| seen.faults.push(row));
            happen(&task, &record, number, &fault).await;
            task.note(Kind::Fault, [number, 0, 0, 0]);
            healed.one_less();
        });
    }
    healed
}

fn kind(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Crash { .. } => "crash",
        Trouble::Power { .. } => "power",
        Trouble::Restart { .. } => "restart",
        Trouble::Partition { .. } => "partition",
        Trouble::Flap { .. } => "flap",
        Trouble::Loss { .. } => "loss",
        Trouble::Slow { .. } => "slow",
        Trouble::Clock { .. } => "clock",
        Trouble::Disk { .. } => "disk",
        Trouble::Flash => "flash",
    }
}

fn target(trouble: &Trouble) -> String {
    let words = |target: &Target| match (target.count, target.fraction) {
        (Some(count), _) => format!("{count} of {}", target.group),
        (None, Some(fraction)) => format!("{} % of {}", fraction * 100.0, target.group),
        (None, None) => target.group.clone(),
    };
    match trouble {
        Trouble::Crash { nodes }
        | Trouble::Power { nodes }
        | Trouble::Restart { nodes, .. }
        | Trouble::Flap { nodes, .. }
        | Trouble::Slow { nodes, .. }
        | Trouble::Clock { nodes, .. }
        | Trouble::Disk { nodes } => words(nodes),
        Trouble::Partition { nodes, from, one_way } => {
            let from = from.as_ref().map_or_else(|| "the rest".into(), words);
            let to = words(nodes);
            if *one_way { format!("from {to} to {from}") } else { format!("{to} and {from}") }
        }
        Trouble::Loss { percent } => format!("{percent} % of segments"),
        Trouble::Flash => "covert-flash".into(),
    }
}

/// The nodes of a target; which of a group, the seed says.
fn nodes(world: &World, target: &Target) -> Vec<usize> {
    let mut members: Vec<usize> = world.scenario().members(&target.group).collect();
    let count = match (target.count, target.fraction) {
        (Some(count), _) => count,
        (None, Some(fraction)) => members_of(fraction, members.len()),
        (None, None) => members.len(),
    };
    while members.len() > count {
        members.swap_remove(below(members.len()));
    }
    members.sort_unstable();
    members
}

/// The end of a fault: after its time, or never.
async fn lasts(fault: &Fault) {
    match fault.for_s {
        Some(for_s) => pause(for_s).await,
        None => std::future::pending().await,
    }
}

async fn happen(world: &World, record: &Record, number: u64, fault: &Fault) {
    match &fault.what {
        Trouble::Crash { nodes: target } => {
            down(world, record, fault, &nodes(world, target), End::Kill).await;
        }
        Trouble::Power { nodes: target } => {
            down(world, record, fault, &nodes(world, target), End::Power).await;
        }
        Trouble::Restart { nodes: target, apart_s } => {
            for node in nodes(world, target) {
                world.hold_down(node, End::Stop).await;
                pause(fault.for_s.unwrap_or(0.0)).await;
                release(world, record, node).await;
                pause(*apart_s).await;
            }
        }
        Trouble::Partition { nodes: target, from, one_way } => {
            let cut = partition(world, target, from.as_ref(), *one_way);
            world.network().cut(number, cut);
            lasts(fault).await;
            world.network().mend(number);
        }
        Trouble::Flap { nodes: target, period_s } => {
            let cut = partition(world, target, None, false);
            flap(world, number, fault, cut, *period_s).await;
        }
        Trouble::Loss { percent } => {
            let ppm = |percent: f64| u32::try_from(whole(percent * 1e4)).unwrap_or(u32::MAX);
            world.network().set_loss(ppm(*percent));
            lasts(fault).await;
            world.network().set_loss(ppm(world.scenario().network.loss_percent));
        }
        Trouble::Slow { nodes: target, factor } => {
            slow(world, fault, &nodes(world, target), *factor).await;
        }
        Trouble::Clock { nodes: target, jump_ms } => {
            let nodes = nodes(world, target);
            set_clocks(world, &nodes, *jump_ms);
            lasts(fault).await;
            set_clocks(world, &nodes, 0.0);
        }
        Trouble::Disk { nodes: target } => {
            let nodes = nodes(world, target);
            nodes.iter().for_each(|node| world.places()[*node].disk.break_now());
            lasts(fault).await;
            nodes.iter().for_each(|node| world.places()[*node].disk.mend());
        }
        Trouble::Flash => {
            world.flash();
            lasts(fault).await;
        }
    }
}

async fn release(world: &World, record: &Record, node: usize) {
    if let Err(error) = world.release(node).await {
        record.violation("start", Some(node), format!("{error:#}"));
    }
}

async fn down(world: &World, record: &Record, fault: &Fault, nodes: &[usize], how: End) {
    for node in nodes {
        world.hold_down(*node, how).await;
    }
    lasts(fault).await;
    for node in nodes {
        release(world, record, *node).await;
    }
}

fn partition(world: &World, target: &Target, from: Option<&Target>, one_way: bool) -> Cut {
    let inside = nodes(world, target);
    let outside: Vec<usize> = match from {
        Some(from) => nodes(world, from),
        None => (0..world.places().len()).collect(),
    };
    let outside = outside.into_iter().filter(|node| !inside.contains(node));
    Cut { to: HostSet::new(outside), from: HostSet::new(inside), both_ways: !one_way }
}

async fn flap(world: &World, number: u64, fault: &Fault, cut: Cut, period_s: f64) {
    let ends_s = fault.for_s.map_or(f64::MAX, |for_s| now_s() + for_s);
    while now_s() < ends_s {
        world.network().cut(number, cut.clone());
        pause((period_s / 2.0).min(ends_s - now_s())).await;
        world.network().mend(number);
        pause((period_s / 2.0).min((ends_s - now_s()).max(0.0))).await;
    }
}

async fn slow(world: &World, fault: &Fault, nodes: &[usize], factor: f64) {
    let divided = |bits: u64, by: f64| whole(bits as f64 / by.max(1e-3)).max(1);
    let set = |by: f64| {
        for node in nodes {
            let profile = &world.places()[*node].profile;
            let (up, down) = (profile.up_bits_per_s, profile.down_bits_per_s);
            world.network().set_bandwidth(*node, divided(up, by), divided(down, by));
        }
    };
    set(factor);
    lasts(fault).await;
    set(1.0);
}

fn set_clocks(world: &World, nodes: &[usize], jump_ms: f64) {
    for node in nodes {
        let usual = world.places()[*node].skew_ms;
        kernel::set_skew(owner(*node), World::skew(usual + jump_ms));
    }
}
