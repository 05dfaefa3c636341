//! Everything around the consensus library's state machine that its effects touch.
//!
//! Effects only stage: what is staged becomes durable before any of it leaves (the driver's doing),
//! so their order among themselves is all that matters here.

use super::{
    Stop, TIMEOUTS,
    context::{
        Address, Context, CoreProposal, CoreVote, Height, Validators, block_of, kind_of,
        proposal_of, round_of, signed_proposal_of, signed_vote_of, step_of, value_of, vote_of,
    },
    log::{Entry, polka_of},
};
use crate::coordinator::{
    engine::Submission,
    engine::{Decided, Fatal, Joined, Output},
    mempool::{Mempool, Room},
};
use arc_malachitebft_core_consensus::{
    Effect, Input, LivenessMsg, Resumable, Resume, SignedConsensusMsg,
};
use arc_malachitebft_core_types::{
    CommitCertificate, Round, RoundCertificate, RoundCertificateType, SignedMessage, Timeout,
};
use archipelag_protocol::{
    consensus::{self, Message, NewRound, RoundVote, Why},
    id::{AccountId, BlockHash, NetworkId, NodeId, Signature, TxId},
    ledger::{
        Block, Certificate, Evidence, Rejected, State, TransactionReceipt, block, vote::Step,
    },
    payment::SignedVoucher,
    query::CertifiedBlock,
    sign::SecretKey,
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// What is told again of waiting transactions.
const REPEATED: Room = Room { transactions: 64, size_bytes: 24 << 10 };

/// A block of the height in progress, checked.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) block: Box<Block>,
    /// What it leads to; `None` when it is not valid.
    pub(super) leads_to: Option<(Arc<State>, Vec<TxId>)>,
    /// Whether its body is in the log.
    logged: bool,
}

impl Candidate {
    /// `logged` says whether its body is in the log.
    pub(super) fn new(
        block: Box<Block>,
        leads_to: Option<(Arc<State>, Vec<TxId>)>,
        logged: bool,
    ) -> Self {
        Self { block, leads_to, logged }
    }

    pub(super) fn forget_logged(&mut self) {
        self.logged = false;
    }
}

/// A proposal that the library accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proposed {
    pub(super) round: Round,
    pub(super) valid_round: Round,
    pub(super) proposer: Address,
}

/// What this validator has signed in the height in progress, a proposal or a vote of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    block: Option<BlockHash>,
    valid_round: Option<u32>,
    signature: Signature,
    logged: bool,
}

/// Prevotes and precommits by their step, proposals as `None`.
pub(super) type Act = (u32, Option<Step>);

#[derive(Debug)]
pub(super) struct Io {
    pub(super) key: SecretKey,
    pub(super) node: Option<NodeId>,
    pub(super) network: NetworkId,
    /// After the last decided block, and why that is final.
    pub(super) state: Arc<State>,
    pub(super) last: Option<Certificate>,
    /// Of the height in progress.
    pub(super) validators: Validators,
    pub(super) mempool: Mempool,
    pub(super) now: Timestamp,
    pub(super) timers: Vec<(Timestamp, Timeout)>,
    /// What the library has to be fed.
    pub(super) inputs: VecDeque<Input<Context>>,
    pub(super) outputs: Vec<Output>,
    pub(super) candidates: BTreeMap<BlockHash, Candidate>,
    /// Accepted proposals by their block.
    pub(super) proposed: BTreeMap<BlockHash, Proposed>,
    /// The round of the height in progress.
    pub(super) round: u32,
    /// The round for which the library wants a value from us.
    pub(super) value_due: Option<Round>,
    /// The height for which it is in the log that a proposal of ours for round 0 may leave early.
    pub(super) reserved: Option<u64>,
    /// Whether one may have left before a restart, so that there must be no other.
    pub(super) may_have_proposed: bool,
    /// The fence: nothing is signed twice.
    pub(super) signed: BTreeMap<Act, Signed>,
    /// Proofs that validators signed two things, by who did.
    pub(super) evidence: BTreeMap<AccountId, Evidence>,
    /// The vouchers that this one redeems for somebody, one of a lane, in the order in which they
    /// came.
    pub(super) entrusted: Vec<SignedVoucher>,
    /// Whether the log of an earlier run is being fed again.
    pub(super) replaying: bool,
    /// Whether a height is in progress. While none is, the library must be fed nothing.
    pub(super) running: bool,
}

