//! What nodes say of themselves while they run: their log, and the gossip that reaches them.
//!
//! The node writes both by `tracing`; this is the subscriber that a run installs. Adverts of some
//! Islands are followed to every node; warnings and errors go to the run's log.

use crate::{
    lock,
    output::rows,
    record::{Record, word},
    trace::{Kind, Trace, fingerprint},
    world::now_s,
};
use archipelag_simulation_kernel as kernel;
use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs::File,
    io::{BufWriter, Write as _},
    sync::{Arc, Mutex},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// How long a message may be under way until it counts as lost.
const DELIVERY_S: f64 = 10.0;

/// A message that is followed.
#[derive(Clone, Copy, Debug)]
struct Published {
    at_s: f64,
    /// Nodes that could get it.
    expected: usize,
    delivered: usize,
}

/// What is known of gossip.
#[derive(Debug, Default)]
struct Gossip {
    /// Followed publishers, by the start of their node ids.
    followed: BTreeMap<u64, usize>,
    messages: BTreeMap<(u64, u64), Published>,
    running: usize,
}

/// A handle to what is observed.
#[derive(Clone, Debug)]
pub(crate) struct Observer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    record: Record,
    trace: Arc<Mutex<Trace>>,
    log: Mutex<Option<BufWriter<File>>>,
    gossip: Mutex<Gossip>,
}

impl Observer {
    pub(crate) fn new(record: &Record, trace: Arc<Mutex<Trace>>, log: Option<File>) -> Self {
        Self(Arc::new(Inner {
            record: record.clone(),
            trace,
            log: Mutex::new(log.map(BufWriter::new)),
            gossip: Mutex::default(),
        }))
    }

    /// Follows the adverts of these nodes, by the starts of their ids.
    pub(crate) fn follow(&self, nodes: impl IntoIterator<Item = (u64, usize)>) {
        lock(&self.0.gossip).followed.extend(nodes);
    }

    /// How many nodes run now.
    pub(crate) fn set_running(&self, running: usize) {
        lock(&self.0.gossip).running = running;
    }

    /// Of the messages that had time to arrive: how many percent of the nodes got one.
    pub(crate) fn delivery_percent(&self) -> Option<f64> {
        let gossip = lock(&self.0.gossip);
        let old = gossip.messages.values().filter(|m| m.at_s + DELIVERY_S < now_s());
        let (delivered, expected) =
            old.fold((0, 0), |sum, m| (sum.0 + m.delivered.min(m.expected), sum.1 + m.expected));
        (expected > 0).then(|| delivered as f64 * 100.0 / expected as f64)
    }

    fn published(&self, publisher: u64, sequence: u64, bytes: u64) {
        let mut gossip = lock(&self.0.gossip);
        let Some(node) = gossip.followed.get(&publisher).copied() else { return };
        let expected = gossip.running.saturating_sub(1);
        let message = Published { at_s: now_s(), expected, delivered: 0 };
        gossip.messages.insert((publisher, sequence), message);
        drop(gossip);
        self.0.record.row(&rows::Message {
            message: format!("{publisher:016x}-{sequence}"),
            kind: "advert".into(),
            node: word(node),
            time_s: now_s(),
            size_bytes: bytes,
        });
    }

    fn delivered(&self, publisher: u64, sequence: u64) {
        let mut gossip = lock(&self.0.gossip);
        // It may have been heard of in an answer before it was followed.
        let Some(message) = gossip.messages.get_mut(&(publisher, sequence)) else { return };
        message.delivered += 1;
        let latency_ms = (now_s() - message.at_s) * 1000.0;
        drop(gossip);
        self.0.record.row(&rows::Delivery {
            message: format!("{publisher:016x}-{sequence}"),
            node: kernel::owner().into(),
            time_s: now_s(),
            latency_ms,
            from: None,
        });
        #[expect(clippy::cast_possible_truncation, reason = "a latency needs no more digits")]
        self.0.record.with(|seen| seen.delivery_ms.push(latency_ms as f32));
    }

    fn said(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let owner = kernel::owner();
        lock(&self.0.trace).add(Kind::Said, [owner.into(), fingerprint(text.0.as_bytes()), 0, 0]);
        if let Some(log) = lock(&self.0.log).as_mut() {
            let level = event.metadata().level();
            // A log that can't be written is no reason to end a run.
            let _ = writeln!(log, "{:.6} node {owner} {level}{}", now_s(), text.0);
        }
    }
}

/// The numbers of a gossip event.
#[derive(Default)]
struct Numbers {
    publisher: u64,
    sequence: u64,
    bytes: u64,
}

impl Visit for Numbers {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "publisher" => self.publisher = value,
            "sequence" => self.sequence = value,
            "bytes" => self.bytes = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// All fields of an event, in words.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string can't fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Observer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let (target, level) = (metadata.target(), *metadata.level());
        target == "archipelag::gossip" || target.starts_with("archipelag") && level <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() != "archipelag::gossip" {
            return self.said(event);
        }
        let mut numbers = Numbers::default();
        event.record(&mut numbers);
        if numbers.bytes > 0 {
            self.published(numbers.publisher, numbers.sequence, numbers.bytes);
        } else {
            self.delivered(numbers.publisher, numbers.sequence);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
