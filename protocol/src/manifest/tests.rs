//! Each field's rule, versions, signatures.

use super::*;
use crate::{amount::Credits, limits::MAX_ARTIFACT_BYTES, sign::SecretKey};

const NETWORK: NetworkId = NetworkId([1; 32]);

fn policy() -> PayoutPolicy {
    crate::policy::Policy::default().payout
}

fn good() -> Manifest {
    Manifest {
        name: "Text statistics".into(),
        slug: "text-stats".into(),
        version: "1.2.3".parse().unwrap(),
        description: "Counts words.\nIn any language ❤️.".into(),
        runtime_type: RuntimeType::Wasm,
        artifact: Artifact::Module { hash: ContentId([2; 32]), size_bytes: 9 },
        input_schema: r#"{"type":"object"}"#.into(),
        output_schema: "{}".into(),
        price: Price { per_job: Credits::from_micro(1), ..Price::default() },
        requirements: Requirements::default(),
        category: Some("text".into()),
        tags: vec!["words".into(); 16],
        revenue_share_percent: policy().revenue_share_max_percent,
    }
}

#[test]
fn every_field_has_its_rule_and_is_named() {
    good().validate(&policy()).unwrap();
    type Break = fn(&mut Manifest);
    let cases: [(&str, Break); 27] = [
        ("name", |m| m.name = String::new()),
        ("name", |m| m.name = "n".repeat(101)),
        ("name", |m| m.name = "a\nb".into()),
        ("name", |m| m.name = "stats\u{202e}txt".into()),
        ("slug", |m| m.slug = "Text".into()),
        ("slug", |m| m.slug = "-text".into()),
        ("slug", |m| m.slug = "t".repeat(65)),
        ("version", |m| m.version.pre = "01".into()),
        ("version", |m| m.version.pre = "a.".into()),
        ("description", |m| m.description = String::new()),
        ("description", |m| m.description = "d".repeat(2_001)),
        ("description", |m| m.description = "\u{1b}[2J".into()),
        ("artifact", |m| m.runtime_type = RuntimeType::Container),
        ("artifact", |m| {
            m.artifact = Artifact::Module { hash: ContentId([2; 32]), size_bytes: 0 };
        }),
        ("artifact", |m| {
            let size_bytes = MAX_ARTIFACT_BYTES + 1;
            m.artifact = Artifact::Module { hash: ContentId([2; 32]), size_bytes };
        }),
        ("image_digest", |m| {
            m.runtime_type = RuntimeType::Container;
            let (container_image, image_digest) = ("img".into(), format!("sha256:{:064X}", 10));
            m.artifact = Artifact::Image { container_image, image_digest };
        }),
        ("container_image", |m| {
            m.runtime_type = RuntimeType::Container;
            let (container_image, image_digest) = (String::new(), format!("sha256:{:064x}", 10));
            m.artifact = Artifact::Image { container_image, image_digest };
        }),
        ("input_schema", |m| m.input_schema = "{".into()),
        ("input_schema", |m| m.input_schema = "[]".into()),
        ("input_schema", |m| m.input_schema = format!("{{{}", " ".repeat(MAX_SCHEMA_BYTES))),
        ("output_schema", |m| {
            let deep = MAX_JSON_DEPTH;
            m.output_schema = format!("{{\"x\":{}{}}}", "[".repeat(deep), "]".repeat(deep));
        }),
        ("price", |m| m.price = Price::default()),
        ("required_cpu_cores", |m| m.requirements.cpu_cores = 0),
        ("category", |m| m.category = Some(String::new())),
        ("tags", |m| m.tags.push("one more".into())),
        ("tags", |m| m.tags[3] = "t".repeat(33)),
        ("revenue_share", |m| m.revenue_share_percent += 1),
    ];
    for (number, (field, change)) in cases.into_iter().enumerate() {
        let mut manifest = good();
        change(&mut manifest);
        match manifest.validate(&policy()) {
            Err(Error::Field { field: found, .. }) => assert_eq!(found, field, "case {number}"),
            other => panic!("case {number}, {field}: {other:?}"),
        }
    }
}

#[test]
fn versions_have_one_form_and_the_order_of_semver() {
    let order = [
        "0.9.9",
        "1.0.0-1",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0",
        "1.0.1",
        "10.0.0",
    ];
    let versions: Vec<Version> = order.iter().map(|text| text.parse().unwrap()).collect();
    assert!(versions.is_sorted_by(|a, b| a < b));
    assert_eq!(versions.iter().map(ToString::to_string).collect::<Vec<_>>(), order);
    for wrong in ["1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.x", "+1.2.3", ""] {
        assert!(wrong.parse::<Version>().is_err(), "{wrong}");
    }
}

#[test]
fn a_manifest_counts_with_its_publishers_signature_on_its_network() {
    let key = SecretKey::from_seed([3; 32]);
    let signed = key.seal(NETWORK, good()).unwrap();
    assert_eq!(verify(&signed, NETWORK, &policy()), Ok(good().id().unwrap()));
    let other_network = verify(&signed, NetworkId([2; 32]), &policy());
    assert!(matches!(other_network, Err(Error::Signature(_))));
    let mut changed = signed;
    changed.value.price.per_job = Credits::ZERO;
    changed.value.price.per_second = Credits::from_micro(1);
    assert!(matches!(verify(&changed, NETWORK, &policy()), Err(Error::Signature(_))));
}
