//! `archipelag run`: one job, from input to result.

use super::{
    Global,
    client::{Client, data},
    events::Printer,
    exit::{Failed, Outcome},
    explain, follow,
    input::Input,
    light::Light,
    output::{Progress, plain},
    target::Target,
};
use crate::consumer::{Ended, Request, Running, Update, whole_numbers};
use archipelag_protocol::{
    event::Event,
    id::JobId,
    manifest::{Version, check_slug},
    matching::RegionPolicy,
    payment::Verdict,
};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  archipelag run text-stats --input '{\"text\": \"to be or not to be\", \"stream\": true}'\n  archipelag run document-sha256 --file data=photo.jpg\n  archipelag run json-query --input @query.json --json | jq\n  archipelag --node /ip4/127.0.0.1/tcp/8422/p2p/12D3Koo… run text-stats --file text=README.md"
)]
pub(crate) struct Run {
    /// The Cargo's slug, with @VERSION for another version than the newest
    pub(crate) cargo: String,
    #[command(flatten)]
    pub(crate) input: Input,
    /// Run in this region alone; may be repeated
    #[arg(long, value_name = "REGION", conflicts_with = "prefer_region")]
    region: Vec<String>,
    /// Run in this region if an Island there can, else elsewhere
    #[arg(long, value_name = "REGION")]
    prefer_region: Option<String>,
    /// Say how Islands rank for this job, and why others can't have it, and run nothing
    #[arg(long)]
    explain: bool,
    /// The most to pay, in percent of the Cargo's price
    #[arg(long, value_name = "PERCENT")]
    bid: Option<u16>,
    /// Wait so long for room when every Island that could take it is full; 600 unless told
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u32>,
    /// Cancel the job after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

/// Parses `slug[@version]`.
pub(crate) fn parse_cargo(text: &str) -> Outcome<(String, Option<Version>)> {
    let (slug, version) = match text.split_once('@') {
        Some((slug, version)) => (slug, Some(version)),
        None => (text, None),
    };
    let wrong = |e: archipelag_protocol::manifest::Error| Failed::usage(format!("{text}: {e}"));
    check_slug(slug).map_err(wrong)?;
    Ok((slug.to_owned(), version.map(str::parse).transpose().map_err(wrong)?))
}

impl Run {
    /// A run of `cargo` with `input`, everything else as it is by default.
    pub(crate) fn plain(cargo: String, input: Input) -> Self {
        let (region, prefer_region) = (Vec::new(), None);
        let (bid, wait, timeout) = (None, None, None);
        Self { cargo, input, region, prefer_region, explain: false, bid, wait, timeout }
    }

    pub(crate) async fn run(self, global: &Global) -> Outcome {
        if self.explain {
            return explain::explain(&self, global).await;
        }
        match global.target()? {
            Target::Http(client) => self.by_http(&client, global.json).await,
            Target::Mesh(_) => self.by_mesh(global).await,
        }
    }

    pub(crate) async fn by_http(&self, client: &Client, as_json: bool) -> Outcome {
        let (slug, version) = parse_cargo(&self.cargo)?;
        let schema = if self.input.files.is_empty() {
            String::new()
        } else {
            let cargo = data(client.get(&format!("api/v1/workloads/{slug}")).await?);
            match &cargo["input_schema"] {
                Value::String(text) => text.clone(),
                schema => schema.to_string(),
            }
        };
        let mut body = json!({ "workload": slug, "input": self.input.read(&schema)? });
        if let Some(version) = version {
            body["version"] = version.to_string().into();
        }
        match &self.region[..] {
            [] => {}
            [region] => body["region"] = region.as_str().into(),
            regions => body["regions"] = regions.into(),
        }
        if let Some(region) = &self.prefer_region {
            body["prefer_region"] = region.as_str().into();
        }
        if let Some(bid) = self.bid {
            body["bid_percent"] = bid.into();
        }
        if let Some(wait) = self.wait {
            body["wait_s"] = wait.into();
        }
        let job = {
            let _progress = Progress::start("submitting");
            data(client.post("api/v1/jobs", &body).await?)
        };
        let id = job["id"].as_str().unwrap_or_default().to_owned();
        tracing::debug!(job = %id, "run.submitted");
        let mut printer = Printer::new(as_json);
        let followed = follow::follow(client, &id, &mut printer, self.limit()).await;
        printer.finish()?;
        let job = followed?;
        eprintln!("{}", summary(&job));
        follow::verdict(&job)
    }

    fn limit(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }

    fn regions(&self) -> Outcome<RegionPolicy> {
        let policy = match (&self.prefer_region, &self.region[..]) {
            (Some(region), _) => RegionPolicy::Prefer(region.clone()),
            (None, []) => RegionPolicy::Any,
            (None, regions) => RegionPolicy::Only(regions.to_vec()),
        };
        policy.validate().map_err(|e| Failed::usage(e.to_string()))?;
        Ok(policy)
    }

