//! `archipelag cargo check`: schemas that compile, a module that the runtime takes, cases that
//! hold.
//!
//! Cases run in the real runtime, under the limits of the lowest trust level: what passes here
//! passes on any Island.

use super::{Case, Expected, Project};
use archipelag_protocol::{
    codec,
    event::Event,
    id::{CargoId, JobId},
    policy::Policy,
    time::Timestamp,
    trust::TrustLevel,
};
use archipelag_runtimes::{
    runtime::{Job, Limits, Runtime},
    schema::Schema,
};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that may wait for the comparison.
const QUEUE: usize = 64;
/// What is shown of an event that was not expected.
const SHOWN_CHARS: usize = 300;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    pub cargo: CargoId,
    /// What is wrong apart from cases.
    pub problems: Vec<String>,
    pub cases: Vec<CaseOutcome>,
}

#[derive(Clone, Debug)]
pub struct CaseOutcome {
    pub name: String,
    /// Why it failed; `None` when it passed.
    pub failure: Option<String>,
    pub duration_ms: u64,
}

impl Report {
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problems.is_empty() && self.cases.iter().all(|case| case.failure.is_none())
    }
}

/// Checks everything that can be checked without a network. `runtime` is the one that the manifest
/// names; without it the cases are not run, and the report says so.
///
/// # Errors
/// When the manifest can't be encoded.
pub async fn check(
    project: &Project,
    runtime: Option<&dyn Runtime>,
) -> Result<Report, codec::Error> {
    let manifest = &project.manifest;
    let mut report = Report { cargo: manifest.id()?, problems: Vec::new(), cases: Vec::new() };
    let mut compile = |field: &str, text: &str| {
        let compiled = Schema::compile(text);
        compiled.map_err(|e| report.problems.push(format!("{field}: {e}"))).ok()
    };
    let schemas = (
        compile("input_schema", &manifest.input_schema),
        compile("output_schema", &manifest.output_schema),
    );
    let (Some(input), Some(output)) = schemas else { return Ok(report) };
    let Some(runtime) = runtime else {
        let runtime = manifest.runtime_type;
        report.problems.push(format!("cases: this build has no {runtime} runtime to run them in"));
        return Ok(report);
    };
    let prepared = runtime.prepare(report.cargo, manifest, project.module.clone()).await;
    if let Err(failure) = prepared {
        report.problems.push(failure.to_string());
        return Ok(report);
    }
    for case in &project.cases {
        let (failure, duration_ms) = run(report.cargo, case, runtime, &input, &output).await;
        report.cases.push(CaseOutcome { name: case.name.clone(), failure, duration_ms });
    }
    Ok(report)
}

async fn run(
    cargo: CargoId,
    case: &Case,
    runtime: &dyn Runtime,
    input: &Schema,
    output: &Schema,
) -> (Option<String>, u64) {
    if let Err(errors) = input.validate(&case.input) {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return (Some(format!("input: {}", errors.join("; "))), 0);
    }
    let policy = Policy::default();
    let limits = Limits::new(policy.sandbox.limits(TrustLevel::Untrusted), &policy.job);
    let job = Job {
        id: JobId([0; 16]),
        cargo,
        input: Bytes::from(case.input.to_string()),
        limits,
        deterministic: true,
        seed: [0; 32],
        now: Timestamp(0),
    };
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    let collect = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events
    };
    let running = runtime.run(job, sender, CancellationToken::new());
    let (outcome, events) = tokio::join!(running, collect);
    let by_cargo = events.last().is_some_and(|event| matches!(event, Event::Error { .. }));
    let failure = match outcome.failure {
        Some(failure) if !by_cargo => Some(failure.to_string()),
        _ => compare(&case.expected, &events, output).err(),
    };
    (failure, outcome.metering.duration_ms)
}

fn compare(expected: &Expected, events: &[Event], output: &Schema) -> Result<(), String> {
    let found: Vec<Value> = events.iter().map(value).collect();
    for data in found.iter().filter(|event| event["type"] == "result").map(|event| &event["data"]) {
        output.validate(data).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!("result: output_schema: {}", errors.join("; "))
        })?;
    }
    match expected {
        Expected::Events(expected) => same(expected, &found),
        Expected::Result(data) => {
            let result = serde_json::json!({ "type": "result", "data": data });
            let said = |event: &Value| event["type"] != "status" && event["type"] != "progress";
            let found: Vec<Value> = found.into_iter().filter(said).collect();
            match &found[..] {
                [first, last] if last["type"] == "done" => {
                    same(std::slice::from_ref(&result), std::slice::from_ref(first))
                }
                _ => Err(format!("expected a result and done, found {}", kinds(events))),
            }
        }
        Expected::Error(part) => match events.last() {
            Some(Event::Error { message }) if message.contains(part) => Ok(()),
            Some(Event::Error { message }) => {
                Err(format!("expected an error with {part:?}, found {message:?}"))
            }
            _ => Err(format!("expected an error, found {}", kinds(events))),
        },
    }
}

fn same(expected: &[Value], found: &[Value]) -> Result<(), String> {
    for (index, pair) in expected.iter().zip(found).enumerate() {
        if pair.0 != pair.1 {
            let (expected, found) = (shown(pair.0), shown(pair.1));
            return Err(format!("event {index}: expected {expected}, found {found}"));
        }
    }
    if expected.len() == found.len() {
        return Ok(());
    }
    Err(format!("expected {} events, found {}", expected.len(), found.len()))
}

/// The event as JSON, apart from fields that a line may leave out.
fn value(event: &Event) -> Value {
    serde_json::from_str(&event.to_line()).unwrap_or_default()
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn kinds(events: &[Event]) -> String {
    let kinds: Vec<String> = events
        .iter()
        .take(8)
        .map(|event| match event {
            Event::Error { message } => format!("error {message:?}"),
            other => value(other)["type"].as_str().unwrap_or_default().to_owned(),
        })
        .collect();
    let more = if events.len() > 8 { ", …" } else { "" };
    if kinds.is_empty() { "nothing".into() } else { format!("{}{more}", kinds.join(", ")) }
}
