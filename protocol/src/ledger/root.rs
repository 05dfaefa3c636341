//! The state root: one hash over everything that the ledger knows.
//!
//! A binary Merkle tree as in RFC 6962, section 2.1, with SHA-256: a leaf is
//! `H(0x00 ‖ section ‖ key ‖ value)`, a node `H(0x01 ‖ left ‖ right)`. Section is one byte, key and
//! value are canonical DAG-CBOR, which delimits itself, so no two entries share a leaf. Leaves stand
//! in the order of sections, then of keys.
//!
//! Height, time and the last block's hash are not in it: the header, which carries the root, has
//! them, and a root over the hash of its own header could not exist. The network id, which is, fixes
//! the genesis document and its policy.
//!
//! The tree is computed anew for every block; nothing outside this file knows how.

use super::State;
use crate::{codec, id::StateRoot};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

type Hash = [u8; 32];

/// The sections of the state. The numbers are part of the root: never change or reuse one.
#[derive(Clone, Copy)]
enum Section {
    Facts = 0,
    Accounts = 1,
    Holds = 2,
    Cargos = 3,
    Slugs = 4,
    Islands = 5,
}

impl State {
    /// # Errors
    /// When a value has no canonical encoding; every state that blocks lead to has one.
    pub fn root(&self) -> Result<StateRoot, codec::Error> {
        let mut leaves = vec![
            leaf(Section::Facts, &"minted", &self.minted)?,
            leaf(Section::Facts, &"network", &self.network)?,
            leaf(Section::Facts, &"treasury", &self.treasury)?,
        ];
        add(&mut leaves, Section::Accounts, &self.accounts)?;
        add(&mut leaves, Section::Holds, &self.holds)?;
        add(&mut leaves, Section::Cargos, &self.cargos)?;
        add(&mut leaves, Section::Slugs, &self.slugs)?;
        add(&mut leaves, Section::Islands, &self.islands)?;
        Ok(StateRoot(fold(leaves)))
    }
}

fn add<K: Serialize, V: Serialize>(
    leaves: &mut Vec<Hash>,
    section: Section,
    map: &BTreeMap<K, V>,
) -> Result<(), codec::Error> {
    leaves.reserve(map.len());
    for (key, value) in map {
        leaves.push(leaf(section, key, value)?);
    }
    Ok(())
}

fn leaf<K: Serialize, V: Serialize>(
    section: Section,
    key: &K,
    value: &V,
) -> Result<Hash, codec::Error> {
    let mut hasher = Sha256::new_with_prefix([0, section as u8]);
    hasher.update(codec::encode("state key", key)?);
    hasher.update(codec::encode("state value", value)?);
    Ok(hasher.finalize().into())
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new_with_prefix([1]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// The root over `leaves`. Joining neighbours level by level, with an odd last one carried up, gives
/// the tree of the RFC.
fn fold(mut level: Vec<Hash>) -> Hash {
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node(left, right),
                odd => odd[0],
            })
            .collect();
    }
    level.first().copied().unwrap_or_else(|| Sha256::digest([]).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962, section 2.1.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            more => {
                let half = more.len().next_power_of_two() / 2;
                node(&by_definition(&more[..half]), &by_definition(&more[half..]))
            }
        }
    }

    #[test]
    fn the_tree_is_that_of_the_rfc() {
        for count in 0..70_u8 {
            let leaves: Vec<Hash> = (0..count).map(|i| [i; 32]).collect();
            assert_eq!(fold(leaves.clone()), by_definition(&leaves), "{count} leaves");
        }
    }

    #[test]
    fn sections_keys_and_values_are_bound() {
        let leaf = |section, key: &str, value| leaf(section, &key, &value).unwrap();
        let one = leaf(Section::Facts, "a", 1_u64);
        assert_ne!(one, leaf(Section::Slugs, "a", 1));
        assert_ne!(one, leaf(Section::Facts, "b", 1));
        assert_ne!(one, leaf(Section::Facts, "a", 2));
    }
}
