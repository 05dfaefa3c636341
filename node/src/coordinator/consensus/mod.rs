//! The engine of a network with any number of coordinators: Tendermint, by a library that does no
//! I/O (`arc-malachitebft-core-consensus`), and what it needs around it.
//!
//! The library decides one height at a time and forgets everything between two. Here is what feeds
//! it and does what it asks ([`io`]), what a coordinator must not forget ([`log`]), what is checked
//! of a message before the library sees it ([`door`]), and how one that is behind catches up. One
//! validator alone decides at once, by the same path.
//!
//! What the library asks of its surroundings, and where it is easily misused, is in `README.md`
//! beside this file.

mod context;
mod door;
mod io;
pub(crate) mod log;
#[cfg(test)]
mod tests;

use super::{
    engine::{Engine, Fatal, Input, Output, Submission},
    mempool::{Mempool, Room},
};
use arc_malachitebft_core_consensus::{
    Error as CoreError, Input as CoreInput, LocallyProposedValue, Params, ProposedValue,
    ReplayIndex, State as Core, process,
};
use arc_malachitebft_core_types::{
    LinearTimeouts, Round, ThresholdParams, Timeout, Validity, ValueOrigin, ValuePayload,
    VoteExtensionPolicy,
};
use archipelag_protocol::{
    consensus::{self, Message},
    id::{BlockHash, NodeId, TxId},
    ledger::{Block, Certificate, State, transaction},
    limits::MAX_BLOCK_BYTES,
    query::CertifiedBlock,
    sign::SecretKey,
    time::Timestamp,
};
use context::{Address, Context, Height, Validators, Value};
use door::Door;
use io::{Candidate, Io, Proposed};
use log::Entry;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

/// What a block of ours takes.
const ROOM: Room = Room { transactions: 2_048, size_bytes: MAX_BLOCK_BYTES };
/// How far a block's time may be ahead of our clock before we believe in it.
const CLOCK_DRIFT_MS: u64 = 2_000;

/// How often a coordinator says where it stands, so that one that was away learns that it is behind
/// though nothing happens.
const ANNOUNCE_EVERY_MS: u64 = 5_000;

/// How long a step is waited for, and how much longer in each further round.
const TIMEOUTS: LinearTimeouts = LinearTimeouts {
    propose: Duration::from_millis(2_000),
    propose_delta: Duration::from_millis(500),
    prevote: Duration::from_millis(500),
    prevote_delta: Duration::from_millis(250),
    precommit: Duration::from_millis(500),
    precommit_delta: Duration::from_millis(250),
    rebroadcast: Duration::from_millis(1_000),
    max_timeout: Duration::from_secs(30),
};

/// Why the library can't go on with a height.
enum Stop {
    Fatal(Fatal),
    /// It wants something signed where we signed something else before a restart.
    SignedOtherwise,
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

/// See the module.
pub(crate) struct Consensus {
    core: Core<Context>,
    io: Io,
    door: Door,
    /// What the log of an earlier run has of the height that comes first.
    recovered: Vec<Entry>,
    /// Whether the next height shall begin.
    wanted: bool,
    /// The height for which messages that came early were looked through.
    looked: u64,
    announce: Timestamp,
    /// The block that begins the next height, when that is ours to propose.
    prepared: Option<(BlockHash, Candidate)>,
}

impl std::fmt::Debug for Consensus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (height, round) = (self.io.height(), self.core.round());
        f.debug_struct("Consensus").field("height", &height).field("round", &round).finish()
    }
}

