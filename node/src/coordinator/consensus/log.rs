//! What a coordinator must not forget while a height is being decided: the write-ahead log of the
//! consensus library's inputs, in our own form.
//!
//! Everything in it is durable before a message leaves that follows from it (the driver sees to
//! that), so it is the fence against signing twice, too: whatever this coordinator sent stands
//! here.

use super::context::{
    self, Address, Context, Height, Value, core_proposal, core_vote, round_of, signed_proposal_of,
    signed_vote_of,
};
use arc_malachitebft_core_consensus::{Input, ProposedValue};
use arc_malachitebft_core_types::{
    PolkaCertificate, PolkaSignature, Round, Timeout, TimeoutKind, Validity, ValueOrigin,
};
use archipelag_protocol::{
    consensus::Polka,
    id::{AccountId, BlockHash},
    ledger::{Block, SignedProposal, SignedVote},
};
use serde::{Deserialize, Serialize};

/// One entry, in the order in which things happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// In this round a proposal of ours may have left without being in the log.
    Reserved {
        round: u32,
    },
    Vote(SignedVote),
    Proposal(SignedProposal),
    Polka(Polka),
    /// The body of a block that the entries after it speak of.
    Body(Box<Block>),
    /// A block was found to be valid, or not.
    Checked {
        block: BlockHash,
        round: u32,
        valid_round: Option<u32>,
        proposer: AccountId,
        valid: bool,
    },
    Timeout {
        step: TimeoutStep,
        round: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TimeoutStep {
    Propose,
    Prevote,
    Precommit,
}

impl Entry {
    /// The entry for an input that the library wants logged; `None` for one that it never does.
    pub(super) fn of(input: &Input<Context>) -> Option<Self> {
        Some(match input {
            Input::Vote(vote) => Self::Vote(signed_vote_of(vote)),
            Input::Proposal(proposal) => Self::Proposal(signed_proposal_of(proposal)),
            Input::PolkaCertificate(polka) => Self::Polka(polka_of(polka)),
            Input::ProposedValue(value, _) => Self::Checked {
                block: value.value.0,
                round: round_of(value.round),
                valid_round: value.valid_round.as_u32(),
                proposer: value.proposer.0,
                valid: value.validity.is_valid(),
            },
            Input::TimeoutElapsed(timeout) => {
                let step = match timeout.kind {
                    TimeoutKind::Propose => TimeoutStep::Propose,
                    TimeoutKind::Prevote => TimeoutStep::Prevote,
                    TimeoutKind::Precommit => TimeoutStep::Precommit,
                    TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => return None,
                };
                Self::Timeout { step, round: round_of(timeout.round) }
            }
            _ => return None,
        })
    }

    /// The input to feed again, if there is one.
    pub(super) fn input(&self, height: u64) -> Option<Input<Context>> {
        Some(match self {
            Self::Vote(vote) => Input::Vote(core_vote(vote.clone())),
            Self::Proposal(proposal) => Input::Proposal(core_proposal(proposal.clone())),
            Self::Polka(polka) => Input::PolkaCertificate(core_polka(polka)),
            Self::Reserved { .. } | Self::Body(_) => return None,
            Self::Checked { block, round, valid_round, proposer, valid } => {
                let value = ProposedValue {
                    height: Height(height),
                    round: Round::new(*round),
                    valid_round: (*valid_round).into(),
                    proposer: Address(*proposer),
                    value: Value(*block),
                    validity: Validity::from_bool(*valid),
                };
                Input::ProposedValue(value, ValueOrigin::Consensus)
            }
            Self::Timeout { step, round } => {
                let kind = match step {
                    TimeoutStep::Propose => TimeoutKind::Propose,
                    TimeoutStep::Prevote => TimeoutKind::Prevote,
                    TimeoutStep::Precommit => TimeoutKind::Precommit,
                };
                Input::TimeoutElapsed(Timeout::new(Round::new(*round), kind))
            }
        })
    }
}

pub(super) fn polka_of(polka: &PolkaCertificate<Context>) -> Polka {
    let mut votes: Vec<_> =
        polka.polka_signatures.iter().map(|s| (s.address.0, s.signature)).collect();
    votes.sort_by_key(|(voter, _)| *voter);
    Polka { height: polka.height.0, round: round_of(polka.round), block: polka.value_id, votes }
}

pub(super) fn core_polka(polka: &Polka) -> PolkaCertificate<Context> {
    let signature =
        |(voter, signature): &(AccountId, _)| PolkaSignature::new(Address(*voter), *signature);
    PolkaCertificate {
        height: context::Height(polka.height),
        round: Round::new(polka.round),
        value_id: polka.block,
        polka_signatures: polka.votes.iter().map(signature).collect(),
    }
}
