//! Whether votes, proposals and certificates are their signers'.
//!
//! All or nothing: the library takes each vote of a certificate that is accepted for checked.

use super::{
    context::{
        Address, Context, Height, block_of, proposal_of, round_of, step_of, verify_votes, vote_of,
    },
    io::Io,
};
use arc_malachitebft_core_consensus::ConsensusMsg;
use arc_malachitebft_core_types::{
    CertificateError, CommitCertificate, PolkaCertificate, Round, RoundCertificate,
    RoundCertificateType,
};
use archipelag_protocol::{
    id::{BlockHash, Signature},
    ledger::{Vote, vote::Step},
};

/// Whether a certificate is good.
type Verdict = Result<(), CertificateError<Context>>;

#[expect(clippy::result_large_err, reason = "the library's error, in its answer")]
impl Io {
    pub(super) fn is_signed(&self, message: &ConsensusMsg<Context>, signature: Signature) -> bool {
        use archipelag_protocol::sign::verify;
        match message {
            ConsensusMsg::Vote(vote) => {
                verify(self.network, vote.voter.0, &vote_of(vote), &signature).is_ok()
            }
            ConsensusMsg::Proposal(proposal) => {
                let signer = proposal.proposer.0;
                verify(self.network, signer, &proposal_of(proposal), &signature).is_ok()
            }
        }
    }

    pub(super) fn verify_commit(&self, certificate: &CommitCertificate<Context>) -> Verdict {
        let votes = certificate.commit_signatures.iter().map(|s| (s.address, s.signature));
        let at = (certificate.height, certificate.round, Step::Precommit);
        self.verify_alike(at, certificate.value_id, votes)
    }

    pub(super) fn verify_polka(&self, polka: &PolkaCertificate<Context>) -> Verdict {
        let votes = polka.polka_signatures.iter().map(|s| (s.address, s.signature));
        let at = (polka.height, polka.round, Step::Prevote);
        self.verify_alike(at, polka.value_id, votes)
    }

    /// A quorum's votes for one block, all of one round and step.
    fn verify_alike(
        &self,
        (height, round, step): (Height, Round, Step),
        block: BlockHash,
        votes: impl Iterator<Item = (Address, Signature)>,
    ) -> Verdict {
        let (height, round) = (height.0, round_of(round));
        let vote = Vote { height, round, step, block: Some(block) };
        let votes = votes.map(|(voter, signature)| (voter, vote.clone(), signature)).collect();
        self.verify_quorum(votes, self.state.validators.quorum())
    }

    pub(super) fn verify_round(&self, new: &RoundCertificate<Context>) -> Verdict {
        let needed = match new.cert_type {
            RoundCertificateType::Precommit => self.state.validators.quorum(),
            RoundCertificateType::Skip => self.state.validators.one_honest(),
        };
        let ended = matches!(new.cert_type, RoundCertificateType::Precommit);
        let mut votes = Vec::with_capacity(new.round_signatures.len());
        for signature in &new.round_signatures {
            if ended && step_of(signature.vote_type) != Step::Precommit {
                return Err(CertificateError::InvalidVoteType(signature.address));
            }
            let vote = Vote {
                height: new.height.0,
                round: round_of(new.round),
                step: step_of(signature.vote_type),
                block: block_of(&signature.value_id),
            };
            votes.push((signature.address, vote, signature.signature));
        }
        self.verify_quorum(votes, needed)
    }

    /// All of the votes are those of distinct validators, and there are enough.
    fn verify_quorum(&self, votes: Vec<(Address, Vote, Signature)>, needed: usize) -> Verdict {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let mut seen = std::collections::BTreeSet::new();
        for (voter, ..) in &votes {
            if !self.validators.contains(voter.0) {
                return Err(CertificateError::UnknownValidator(*voter));
            }
            if !seen.insert(*voter) {
                return Err(CertificateError::DuplicateVote(*voter));
            }
        }
        if seen.len() < needed {
            return Err(CertificateError::NotEnoughVotingPower {
                signed: count(seen.len()),
                total: count(self.state.validators.len()),
                expected: count(needed),
            });
        }
        verify_votes(self.network, votes).map_err(|_| CertificateError::VerificationError(None))
    }
}
