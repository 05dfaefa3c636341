//! Many signatures checked together: half the cost of one by one.
//!
//! Batch and single verification agree on every signature under ZIP-215
//! (`adr/0003-batch-signatures.md`). The batch's coefficients come from a hash over all that it
//! checks, so nothing here is random and no signer can choose a signature after them.

use crate::{
    codec,
    id::{AccountId, NetworkId, Signature},
    sign::{self, Signable},
};
use ed25519_zebra::batch;
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use std::{convert::Infallible, fmt};

/// The first signature of a batch that is not its signer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Its place in the order of [`Batch::add`].
    pub index: usize,
    pub error: sign::Error,
}

/// Signatures that wait to be checked.
pub struct Batch {
    network: NetworkId,
    checks: Vec<Check>,
    seed: Sha256,
}

struct Check {
    domain: &'static str,
    signer: AccountId,
    item: batch::Item,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} signatures)", self.checks.len())
    }
}

impl Batch {
    #[must_use]
    pub fn new(network: NetworkId) -> Self {
        Self { network, checks: Vec::new(), seed: Sha256::new() }
    }

    /// Adds what `signer` is said to have signed.
    ///
    /// # Errors
    /// When the value has no canonical encoding.
    pub fn add<T: Signable>(
        &mut self,
        signer: AccountId,
        value: &T,
        signature: &Signature,
    ) -> Result<(), codec::Error> {
        let message = sign::message(self.network, T::DOMAIN, &codec::encode(T::DOMAIN, value)?);
        self.seed.update(signer.0);
        self.seed.update(signature.0);
        self.seed.update(Sha256::digest(&message));
        let key = ed25519_zebra::VerificationKeyBytes::from(signer.0);
        let signature = ed25519_zebra::Signature::from_bytes(&signature.0);
        let item = batch::Item::from((key, signature, &message));
        self.checks.push(Check { domain: T::DOMAIN, signer, item });
        Ok(())
    }

    /// Checks all of them by ZIP-215. None is nothing to object to.
    ///
    /// # Errors
    /// The first that is not its signer's.
    pub fn verify(self) -> Result<(), Invalid> {
        let mut batch = batch::Verifier::new();
        for check in &self.checks {
            batch.queue(check.item.clone());
        }
        if batch.verify(Coefficients::new(self.seed)).is_ok() {
            return Ok(());
        }
        for (index, Check { domain, signer, item }) in self.checks.into_iter().enumerate() {
            if item.verify_single().is_err() {
                return Err(Invalid { index, error: sign::Error::Invalid { domain, signer } });
            }
        }
        Ok(())
    }
}

/// SHA-256 of a seed and a counter, in the form that the batch verifier asks for.
struct Coefficients {
    seed: [u8; 32],
    counter: u64,
}

impl Coefficients {
    fn new(seed: Sha256) -> Self {
        Self { seed: seed.finalize().into(), counter: 0 }
    }
}

impl TryRng for Coefficients {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            let mut hasher = Sha256::new_with_prefix(self.seed);
            hasher.update(self.counter.to_be_bytes());
            self.counter += 1;
            chunk.copy_from_slice(&hasher.finalize()[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Coefficients {}
