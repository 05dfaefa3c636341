//! A scenario as TOML: every key, defaults included, in the order of the schema.
//!
//! A run's folder keeps it, and fault search writes what it found. Reading it back gives the same
//! scenario.

use super::{
    Scenario,
    keys::{Key, Kind},
    schema::{SCENARIO, fault_keys},
};
use serde_json::{Map, Value};
use std::fmt::Write as _;

impl Scenario {
    /// As TOML. Whole numbers beyond what TOML holds, which no scenario that was checked has,
    /// become the largest that it holds.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let Ok(Value::Object(all)) = serde_json::to_value(self) else { return text };
        lines(&mut text, &all, SCENARIO);
        for key in SCENARIO {
            match (all.get(key.name), key.kind) {
                (Some(Value::Object(table)), Kind::Table(keys)) => {
                    section(&mut text, &format!("[{}]", key.name), table, keys);
                }
                (Some(Value::Array(tables)), Kind::Tables { .. } | Kind::Faults { .. }) => {
                    for table in tables.iter().filter_map(Value::as_object) {
                        let name = format!("[[{}]]", key.name);
                        let keys = keys_of(key.kind, table);
                        section(&mut text, &name, table, &keys);
                    }
                }
                _ => {}
            }
        }
        text
    }
}

fn keys_of(kind: Kind, table: &Map<String, Value>) -> Vec<Key> {
    match kind {
        Kind::Tables { keys, .. } => keys.to_vec(),
        _ => fault_keys(table.get("kind").and_then(Value::as_str)),
    }
}

fn section(text: &mut String, header: &str, table: &Map<String, Value>, keys: &[Key]) {
    let mut body = String::new();
    lines(&mut body, table, keys);
    for key in keys {
        // A table within is one line.
        if let (Some(Value::Object(inner)), Kind::Table(_)) = (table.get(key.name), key.kind) {
            let _ = writeln!(body, "{} = {}", key.name, to_toml(&Value::Object(inner.clone())));
        }
    }
    if !body.is_empty() {
        let _ = write!(text, "\n{header}\n{body}");
    }
}

/// The keys that are no tables of their own.
fn lines(text: &mut String, table: &Map<String, Value>, keys: &[Key]) {
    for key in keys {
        let apart = matches!(key.kind, Kind::Table(_) | Kind::Tables { .. } | Kind::Faults { .. });
        if let Some(value) = table.get(key.name).filter(|value| !apart && !value.is_null()) {
            let _ = writeln!(text, "{} = {}", key.name, to_toml(value));
        }
    }
}

/// On one line.
fn to_toml(value: &Value) -> toml::Value {
    match value {
        Value::Null => toml::Value::String(String::new()),
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, _) if number.is_u64() => i64::MAX.into(),
            (None, other) => other.unwrap_or(0.0).into(),
        },
        Value::String(text) => text.clone().into(),
        Value::Array(values) => toml::Value::Array(values.iter().map(to_toml).collect()),
        Value::Object(table) => {
            let there = table.iter().filter(|(_, value)| !value.is_null());
            let there = there.map(|(key, value)| (key.clone(), to_toml(value)));
            toml::Value::Table(there.collect())
        }
    }
}
