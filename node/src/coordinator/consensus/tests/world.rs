//! Some engines and a network between them, in virtual time and by one seed.
//!
//! A node's disk holds what its engine's outputs said must be durable; a crash may come before that,
//! or before any of the messages after it. Messages are delayed, reordered and lost. A validator may
//! be run twice with one key, each half seeing a part of the messages: it signs whatever its halves
//! come to, so it equivocates as a liar would ("Twins: BFT Systems Made Robust", S. Bano and others,
//! 2021).

use super::super::{Consensus, log::Entry};
use crate::coordinator::{
    engine::{Decided, Engine, Input, Output, Submission},
    staged::Staged,
};
use archipelag_protocol::{
    amount::Credits,
    consensus::{self, MAX_BLOCKS, Message},
    genesis::{Allocation, Genesis, Validator},
    id::{AccountId, BlockHash, NodeId, TxId},
    ledger::{Action, State, Transaction, transaction, vote::Step},
    policy::{ElectionPolicy, Policy},
    query::CertifiedBlock,
    sign::SecretKey,
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub(super) const START: u64 = 1_000_000;
const USERS: u8 = 8;

/// SplitMix64 (S. Vigna, public domain): numbers that depend on the seed alone.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) loss_percent: u64,
    pub(super) delay_ms: u64,
    /// One crash per so many steps; zero for none.
    pub(super) crash_every: u64,
    pub(super) skew_ms: u64,
    pub(super) partition: bool,
    /// Whether a crash may take the disk along.
    pub(super) lose_disks: bool,
}

pub(super) const CALM: Faults = Faults {
    loss_percent: 0,
    delay_ms: 20,
    crash_every: 0,
    skew_ms: 0,
    partition: false,
    lose_disks: false,
};

/// A process: a validator, or one of the two halves of a liar.
struct Process {
    validator: usize,
    engine: Option<Consensus>,
    blocks: Vec<CertifiedBlock>,
    /// After the last of them.
    state: Arc<State>,
    log: BTreeMap<u64, Vec<Entry>>,
    has_voted: bool,
    skew_ms: u64,
}

#[derive(Debug)]
enum Event {
    Deliver {
        to: usize,
        from: NodeId,
        bytes: Vec<u8>,
    },
    Tick {
        process: usize,
    },
    Restart {
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
    /// Validators that are run twice.
    liars: BTreeSet<usize>,
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) faults: Faults,
    /// Which side of a partition each process is on.
    sides: Vec<bool>,
    /// What was acknowledged, by transaction.
    pub(super) acknowledged: BTreeSet<TxId>,
    submitted: BTreeMap<AccountId, u64>,
    pub(super) steps: u64,
    pub(super) disks_lost: u64,
    pub(super) killed_all: u64,
    /// What each honest validator signed, by height, round and step (none for a proposal).
    signed: BTreeMap<(AccountId, u64, u32, Option<Step>), Option<BlockHash>>,
}

fn user(index: u8) -> SecretKey {
    SecretKey::from_seed([index + 1; 32])
}

impl World {
    pub(super) fn new(seed: u64, validators: u8, liars: &[usize]) -> Self {
        Self::with_spares(seed, validators, 0, liars, ElectionPolicy::default())
    }

    /// As [`World::new`], with coordinators that follow and may be elected.
    pub(super) fn with_spares(
        seed: u64,
        validators: u8,
        spares: u8,
        liars: &[usize],
        election: ElectionPolicy,
    ) -> Self {
        let all = validators + spares;
        let keys: Vec<_> = (0..all).map(|i| SecretKey::from_seed([100 + i; 32])).collect();
        let validator = |(index, key): (u8, &SecretKey)| Validator {
            account: key.account(),
            node: NodeId([index; 32]),
        };
        let genesis = Genesis {
            name: "test".into(),
            created: Timestamp(START),
            policy: Policy { election, ..Policy::default() },
            accounts: (0..=USERS)
                .map(|i| user(i).account())
                .chain(keys.iter().map(SecretKey::account))
                .map(|account| Allocation { account, balance: Credits::from_whole(1_000) })
                .collect(),
            treasury: Credits::ZERO,
            validators: (0..validators).zip(&keys).map(validator).collect(),
            publishers: Vec::new(),
        };
        let first = Arc::new(State::genesis(genesis.clone()).unwrap());
        let mut processes = Vec::new();
        for index in 0..keys.len() {
            for _ in 0..if liars.contains(&index) { 2 } else { 1 } {
                processes.push(Process {
                    validator: index,
                    engine: None,
                    blocks: Vec::new(),
                    state: Arc::clone(&first),
                    log: BTreeMap::new(),
                    has_voted: false,
                    skew_ms: 0,
                });
            }
        }
        let sides = vec![false; processes.len()];
        let mut world = Self {
            genesis,
            keys,
            processes,
            liars: liars.iter().copied().collect(),
            events: BTreeMap::new(),
            order: 0,
            now: START,
            random: Random(seed),
            faults: CALM,
            sides,
            acknowledged: BTreeSet::new(),
            submitted: BTreeMap::new(),
            steps: 0,
            disks_lost: 0,
            killed_all: 0,
            signed: BTreeMap::new(),
        };
        for index in 0..world.processes.len() {
            world.start(index);
            if spares > 0 {
                world.schedule(START + 1, Event::Follow { process: index });
            }
        }
        world
    }