impl Io {
    pub(super) fn height(&self) -> u64 {
        self.state.height.saturating_add(1)
    }

    pub(super) fn me(&self) -> AccountId {
        self.key.account()
    }

    /// Whether this one decides and nobody else.
    pub(super) fn alone(&self) -> bool {
        self.state.validators.len() == 1 && self.state.validators.contains(self.me())
    }

    /// Takes a transaction in. With others, what the state does not allow must be refused before
    /// anybody else has it: once it was passed on, another's block may take it after all.
    ///
    /// # Errors
    /// Why it was refused.
    pub(super) fn admit(&mut self, submission: Submission) -> Result<(), Rejected> {
        let (transaction, nonce) = (&submission.transaction, submission.transaction.value.nonce);
        let account = self.state.accounts.get(&transaction.signer);
        if !self.alone() && account.is_some_and(|account| account.nonce == nonce) {
            self.state.allows(transaction, submission.id)?;
        }
        self.mempool.add(self.now, &self.state, submission)
    }

    /// Whether the next block could have something that waits here. What it could not is refused:
    /// who proposes would leave it out, and be taken for absent by those who wait for a block.
    pub(super) fn has_allowed(&mut self) -> bool {
        while let Some(first) = self.mempool.first_ready(&self.state) {
            let Err(reason) = self.state.allows(&first.transaction, first.id) else { return true };
            let first = first.clone();
            self.mempool.refuse(&self.state, &first);
            self.outputs.push(Output::Refused { transaction: first.id, reason });
        }
        false
    }

    /// What a block leads to; signatures of transactions that wait here were checked when they
    /// came.
    ///
    /// # Errors
    /// As [`State::apply`].
    pub(super) fn apply(&self, block: &Block) -> Result<(State, Vec<TxId>), block::Error> {
        self.state.apply_listing(block, |transaction, id| self.mempool.has(transaction, id))
    }

    pub(super) fn send(&mut self, to: NodeId, message: &Message) {
        if let Some(message) = encoded(message) {
            self.outputs.push(Output::Send { to, message });
        }
    }

    pub(super) fn broadcast(&mut self, message: &Message) {
        if !self.alone()
            && let Some(message) = encoded(message)
        {
            self.outputs.push(Output::Broadcast { message });
        }
    }

    fn log(&mut self, height: u64, entry: Entry) {
        self.outputs.push(Output::Log { height, entry });
    }

    pub(super) fn effect(&mut self, effect: Effect<Context>) -> Result<Resume<Context>, Stop> {
        Ok(match effect {
            Effect::CancelAllTimeouts(then) => {
                self.timers.clear();
                then.resume_with(())
            }
            Effect::CancelTimeout(timeout, then) => {
                self.timers.retain(|(_, armed)| *armed != timeout);
                then.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, then) => {
                self.schedule(timeout);
                then.resume_with(())
            }
            Effect::StartRound(_, round, _, _, then) => {
                self.round = round_of(round);
                then.resume_with(())
            }
            Effect::GetValue(_, round, _, then) => {
                self.value_due = Some(round);
                then.resume_with(())
            }
            Effect::SignVote(vote, then) => then.resume_with(self.sign_vote(vote)?),
            Effect::SignProposal(proposal, then) => then.resume_with(self.sign_proposal(proposal)?),
            Effect::WalAppend(height, input, then) => {
                self.append(height.0, &input)?;
                then.resume_with(())
            }
            Effect::Decide(certificate, _, then) => {
                self.decide(&certificate)?;
                then.resume_with(())
            }
            Effect::Finalize(_, _, evidence, then) => {
                self.running = false;
                self.accuse(&evidence);
                then.resume_with(())
            }
            Effect::ExtendVote(..)
            | Effect::VerifyVoteExtension(..)
            | Effect::CertVerifiedSyncValue(..)
            | Effect::CertRejectedSyncValue(..)
            | Effect::VerifyExtendedCommitCertificate(..) => {
                return Err(Fatal::Core("it asks for what is switched off".into()).into());
            }
            other => return self.message(other),
        })
    }

