//! `bench jobs`: a job through the mesh on loopback, its hold open and its module warm, 1 KiB in
//! and 1 KiB out, beside a bare libp2p echo and bare wasmtime.

use super::{Report, at_once, echo, in_sequence, nodes::Pair, steps, wasm};
use crate::consumer::{Request, Update};
use anyhow::{bail, ensure};
use archipelag_protocol::{id::JobId, matching::RegionPolicy, payment::Verdict};
use futures::future::BoxFuture;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Jobs under way at a time when throughput is measured.
pub(super) const AT_ONCE: usize = 16;
/// A real Cargo that gives back what it is given.
const SLUG: &str = "json-query";
/// Bytes of input and of output, about.
const BYTES: usize = 1024;

/// Input that `json-query` answers with as many bytes.
fn input() -> serde_json::Value {
    let item = "x".repeat(22);
    json!({"document": vec![item; BYTES / 25], "query": "@"})
}

/// Measures for about `seconds`.
///
/// # Errors
/// When a part does not start or a job does not complete.
pub async fn run(seconds: u64) -> anyhow::Result<Report> {
    let directory = tempfile::tempdir()?;
    let slice = Duration::from_secs(seconds.max(1)) / 7;
    let pair = Arc::new(Pair::start(directory.path(), SLUG).await?);
    let text = serde_json::to_vec(&input())?;
    for _ in 0..50 {
        job(&pair).await?;
    }
    let mut latencies = in_sequence(slice, async || job(&pair).await).await?;
    let shared = pair.clone();
    let per_second = at_once(AT_ONCE, slice, move || {
        let pair = shared.clone();
        async move { job(&pair).await }
    })
    .await?;
    let resolved = pair.consumer.catalog.resolve(SLUG, None).await?;
    let module = pair.consumer.catalog.artifact(&resolved).await?;
    let wasmtime = wasm::measure(&module, text.clone().into(), slice).await?;
    let echo = echo::measure(BYTES, BYTES, slice).await?;
    let steps_us = steps::measure(&pair, &resolved, &input(), slice).await?;
    let p50_us = latencies.micros(50);
    let floor = echo.p50_us + wasmtime.p50_us;
    let ratio = BTreeMap::from([
        ("p50_to_sum_of_baselines", ratio(p50_us, floor)),
        ("p50_to_libp2p_echo", ratio(p50_us, echo.p50_us)),
        ("p50_to_wasmtime", ratio(p50_us, wasmtime.p50_us)),
        ("per_second_to_libp2p_echo", ratio(per_second, echo.per_second)),
        ("per_second_to_wasmtime", ratio(per_second, wasmtime.per_second)),
    ]);
    let report = Report {
        bench: "jobs",
        config: json!({
            "cargo": resolved.entry.manifest.value.label(),
            "input_bytes": text.len(),
            "at_once": AT_ONCE,
            "cores": super::nodes::cores(),
            "seconds": seconds,
            "jobs": latencies.0.len(),
        }),
        p50_us,
        p99_us: latencies.micros(99),
        per_second,
        baselines: BTreeMap::from([("libp2p_echo", echo), ("wasmtime", wasmtime)]),
        ratio,
        steps_us,
    };
    if let Ok(pair) = Arc::try_unwrap(pair) {
        pair.stop().await;
    }
    Ok(report)
}

/// A quotient for people: three digits are plenty.
#[expect(clippy::cast_precision_loss, reason = "times and rates are far below 2^52")]
pub(super) fn ratio(ours: u64, theirs: u64) -> f64 {
    (ours as f64 / theirs.max(1) as f64 * 1000.0).round() / 1000.0
}

/// One job, from submission to the receipt.
fn job(pair: &Pair) -> BoxFuture<'_, anyhow::Result<()>> {
    Box::pin(submit_and_wait(pair))
}

async fn submit_and_wait(pair: &Pair) -> anyhow::Result<()> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| anyhow::anyhow!("no entropy: {e}"))?;
    let request = Request {
        slug: SLUG.into(),
        version: None,
        input: input(),
        regions: RegionPolicy::Any,
        bid_percent: None,
        wait_s: None,
    };
    let consumer = &pair.consumer;
    let mut running = consumer
        .consumer
        .submit(&consumer.payer, JobId(id), request)
        .await
        .map_err(|refused| anyhow::anyhow!("refused: {refused}"))?;
    while let Some(update) = running.updates.recv().await {
        if let Update::Ended(ended) = update {
            ensure!(ended.verdict == Verdict::Completed, "the job failed: {:?}", ended.failure);
            ensure!(ended.receipt.is_some(), "the job has no receipt");
            return Ok(());
        }
    }
    bail!("the job ended without saying so")
}