    fn state_of(&self, blocks: &[CertifiedBlock]) -> State {
        let mut state = State::genesis(self.genesis.clone()).unwrap();
        for certified in blocks {
            certified.block.header.verify(&certified.certificate, &state.validators).unwrap();
            state = state.apply(&certified.block).unwrap();
        }
        state
    }

    fn start(&mut self, index: usize) {
        let process = &self.processes[index];
        let state = Arc::new(self.state_of(&process.blocks));
        let last = process.blocks.last().map(|last| last.certificate.clone());
        let log = process.log.get(&(state.height + 1)).cloned().unwrap_or_default();
        let key = self.keys[process.validator].clone();
        let node = NodeId([u8::try_from(process.validator).unwrap(); 32]);
        let skew_ms = self.random.below(self.faults.skew_ms + 1);
        let process = &mut self.processes[index];
        let has_voted = process.has_voted;
        process.skew_ms = skew_ms;
        process.engine = Some(Consensus::new(key, Some(node), state, last, log, has_voted));
        self.plan(index);
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.insert((at, self.order), event);
    }

    fn plan(&mut self, index: usize) {
        let process = &self.processes[index];
        let Some(due) = process.engine.as_ref().and_then(Engine::deadline) else { return };
        let at = due.0.saturating_sub(process.skew_ms).max(self.now);
        self.schedule(at, Event::Tick { process: index });
    }

    /// A transfer, brought to one validator. The next one of the same account follows it.
    pub(super) fn submit(&mut self) {
        let from = user(u8::try_from(self.random.below(u64::from(USERS))).unwrap());
        self.submit_of(&from);
    }

    /// A transfer of an account that sent nothing before.
    pub(super) fn submit_fresh(&mut self) -> TxId {
        self.submit_of(&user(USERS))
    }

    fn submit_of(&mut self, from: &SecretKey) -> TxId {
        let nonce = *self.submitted.entry(from.account()).and_modify(|n| *n += 1).or_insert(0);
        let to = user(u8::try_from(self.random.below(u64::from(USERS))).unwrap()).account();
        let amount = Credits::from_micro(1 + self.random.below(1_000));
        self.submit_action(from, nonce, Action::Transfer { to, amount })
    }

    /// Somebody takes part in the elections: a coordinator bonds, stands or stands down, or approves
    /// of two others.
    pub(super) fn canvass(&mut self) {
        let count = self.keys.len() as u64;
        let mut draw = || self.random.below(count);
        let (who, one, other) = (draw(), draw(), draw());
        let key = |index: u64| self.keys[usize::try_from(index).unwrap()].clone();
        let mut candidates = vec![key(one).account(), key(other).account()];
        candidates.sort_unstable();
        candidates.dedup();
        let node = NodeId([u8::try_from(who).unwrap(); 32]);
        let from = key(who);
        let state = Arc::clone(self.latest());
        let bonded = state.stakes.get(&from.account()).is_some_and(|s| s.bonded > Credits::ZERO);
        let action = match self.random.below(8) {
            _ if !bonded => Action::Bond { amount: Credits::from_whole(150) },
            0..3 => Action::Candidate { node: Some(node) },
            3 => Action::Candidate { node: None },
            4 => Action::Unbond { amount: Credits::from_whole(150) },
            _ => Action::Approve { candidates },
        };
        let nonce = state.accounts[&from.account()].nonce;
        self.submit_action(&from, nonce, action);
    }

