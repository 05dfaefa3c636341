//! The entries of the state: what its root is over, and what can be proven of it.
//!
//! Each entry has a key and, while it exists, a value; both are canonical DAG-CBOR. Height, time
//! and the last block's hash are not among them: the header, which carries the root, has them, and
//! a root over the hash of its own header could not exist. The network id, which is, fixes the
//! genesis document and its policy; a Cargo's id fixes its manifest.

use super::{
    State,
    tree::{self, Path, Tree},
};
use crate::{
    codec,
    id::{AccountId, CargoId, HoldId, StateRoot},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The name of an entry. Its encoding is part of the root: never rename or reuse one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// The network's id.
    Network,
    /// All credits that exist.
    Minted,
    Treasury,
    /// The [`super::ValidatorSet`] that decides the next block.
    Validators,
    /// [`super::Account`]
    Account(AccountId),
    /// [`super::Hold`]
    Hold(HoldId),
    /// The [`crate::catalog::Record`] of a Cargo version.
    Cargo(CargoId),
    /// How the executions of a Cargo version went: [`crate::catalog::Counters`].
    Counters(CargoId),
    /// [`super::state::Slug`]
    Slug(String),
    /// [`super::IslandStanding`]
    Island(AccountId),
    /// [`super::Stake`]
    Stake(AccountId),
    /// [`super::Epoch`]
    Epoch,
}

impl Key {
    /// # Errors
    /// When it has no canonical encoding; every key has one.
    pub fn to_bytes(&self) -> Result<Vec<u8>, codec::Error> {
        codec::encode("state key", self)
    }
}

/// Why an entry is not proven.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error(transparent)]
    Path(#[from] tree::Invalid),
    #[error(transparent)]
    Codec(#[from] codec::Error),
}

/// What the state has under a key, with the way to its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The entry's canonical bytes; `None` when there is no such entry.
    pub value: Option<serde_bytes::ByteBuf>,
    pub path: Path,
}

/// The longest value of an entry.
const MAX_VALUE_BYTES: usize = 1 << 20;

impl Proof {
    /// Checks that the state with this `root` has this value, or none, under `key`; gives it.
    ///
    /// # Errors
    /// Why it does not prove that, or that the value is not of this kind.
    pub fn verify<T: DeserializeOwned + Serialize>(
        &self,
        root: StateRoot,
        key: &Key,
    ) -> Result<Option<T>, Error> {
        let value = self.value.as_ref().map(|bytes| bytes.as_slice());
        self.path.verify(root, &key.to_bytes()?, value)?;
        Ok(value.map(|bytes| codec::decode("entry", MAX_VALUE_BYTES, bytes)).transpose()?)
    }
}

impl State {
    /// The root over all entries, as of the last block.
    #[must_use]
    pub fn root(&self) -> StateRoot {
        self.tree.root()
    }

    /// Proves what the state has under `key`, as of the last block.
    ///
    /// # Errors
    /// [`block::Error`](super::block::Error) for a broken rule of ours.
    pub fn prove(&self, key: &Key) -> Result<Proof, super::block::Error> {
        let path = self.tree.prove(&key.to_bytes()?);
        Ok(Proof { value: self.value(key)?.map(serde_bytes::ByteBuf::from), path })
    }

    fn value(&self, key: &Key) -> Result<Option<Vec<u8>>, codec::Error> {
        fn bytes<T: Serialize>(value: Option<&T>) -> Result<Option<Vec<u8>>, codec::Error> {
            value.map(|value| codec::encode("state value", value)).transpose()
        }
        match key {
            Key::Network => bytes(Some(&self.network)),
            Key::Minted => bytes(Some(&self.minted)),
            Key::Treasury => bytes(Some(&self.treasury)),
            Key::Validators => bytes(Some(&self.validators)),
            Key::Account(id) => bytes(self.accounts.get(id)),
            Key::Hold(id) => bytes(self.holds.get(id)),
            Key::Cargo(id) => bytes(self.cargos.get(id).map(|cargo| &cargo.record)),
            Key::Counters(id) => bytes(self.counters.get(id)),
            Key::Slug(name) => bytes(self.slugs.get(name)),
            Key::Island(id) => bytes(self.islands.get(id)),
            Key::Stake(id) => bytes(self.stakes.get(id)),
            Key::Epoch => bytes(Some(&self.epoch)),
        }
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        [Key::Network, Key::Minted, Key::Treasury, Key::Validators, Key::Epoch]
            .into_iter()
            .chain(self.accounts.keys().map(|id| Key::Account(*id)))
            .chain(self.holds.keys().map(|id| Key::Hold(*id)))
            .chain(self.cargos.keys().map(|id| Key::Cargo(*id)))
            .chain(self.counters.keys().map(|id| Key::Counters(*id)))
            .chain(self.slugs.keys().map(|name| Key::Slug(name.clone())))
            .chain(self.islands.keys().map(|id| Key::Island(*id)))
            .chain(self.stakes.keys().map(|id| Key::Stake(*id)))
    }

    /// Computes the tree anew from all entries.
    ///
    /// # Errors
    /// When a value has no canonical encoding; every state that blocks lead to has one.
    pub(super) fn rebuild_tree(&mut self) -> Result<(), codec::Error> {
        let mut entries = Vec::new();
        for key in self.keys() {
            if let Some(value) = self.value(&key)? {
                entries.push((key.to_bytes()?, value));
            }
        }
        self.touched.clear();
        self.tree = Tree::build(entries);
        Ok(())
    }

    /// Brings the tree up to what was touched since the last time; gives the root.
    pub(super) fn update_tree(&mut self) -> Result<StateRoot, super::block::Error> {
        let touched = std::mem::take(&mut self.touched);
        let mut entries = Vec::with_capacity(touched.len());
        for key in touched {
            entries.push((key.to_bytes()?, self.value(&key)?));
        }
        self.tree.update(entries);
        Ok(self.root())
    }
}