    /// Effects that send something, or ask whether something that was sent is right.
    fn message(&mut self, effect: Effect<Context>) -> Result<Resume<Context>, Stop> {
        Ok(match effect {
            Effect::PublishConsensusMsg(message, then) => {
                self.publish(&message);
                then.resume_with(())
            }
            Effect::PublishLivenessMsg(message, then) => {
                let message = match message {
                    LivenessMsg::Vote(vote) => Message::Vote(signed_vote_of(&vote)),
                    LivenessMsg::PolkaCertificate(polka) => Message::Polka(polka_of(&polka)),
                    LivenessMsg::SkipRoundCertificate(new) => Message::NewRound(new_round_of(&new)),
                };
                self.broadcast(&message);
                then.resume_with(())
            }
            Effect::RepublishVote(vote, then) => {
                self.broadcast(&Message::Vote(signed_vote_of(&vote)));
                if step_of(vote.kind) == Step::Prevote {
                    self.repeat_proposal();
                    self.repeat_transactions();
                }
                then.resume_with(())
            }
            Effect::RepublishRoundCertificate(new, then) => {
                self.broadcast(&Message::NewRound(new_round_of(&new)));
                then.resume_with(())
            }
            Effect::RestreamProposal(_, _, _, _, block, then) => {
                self.broadcast_body(block);
                then.resume_with(())
            }
            Effect::VerifySignature(message, _, then) => {
                then.resume_with(self.is_signed(&message.message, message.signature))
            }
            Effect::VerifyCommitCertificate(certificate, _, _, then) => {
                then.resume_with(self.verify_commit(&certificate))
            }
            Effect::VerifyPolkaCertificate(polka, _, _, then) => {
                then.resume_with(self.verify_polka(&polka))
            }
            Effect::VerifyRoundCertificate(new, _, _, then) => {
                then.resume_with(self.verify_round(&new))
            }
            _ => return Err(Fatal::Core("it has an effect that is not known".into()).into()),
        })
    }

    fn schedule(&mut self, timeout: Timeout) {
        let after = TIMEOUTS.duration_for(timeout).as_millis();
        let due = self.now.after_ms(u64::try_from(after).unwrap_or(u64::MAX));
        self.timers.retain(|(_, armed)| *armed != timeout);
        self.timers.push((due, timeout));
    }

    fn publish(&mut self, message: &SignedConsensusMsg<Context>) {
        match message {
            SignedConsensusMsg::Vote(vote) => self.broadcast(&Message::Vote(signed_vote_of(vote))),
            SignedConsensusMsg::Proposal(proposal) => {
                let early = self.has_reserved(round_of(proposal.round));
                self.broadcast_when(early, &Message::Proposal(signed_proposal_of(proposal)));
            }
        }
    }

    /// Whether a proposal for this round of the height in progress need not wait for the log.
    fn has_reserved(&self, round: u32) -> bool {
        round == 0 && self.reserved == Some(self.height())
    }

    fn broadcast_when(&mut self, early: bool, message: &Message) {
        match encoded(message) {
            Some(message) if early => self.outputs.push(Output::Early { message }),
            _ => self.broadcast(message),
        }
    }

    /// Tells the others of a block that this one has just made.
    pub(super) fn broadcast_own(&mut self, block: BlockHash) {
        if let Some(candidate) = self.candidates.get(&block) {
            let message = Message::Block(candidate.block.clone());
            self.broadcast_when(self.has_reserved(self.round), &message);
        }
    }

    fn broadcast_body(&mut self, block: BlockHash) {
        if let Some(candidate) = self.candidates.get(&block) {
            let message = Message::Block(candidate.block.clone());
            self.broadcast(&message);
        }
    }

    /// The library repeats votes; a proposal that was lost is for us to repeat.
    fn repeat_proposal(&mut self) {
        let Some(Signed { block: Some(block), valid_round, signature, .. }) =
            self.signed.get(&(self.round, None)).cloned()
        else {
            return;
        };
        let (height, round) = (self.height(), self.round);
        let value = archipelag_protocol::ledger::Proposal { height, round, block, valid_round };
        let signer = self.me();
        let proposal = archipelag_protocol::sign::Signed { value, signer, signature };
        // Who lacks the body asks for it.
        self.broadcast(&Message::Proposal(proposal));
    }