    fn submit_action(&mut self, from: &SecretKey, nonce: u64, action: Action) -> TxId {
        let network = self.genesis.network().unwrap();
        let signed = from.seal(network, Transaction { nonce, salt: 0, action }).unwrap();
        let id = transaction::id(&signed).unwrap();
        let size_bytes = transaction::to_bytes(&signed).unwrap().len();
        // Who brings it to one that is down, or cut off, would bring it to another.
        let unsafe_here = self.faults.crash_every > 0 || self.faults.partition;
        // Nor to one that has no seat.
        let seats = self.seats();
        let seated = |p: &Process| seats.contains(&self.keys[p.validator].account());
        let places: Vec<_> =
            (0..self.processes.len()).filter(|index| seated(&self.processes[*index])).collect();
        let one = places[usize::try_from(self.random.below(places.len() as u64)).unwrap()];
        for index in 0..self.processes.len() {
            if unsafe_here || index == one {
                let submission = Submission { id, transaction: signed.clone(), size_bytes };
                self.step(index, |engine, now| engine.on(now, Input::Transaction(submission)));
            }
        }
        id
    }

    fn clock(&self, index: usize) -> Timestamp {
        Timestamp(self.now + self.processes[index].skew_ms)
    }

    fn step(
        &mut self,
        index: usize,
        act: impl FnOnce(
            &mut Consensus,
            Timestamp,
        ) -> Result<Vec<Output>, crate::coordinator::engine::Fatal>,
    ) {
        let now = self.clock(index);
        self.steps += 1;
        let crashes =
            self.faults.crash_every > 0 && self.random.below(self.faults.crash_every) == 0;
        let Some(engine) = &mut self.processes[index].engine else { return };
        let outputs = act(engine, now).expect("an engine does not fail");
        let me = self.keys[self.processes[index].validator].account();
        let staged = Staged::of(outputs, me);
        let mut sent = if crashes { self.random.below(6) } else { u64::MAX };
        for message in &staged.early {
            if sent == 0 {
                return self.crash(index);
            }
            self.send(index, None, message);
            sent -= 1;
        }
        if staged.settled {
            self.check_backed(&staged.decided);
            self.acknowledge(index, &staged.decided);
        }
        if crashes && self.random.percent(30) {
            return self.crash(index);
        }
        self.processes[index].has_voted |= staged.votes;
        self.persist(index, staged.log, &staged.decided);
        if crashes && self.random.percent(30) {
            return self.crash(index);
        }
        self.acknowledge(index, &staged.decided);
        self.perform(index, staged.after, sent);
        match crashes {
            true => self.crash(index),
            false => self.plan(index),
        }
    }

    fn crash(&mut self, index: usize) {
        self.processes[index].engine = None;
        // One at a time, not while another one has not come back from the same, and not before the
        // second block, when nobody could tell a loss from a beginning.
        let others = self.processes.iter().all(|p| p.has_voted);
        let begun = self.processes[index].blocks.len() >= 2;
        if self.faults.lose_disks && others && begun && self.random.percent(80) {
            let process = &mut self.processes[index];
            (process.blocks, process.log, process.has_voted) = (Vec::new(), BTreeMap::new(), false);
            process.state = Arc::new(State::genesis(self.genesis.clone()).unwrap());
            self.disks_lost += 1;
        }
        let at = self.now + 50 + self.random.below(3_000);
        self.schedule(at, Event::Restart { process: index });
    }

    fn persist(&mut self, index: usize, log: Vec<(u64, Entry)>, decided: &[Decided]) {
        let process = &mut self.processes[index];
        for (height, entry) in log {
            // Through its bytes, as on a disk.
            let bytes = archipelag_protocol::codec::encode_loose("log", &entry).unwrap();
            let back = archipelag_protocol::codec::decode_loose("log", 1 << 23, &bytes);
            assert_eq!(back.as_ref(), Ok(&entry));
            process.log.entry(height).or_default().push(entry);
        }
        for decided in decided {
            assert_eq!(decided.state.height, process.blocks.len() as u64 + 1);
            process.blocks.push(decided.certified.clone());
            process.state = Arc::clone(&decided.state);
        }
        let next = process.blocks.len() as u64 + 1;
        process.log = process.log.split_off(&next);
    }

    /// What is acknowledged before its own disk has it is decided by votes that other disks have.
    fn check_backed(&self, decided: &[Decided]) {
        for Decided { certified, state, .. } in decided {
            let certificate = &certified.certificate;
            let has = |p: &Process, account: AccountId| {
                let own = self.keys[p.validator].account() == account;
                let ours = |entry: &Entry| {
                    matches!(entry, Entry::Vote(vote)
                        if vote.signer == account && vote.value == certificate.vote())
                };
                let logged = p.log.get(&state.height).is_some_and(|log| log.iter().any(ours));
                own && (logged || p.blocks.len() as u64 >= state.height)
            };
            let backed = certificate.votes.iter().filter(|(voter, _)| {
                let is_liar = |liar: &usize| self.keys[*liar].account() == *voter;
                self.liars.iter().any(is_liar) || self.processes.iter().any(|p| has(p, *voter))
            });
            // Whoever lost its disk since has lost its vote with it.
            let lost = usize::from(self.disks_lost > 0);
            assert!(backed.count() + lost >= certificate.votes.len(), "block {}", state.height);
        }
    }

