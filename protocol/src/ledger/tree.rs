//! The Merkle tree over the state, and proofs of what is in it and what is not.
//!
//! A sparse Merkle tree as in Dahlberg, Pulls, Peeters, "Efficient Sparse Merkle Trees" (2016), with
//! subtrees of one leaf cut short, by `fuel-merkle`. Its root is
//!
//! - 32 zero bytes for no entry,
//! - `SHA-256(0x00 ‖ SHA-256(key) ‖ SHA-256(value))` for one,
//! - else `SHA-256(0x01 ‖ left ‖ right)` of the roots over the entries whose `SHA-256(key)` has a zero
//!   and a one as its next bit, counted from the highest of the first byte.
//!
//! So it depends on the entries alone, not on the order in which they came. A tree is a value: copying
//! one costs nothing, and copies share what they have in common. What its entries are is
//! [`super::entry`]'s.

use crate::id::{ContentId, StateRoot};
use fuel_merkle::{
    sparse::{
        self, MerkleTreeError, MerkleTreeKey, Primitive,
        proof::{self as fuel, ExclusionLeaf, ExclusionLeafData, ExclusionProof, InclusionProof},
    },
    storage::{Mappable, StorageInspect, StorageMutate},
};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap, convert::Infallible};
use thiserror::Error;

type Hash = [u8; 32];

/// The tree lacks a node of its own: a broken rule of ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the state's Merkle tree is damaged: {0}")]
pub struct Damaged(String);

impl From<MerkleTreeError<Infallible>> for Damaged {
    fn from(error: MerkleTreeError<Infallible>) -> Self {
        Self(format!("{error:?}"))
    }
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("the proof does not lead to state root {0}")]
    OtherRoot(StateRoot),
    #[error("the proof has {0} siblings, at most 256 are possible")]
    TooLong(usize),
    #[error("the entry's own leaf can't prove that there is no entry")]
    OwnLeaf,
}

/// How an entry's place in the tree leads to its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The hashes beside the way up, from the leaf to the root. At most [`MAX_SIBLINGS`].
    pub siblings: Vec<ContentId>,
    /// For an entry that is absent: the one other leaf below the way's end, if there is one.
    pub neighbour: Option<Neighbour>,
}

/// The leaf that stands where an absent entry would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// SHA-256 of its key.
    pub key: ContentId,
    /// SHA-256 of its value.
    pub value: ContentId,
}

/// One for each bit of a hash.
pub const MAX_SIBLINGS: usize = 256;

impl Path {
    /// Checks that the tree with this `root` has `value` at `key`, or has nothing there for `None`.
    ///
    /// # Errors
    /// Why it proves neither.
    pub fn verify(&self, root: StateRoot, key: &[u8], value: Option<&[u8]>) -> Result<(), Invalid> {
        if self.siblings.len() > MAX_SIBLINGS {
            return Err(Invalid::TooLong(self.siblings.len()));
        }
        let proof_set = self.siblings.iter().map(|hash| hash.0).collect();
        let key = MerkleTreeKey::new(key);
        let holds = match (value, self.neighbour) {
            (Some(value), None) => InclusionProof { proof_set }.verify(&root.0, &key, value),
            (Some(_), Some(_)) => false,
            (None, None) => {
                ExclusionProof { proof_set, leaf: ExclusionLeaf::Placeholder }.verify(&root.0, &key)
            }
            (None, Some(other)) => {
                if other.key.0 == *key {
                    return Err(Invalid::OwnLeaf);
                }
                let data = ExclusionLeafData { leaf_key: other.key.0, leaf_value: other.value.0 };
                let leaf = ExclusionLeaf::Leaf(data);
                ExclusionProof { proof_set, leaf }.verify(&root.0, &key)
            }
        };
        if holds { Ok(()) } else { Err(Invalid::OtherRoot(root)) }
    }
}

/// A tree with its nodes, each under its own hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    nodes: OrdMap<Hash, Primitive>,
    root: Hash,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: OrdMap::new(), root: *EMPTY_ROOT }
    }
}

type Sparse<S> = sparse::MerkleTree<Nodes, S>;

const EMPTY_ROOT: &Hash = Sparse::<()>::empty_root();

