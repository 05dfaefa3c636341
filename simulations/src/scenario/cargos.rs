//! The Cargos that a scenario's jobs can be of: what input each takes, and one that fits.
//!
//! `rules.rs` checks workloads by it; who submits jobs takes [`Workload::input_of`]. It runs
//! nothing.

use super::Workload;
use serde_json::{Value, json};

/// The modelled Cargo; its input is made of the workload's own keys.
pub const WORK: &str = "work";

/// A Cargo of which jobs can be submitted.
pub(super) struct Cargo {
    pub(super) name: &'static str,
    /// Keys of its input, of which a job needs all in at least one of `needs`.
    pub(super) keys: &'static [&'static str],
    pub(super) needs: &'static [&'static [&'static str]],
}

const fn starter(
    name: &'static str,
    keys: &'static [&'static str],
    needs: &'static [&'static [&'static str]],
) -> Cargo {
    Cargo { name, keys, needs }
}

/// `work` and the starter Cargos, whose keys are those of their input schemas.
pub(super) const CARGOS: &[Cargo] = &[
    starter(WORK, &[], &[]),
    starter("csv-stats", &["csv", "delimiter", "header", "missing"], &[&["csv"]]),
    starter("document-sha256", &["text", "data", "algorithms"], &[&["text"], &["data"]]),
    starter("json-query", &["document", "query", "reshape"], &[&["document", "query"]]),
    starter("regex-extract", &["text", "pattern", "flags", "limit"], &[&["text", "pattern"]]),
    starter("text-stats", &["text", "top", "words_per_minute", "stream", "repeat"], &[&["text"]]),
];

pub(super) fn cargo(name: &str) -> Option<&'static Cargo> {
    CARGOS.iter().find(|cargo| cargo.name == name)
}

fn sample(name: &str) -> Value {
    match name {
        "csv-stats" => json!({ "csv": "island,jobs\none,3\ntwo,5\n" }),
        "json-query" => json!({ "document": [1, 2, 3], "query": "sum(@)" }),
        "regex-extract" => json!({ "text": "one 1 two 2", "pattern": "[0-9]+" }),
        _ => json!({ "text": "row row row your boat gently down the stream" }),
    }
}

impl Workload {
    /// The input of a job of a starter Cargo: what the scenario gives, or else a small one. That of
    /// [`WORK`] is drawn from the workload's distributions instead.
    #[must_use]
    pub fn input_of(&self, cargo: &str) -> Value {
        let given = self.input.as_ref().and_then(|input| serde_json::to_value(input).ok());
        given.unwrap_or_else(|| sample(cargo))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipelag_node::starter::starter_cargos;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_that_of_the_starter_cargos() {
        let starters = starter_cargos().unwrap();
        assert_eq!(starters.len() + 1, CARGOS.len());
        for starter in starters {
            let manifest = &starter.manifest;
            let cargo = cargo(&manifest.slug).unwrap();
            let schema: Value = serde_json::from_str(&manifest.input_schema).unwrap();
            let keys: BTreeSet<&str> =
                schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, cargo.keys.iter().copied().collect(), "{}", cargo.name);
            let required = schema["required"].as_array().unwrap().iter();
            let required: Vec<&str> = required.filter_map(Value::as_str).collect();
            let needs = cargo.needs.iter().any(|needs| required.is_empty() || *needs == required);
            assert!(needs, "{}", cargo.name);
            let sample = sample(cargo.name);
            let sample = sample.as_object().unwrap();
            let fits = |needs: &&[&str]| needs.iter().all(|key| sample.contains_key(*key));
            assert!(sample.keys().all(|key| keys.contains(key.as_str())));
            assert!(cargo.needs.iter().any(fits), "{}", cargo.name);
        }
    }
}