    /// Tells the others again what waits here: whoever proposes may have missed it.
    fn repeat_transactions(&mut self) {
        let batch = self.mempool.select(&self.state, REPEATED);
        let list: Vec<_> = batch.iter().map(|s| s.bytes.to_vec().into()).collect();
        if !list.is_empty() {
            self.broadcast(&Message::Transactions(list));
        }
    }

    fn sign_vote(&mut self, vote: CoreVote) -> Result<SignedMessage<Context, CoreVote>, Stop> {
        let ours = vote_of(&vote);
        let act = (ours.round, Some(ours.step));
        let signature = match self.signed.get(&act) {
            Some(signed) if signed.block == ours.block => signed.signature,
            Some(_) => return Err(Stop::SignedOtherwise),
            None => {
                let signature = self.key.sign(self.network, &ours).map_err(Fatal::from)?;
                let (block, logged) = (ours.block, false);
                let signed = Signed { block, valid_round: None, signature, logged };
                self.signed.insert(act, signed);
                signature
            }
        };
        Ok(SignedMessage::new(vote, signature))
    }

    fn sign_proposal(
        &mut self,
        proposal: CoreProposal,
    ) -> Result<SignedMessage<Context, CoreProposal>, Stop> {
        let ours = proposal_of(&proposal);
        let (act, block, valid_round) = ((ours.round, None), Some(ours.block), ours.valid_round);
        let signature = match self.signed.get(&act) {
            Some(s) if (s.block, s.valid_round) == (block, valid_round) => s.signature,
            Some(_) => return Err(Stop::SignedOtherwise),
            None => {
                let signature = self.key.sign(self.network, &ours).map_err(Fatal::from)?;
                let signed = Signed { block, valid_round, signature, logged: false };
                self.signed.insert(act, signed);
                signature
            }
        };
        Ok(SignedMessage::new(proposal, signature))
    }

    /// Takes what this validator signed before it was restarted.
    pub(super) fn remember(&mut self, entry: &Entry) {
        let me = self.me();
        let (act, signed) = match entry {
            Entry::Vote(vote) if vote.signer == me => {
                let (value, signature) = (&vote.value, vote.signature);
                let (block, logged) = (value.block, true);
                let signed = Signed { block, valid_round: None, signature, logged };
                ((value.round, Some(value.step)), signed)
            }
            Entry::Reserved { .. } => {
                self.may_have_proposed = true;
                return;
            }
            Entry::Proposal(proposal) if proposal.signer == me => {
                let (value, signature) = (&proposal.value, proposal.signature);
                let (block, valid_round) = (Some(value.block), value.valid_round);
                ((value.round, None), Signed { block, valid_round, signature, logged: true })
            }
            _ => return,
        };
        self.signed.entry(act).or_insert(signed);
    }

    /// Logs what the library wants logged. What is fed again from the log is there already, but
    /// what is signed for the first time meanwhile is not.
    fn append(&mut self, height: u64, input: &Input<Context>) -> Result<(), Stop> {
        if height != self.height() {
            // The library's late words on a height that is decided.
            return Ok(());
        }
        if let Input::Proposal(proposal) = input {
            let accepted = Proposed {
                round: proposal.round,
                valid_round: proposal.pol_round,
                proposer: proposal.proposer,
            };
            self.proposed.entry(proposal.value.0).or_insert(accepted);
        }
        let fresh = match input {
            Input::Vote(vote) => {
                self.is_fresh(vote.voter, (round_of(vote.round), Some(step_of(vote.kind))))
            }
            Input::Proposal(proposal) => {
                self.is_fresh(proposal.proposer, (round_of(proposal.round), None))
            }
            _ => false,
        };
        if self.replaying && !fresh {
            return Ok(());
        }
        if let Input::ProposedValue(value, _) = input
            && let Some(candidate) = self.candidates.get_mut(&value.value.0)
            && candidate.leads_to.is_some()
            && !std::mem::replace(&mut candidate.logged, true)
        {
            let body = Entry::Body(candidate.block.clone());
            self.log(height, body);
        }
        match Entry::of(input) {
            Some(entry) => self.log(height, entry),
            None => return Err(Fatal::Core("it logs what has no form".into()).into()),
        }
        Ok(())
    }

    /// Whether it is our own and not in the log yet.
    fn is_fresh(&mut self, signer: Address, act: Act) -> bool {
        let signed = self.signed.get_mut(&act).filter(|_| signer.0 == self.key.account());
        signed.is_some_and(|signed| !std::mem::replace(&mut signed.logged, true))
    }

