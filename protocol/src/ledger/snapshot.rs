//! The whole state as canonical bytes: what a coordinator keeps on disk and gives to one that
//! joins.
//!
//! A joiner must compare [`State::root`] with a certified header: decoding checks that the state is
//! consistent in itself, not that the network ever agreed on it.

use super::{Header, State};
use crate::{batch::Batch, codec, genesis, id::CargoId, manifest::SignedManifest};
use thiserror::Error;

/// The longest snapshot that is decoded.
pub const MAX_SNAPSHOT_BYTES: usize = 1 << 30;

/// Why a snapshot was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error("snapshot: {0}")]
    Genesis(#[from] genesis::Error),
    #[error("snapshot field `{field}`: {reason}")]
    Field { field: &'static str, reason: String },
}

/// Why a snapshot is not the state of a block.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotOf {
    #[error(transparent)]
    Snapshot(#[from] Error),
    #[error("the snapshot is not of block {height}: its {field} differs")]
    Block { height: u64, field: &'static str },
    #[error("the snapshot's Cargo {0} is not signed by its publisher")]
    Unsigned(CargoId),
}

impl From<codec::Error> for NotOf {
    fn from(error: codec::Error) -> Self {
        Self::Snapshot(error.into())
    }
}

impl State {
    /// Decodes a snapshot from a stranger and checks that it is the state after the block of
    /// `header`, whoever decided that. What the block's root is not over, height and validators of
    /// the block, is compared with the header; what neither names, signatures of manifests, is
    /// checked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_snapshot_of(bytes: &[u8], header: &Header) -> Result<Self, NotOf> {
        let state = Self::from_snapshot(bytes)?;
        let same = [
            ("network", state.network == header.network),
            ("height", state.height == header.height),
            ("hash", state.last_block == header.hash()?),
            ("time", state.time == header.time),
            ("validators", state.last_validators.id()? == header.validators),
            ("root", state.root() == header.state),
        ];
        if let Some((field, _)) = same.into_iter().find(|(_, same)| !same) {
            return Err(NotOf::Block { height: header.height, field });
        }
        let mut batch = Batch::new(state.network);
        for cargo in state.cargos.values() {
            let SignedManifest { value, signer, signature } = &cargo.manifest;
            if *signer != cargo.record.publisher {
                return Err(NotOf::Unsigned(cargo.record.cargo));
            }
            batch.add(*signer, value, signature)?;
        }
        batch.verify().map_err(|invalid| {
            let cargo = state.cargos.keys().nth(invalid.index);
            NotOf::Unsigned(cargo.copied().unwrap_or(CargoId([0; 32])))
        })?;
        Ok(state)
    }

    /// # Errors
    /// When it has no canonical encoding; every state that blocks lead to has one.
    pub fn to_snapshot(&self) -> Result<Vec<u8>, codec::Error> {
        codec::encode("snapshot", self)
    }

    /// Decodes a snapshot and checks that it is consistent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, Error> {
        let mut state: Self = codec::decode("snapshot", MAX_SNAPSHOT_BYTES, bytes)?;
        state.check_consistency()?;
        state.rebuild_tree()?;
        Ok(state)
    }

    fn check_consistency(&self) -> Result<(), Error> {
        let refuse = |field, reason: String| Err(Error::Field { field, reason });
        self.genesis.validate()?;
        if self.genesis.network().map_err(genesis::Error::from)? != self.network {
            return refuse("network", "it is not the hash of the genesis document".into());
        }
        for (id, hold) in &self.holds {
            if hold.settled > hold.redeemed || hold.redeemed > hold.cap {
                return refuse("holds", format!("{id} paid out more than it has"));
            }
        }
        for (id, cargo) in &self.cargos {
            if cargo.manifest.value.id()? != *id || cargo.record.cargo != *id {
                return refuse("cargos", format!("{id} is not the hash of its manifest"));
            }
        }
        if let Some((id, _)) = self.counters.iter().find(|(id, _)| !self.cargos.contains_key(*id)) {
            return refuse("counters", format!("{id} is no Cargo that is there"));
        }
        for (name, slug) in &self.slugs {
            if slug.versions.values().any(|id| !self.cargos.contains_key(id)) {
                return refuse("slugs", format!("{name} has a version that is not there"));
            }
        }
        match self.check_conservation() {
            Ok(()) => Ok(()),
            Err(sums) => refuse(
                "minted",
                format!("{} microcredits were minted, {} exist", sums.minted, sums.found),
            ),
        }
    }
}
