//! How an Island's Cargos run in virtual time.
//!
//! The Cargo `work` is modelled: it says what its input asks for and takes as long as the Island is
//! slow. All others run for real, at no virtual cost but that of their instructions. A dishonest
//! Island's lies are told here.

use crate::scenario::{Behaviour, WORK};
use archipelag_node::project::Project;
use archipelag_protocol::{
    event::Event,
    id::{CargoId, ContentId},
    job::{Failure, Step},
    manifest::{Artifact, Manifest, RuntimeType},
    payment::Verdict,
    pricing::Metering,
};
use archipelag_runtimes::{
    runtime::{Job, Outcome, Runtime},
    wasm::WasmRuntime,
};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Instructions that a usual machine executes in a second.
const FUEL_PER_S: f64 = 1e9;
/// The least module that there is.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// The input of `work`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// On a usual machine.
    pub work_ms: f64,
    pub events: u64,
    pub event_bytes: u64,
}

impl Work {
    /// What event number `index` says: Consumers recognise it.
    #[must_use]
    pub fn content(&self, index: u64) -> String {
        let mut content = format!("{index} ");
        let bytes = usize::try_from(self.event_bytes).unwrap_or(usize::MAX);
        let room = bytes.saturating_sub(content.len());
        content.extend(std::iter::repeat_n('.', room));
        content
    }
}

/// `work`, ready to be published.
///
/// # Errors
/// When `like` can't be made into it.
pub fn work_project(like: &Project) -> anyhow::Result<Project> {
    let schema = r#"{"type":"object","properties":{"work_ms":{"type":"number","minimum":0},"events":{"type":"integer","minimum":0},"event_bytes":{"type":"integer","minimum":0}},"required":["work_ms","events","event_bytes"]}"#;
    let module = Bytes::from_static(MODULE);
    let mut manifest = like.manifest.clone();
    manifest.name = "Modelled work".into();
    manifest.slug = WORK.into();
    manifest.input_schema = schema.into();
    manifest.output_schema = "{}".into();
    let hash = ContentId(Sha256::digest(&module).into());
    manifest.artifact = Artifact::Module { hash, size_bytes: module.len().try_into()? };
    manifest.validate(&archipelag_protocol::policy::PayoutPolicy::default())?;
    Ok(Project { manifest, module, cases: Vec::new() })
}

/// What one Island runs Cargos with.
#[derive(Debug)]
pub struct IslandRuntime {
    real: Arc<WasmRuntime>,
    speed: f64,
    behaviour: Behaviour,
    work: Mutex<BTreeSet<CargoId>>,
}

impl IslandRuntime {
    #[must_use]
    pub fn new(real: Arc<WasmRuntime>, speed: f64, behaviour: Behaviour) -> Self {
        Self { real, speed, behaviour, work: Mutex::default() }
    }

    fn is_work(&self, cargo: CargoId) -> bool {
        crate::lock(&self.work).contains(&cargo)
    }

    async fn work(&self, work: Work, events: &mpsc::Sender<Event>) -> Option<Metering> {
        let began = Instant::now();
        let total = Duration::from_secs_f64((work.work_ms / 1000.0 / self.speed).clamp(0.0, 1e6));
        for index in 0..work.events {
            let part = (index + 1) as f64 / work.events as f64;
            tokio::time::sleep_until(began + total.mul_f64(part)).await;
            let said = if self.behaviour == Behaviour::WrongOutput { index + 1 } else { index };
            events.send(Event::Token { content: work.content(said) }).await.ok()?;
        }
        tokio::time::sleep_until(began + total).await;
        let data = RawValue::from_string("{}".into()).ok()?;
        events.send(Event::Result { data }).await.ok()?;
        events.send(Event::Done { usage: None, seed: None }).await.ok()?;
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let tokens = if self.behaviour == Behaviour::Overcharge {
            work.events * 3 + 1000
        } else {
            work.events
        };
        Some(Metering { tokens, duration_ms })
    }
}

#[async_trait]
impl Runtime for IslandRuntime {
    fn runtime_type(&self) -> RuntimeType {
        RuntimeType::Wasm
    }

    async fn prepare(
        &self,
        cargo: CargoId,
        manifest: &Manifest,
        artifact: Bytes,
    ) -> Result<(), Failure> {
        if manifest.slug == WORK {
            crate::lock(&self.work).insert(cargo);
            return Ok(());
        }
        self.real.prepare(cargo, manifest, artifact).await
    }

    fn is_ready(&self, cargo: CargoId) -> bool {
        self.is_work(cargo) || self.real.is_ready(cargo)
    }

    async fn run(
        &self,
        job: Job,
        events: mpsc::Sender<Event>,
        cancel: CancellationToken,
    ) -> Outcome {
        if self.behaviour == Behaviour::Stall {
            cancel.cancelled().await;
            return cancelled();
        }
        if !self.is_work(job.cargo) {
            let outcome = self.real.run(job, events, cancel).await;
            let seconds = outcome.fuel as f64 / FUEL_PER_S / self.speed;
            tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 1e6))).await;
            return outcome;
        }
        let Ok(work) = serde_json::from_slice::<Work>(&job.input) else {
            let failure = Failure::new(Step::Cargo, "this is not an input of `work`");
            return Outcome::not_started(Verdict::CargoFailed, failure);
        };
        let done = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            done = self.work(work, &events) => done,
        };
        match done {
            Some(metering) => Outcome {
                verdict: Verdict::Completed,
                failure: None,
                metering,
                stderr: Vec::new(),
                fuel: 0,
            },
            None => cancelled(),
        }
    }
}

fn cancelled() -> Outcome {
    Outcome::not_started(Verdict::Cancelled, Failure::new(Step::Cancelled, "cancelled"))
}
