//! What every key of a scenario takes and means: told here once.
//!
//! `shape.rs` checks a file by it, `help.rs` prints it, `write.rs` writes in its order. A test holds
//! it against the structs, so that neither can have a key that the other lacks. Each key is one
//! line, however long, so that they read as a table.

use super::keys::{Key, Kind, Need, Range, Word};
use Need::{Default, Optional, Required};

/// A scenario file is small.
pub const MAX_BYTES: u64 = 1 << 20;
/// A week.
pub const MAX_DURATION_S: f64 = 604_800.0;

const MAX_NODES: u64 = 1_000_000;
const MAX_NAME_BYTES: usize = 40;
/// As in an advert.
const MAX_REGION_BYTES: usize = 32;

const SECONDS: Range = Range::new(0.0, MAX_DURATION_S);
const SOME_SECONDS: Range = Range::above(0.0, MAX_DURATION_S);
const PERCENT: Range = Range::new(0.0, 100.0);
const MBIT: Range = Range::above(0.0, 1e6);
const SKEW_MS: Range = Range::new(-86_400_000.0, 86_400_000.0);

const NAME: Kind = Kind::Text { max: MAX_NAME_BYTES, prose: false };
const TABLE: Need = Optional("all as below");
const NONE: Need = Optional("none");

const fn key(name: &'static str, kind: Kind, need: Need, says: &'static str) -> Key {
    Key { name, kind, need, says }
}

const fn word(name: &'static str, says: &'static str) -> Word {
    Word { name, says }
}

#[rustfmt::skip]
pub(super) const SCENARIO: &[Key] = &[
    key("name", NAME, Required, "Names the run."),
    key("description", Kind::Text { max: 4_096, prose: true }, Default("\"\""), "What the run asks."),
    key("seed", Kind::Whole { from: 0, to: i64::MAX as u64 }, Optional("1"), "The seed that it is about, when it is about one; --seed goes first."),
    key("duration_s", Kind::Number(SOME_SECONDS), Required, "How long it runs, in virtual time."),
    key("fidelity", Kind::Word(FIDELITIES), Default("\"muxer\""), "How much is simulated and how much modelled."),
    key("network", Kind::Table(NETWORK), TABLE, "The lines between nodes."),
    key("policy", Kind::Table(POLICY), TABLE, "Parts of the network's policy; the rest is as in the specification."),
    key("groups", Kind::Tables { keys: GROUP, max: 1_000 }, Required, "The nodes. Those of the first group are where the others join, so they must be reachable."),
    key("workloads", Kind::Tables { keys: WORKLOAD, max: 1_000 }, Default("[]"), "Jobs that come from groups. They need a group with the role island."),
    key("lookups", Kind::Tables { keys: LOOKUPS, max: 1_000 }, Default("[]"), "Lookups of catalog entries in the distributed table."),
    key("faults", Kind::Faults { max: 10_000 }, Default("[]"), "What goes wrong, and when."),
    key("checks", Kind::Table(CHECKS), TABLE, "What must hold. A run in which it does not fails."),
    key("observe", Kind::Table(OBSERVE), TABLE, "What is written to the tables."),
];

#[rustfmt::skip]
pub(super) const FIDELITIES: &[Word] = &[
    word("full", "The node whole, its Noise and Yamux included, over simulated byte streams. Leaves out: kernels' TCP (a model of it stands in), real disks, real time. Up to 2,000 nodes."),
    word("muxer", "The node whole over simulated streams. Leaves out, besides: encryption and multiplexing, of which only the time and bytes are counted. Up to 20,000 nodes."),
    word("model", "A model of the protocols' cores for very many nodes. Leaves out, besides: the node's code, jobs, the ledger, disks, clocks, and all behaviours but sybil and withhold. Up to 1,000,000 nodes."),
];

