//! What is checked of another validator's message before the consensus library sees it, and what is
//! kept of messages that come too early.
//!
//! The library bounds little: it verifies certificates signature by signature, takes any body for
//! one of its two for a round, and knows no senders. So a message gets in when its lengths, rounds
//! and signers are possible; what is kept is bounded for each sender, so that nobody takes
//! another's room; and who asks is answered now and then.

use super::{
    CLOCK_DRIFT_MS,
    context::{Context, core_proposal, core_vote},
    io::{Io, core_round},
    log::core_polka,
};
use arc_malachitebft_core_consensus::Input;
use arc_malachitebft_core_types::Round;
use archipelag_protocol::{
    consensus::Message,
    id::{AccountId, BlockHash, NodeId},
    ledger::{Block, ValidatorSet},
    time::Timestamp,
};
use std::collections::{BTreeMap, VecDeque};

/// Rounds ahead of ours from which the library takes votes and proposals.
const ROUNDS_AHEAD: u32 = 10;
/// Messages of one sender for the next height.
const HELD_PER_SENDER: usize = 64;
/// Bodies of one sender that no accepted proposal has named yet.
const BODIES_PER_SENDER: usize = 2;
/// Between two answers to the same short question of one sender.
const ANSWER_EVERY_MS: u64 = 100;
/// Between two requests for decided blocks, and between two answers to one.
const WANT_EVERY_MS: u64 = 250;
/// While no height is in progress, votes of whatever round may wake us.
pub(super) const ANY_ROUND: Round = Round::new(u32::MAX);

/// What another one may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    Status,
    Block,
    Decided,
    /// Ours, of who says that it is ahead.
    Want,
}

#[derive(Debug, Default)]
pub(super) struct Door {
    /// Messages about the height after the one in progress.
    held: BTreeMap<NodeId, VecDeque<Message>>,
    bodies: BTreeMap<NodeId, VecDeque<Box<Block>>>,
    asked: BTreeMap<(NodeId, Question), Timestamp>,
    /// When a body that is ahead of our clock may be looked at again.
    early: Option<Timestamp>,
}

impl Door {
    /// Keeps a message about the height after `current`, or about `current` while that one has not
    /// begun. Others are dropped: who is far behind catches up by decided blocks.
    pub(super) fn hold(&mut self, current: u64, from: NodeId, message: Message) {
        if height_of(&message) > current + 1 {
            return;
        }
        if let Message::Block(block) = message {
            self.put_body(from, block);
            return;
        }
        let held = self.held.entry(from).or_default();
        if held.len() >= HELD_PER_SENDER {
            held.pop_front();
        }
        held.push_back(message);
    }

    /// What was kept about `height`, which begins now. What is about an earlier one is dropped.
    pub(super) fn open(&mut self, height: u64) -> Vec<(NodeId, Message)> {
        let mut now = Vec::new();
        for (from, messages) in &mut self.held {
            messages.retain(|message| height_of(message) >= height);
            while let Some(index) = messages.iter().position(|m| height_of(m) == height) {
                now.extend(messages.remove(index).map(|message| (*from, message)));
            }
        }
        self.held.retain(|_, messages| !messages.is_empty());
        for bodies in self.bodies.values_mut() {
            bodies.retain(|block| block.header.height >= height);
        }
        self.bodies.retain(|_, bodies| !bodies.is_empty());
        self.early = None;
        now
    }

    /// Whether a validator is at `height`, by a message that was kept.
    pub(super) fn wakes(&self, io: &Io, height: u64) -> bool {
        let messages = self.held.values().flatten().filter(|m| height_of(m) == height);
        messages.into_iter().any(|m| check(io, ANY_ROUND, m).is_ok() && is_signed(io, m))
    }

    pub(super) fn put_body(&mut self, from: NodeId, block: Box<Block>) {
        let bodies = self.bodies.entry(from).or_default();
        if bodies.len() >= BODIES_PER_SENDER {
            bodies.pop_front();
        }
        bodies.push_back(block);
    }

    pub(super) fn has_body(&self, hash: BlockHash) -> bool {
        self.bodies.values().flatten().any(|block| is(block, hash))
    }

    /// The body of a block, unless it is not there or its time has not come by our clock.
    pub(super) fn body(&mut self, now: Timestamp, hash: BlockHash) -> Option<Box<Block>> {
        for bodies in self.bodies.values_mut() {
            let Some(index) = bodies.iter().position(|block| is(block, hash)) else { continue };
            let time = bodies.get(index)?.header.time;
            let earliest = Timestamp(time.0.saturating_sub(CLOCK_DRIFT_MS));
            if earliest > now {
                self.early = Some(self.early.map_or(earliest, |e| e.min(earliest)));
                return None;
            }
            return bodies.remove(index);
        }
        None
    }

