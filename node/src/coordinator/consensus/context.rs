//! Our ids, votes and validators in the forms that the consensus library asks for.
//!
//! A value is its block's hash and nothing else: the body travels beside it. Every validator has
//! one vote. A message carries its signer, who is not among the signed bytes: the key is the
//! signer.

use arc_malachitebft_core_types as core;
use archipelag_protocol::{
    batch::Batch,
    codec,
    id::{AccountId, BlockHash, NetworkId, Signature},
    ledger::{Proposal, SignedProposal, SignedVote, ValidatorSet, Vote, vote::Step},
    sign::{self, Signed},
};
use core::{NilOrVal, Round, SignedMessage, VoteType};
use std::{fmt, sync::Arc};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address(pub(super) AccountId);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

impl core::Address for Address {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Height(pub(super) u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl core::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value(pub(super) BlockHash);

impl core::Value for Value {
    type Id = BlockHash;

    fn id(&self) -> BlockHash {
        self.0
    }
}

/// Blocks travel whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part;

impl core::ProposalPart<Context> for Part {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CoreProposal {
    pub(super) height: Height,
    pub(super) round: Round,
    pub(super) value: Value,
    pub(super) pol_round: Round,
    pub(super) proposer: Address,
}

impl core::Proposal<Context> for CoreProposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Address {
        &self.proposer
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CoreVote {
    pub(super) height: Height,
    pub(super) round: Round,
    pub(super) value: NilOrVal<BlockHash>,
    pub(super) kind: VoteType,
    pub(super) voter: Address,
}

impl core::Vote<Context> for CoreVote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockHash> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<BlockHash> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Address {
        &self.voter
    }

    fn extension(&self) -> Option<&core::SignedExtension<Context>> {
        None
    }

    fn take_extension(&mut self) -> Option<core::SignedExtension<Context>> {
        None
    }

    fn extend(self, _: core::SignedExtension<Context>) -> Self {
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validator {
    address: Address,
}

impl core::Validator<Context> for Validator {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &Address {
        &self.address
    }

    fn voting_power(&self) -> u64 {
        1
    }
}

/// The validators of a height, in the order in which they may propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validators {
    by_account: Arc<[Validator]>,
    /// Indices into it: whose turn is which.
    turns: Arc<[usize]>,
}

impl Validators {
    /// `turns` are the accounts in the order of rounds, of which each stands there at least once.
    pub(super) fn new(set: &ValidatorSet, turns: &[AccountId]) -> Self {
        let by_account: Vec<_> =
            set.iter().map(|v| Validator { address: Address(v.account) }).collect();
        let index = |account: &AccountId| {
            by_account.binary_search_by_key(account, |validator| validator.address.0).ok()
        };
        let mut order: Vec<usize> = turns.iter().filter_map(index).collect();
        // Whoever is left out would never propose, and a set without any could not go on.
        order.extend((0..by_account.len()).filter(|i| !turns.contains(&by_account[*i].address.0)));
        Self { by_account: by_account.into(), turns: order.into() }
    }

    pub(super) fn contains(&self, account: AccountId) -> bool {
        self.find(account).is_some()
    }

    fn find(&self, account: AccountId) -> Option<&Validator> {
        let found = self.by_account.binary_search_by_key(&account, |v| v.address.0);
        found.ok().and_then(|index| self.by_account.get(index))
    }

    /// Who proposes in a round; the core may ask about any round that a message names.
    fn proposer(&self, round: Round) -> &Validator {
        let round = round.as_u32().unwrap_or(0) as usize;
        &self.by_account[self.turns[round % self.turns.len()]]
    }
}

impl core::ValidatorSet<Context> for Validators {
    fn count(&self) -> usize {
        self.by_account.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.by_account.len() as u64
    }

    fn get_by_address(&self, address: &Address) -> Option<&Validator> {
        self.find(address.0)
    }

    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.by_account.get(index)
    }
}

/// ed25519 under ZIP-215; a public key is an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ed25519;

impl core::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = Signature;
    type PublicKey = Address;
    /// The engine signs, not the core.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Signature, &'static str> {
        bytes.try_into().map(Signature).map_err(|_| "a signature has 64 bytes")
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<Address, &'static str> {
        let key = bytes.try_into().map_err(|_| "a key has 32 bytes")?;
        Ok(Address(AccountId(key)))
    }

    fn encode_public_key(key: &Address) -> Vec<u8> {
        key.0.0.to_vec()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Context;

impl core::Context for Context {
    type Address = Address;
    type Height = Height;
    type ProposalPart = Part;
    type Proposal = CoreProposal;
    type Validator = Validator;
    type ValidatorSet = Validators;
    type Timeouts = core::LinearTimeouts;
    type Value = Value;
    type Vote = CoreVote;
    type Extension = Vec<u8>;
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(
        &self,
        validators: &'a Validators,
        _: Height,
        round: Round,
    ) -> &'a Validator {
        validators.proposer(round)
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: Value,
        pol_round: Round,
        proposer: Address,
    ) -> CoreProposal {
        CoreProposal { height, round, value, pol_round, proposer }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockHash>,
        voter: Address,
    ) -> CoreVote {
        CoreVote { height, round, value, kind: VoteType::Prevote, voter }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockHash>,
        voter: Address,
    ) -> CoreVote {
        CoreVote { height, round, value, kind: VoteType::Precommit, voter }
    }
}

pub(super) type CoreSignedVote = SignedMessage<Context, CoreVote>;
pub(super) type CoreSignedProposal = SignedMessage<Context, CoreProposal>;

/// The core gives no round only where none was begun, which no message has.
pub(super) fn round_of(round: Round) -> u32 {
    round.as_u32().unwrap_or(0)
}

pub(super) fn step_of(kind: VoteType) -> Step {
    match kind {
        VoteType::Prevote => Step::Prevote,
        VoteType::Precommit => Step::Precommit,
    }
}

pub(super) fn kind_of(step: Step) -> VoteType {
    match step {
        Step::Prevote => VoteType::Prevote,
        Step::Precommit => VoteType::Precommit,
    }
}

pub(super) fn block_of(value: &NilOrVal<BlockHash>) -> Option<BlockHash> {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(block) => Some(*block),
    }
}

pub(super) fn value_of(block: Option<BlockHash>) -> NilOrVal<BlockHash> {
    block.map_or(NilOrVal::Nil, NilOrVal::Val)
}

/// What the voter signs.
pub(super) fn vote_of(vote: &CoreVote) -> Vote {
    Vote {
        height: vote.height.0,
        round: round_of(vote.round),
        step: step_of(vote.kind),
        block: block_of(&vote.value),
    }
}

/// What the proposer signs.
pub(super) fn proposal_of(proposal: &CoreProposal) -> Proposal {
    Proposal {
        height: proposal.height.0,
        round: round_of(proposal.round),
        block: proposal.value.0,
        valid_round: proposal.pol_round.as_u32(),
    }
}

pub(super) fn signed_vote_of(vote: &CoreSignedVote) -> SignedVote {
    Signed { value: vote_of(vote), signer: vote.voter.0, signature: vote.signature }
}

pub(super) fn signed_proposal_of(proposal: &CoreSignedProposal) -> SignedProposal {
    let signer = proposal.proposer.0;
    Signed { value: proposal_of(proposal), signer, signature: proposal.signature }
}

pub(super) fn core_vote(vote: SignedVote) -> CoreSignedVote {
    let message = CoreVote {
        height: Height(vote.value.height),
        round: Round::new(vote.value.round),
        value: value_of(vote.value.block),
        kind: kind_of(vote.value.step),
        voter: Address(vote.signer),
    };
    SignedMessage::new(message, vote.signature)
}

pub(super) fn core_proposal(proposal: SignedProposal) -> CoreSignedProposal {
    let message = CoreProposal {
        height: Height(proposal.value.height),
        round: Round::new(proposal.value.round),
        value: Value(proposal.value.block),
        pol_round: proposal.value.valid_round.into(),
        proposer: Address(proposal.signer),
    };
    SignedMessage::new(message, proposal.signature)
}

/// Whether all of these votes are their signers'. One bad vote spoils them all: the core takes each
/// vote of a certificate that is accepted for checked.
pub(super) fn verify_votes(
    network: NetworkId,
    votes: impl IntoIterator<Item = (Address, Vote, Signature)>,
) -> Result<(), sign::Error> {
    let mut batch = Batch::new(network);
    for (voter, vote, signature) in votes {
        batch.add(voter.0, &vote, &signature).map_err(|e: codec::Error| sign::Error::Codec(e))?;
    }
    batch.verify().map_err(|invalid| invalid.error)
}