impl Consensus {
    /// An engine that goes on from `state`, whose last block is final by `last`, and from what its
    /// log has of the next height.
    pub(crate) fn new(
        key: SecretKey,
        state: Arc<State>,
        last: Option<Certificate>,
        recovered: Vec<Entry>,
    ) -> Self {
        let validators = Validators::new(&state.validators, &state.turns());
        let me = Address(key.account());
        let io = Io {
            key,
            network: state.network,
            state,
            last,
            validators: validators.clone(),
            mempool: Mempool::default(),
            now: Timestamp(0),
            timers: Vec::new(),
            inputs: Default::default(),
            outputs: Vec::new(),
            candidates: BTreeMap::new(),
            proposed: BTreeMap::new(),
            round: 0,
            value_due: None,
            signed: BTreeMap::new(),
            replaying: false,
            running: false,
            evidence: Vec::new(),
        };
        let core = new_core(me, io.height(), validators, true);
        let wanted = !recovered.is_empty();
        let door = Door::default();
        Self {
            core,
            io,
            door,
            recovered,
            wanted,
            looked: 0,
            announce: Timestamp(0),
            prepared: None,
        }
    }

    /// Whether this coordinator decides the next block, with others or alone.
    fn decides(&self) -> bool {
        self.io.state.validators.contains(self.io.me())
    }

    /// Feeds the library one input. When it asks for a second signature where one was given, the rest
    /// of the height is followed without signing.
    fn feed(&mut self, input: CoreInput<Context>) -> Result<(), Fatal> {
        let (before, height) = (self.io.outputs.len(), self.io.height());
        match self.process(input) {
            Ok(()) => Ok(()),
            Err(Stop::Fatal(fatal)) => Err(fatal),
            Err(Stop::SignedOtherwise) => {
                if self.io.height() == height {
                    self.io.outputs.truncate(before);
                    // What was to be logged may have been among them; twice does no harm.
                    self.io.candidates.values_mut().for_each(Candidate::forget_logged);
                }
                tracing::warn!(height, "coordinator.abstains");
                self.recovered.clear();
                self.io.inputs.clear();
                self.io.replaying = false;
                let me = Address(self.io.me());
                self.core = new_core(me, self.io.height(), self.io.validators.clone(), false);
                self.begin()
            }
        }
    }

    fn process(&mut self, input: CoreInput<Context>) -> Result<(), Stop> {
        let (core, io) = (&mut self.core, &mut self.io);
        // The library takes an error of an effect for a success, so none may come back to it.
        let done: Result<(), CoreError<Context>> = process!(
            input: input, state: core, metrics: &(),
            with: effect => match io.effect(effect) {
                Ok(resume) => Ok::<_, Infallible>(resume),
                Err(stop) => return Err(stop),
            }
        );
        done.map_err(|error| match error {
            CoreError::ReplayDivergence(..) => Stop::SignedOtherwise,
            error => Fatal::Core(error.to_string()).into(),
        })
    }

    /// Feeds what waits and starts what is due, until nothing is left to do.
    fn drain(&mut self) -> Result<(), Fatal> {
        loop {
            if let Some(input) = self.io.inputs.pop_front() {
                if self.io.running {
                    self.feed(input)?;
                }
                continue;
            }
            if self.io.running {
                if self.check_bodies()? || self.propose()? {
                    continue;
                }
            } else if self.is_wanted() && self.decides() {
                self.start()?;
                continue;
            }
            return Ok(());
        }
    }

    /// Whether the next height shall begin: something waits for a block, or others are at it.
    fn is_wanted(&mut self) -> bool {
        let height = self.io.height();
        if !self.wanted && self.looked < height {
            self.looked = height;
            self.door.keep_only(&self.io.state.validators);
            self.wanted = self.door.wakes(&self.io, height);
        }
        self.wanted
    }

