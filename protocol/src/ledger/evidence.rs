//! Proof that a validator said two things where an honest one says one.

use super::{Rejected, SignedProposal, SignedVote};
use crate::id::AccountId;
use serde::{Deserialize, Serialize};

/// Two messages of one signer of which an honest one signs at most one. Signatures are checked with
/// those of the transaction that it is in.
///
/// It counts for any height: who signs two things for one that nobody asked about is no better. How
/// long after is bounded by what is at stake: nothing is when it has been paid back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    Votes(SignedVote, SignedVote),
    Proposals(SignedProposal, SignedProposal),
}

impl Evidence {
    /// Who signed both.
    ///
    /// # Errors
    /// Why the two prove nothing.
    pub fn offender(&self) -> Result<AccountId, Rejected> {
        let refuse = |reason: &str| Err(Rejected::field("evidence", reason));
        let (signers, places, same) = match self {
            Self::Votes(one, other) => {
                let place = |v: &SignedVote| (v.value.height, v.value.round, Some(v.value.step));
                ((one.signer, other.signer), (place(one), place(other)), one.value == other.value)
            }
            Self::Proposals(one, other) => {
                let place = |p: &SignedProposal| (p.value.height, p.value.round, None);
                ((one.signer, other.signer), (place(one), place(other)), one.value == other.value)
            }
        };
        if signers.0 != signers.1 {
            return refuse("two signers");
        }
        if places.0 != places.1 {
            return refuse("the two are of different heights, rounds or steps");
        }
        if same {
            return refuse("the two say the same");
        }
        Ok(signers.0)
    }
}
