//! `archipelag cargo`: find, write, check and publish Cargos.

use super::{
    Global,
    client::{Client, data},
    exit::{Exit, Failed, Outcome},
    output::{self, Progress, Table, line, pairs, plain},
    run::parse_cargo,
    target::Target,
};
use crate::{
    api,
    environment::{InlineWorkers, TokioExecutor},
    project::{self, Project, Report},
};
use archipelag_protocol::{
    amount::Credits,
    limits::MAX_PAGE,
    manifest::{Manifest, RuntimeType},
};
use archipelag_runtimes::{
    runtime::Runtime,
    wasm::{self, WasmRuntime},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Subcommand;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How long `publish --wait` waits for the catalog.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
/// Pages of the catalog that are read.
const MAX_PAGES: usize = 100;

#[derive(Debug, Subcommand)]
pub(crate) enum Cargo {
    /// What can be run, and for how much
    #[command(after_help = "Example:\n  archipelag cargo list")]
    List,
    /// One Cargo, with its schemas
    #[command(after_help = "Example:\n  archipelag cargo show text-stats")]
    Show { cargo: String },
    /// Write a small working wasm Cargo in Rust to start from; the folder's name is its slug
    #[command(after_help = "Example:\n  archipelag cargo new word-count")]
    New { folder: PathBuf },
    /// Validate a folder and run its cases in the sandbox
    #[command(after_help = "Example:\n  archipelag cargo check word-count")]
    Check {
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Publish a folder under the node's operator
    #[command(after_help = "Example:\n  archipelag cargo publish word-count --wait")]
    Publish {
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// Wait until the catalog has it
        #[arg(long)]
        wait: bool,
    },
}

impl Cargo {
    pub(crate) async fn run(self, global: &Global) -> Outcome {
        match self {
            Self::List => list(&all(global).await?, global.json),
            Self::Show { cargo } => show(&one(global, &cargo).await?, global.json),
            Self::New { folder } => new(&folder, global.json),
            Self::Check { folder } => {
                let report = check(&Project::load(&folder)?).await?;
                print(&report, global.json)?;
                verdict(&report)
            }
            Self::Publish { folder, wait } => publish(global, &folder, wait).await,
        }
    }
}

fn new(folder: &std::path::Path, as_json: bool) -> Outcome {
    let files = project::create(folder)?;
    if as_json {
        return output::json(&json!({ "files": files }));
    }
    for file in &files {
        line(&file.display().to_string())?;
    }
    let shown = folder.display();
    eprintln!("next: {shown}/build.sh, then `archipelag cargo check {shown}`");
    Ok(())
}

async fn check(project: &Project) -> Outcome<Report> {
    let _progress = Progress::start(format!("checking {}", project.manifest.label()));
    let runtime = match project.manifest.runtime_type {
        RuntimeType::Wasm => {
            let executor = Arc::new(TokioExecutor(tokio::runtime::Handle::current()));
            let workers = Arc::new(InlineWorkers(executor));
            let config = wasm::Config { jobs_max: 1, ..wasm::Config::default() };
            let runtime = WasmRuntime::new(config, workers);
            Some(runtime.map_err(|e| Failed::usage(e.to_string()))?)
        }
        _ => None,
    };
    let runtime = runtime.as_ref().map(|runtime| runtime as &dyn Runtime);
    project::check(project, runtime).await.map_err(|e| Failed::usage(e.to_string()))
}

fn print(report: &Report, as_json: bool) -> Outcome {
    if as_json {
        let cases = report.cases.iter().map(|case| {
            json!({ "name": case.name, "failure": case.failure, "duration_ms": case.duration_ms })
        });
        return output::json(&json!({
            "cargo": report.cargo, "passed": report.passed(),
            "problems": report.problems, "cases": cases.collect::<Vec<_>>(),
        }));
    }
    for problem in &report.problems {
        line(&format!("FAIL  {}", plain(problem)))?;
    }
    for case in &report.cases {
        match &case.failure {
            None => line(&format!("pass  {} ({} ms)", case.name, case.duration_ms))?,
            Some(failure) => line(&format!("FAIL  {}: {}", case.name, plain(failure)))?,
        }
    }
    Ok(())
}

fn verdict(report: &Report) -> Outcome {
    if !report.passed() {
        return Err(Failed::new(Exit::JobFailed, "the Cargo does not pass its check"));
    }
    if report.cases.is_empty() {
        eprintln!("there are no cases: write some in cases/*.json");
    }
    Ok(())
}

async fn publish(global: &Global, folder: &std::path::Path, wait: bool) -> Outcome {
    let client = global.client("archipelag cargo publish")?;
    let project = Project::load(folder)?;
    let report = check(&project).await?;
    if !report.passed() {
        print(&report, global.json)?;
        return verdict(&report);
    }
    let progress = Progress::start(format!("publishing {}", project.manifest.label()));
    let module = (!project.module.is_empty()).then(|| STANDARD.encode(&project.module));
    let body = json!({ "manifest": project.manifest, "module": module });
    let answer = data(client.post("api/v1/node/cargos", &body).await?);
    if wait {
        progress.message("waiting for the catalog");
        wait_for(&client, &project.manifest).await?;
    }
    drop(progress);
    if global.json {
        return output::json(&answer);
    }
    line(&format!("{} is published as {}", project.manifest.label(), report.cargo))?;
    eprintln!("next: archipelag run {} --input '{{…}}'", project.manifest.slug);
    Ok(())
}

async fn wait_for(client: &Client, manifest: &Manifest) -> Outcome {
    let version = manifest.version.to_string();
    let there = async {
        loop {
            let found = client.get(&format!("api/v1/workloads/{}", manifest.slug)).await.map(data);
            match found {
                Ok(cargo) if cargo["version"].as_str() == Some(&version) => return Ok(()),
                Err(failed) if failed.exit == Exit::Network => return Err(failed),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    };
    tokio::time::timeout(CATALOG_TIMEOUT, there).await.unwrap_or_else(|_| {
        Err(Failed::network(format!("{} is not in the catalog yet", manifest.label())))
    })
}

async fn all(global: &Global) -> Outcome<Vec<Value>> {
    match global.target()? {
        Target::Http(client) => {
            let cargos = data(client.get("api/v1/workloads").await?);
            Ok(cargos.as_array().cloned().unwrap_or_default())
        }
        Target::Mesh(_) => {
            let light = global.light().await?;
            let mut cargos = Vec::new();
            let mut after = None;
            for _ in 0..MAX_PAGES {
                let limit = u16::try_from(MAX_PAGE).unwrap_or(u16::MAX);
                let page = light.ledger.catalog(after.take(), limit).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.entry.manifest.value.slug.clone());
                light.ledger.know(&last.entry.header).await;
                let (trust, payout) = (light.mesh.trust(), &light.mesh.genesis().policy.payout);
                // What isn't signed by its publisher and proven is not shown.
                let right = page.iter().filter(|i| i.entry.verify(&trust, payout).is_ok());
                let policy = &light.mesh.genesis().policy.reputation;
                cargos.extend(right.map(|item| api::catalog_item(item, policy)));
            }
            light.stop().await;
            Ok(cargos)
        }
    }
}

async fn one(global: &Global, cargo: &str) -> Outcome<Value> {
    let (slug, version) = parse_cargo(cargo)?;
    match global.target()? {
        Target::Http(client) if version.is_none() => {
            Ok(data(client.get(&format!("api/v1/workloads/{slug}")).await?))
        }
        // The API knows the newest versions alone.
        _ => {
            let light = global.light().await?;
            let resolved = light.catalog.resolve(&slug, version.as_ref()).await;
            light.stop().await;
            Ok(api::cargo(&resolved?.entry))
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The prices that are set, in words.
fn price(cargo: &Value) -> String {
    let set = |field: &str| {
        // A number may come as 1e-6.
        let price: Credits = format!("{:.6}", cargo[field].as_f64()?).parse().ok()?;
        (price != Credits::ZERO).then(|| price.to_string())
    };
    let prices =
        [("price_per_job", "job"), ("price_per_token", "token"), ("price_per_second", "s")];
    let prices = prices.map(|(field, unit)| set(field).map(|price| format!("{price}/{unit}")));
    prices.into_iter().flatten().collect::<Vec<_>>().join(" + ")
}

fn list(cargos: &[Value], as_json: bool) -> Outcome {
    if as_json {
        return output::json(&cargos);
    }
    let mut table = Table::new(["CARGO", "VERSION", "TRUST", "CREDITS", "RUNTIME", "NAME"]);
    for cargo in cargos {
        table.row([
            text(&cargo["slug"]),
            text(&cargo["version"]),
            text(&cargo["trust_level"]),
            price(cargo),
            text(&cargo["runtime_type"]),
            text(&cargo["name"]),
        ]);
    }
    table.print()
}

fn show(cargo: &Value, as_json: bool) -> Outcome {
    if as_json {
        return output::json(cargo);
    }
    let fields =
        ["slug", "version", "name", "description", "runtime_type", "trust_level", "total_jobs"];
    let mut shown: Vec<(&str, String)> = fields.map(|field| (field, text(&cargo[field]))).to_vec();
    shown.insert(6, ("price", price(cargo)));
    pairs(&shown)?;
    for field in ["input_schema", "output_schema"] {
        let schema = match &cargo[field] {
            Value::String(text) => text.clone(),
            schema => schema.to_string(),
        };
        line(&format!("\n{field}: {}", output::harmless(&output::indented(&schema))))?;
    }
    Ok(())
}