    /// Everybody at once.
    pub(super) fn kill_all(&mut self) {
        self.killed_all += 1;
        let disks = std::mem::replace(&mut self.faults.lose_disks, false);
        for index in 0..self.processes.len() {
            if self.processes[index].engine.is_some() {
                self.crash(index);
            }
        }
        self.faults.lose_disks = disks;
    }

    fn acknowledge(&mut self, index: usize, decided: &[Decided]) {
        if !self.liars.contains(&self.processes[index].validator) {
            let receipts = decided.iter().flat_map(|decided| &decided.receipts);
            self.acknowledged.extend(receipts.map(|receipt| receipt.transaction));
        }
    }

    fn perform(&mut self, index: usize, outputs: Vec<Output>, mut sent: u64) {
        for output in outputs {
            if sent == 0 {
                return;
            }
            match output {
                Output::Send { to, message } => self.send(index, Some(to), &message),
                Output::Broadcast { message } => self.send(index, None, &message),
                Output::Serve { to, first } => {
                    let skip = usize::try_from(first.saturating_sub(1)).unwrap();
                    let blocks = self.processes[index].blocks.iter().skip(skip);
                    let blocks = blocks.take(MAX_BLOCKS).cloned().collect();
                    let message = consensus::encode(&Message::Decided(blocks)).unwrap();
                    self.send(index, Some(to), &message);
                }
                Output::Refused { .. }
                | Output::Log { .. }
                | Output::Early { .. }
                | Output::Voter
                | Output::Joined(_)
                | Output::Decided(_) => continue,
            }
            sent -= 1;
        }
    }

    /// No honest validator says two things, before or after a crash.
    fn note(&mut self, message: &[u8]) {
        let (signer, act, block) = match consensus::decode(message).unwrap() {
            Message::Vote(vote) => {
                let value = vote.value;
                (vote.signer, (value.height, value.round, Some(value.step)), value.block)
            }
            Message::Proposal(proposal) => {
                let value = proposal.value;
                (proposal.signer, (value.height, value.round, None), Some(value.block))
            }
            _ => return,
        };
        let (height, round, step) = act;
        let said = self.signed.entry((signer, height, round, step)).or_insert(block);
        assert_eq!(*said, block, "two things at {height}/{round} {step:?}");
    }

    fn send(&mut self, from: usize, to: Option<NodeId>, message: &[u8]) {
        let sender = self.processes[from].validator;
        if !self.liars.contains(&sender) {
            self.note(message);
        }
        for index in 0..self.processes.len() {
            let receiver = self.processes[index].validator;
            let node = NodeId([u8::try_from(receiver).unwrap(); 32]);
            if receiver == sender || to.is_some_and(|to| to != node) {
                continue;
            }
            // Each half of a liar hears and says only a part.
            let halved = self.liars.contains(&sender) || self.liars.contains(&receiver);
            let apart = self.faults.partition && self.sides[from] != self.sides[index];
            if apart
                || (halved && self.random.percent(40))
                || self.random.percent(self.faults.loss_percent)
            {
                continue;
            }
            let at = self.now + 1 + self.random.below(self.faults.delay_ms);
            let from = NodeId([u8::try_from(sender).unwrap(); 32]);
            self.schedule(at, Event::Deliver { to: index, from, bytes: message.to_vec() });
        }
    }

    fn follow(&mut self, index: usize) {
        let again = self.now + 300 + self.random.below(400);
        self.schedule(again, Event::Follow { process: index });
        let one = usize::try_from(self.random.below(self.processes.len() as u64)).unwrap();
        let apart = self.faults.partition && self.sides[one] != self.sides[index];
        let have = self.processes[index].blocks.len();
        let blocks = &self.processes[one].blocks;
        if apart || blocks.len() <= have || self.random.percent(self.faults.loss_percent) {
            return;
        }
        let blocks = blocks[have..].iter().take(MAX_BLOCKS).cloned().collect();
        self.step(index, |engine, now| engine.on(now, Input::Decided(blocks)));
    }

    /// Draws which processes are on which side of a partition.
    pub(super) fn divide(&mut self) {
        for side in 0..self.sides.len() {
            self.sides[side] = self.random.percent(50);
        }
    }

