//! What must hold, whatever happens: looked at in intervals, and once more at the end.
//!
//! A rule that is broken becomes a row of `violations`; the run goes on, so that what follows from
//! it can be seen.

use crate::{
    activities::Healed,
    observe::Observer,
    output::rows,
    record::{Record, State, word},
    scenario::Role,
    world::{World, now_s, seconds},
};
use archipelag_protocol::{amount::Credits, id::BlockHash, ledger};
use archipelag_simulation_kernel::{self as kernel, Nanos};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A node must have its place in the mesh after so long.
const SETTLED: Nanos = 60_000_000_000;

/// Who is gone that long must have been noticed.
const GHOST: Nanos = 120_000_000_000;

/// The state of the checks.
#[derive(Debug)]
pub(crate) struct Oracles {
    world: World,
    record: Record,
    healed: Healed,
    blocks: BTreeMap<u64, BlockHash>,
    heights: BTreeMap<usize, u64>,
    minted: Credits,
    panics_seen: usize,
    /// Jobs that were found overdue, and nodes that were found wanting: said once.
    said: BTreeSet<(&'static str, usize)>,
    /// How long after the last fault everybody knew everybody, in seconds.
    pub(crate) reconverged_s: Option<f64>,
    /// Jobs before this one are over.
    jobs_over: usize,
}

impl Oracles {
    pub(crate) fn new(world: &World, record: &Record, healed: Healed) -> Self {
        Self {
            world: world.clone(),
            record: record.clone(),
            healed,
            blocks: BTreeMap::new(),
            heights: BTreeMap::new(),
            minted: world.genesis().minted().unwrap_or(Credits::ZERO),
            panics_seen: 0,
            said: BTreeSet::new(),
            reconverged_s: None,
            jobs_over: 0,
        }
    }

    /// Looks at everything.
    pub(crate) fn look(&mut self) {
        self.panics();
        self.ledgers();
        self.overdue_jobs();
        self.tasks();
        self.mesh();
        self.ghosts();
        self.convergence();
    }

    fn say_once(&mut self, oracle: &'static str, about: usize, node: Option<usize>, what: String) {
        if self.said.insert((oracle, about)) {
            self.record.violation(oracle, node, what);
        }
    }

    /// No task of a node panics.
    fn panics(&mut self) {
        let report = self.world.executor().report();
        for (owner, words) in report.panics.iter().skip(self.panics_seen) {
            let node = usize::try_from(*owner).ok().filter(|_| *owner != kernel::WORLD);
            self.record.violation("panic", node, words.clone());
        }
        self.panics_seen = report.panics.len();
    }

    /// No two coordinators decide differently, and credits are conserved.
    fn ledgers(&mut self) {
        for index in 0..self.world.places().len() {
            if !self.world.places()[index].keeps_ledger() {
                continue;
            }
            let Some(node) = self.world.node(index) else { continue };
            let Some(coordinator) = &node.coordinator else { continue };
            let state = coordinator.state();
            let known = self.heights.insert(index, state.height);
            if known == Some(state.height) || state.height == 0 {
                continue;
            }
            if let Some(known) = known
                && known > state.height
            {
                let what = format!("it went back from block {known} to {}", state.height);
                self.record.violation("ledger", Some(index), what);
            }
            self.check_state(index, &state);
        }
    }

    fn check_state(&mut self, index: usize, state: &Arc<ledger::State>) {
        let decided = *self.blocks.entry(state.height).or_insert(state.last_block);
        if decided != state.last_block {
            let what = format!(
                "its block {} is {}, another coordinator's is {decided}",
                state.height, state.last_block
            );
            self.record.violation("ledger", Some(index), what);
        }
        let height = state.height;
        if let Err(broken) = state.check_conservation() {
            let what = format!("block {height}: {} of {} exist", broken.found, broken.minted);
            self.record.violation("conservation", Some(index), what);
        }
        if state.minted != self.minted {
            let what = format!("block {height}: {} minted, not {}", state.minted, self.minted);
            self.record.violation("conservation", Some(index), what);
        }
        for (id, hold) in &state.holds {
            if hold.redeemed > hold.cap || hold.settled > hold.redeemed {
                let what = format!("block {height}: hold {id} paid more than was reserved");
                self.record.violation("conservation", Some(index), what);
            }
        }
        let block = word(index);
        self.world.note(crate::trace::Kind::Block, [block, height, first_word(&decided), 0]);
        self.record.row(&rows::Ledger {
            time_s: now_s(),
            coordinator: block,
            height,
            root: decided.to_string(),
            transactions: 0,
            supply_microcredits: state.minted.micro(),
            treasury_microcredits: state.treasury.micro(),
        });
    }

