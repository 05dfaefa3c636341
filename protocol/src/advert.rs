//! Capability adverts: what an Island tells the mesh about itself, every few seconds and on change.

#[cfg(test)]
mod tests;

use crate::{
    codec,
    id::{AccountId, CargoId, NetworkId, NodeId},
    limits::MAX_ADVERT_BYTES,
    manifest::{Platform, RuntimeType},
    policy::AdvertPolicy,
    pricing::HardwareTier,
    sign::{self, Signable, Signed},
    text::shows,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The full state of an Island. It replaces the one before it; a lower sequence number is stale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    pub node: NodeId,
    /// The account that is paid for this Island's jobs and signs its receipts.
    pub account: AccountId,
    /// Unix milliseconds at the node's start, then one more per advert: rises over restarts.
    pub sequence: u64,
    pub issued: Timestamp,
    pub name: String,
    pub region: String,
    pub platform: Platform,
    pub supported_runtimes: Vec<RuntimeType>,
    pub hardware: Hardware,
    pub active_jobs: u32,
    pub max_jobs: u32,
    /// Asking price in percent of the Cargo's, 100 when the Island asks for nothing special.
    pub asking_percent: u16,
    /// Cargos that it ran lately or holds ready.
    pub warm: Vec<CargoId>,
    /// Multiaddrs on which it can be dialled, in their binary form.
    pub addresses: Vec<serde_bytes::ByteBuf>,
}

/// What an Island has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    pub tier: HardwareTier,
    pub cpu_cores: u32,
    pub ram_mb: u32,
    pub vram_mb: u32,
    /// Memory bandwidth in MB/s, for estimates of token rates; 0 when unknown.
    pub memory_bandwidth_mbps: u32,
}

impl Signable for Advert {
    const DOMAIN: &'static str = "advert";
}

/// An advert with the signature of the node's own key, so that nobody can speak for another node.
pub type SignedAdvert = Signed<Advert>;

/// Why an advert was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("advert field `{field}`: {found}, the limit is {limit}")]
    Limit { field: &'static str, limit: u64, found: u64 },
    #[error("advert field `{field}`: control and invisible characters are not allowed")]
    Hidden { field: &'static str },
    #[error("advert: issued {0} ms in the future, the limit is {MAX_AHEAD_MS}")]
    FromTheFuture(u64),
    #[error("advert: {age_ms} ms old, it counts for {life_ms}")]
    Expired { age_ms: u64, life_ms: u64 },
    #[error("advert: for node {node}, signed by {signer}")]
    OtherNode { node: NodeId, signer: AccountId },
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error(transparent)]
    Signature(#[from] sign::Error),
}

/// How far ahead of ours an honest node's clock may be.
pub const MAX_AHEAD_MS: u64 = 30_000;
pub const MAX_NAME_BYTES: usize = 64;
pub const MAX_REGION_BYTES: usize = 32;
pub const MAX_WARM: usize = 32;
pub const MAX_ADDRESSES: usize = 8;
const MAX_ADDRESS_BYTES: usize = 256;

impl Advert {
    /// # Errors
    /// The first field over its limit.
    pub fn validate(&self) -> Result<(), Error> {
        let limit = |field, limit: usize, found: usize| {
            if found <= limit {
                return Ok(());
            }
            Err(Error::Limit { field, limit: limit as u64, found: found as u64 })
        };
        limit("name", MAX_NAME_BYTES, self.name.len())?;
        limit("region", MAX_REGION_BYTES, self.region.len())?;
        for (field, text) in [("name", &self.name), ("region", &self.region)] {
            if !shows(text) {
                return Err(Error::Hidden { field });
            }
        }
        limit("supported_runtimes", 6, self.supported_runtimes.len())?;
        limit("warm", MAX_WARM, self.warm.len())?;
        limit("addresses", MAX_ADDRESSES, self.addresses.len())?;
        for address in &self.addresses {
            limit("addresses", MAX_ADDRESS_BYTES, address.len())?;
        }
        limit("active_jobs", self.max_jobs as usize, self.active_jobs as usize)
    }

    /// Whether it still counts at `now`.
    ///
    /// # Errors
    /// [`Error::Expired`] or [`Error::FromTheFuture`].
    pub fn check_age(&self, now: Timestamp, policy: &AdvertPolicy) -> Result<(), Error> {
        let ahead = self.issued.since_ms(now);
        if ahead > MAX_AHEAD_MS {
            return Err(Error::FromTheFuture(ahead));
        }
        let (age_ms, life_ms) = (now.since_ms(self.issued), policy.life_ms());
        if age_ms > life_ms {
            return Err(Error::Expired { age_ms, life_ms });
        }
        Ok(())
    }
}

/// Decodes and checks an advert from the wire: size, form, limits, signature, age.
///
/// # Errors
/// What is wrong with it; every case is the sender's fault except age, which a slow path may cause.
pub fn decode(
    bytes: &[u8],
    network: NetworkId,
    policy: &AdvertPolicy,
    now: Timestamp,
) -> Result<SignedAdvert, Error> {
    let advert: SignedAdvert = codec::decode("advert", MAX_ADVERT_BYTES, bytes)?;
    advert.value.validate()?;
    advert.value.check_age(now, policy)?;
    if advert.signer.0 != advert.value.node.0 {
        return Err(Error::OtherNode { node: advert.value.node, signer: advert.signer });
    }
    advert.verify(network)?;
    Ok(advert)
}