    pub(super) fn retry(&self) -> Option<Timestamp> {
        self.early
    }

    /// Whether `from` gets an answer to this question now.
    pub(super) fn may_ask(&mut self, now: Timestamp, from: NodeId, question: Question) -> bool {
        let last = self.asked.get(&(from, question));
        let every_ms = match question {
            Question::Status | Question::Block => ANSWER_EVERY_MS,
            Question::Decided | Question::Want => WANT_EVERY_MS,
        };
        if last.is_some_and(|last| now.since_ms(*last) < every_ms) {
            return false;
        }
        self.asked.insert((from, question), now);
        true
    }

    pub(super) fn forget_early(&mut self) {
        self.early = None;
    }

    /// Forgets who is no validator any more.
    pub(super) fn keep_only(&mut self, validators: &ValidatorSet) {
        let stays = |node: &NodeId| validators.iter().any(|validator| validator.node == *node);
        self.held.retain(|node, _| stays(node));
        self.bodies.retain(|node, _| stays(node));
        self.asked.retain(|(node, _), _| stays(node));
    }
}

fn is(block: &Block, hash: BlockHash) -> bool {
    block.header.hash() == Ok(hash)
}

/// The height that a message is about; that of other messages is the largest there is.
pub(super) fn height_of(message: &Message) -> u64 {
    match message {
        Message::Vote(vote) => vote.value.height,
        Message::Proposal(proposal) => proposal.value.height,
        Message::Polka(polka) => polka.height,
        Message::NewRound(new) => new.height,
        Message::Block(block) => block.header.height,
        Message::WantBlock { height, .. } | Message::Status { height } => *height,
        Message::WantDecided { .. } | Message::Decided(_) | Message::Transactions(_) => u64::MAX,
    }
}

/// Whether a message about the height in progress is possible, apart from its signatures.
pub(super) fn check(io: &Io, current: Round, message: &Message) -> Result<(), &'static str> {
    let latest = current.as_u32().unwrap_or(0).saturating_add(ROUNDS_AHEAD);
    let validators = &io.state.validators;
    match message {
        Message::Vote(vote) => {
            one_of(validators, vote.signer)?;
            if vote.value.round > latest { Err("a vote of a round far ahead") } else { Ok(()) }
        }
        Message::Proposal(proposal) => {
            one_of(validators, proposal.signer)?;
            let value = &proposal.value;
            if value.round > latest {
                return Err("a proposal of a round far ahead");
            }
            match value.valid_round.is_some_and(|valid| valid >= value.round) {
                true => Err("a proposal that is valid since a later round"),
                false => Ok(()),
            }
        }
        Message::Polka(polka) => {
            voters(validators, polka.votes.iter().map(|(voter, _)| *voter), validators.quorum())
        }
        Message::NewRound(new) => {
            let accounts = new.votes.iter().map(|vote| vote.voter);
            voters(validators, accounts, validators.one_honest())
        }
        _ => Ok(()),
    }
}

fn one_of(validators: &ValidatorSet, account: AccountId) -> Result<(), &'static str> {
    if validators.contains(account) { Ok(()) } else { Err("its signer is no validator") }
}

/// A certificate names distinct validators, in their order, and enough of them.
fn voters(
    validators: &ValidatorSet,
    accounts: impl Iterator<Item = AccountId>,
    needed: usize,
) -> Result<(), &'static str> {
    let (mut before, mut count) = (None, 0_usize);
    for account in accounts {
        one_of(validators, account)?;
        if before.is_some_and(|before| before >= account) {
            return Err("a certificate whose voters are not in their order");
        }
        before = Some(account);
        count += 1;
    }
    if count < needed { Err("a certificate with too few votes") } else { Ok(()) }
}

/// Whether a vote or proposal is its signer's. Of a certificate it says no.
pub(super) fn is_signed(io: &Io, message: &Message) -> bool {
    match message {
        Message::Vote(vote) => vote.verify(io.network).is_ok(),
        Message::Proposal(proposal) => proposal.verify(io.network).is_ok(),
        _ => false,
    }
}

/// The library's form of a message about the height in progress.
pub(super) fn input(message: Message) -> Option<Input<Context>> {
    Some(match message {
        Message::Vote(vote) => Input::Vote(core_vote(vote)),
        Message::Proposal(proposal) => Input::Proposal(core_proposal(proposal)),
        Message::Polka(polka) => Input::PolkaCertificate(core_polka(&polka)),
        Message::NewRound(new) => Input::RoundCertificate(core_round(&new)),
        _ => return None,
    })
}
