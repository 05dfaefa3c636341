//! `archipelag jobs`: the jobs that a node keeps for the account of the key.

use super::{
    Global,
    client::{Client, data},
    events::Printer,
    exit::{Failed, Outcome},
    follow,
    output::{self, Table, harmless, indented, line, pairs},
};
use clap::Subcommand;
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// The newest jobs
    #[command(after_help = "Example:\n  archipelag jobs list --limit 5")]
    List {
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
        #[arg(long, default_value_t = 0)]
        offset: u32,
    },
    /// One job, with its output
    #[command(after_help = "Example:\n  archipelag jobs show 1b4f…")]
    Show { job: String },
    /// A job's events from the start, and on until it ends
    #[command(after_help = "Example:\n  archipelag jobs stream 1b4f… --json")]
    Stream { job: String },
    /// Stop a job
    #[command(after_help = "Example:\n  archipelag jobs cancel 1b4f…")]
    Cancel { job: String },
}

impl Jobs {
    pub(crate) async fn run(self, global: &Global) -> Outcome {
        let client = global.client("archipelag jobs")?;
        match self {
            Self::List { limit, offset } => list(&client, limit, offset, global.json).await,
            Self::Show { job } => {
                let job = data(client.get(&path(&job)?).await?);
                if global.json { output::json(&job) } else { show(&job) }
            }
            Self::Stream { job } => {
                path(&job)?;
                let mut printer = Printer::new(global.json);
                let followed = follow::follow(&client, &job, &mut printer, None).await;
                printer.finish()?;
                follow::verdict(&followed?)
            }
            Self::Cancel { job } => {
                let job = data(client.delete(&path(&job)?).await?);
                if global.json { output::json(&job) } else { line(text(&job["status"])) }
            }
        }
    }
}

/// The path of a job, whose id is hexadecimal: nothing else may get into the URL.
fn path(job: &str) -> Outcome<String> {
    match job.parse::<archipelag_protocol::id::JobId>() {
        Ok(id) => Ok(format!("api/v1/jobs/{id}")),
        Err(error) => Err(Failed::usage(format!("{error}; `archipelag jobs list` shows ids"))),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn number(value: &Value) -> String {
    if value.is_null() { "-".into() } else { value.to_string() }
}

async fn list(client: &Client, limit: u32, offset: u32, as_json: bool) -> Outcome {
    let answer = client.get(&format!("api/v1/jobs?limit={limit}&offset={offset}")).await?;
    if as_json {
        return output::json(&answer);
    }
    let total = answer["meta"]["total"].as_u64();
    let jobs = data(answer);
    let mut table = Table::new(["JOB", "CARGO", "STATUS", "MS", "CREDITS", "CREATED"]);
    let jobs = jobs.as_array().map(Vec::as_slice).unwrap_or_default();
    for job in jobs {
        table.row([
            text(&job["id"]).into(),
            text(&job["workload_slug"]).into(),
            text(&job["status"]).into(),
            number(&job["duration_ms"]),
            number(&job["usage"]["credits_used"]),
            text(&job["created_at"]).into(),
        ]);
    }
    table.print()?;
    if let Some(total) = total.filter(|total| *total > jobs.len() as u64) {
        eprintln!("{} of {total}; --limit and --offset show others", jobs.len());
    }
    Ok(())
}

fn show(job: &Value) -> Outcome {
    let mut known = vec![
        ("job", text(&job["id"]).to_owned()),
        ("cargo", text(&job["workload_slug"]).to_owned()),
        ("status", text(&job["status"]).to_owned()),
        ("created", text(&job["created_at"]).to_owned()),
        (
            "duration",
            job["duration_ms"].as_u64().map_or_else(|| "-".into(), |ms| format!("{ms} ms")),
        ),
        ("credits", number(&job["usage"]["credits_used"])),
    ];
    for (name, field) in [("error", "error"), ("island", "host_id")] {
        if let Some(value) = job[field].as_str() {
            known.push((name, value.to_owned()));
        }
    }
    if let Some(attempts) = job["attempts"].as_u64() {
        known.push(("attempts", attempts.to_string()));
    }
    pairs(&known)?;
    match job["output"].as_str() {
        Some(output) if output.starts_with(['{', '[']) => {
            line(&format!("\n{}", harmless(&indented(output))))
        }
        Some(output) => line(&format!("\n{}", harmless(output))),
        None => Ok(()),
    }
}