    /// Every job ends in time.
    fn overdue_jobs(&mut self) {
        let deadline_s = self.world.scenario().checks.job_deadline_s;
        let (first, overdue) = self.record.with(|seen| {
            let over = seen.jobs[self.jobs_over..].iter().take_while(|job| job.state.is_over());
            let first = self.jobs_over + over.count();
            let late = |(_, job): &(usize, &crate::record::Job)| {
                !job.state.is_over() && now_s() - job.submitted_s > deadline_s
            };
            let jobs = seen.jobs.iter().enumerate().skip(first);
            let overdue: Vec<(usize, usize)> =
                jobs.filter(late).map(|(number, job)| (number, job.consumer)).collect();
            (first, overdue)
        });
        self.jobs_over = first;
        for (number, consumer) in overdue {
            let what = format!("job {number} has not ended after {deadline_s} s");
            self.say_once("deadline", number, Some(consumer), what);
        }
    }

    /// Queues are bounded, so tasks are.
    fn tasks(&mut self) {
        let most = self.world.scenario().checks.tasks_max;
        for (owner, count) in self.world.executor().counts() {
            let Ok(index) = usize::try_from(owner) else { continue };
            if count > most && owner != kernel::WORLD {
                let what = format!("{count} tasks, {most} are allowed");
                self.say_once("tasks", index, Some(index), what);
            }
        }
    }

    /// Everybody has neighbours in the mesh of adverts.
    fn mesh(&mut self) {
        let Some(least) = self.world.scenario().checks.mesh_peers_min else { return };
        // What a fault cut off has none for a while.
        let Some(healed) = self.healed.since() else { return };
        for index in self.settled_nodes(healed) {
            let Some(node) = self.world.node(index) else { continue };
            let found = node.mesh.neighbours();
            if found < least {
                let what = format!("{found} neighbours in the mesh of adverts, not {least}");
                self.say_once("mesh", index, Some(index), what);
            }
        }
    }

    /// Nobody keeps a connection to who is gone.
    fn ghosts(&mut self) {
        let world = self.world.clone();
        let gone = |index: usize| {
            let (_, _, stopped_at) = world.history(index);
            let long_ago = |at: Nanos| kernel::now() >= at + GHOST;
            world.node(index).is_none() && stopped_at.is_some_and(long_ago)
        };
        let gone: BTreeSet<usize> = (0..world.places().len()).filter(|i| gone(*i)).collect();
        if gone.is_empty() {
            return;
        }
        for index in (0..world.places().len()).filter(|index| world.is_honest(*index)) {
            // A node that just started may have dialled one.
            let old = world.running_since(index).is_some_and(|at| kernel::now() >= at + GHOST);
            let Some(node) = world.node(index).filter(|_| old) else { continue };
            let peers = node.mesh.peers();
            let mut peers = peers.iter().filter_map(|peer| world.index_of(peer.node));
            if let Some(ghost) = peers.find(|peer| gone.contains(peer)) {
                let what = format!("it keeps a connection to node {ghost}, which is gone");
                self.say_once("ghosts", index, Some(index), what);
            }
        }
    }

    /// Honest nodes that have run, without faults, for a while.
    fn settled_nodes(&self, healed: Nanos) -> Vec<usize> {
        let long_ago = |at: Nanos| kernel::now() >= at.max(healed) + SETTLED;
        let world = &self.world;
        let ready = |index: &usize| {
            world.is_honest(*index) && world.running_since(*index).is_some_and(long_ago)
        };
        (0..world.places().len()).filter(ready).collect()
    }