    /// Lets `ms` milliseconds pass.
    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(((at, order), _)) = self.events.first_key_value() {
            let key = (*at, *order);
            if key.0 > end {
                break;
            }
            self.now = self.now.max(key.0);
            match self.events.remove(&key).unwrap() {
                Event::Deliver { to, from, bytes } => {
                    let input = Input::Peer { from, message: bytes };
                    self.step(to, |engine, now| engine.on(now, input));
                }
                Event::Tick { process } => {
                    let due = self.processes[process].engine.as_ref().and_then(Engine::deadline);
                    if due.is_some_and(|due| due <= self.clock(process)) {
                        self.step(process, |engine, now| engine.tick(now));
                    }
                }
                Event::Restart { process } => self.start(process),
                Event::Follow { process } => self.follow(process),
            }
        }
        self.now = end;
    }

    /// What has to hold at any time: no two honest processes decided differently, and each chain is
    /// one that follows from the genesis.
    pub(super) fn check(&self) {
        let honest = self.processes.iter().filter(|p| !self.liars.contains(&p.validator));
        let chains: Vec<_> = honest.map(|p| &p.blocks).collect();
        let longest = chains.iter().max_by_key(|blocks| blocks.len()).unwrap();
        for chain in &chains {
            for (one, other) in chain.iter().zip(longest.iter()) {
                assert_eq!(one.block, other.block, "two blocks at one height");
            }
        }
        let state = self.state_of(longest);
        state.check_conservation().unwrap();
    }

    /// Nothing that was acknowledged is lost; when everybody is back, since a node may acknowledge what
    /// others decided before its own disk has it.
    pub(super) fn check_acknowledged(&self) {
        let longest = self.processes.iter().map(|p| &p.blocks).max_by_key(|b| b.len()).unwrap();
        let included: BTreeSet<_> = longest
            .iter()
            .flat_map(|c| &c.block.transactions)
            .map(|t| transaction::id(t).unwrap())
            .collect();
        let lost: Vec<_> = self.acknowledged.difference(&included).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }

    /// Where each process stands, for who has to find out why they are stuck.
    pub(super) fn standing(&self) -> Vec<String> {
        let seats = self.seats();
        let one = |p: &Process| {
            let seated = seats.contains(&self.keys[p.validator].account());
            format!(
                "{} {seated} {} {:?} pending {:?}",
                p.validator,
                p.blocks.len(),
                p.engine,
                p.engine.as_ref().map(|e| (e.pending(), e.deadline()))
            )
        };
        self.processes.iter().map(one).collect()
    }

    pub(super) fn has_spares(&self) -> bool {
        self.keys.len() > self.genesis.validators.len()
    }

    /// The state after the longest chain.
    fn latest(&self) -> &Arc<State> {
        &self.processes.iter().max_by_key(|p| p.blocks.len()).unwrap().state
    }

    /// Who has a seat after the longest chain.
    pub(super) fn seats(&self) -> BTreeSet<AccountId> {
        self.latest().validators.iter().map(|v| v.account).collect()
    }

    /// The account of a coordinator.
    pub(super) fn account(&self, validator: usize) -> AccountId {
        self.keys[validator].account()
    }

    /// Whether the longest chain took a stake for signing two things.
    pub(super) fn is_slashed(&self, validator: usize) -> bool {
        self.latest().stakes.get(&self.account(validator)).is_some_and(|s| s.slashed)
    }

    /// Heights of the honest processes.
    pub(super) fn heights(&self) -> Vec<usize> {
        let honest = self.processes.iter().filter(|p| !self.liars.contains(&p.validator));
        honest.map(|p| p.blocks.len()).collect()
    }

    /// Transfers in the blocks of the process that is furthest.
    pub(super) fn included(&self) -> usize {
        let longest = self.processes.iter().map(|p| &p.blocks).max_by_key(|b| b.len()).unwrap();
        let all = longest.iter().flat_map(|c| &c.block.transactions);
        all.filter(|t| matches!(t.value.action, Action::Transfer { .. })).count()
    }

    /// A hash over all chains: the same seed gives the same.
    pub(super) fn digest(&self) -> archipelag_protocol::id::ContentId {
        let bytes: VecDeque<u8> = self
            .processes
            .iter()
            .flat_map(|p| &p.blocks)
            .flat_map(|c| archipelag_protocol::codec::encode("digest", &c).unwrap())
            .collect();
        archipelag_protocol::id::ContentId::of(&Vec::from(bytes))
    }
}