    pub(crate) async fn request(&self, light: &Light) -> Outcome<Request> {
        let (slug, version) = parse_cargo(&self.cargo)?;
        let resolved = light.catalog.resolve(&slug, version.as_ref()).await?;
        let input = self.input.read(&resolved.entry.manifest.value.input_schema)?;
        let input = whole_numbers(input);
        let (regions, bid_percent) = (self.regions()?, self.bid);
        Ok(Request { slug, version, input, regions, bid_percent, wait_s: self.wait })
    }

    async fn by_mesh(&self, global: &Global) -> Outcome {
        let light = {
            let _progress = Progress::start("dialling");
            global.light().await?
        };
        let ran = self.on(&light, global.json).await;
        light.stop().await;
        ran
    }

    async fn on(&self, light: &Light, as_json: bool) -> Outcome {
        let request = self.request(light).await?;
        let id = new_job()?;
        let mut running = {
            let _progress = Progress::start("submitting");
            light.consumer().await?.submit(&light.wallet, id, request).await?
        };
        let mut printer = Printer::new(as_json);
        let started = std::time::Instant::now();
        let followed = self.updates(&mut running, &mut printer).await;
        printer.finish()?;
        let (ended, island) = followed?;
        let job = json!({
            "id": id, "status": status(ended.verdict), "host_id": island,
            "error_step": ended.failure.as_ref().map(|failure| failure.step),
            "attempts": ended.attempts, "price": ended.price.to_string(),
            "duration_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        eprintln!("{}", summary(&job));
        follow::verdict(&job)
    }

    /// Prints a job's updates until it has ended. Ctrl-C and `--timeout` cancel it.
    async fn updates(
        &self,
        running: &mut Running,
        printer: &mut Printer,
    ) -> Outcome<(Ended, Option<String>)> {
        let limit = self.limit();
        let too_long = async move {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(too_long);
        let mut island = None;
        loop {
            let update = tokio::select! {
                update = running.updates.recv() => update,
                _ = tokio::signal::ctrl_c(), if !running.cancel.is_cancelled() => {
                    printer.note("cancelling");
                    running.cancel.cancel();
                    continue;
                }
                () = &mut too_long, if !running.cancel.is_cancelled() => {
                    printer.note("--timeout is over: cancelling");
                    running.cancel.cancel();
                    continue;
                }
            };
            let printed = match update {
                Some(Update::Started { node, attempt, .. }) => {
                    island = Some(node.to_string());
                    printer.event(&json!({
                        "type": "status", "message": "running", "host_id": node, "attempt": attempt,
                    }).to_string())
                }
                // How the job ended says more than the Cargo's own last line.
                Some(Update::Event(Event::Done { .. } | Event::Error { .. })) => Ok(()),
                Some(Update::Event(event)) => printer.event(&line(&event)),
                Some(Update::Ended(ended)) => {
                    printer.event(&last(&ended))?;
                    return Ok((ended, island));
                }
                None => return Err(Failed::network("the job ended without saying how")),
            };
            // Nobody reads what it says: it need not go on.
            printed.and_then(|()| printer.flush()).inspect_err(|_| running.cancel.cancel())?;
        }
    }
}

fn new_job() -> Outcome<JobId> {
    let mut id = [0; 16];
    let drawn = getrandom::fill(&mut id);
    drawn.map_err(|e| Failed::usage(format!("the operating system gives no randomness: {e}")))?;
    Ok(JobId(id))
}

fn status(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Completed => "completed",
        Verdict::CargoFailed | Verdict::Failed => "failed",
        Verdict::Timeout => "timeout",
        Verdict::Cancelled => "cancelled",
    }
}

/// The event as the API's stream has it.
fn line(event: &Event) -> String {
    match event {
        Event::Image { data, format, width, height } => json!({
            "type": "image", "image_data": data, "format": format, "width": width, "height": height,
        })
        .to_string(),
        other => other.to_line(),
    }
}

fn last(ended: &Ended) -> String {
    let line = match (ended.verdict, &ended.failure) {
        (Verdict::Completed, _) => json!({ "type": "done" }),
        (verdict, failure) => {
            let error = failure.as_ref().map(ToString::to_string).unwrap_or_default();
            json!({ "type": "error", "status": status(verdict), "error": error, "message": error })
        }
    };
    line.to_string()
}

/// One line on how a job went.
fn summary(job: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), plain);
    let mut parts = vec![text(&job["status"])];
    let island = ["host_id", "host", "island"].iter().map(|f| &job[*f]).find(|v| v.is_string());
    if let Some(island) = island {
        parts.push(format!("on {}", text(island).chars().take(8).collect::<String>()));
    }
    match job["attempts"].as_u64() {
        Some(1) => parts.push("1 attempt".into()),
        Some(attempts) => parts.push(format!("{attempts} attempts")),
        None => {}
    }
    let price = [&job["price"], &job["usage"]["credits_used"]]
        .into_iter()
        .find(|v| v.is_string() || v.is_number());
    if let Some(price) = price {
        parts.push(format!("{} credits", text(price)));
    }
    if let Some(ms) = job["duration_ms"].as_u64() {
        parts.push(format!("{ms} ms"));
    }
    parts.push(format!("job {}", text(&job["id"])));
    parts.join(" · ")
}