    fn decide(&mut self, certificate: &CommitCertificate<Context>) -> Result<(), Stop> {
        let candidate = self.candidates.remove(&certificate.value_id);
        let Some(Candidate { block, leads_to: Some((state, ids)), .. }) = candidate else {
            return Err(Fatal::Core(
                "it decided for a block that is not there or not valid".into(),
            )
            .into());
        };
        let mut votes: Vec<_> =
            certificate.commit_signatures.iter().map(|s| (s.address.0, s.signature)).collect();
        votes.sort_by_key(|(voter, _)| *voter);
        let certificate = Certificate {
            height: certificate.height.0,
            round: round_of(certificate.round),
            block: certificate.value_id,
            votes,
        };
        self.adopt(CertifiedBlock { block: *block, certificate }, state, ids);
        Ok(())
    }

    /// Goes on from a later block, the ones before which it has not seen.
    pub(super) fn join(&mut self, joined: Box<Joined>) {
        self.state = Arc::clone(&joined.state);
        self.last = Some(joined.certified.certificate.clone());
        self.forget();
        self.outputs.push(Output::Joined(joined));
    }

    /// Forgets the height in progress.
    fn forget(&mut self) {
        self.candidates.clear();
        self.proposed.clear();
        self.signed.clear();
        self.value_due = None;
        self.may_have_proposed = false;
        self.reserved = None;
    }

    /// Goes on from a block that is final.
    pub(super) fn adopt(&mut self, certified: CertifiedBlock, state: Arc<State>, ids: Vec<TxId>) {
        let height = state.height;
        let senders = certified.block.transactions.iter().map(|t| t.signer);
        let included: Vec<_> = senders.zip(ids.iter().copied()).collect();
        let receipt = |id| TransactionReceipt { transaction: id, height, outcome: Ok(()) };
        let receipts = ids.into_iter().map(receipt).collect();
        self.state = Arc::clone(&state);
        self.last = Some(certified.certificate.clone());
        self.forget();
        self.outputs.push(Output::Decided(Box::new(Decided { certified, state, receipts })));
        self.reserve();
        for (transaction, reason) in self.mempool.advance(&self.state, &included) {
            self.outputs.push(Output::Refused { transaction, reason });
        }
    }
}

impl Io {
    /// Reserves a place in the log for the next proposal, if the first one is ours.
    fn reserve(&mut self) {
        let first = self.state.turns().first() == Some(&self.me());
        self.reserved = (first && !self.alone()).then(|| self.height());
        if let Some(height) = self.reserved {
            self.log(height, Entry::Reserved { round: 0 });
        }
    }
}

/// A message's bytes. One that has none is not sent: what others made us say must not stop us.
fn encoded(message: &Message) -> Option<Vec<u8>> {
    consensus::encode(message)
        .inspect_err(|error| tracing::error!(%error, "coordinator.unsendable"))
        .ok()
}

pub(super) fn new_round_of(new: &RoundCertificate<Context>) -> NewRound {
    let vote = |s: &arc_malachitebft_core_types::RoundSignature<Context>| RoundVote {
        voter: s.address.0,
        step: step_of(s.vote_type),
        block: block_of(&s.value_id),
        signature: s.signature,
    };
    let mut votes: Vec<_> = new.round_signatures.iter().map(vote).collect();
    votes.sort_by_key(|vote| vote.voter);
    NewRound {
        height: new.height.0,
        round: round_of(new.round),
        why: match new.cert_type {
            RoundCertificateType::Precommit => Why::RoundEnded,
            RoundCertificateType::Skip => Why::OthersAhead,
        },
        votes,
    }
}

pub(super) fn core_round(new: &NewRound) -> RoundCertificate<Context> {
    let signature = |vote: &RoundVote| {
        arc_malachitebft_core_types::RoundSignature::new(
            kind_of(vote.step),
            value_of(vote.block),
            Address(vote.voter),
            vote.signature,
        )
    };
    RoundCertificate {
        height: Height(new.height),
        round: Round::new(new.round),
        cert_type: match new.why {
            Why::RoundEnded => RoundCertificateType::Precommit,
            Why::OthersAhead => RoundCertificateType::Skip,
        },
        round_signatures: new.votes.iter().map(signature).collect(),
    }
}