#[rustfmt::skip]
pub(super) const NETWORK: &[Key] = &[
    key("regions", Kind::Names { max: MAX_REGION_BYTES }, Default("[\"here\"]"), "Names of places, at most 256."),
    key("latency_ms", Kind::Matrix(Range::new(0.0, 60_000.0)), Default("[[20.0]]"), "One way, from the row's region to the column's; both in the order of `regions`."),
    key("spread_percent", Kind::Whole { from: 0, to: 100 }, Default("50"), "By up to so much pairs of nodes differ from the matrix."),
    key("jitter_percent", Kind::Whole { from: 0, to: 1_000 }, Default("10"), "By up to so much of the latency each chunk is late."),
    key("loss_percent", Kind::Number(Range::new(0.0, 99.0)), Default("0.0"), "Of segments; lost ones are sent again, as TCP does."),
    key("slow_start", Kind::Flag, Default("true"), "New and idle connections send slowly at first, as TCP does."),
    key("give_up_s", Kind::Number(SOME_SECONDS), Default("924.0"), "A connection of which nothing is acknowledged for so long is reset. The default is Linux's tcp_retries2 = 15."),
];

#[rustfmt::skip]
pub(super) const POLICY: &[Key] = &[
    key("advert_interval_s", Kind::Number(Range::new(0.1, 3_600.0)), Optional("10"), "Between two adverts of an Island."),
    key("epoch_s", Kind::Number(Range::new(1.0, MAX_DURATION_S)), Optional("21600"), "Between two elections of coordinators."),
    key("consumer_credits", Kind::Whole { from: 0, to: 1_000_000 }, Optional("1000"), "Whole credits that each node's Consumer begins with."),
];

#[rustfmt::skip]
pub(super) const GROUP: &[Key] = &[
    key("name", NAME, Required, "By which workloads and faults call it; any but \"all\"."),
    key("count", Kind::Whole { from: 1, to: MAX_NODES }, Required, "How many nodes."),
    key("roles", Kind::Words(ROLES), Default("[]"), "What they are for. Every node can submit jobs."),
    key("region", Kind::Shares, Optional("the first region"), "Where they are: \"eu\", or { eu = 3, us = 1 } for three times as many in eu."),
    key("up_mbit", Kind::Random(MBIT), Default("100.0"), "Megabits per second that each can send."),
    key("down_mbit", Kind::Random(MBIT), Default("100.0"), "Megabits per second that each can receive."),
    key("nat", Kind::Word(NATS), Default("\"none\""), "Who reaches them without having been asked."),
    key("skew_ms", Kind::Random(SKEW_MS), Default("0.0"), "By how much wall clocks are fast; negative: slow."),
    key("start_s", Kind::Random(SECONDS), Default("0.0"), "When each starts."),
    key("session", Kind::Table(SESSION), Optional("stays for ever"), "Churn: how long each stays and is away, in turn."),
    key("bootstrap", Kind::Whole { from: 0, to: 1_000 }, Default("1"), "Of how many nodes of the first group each knows the address; of those before it, within the first group."),
    key("listens", Kind::Flag, Default("true"), "Accepts connections at all."),
    key("jobs_at_a_time", Kind::Whole { from: 1, to: 1_024 }, Default("2"), "Of each Island."),
    key("speed", Kind::Random(Range::above(0.0, 1e6)), Default("1.0"), "How fast Cargos run, in times of a usual machine."),
    key("price_percent", Kind::Random(Range::new(0.0, 65_535.0)), Default("100.0"), "Asking price, in percent of a Cargo's."),
    key("step_us", Kind::Number(Range::new(0.0, 1e6)), Default("0.0"), "Microseconds of the node's one processor that each step of it costs; free when 0."),
    key("behaviour", Kind::Word(BEHAVIOURS), Default("\"honest\""), "What they do that honest nodes do not."),
];

#[rustfmt::skip]
pub(super) const ROLES: &[Word] = &[
    word("coordinator", "Has a seat from the genesis on. A run needs 1 to 100; from 4 on they tolerate that one fails, from 7 on two. Not in a model."),
    word("observer", "Keeps the ledger without a seat. Not in a model."),
    word("island", "Runs jobs for others and publishes adverts."),
];

#[rustfmt::skip]
pub(super) const NATS: &[Word] = &[
    word("none", "Reached by everyone."),
    word("full-cone", "By everyone, once it has connected to anybody."),
    word("restricted", "By those to whom it has connected."),
    word("symmetric", "By nobody: each destination sees another port."),
];

#[rustfmt::skip]
pub(super) const SESSION: &[Key] = &[
    key("up_s", Kind::Random(Range::above(0.0, 1e9)), Required, "How long it stays."),
    key("down_s", Kind::Random(Range::new(0.0, 1e9)), Required, "How long it is away then."),
    key("abrupt", Kind::Flag, Default("false"), "Cut off rather than stopped in order."),
];