    /// After the last fault everybody knows every Island again.
    fn convergence(&mut self) {
        let Some(healed) = self.healed.since() else { return };
        if self.reconverged_s.is_some() || healed == 0 && self.world.scenario().faults.is_empty() {
            return;
        }
        let passed_s = (kernel::now() - healed) as f64 / 1e9;
        match self.lost_islands() {
            None => self.reconverged_s = Some(passed_s),
            Some(what) => {
                let limit_s = self.world.scenario().checks.reconverge_s;
                if kernel::now() > healed + seconds(limit_s) {
                    self.say_once("reconvergence", 0, None, format!("after {limit_s} s: {what}"));
                }
            }
        }
    }

    /// An Island that runs and that somebody does not know.
    fn lost_islands(&self) -> Option<String> {
        let world = &self.world;
        let running = |index: &usize| world.is_honest(*index) && world.node(*index).is_some();
        let islands: Vec<usize> = (0..world.places().len())
            .filter(|index| world.places()[*index].is(Role::Island) && running(index))
            .collect();
        let nodes: BTreeMap<usize, _> =
            islands.iter().filter_map(|i| Some((*i, world.node(*i)?.mesh.node()))).collect();
        for index in (0..world.places().len()).filter(running) {
            let Some(node) = world.node(index) else { continue };
            let known: BTreeSet<_> =
                node.mesh.islands().iter().map(|seen| seen.advert.value.node).collect();
            let lost: Vec<usize> =
                nodes.iter().filter(|(_, id)| !known.contains(*id)).map(|(i, _)| *i).collect();
            if let Some(first) = lost.first() {
                let count = lost.len();
                return Some(format!(
                    "node {index} does not know {count} of {} Islands, among them {first}",
                    nodes.len()
                ));
            }
        }
        None
    }

    /// Looks once more, at what can only be said at the end.
    pub(crate) fn finish(&mut self, observer: &Observer) {
        self.look();
        self.charges();
        self.shares(observer);
    }

    /// The longest ledger that somebody keeps.
    pub(crate) fn ledger(&self) -> Option<Arc<ledger::State>> {
        let nodes = (0..self.world.places().len()).filter_map(|index| self.world.node(index));
        let states = nodes.filter_map(|node| Some(node.coordinator.as_ref()?.state()));
        states.max_by_key(|state| state.height)
    }

    /// Nobody paid for more than its jobs cost. Who was ever away may have jobs that nobody counted.
    fn charges(&mut self) {
        let Some(state) = self.ledger() else { return };
        for index in 0..self.world.places().len() {
            let account = self.world.places()[index].identity.consumer.account();
            let paid = state
                .holds
                .values()
                .filter(|hold| hold.payer == account)
                .fold(Credits::ZERO, |sum, hold| sum.saturating_add(hold.redeemed));
            let (all_over, cost) = self.record.with(|seen| {
                let mine = || seen.jobs.iter().filter(|job| job.consumer == index);
                let over = mine().all(|job| job.state.is_over() && job.state != State::Orphaned);
                (over, mine().map(|job| job.price_microcredits).sum::<u64>())
            });
            if all_over && paid.micro() > cost {
                let what = format!("it paid {paid}, its jobs cost {}", Credits::from_micro(cost));
                self.record.violation("charge", Some(index), what);
            }
        }
    }

    /// Shares that the scenario asks for.
    fn shares(&mut self, observer: &Observer) {
        let checks = self.world.scenario().checks.clone();
        let figures = crate::run::figures(&self.world, &self.record, observer, self);
        let limits = [
            ("success", "job_success_percent", checks.success_min_percent),
            ("lookups", "lookup_success_percent", checks.lookup_success_min_percent),
            ("delivery", "delivery_percent", checks.delivery_min_percent),
        ];
        if let (Some(most), Some(found)) = (checks.sent_kbit_max, figures.get("sent_kbit_mean"))
            && *found > most
        {
            let what = format!("a node sends {found:.1} kbit/s, at most {most} are allowed");
            self.record.violation("traffic", None, what);
        }
        for (oracle, figure, least) in limits {
            let (Some(least), Some(found)) = (least, figures.get(figure)) else { continue };
            if *found < least {
                let what = format!("{figure} is {found:.2}, at least {least} is asked for");
                self.record.violation(oracle, None, what);
            }
        }
    }
}

fn first_word(hash: &BlockHash) -> u64 {
    let (words, _) = hash.0.as_chunks::<8>();
    words.first().map_or(0, |word| u64::from_le_bytes(*word))
}
