//! What validators sign to agree on a block: Tendermint's messages (E. Buchman, J. Kwon, Z.
//! Milosevic, "The latest gossip on BFT consensus", 2018), and the certificate that comes of them.

use super::validators::ValidatorSet;
use crate::{
    batch::Batch,
    codec,
    id::{AccountId, BlockHash, ContentId, NetworkId, Signature},
    sign::{self, Signable, Signed},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The two votes of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Prevote,
    Precommit,
}

/// A validator's vote. An honest one signs at most one for each height, round and step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub height: u64,
    pub round: u32,
    pub step: Step,
    /// `None` is a vote for no block in this round.
    pub block: Option<BlockHash>,
}

impl Signable for Vote {
    const DOMAIN: &'static str = "vote";
}

pub type SignedVote = Signed<Vote>;

/// A proposer's choice for a round. An honest one signs at most one for each height and round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub height: u64,
    pub round: u32,
    pub block: BlockHash,
    /// The earlier round in which more than two thirds prevoted for this block, if there was one.
    pub valid_round: Option<u32>,
}

impl Signable for Proposal {
    const DOMAIN: &'static str = "proposal";
}

pub type SignedProposal = Signed<Proposal>;

/// Why a certificate certifies nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("certificate of height {height}: {found} votes, {needed} needed")]
    NoQuorum { height: u64, found: usize, needed: usize },
    #[error(
        "certificate of height {height}: {voter} is no validator, stands twice or not in its order"
    )]
    Voter { height: u64, voter: AccountId },
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error(transparent)]
    Signature(#[from] sign::Error),
}

/// Precommits of more than two thirds of the validators for one block in one round: it is final.
///
/// Two certificates of one block may differ in round and votes; both are as good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub height: u64,
    pub round: u32,
    pub block: BlockHash,
    /// In the order of the accounts.
    pub votes: Vec<(AccountId, Signature)>,
}

impl Certificate {
    /// The vote that each signature in it is of.
    #[must_use]
    pub fn vote(&self) -> Vote {
        let (height, round) = (self.height, self.round);
        Vote { height, round, step: Step::Precommit, block: Some(self.block) }
    }

    /// Checks that a quorum of `validators` voted for its block. One bad vote spoils it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, network: NetworkId, validators: &ValidatorSet) -> Result<(), Error> {
        let (height, found, needed) = (self.height, self.votes.len(), validators.quorum());
        if found < needed || found > validators.len() {
            return Err(Error::NoQuorum { height, found, needed });
        }
        let (vote, mut batch) = (self.vote(), Batch::new(network));
        let mut before = None;
        for (voter, signature) in &self.votes {
            if before.is_some_and(|before| before >= *voter) || !validators.contains(*voter) {
                return Err(Error::Voter { height, voter: *voter });
            }
            before = Some(*voter);
            batch.add(*voter, &vote, signature)?;
        }
        batch.verify().map_err(|invalid| Error::Signature(invalid.error))
    }

    /// What the next block's header names it by.
    ///
    /// # Errors
    /// When it has no canonical encoding; every certificate has one.
    pub fn id(&self) -> Result<ContentId, codec::Error> {
        Ok(ContentId(Sha256::digest(codec::encode("certificate", self)?).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{genesis::Validator, id::NodeId, sign::SecretKey};

    const NETWORK: NetworkId = NetworkId([1; 32]);
    const BLOCK: BlockHash = BlockHash([7; 32]);

    /// The keys of `count` validators, in the order of their accounts.
    fn keys(count: u8) -> Vec<SecretKey> {
        let mut keys: Vec<_> = (1..=count).map(|i| SecretKey::from_seed([i; 32])).collect();
        keys.sort_by_key(SecretKey::account);
        keys
    }

    fn set(keys: &[SecretKey]) -> ValidatorSet {
        let validator =
            |key: &SecretKey| Validator { account: key.account(), node: NodeId([0; 32]) };
        ValidatorSet::new(0, keys.iter().map(validator).collect()).unwrap()
    }

    fn certificate(keys: &[SecretKey], vote: &Vote) -> Certificate {
        let sign = |key: &SecretKey| (key.account(), key.sign(NETWORK, vote).unwrap());
        Certificate { height: 4, round: 2, block: BLOCK, votes: keys.iter().map(sign).collect() }
    }

    fn vote() -> Vote {
        Vote { height: 4, round: 2, step: Step::Precommit, block: Some(BLOCK) }
    }

    #[test]
    fn a_quorum_of_good_votes_decides() {
        let keys = keys(4);
        for count in 0..=4 {
            let outcome = certificate(&keys[..count], &vote()).verify(NETWORK, &set(&keys));
            let short = Error::NoQuorum { height: 4, found: count, needed: 3 };
            assert_eq!(outcome, if count >= 3 { Ok(()) } else { Err(short) });
        }
    }

    #[test]
    fn one_bad_vote_spoils_a_certificate() {
        let keys = keys(5);
        let (four, stranger) = (&keys[..4], &keys[4]);
        let set = set(four);
        let good = certificate(four, &vote());
        type Change = fn(&mut Certificate, &SecretKey);
        let voter: [Change; 3] = [
            |c, _| c.votes[3] = c.votes[2],
            |c, _| c.votes.swap(0, 1),
            |c, stranger| {
                c.votes[3] = (stranger.account(), stranger.sign(NETWORK, &vote()).unwrap());
                c.votes.sort_by_key(|v| v.0);
            },
        ];
        for change in voter {
            let mut wrong = good.clone();
            change(&mut wrong, stranger);
            assert!(matches!(wrong.verify(NETWORK, &set), Err(Error::Voter { .. })));
        }
        let signature: [Change; 5] = [
            |c, _| c.votes[0].1.0[0] ^= 1,
            |c, _| c.round = 3,
            |c, _| c.height = 5,
            |c, _| c.block = BlockHash([8; 32]),
            |c, _| c.votes[0].1 = c.votes[1].1,
        ];
        for change in signature {
            let mut wrong = good.clone();
            change(&mut wrong, stranger);
            assert!(matches!(wrong.verify(NETWORK, &set), Err(Error::Signature(_))));
        }
        let mut prevotes = vote();
        prevotes.step = Step::Prevote;
        assert!(certificate(four, &prevotes).verify(NETWORK, &set).is_err());
        assert!(good.verify(NetworkId([2; 32]), &set).is_err());
        let mut crowd = good;
        crowd.votes.resize(10_000, crowd.votes[0]);
        assert!(matches!(crowd.verify(NETWORK, &set), Err(Error::NoQuorum { .. })));
    }
}