impl Tree {
    /// The tree over `entries`, in one go.
    pub(super) fn build<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (MerkleTreeKey::new(key), value));
        let Ok(tree) = Sparse::from_set(Changes::default(), entries);
        let mut built = Self { root: tree.root(), ..Self::default() };
        built.absorb(tree.into_storage().changed);
        built
    }

    pub(super) fn root(&self) -> StateRoot {
        StateRoot(self.root)
    }

    /// Sets each key to its value, or takes it out where there is none.
    ///
    /// # Errors
    /// [`Damaged`], which no sequence of updates leads to.
    pub(super) fn update<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        entries: impl IntoIterator<Item = (K, Option<V>)>,
    ) -> Result<(), Damaged> {
        let changes = Changes { base: self.nodes.clone(), changed: BTreeMap::new() };
        let mut tree = Sparse::load(changes, &self.root)?;
        for (key, value) in entries {
            let key = MerkleTreeKey::new(key);
            match value {
                Some(value) => tree.insert(key, value.as_ref())?,
                None => tree.delete(key)?,
            }
        }
        self.root = tree.root();
        self.absorb(tree.into_storage().changed);
        Ok(())
    }

    fn absorb(&mut self, changed: BTreeMap<Hash, Option<Primitive>>) {
        for (hash, node) in changed {
            match node {
                Some(node) => self.nodes.insert(hash, node),
                None => self.nodes.remove(&hash),
            };
        }
    }

    /// Proves that `key` has the value that it has, or has none.
    ///
    /// # Errors
    /// As [`Tree::update`].
    pub(super) fn prove(&self, key: &[u8]) -> Result<Path, Damaged> {
        let tree =
            Sparse::load(Changes { base: self.nodes.clone(), ..Changes::default() }, &self.root)?;
        let ids = |hashes: Vec<Hash>| hashes.into_iter().map(ContentId).collect();
        Ok(match tree.generate_proof(&MerkleTreeKey::new(key))? {
            fuel::Proof::Inclusion(proof) => {
                Path { siblings: ids(proof.proof_set), neighbour: None }
            }
            fuel::Proof::Exclusion(proof) => {
                let neighbour = match proof.leaf {
                    ExclusionLeaf::Placeholder => None,
                    ExclusionLeaf::Leaf(leaf) => Some(Neighbour {
                        key: ContentId(leaf.leaf_key),
                        value: ContentId(leaf.leaf_value),
                    }),
                };
                Path { siblings: ids(proof.proof_set), neighbour }
            }
        })
    }
}

/// The library's name for our table of nodes.
#[derive(Debug)]
struct Nodes;

impl Mappable for Nodes {
    type Key = Hash;
    type OwnedKey = Hash;
    type Value = Primitive;
    type OwnedValue = Primitive;
}

/// Nodes as an update leaves them: most that it makes on its way are gone at its end.
#[derive(Debug, Default)]
struct Changes {
    base: OrdMap<Hash, Primitive>,
    /// `None` for a node that was taken out.
    changed: BTreeMap<Hash, Option<Primitive>>,
}

impl StorageInspect<Nodes> for Changes {
    type Error = Infallible;

    fn get(&self, key: &Hash) -> Result<Option<Cow<'_, Primitive>>, Infallible> {
        let node = match self.changed.get(key) {
            Some(node) => node.as_ref(),
            None => self.base.get(key),
        };
        Ok(node.map(Cow::Borrowed))
    }

    fn contains_key(&self, key: &Hash) -> Result<bool, Infallible> {
        Ok(self.get(key)?.is_some())
    }
}

impl StorageMutate<Nodes> for Changes {
    fn replace(&mut self, key: &Hash, value: &Primitive) -> Result<Option<Primitive>, Infallible> {
        let before = self.get(key)?.map(Cow::into_owned);
        self.changed.insert(*key, Some(*value));
        Ok(before)
    }

    fn insert(&mut self, key: &Hash, value: &Primitive) -> Result<(), Infallible> {
        self.changed.insert(*key, Some(*value));
        Ok(())
    }

    fn take(&mut self, key: &Hash) -> Result<Option<Primitive>, Infallible> {
        let before = self.get(key)?.map(Cow::into_owned);
        self.remove(key)?;
        Ok(before)
    }

