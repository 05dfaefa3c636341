//! A scenario: how many nodes, which jobs, which nodes crash when. Read from TOML, run, summarised.

use crate::{
    checks::{self, Delivered},
    world::World,
};
use anyhow::{Context as _, bail, ensure};
use archipelag_node::consumer::{Request, Update};
use archipelag_protocol::{amount::Credits, id::JobId, matching::RegionPolicy, payment::Verdict};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How long anything in a run may take until it counts as stuck.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// Node 0 is the coordinator.
    pub nodes: usize,
    /// The nodes that run jobs; all when absent.
    #[serde(default)]
    pub islands: Option<BTreeSet<usize>>,
    /// Jobs that one Island runs at a time.
    #[serde(default = "two")]
    pub jobs_at_a_time: u32,
    pub jobs: Vec<Jobs>,
    #[serde(default)]
    pub crashes: Vec<Crash>,
}

fn two() -> u32 {
    2
}

/// Jobs that one node submits, one after another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    pub from: usize,
    pub cargo: String,
    pub count: u32,
    pub input: serde_json::Value,
}

/// A node that goes, and perhaps comes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// Absent: whichever Island has the job.
    #[serde(default)]
    pub node: Option<usize>,
    /// When that many events of job number `job` (from 0, over all jobs in order) have arrived.
    pub job: u32,
    pub after_events: u64,
    #[serde(default)]
    pub restart: bool,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub scenario: String,
    pub seed: u64,
    pub jobs: u32,
    pub completed: u32,
    pub attempts: u32,
    pub events: u64,
    pub charged: Credits,
    pub blocks: u64,
}

impl Scenario {
    /// # Errors
    /// The key that is wrong.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        ensure!((1..=100).contains(&scenario.nodes), "nodes: {}, must be 1 to 100", scenario.nodes);
        if let Some(island) =
            scenario.islands().into_iter().find(|island| *island >= scenario.nodes)
        {
            bail!("islands: there is no node {island}");
        }
        for jobs in &scenario.jobs {
            ensure!(jobs.from < scenario.nodes, "jobs.from: there is no node {}", jobs.from);
        }
        for crash in &scenario.crashes {
            if let Some(node) = crash.node {
                ensure!(node < scenario.nodes, "crashes.node: there is no node {node}");
            }
        }
        Ok(scenario)
    }

    fn islands(&self) -> BTreeSet<usize> {
        self.islands.clone().unwrap_or_else(|| (0..self.nodes).collect())
    }

    /// Runs it and checks what must hold.
    ///
    /// # Errors
    /// What did not hold, or what got stuck.
    pub async fn run(&self, seed: u64) -> anyhow::Result<Summary> {
        let mut world = World::start(seed, self.nodes, self.islands(), self.jobs_at_a_time).await?;
        for node in 0..self.nodes {
            world.wait_for_islands(node, self.islands().len(), DEADLINE).await?;
        }
        let mut summary = Summary {
            scenario: self.name.clone(),
            seed,
            jobs: 0,
            completed: 0,
            attempts: 0,
            events: 0,
            charged: Credits::ZERO,
            blocks: 0,
        };
        for jobs in &self.jobs {
            for _ in 0..jobs.count {
                self.run_job(&mut world, jobs, seed, &mut summary).await?;
            }
        }
        settled(&world, &mut summary).await?;
        world.stop().await;
        Ok(summary)
    }

    async fn run_job(
        &self,
        world: &mut World,
        jobs: &Jobs,
        seed: u64,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        let number = summary.jobs;
        summary.jobs += 1;
        let digest = Sha256::digest(format!("{seed}/job/{number}"));
        let id = JobId(digest[..16].try_into().context("a hash has 16 bytes")?);
        let request = Request {
            slug: jobs.cargo.clone(),
            version: None,
            input: jobs.input.clone(),
            regions: RegionPolicy::Any,
            bid_percent: None,
            wait_s: None,
        };
        let node = world.node(jobs.from)?;
        let submitted = node.consumer.submit(&node.payer, id, request).await;
        let mut running =
            submitted.map_err(|refused| anyhow::anyhow!("job {number}: {refused}"))?;
        let mut delivered = Delivered::default();
        let mut executing = jobs.from;
        loop {
            let update = tokio::time::timeout(DEADLINE, running.updates.recv())
                .await
                .with_context(|| format!("job {number} is stuck"))?
                .with_context(|| format!("job {number} ended without saying so"))?;
            match update {
                Update::Started { node, .. } => executing = world.index_of(node)?,
                Update::Event(event) => {
                    delivered.take(&event)?;
                    summary.events += 1;
                    self.crash_at(world, number, delivered.events, executing).await?;
                }
                Update::Ended(ended) => {
                    ensure!(delivered.last == 1, "job {number} ended without its last event");
                    summary.attempts += ended.attempts;
                    summary.charged = summary.charged.saturating_add(ended.price);
                    summary.completed += u32::from(ended.verdict == Verdict::Completed);
                    return Ok(());
                }
            }
        }
    }

    async fn crash_at(
        &self,
        world: &mut World,
        job: u32,
        events: u64,
        executing: usize,
    ) -> anyhow::Result<()> {
        for crash in &self.crashes {
            if crash.job != job || crash.after_events != events {
                continue;
            }
            let node = crash.node.unwrap_or(executing);
            world.crash(node).await?;
            if crash.restart {
                world.start_node(node).await?;
            }
        }
        Ok(())
    }
}

/// Waits until every Island has settled, then checks the ledger: what Consumers spent is what their
/// jobs were said to cost.
async fn settled(world: &World, summary: &mut Summary) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let state = checks::ledger(world)?;
        let spent = (0..world.len())
            .map(|node| checks::spent(&state, world.consumer(node)))
            .fold(Credits::ZERO, Credits::saturating_add);
        let earned = state.holds.values().fold(Credits::ZERO, |sum, hold| {
            sum.saturating_add(hold.redeemed).saturating_sub(hold.settled)
        });
        summary.blocks = state.height;
        if spent == summary.charged && earned == Credits::ZERO {
            return Ok(());
        }
        if started.elapsed() > DEADLINE {
            bail!(
                "Consumers spent {spent} ({earned} not yet split), their jobs cost {}",
                summary.charged
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
