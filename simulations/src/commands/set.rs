//! `--set key=value`: a scenario's text with some keys set to other values.

use anyhow::{Context as _, bail};
use toml::{Table, Value};

/// Sets each `path=value`. A path goes through tables by their keys, and through lists by a number
/// or by the `name` of what is in them: `groups.islands.count=20`.
pub(super) fn apply(text: &str, set: &[String]) -> anyhow::Result<String> {
    let mut table: Table = text.parse().context("this is not TOML")?;
    for one in set {
        let (path, value) = split(one)?;
        let mut whole = Value::Table(table);
        put(&mut whole, path, parse(value)).with_context(|| format!("--set {one}"))?;
        let Value::Table(changed) = whole else { bail!("--set {one}: not a key") };
        table = changed;
    }
    Ok(toml::to_string(&table)?)
}

/// The path and the value of a setting.
pub(super) fn split(set: &str) -> anyhow::Result<(&str, &str)> {
    set.split_once('=').with_context(|| format!("--set {set}: write key=value"))
}

/// TOML where it is TOML, else a word.
fn parse(text: &str) -> Value {
    let line = format!("value = {text}");
    let parsed = line.parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.into()))
}

fn put(at: &mut Value, path: &str, value: Value) -> anyhow::Result<()> {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let child = match at {
        Value::Table(table) => table.entry(key).or_insert_with(|| Value::Table(Table::new())),
        Value::Array(list) => {
            let named = |item: &Value| item.get("name").and_then(Value::as_str) == Some(key);
            let index = match key.parse() {
                Ok(index) => Some(index),
                Err(_) => list.iter().position(named),
            };
            index
                .and_then(|index: usize| list.get_mut(index))
                .with_context(|| format!("nothing here is called {key:?} or has that number"))?
        }
        _ => bail!("{key:?}: there is nothing below a plain value"),
    };
    match rest {
        Some(rest) => put(child, rest, value),
        None => {
            *child = value;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name = \"x\"\n[network]\nloss_percent = 1\n[[groups]]\nname = \"islands\"\ncount = 3\n[[groups]]\nname = \"users\"\ncount = 4\n";

    fn value(set: &str) -> Value {
        let text = apply(TEXT, &[set.into()]).unwrap();
        Value::Table(text.parse().unwrap())
    }

    #[test]
    fn a_path_leads_through_tables_and_lists() {
        assert_eq!(
            value("network.loss_percent=2.5")["network"]["loss_percent"].as_float(),
            Some(2.5)
        );
        assert_eq!(value("groups.users.count=9")["groups"][1]["count"].as_integer(), Some(9));
        assert_eq!(value("groups.0.count=9")["groups"][0]["count"].as_integer(), Some(9));
        assert_eq!(value("fidelity=full")["fidelity"].as_str(), Some("full"));
        let drawn = value("groups.0.speed={uniform=[1,2]}");
        assert_eq!(drawn["groups"][0]["speed"]["uniform"][1].as_integer(), Some(2));
    }

    #[test]
    fn a_path_that_leads_nowhere_is_refused() {
        for set in ["groups.nobody.count=1", "groups.7.count=1", "name.first=1", "nothing"] {
            assert!(apply(TEXT, &[set.into()]).is_err(), "{set}");
        }
    }
}
