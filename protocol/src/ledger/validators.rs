//! Sets of validators: the coordinators that decide a block, one vote each.

use crate::{
    codec,
    genesis::{MAX_VALIDATORS, Validator},
    id::{AccountId, ValidatorsId},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Why a list of validators is no set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("{0} validators, must be 1 to {MAX_VALIDATORS}")]
    Count(usize),
    #[error("validator {0} stands twice or not in its order")]
    Order(AccountId),
}

/// Votes of `count` validators that decide: more than two thirds.
pub(super) fn quorum(count: usize) -> usize {
    count * 2 / 3 + 1
}

/// Who decides blocks from some height on, in the order of their accounts. Less than a third of
/// them may be faulty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct ValidatorSet {
    /// The height after which they took over. So two terms of the same members are two sets, and no
    /// change between them can be left out by who proves who they are.
    since: u64,
    members: Vec<Validator>,
}

/// The form of a set in which it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Unchecked {
    since: u64,
    members: Vec<Validator>,
}

impl TryFrom<Unchecked> for ValidatorSet {
    type Error = Error;

    fn try_from(Unchecked { since, members }: Unchecked) -> Result<Self, Error> {
        if members.is_empty() || members.len() > MAX_VALIDATORS {
            return Err(Error::Count(members.len()));
        }
        for pair in members.windows(2) {
            if let [before, after] = pair
                && before.account >= after.account
            {
                return Err(Error::Order(after.account));
            }
        }
        Ok(Self { since, members })
    }
}

impl From<ValidatorSet> for Unchecked {
    fn from(ValidatorSet { since, members }: ValidatorSet) -> Self {
        Self { since, members }
    }
}

impl ValidatorSet {
    /// A set of these, in any order, that takes over after the block of height `since`.
    ///
    /// # Errors
    /// When they are none or too many, or one stands twice.
    pub fn new(since: u64, mut members: Vec<Validator>) -> Result<Self, Error> {
        members.sort_by_key(|validator| validator.account);
        Self::try_from(Unchecked { since, members })
    }

    /// The height after which they took over.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Whether the members, and their nodes, are those of another set.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        self.members == other.members
    }

    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Validator> {
        self.members.iter()
    }

    #[must_use]
    pub fn get(&self, account: AccountId) -> Option<&Validator> {
        let found = self.members.binary_search_by_key(&account, |validator| validator.account);
        found.ok().and_then(|index| self.members.get(index))
    }

    #[must_use]
    pub fn contains(&self, account: AccountId) -> bool {
        self.get(account).is_some()
    }

    /// The set without one of its members, from another height on; `None` when nobody would be
    /// left.
    #[must_use]
    pub fn without(&self, account: AccountId, since: u64) -> Option<Self> {
        let others = self.iter().filter(|validator| validator.account != account);
        Self::new(since, others.cloned().collect()).ok()
    }

    /// Votes that decide: more than two thirds.
    #[must_use]
    pub fn quorum(&self) -> usize {
        quorum(self.len())
    }

    /// Votes of which one is honest: more than a third.
    #[must_use]
    pub fn one_honest(&self) -> usize {
        self.members.len() / 3 + 1
    }

    /// What headers name the set by.
    ///
    /// # Errors
    /// When it has no canonical encoding; every set has one.
    pub fn id(&self) -> Result<ValidatorsId, codec::Error> {
        let mut hasher = Sha256::new_with_prefix(b"archipelag/validators/1\0");
        hasher.update(codec::encode("validators", self)?);
        Ok(ValidatorsId(hasher.finalize().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    fn set(count: u8) -> ValidatorSet {
        let validator = |i| Validator { account: AccountId([i; 32]), node: NodeId([i; 32]) };
        ValidatorSet::new(0, (0..count).rev().map(validator).collect()).unwrap()
    }

    #[test]
    fn quorums_overlap_in_an_honest_one() {
        for count in 1..=100_u8 {
            let set = set(count);
            let n = set.len();
            let faulty = (n - 1) / 3;
            assert!(
                set.quorum() + faulty <= n,
                "{n}: the honest ones alone must be able to decide"
            );
            assert!(2 * set.quorum() - n > faulty, "{n}: two quorums share an honest one");
            assert!(set.one_honest() > faulty && set.one_honest() <= set.quorum(), "{n}");
        }
    }

    #[test]
    fn a_set_has_one_encoding() {
        let good = set(4);
        let bytes = codec::encode("validators", &good).unwrap();
        assert_eq!(codec::decode("validators", 4096, &bytes), Ok(good.clone()));
        let Unchecked { mut members, .. } = good.clone().into();
        members.swap(0, 1);
        let wrong: [Vec<Validator>; 4] = [
            Vec::new(),
            vec![members[0].clone(); 2],
            members.clone(),
            (0..=100)
                .map(|i| Validator { account: AccountId([i; 32]), ..members[0].clone() })
                .collect(),
        ];
        for members in wrong {
            let bytes = codec::encode("validators", &Unchecked { since: 0, members }).unwrap();
            assert!(codec::decode::<ValidatorSet>("validators", 1 << 16, &bytes).is_err());
        }
        assert!(ValidatorSet::new(0, vec![members[0].clone(); 2]).is_err());
        assert_ne!(good.id(), set(5).id());
        let later = ValidatorSet { since: 7, ..good.clone() };
        assert!(later.is_alike(&good) && later.id() != good.id(), "another term is another set");
        assert_eq!(good.get(AccountId([2; 32])).unwrap().node, NodeId([2; 32]));
        assert!(!good.contains(AccountId([9; 32])));
    }
}
