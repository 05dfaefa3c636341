//! The engine of a network with any number of coordinators: Tendermint, by a library that does no
//! I/O (`arc-malachitebft-core-consensus`), and what it needs around it.
//!
//! The library decides one height at a time and forgets everything between two. Here is what feeds
//! it and does what it asks ([`io`]), what a coordinator must not forget ([`log`]), the blocks that
//! it is about ([`blocks`]), what others say ([`peers`]), and what is checked of that before the
//! library sees it ([`door`]). One validator alone decides at once, by the same path.
//!
//! What the library asks of its surroundings, and where it is easily misused, is in `README.md`
//! beside this file.

mod blocks;
mod context;
mod door;
mod io;
pub(crate) mod log;
mod newcomer;
mod own;
mod peers;
#[cfg(test)]
mod tests;
mod verify;

use super::{
    engine::{Engine, Fatal, Input, Output},
    mempool::{Mempool, Room},
};
use arc_malachitebft_core_consensus::{
    Error as CoreError, Input as CoreInput, Params, ReplayIndex, State as Core, process,
};
use arc_malachitebft_core_types::{
    LinearTimeouts, ThresholdParams, Timeout, ValuePayload, VoteExtensionPolicy,
};
use archipelag_protocol::{
    consensus::{MAX_TRANSACTIONS, Message},
    id::{BlockHash, NodeId},
    ledger::{Certificate, State},
    limits::MAX_BLOCK_BYTES,
    sign::SecretKey,
    time::Timestamp,
};
use context::{Address, Context, Height, Validators};
use door::Door;
use io::{Candidate, Io};
use log::Entry;
use newcomer::Newcomer;
use serde_bytes::ByteBuf;
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

/// What a block of ours takes.
const ROOM: Room = Room { transactions: 2_048, size_bytes: MAX_BLOCK_BYTES };
/// Transactions of each other coordinator that are looked at together; the rest come again.
const MAX_ARRIVED: usize = 1_024;
/// Bytes of transactions that go into one message: it travels among votes.
const TOLD_BYTES: usize = 24 << 10;
/// How far a block's time may be ahead of our clock before we believe in it.
const CLOCK_DRIFT_MS: u64 = 2_000;

/// How often a coordinator says where it stands, so that one that was away learns that it is behind
/// though nothing happens.
const ANNOUNCE_EVERY_MS: u64 = 5_000;

