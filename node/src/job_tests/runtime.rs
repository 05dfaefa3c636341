//! A runtime whose Cargo does what its input says: `{"steps": [{"token": "x"}, {"wait": 10},
//! {"hang": true}, {"end": "trap"}]}`; without an `end` it says `done`.

use archipelag_protocol::{
    event::Event,
    id::CargoId,
    job::{Failure, Step},
    manifest::{Manifest, RuntimeType},
    payment::Verdict,
    pricing::Metering,
};
use archipelag_runtimes::runtime::{Job, Outcome, Runtime};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
pub(super) struct Scripted {
    ready: Mutex<BTreeSet<CargoId>>,
    /// Jobs that were started and have not ended.
    pub(super) running: AtomicU64,
    /// What deterministic Cargos were given as time and seed, added up by exclusive or.
    pub(super) seeds: Mutex<BTreeSet<(u64, [u8; 32])>>,
}

struct Counted<'a>(&'a AtomicU64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

enum End {
    Verdict(Verdict, Option<Failure>),
    Cancelled,
}

#[async_trait]
impl Runtime for Scripted {
    fn runtime_type(&self) -> RuntimeType {
        RuntimeType::Wasm
    }

    async fn prepare(&self, cargo: CargoId, _: &Manifest, artifact: Bytes) -> Result<(), Failure> {
        assert_eq!(&artifact[..], b"module");
        self.ready.lock().unwrap().insert(cargo);
        Ok(())
    }

    fn is_ready(&self, cargo: CargoId) -> bool {
        self.ready.lock().unwrap().contains(&cargo)
    }

    async fn run(
        &self,
        job: Job,
        events: mpsc::Sender<Event>,
        cancel: CancellationToken,
    ) -> Outcome {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Counted(&self.running);
        self.seeds.lock().unwrap().insert((job.now.0, job.seed));
        let input: Value = serde_json::from_slice(&job.input).unwrap();
        let (began, mut tokens) = (Instant::now(), 0);
        let script = async {
            for step in input["steps"].as_array().unwrap() {
                if let Some(content) = step["token"].as_str() {
                    let token = Event::Token { content: content.into() };
                    if events.send(token).await.is_err() {
                        return End::Cancelled;
                    }
                    tokens += 1;
                } else if let Some(ms) = step["wait"].as_u64() {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                } else if step["hang"] == true {
                    std::future::pending::<()>().await;
                } else if let Some(end) = step["end"].as_str() {
                    return ended(end, &events).await;
                }
            }
            ended("done", &events).await
        };
        let end = tokio::select! {
            () = cancel.cancelled() => End::Cancelled,
            end = script => end,
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap();
        let (verdict, failure) = match end {
            End::Verdict(verdict, failure) => (verdict, failure),
            End::Cancelled => {
                (Verdict::Cancelled, Some(Failure::new(Step::Cancelled, "cancelled")))
            }
        };
        let metering = Metering { tokens, duration_ms };
        Outcome { verdict, failure, metering, stderr: Vec::new(), fuel: 0 }
    }
}

async fn ended(end: &str, events: &mpsc::Sender<Event>) -> End {
    let failed = |step, message: &str| Some(Failure::new(step, message));
    let (last, verdict, failure) = match end {
        "done" => (Some(Event::Done { usage: None, seed: None }), Verdict::Completed, None),
        "error" => (
            Some(Event::Error { message: "no such thing".into() }),
            Verdict::CargoFailed,
            failed(Step::Cargo, "no such thing"),
        ),
        "trap" => (None, Verdict::Failed, failed(Step::Trap, "unreachable")),
        "engine" => (None, Verdict::Failed, failed(Step::Engine, "no memory left")),
        "timeout" => (None, Verdict::Timeout, failed(Step::Limit, "time")),
        other => panic!("no end {other}"),
    };
    if let Some(last) = last
        && events.send(last).await.is_err()
    {
        return End::Cancelled;
    }
    End::Verdict(verdict, failure)
}
