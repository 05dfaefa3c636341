//! What is refused of an advert, by field.

use super::*;
use crate::{policy::Policy, sign::SecretKey};

const NETWORK: NetworkId = NetworkId([1; 32]);
const NOW: Timestamp = Timestamp(1_000_000);

fn key() -> SecretKey {
    SecretKey::from_seed([5; 32])
}

fn good() -> Advert {
    Advert {
        node: NodeId(key().account().0),
        account: AccountId([6; 32]),
        sequence: 1,
        issued: NOW,
        name: "größe".into(),
        region: "eu".into(),
        platform: Platform::Desktop,
        supported_runtimes: vec![RuntimeType::Wasm],
        hardware: Hardware::default(),
        active_jobs: 1,
        max_jobs: 1,
        asking_percent: 100,
        warm: Vec::new(),
        addresses: Vec::new(),
    }
}

fn sent(advert: Advert, network: NetworkId) -> Result<SignedAdvert, Error> {
    let bytes = codec::encode("advert", &key().seal(network, advert).unwrap()).unwrap();
    decode(&bytes, NETWORK, &Policy::default().advert, NOW)
}

#[test]
fn every_field_has_its_limit_and_is_named() {
    assert_eq!(sent(good(), NETWORK).unwrap().value, good());
    type Break = fn(&mut Advert);
    let cases: [(&str, Break); 8] = [
        ("`name`", |a| a.name = "n".repeat(MAX_NAME_BYTES + 1)),
        ("`name`", |a| a.name = "a\u{200b}b".into()),
        ("`region`", |a| a.region = "r".repeat(MAX_REGION_BYTES + 1)),
        ("`region`", |a| a.region = "\u{1b}[2J".into()),
        ("`supported_runtimes`", |a| a.supported_runtimes = vec![RuntimeType::Wasm; 7]),
        ("`warm`", |a| a.warm = vec![CargoId([1; 32]); MAX_WARM + 1]),
        ("`addresses`", |a| a.addresses = vec![serde_bytes::ByteBuf::new(); MAX_ADDRESSES + 1]),
        ("`active_jobs`", |a| a.active_jobs = 2),
    ];
    for (field, change) in cases {
        let mut advert = good();
        change(&mut advert);
        let refused = sent(advert, NETWORK).expect_err(field).to_string();
        assert!(refused.contains(field), "{field}: {refused}");
    }
}

#[test]
fn an_advert_counts_for_its_own_node_network_and_time() {
    assert!(matches!(sent(good(), NetworkId([2; 32])), Err(Error::Signature(_))));
    let other = Advert { node: NodeId([9; 32]), ..good() };
    assert!(matches!(sent(other, NETWORK), Err(Error::OtherNode { .. })));
    let life_ms = Policy::default().advert.life_ms();
    for (issued, good_then) in [
        (Timestamp(NOW.0 - life_ms), true),
        (Timestamp(NOW.0 - life_ms - 1), false),
        (Timestamp(NOW.0 + MAX_AHEAD_MS), true),
        (Timestamp(NOW.0 + MAX_AHEAD_MS + 1), false),
    ] {
        assert_eq!(sent(Advert { issued, ..good() }, NETWORK).is_ok(), good_then, "{issued:?}");
    }
}
