//! What `archipelag-sim scenario --help` says: the whole format of a scenario.
//!
//! Made of `schema.rs`, so that it names every key, and of the texts below, for what stands in no
//! key. Who has read it can write a scenario.

use super::{
    MAX_BYTES, MAX_COORDINATORS, MAX_DURATION_S, MAX_JOBS,
    cargos::CARGOS,
    keys::{Key, Kind, Need, Word},
    schema::{DISTRIBUTIONS, FAULT, KIND_KEYS, KINDS, SCENARIO, TARGET},
};
use std::sync::LazyLock;

const WIDTH: usize = 96;

const INTRODUCTION: &str = "\
A scenario says which nodes, on which network, do what, and what goes wrong. It is TOML. The same \
scenario and seed give the same run, to the byte. Keys that are not below are refused, and so is \
what is not possible: with line, key and what is accepted, before anything runs. Times are seconds \
of virtual time since the start.";

const TARGETS: &str = "\
Faults happen to `nodes`, and partitions perhaps `from` others. All of a group when it says \
neither `count` nor `fraction`. A restart takes each node away for `for_s`, or starts it at once \
when that is absent.";

const RANDOM: &str = "\
Where a distribution is accepted, a number stands for itself, and a table with one of these names \
draws from the seed, for each node or each event anew: speed = { log-normal = [1, 0.5] }.";

const STARTERS: &str = "\
`work` is modelled and takes virtual time. The others are the starter Cargos, which run for real. \
Keys of their inputs:";

const TRACES: &str = "\
A trace is CSV with a header: `time_s` (since the workload's start_s; rows in the order of time) \
and `node` (within the group, from 0 on), and perhaps `cargo`, `work_ms`, `events` and \
`event_bytes`. An absent column or empty cell is drawn as the workload says. The file lies in the \
scenario's folder or below it; up to 64 MiB and 1000000 rows.";

/// A scenario that says no more than it must, and yet has work to do.
pub(super) const EXAMPLE: &str = r#"name = "first"
duration_s = 120

[network]
regions = ["eu", "us"]
latency_ms = [[10, 45], [45, 15]]

[[groups]]
name = "coordinators"
count = 4
roles = ["coordinator"]
region = { eu = 1, us = 1 }

[[groups]]
name = "islands"
count = 16
roles = ["island"]
region = { eu = 3, us = 1 }
speed = { log-normal = [1, 0.5] }
bootstrap = 2

[[groups]]
name = "consumers"
count = 4
region = "us"

[[workloads]]
from = "consumers"
interarrival_s = { exponential = 1 }
start_s = 20
work_ms = { exponential = 2000 }

[[faults]]
at_s = 60
for_s = 20
kind = "partition"
nodes = { group = "islands", fraction = 0.25 }

[checks]
success_min_percent = 90
"#;

/// The format of a scenario, in plain text.
#[must_use]
pub fn help() -> &'static str {
    static HELP: LazyLock<String> = LazyLock::new(written);
    HELP.as_str()
}

fn written() -> String {
    let mut page = Page(String::new());
    page.paragraph(0, INTRODUCTION);
    page.heading("An example");
    for line in EXAMPLE.lines() {
        page.line(4, line);
    }
    page.heading("The scenario");
    page.keys("", SCENARIO);
    for key in SCENARIO {
        match key.kind {
            Kind::Table(keys) => {
                page.heading(&format!("[{}]  {}", key.name, key.says));
                page.keys(&format!("{}.", key.name), keys);
            }
            Kind::Tables { keys, .. } => {
                page.heading(&format!("[[{}]]  {}", key.name, key.says));
                page.keys(&format!("{}.", key.name), keys);
            }
            Kind::Faults { .. } => faults(&mut page, key),
            _ => {}
        }
    }
    page.heading("Distributions");
    page.paragraph(0, RANDOM);
    for (name, takes, says) in DISTRIBUTIONS {
        page.line(2, &format!("{name} = {takes}"));
        page.paragraph(6, says);
    }
    page.heading("Cargos");
    page.paragraph(0, STARTERS);
    for cargo in CARGOS.iter().filter(|cargo| !cargo.keys.is_empty()) {
        let needs: Vec<String> = cargo.needs.iter().map(|needs| needs.join(" and ")).collect();
        let (keys, needs) = (cargo.keys.join(", "), needs.join(", or "));
        page.paragraph(2, &format!("{}: {keys}; needs {needs}", cargo.name));
    }
    page.heading("Traces");
    page.paragraph(0, TRACES);
    page.heading("Limits");
    let limits = format!(
        "{MAX_BYTES} bytes of TOML; {MAX_DURATION_S} seconds; {MAX_COORDINATORS} coordinators; \
         {MAX_JOBS} jobs, lookups or checks each; nodes as told at `fidelity`. At most 20 problems \
         are told at once."
    );
    page.paragraph(0, &limits);
    page.0
}

fn faults(page: &mut Page, key: &Key) {
    page.heading(&format!("[[{}]]  {}", key.name, key.says));
    page.keys(&format!("{}.", key.name), FAULT);
    page.blank();
    page.line(0, "Keys of each kind:");
    for (word, keys) in KINDS.iter().zip(KIND_KEYS) {
        page.blank();
        page.line(2, &format!("kind = \"{}\"", word.name));
        for key in *keys {
            page.key(4, "faults.", key);
        }
        if keys.is_empty() {
            page.line(4, "no other keys");
        }
    }
    page.heading("Nodes of a fault");
    page.paragraph(0, TARGETS);
    page.keys("faults.nodes.", TARGET);
}

struct Page(String);

impl Page {
    fn line(&mut self, indent: usize, text: &str) {
        self.0.push_str(&" ".repeat(indent));
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn blank(&mut self) {
        self.0.push('\n');
    }

    fn heading(&mut self, text: &str) {
        self.blank();
        self.paragraph(0, text);
        self.line(0, &"-".repeat(text.chars().count().min(WIDTH)));
    }

    fn paragraph(&mut self, indent: usize, text: &str) {
        let mut line = String::new();
        for word in text.split_whitespace() {
            if indent + line.chars().count() + word.chars().count() >= WIDTH && !line.is_empty() {
                self.line(indent, line.trim_end());
                line.clear();
            }
            line.push_str(word);
            line.push(' ');
        }
        self.line(indent, line.trim_end());
    }

    fn keys(&mut self, prefix: &str, keys: &[Key]) {
        for key in keys {
            self.key(2, prefix, key);
        }
    }

    fn key(&mut self, indent: usize, prefix: &str, key: &Key) {
        let need = match key.need {
            Need::Required => "required".into(),
            Need::Default(value) => format!("default {value}"),
            Need::Optional(what) => format!("when absent: {what}"),
        };
        self.paragraph(indent, &format!("{prefix}{}: {}; {need}", key.name, key.kind));
        self.paragraph(indent + 4, key.says);
        match key.kind {
            Kind::Word(words) | Kind::Words(words) => self.words(indent + 4, words),
            Kind::Table(keys)
                if !prefix.is_empty() && key.name != "nodes" && key.name != "from" =>
            {
                let prefix = format!("{prefix}{}.", key.name);
                for key in keys {
                    self.key(indent + 4, &prefix, key);
                }
            }
            _ => {}
        }
    }

    fn words(&mut self, indent: usize, words: &[Word]) {
        for word in words {
            self.paragraph(indent, &format!("\"{}\": {}", word.name, word.says));
        }
    }
}
