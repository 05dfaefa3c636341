//! Keys, signatures and the signed envelope.
//!
//! Every signature covers a domain string and the network id, so a message signed for one purpose
//! or network is worth nothing for another. Verification follows ZIP-215 everywhere, single and
//! batch: nodes must agree on which signatures are valid (`DESIGN.md`, "Identity").

use crate::{
    codec,
    id::{AccountId, NetworkId, Signature},
};
use ed25519_dalek::Signer;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// A value that can be signed.
pub trait Signable: Serialize {
    /// What the signature is for; distinct for every type that is signed.
    const DOMAIN: &'static str;
}

/// Why a signature was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("{domain}: the signature is not {signer}'s")]
    Invalid { domain: &'static str, signer: AccountId },
    #[error(transparent)]
    Codec(#[from] codec::Error),
}

/// An account's secret key.
#[derive(Clone)]
pub struct SecretKey(ed25519_dalek::SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.account().short())
    }
}

impl SecretKey {
    /// The key that `seed` (32 random bytes) stands for.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The seed, for the key file.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    #[must_use]
    pub fn account(&self) -> AccountId {
        AccountId(self.0.verifying_key().to_bytes())
    }

    /// Signs `value` for `network`.
    ///
    /// # Errors
    /// When the value has no canonical encoding.
    pub fn sign<T: Signable>(
        &self,
        network: NetworkId,
        value: &T,
    ) -> Result<Signature, codec::Error> {
        let message = message(network, T::DOMAIN, &codec::encode(T::DOMAIN, value)?);
        Ok(Signature(self.0.sign(&message).to_bytes()))
    }

    /// Wraps `value` with this account's signature.
    ///
    /// # Errors
    /// When the value has no canonical encoding.
    pub fn seal<T: Signable>(
        &self,
        network: NetworkId,
        value: T,
    ) -> Result<Signed<T>, codec::Error> {
        let signature = self.sign(network, &value)?;
        Ok(Signed { value, signer: self.account(), signature })
    }
}

/// A value with its signer and signature. The signature is unchecked until [`Signed::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed<T> {
    pub value: T,
    pub signer: AccountId,
    pub signature: Signature,
}

impl<T: Signable> Signed<T> {
    /// # Errors
    /// [`Error::Invalid`] when the signature is not the signer's over this value in this network.
    pub fn verify(&self, network: NetworkId) -> Result<&T, Error> {
        verify(network, self.signer, &self.value, &self.signature)?;
        Ok(&self.value)
    }
}

/// Checks one signature by ZIP-215.
///
/// # Errors
/// [`Error::Invalid`] when it is not `signer`'s over `value` in `network`.
pub fn verify<T: Signable>(
    network: NetworkId,
    signer: AccountId,
    value: &T,
    signature: &Signature,
) -> Result<(), Error> {
    let message = message(network, T::DOMAIN, &codec::encode(T::DOMAIN, value)?);
    let invalid = || Error::Invalid { domain: T::DOMAIN, signer };
    ed25519_zebra::VerificationKey::try_from(signer.0)
        .and_then(|key| key.verify(&ed25519_zebra::Signature::from_bytes(&signature.0), &message))
        .map_err(|_| invalid())
}

/// The bytes under a signature: `archipelag/<domain>/1`, a zero byte, the network id, the value.
pub(crate) fn message(network: NetworkId, domain: &str, value: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(domain.len() + 48 + value.len());
    message.extend_from_slice(b"archipelag/");
    message.extend_from_slice(domain.as_bytes());
    message.extend_from_slice(b"/1\0");
    message.extend_from_slice(&network.0);
    message.extend_from_slice(value);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Serialize, Deserialize)]
    struct Note(u64);
    impl Signable for Note {
        const DOMAIN: &'static str = "note";
    }
    #[derive(Serialize)]
    struct Other(u64);
    impl Signable for Other {
        const DOMAIN: &'static str = "other";
    }

    #[test]
    fn a_signature_is_bound_to_value_domain_network_and_signer() {
        let (network, key) = (NetworkId([1; 32]), SecretKey::from_seed([2; 32]));
        let signed = key.seal(network, Note(5)).unwrap();
        assert!(signed.verify(network).is_ok());
        assert!(signed.verify(NetworkId([9; 32])).is_err());
        assert!(Signed { value: Note(6), ..signed }.verify(network).is_err());
        assert!(verify(network, key.account(), &Other(5), &signed.signature).is_err());
        let stranger = SecretKey::from_seed([3; 32]).account();
        assert_eq!(
            Signed { signer: stranger, ..signed }.verify(network).err(),
            Some(Error::Invalid { domain: "note", signer: stranger })
        );
    }
}
