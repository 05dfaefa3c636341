//! The one encoding of signed and hashed values (DAG-CBOR), and the looser one of job frames.
//!
//! Called by everything that signs, hashes, stores or sends. Lengths are bounded here; nesting is
//! bounded by the decoders.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Why bytes were refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("{what}: {found} bytes, the limit is {limit}")]
    TooLong { what: &'static str, limit: usize, found: usize },
    #[error("{what}: not valid: {reason}")]
    Malformed { what: &'static str, reason: String },
    #[error("{what}: not the canonical DAG-CBOR encoding of its value")]
    NotCanonical { what: &'static str },
    #[error("{what}: can't be encoded: {reason}")]
    Unencodable { what: &'static str, reason: String },
}

/// The canonical bytes of `value`: DAG-CBOR has exactly one encoding per value.
///
/// # Errors
/// [`Error::Unencodable`] when the type has no CBOR form (a map with keys that are not strings).
pub fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, Error> {
    serde_ipld_dagcbor::to_vec(value)
        .map_err(|e| Error::Unencodable { what, reason: e.to_string() })
}

/// Decodes canonical bytes of at most `limit` bytes.
///
/// The value is encoded again and compared, so that bytes which a lenient decoder would take for
/// the same value (unsorted or repeated keys, long integers, unknown fields) are refused whatever
/// the decoder thinks of them.
///
/// # Errors
/// Says what was being decoded, and whether it was too long, malformed or not canonical.
pub fn decode<T: Serialize + DeserializeOwned>(
    what: &'static str,
    limit: usize,
    bytes: &[u8],
) -> Result<T, Error> {
    check_length(what, limit, bytes)?;
    let value: T = serde_ipld_dagcbor::from_slice(bytes)
        .map_err(|e| Error::Malformed { what, reason: e.to_string() })?;
    if encode(what, &value)? != bytes {
        return Err(Error::NotCanonical { what });
    }
    Ok(value)
}

/// Encodes a job frame or a value on disk: plain CBOR, not for signatures.
///
/// # Errors
/// [`Error::Unencodable`] when the type has no CBOR form.
pub fn encode_loose<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, Error> {
    serde_cbor::to_vec(value).map_err(|e| Error::Unencodable { what, reason: e.to_string() })
}

/// Decodes a job frame or a value on disk of at most `limit` bytes.
///
/// # Errors
/// [`Error::TooLong`] or [`Error::Malformed`].
pub fn decode_loose<T: DeserializeOwned>(
    what: &'static str,
    limit: usize,
    bytes: &[u8],
) -> Result<T, Error> {
    check_length(what, limit, bytes)?;
    serde_cbor::from_slice(bytes).map_err(|e| Error::Malformed { what, reason: e.to_string() })
}

fn check_length(what: &'static str, limit: usize, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > limit {
        return Err(Error::TooLong { what, limit, found: bytes.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Pair {
        a: u64,
        b: Option<String>,
    }

    fn decode_pair(bytes: &[u8]) -> Result<Pair, Error> {
        decode("pair", 64, bytes)
    }

    #[test]
    fn accepts_only_the_one_encoding() {
        let good = encode("pair", &Pair { a: 1, b: None }).unwrap();
        assert_eq!(good, [0xa2, 0x61, b'a', 1, 0x61, b'b', 0xf6]);
        assert_eq!(decode_pair(&good), Ok(Pair { a: 1, b: None }));
        let others: [(&str, &[u8]); 7] = [
            ("unsorted keys", &[0xa2, 0x61, b'b', 0xf6, 0x61, b'a', 1]),
            ("repeated key", &[0xa3, 0x61, b'a', 1, 0x61, b'a', 1, 0x61, b'b', 0xf6]),
            ("long integer", &[0xa2, 0x61, b'a', 0x18, 1, 0x61, b'b', 0xf6]),
            ("indefinite map", &[0xbf, 0x61, b'a', 1, 0x61, b'b', 0xf6, 0xff]),
            ("unknown field", &[0xa3, 0x61, b'a', 1, 0x61, b'b', 0xf6, 0x61, b'c', 1]),
            ("trailing byte", &[0xa2, 0x61, b'a', 1, 0x61, b'b', 0xf6, 0]),
            ("missing optional field", &[0xa1, 0x61, b'a', 1]),
        ];
        for (name, bytes) in others {
            assert!(decode_pair(bytes).is_err(), "{name} was accepted");
        }
    }

    #[test]
    fn length_and_nesting_are_bounded() {
        assert_eq!(
            decode::<u64>("number", 4, &[0; 5]),
            Err(Error::TooLong { what: "number", limit: 4, found: 5 })
        );
        let deep = vec![0x81; 100_000];
        assert!(decode::<Vec<serde_json::Value>>("list", 1 << 20, &deep).is_err());
        assert!(decode_loose::<Vec<serde_json::Value>>("list", 1 << 20, &deep).is_err());
    }
}
