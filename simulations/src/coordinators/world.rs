//! Processes and the network between them, in virtual time.
//!
//! A crash may come in the middle of a write, or before any of the messages that follow it. A
//! validator may be run twice with one key, each half hearing a part of the messages: it signs
//! whatever its halves come to, so it equivocates as a liar would ("Twins: BFT Systems Made
//! Robust", S. Bano and others, 2021).

use super::{
    Tally,
    checks::Checks,
    liar::Liar,
    process::{Process, Running},
    random::Random,
    users::{self, Users},
};
use anyhow::{Context as _, ensure};
use archipelag_protocol::{
    amount::Credits,
    genesis::{Allocation, Genesis, Validator},
    id::{AccountId, NodeId, TxId},
    ledger::{SignedTransaction, State, Trust, transaction},
    limits::MAX_PAGE,
    policy::{ElectionPolicy, Policy},
    query::{CertifiedBlock, Request, Response},
    sign::SecretKey,
    time::Timestamp,
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const START: u64 = 1_000_000;
/// How long a driver leaves a failing disk alone.
const RETRY_MS: u64 = 1_000;
/// Changes and syncs that a disk may take before it breaks: a commit has fewer.
const OPERATIONS: u64 = 12;
/// After how many seconds a user sends again what no block took.
const SENT_AGAIN_S: u64 = 10;
/// What coordinators do about elections per act of a user, when there are some.
const CANVASSED: usize = 5;
/// How long one validator says nothing before it is another's turn, when some do.
const MUTE_MS: u64 = 5_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) loss_percent: u64,
    pub(super) delay_ms: u64,
    /// One crash per so many steps; zero for none.
    pub(super) crash_every: u64,
    /// How often a user's act finds everybody killed at once.
    pub(super) blackout_percent: u64,
    /// One disk that refuses writes for seconds per so many steps.
    pub(super) fail_every: u64,
    pub(super) skew_ms: u64,
    pub(super) partition: bool,
    /// Whether a crash may take the disk along.
    pub(super) lose_disks: bool,
    /// Whether one validator after the other says nothing for a while.
    pub(super) mute: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss_percent: 0,
            delay_ms: 20,
            crash_every: 0,
            blackout_percent: 0,
            fail_every: 0,
            skew_ms: 0,
            partition: false,
            lose_disks: false,
            mute: false,
        }
    }
}

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

    /// Starts the coordinators without a seat. They go on from a snapshot, if there is one, and
    /// follow the others.
    pub(super) fn start_spares(&mut self) -> anyhow::Result<()> {
        for index in self.spares.clone() {
            self.start(index)?;
            self.tally.joined += u64::from(self.join(index)?);
            self.schedule(self.now + 1, Event::Follow { process: index });
        }
        // Whoever loses its seat follows as well.
        for index in 0..self.processes.len() {
            if !self.spares.contains(&index) {
                self.schedule(self.now + 1, Event::Follow { process: index });
            }
        }
        Ok(())
    }

    /// Whether there was a snapshot to go on from.
    fn join(&mut self, index: usize) -> anyhow::Result<bool> {
        let other = self.processes.first().context("there is nobody")?;
        let (mut bytes, mut at) = (Vec::new(), 0);
        loop {
            let offset = u64::try_from(bytes.len())?;
            let request = Request::Snapshot { height: at, offset };
            let Response::Snapshot { height, size_bytes, part } = other.ask(request)? else {
                return Ok(false);
            };
            at = height;
            bytes.extend_from_slice(&part);
            if u64::try_from(bytes.len())? >= size_bytes {
                break;
            }
        }
        let certified = blocks_of(other, at, 1)?.pop().context("the snapshot has no block")?;
        Trust::genesis(&self.genesis)?.check(&certified.block.header, &certified.certificate)?;
        let process = self.process(index)?;
        let running = process.running.as_mut().context("it is down")?;
        let joined = running.coordinator.join(bytes, certified, Vec::new());
        futures::FutureExt::now_or_never(joined).context("it does not join at once")??;
        self.plan(index, 0)?;
        Ok(true)
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

    /// Some user wants something; then some time passes.
    ///
    /// # Errors
    /// The rule that was broken.
    pub(super) fn act(&mut self, elections: bool) -> anyhow::Result<()> {
        let transfer = self.users.transfer(&mut self.random)?;
        self.submit(&transfer)?;
        self.sent.push(transfer);
        if self.random.percent(60) {
            let state = self.latest()?;
            let payment = self.users.payment(&mut self.random, &state)?;
            self.submit(&payment)?;
        }
        if self.random.percent(30) {
            self.entrust()?;
        }
        if self.random.percent(10)
            && let Some(again) = self.random.pick(&self.sent).cloned()
        {
            self.submit(&again)?;
        }
        for _ in 0..if elections { CANVASSED } else { 0 } {
            let state = self.latest()?;
            let vote = self.users.canvass(&mut self.random, &self.keys, &state)?;
            self.submit(&vote)?;
        }
        if self.faults.partition && self.random.percent(20) {
            for side in &mut self.sides {
                *side = self.random.percent(50);
            }
        }
        if self.random.percent(self.faults.blackout_percent) {
            self.black_out()?;
        }
        if self.faults.skew_ms > 0 && self.random.percent(30) {
            let index = self.random.below(u64::try_from(self.processes.len())?);
            let skew_ms = self.random.below(self.faults.skew_ms + 1);
            self.process(usize::try_from(index)?)?.skew_ms = skew_ms;
        }
        let pause = self.random.below(400);
        self.run(pause)
    }

    /// A payee has some coordinator redeem a voucher.
    fn entrust(&mut self) -> anyhow::Result<()> {
        let state = self.latest()?;
        let Some(voucher) = self.users.entrusted(&mut self.random, &state)? else { return Ok(()) };
        let index = usize::try_from(self.random.below(u64::try_from(self.processes.len())?))?;
        let process = self.process(index)?;
        if process.running.is_some() {
            process.ask(Request::Entrust(vec![voucher]))?;
            self.plan(index, 0)?;
        }
        Ok(())
    }

    /// Brings a transaction to somebody who decides; to all of them when some may be away or lie,
    /// since who gets no answer asks another.
    fn submit(&mut self, (id, signed): &(TxId, SignedTransaction)) -> anyhow::Result<()> {
        let bytes = transaction::to_bytes(signed)?;
        let faults = self.faults;
        let lies = !self.two_faced.is_empty() || !self.liars.is_empty();
        let unsafe_here = lies || faults.crash_every + faults.fail_every > 0 || faults.partition;
        let seats = self.seats();
        let seated: Vec<_> = (0..self.processes.len())
            .filter(|index| {
                let process = self.processes.get(*index);
                let key = process.and_then(|process| self.keys.get(process.validator));
                key.is_some_and(|key| seats.contains(&key.account()))
            })
            .collect();
        let one = self.random.pick(&seated).copied();
        for index in 0..self.processes.len() {
            if !unsafe_here && Some(index) != one {
                continue;
            }
            let process = self.process(index)?;
            let Some(running) = &mut process.running else { continue };
            // One whose disk refuses writes takes nothing: its submitters are told at once.
            if running.coordinator.unwritable().is_none()
                && let Ok(answer) = running.coordinator.offer(&bytes)
            {
                running.waiting.push((*id, answer));
                self.plan(index, 0)?;
            }
        }
        Ok(())
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

    fn crash(&mut self, index: usize) -> anyhow::Result<()> {
        // A killed process leaves all that it wrote to the operating system; a power cut none, or a
        // part.
        let keeps = [0, 50, 100];
        let keep = self.random.pick(&keeps).copied().unwrap_or_default();
        let mut draws = self.random.split();
        let losable = self.faults.lose_disks && self.can_lose_disk() && self.random.percent(95);
        let process = self.process(index)?;
        process.kill(|_| draws.percent(keep));
        if losable {
            *process = Process::new(process.validator);
            self.tally.disks_lost += 1;
        }
        self.tally.crashes += 1;
        let at = self.now + 50 + self.random.below(3_000);
        self.schedule(at, Event::Restart { process: index });
        Ok(())
    }

    /// One at a time, not while another one has not come back from the same, and not before the
    /// second block, when nobody could tell a loss from a beginning.
    fn can_lose_disk(&self) -> bool {
        let back = |process: &Process| {
            process.running.as_ref().is_some_and(|running| running.coordinator.votes())
        };
        let begun = self.processes.iter().all(|process| process.height >= 2);
        begun && self.processes.iter().all(back)
    }

    /// Kills everybody at once.
    fn black_out(&mut self) -> anyhow::Result<()> {
        self.tally.blackouts += 1;
        let disks = std::mem::replace(&mut self.faults.lose_disks, false);
        for index in 0..self.processes.len() {
            if self.process(index)?.running.is_some() {
                self.crash(index)?;
            }
        }
        self.faults.lose_disks = disks;
        Ok(())
    }

    fn send(&mut self, from: usize, to: Option<NodeId>, message: Vec<u8>) -> anyhow::Result<()> {
        let sender = self.process(from)?.validator;
        if self.is_honest(sender) {
            self.checks.said(&message)?;
            for liar in self.liars.values_mut() {
                liar.hear(&message);
            }
        }
        let turn = (self.now / MUTE_MS) % u64::try_from(self.keys.len())?;
        if self.faults.mute && turn == u64::try_from(sender)? {
            return Ok(());
        }
        let message: Arc<[u8]> = message.into();
        for index in 0..self.processes.len() {
            let receiver = self.process(index)?.validator;
            if receiver == sender || to.is_some_and(|to| to != node_of(receiver)) {
                continue;
            }
            // Each half of a liar hears and says only a part.
            let halved = self.two_faced.contains(&sender) || self.two_faced.contains(&receiver);
            let apart = self.faults.partition && self.sides.get(from) != self.sides.get(index);
            if apart
                || (halved && self.random.percent(40))
                || self.random.percent(self.faults.loss_percent)
            {
                continue;
            }
            let mut bytes = Arc::clone(&message);
            if let Some(liar) = self.liars.get_mut(&sender)
                && let Some(other) = liar.instead_of(&mut self.random, &message)
            {
                bytes = other.into();
                self.tally.forged += 1;
            }
            let at = self.now + 1 + self.random.below(self.faults.delay_ms);
            self.tally.messages += 1;
            self.schedule(at, Event::Deliver { to: index, from: node_of(sender), bytes });
        }
        Ok(())
    }

    fn deliver(&mut self, to: usize, from: NodeId, bytes: &[u8]) -> anyhow::Result<()> {
        let process = self.process(to)?;
        let Some(running) = &process.running else { return Ok(()) };
        running.coordinator.receive(from, bytes.to_vec());
        // What comes within a moment is looked at together, as in a busy process.
        let moment = 1 + self.random.below(3);
        self.plan(to, moment)
    }

    fn follow(&mut self, index: usize) -> anyhow::Result<()> {
        let again = self.now + 300 + self.random.below(400);
        self.schedule(again, Event::Follow { process: index });
        let one = usize::try_from(self.random.below(u64::try_from(self.processes.len())?))?;
        let apart = self.faults.partition && self.sides.get(one) != self.sides.get(index);
        let Some(state) = self.process(index)?.state() else { return Ok(()) };
        let other = self.processes.get(one).context("there is no such process")?;
        if apart || other.running.is_none() || self.random.percent(self.faults.loss_percent) {
            return Ok(());
        }
        let blocks = blocks_of(other, state.height + 1, MAX_PAGE)?;
        if let Some(Running { coordinator, .. }) = &self.process(index)?.running
            && !blocks.is_empty()
        {
            coordinator.follow(blocks);
            self.plan(index, 0)?;
        }
        Ok(())
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

    /// All honest ones agree, and a new transfer gets through; nothing that was acknowledged is
    /// lost.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        // What was lost may have left a gap in its account; another account's must get through.
        let fresh = self.users.last_transfer(&mut self.random)?;
        for second in 0..180 {
            // Who is told that no block took it sends it again.
            if second % SENT_AGAIN_S == 0 && !self.checks.acknowledged.contains_key(&fresh.0) {
                self.submit(&fresh)?;
            }
            self.run(1_000)?;
            if self.agree() && self.checks.acknowledged.contains_key(&fresh.0) {
                break;
            }
        }
        ensure!(self.checks.acknowledged.contains_key(&fresh.0), "nothing is decided any more");
        ensure!(self.agree(), "somebody stays behind");
        let chain = self.chain()?;
        let included = included(&chain)?;
        self.checks.nothing_lost(&included)?;
        let mut state = State::genesis(self.genesis.clone())?;
        for certified in &chain {
            state = archipelag_node::coordinator::follow(&state, certified)?;
        }
        self.tally.blocks = state.height;
        self.tally.transactions = u64::try_from(included.len())?;
        Ok(())
    }

    /// Every transfer that nobody refused is in a block, where nothing was lost but messages.
    ///
    /// # Errors
    /// What is not.
    pub(super) fn all_included(&self) -> anyhow::Result<()> {
        let included = included(&self.chain()?)?;
        let missing = self.users.transfers.iter().filter(|id| !included.contains_key(*id));
        let missing: Vec<_> = missing.collect();
        ensure!(missing.is_empty(), "in no block: {missing:?}");
        Ok(())
    }

    /// Whether all honest processes are at one height.
    fn agree(&self) -> bool {
        let honest = self.processes.iter().filter(|process| self.is_honest(process.validator));
        let mut heights = honest.filter_map(Process::state).map(|state| state.height);
        let first = heights.next();
        heights.all(|height| Some(height) == first)
    }

    /// All blocks, by an honest process that has them.
    fn chain(&self) -> anyhow::Result<Vec<CertifiedBlock>> {
        let honest = self.processes.iter().filter(|process| self.is_honest(process.validator));
        for process in honest {
            let mut chain: Vec<CertifiedBlock> = Vec::new();
            loop {
                let next = u64::try_from(chain.len())? + 1;
                let page = blocks_of(process, next, MAX_PAGE)?;
                if page.is_empty() {
                    break;
                }
                chain.extend(page);
            }
            if !chain.is_empty() {
                return Ok(chain);
            }
        }
        anyhow::bail!("nobody has the first block")
    }

    /// What the run came to.
    ///
    /// # Errors
    /// When a process is down.
    pub(super) fn tally(&self) -> anyhow::Result<Tally> {
        let mut hash = Sha256::new();
        for process in &self.processes {
            let state = process.state().context("it is down")?;
            hash.update(state.last_block.0);
            hash.update(state.root().0);
        }
        hash.update(self.order.to_be_bytes());
        let state = self.latest()?;
        let slashed = |validator: &usize| {
            let account = self.keys.get(*validator).map(SecretKey::account);
            account.and_then(|a| state.stakes.get(&a)).is_some_and(|stake| stake.slashed)
        };
        let liars = || self.two_faced.iter().chain(self.liars.keys());
        let found_out = u64::from(liars().any(slashed));
        for honest in (0..self.keys.len()).filter(|validator| self.is_honest(*validator)) {
            ensure!(!slashed(&honest), "{honest} is honest and lost its stake");
        }
        let seats = self.seats();
        for liar in liars().filter(|liar| slashed(liar)) {
            let account = self.keys.get(*liar).map(SecretKey::account);
            ensure!(account.is_none_or(|a| !seats.contains(&a)), "{liar} lied and has a seat");
        }
        Ok(Tally {
            digest: hash.finalize().into(),
            acknowledged: u64::try_from(self.checks.acknowledged.len())?,
            simulated_ms: self.now - START,
            slashed: found_out,
            ..self.tally.clone()
        })
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

    /// Where each process stands, for who has to find out why they are stuck.
    pub(super) fn standing(&self) -> String {
        let seats = self.seats();
        let one = |process: &Process| {
            let key = self.keys.get(process.validator);
            let seat = key.is_some_and(|key| seats.contains(&key.account()));
            let seat = if seat { "seated" } else { "without a seat" };
            let driver = process.running.as_ref().map(|running| &running.driver);
            format!("{} {seat}: {driver:?}", process.validator)
        };
        self.processes.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

/// The transactions of a chain, and their heights.
fn included(chain: &[CertifiedBlock]) -> anyhow::Result<BTreeMap<TxId, u64>> {
    let mut included = BTreeMap::new();
    for CertifiedBlock { block, .. } in chain {
        for signed in &block.transactions {
            included.insert(transaction::id(signed)?, block.header.height);
        }
    }
    Ok(included)
}

/// At most `limit` blocks from `from` on that a process has.
fn blocks_of(process: &Process, from: u64, limit: usize) -> anyhow::Result<Vec<CertifiedBlock>> {
    match process.ask(Request::Blocks { from, limit: u16::try_from(limit)? })? {
        Response::Blocks(blocks) => Ok(blocks),
        // Its disk fails.
        _ => Ok(Vec::new()),
    }
}
