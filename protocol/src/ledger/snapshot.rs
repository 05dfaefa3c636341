//! The whole state as canonical bytes: what a coordinator keeps on disk and gives to one that joins.
//!
//! A joiner must compare [`State::root`] with a certified header: decoding checks that the state is
//! consistent in itself, not that the network ever agreed on it.

use super::State;
use crate::{codec, genesis};
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

impl State {
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
