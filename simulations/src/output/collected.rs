//! A run's tables, boiled down to what figures, plots and the report show. Used by `run` and by
//! whoever writes a summary; reads each table once and keeps no row that is not shown.

use super::{
    Error,
    plot::{Curve, DegreePoint, FaultSpan, JobPoint, NodeTraffic},
    reader::rows,
    rows::{Delivery, Fault, Job, Ledger, Lookup, Message, Node, Sample, Violation},
    stats::Distribution,
};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// Of faults and violations that are listed, and of different reasons that are counted.
const MOST_LISTED: usize = 1000;
/// Jobs that the report names.
const MOST_SLOWEST: usize = 10;

/// What is known of a run.
#[derive(Debug, Default)]
pub struct Collected {
    pub nodes: Vec<Node>,
    pub messages: u64,
    /// By message kind.
    pub deliveries: Vec<Curve>,
    pub jobs: Vec<JobPoint>,
    pub first_events_s: Distribution,
    /// Jobs by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Jobs by verdict and reason, of those that gave one.
    pub reasons: BTreeMap<(String, String), u64>,
    /// The slowest first.
    pub slowest: Vec<Job>,
    pub degrees: Vec<DegreePoint>,
    /// By look-up kind, of those that found something.
    pub lookups: Vec<Curve>,
    pub lookups_failed: u64,
    /// The highest block that any coordinator applied.
    pub last_block: Option<Ledger>,
    /// The first of them; `faults_count` counts all.
    pub faults: Vec<Fault>,
    pub faults_count: u64,
    /// The first of them; `violations_count` counts all.
    pub violations: Vec<Violation>,
    pub violations_count: u64,
    /// The last time that any row speaks of.
    pub last_s: f64,
}

