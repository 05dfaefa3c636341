//! Coordinators under fire: the shipped engine, driver and store of each, on disks that fail, over
//! a network that loses, delays and reorders, in virtual time and by a seed.
//!
//! A [`Trouble`] is what goes wrong. A run lets users move credits meanwhile, then heals everything
//! and expects all to agree and to go on. After every step it checks what must always hold
//! ([`checks`]). One seed gives one history, to the byte.

mod checks;
mod faults;
mod liar;
mod process;
mod random;
mod users;
mod world;

use anyhow::ensure;
use archipelag_protocol::{amount::Credits, policy::ElectionPolicy};
use clap::ValueEnum;
use faults::Faults;
use serde::Serialize;
use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use world::World;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Nothing.
    Calm,
    /// 5 % of messages are lost, others come late and in another order; clocks differ by up to 1.5
    /// s and step.
    Loss,
    /// Processes are killed at any moment, all at once now and then; what was not synced is lost,
    /// or a part of it.
    Crashes,
    /// As crashes, and a crash may take the disk along.
    LostDisks,
    /// Disks refuse writes for seconds.
    FailingDisks,
    /// The network falls apart, along other lines now and then.
    Partitions,
    /// One validator says different things to different others: two processes with one key.
    TwoFaced,
    /// One validator sends what it likes: other blocks than it proposed, votes for nothing, wrong
    /// heights, old messages, noise.
    Forger,
    /// One validator proposes nothing and says nothing, now and then.
    Silent,
    /// Seats change hands every few seconds, under crashes and loss.
    Elections,
    /// As elections; one validator is two-faced, and loses its seat when it is found out.
    Purges,
    /// Coordinators that start late, with empty disks, when there are snapshots.
    LateJoiners,
}

/// What runs of one kind of trouble came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub runs: u64,
    pub blocks: u64,
    pub transactions: u64,
    /// Transactions of which somebody was told that they are final.
    pub acknowledged: u64,
    pub messages: u64,
    pub crashes: u64,
    /// Crashes of everybody at once.
    pub blackouts: u64,
    pub disks_lost: u64,
    pub disks_failed: u64,
    /// Messages that a liar made up.
    pub forged: u64,
    /// Runs in which other validators decided at the end than at the beginning.
    pub elections: u64,
    /// Runs in which a liar lost its stake.
    pub slashed: u64,
    /// Coordinators that went on from a snapshot.
    pub joined: u64,
    /// Virtual time, in milliseconds.
    pub simulated_ms: u64,
    /// Exclusive or of the hashes of all histories: the same seeds give the same.
    #[serde(serialize_with = "hex")]
    pub digest: [u8; 32],
}

fn hex<S: serde::Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&archipelag_protocol::id::ContentId(*bytes))
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.blocks += other.blocks;
        self.transactions += other.transactions;
        self.acknowledged += other.acknowledged;
        self.messages += other.messages;
        self.crashes += other.crashes;
        self.blackouts += other.blackouts;
        self.disks_lost += other.disks_lost;
        self.disks_failed += other.disks_failed;
        self.forged += other.forged;
        self.elections += other.elections;
        self.slashed += other.slashed;
        self.joined += other.joined;
        self.simulated_ms += other.simulated_ms;
        for (byte, more) in self.digest.iter_mut().zip(other.digest) {
            *byte ^= more;
        }
    }
}

impl Trouble {
    fn faults(self) -> Faults {
        let calm = Faults::default();
        let crashes = |crash_every| Faults { crash_every, blackout_percent: 5, ..calm };
        match self {
            Self::Calm | Self::LateJoiners => calm,
            Self::Loss => Faults { loss_percent: 5, delay_ms: 300, skew_ms: 1_500, ..calm },
            Self::Crashes => Faults { loss_percent: 2, ..crashes(25) },
            Self::LostDisks => {
                // Nobody loses a disk before all are back.
                let rare = Faults { blackout_percent: 1, ..crashes(200) };
                Faults { loss_percent: 2, lose_disks: true, ..rare }
            }
            Self::FailingDisks => Faults { fail_every: 80, ..crashes(400) },
            Self::Partitions => Faults { partition: true, ..crashes(200) },
            Self::TwoFaced => Faults { loss_percent: 2, delay_ms: 100, ..crashes(250) },
            Self::Forger => Faults { loss_percent: 1, delay_ms: 60, ..crashes(400) },
            Self::Silent => Faults { loss_percent: 1, delay_ms: 60, mute: true, ..calm },
            Self::Elections => Faults { loss_percent: 3, delay_ms: 60, ..crashes(200) },
            Self::Purges => Faults { loss_percent: 2, delay_ms: 100, ..calm },
        }
    }

