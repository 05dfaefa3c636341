//! Identifiers. Each is a newtype over fixed bytes: bytes on the wire, lower-case hex as text.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// Why a text or byte string is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("{kind}: expected {expected} hexadecimal digits, found {found}")]
    Length { kind: &'static str, expected: usize, found: usize },
    #[error("{kind}: {found:?} is not a hexadecimal digit")]
    Digit { kind: &'static str, found: char },
}

fn hex_encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn hex_decode<const N: usize>(kind: &'static str, text: &str) -> Result<[u8; N], Error> {
    let found = text.chars().count();
    if found != N * 2 {
        return Err(Error::Length { kind, expected: N * 2, found });
    }
    let mut bytes = [0; N];
    for (i, digit) in text.chars().enumerate() {
        let value = digit.to_digit(16).ok_or(Error::Digit { kind, found: digit })?;
        let value = u8::try_from(value).map_err(|_| Error::Digit { kind, found: digit })?;
        bytes[i / 2] |= if i % 2 == 0 { value << 4 } else { value };
    }
    Ok(bytes)
}

/// Serializes bytes as a CBOR byte string, or as hex where the format is for people.
fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&hex_encode(bytes))
    } else {
        serializer.serialize_bytes(bytes)
    }
}

struct Visitor<const N: usize>(&'static str);

impl<const N: usize> de::Visitor<'_> for Visitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {N} bytes", self.0)
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<[u8; N], E> {
        hex_decode(self.0, text).map_err(E::custom)
    }
}

fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
    kind: &'static str,
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(Visitor::<N>(kind))
    } else {
        deserializer.deserialize_bytes(Visitor::<N>(kind))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// The first eight digits, for lists that people read.
            #[must_use]
            pub fn short(&self) -> String {
                hex_encode(&self.0[..4])
            }

            /// The first bytes as a number, for counters and traces: most likely no other has it.
            #[must_use]
            pub fn prefix(&self) -> u64 {
                self.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex_encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                hex_decode($kind, text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize(&self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize($kind, deserializer).map(Self)
            }
        }
    };
}

id!(
    /// An account: its ed25519 public key. Consumers, publishers, Islands' earnings and validators
    /// are all accounts.
    AccountId, 32, "account"
);
id!(
    /// A node of the mesh: the ed25519 public key behind its libp2p peer id.
    NodeId, 32, "node"
);
id!(
    /// A network: the hash of its genesis document.
    NetworkId, 32, "network"
);
id!(
    /// A set of validators, by its hash.
    ValidatorsId, 32, "validators"
);
id!(
    /// A Cargo version: the SHA-256 of its manifest's canonical bytes.
    CargoId, 32, "cargo"
);
id!(
    /// Content by its SHA-256: wasm modules and other artifacts, inputs, outputs.
    ContentId, 32, "content"
);
id!(
    /// A job, drawn at random by the Consumer. A retry on another Island keeps it.
    JobId, 16, "job"
);
id!(
    /// A hold: the hash of the transaction that opened it.
    HoldId, 32, "hold"
);
id!(
    /// A transaction: the hash of its signed bytes.
    TxId, 32, "transaction"
);
id!(
    /// A block: the hash of its header.
    BlockHash, 32, "block"
);
id!(
    /// A Merkle root over the ledger's state.
    StateRoot, 32, "state root"
);

id!(
    /// An ed25519 signature.
    Signature, 64, "signature"
);

impl ContentId {
    /// The id of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_hex_and_errors_name_the_kind() {
        let id = ContentId::of(b"");
        assert_eq!(
            id.to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(
            "ab".parse::<JobId>(),
            Err(Error::Length { kind: "job", expected: 32, found: 2 })
        );
        assert_eq!("g".repeat(32).parse::<JobId>(), Err(Error::Digit { kind: "job", found: 'g' }));
    }

    #[test]
    fn bytes_on_the_wire_and_hex_in_json() {
        let id = JobId([7; 16]);
        assert_eq!(serde_ipld_dagcbor::to_vec(&id).unwrap()[0], 0x50);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
        assert!(serde_ipld_dagcbor::from_slice::<JobId>(&[0x41, 7]).is_err());
    }
}