    fn remove(&mut self, key: &Hash) -> Result<(), Infallible> {
        // A node that this update made leaves no trace.
        match self.base.contains_key(key) {
            true => self.changed.insert(*key, None),
            false => self.changed.remove(key),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    type Entries = BTreeMap<u8, u8>;

    fn build(entries: &Entries) -> Tree {
        Tree::build(entries.iter().map(|(k, v)| ([*k], [*v])))
    }

    /// The root by the definition at the top of this file.
    fn by_definition(entries: &Entries) -> Hash {
        fn hash(parts: &[&[u8]]) -> Hash {
            Sha256::digest(parts.concat()).into()
        }
        fn under(leaves: &[(Hash, Hash)], bit: usize) -> Hash {
            match leaves {
                [] => [0; 32],
                [(key, value)] => hash(&[&[0], key, value]),
                more => {
                    let is_one = |key: &Hash| key[bit / 8] >> (7 - bit % 8) & 1 == 1;
                    let (right, left): (Vec<_>, Vec<_>) =
                        more.iter().partition(|(key, _)| is_one(key));
                    hash(&[&[1], &under(&left, bit + 1), &under(&right, bit + 1)])
                }
            }
        }
        let leaves: Vec<_> =
            entries.iter().map(|(k, v)| (hash(&[&[*k]]), hash(&[&[*v]]))).collect();
        under(&leaves, 0)
    }

    fn entries() -> impl Strategy<Value = Entries> {
        proptest::collection::btree_map(0..40_u8, 0..4_u8, 0..30)
    }

    proptest! {
        #[test]
        fn updates_lead_to_the_tree_of_the_definition(
            first in entries(),
            steps in proptest::collection::vec(
                proptest::collection::btree_map(0..40_u8, proptest::option::of(0..4_u8), 0..12), 0..8),
        ) {
            let mut now = first;
            let mut tree = build(&now);
            for step in steps {
                let before = (now.clone(), tree.clone());
                tree.update(step.iter().map(|(k, v)| ([*k], v.map(|v| [v])))).unwrap();
                for (key, value) in step {
                    match value {
                        Some(value) => now.insert(key, value),
                        None => now.remove(&key),
                    };
                }
                prop_assert_eq!(tree.root().0, by_definition(&now));
                // It keeps no node that it does not need, and a copy is a copy.
                prop_assert_eq!(&tree, &build(&now));
                prop_assert_eq!(before.1, build(&before.0));
            }
        }

        #[test]
        fn every_key_is_proven_present_or_absent_and_nothing_else(entries in entries()) {
            let tree = build(&entries);
            let root = tree.root();
            for key in 0..48_u8 {
                let path = tree.prove(&[key]).unwrap();
                let value = entries.get(&key).map(|v| [*v]);
                let value = value.as_ref().map(|v| v.as_slice());
                prop_assert_eq!(path.verify(root, &[key], value), Ok(()));
                for other in [None, Some(&[0_u8][..]), Some(&[9]), Some(&[])] {
                    if other != value {
                        prop_assert!(path.verify(root, &[key], other).is_err());
                    }
                }
                prop_assert!(path.verify(StateRoot([7; 32]), &[key], value).is_err());
                for (index, _) in path.siblings.iter().enumerate() {
                    let mut wrong = path.clone();
                    wrong.siblings[index].0[31] ^= 1;
                    prop_assert!(wrong.verify(root, &[key], value).is_err());
                    let mut short = path.clone();
                    short.siblings.remove(index);
                    prop_assert!(short.verify(root, &[key], value).is_err());
                }
            }
        }
    }

    #[test]
    fn a_proof_of_absence_can_not_use_the_entry_itself_or_another_place() {
        let entries: Entries = (0..20).map(|k| (k, k)).collect();
        let tree = build(&entries);
        let present = tree.prove(&[3]).unwrap();
        let hash = |byte: u8| ContentId(Sha256::digest([byte]).into());
        let own = Path { neighbour: Some(Neighbour { key: hash(3), value: hash(3) }), ..present };
        assert_eq!(own.verify(tree.root(), &[3], None), Err(Invalid::OwnLeaf));
        assert!(own.verify(tree.root(), &[3], Some(&[3])).is_err());
        // The leaf of 3 stands on the way of some absent key, but not of each.
        let misses = (20..=255_u8).filter(|key| own.verify(tree.root(), &[*key], None).is_err());
        assert!(misses.count() > 200);
    }

    #[test]
    fn the_smallest_trees_and_the_longest_paths_are_checked() {
        let empty = Tree::default();
        assert_eq!(empty.root(), StateRoot([0; 32]));
        assert_eq!(empty.prove(b"a").unwrap().verify(empty.root(), b"a", None), Ok(()));
        let siblings = vec![ContentId([0; 32]); 257];
        let long = Path { siblings, neighbour: None };
        assert_eq!(long.verify(empty.root(), b"a", None), Err(Invalid::TooLong(257)));
        let most = Path { siblings: vec![ContentId([0; 32]); 256], neighbour: None };
        assert!(most.verify(empty.root(), b"a", None).is_err());
    }
}