/// How often one that has just started asks where the others are.
const ASK_EVERY_MS: u64 = 300;

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
    /// Until it is where the others are.
    newcomer: Option<Newcomer>,
    /// When a transaction of its own may be sent again.
    asks: Timestamp,
    /// Transactions of other coordinators since the last tick, and own ones that they have to hear
    /// of: together they cost less.
    arrived: BTreeMap<NodeId, Vec<ByteBuf>>,
    told: Vec<Arc<[u8]>>,
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
    /// log has of the next height. Unless it `has_voted`, as far as its disk knows, it watches
    /// first.
    pub(crate) fn new(
        key: SecretKey,
        node: Option<NodeId>,
        state: Arc<State>,
        last: Option<Certificate>,
        recovered: Vec<Entry>,
        has_voted: bool,
    ) -> Self {
        let validators = Validators::new(&state.validators, &state.turns());
        let me = Address(key.account());
        let io = Io {
            key,
            node,
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
            reserved: None,
            may_have_proposed: false,
            signed: BTreeMap::new(),
            evidence: BTreeMap::new(),
            entrusted: Vec::new(),
            replaying: false,
            running: false,
        };
        let core = new_core(me, io.height(), validators, true);
        // A place that was reserved asks for nothing.
        let newcomer = (!io.alone() || !has_voted).then(|| Newcomer::new(!has_voted));
        let wanted = recovered.iter().any(|entry| !matches!(entry, Entry::Reserved { .. }));
        let door = Door::default();
        Self {
            core,
            io,
            door,
            recovered,
            wanted,
            looked: 0,
            announce: Timestamp(0),
            newcomer,
            asks: Timestamp(0),
            arrived: BTreeMap::new(),
            told: Vec::new(),
            prepared: None,
        }
    }

    /// Whether this coordinator decides the next block, with others or alone.
    fn decides(&self) -> bool {
        self.has_seat() && self.newcomer.as_ref().is_none_or(|newcomer| !newcomer.forgot())
    }

    fn has_seat(&self) -> bool {
        let seat = self.io.state.validators.get(self.io.me());
        seat.is_some_and(|seat| Some(seat.node) == self.io.node)
    }

    /// Lets one that only watched vote, when it may.
    fn settle_in(&mut self) {
        let Some(newcomer) = &mut self.newcomer else { return };
        let (now, state, own) = (self.io.now, &self.io.state, self.io.node);
        if self.io.alone() || newcomer.has_arrived(now, state, own) {
            if newcomer.forgot() {
                self.io.outputs.push(Output::Voter);
            }
            self.newcomer = None;
            tracing::info!(height = self.io.height(), "coordinator.arrived");
        }
    }

    /// Feeds the library one input. When it asks for a second signature where one was given, the
    /// rest of the height is followed without signing.
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

    /// Tells the others what was submitted here.
    fn tell(&mut self) {
        let (mut list, mut size_bytes) = (Vec::new(), 0);
        for bytes in std::mem::take(&mut self.told) {
            let full = size_bytes + bytes.len() > TOLD_BYTES || list.len() >= MAX_TRANSACTIONS;
            if full && !list.is_empty() {
                self.io.broadcast(&Message::Transactions(std::mem::take(&mut list)));
                size_bytes = 0;
            }
            size_bytes += bytes.len();
            list.push(bytes.to_vec().into());
        }
        if !list.is_empty() {
            self.io.broadcast(&Message::Transactions(list));
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
                let bytes = Arc::clone(&submission.bytes);
                match self.io.admit(submission) {
                    Ok(()) if self.io.alone() => {}
                    Ok(()) => self.told.push(bytes),
                    Err(reason) => {
                        self.io.outputs.push(Output::Refused { transaction: id, reason });
                    }
                }
            }
            Input::Heard(submission) => {
                // One that is refused here may be taken where it was submitted.
                let _refused = self.io.admit(submission);
            }
            Input::Entrusted(vouchers) => self.io.entrust(vouchers),
            Input::Current => {
                if let Some(newcomer) = &mut self.newcomer {
                    newcomer.is_at(self.io.state.height);
                }
                self.settle_in();
                self.drain()?;
            }
            Input::Joined(joined) => {
                if joined.state.height > self.io.state.height {
                    self.recovered.clear();
                    self.io.running = false;
                    self.io.inputs.clear();
                    self.io.timers.clear();
                    self.io.join(joined);
                }
                self.drain()?;
            }
            Input::Decided(blocks) => {
                self.catch_up(blocks)?;
                self.drain()?;
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
            let (every_ms, message) = match self.newcomer {
                // Whoever answers says where it is.
                Some(_) => (ASK_EVERY_MS, Message::WantDecided { from: self.io.height() }),
                None => (ANNOUNCE_EVERY_MS, Message::Status { height: self.io.state.height }),
            };
            self.announce = self.io.now.after_ms(every_ms);
            if self.has_seat() {
                self.io.broadcast(&message);
            }
        }
        self.settle_in();
        self.take_arrived();
        self.tell();
        self.fire()?;
        self.ask()?;
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
        let gathered = !self.arrived.is_empty() || !self.told.is_empty();
        if self.newcomer.is_some() && self.io.alone() {
            return Some(Timestamp(0));
        }
        if (waits && self.io.mempool.is_ready()) || begins || gathered {
            return Some(Timestamp(0));
        }
        let timer = self.io.timers.iter().map(|(due, _)| *due).min();
        let announce = (!self.io.alone()).then_some(self.announce);
        let early = self.door.retry().filter(|_| self.io.running);
        let asks = (self.decides() && self.io.wants_something()).then_some(self.asks);
        let due = [timer, announce, self.io.mempool.expiry(), early, asks];
        due.into_iter().flatten().min()
    }

    fn pending(&self) -> usize {
        self.io.mempool.len()
    }

    fn is_current(&self) -> bool {
        self.io.alone() || self.newcomer.as_ref().is_none_or(Newcomer::is_current)
    }
}
