//! Processes and the network between them, in virtual time.
//!
//! A crash may come in the middle of a write, or before any of the messages that follow it. A
//! validator may be run twice with one key, each half hearing a part of the messages: it signs
//! whatever its halves come to, so it equivocates as a liar would ("Twins: BFT Systems Made
//! Robust", S. Bano and others, 2021).

mod acts;
mod crashes;
mod ending;
mod network;
mod outsiders;

use super::{
    Tally,
    checks::Checks,
    faults::Faults,
    liar::Liar,
    process::Process,
    random::Random,
    users::{self, Users},
};
use anyhow::Context as _;
use archipelag_protocol::{
    amount::Credits,
    genesis::{Allocation, Genesis, Validator},
    id::{AccountId, NodeId, TxId},
    ledger::{SignedTransaction, State},
    policy::{ElectionPolicy, Policy},
    sign::SecretKey,
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const START: u64 = 1_000_000;
/// How long a driver leaves a failing disk alone.
const RETRY_MS: u64 = 1_000;
/// Changes and syncs that a disk may take before it breaks: a commit has fewer.
const OPERATIONS: u64 = 12;

#[derive(Debug)]
enum Event {
    Deliver {
        to: usize,
        from: NodeId,
        bytes: Arc<[u8]>,
    },
    Step {
        process: usize,
    },
    Restart {
        process: usize,
    },
    Mend {
        process: usize,
    },
    /// Asks some other one for the blocks that it lacks, as who does not decide does.
    Follow {
        process: usize,
    },
}

pub(super) struct World {
    genesis: Genesis,
    keys: Vec<SecretKey>,
    processes: Vec<Process>,
    /// Processes of coordinators that have no seat at first.
    spares: Vec<usize>,
    two_faced: BTreeSet<usize>,
    liars: BTreeMap<usize, Liar>,
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    now: u64,
    random: Random,
    faults: Faults,
    /// Which side of a partition each process is on.
    sides: Vec<bool>,
    users: Users,
    /// Transfers, of which one is sent again now and then.
    sent: Vec<(TxId, SignedTransaction)>,
    checks: Checks,
    tally: Tally,
}

/// The node of a coordinator.
pub(super) fn node_of(validator: usize) -> NodeId {
    NodeId([u8::try_from(validator).unwrap_or(u8::MAX); 32])
}

impl World {
    /// Validators and spares, of which some are run twice, and some lie.
    pub(super) fn new(
        seed: u64,
        (validators, spares): (usize, usize),
        election: ElectionPolicy,
        two_faced: &[usize],
        liars: &[usize],
    ) -> anyhow::Result<Self> {
        let all = validators + spares;
        let key = |index| Ok(SecretKey::from_seed([100 + u8::try_from(index)?; 32]));
        let keys: Vec<_> = (0..all).map(key).collect::<anyhow::Result<_>>()?;
        let validator = |(index, key): (usize, &SecretKey)| Validator {
            account: key.account(),
            node: node_of(index),
        };
        let genesis = Genesis {
            name: "simulated".into(),
            created: Timestamp(START),
            policy: Policy { election, ..Policy::default() },
            accounts: users::accounts()
                .chain(keys.iter().map(SecretKey::account))
                .map(|account| Allocation { account, balance: users::BALANCE })
                .collect(),
            treasury: Credits::ZERO,
            validators: keys.iter().take(validators).enumerate().map(validator).collect(),
            publishers: Vec::new(),
        };
        let network = genesis.network()?;
        let (mut processes, mut idle) = (Vec::new(), Vec::new());
        for index in 0..all {
            for _ in 0..if two_faced.contains(&index) { 2 } else { 1 } {
                if index >= validators {
                    idle.push(processes.len());
                }
                processes.push(Process::new(index));
            }
        }
        let key_of = |index: &usize| keys.get(*index).context("there is no such liar").cloned();
        let liars: BTreeMap<_, _> = liars
            .iter()
            .map(|index| Ok((*index, Liar::new(key_of(index)?, network))))
            .collect::<anyhow::Result<_>>()?;
        let mut world = Self {
            genesis,
            keys,
            sides: vec![false; processes.len()],
            processes,
            spares: idle,
            two_faced: two_faced.iter().copied().collect(),
            liars,
            events: BTreeMap::new(),
            order: 0,
            now: START,
            random: Random::new(seed),
            faults: Faults::default(),
            users: Users::new(network),
            sent: Vec::new(),
            checks: Checks::default(),
            tally: Tally { runs: 1, ..Tally::default() },
        };
        for index in 0..world.processes.len() {
            if !world.spares.contains(&index) {
                world.start(index)?;
            }
        }
        Ok(world)
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.insert((at, self.order), event);
    }

    fn process(&mut self, index: usize) -> anyhow::Result<&mut Process> {
        self.processes.get_mut(index).context("there is no such process")
    }

    fn is_honest(&self, validator: usize) -> bool {
        !self.two_faced.contains(&validator) && !self.liars.contains_key(&validator)
    }

    fn start(&mut self, index: usize) -> anyhow::Result<()> {
        let skew_ms = self.random.below(self.faults.skew_ms + 1);
        let process = self.processes.get_mut(index).context("there is no such process")?;
        let key = self.keys.get(process.validator).context("it has no key")?;
        process.start(&self.genesis, key, node_of(process.validator))?;
        process.skew_ms = skew_ms;
        self.plan(index, 0)
    }

    /// Plans the next step of a process: after `ms`, or when its driver wants it.
    fn plan(&mut self, index: usize, ms: u64) -> anyhow::Result<()> {
        let now = self.now;
        let process = self.process(index)?;
        let at = now + ms.max(1);
        if process.planned.is_none_or(|planned| planned > at) && process.running.is_some() {
            process.planned = Some(at);
            self.schedule(at, Event::Step { process: index });
        }
        Ok(())
    }

    fn plan_deadline(&mut self, index: usize) -> anyhow::Result<()> {
        let now = self.now;
        let process = self.process(index)?;
        let Some(running) = &process.running else { return Ok(()) };
        let after = match running.coordinator.unwritable() {
            Some(_) => RETRY_MS,
            None => match running.driver.deadline() {
                Some(due) => due.0.saturating_sub(process.skew_ms).saturating_sub(now),
                None => return Ok(()),
            },
        };
        self.plan(index, after)
    }

    fn step(&mut self, index: usize) -> anyhow::Result<()> {
        let crashes = self.random.once_in(self.faults.crash_every);
        let in_a_write = crashes && self.random.percent(50);
        let fails = !crashes && self.random.once_in(self.faults.fail_every);
        let operations = self.random.below(OPERATIONS);
        let (now, random) = (self.now, &mut self.random);
        let process = self.processes.get_mut(index).context("there is no such process")?;
        process.planned = None;
        let (validator, clock) = (process.validator, Timestamp(now + process.skew_ms));
        let Some(running) = &mut process.running else { return Ok(()) };
        if in_a_write {
            process.disk.break_after(operations);
        }
        if fails {
            // It is full, or broken altogether.
            if random.percent(30) {
                process.disk.fill()
            } else {
                process.disk.break_after(operations)
            }
            let mended = now + 500 + random.below(4_000);
            self.tally.disks_failed += 1;
            self.order += 1;
            self.events.insert((mended, self.order), Event::Mend { process: index });
        }
        running.driver.step(clock).with_context(|| format!("coordinator {validator}"))?;
        let (answers, state) = (running.answers(), running.coordinator.state());
        let sent: Vec<_> = std::iter::from_fn(|| running.outgoing.try_recv().ok()).collect();
        process.height = state.height;
        if !self.two_faced.contains(&validator) {
            self.checks.state(&state, self.genesis.minted().unwrap_or_default(), &self.users)?;
        }
        if self.is_honest(validator) {
            for (id, height) in answers {
                match height {
                    Some(height) => self.checks.acknowledged(id, height)?,
                    None => drop(self.users.transfers.remove(&id)),
                }
            }
        }
        let leave = if crashes { self.random.below(6) } else { u64::MAX };
        for message in sent.into_iter().take(usize::try_from(leave).unwrap_or(usize::MAX)) {
            self.send(index, message.to, message.message)?;
        }
        match crashes {
            true => self.crash(index),
            false => self.plan_deadline(index),
        }
    }

    /// Lets `ms` milliseconds pass.
    ///
    /// # Errors
    /// The rule that was broken.
    pub(super) fn run(&mut self, ms: u64) -> anyhow::Result<()> {
        let end = self.now + ms;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            match event {
                Event::Deliver { to, from, bytes } => self.deliver(to, from, &bytes)?,
                Event::Step { process } => {
                    if self.process(process)?.planned == Some(at) {
                        self.step(process)?;
                    }
                }
                Event::Restart { process } => self.start(process)?,
                Event::Mend { process } => {
                    self.process(process)?.disk.mend();
                    self.plan(process, 0)?;
                }
                Event::Follow { process } => self.follow(process)?,
            }
        }
        self.now = end;
        Ok(())
    }

    /// Ends all faults and lets what was going on end.
    ///
    /// # Errors
    /// The rule that was broken.
    pub(super) fn heal(&mut self) -> anyhow::Result<()> {
        self.faults = Faults::default();
        self.run(60_000)
    }

    /// The state after the longest chain.
    fn latest(&self) -> anyhow::Result<Arc<State>> {
        let states = self.processes.iter().filter_map(Process::state);
        match states.max_by_key(|state| state.height) {
            Some(state) => Ok(state),
            None => Ok(Arc::new(State::genesis(self.genesis.clone())?)),
        }
    }

    /// Who has a seat after the longest chain.
    pub(super) fn seats(&self) -> BTreeSet<AccountId> {
        let latest = self.latest();
        latest.iter().flat_map(|state| state.validators.iter()).map(|seat| seat.account).collect()
    }
}
