//! The tables of a run and the rows in them: the one place that says which columns there are.
//! Filled by whoever runs the simulation; read back by `run`; computes nothing.
//!
//! Times are seconds of virtual time since the start of the run, unless a name says otherwise.

use super::table::{Cell, Column, Row, Table, Value, tables, take_cell};
use std::fmt::Write as _;

tables! {
    /// The nodes, one row each, written when a node has stopped for good or the run has ended.
    nodes: Node {
        /// The node's number in the run, from 0.
        node: u64,
        /// The scenario's group that it belongs to.
        group: String,
        /// What it does: `island`, `consumer`, `coordinator`, `bootstrap` and so on.
        role: String,
        /// Where the network model puts it.
        region: String,
        /// Its PeerId.
        peer: String,
        /// When it first started.
        started_s: f64,
        /// When it last stopped; missing if it ran to the end.
        stopped_s: Option<f64>,
        /// How often it started again after a stop or a crash.
        restarts: u64,
        /// What it put on its links, retransmissions included.
        sent_bytes: u64,
        /// What reached it on its links.
        received_bytes: u64,
        /// Connections it had at the end.
        connections: u64,
        /// Gossip mesh neighbours it had at the end, over all topics.
        mesh_peers: u64,
        /// Jobs that it ran to an end, whatever the verdict.
        jobs_run: u64,
        /// What it was paid as an Island.
        earned_microcredits: u64,
        /// How far its clock ran ahead of true time; negative if behind.
        skew_ms: i64,
    }

    /// A node's state over time, one row for each node and sampling time.
    samples: Sample {
        /// When it was looked at.
        time_s: f64,
        /// The node's number.
        node: u64,
        /// Open connections.
        connections: u64,
        /// Gossip mesh neighbours, over all topics.
        mesh_peers: u64,
        /// Islands whose adverts it held.
        islands_known: u64,
        /// Sent since the node first started.
        sent_bytes: u64,
        /// Received since the node first started.
        received_bytes: u64,
        /// Jobs that it was running.
        jobs_running: u64,
        /// Tasks alive on its runtime.
        tasks: u64,
    }

    /// Messages published by gossip, one row each.
    messages: Message {
        /// The message's id, the same everywhere.
        message: String,
        /// What it carries: `advert`, `transaction`, `probe` and so on.
        kind: String,
        /// The publisher's number.
        node: u64,
        /// When it was published.
        time_s: f64,
        /// Its length as published.
        size_bytes: u64,
    }

    /// First deliveries of gossip messages, one row for each message and node that got it.
    deliveries: Delivery {
        /// The message's id.
        message: String,
        /// The receiver's number.
        node: u64,
        /// When it was delivered.
        time_s: f64,
        /// Time since it was published.
        latency_ms: f64,
        /// The neighbour that forwarded it, if that is a node of the run.
        from: Option<u64>,
    }

    /// Jobs, one row each, written when a job has ended or the run has.
    jobs: Job {
        /// The job's id.
        job: String,
        /// The Consumer's number.
        consumer: u64,
        /// The Cargo's name.
        cargo: String,
        /// When the Consumer submitted it.
        submitted_s: f64,
        /// When an Island started it, at the attempt that counted.
        started_s: Option<f64>,
        /// When its first event reached the Consumer.
        first_event_s: Option<f64>,
        /// When its last event, or the refusal, reached the Consumer.
        ended_s: Option<f64>,
        /// `completed`, `failed`, `refused`, `unfinished` and so on.
        verdict: String,
        /// Islands that it was offered to.
        attempts: u64,
        /// The number of the Island that ran it.
        island: Option<u64>,
        /// Events that reached the Consumer.
        events: u64,
        /// What the Consumer paid.
        price_microcredits: u64,
        /// Why it did not complete; empty if it did.
        reason: String,
    }

    /// The ledger as each coordinator saw it, one row for each block that it applied.
    ledger: Ledger {
        /// When it was applied.
        time_s: f64,
        /// The coordinator's number.
        coordinator: u64,
        /// The block's height.
        height: u64,
        /// The root of the state after it, in hexadecimal.
        root: String,
        /// Transactions in the block.
        transactions: u64,
        /// All credits in existence after it.
        supply_microcredits: u64,
        /// What the treasury held after it.
        treasury_microcredits: u64,
    }

    /// Look-ups in the DHT, one row each.
    lookups: Lookup {
        /// When it was started.
        time_s: f64,
        /// The number of the node that asked.
        node: u64,
        /// What was looked for: `record`, `providers`, `peer` and so on.
        kind: String,
        /// The key that was looked for.
        key: String,
        /// Whether it was found.
        found: bool,
        /// Time until the answer, or until giving up.
        latency_ms: f64,
    }

    /// Faults that the scenario caused, one row each.
    faults: Fault {
        /// When it began.
        time_s: f64,
        /// What it was: `crash`, `partition`, `loss` and so on.
        kind: String,
        /// What it hit, in the scenario's words.
        target: String,
        /// When it was over; missing if it was instant or lasted to the end.
        until_s: Option<f64>,
    }

    /// What should have held and did not, one row for each time that an oracle said so.
    violations: Violation {
        /// When the oracle saw it.
        time_s: f64,
        /// The oracle's name.
        oracle: String,
        /// The number of the node concerned, if it is one.
        node: Option<u64>,
        /// What is wrong, in words.
        what: String,
    }
}

/// Every table and column in Markdown, for `TABLES.md` and `archipelag-sim tables`.
#[must_use]
pub fn listing() -> String {
    let mut text = String::from(
        "# Tables of a run\n\nEach table is `NAME.csv` and a directory `NAME.parquet/` of parts \
         that open as one table. Times ending in `_s` are seconds of virtual time since the start \
         of the run. An optional cell that is missing is empty in CSV and null in Parquet.\n",
    );
    for table in TABLES {
        // Writing to a string can't fail.
        let _ = write!(text, "\n## {}\n\n{}\n\n", table.name, table.meaning);
        text.push_str("| column | type | meaning |\n|---|---|---|\n");
        for column in table.columns {
            let optional = if column.optional { ", optional" } else { "" };
            let (name, kind, meaning) = (column.name, column.kind.name(), column.meaning);
            let _ = writeln!(text, "| `{name}` | {kind}{optional} | {meaning} |");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_knows_its_place() {
        assert_eq!(TABLES[Job::INDEX].name, "jobs");
        assert_eq!(TABLES[Violation::INDEX].name, Violation::TABLE.name);
        assert_eq!(TABLES.len(), 9);
    }

    #[test]
    fn the_listing_names_every_column_once_per_table() {
        let text = listing();
        let columns: usize = TABLES.iter().map(|table| table.columns.len()).sum();
        assert_eq!(text.matches("\n| `").count(), columns);
        assert!(text.contains("| `stopped_s` | f64, optional | When it last stopped;"));
        assert!(TABLES.iter().flat_map(|table| table.columns).all(|one| !one.meaning.is_empty()));
    }
}
