//! The Merkle tree over the state, and proofs of what is in it and what is not.
//!
//! A sparse Merkle tree as in Dahlberg, Pulls, Peeters, "Efficient Sparse Merkle Trees" (2016),
//! with subtrees of one leaf cut short. Its root is
//!
//! - 32 zero bytes for no entry,
//! - `SHA-256(0x00 ‖ SHA-256(key) ‖ SHA-256(value))` for one,
//! - else `SHA-256(0x01 ‖ left ‖ right)` of the roots over the entries whose `SHA-256(key)` has a
//!   zero and a one as its next bit, counted from the highest of the first byte.
//!
//! So it depends on the entries alone, not on the order in which they came. A tree is a value:
//! copying one costs nothing, and copies share what they have in common. A block's changes go in
//! together, so that each node above them is hashed once. Proofs are checked by `fuel-merkle`,
//! which has the same tree. What its entries are is [`super::entry`]'s.

use crate::id::{ContentId, StateRoot};
use fuel_merkle::sparse::{
    MerkleTreeKey,
    proof::{ExclusionLeaf, ExclusionLeafData, ExclusionProof, InclusionProof},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};
use thiserror::Error;

type Hash = [u8; 32];

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

/// A leaf's key and value, each by its hash.
type Leaf = (Hash, Hash);

/// The hash of a key, and of its new value; `None` takes it out.
type Change = (Hash, Option<Hash>);

#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Tree(Subtree);

/// `None` where there is no entry.
type Subtree = Option<Arc<Node>>;

#[derive(PartialEq, Eq)]
struct Node {
    hash: Hash,
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Leaf(Leaf),
    /// Over two entries at least.
    Fork {
        left: Subtree,
        right: Subtree,
    },
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tree").field(&self.root()).finish()
    }
}

impl Tree {
    /// The tree over `entries`.
    pub(super) fn build<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut tree = Self::default();
        tree.update(entries.into_iter().map(|(key, value)| (key, Some(value))));
        tree
    }

    pub(super) fn root(&self) -> StateRoot {
        StateRoot(root(&self.0))
    }

    /// Sets each key to its value, or takes it out where there is none. No key comes twice.
    pub(super) fn update<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        entries: impl IntoIterator<Item = (K, Option<V>)>,
    ) {
        let hashed = |bytes: &[u8]| Hash::from(Sha256::digest(bytes));
        let mut changes: Vec<Change> = entries
            .into_iter()
            .map(|(key, value)| (hashed(key.as_ref()), value.map(|value| hashed(value.as_ref()))))
            .collect();
        changes.sort_unstable();
        self.0 = changed(&self.0, 0, &changes);
    }

    /// Proves that `key` has the value that it has, or has none.
    pub(super) fn prove(&self, key: &[u8]) -> Path {
        let key: Hash = Sha256::digest(key).into();
        let (mut at, mut siblings, mut neighbour) = (&self.0, Vec::new(), None);
        while let Some(node) = at {
            match &node.kind {
                Kind::Fork { left, right } => {
                    let (next, beside) =
                        if is_one(&key, siblings.len()) { (right, left) } else { (left, right) };
                    siblings.push(ContentId(root(beside)));
                    at = next;
                }
                Kind::Leaf((other, value)) => {
                    let (key, value) = (ContentId(*other), ContentId(*value));
                    neighbour = Some(Neighbour { key, value });
                    break;
                }
            }
        }
        siblings.reverse();
        Path { siblings, neighbour: neighbour.filter(|other| other.key.0 != key) }
    }
}

fn root(subtree: &Subtree) -> Hash {
    subtree.as_ref().map_or([0; 32], |node| node.hash)
}

/// The bit of a key's hash that decides at `depth`.
fn is_one(key: &Hash, depth: usize) -> bool {
    key.get(depth / 8).is_some_and(|byte| byte >> (7 - depth % 8) & 1 == 1)
}

/// How many have a zero at `depth`, of some that are in order and alike before it.
fn zeros<T>(list: &[(Hash, T)], depth: usize) -> usize {
    list.partition_point(|(key, _)| !is_one(key, depth))
}

/// The subtree at `depth` after `changes`, in the order of their keys.
fn changed(subtree: &Subtree, depth: usize, changes: &[Change]) -> Subtree {
    if changes.is_empty() {
        return subtree.clone();
    }
    let set = || changes.iter().filter_map(|(key, value)| Some((*key, (*value)?)));
    match subtree.as_ref().map(|node| &node.kind) {
        None => grown(depth, &set().collect::<Vec<_>>()),
        Some(Kind::Leaf(leaf)) => {
            let mut leaves: Vec<_> = set().collect();
            if changes.binary_search_by_key(&leaf.0, |(key, _)| *key).is_err() {
                leaves.insert(leaves.partition_point(|(key, _)| *key < leaf.0), *leaf);
            }
            grown(depth, &leaves)
        }
        Some(Kind::Fork { left, right }) => {
            let (zeros, ones) = changes.split_at(zeros(changes, depth));
            joined(changed(left, depth + 1, zeros), changed(right, depth + 1, ones))
        }
    }
}

/// The subtree at `depth` over `leaves`, in the order of their keys.
fn grown(depth: usize, leaves: &[Leaf]) -> Subtree {
    match leaves {
        [] => None,
        [leaf] => {
            let hash = Sha256::new_with_prefix([0]).chain_update(leaf.0).chain_update(leaf.1);
            Some(Arc::new(Node { hash: hash.finalize().into(), kind: Kind::Leaf(*leaf) }))
        }
        more => {
            let (zeros, ones) = more.split_at(zeros(more, depth));
            joined(grown(depth + 1, zeros), grown(depth + 1, ones))
        }
    }
}

/// A leaf that has nothing beside it stands higher.
fn joined(left: Subtree, right: Subtree) -> Subtree {
    match (left, right) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) if matches!(one.kind, Kind::Leaf(_)) => Some(one),
        (left, right) => {
            let hash = Sha256::new_with_prefix([1]);
            let hash = hash.chain_update(root(&left)).chain_update(root(&right));
            let kind = Kind::Fork { left, right };
            Some(Arc::new(Node { hash: hash.finalize().into(), kind }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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
                tree.update(step.iter().map(|(k, v)| ([*k], v.map(|v| [v]))));
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
                let path = tree.prove(&[key]);
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
        let present = tree.prove(&[3]);
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
        assert_eq!(empty.prove(b"a").verify(empty.root(), b"a", None), Ok(()));
        let siblings = vec![ContentId([0; 32]); 257];
        let long = Path { siblings, neighbour: None };
        assert_eq!(long.verify(empty.root(), b"a", None), Err(Invalid::TooLong(257)));
        let most = Path { siblings: vec![ContentId([0; 32]); 256], neighbour: None };
        assert!(most.verify(empty.root(), b"a", None).is_err());
    }
}