    /// Begins the next height: the log of an earlier run first, then what others said meanwhile.
    fn start(&mut self) -> Result<(), Fatal> {
        self.wanted = false;
        let height = self.io.height();
        self.io.validators = Validators::new(&self.io.state.validators, &self.io.state.turns());
        if !self.core.params.enabled {
            let me = Address(self.io.me());
            self.core = new_core(me, height, self.io.validators.clone(), true);
        }
        let entries = std::mem::take(&mut self.recovered);
        if entries.is_empty() {
            self.begin()?;
        } else {
            self.replay(height, &entries)?;
        }
        self.looked = height;
        for (from, message) in self.door.open(height) {
            self.take(from, message)?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Fatal> {
        self.io.running = true;
        self.io.timers.clear();
        self.io.value_due = None;
        let (height, validators) = (Height(self.io.height()), self.io.validators.clone());
        let policy = VoteExtensionPolicy::Disabled;
        self.feed(CoreInput::StartHeight(height, validators, false, None, policy))
    }

    fn replay(&mut self, height: u64, entries: &[Entry]) -> Result<(), Fatal> {
        tracing::info!(height, entries = entries.len(), "coordinator.replay");
        for entry in entries {
            self.io.remember(entry);
            if let Entry::Body(block) = entry {
                self.keep(block.clone(), true)?;
            }
        }
        let inputs: Vec<_> = entries.iter().filter_map(|entry| entry.input(height)).collect();
        self.core.index_wal_entries(inputs.iter());
        self.io.replaying = true;
        self.begin()?;
        for input in &inputs {
            if self.io.running {
                self.feed(input.clone())?;
            }
        }
        self.io.replaying = false;
        self.core.reset_entries_index();
        // What was logged is still what has to be said, for as long as the height lasts.
        self.core.replay_index =
            ReplayIndex::from_wal_entries(inputs.iter(), &Address(self.io.me()));
        Ok(())
    }

    /// Lets the next height begin when something can be put into a block. Who proposes first finds
    /// out by making it: what is not allowed must not cause an empty one.
    fn prepare(&mut self) -> Result<(), Fatal> {
        if self.io.running || self.wanted || !self.io.mempool.is_ready() || !self.decides() {
            return Ok(());
        }
        let first = self.io.state.turns().first() == Some(&self.io.me());
        self.prepared = if first { self.build()? } else { None };
        self.wanted = !first || self.prepared.is_some();
        Ok(())
    }

    /// Gives the library the block that it waits for, unless there is nothing to put into one. From
    /// the second round on an empty one will do, so that a height that was begun ends.
    fn propose(&mut self) -> Result<bool, Fatal> {
        let Some(round) = self.io.value_due else { return Ok(false) };
        let current = self.core.round() == round && self.core.driver.step_is_propose();
        if !current {
            self.io.value_due = None;
            return Ok(false);
        }
        let prepared = self.prepared.take();
        let prepared = prepared.filter(|(_, c)| c.block.header.height == self.io.height());
        let built = match prepared {
            Some(prepared) => Some(prepared),
            None if !self.io.mempool.is_ready() && round == Round::ZERO => None,
            None => self.build()?,
        };
        let built = match built {
            None if round > Round::ZERO => Some(self.build_of(Vec::new())?),
            built => built,
        };
        let Some((hash, candidate)) = built else { return Ok(false) };
        self.io.value_due = None;
        self.io.candidates.insert(hash, candidate);
        self.io.broadcast_body(hash);
        let (height, value) = (Height(self.io.height()), Value(hash));
        self.feed(CoreInput::Propose(LocallyProposedValue { height, round, value }))?;
        Ok(true)
    }

    /// A block of what waits and is allowed; `None` when nothing is.
    fn build(&mut self) -> Result<Option<(BlockHash, Candidate)>, Fatal> {
        let batch = self.io.mempool.select(&self.io.state, ROOM);
        let built = self.build_of(batch)?;
        Ok(Some(built).filter(|(_, candidate)| !candidate.block.transactions.is_empty()))
    }

    fn build_of(&mut self, batch: Vec<Submission>) -> Result<(BlockHash, Candidate), Fatal> {
        let io = &mut self.io;
        let candidates = batch.iter().map(|s| s.transaction.clone());
        let (proposer, last) = (io.me(), io.last.clone());
        let (block, next, outcomes) = io.state.propose(proposer, io.now, last, candidates)?;
        let mut ids = Vec::with_capacity(outcomes.len());
        for (submission, receipt) in batch.iter().zip(outcomes) {
            match receipt.outcome {
                Ok(()) => ids.push(receipt.transaction),
                Err(reason) => {
                    io.mempool.refuse(&io.state, submission);
                    let transaction = receipt.transaction;
                    io.outputs.push(Output::Refused { transaction, reason });
                }
            }
        }
        let hash = block.header.hash()?;
        let leads_to = Some((Arc::new(next), ids));
        Ok((hash, Candidate::new(Box::new(block), leads_to, false)))
    }

    /// Gives the library the blocks of proposals that it accepted, as they are there. Gives whether
    /// there was one.
    fn check_bodies(&mut self) -> Result<bool, Fatal> {
        let io = &self.io;
        let missing = |block: &&BlockHash| !io.candidates.contains_key(*block);
        let wanted: Vec<_> = io.proposed.keys().filter(missing).copied().collect();
        self.door.forget_early();
        for hash in wanted {
            let Some(body) = self.door.body(self.io.now, hash) else { continue };
            self.keep(body, false)?;
            self.offer(hash)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Checks a block of the height in progress, once.
    fn keep(&mut self, block: Box<Block>, logged: bool) -> Result<(), Fatal> {
        let hash = block.header.hash()?;
        let leads_to = match self.io.state.apply_listing(&block) {
            Ok((state, ids)) => Some((Arc::new(state), ids)),
            Err(error) if error.is_ours() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, block = %hash.short(), "coordinator.bad_block");
                None
            }
        };
        self.io.candidates.insert(hash, Candidate::new(block, leads_to, logged));
        Ok(())
    }

    /// Tells the library whether a proposed block is valid.
    fn offer(&mut self, block: BlockHash) -> Result<(), Fatal> {
        let Some(Proposed { round, valid_round, proposer }) = self.io.proposed.get(&block).copied()
        else {
            return Ok(());
        };
        let valid = self.io.candidates.get(&block).is_some_and(|c| c.leads_to.is_some());
        let value = ProposedValue {
            height: Height(self.io.height()),
            round,
            valid_round,
            proposer,
            value: Value(block),
            validity: Validity::from_bool(valid),
        };
        self.feed(CoreInput::ProposedValue(value, ValueOrigin::Consensus))
    }

    /// Takes decided blocks of another coordinator, as far as they follow.
    fn catch_up(&mut self, blocks: Vec<CertifiedBlock>) -> Result<(), Fatal> {
        for certified in blocks {
            let (state, height) = (&self.io.state, certified.block.header.height);
            if height <= state.height {
                continue;
            }
            let checked = certified
                .block
                .header
                .verify(&certified.certificate, &state.validators)
                .and_then(|()| state.apply_listing(&certified.block));
            match checked {
                Ok((state, ids)) => {
                    self.recovered.clear();
                    self.io.running = false;
                    self.io.inputs.clear();
                    self.io.timers.clear();
                    self.io.adopt(certified, Arc::new(state), ids);
                }
                Err(error) if error.is_ours() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "coordinator.bad_blocks");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn peer(&mut self, from: NodeId, bytes: &[u8]) -> Result<(), Fatal> {
        if !self.io.state.validators.iter().any(|validator| validator.node == from) {
            return Ok(());
        }
        match consensus::decode(bytes) {
            Ok(message) => self.take(from, message),
            Err(error) => {
                tracing::warn!(node = %from.short(), %error, "coordinator.bad_message");
                Ok(())
            }
        }
    }

    /// Takes a message of another validator's node.
    fn take(&mut self, from: NodeId, message: Message) -> Result<(), Fatal> {
        match message {
            Message::Status { height } => {
                self.on_status(from, height);
                Ok(())
            }
            Message::Transactions(list) => {
                self.take_transactions(&list);
                Ok(())
            }
            Message::WantDecided { from: first } => {
                if self.door.may_ask(self.io.now, from, door::Question::Decided) {
                    self.io.outputs.push(Output::Serve { to: from, first });
                }
                Ok(())
            }
            Message::Decided(blocks) => {
                let before = self.io.state.height;
                self.catch_up(blocks)?;
                let first = self.io.height();
                if first > before + 1 {
                    // There may be more than went into one message.
                    self.io.send(from, &Message::WantDecided { from: first });
                }
                Ok(())
            }
            Message::WantBlock { height, block } => {
                if height != self.io.height() {
                    self.on_status(from, height.saturating_sub(1));
                    return Ok(());
                }
                if let Some(candidate) = self.io.candidates.get(&block)
                    && candidate.leads_to.is_some()
                    && self.door.may_ask(self.io.now, from, door::Question::Block)
                {
                    let message = Message::Block(candidate.block.clone());
                    self.io.send(from, &message);
                }
                Ok(())
            }
            about => {
                self.take_about(from, about);
                Ok(())
            }
        }
    }

    /// Takes transactions that were submitted to another coordinator, as if they had come here; but
    /// nobody waits for them here, and they are not passed on.
    fn take_transactions(&mut self, list: &[serde_bytes::ByteBuf]) {
        for bytes in list {
            let Ok(transaction) = transaction::decode(bytes, self.io.network) else { continue };
            let id = TxId(Sha256::digest(bytes).into());
            let submission = Submission { id, transaction, size_bytes: bytes.len() };
            // One that is refused here may be taken where it was submitted.
            let _refused = self.io.mempool.add(self.io.now, &self.io.state, submission);
        }
    }

    /// Takes a message about the height in progress, or keeps it until that one is.
    fn take_about(&mut self, from: NodeId, message: Message) {
        let (height, current) = (door::height_of(&message), self.io.height());
        if height < current {
            self.on_status(from, height.saturating_sub(1));
            return;
        }
        if height > current {
            self.on_status(from, height - 1);
            self.door.hold(current, from, message);
            return;
        }
        if let Message::Block(block) = message {
            // With the right header and another body it would pass for a bad block.
            match block.check_body() {
                Ok(()) => self.door.put_body(from, block),
                Err(error) => tracing::debug!(node = %from.short(), %error, "coordinator.bad_body"),
            }
            return;
        }
        let round = if self.io.running { self.core.round() } else { door::ANY_ROUND };
        if let Err(reason) = door::check(&self.io, round, &message) {
            tracing::debug!(node = %from.short(), reason, "coordinator.refused_message");
            return;
        }
        if !self.io.running {
            // Whoever wakes us must be one who may.
            if door::is_signed(&self.io, &message) {
                self.door.hold(current, from, message);
                self.wanted = true;
            }
            return;
        }
        if let Message::Proposal(proposal) = &message {
            let block = proposal.value.block;
            if !self.io.candidates.contains_key(&block) && !self.door.has_body(block) {
                self.io.send(from, &Message::WantBlock { height, block });
            }
        }
        self.io.inputs.extend(door::input(message));
    }

    /// Another one's last block has this height: helps who is behind, or asks who is ahead.
    fn on_status(&mut self, from: NodeId, theirs: u64) {
        let ours = self.io.state.height;
        if theirs < ours && self.door.may_ask(self.io.now, from, door::Question::Status) {
            self.io.send(from, &Message::Status { height: ours });
        }
        if theirs > ours && self.door.may_ask(self.io.now, from, door::Question::Want) {
            self.io.send(from, &Message::WantDecided { from: ours + 1 });
        }
    }

    fn fire(&mut self) -> Result<(), Fatal> {
        let now = self.io.now;
        // Each may clear the others. Of equal times the order is that of their kinds.
        while let Some(index) = self
            .io
            .timers
            .iter()
            .enumerate()
            .filter(|(_, (due, _))| *due <= now)
            .min_by_key(|(_, (due, timeout))| (*due, rank(timeout)))
            .map(|(index, _)| index)
        {
            let (_, timeout) = self.io.timers.swap_remove(index);
            if self.io.running {
                self.io.inputs.push_back(CoreInput::TimeoutElapsed(timeout));
                self.ask_again();
            }
            self.drain()?;
        }
        Ok(())
    }

    /// Asks for the blocks of accepted proposals that are still missing.
    fn ask_again(&mut self) {
        let height = self.io.height();
        let missing: Vec<_> = self
            .io
            .proposed
            .keys()
            .filter(|b| !self.io.candidates.contains_key(*b) && !self.door.has_body(**b))
            .copied()
            .collect();
        for block in missing {
            self.io.broadcast(&Message::WantBlock { height, block });
        }
    }

    fn outputs(&mut self) -> Vec<Output> {
        if !self.io.running {
            // The library arms one more after a decision.
            self.io.timers.clear();
        }
        std::mem::take(&mut self.io.outputs)
    }
}

fn rank(timeout: &Timeout) -> (i64, u8) {
    use arc_malachitebft_core_types::TimeoutKind;
    let kind = match timeout.kind {
        TimeoutKind::Propose => 0,
        TimeoutKind::Prevote => 1,
        TimeoutKind::Precommit => 2,
        TimeoutKind::Rebroadcast => 3,
        TimeoutKind::FinalizeHeight(_) => 4,
    };
    (timeout.round.as_i64(), kind)
}

fn new_core(me: Address, height: u64, validators: Validators, enabled: bool) -> Core<Context> {
    let params = Params {
        address: me,
        threshold_params: ThresholdParams::default(),
        value_payload: ValuePayload::ProposalAndParts,
        enabled,
    };
    // Its queues for later heights hold what nobody has checked: they get no room.
    Core::new(Context, Height(height), validators, params, 0, 0)
}

impl Engine for Consensus {
    fn on(&mut self, now: Timestamp, input: Input) -> Result<Vec<Output>, Fatal> {
        self.io.now = now.max(self.io.now);
        match input {
            Input::Transaction(submission) => {
                let id = submission.id;
                let transaction = submission.transaction.clone();
                match self.io.admit(submission) {
                    Ok(()) if self.io.alone() => {}
                    Ok(()) => {
                        let bytes = transaction::to_bytes(&transaction)?;
                        let list = vec![serde_bytes::ByteBuf::from(bytes)];
                        self.io.broadcast(&Message::Transactions(list));
                    }
                    Err(reason) => {
                        self.io.outputs.push(Output::Refused { transaction: id, reason });
                    }
                }
            }
            Input::Peer { from, message } => {
                self.peer(from, &message)?;
                self.drain()?;
            }
        }
        Ok(self.outputs())
    }

    fn tick(&mut self, now: Timestamp) -> Result<Vec<Output>, Fatal> {
        self.io.now = now.max(self.io.now);
        for (transaction, reason) in self.io.mempool.expire(now, &self.io.state) {
            self.io.outputs.push(Output::Refused { transaction, reason });
        }
        if self.io.now >= self.announce {
            self.announce = self.io.now.after_ms(ANNOUNCE_EVERY_MS);
            self.io.broadcast(&Message::Status { height: self.io.state.height });
        }
        self.fire()?;
        self.prepare()?;
        self.drain()?;
        Ok(self.outputs())
    }

    fn deadline(&self) -> Option<Timestamp> {
        let waits = match self.io.running {
            true => self.io.value_due.is_some(),
            false => self.decides(),
        };
        let begins = self.wanted && !self.io.running && self.decides();
        if (waits && self.io.mempool.is_ready()) || begins {
            return Some(Timestamp(0));
        }
        let timer = self.io.timers.iter().map(|(due, _)| *due).min();
        let announce = (!self.io.alone()).then_some(self.announce);
        let early = self.door.retry().filter(|_| self.io.running);
        let due = [timer, announce, self.io.mempool.expiry(), early];
        due.into_iter().flatten().min()
    }

    fn pending(&self) -> usize {
        self.io.mempool.len()
    }
}
