//! What single steps of a job cost, each measured by itself.

use super::{in_sequence, nodes::Pair};
use crate::{catalog::Resolved, mesh::Protocol};
use archipelag_protocol::{
    amount::Credits,
    id::{AccountId, ContentId, HoldId, JobId},
    job::Offer,
    sign,
    time::Timestamp,
};
use archipelag_runtimes::runtime::{Job, Limits, Runtime};
use futures::AsyncWriteExt;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Repetitions of the steps that are plain computations.
const REPEAT: u32 = 2_000;

/// Microseconds per call of `step`.
fn each(mut step: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..REPEAT {
        step();
    }
    round(start.elapsed().as_secs_f64() * 1e6 / f64::from(REPEAT))
}

fn round(micros: f64) -> f64 {
    (micros * 10.0).round() / 10.0
}

pub(super) async fn measure(
    pair: &Pair,
    resolved: &Resolved,
    input: &Value,
    time: Duration,
) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let text = serde_json::to_vec(input)?;
    let key = pair.consumer.payer.key();
    let network = pair.consumer.mesh.network();
    let offer = Offer {
        job: JobId([1; 16]),
        attempt: 0,
        cargo: resolved.cargo,
        island: AccountId([2; 32]),
        hold: HoldId([3; 32]),
        lane: 0,
        input: ContentId::of(&text),
        input_bytes: text.len() as u64,
        price_max: Credits::from_whole(1),
        started: Timestamp(1),
        issued: Timestamp(1),
        expires: Timestamp(2),
    };
    let signature = key.sign(network, &offer)?;
    let account = key.account();
    let mut steps = BTreeMap::from([
        ("sign", each(|| drop(black_box(key.sign(network, &offer))))),
        ("verify", each(|| drop(black_box(sign::verify(network, account, &offer, &signature))))),
        ("schema", each(|| drop(black_box(resolved.input_schema.validate(input))))),
        (
            "input_hash",
            each(|| {
                black_box(ContentId::of(&text));
            }),
        ),
    ]);
    let mut opened = in_sequence(time / 2, async || {
        let mut stream =
            pair.consumer.mesh.open_stream(pair.island.mesh.node(), Protocol::Artifact).await?;
        stream.close().await?;
        Ok(())
    })
    .await?;
    steps.insert("open_stream", round(f64::from(u32::try_from(opened.micros(50))?)));
    let mut ran = in_sequence(time / 2, async || run(pair, resolved, &text).await).await?;
    steps.insert("runtime", round(f64::from(u32::try_from(ran.micros(50))?)));
    Ok(steps)
}

/// The runtime by itself: no mesh, no money.
async fn run(pair: &Pair, resolved: &Resolved, text: &[u8]) -> anyhow::Result<()> {
    let policy = &pair.consumer.mesh.genesis().policy;
    let job = Job {
        id: JobId([1; 16]),
        cargo: resolved.cargo,
        input: bytes::Bytes::copy_from_slice(text),
        limits: Limits::new(policy.sandbox.limits(resolved.entry.record.trust_level), &policy.job),
        deterministic: true,
        seed: [1; 32],
        now: Timestamp(1),
    };
    let (events, mut received) = mpsc::channel(64);
    let outcome = pair.wasm.run(job, events, CancellationToken::new()).await;
    anyhow::ensure!(outcome.failure.is_none(), "{:?}", outcome.failure);
    while received.recv().await.is_some() {}
    Ok(())
}
