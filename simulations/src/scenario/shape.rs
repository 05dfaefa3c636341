//! Whether each key of a scenario is known and has a value of its kind.
//!
//! `check.rs` calls it with the tree of a file. It takes out what is unknown, so that the rest can
//! be checked further. What several keys say together is for `rules.rs`.

use super::{
    check::Problems,
    distribution::{Distribution, Named},
    keys::{Key, Kind, Need, Range, Word, quote, suggest},
    schema::{DISTRIBUTIONS, fault_keys},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Values in one list.
const MAX_VALUES: usize = 256;

pub(super) fn check(tree: &mut DeTable<'_>, keys: &[Key], problems: &mut Problems<'_>) {
    Shape { problems, path: String::new() }.table(tree, keys, 0);
}

struct Shape<'a, 'b> {
    problems: &'a mut Problems<'b>,
    path: String,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl Shape<'_, '_> {
    fn within(&mut self, segment: &str, f: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        if before > 0 && !segment.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(segment);
        f(self);
        self.path.truncate(before);
    }

    fn wrong(&mut self, byte: usize, what: String) {
        self.problems.add_at(byte, &self.path, what);
    }

    /// `at` is where the table begins.
    fn table(&mut self, table: &mut DeTable<'_>, keys: &[Key], at: usize) {
        let known = |name: &str| keys.iter().any(|key| key.name == name);
        let unknown: Vec<(String, usize)> = table
            .keys()
            .filter(|key| !known(key.get_ref()))
            .map(|key| (key.get_ref().to_string(), key.span().start))
            .collect();
        for (name, byte) in unknown {
            table.remove(name.as_str());
            let accepted = suggest(&name, keys.iter().map(|key| key.name));
            let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
            self.within(&shown, |shape| {
                shape.wrong(byte, format!("there is no such key; keys are: {accepted}"));
            });
        }
        for key in keys {
            let byte = table.get_key_value(key.name).map(|(key, _)| key.span().start);
            self.within(key.name, |shape| match (table.get_mut(key.name), byte) {
                (Some(value), Some(byte)) => shape.value(value, key.kind, byte),
                _ if matches!(key.need, Need::Required) => {
                    shape.wrong(at, format!("is missing: {}", key.kind));
                }
                _ => {}
            });
        }
    }

    fn value(&mut self, value: &mut Value<'_>, kind: Kind, at: usize) {
        match (value.get_mut(), kind) {
            (DeValue::String(text), Kind::Text { max, prose }) => self.text(text, max, prose, at),
            (DeValue::Boolean(_), Kind::Flag) => {}
            (DeValue::Integer(_), Kind::Whole { from, to }) => {
                self.whole(value.get_ref(), from, to, at);
            }
            (
                DeValue::Integer(_) | DeValue::Float(_),
                Kind::Number(range) | Kind::Random(range),
            ) => {
                self.number(value.get_ref(), range, at);
            }
            (DeValue::Table(table), Kind::Random(range)) => self.distribution(table, range, at),
            (DeValue::String(text), Kind::Word(words)) => self.word(text, words, at),
            (DeValue::Array(list), Kind::Words(words)) => {
                self.each(list, kind, MAX_VALUES, |shape, value, at| match value.get_ref() {
                    DeValue::String(text) => shape.word(text, words, at),
                    _ => shape.mistaken(value.get_ref(), kind, at),
                });
            }
            (DeValue::Array(list), Kind::Names { max }) => {
                self.each(list, kind, MAX_VALUES, |shape, value, at| {
                    shape.value(value, Kind::Text { max, prose: false }, at);
                });
            }
            (DeValue::Array(list), Kind::Matrix(range)) => self.matrix(list, range, kind),
            (DeValue::String(text), Kind::Shares) => self.text(text, 64, false, at),
            (DeValue::Table(table), Kind::Shares) => self.shares(table, at),
            (DeValue::Table(table), Kind::Free) => {
                for (name, value) in table.iter() {
                    let name: String = name.get_ref().chars().take(40).collect();
                    self.within(&name.escape_debug().to_string(), |shape| shape.free(value));
                }
            }
            (DeValue::Table(table), Kind::Table(keys)) => self.table(table, keys, at),
            (DeValue::Array(list), Kind::Tables { keys, max }) => {
                self.each(list, kind, max, |shape, value, at| match value.get_mut() {
                    DeValue::Table(table) => shape.table(table, keys, at),
                    _ => shape.mistaken(value.get_ref(), Kind::Table(keys), at),
                });
            }
            (DeValue::Array(list), Kind::Faults { max }) => {
                self.each(list, kind, max, |shape, value, at| match value.get_mut() {
                    DeValue::Table(table) => shape.fault(table, at),
                    _ => shape.mistaken(value.get_ref(), Kind::Free, at),
                });
            }
            (other, kind) => {
                let other = other.clone();
                self.mistaken(&other, kind, at);
            }
        }
    }

    /// Of another type than `kind`.
    fn mistaken(&mut self, value: &DeValue<'_>, kind: Kind, at: usize) {
        let found = match value {
            DeValue::String(text) => format!("the text {}", quote(text)),
            DeValue::Integer(number) => format!("the number {}", cut(number.as_str())),
            DeValue::Float(number) => format!("the number {}", cut(number.as_str())),
            DeValue::Boolean(flag) => format!("{flag}"),
            DeValue::Datetime(_) => "a date or time".into(),
            DeValue::Array(_) => "a list".into(),
            DeValue::Table(_) => "a table".into(),
        };
        self.wrong(at, format!("{found} is of the wrong type: {kind}"));
    }

    fn impossible(&mut self, found: &str, accepted: impl std::fmt::Display, at: usize) {
        self.wrong(at, format!("{found} is not possible: {accepted}"));
    }

    fn text(&mut self, text: &str, max: usize, prose: bool, at: usize) {
        let kind = Kind::Text { max, prose };
        if text.len() > max {
            self.impossible(&format!("{} bytes long", text.len()), kind, at);
        } else if !prose && (text.is_empty() || text.chars().any(char::is_control)) {
            self.impossible(&quote(text), format_args!("{kind}, not empty, on one line"), at);
        }
    }

    fn word(&mut self, text: &str, words: &[Word], at: usize) {
        if !words.iter().any(|word| word.name == text) {
            let accepted = suggest(text, words.iter().map(|word| word.name));
            self.wrong(at, format!("there is no {}; there are: {accepted}", quote(text)));
        }
    }

    fn whole(&mut self, value: &DeValue<'_>, from: u64, to: u64, at: usize) {
        let DeValue::Integer(number) = value else { return };
        let read = i128::from_str_radix(number.as_str(), number.radix());
        if !read.is_ok_and(|number| (i128::from(from)..=i128::from(to)).contains(&number)) {
            self.impossible(&cut(&number.to_string()), format_args!("{from} to {to}"), at);
        }
    }

    /// A number within `range`.
    fn number(&mut self, value: &DeValue<'_>, range: Range, at: usize) {
        let found = number(value);
        if !found.is_some_and(|found| range.holds(found, found)) {
            self.impossible(&spelled(value), range, at);
        }
    }

    fn each(
        &mut self,
        list: &mut [Value<'_>],
        kind: Kind,
        max: usize,
        mut f: impl FnMut(&mut Self, &mut Value<'_>, usize),
    ) {
        if let Some(beyond) = list.get(max) {
            let byte = beyond.span().start;
            self.impossible(&format!("{} of them", list.len()), kind, byte);
        }
        for (index, value) in list.iter_mut().take(max).enumerate() {
            let at = value.span().start;
            self.within(&format!("[{index}]"), |shape| f(shape, value, at));
        }
    }

    fn matrix(&mut self, list: &mut [Value<'_>], range: Range, kind: Kind) {
        self.each(list, kind, MAX_VALUES, |shape, row, at| match row.get_mut() {
            DeValue::Array(row) => shape.each(row, kind, MAX_VALUES, |shape, value, at| {
                shape.value(value, Kind::Number(range), at);
            }),
            other => {
                let other = other.clone();
                shape.mistaken(&other, kind, at);
            }
        });
    }

    fn shares(&mut self, table: &DeTable<'_>, at: usize) {
        let weight = Range::new(0.0, 1e9);
        let mut sum = 0.0;
        for (name, value) in table {
            let name: String = name.get_ref().chars().take(40).collect();
            let byte = value.span().start;
            self.within(&name.escape_debug().to_string(), |shape| {
                shape.number(value.get_ref(), weight, byte);
            });
            sum += number(value.get_ref()).unwrap_or(1.0);
        }
        if sum <= 0.0 {
            self.impossible("no weight above 0", Kind::Shares, at);
        }
    }

    /// What JSON has no form for.
    fn free(&mut self, value: &Value<'_>) {
        let at = value.span().start;
        match value.get_ref() {
            DeValue::Datetime(_) => {
                self.impossible("a date or time", "what JSON has; put it in quotes", at)
            }
            number @ (DeValue::Integer(_) | DeValue::Float(_))
                if self::number(number).is_none() =>
            {
                self.impossible(&spelled(number), "what JSON has", at);
            }
            DeValue::Array(list) => list.iter().for_each(|value| self.free(value)),
            DeValue::Table(table) => table.iter().for_each(|(_, value)| self.free(value)),
            _ => {}
        }
    }

    fn fault(&mut self, table: &mut DeTable<'_>, at: usize) {
        let kind = table.get("kind").and_then(|kind| kind.get_ref().as_str()).map(str::to_owned);
        let keys = fault_keys(kind.as_deref());
        if keys.len() == fault_keys(None).len() && kind.as_deref() != Some("flash") {
            // Without a kind nobody knows which of the other keys are right.
            let known: Vec<String> = keys.iter().map(|key| key.name.to_owned()).collect();
            let others: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
            for other in others.iter().filter(|other| !known.contains(other)) {
                table.remove(other.as_str());
            }
        }
        self.table(table, &keys, at);
    }

    fn distribution(&mut self, table: &DeTable<'_>, range: Range, at: usize) {
        let names = || DISTRIBUTIONS.iter().map(|(name, _, _)| *name);
        let mut entries = table.iter();
        let (Some((name, value)), None) = (entries.next(), entries.next()) else {
            let accepted = suggest("", names());
            return self.impossible(
                &format!("a table of {}", table.len()),
                format_args!("a number, or one of {accepted}, as {{ exponential = 60 }}"),
                at,
            );
        };
        let name = name.get_ref().as_ref();
        let Some((name, takes, _)) = DISTRIBUTIONS.iter().find(|(known, _, _)| *known == name)
        else {
            let accepted = suggest(name, names());
            let what = format!("there is no distribution {}; there are: {accepted}", quote(name));
            return self.wrong(at, what);
        };
        let at = value.span().start;
        self.within(name, |shape| match named(name, value.get_ref()) {
            None => {
                shape.impossible(&spelled(value.get_ref()), format_args!("{name} = {takes}"), at)
            }
            Some(drawn) => {
                if let Some(problem) = drawn.problem() {
                    shape.impossible(&spelled(value.get_ref()), problem, at);
                } else if !range.holds(drawn.least(), drawn.most()) {
                    let found = spelled(value.get_ref());
                    shape.wrong(at, format!("{found} is outside: {range}"));
                }
            }
        });
    }
}

/// A distribution from its parameters, when they are as many as it takes.
fn named(name: &str, value: &DeValue<'_>) -> Option<Distribution> {
    let pair = || match value.as_array()?.as_ref() {
        [one, other] => Some([number(one.get_ref())?, number(other.get_ref())?]),
        _ => None,
    };
    Some(Distribution::Named(match name {
        "uniform" => Named::Uniform(pair()?),
        "exponential" => Named::Exponential(number(value)?),
        "normal" => Named::Normal(pair()?),
        "log-normal" => Named::LogNormal(pair()?),
        "pareto" => Named::Pareto(pair()?),
        "weibull" => Named::Weibull(pair()?),
        "choice" => {
            let values = value.as_array()?;
            let values = values.iter().map(|value| number(value.get_ref()));
            Named::Choice(values.collect::<Option<_>>()?)
        }
        _ => return None,
    }))
}

/// A finite number that TOML can hold.
fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(number) => {
            let read = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(read as f64)
        }
        DeValue::Float(number) => number.as_str().parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

/// What somebody wrote for a number or a list of them.
fn spelled(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => cut(&number.to_string()),
        DeValue::Float(number) => cut(number.as_str()),
        DeValue::String(text) => quote(text),
        DeValue::Array(list) => {
            let one = |value: &Value<'_>| match value.get_ref() {
                DeValue::Array(_) => "[…]".into(),
                other => spelled(other),
            };
            let shown: Vec<String> = list.iter().take(8).map(one).collect();
            let more = if list.len() > shown.len() { ", …" } else { "" };
            format!("[{}{more}]", shown.join(", "))
        }
        other => other.type_str().into(),
    }
}