    fn has_elections(self) -> bool {
        matches!(self, Self::Elections | Self::Purges)
    }

    fn world(self, seed: u64) -> anyhow::Result<World> {
        // Most runs with four, which tolerate one; some with seven, which tolerate two.
        let validators = match (self, seed % 5) {
            (Self::Calm, 0) => 1,
            (Self::Calm, 1) => 2,
            (_, 4) if !self.has_elections() => 7,
            _ => 4,
        };
        let one = usize::try_from(seed % 4)?;
        let spares = match self {
            Self::Elections | Self::Purges => 3,
            Self::LateJoiners => 2,
            _ => 0,
        };
        let election = match self.has_elections() {
            true => ElectionPolicy {
                epoch_ms: 1_500,
                seats: 5,
                bond_min: Credits::from_whole(100),
                unbonding_ms: 4_000,
                absence_ms: 500,
                turnout_percent: 0,
                ..ElectionPolicy::default()
            },
            false => ElectionPolicy::default(),
        };
        let liars: &[usize] = match (self, validators) {
            (Self::TwoFaced, 7) => &[one, 4],
            (Self::TwoFaced | Self::Purges, _) => &[one],
            _ => &[],
        };
        let forgers: &[usize] = match (self, validators) {
            (Self::Forger, 7) => &[one, 5],
            // Of seven one may lie while another has forgotten what it said.
            (Self::LostDisks, 7) => &[one],
            (Self::Forger, _) => &[one],
            _ => &[],
        };
        World::new(seed, (validators, spares), election, liars, forgers)
    }

    /// One run.
    ///
    /// # Errors
    /// What did not hold.
    pub fn run(self, seed: u64) -> anyhow::Result<Tally> {
        let mut world = self.world(seed)?;
        let before = world.seats();
        if self.has_elections() {
            world.start_spares()?;
        }
        // They find each other first.
        world.run(2_000)?;
        world.set_faults(self.faults());
        let count = match self {
            Self::LateJoiners => 300,
            Self::LostDisks => 60,
            Self::Elections => 45,
            _ => 12,
        };
        for _ in 0..count {
            world.act(self.has_elections())?;
        }
        world.heal()?;
        if matches!(self, Self::Calm | Self::Loss | Self::Silent) {
            world.all_included()?;
        }
        if self == Self::Calm {
            world.nobody_waited()?;
        }
        if self == Self::LateJoiners {
            world.start_spares()?;
        }
        if let Err(error) = world.settle() {
            return Err(error.context(world.standing()));
        }
        let mut tally = world.tally()?;
        tally.elections = u64::from(world.seats() != before);
        Ok(tally)
    }
}

/// Runs all `seeds`, some at once, and gives what they came to. `progress` hears of each.
///
/// # Errors
/// The first seed that broke a rule, and which.
pub fn run(
    trouble: Trouble,
    seeds: Range<u64>,
    threads: usize,
    progress: impl Fn() + Sync,
) -> anyhow::Result<Tally> {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let total = Mutex::new((Tally::default(), None));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let ran = trouble.run(seed);
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    match ran {
                        Ok(tally) => total.0.add(&tally),
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            total.1.get_or_insert((seed, error));
                        }
                    }
                    progress();
                }
            });
        }
    });
    let (tally, broken) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((seed, error)) = broken {
        let name = trouble.to_possible_value().map(|v| v.get_name().to_owned());
        let again = format!(
            "archipelag-sim coordinators --trouble {} --first {seed} --seeds 1",
            name.unwrap_or_default()
        );
        return Err(error.context(format!("seed {seed} broke a rule; again: {again}")));
    }
    ensure!(tally.acknowledged > 0 || seeds.is_empty(), "nothing was ever acknowledged");
    Ok(tally)
}