#[rustfmt::skip]
pub(super) const BEHAVIOURS: &[Word] = &[
    word("honest", "Nothing."),
    word("wrong-output", "An Island that answers with something else than the Cargo's output."),
    word("overcharge", "An Island that charges for more than it did."),
    word("stall", "An Island that takes jobs and never says a word."),
    word("withhold", "Forwards no gossip and answers no lookups, but stays connected."),
    word("covert-flash", "As honest as anybody until the fault flash, then withholds."),
    word("slow-reader", "A Consumer that reads its results very slowly."),
    word("advert-storm", "Changes and publishes its advert fifty times a second."),
    word("sybil", "Many identities that crowd around the entry that lookups ask for, and answer nothing."),
];

#[rustfmt::skip]
pub(super) const WORKLOAD: &[Key] = &[
    key("from", NAME, Required, "The group whose nodes submit the jobs."),
    key("cargo", Kind::Shares, Default("\"work\""), "Which Cargo: \"text-stats\", or { work = 9, text-stats = 1 } by weights."),
    key("input", Kind::Free, Optional("a small input of the Cargo's own"), "For a starter Cargo, as its input schema says. That of `work` is made of the keys below."),
    key("interarrival_s", Kind::Random(SECONDS), Optional("`trace` says"), "Between two jobs of the whole group. Either this or `trace`."),
    key("trace", Kind::Text { max: 200, prose: false }, Optional("`interarrival_s` says"), "A CSV file beside the scenario; see below."),
    key("start_s", Kind::Number(SECONDS), Default("0.0"), "When the first job may come. A trace is moved by it."),
    key("stop_s", Kind::Number(SOME_SECONDS), Optional("the end"), "When no more come."),
    key("jobs", Kind::Whole { from: 1, to: super::MAX_JOBS }, Optional("as many as there is time for"), "The most jobs."),
    key("work_ms", Kind::Random(Range::new(0.0, 604_800_000.0)), Default("1000.0"), "Of `work`: how long it takes on a usual machine."),
    key("events", Kind::Random(Range::new(0.0, 1e6)), Default("10.0"), "Of `work`: how many events it streams."),
    key("event_bytes", Kind::Random(Range::new(0.0, 60_000.0)), Default("100.0"), "Of `work`: how long each of them is."),
    key("bid_percent", Kind::Whole { from: 0, to: 65_535 }, Optional("any price"), "The most that the Consumer pays, in percent of the Cargo's price."),
    key("wait_s", Kind::Whole { from: 0, to: 604_800 }, Optional("as the node does"), "How long a job may wait for room."),
];

#[rustfmt::skip]
pub(super) const LOOKUPS: &[Key] = &[
    key("from", NAME, Required, "The group whose nodes look up."),
    key("interarrival_s", Kind::Random(SECONDS), Required, "Between two lookups of the whole group."),
    key("start_s", Kind::Number(SECONDS), Default("0.0"), "When the first may come."),
    key("stop_s", Kind::Number(SOME_SECONDS), Optional("the end"), "When no more come."),
];

/// Keys that all faults have.
#[rustfmt::skip]
pub(super) const FAULT: &[Key] = &[
    key("at_s", Kind::Number(SECONDS), Required, "When it happens; before the end."),
    key("for_s", Kind::Number(SOME_SECONDS), Optional("for ever"), "How long until it is mended."),
    key("kind", Kind::Word(KINDS), Required, "What goes wrong."),
];

#[rustfmt::skip]
pub(super) const KINDS: &[Word] = &[
    word("crash", "The process is killed; what was not flushed to disk is lost. It starts again at the end."),
    word("power", "The machine loses power: as a crash, but the others are not told."),
    word("restart", "Stopped in order and started again, one after the other: an upgrade."),
    word("partition", "Nothing passes between the two sides."),
    word("flap", "A partition from all others that comes and goes."),
    word("loss", "Segments get lost, everywhere."),
    word("slow", "Lines get slower by a factor."),
    word("clock", "The wall clock jumps. Not in a model."),
    word("disk", "Writes to disk fail. Not in a model."),
    word("flash", "Nodes with the behaviour covert-flash begin to misbehave."),
];

const NODES: Key = key(
    "nodes",
    Kind::Table(TARGET),
    Required,
    "Which nodes, as { group = \"islands\", count = 3 }.",
);

