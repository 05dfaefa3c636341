//! Ordered maps as lists of `[key, value]` pairs in the order of their keys.
//!
//! DAG-CBOR maps have text keys in an order of their own; the ledger's maps have ids and numbers.
//! For `#[serde(with = "pairs")]`. Decoding refuses a key that is not above the one before it, so a
//! map has one encoding. It reserves nothing ahead: a claimed length costs no memory.

use imbl::OrdMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

pub(super) fn serialize<'a, M, S>(map: &'a M, serializer: S) -> Result<S::Ok, S::Error>
where
    &'a M: IntoIterator<Item: Serialize>,
    S: Serializer,
{
    serializer.collect_seq(map)
}

pub(super) fn deserialize<'de, M, D>(deserializer: D) -> Result<M, D::Error>
where
    M: Map<Key: Deserialize<'de> + Ord, Value: Deserialize<'de>>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(Visitor::<M::Key, M::Value>(PhantomData)).map(M::of)
}

/// An ordered map.
pub(super) trait Map {
    type Key;
    type Value;

    fn of(map: BTreeMap<Self::Key, Self::Value>) -> Self;
}

impl<K, V> Map for BTreeMap<K, V> {
    type Key = K;
    type Value = V;

    fn of(map: BTreeMap<K, V>) -> Self {
        map
    }
}

impl<K: Ord + Clone, V: Clone> Map for OrdMap<K, V> {
    type Key = K;
    type Value = V;

    fn of(map: BTreeMap<K, V>) -> Self {
        map.into_iter().collect()
    }
}

struct Visitor<K, V>(PhantomData<(K, V)>);

impl<'de, K, V> de::Visitor<'de> for Visitor<K, V>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    type Value = BTreeMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of [key, value] pairs with rising keys")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = list.next_element::<(K, V)>()? {
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(de::Error::custom("keys must rise from pair to pair"));
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Numbers(#[serde(with = "super")] BTreeMap<u16, String>);

    #[test]
    fn a_map_has_one_encoding() {
        let map = Numbers(BTreeMap::from([(300, "a".into()), (2, "b".into())]));
        let bytes = codec::encode("numbers", &map).unwrap();
        assert_eq!(bytes, [0x82, 0x82, 2, 0x61, b'b', 0x82, 0x19, 1, 44, 0x61, b'a']);
        assert_eq!(codec::decode("numbers", 64, &bytes), Ok(map));
        let others: [(&str, &[u8]); 3] = [
            ("unsorted", &[0x82, 0x82, 3, 0x61, b'b', 0x82, 2, 0x61, b'a']),
            ("duplicate", &[0x82, 0x82, 2, 0x61, b'b', 0x82, 2, 0x61, b'b']),
            ("no pair", &[0x81, 0x81, 2]),
        ];
        for (name, bytes) in others {
            assert!(codec::decode::<Numbers>("numbers", 64, bytes).is_err(), "{name} was accepted");
            assert!(codec::decode_loose::<Numbers>("numbers", 64, bytes).is_err(), "{name}, loose");
        }
    }
}
