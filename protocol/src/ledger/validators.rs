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

/// Who decides a block, in the order of their accounts. Less than a third of them may be faulty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Validator>", into = "Vec<Validator>")]
pub struct ValidatorSet(Vec<Validator>);

impl TryFrom<Vec<Validator>> for ValidatorSet {
    type Error = Error;

    fn try_from(members: Vec<Validator>) -> Result<Self, Error> {
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
        Ok(Self(members))
    }
}

impl From<ValidatorSet> for Vec<Validator> {
    fn from(set: ValidatorSet) -> Self {
        set.0
    }
}

impl ValidatorSet {
    /// A set of these, in any order.
    ///
    /// # Errors
    /// When they are none or too many, or one stands twice.
    pub fn new(mut members: Vec<Validator>) -> Result<Self, Error> {
        members.sort_by_key(|validator| validator.account);
        Self::try_from(members)
    }

    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Validator> {
        self.0.iter()
    }

    #[must_use]
    pub fn get(&self, account: AccountId) -> Option<&Validator> {
        let found = self.0.binary_search_by_key(&account, |validator| validator.account);
        found.ok().and_then(|index| self.0.get(index))
    }

    #[must_use]
    pub fn contains(&self, account: AccountId) -> bool {
        self.get(account).is_some()
    }

    /// The set without one of its members; `None` when nobody would be left.
    #[must_use]
    pub fn without(&self, account: AccountId) -> Option<Self> {
        let others = self.iter().filter(|validator| validator.account != account);
        Self::try_from(others.cloned().collect::<Vec<_>>()).ok()
    }

    /// Votes that decide: more than two thirds.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.0.len() * 2 / 3 + 1
    }

    /// Votes of which one is honest: more than a third.
    #[must_use]
    pub fn one_honest(&self) -> usize {
        self.0.len() / 3 + 1
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
        ValidatorSet::new((0..count).rev().map(validator).collect()).unwrap()
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
        let mut members = Vec::from(good.clone());
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
            let bytes = codec::encode("validators", &members).unwrap();
            assert!(codec::decode::<ValidatorSet>("validators", 1 << 16, &bytes).is_err());
        }
        assert!(ValidatorSet::new(vec![members[0].clone(); 2]).is_err());
        assert_ne!(good.id(), set(5).id());
        assert_eq!(good.get(AccountId([2; 32])).unwrap().node, NodeId([2; 32]));
        assert!(!good.contains(AccountId([9; 32])));
    }
}