/// Keys that faults of a kind have, in the order of [`KINDS`].
#[rustfmt::skip]
pub(super) const KIND_KEYS: &[&[Key]] = &[
    &[NODES],
    &[NODES],
    &[NODES, key("apart_s", Kind::Number(SECONDS), Default("0.0"), "Between two nodes.")],
    &[
        NODES,
        key("from", Kind::Table(TARGET), Optional("all others"), "The other side."),
        key("one_way", Kind::Flag, Default("false"), "What `nodes` send is lost; what is sent to them arrives."),
    ],
    &[NODES, key("period_s", Kind::Number(Range::new(0.1, MAX_DURATION_S)), Required, "Cut for half of it, whole for the other half.")],
    &[key("percent", Kind::Number(Range::new(0.0, 99.0)), Required, "Instead of network.loss_percent.")],
    &[NODES, key("factor", Kind::Number(Range::above(1.0, 1e6)), Required, "10 leaves a tenth of the megabits per second.")],
    &[NODES, key("jump_ms", Kind::Number(SKEW_MS), Required, "Forward; negative: back.")],
    &[NODES],
    &[],
];

#[rustfmt::skip]
pub(super) const TARGET: &[Key] = &[
    key("group", NAME, Required, "A group's name, or \"all\"."),
    key("count", Kind::Whole { from: 1, to: MAX_NODES }, Optional("all of it"), "So many of it; the seed says which."),
    key("fraction", Kind::Number(Range::above(0.0, 1.0)), Optional("all of it"), "Such a part of it, instead of `count`."),
];

#[rustfmt::skip]
pub(super) const CHECKS: &[Key] = &[
    key("every_s", Kind::Number(SOME_SECONDS), Default("1.0"), "How often is checked what must always hold."),
    key("job_deadline_s", Kind::Number(SOME_SECONDS), Default("900.0"), "A job must have ended so long after it was submitted."),
    key("reconverge_s", Kind::Number(SOME_SECONDS), Default("60.0"), "After the last fault ends, all honest nodes must know each other's Islands within this."),
    key("mesh_peers_min", Kind::Whole { from: 0, to: 1_000 }, NONE, "Neighbours in the mesh of adverts that a node must have once it ran a minute."),
    key("sent_kbit_max", Kind::Number(Range::above(0.0, 1e9)), NONE, "Kilobits per second that a node may send: the mean over all nodes and the whole run."),
    key("success_min_percent", Kind::Number(PERCENT), NONE, "Of the jobs that ended, so many must have succeeded."),
    key("lookup_success_min_percent", Kind::Number(PERCENT), NONE, "Of the lookups, so many must have found something."),
    key("delivery_min_percent", Kind::Number(PERCENT), NONE, "Of the adverts that are followed, so many must have reached each node."),
    key("tasks_max", Kind::Whole { from: 1, to: 1_000_000_000 }, Default("10000"), "Tasks of one node."),
];

#[rustfmt::skip]
pub(super) const OBSERVE: &[Key] = &[
    key("sample_s", Kind::Number(SOME_SECONDS), Default("5.0"), "Between two rows of a node in `samples`."),
    key("adverts_of", Kind::Whole { from: 0, to: MAX_NODES }, Default("10"), "Of how many Islands the adverts are followed to every node."),
];

/// The keys of a fault of a kind; those that all have when there is no such kind.
pub(super) fn fault_keys(kind: Option<&str>) -> Vec<Key> {
    let own = KINDS.iter().position(|word| Some(word.name) == kind);
    let own = own.and_then(|at| KIND_KEYS.get(at)).copied().unwrap_or_default();
    FAULT.iter().chain(own).copied().collect()
}

/// Distributions: name, parameters, what it is good for.
#[rustfmt::skip]
pub(super) const DISTRIBUTIONS: &[(&str, &str, &str)] = &[
    ("uniform", "[from, to]", "All alike."),
    ("exponential", "mean", "Independent events; arrivals of a Poisson process."),
    ("normal", "[mean, standard deviation]", "What comes out below 0 becomes 0."),
    ("log-normal", "[median, standard deviation of the logarithm]", "Sizes and speeds."),
    ("pareto", "[least value, shape]", "Heavy tail: with a shape of up to 1 there is no mean."),
    ("weibull", "[scale, shape]", "With a shape below 1: who has stayed long stays long."),
    ("choice", "[value, value, …]", "One of these, all as likely."),
];