impl Collected {
    /// Reads all tables in `dir`, those of an interrupted run as far as they go.
    ///
    /// # Errors
    /// What [`rows`] says.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let mut run = Self::default();
        for node in rows::<Node>(dir)? {
            run.nodes.push(node?);
        }
        run.read_deliveries(dir)?;
        run.read_jobs(dir)?;
        run.read_samples(dir)?;
        run.read_lookups(dir)?;
        for block in rows::<Ledger>(dir)? {
            let block = block?;
            run.saw(block.time_s);
            if run.last_block.as_ref().is_none_or(|last| last.height < block.height) {
                run.last_block = Some(block);
            }
        }
        for fault in rows::<Fault>(dir)? {
            let fault = fault?;
            run.saw(fault.time_s);
            run.faults_count += 1;
            if run.faults.len() < MOST_LISTED {
                run.faults.push(fault);
            }
        }
        for violation in rows::<Violation>(dir)? {
            let violation = violation?;
            run.saw(violation.time_s);
            run.violations_count += 1;
            if run.violations.len() < MOST_LISTED {
                run.violations.push(violation);
            }
        }
        Ok(run)
    }

    fn saw(&mut self, time_s: f64) {
        self.last_s = self.last_s.max(time_s);
    }

    fn read_deliveries(&mut self, dir: &Path) -> Result<(), Error> {
        let mut kinds = Kinds::default();
        let mut kind_of = HashMap::new();
        for message in rows::<Message>(dir)? {
            let message = message?;
            self.saw(message.time_s);
            self.messages += 1;
            kind_of.insert(message.message, kinds.index(&message.kind));
        }
        for delivery in rows::<Delivery>(dir)? {
            let delivery = delivery?;
            self.saw(delivery.time_s);
            // After a kill the table of messages can end before that of deliveries.
            let known = kind_of.get(&delivery.message).copied();
            let kind = known.unwrap_or_else(|| kinds.index("of unknown kind"));
            kinds.values[kind].push(delivery.latency_ms);
        }
        self.deliveries = kinds.curves();
        Ok(())
    }

    fn read_jobs(&mut self, dir: &Path) -> Result<(), Error> {
        let mut first_events_s = Vec::new();
        for job in rows::<Job>(dir)? {
            let job = job?;
            let latency_s = job.ended_s.map(|ended_s| ended_s - job.submitted_s);
            self.saw(job.ended_s.unwrap_or(job.submitted_s));
            first_events_s.extend(job.first_event_s.map(|first_s| first_s - job.submitted_s));
            *self.verdicts.entry(job.verdict.clone()).or_default() += 1;
            let reason = (job.verdict.clone(), job.reason.clone());
            if let Some(count) = self.reasons.get_mut(&reason) {
                *count += 1;
            } else if !job.reason.is_empty() && self.reasons.len() < MOST_LISTED {
                self.reasons.insert(reason, 1);
            }
            let completed = job.verdict == "completed";
            self.jobs.push(JobPoint { submitted_s: job.submitted_s, latency_s, completed });
            if latency_s.is_some() {
                self.keep_if_slow(job);
            }
        }
        self.first_events_s = first_events_s.into_iter().collect();
        Ok(())
    }

    fn keep_if_slow(&mut self, job: Job) {
        let latency_s = |job: &Job| job.ended_s.unwrap_or(job.submitted_s) - job.submitted_s;
        let place = self.slowest.partition_point(|other| latency_s(other) >= latency_s(&job));
        self.slowest.insert(place, job);
        self.slowest.truncate(MOST_SLOWEST);
    }

    fn read_samples(&mut self, dir: &Path) -> Result<(), Error> {
        let mut by_time: BTreeMap<u64, (f64, Vec<f64>)> = BTreeMap::new();
        for sample in rows::<Sample>(dir)? {
            let sample = sample?;
            self.saw(sample.time_s);
            let at = by_time.entry(sample.time_s.to_bits()).or_default();
            at.0 = sample.time_s;
            at.1.push(sample.mesh_peers as f64);
        }
        let point = |(time_s, peers): (f64, Vec<f64>)| {
            let peers: Distribution = peers.into_iter().collect();
            let (min, median, max) = (peers.min()?, peers.p50()?, peers.max()?);
            Some(DegreePoint { time_s, min, median, max })
        };
        self.degrees = by_time.into_values().filter_map(point).collect();
        Ok(())
    }

    fn read_lookups(&mut self, dir: &Path) -> Result<(), Error> {
        let mut kinds = Kinds::default();
        for lookup in rows::<Lookup>(dir)? {
            let lookup = lookup?;
            self.saw(lookup.time_s);
            if lookup.found {
                let kind = kinds.index(&lookup.kind);
                kinds.values[kind].push(lookup.latency_ms);
            } else {
                self.lookups_failed += 1;
            }
        }
        self.lookups = kinds.curves();
        Ok(())
    }

    /// The nodes that can be paid for jobs.
    fn islands(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == "island" || node.jobs_run > 0)
    }

    /// Jobs that each Island ran.
    #[must_use]
    pub fn load(&self) -> Distribution {
        self.islands().map(|node| node.jobs_run as f64).collect()
    }

    /// Microcredits that each Island earned.
    #[must_use]
    pub fn earnings(&self) -> Distribution {
        self.islands().map(|node| node.earned_microcredits as f64).collect()
    }

    #[must_use]
    pub fn traffic(&self) -> Vec<NodeTraffic> {
        let traffic = |node: &Node| NodeTraffic {
            name: format!("{} {}", node.role, node.node),
            sent_bytes: node.sent_bytes as f64,
            received_bytes: node.received_bytes as f64,
        };
        self.nodes.iter().map(traffic).collect()
    }

    #[must_use]
    pub fn fault_spans(&self) -> Vec<FaultSpan> {
        let span = |fault: &Fault| FaultSpan {
            kind: fault.kind.clone(),
            time_s: fault.time_s,
            until_s: fault.until_s,
        };
        self.faults.iter().map(span).collect()
    }
}

/// Values by kind, in the order in which kinds appeared.
#[derive(Default)]
struct Kinds {
    names: Vec<String>,
    values: Vec<Vec<f64>>,
}

impl Kinds {
    fn index(&mut self, name: &str) -> usize {
        // Kinds are few.
        self.names.iter().position(|other| other == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.values.push(Vec::new());
            self.names.len() - 1
        })
    }

    fn curves(self) -> Vec<Curve> {
        let curve = |(name, values): (String, Vec<f64>)| Curve {
            name,
            latencies_ms: values.into_iter().collect(),
        };
        self.names.into_iter().zip(self.values).map(curve).collect()
    }
}
