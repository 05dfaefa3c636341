//! `archipelag up` and `archipelag start`: this process is a node until it is told to stop.

use super::{
    Global,
    client::Client,
    exit::{Failed, Outcome},
    init::{Overrides, prepare},
    input::Input,
    node::Process,
    output::{line, plain},
    run::Run,
};
use serde_json::json;
use std::time::Instant;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  archipelag up\n  archipelag up --run text-stats --file text=README.md --once\n  archipelag --home /tmp/second up --join /ip4/127.0.0.1/tcp/8422/p2p/12D3Koo…"
)]
pub(crate) struct Up {
    #[command(flatten)]
    overrides: Overrides,
    /// Run this Cargo once when the node is ready
    #[arg(long = "run", value_name = "CARGO")]
    cargo: Option<String>,
    #[command(flatten)]
    input: Input,
    /// End after --run, with the run's exit code
    #[arg(long, requires = "cargo")]
    once: bool,
}

impl Up {
    pub(crate) async fn run(self, global: Global) -> Outcome {
        let started = Instant::now();
        if self.cargo.is_none() && (self.input.input.is_some() || !self.input.files.is_empty()) {
            return Err(Failed::usage("--input and --file go with --run"));
        }
        let home = global.open_home()?;
        let _lock = home.lock()?;
        let prepared = prepare(&home, &self.overrides).await?;
        let name = plain(&prepared.genesis.name);
        let process = Process::start(&home, prepared).await?;
        announce(&ready(&process, &name, started, global.json).await);
        let ran = match self.cargo {
            Some(cargo) => {
                let client = Client::new(&process.url(), Some(process.key.clone()))?;
                let run = Run::plain(cargo, self.input);
                tokio::select! {
                    ran = run.by_http(&client, global.json) => ran,
                    signal = terminated() => signal,
                }
            }
            None => Ok(()),
        };
        if !self.once {
            if let Err(failed) = &ran
                && !failed.message.is_empty()
            {
                eprintln!("error: {failed}");
            }
            Process::wait_for_signal().await?;
        }
        eprintln!("stopping");
        process.stop().await?;
        if self.once { ran } else { Ok(()) }
    }
}

/// SIGTERM alone: Ctrl-C during a run cancels the run.
async fn terminated() -> Outcome {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            terminate.recv().await;
            return Err(Failed::new(super::exit::Exit::JobFailed, "stopped"));
        }
    }
    std::future::pending().await
}

/// What the operator needs to know, once.
async fn ready(process: &Process, name: &str, started: Instant, as_json: bool) -> String {
    let (url, network) = (process.url(), process.node.mesh.network());
    let join = process.addresses().await;
    let elapsed = started.elapsed();
    if as_json {
        let ready = json!({
            "network": network, "network_name": name, "node": process.node.mesh.node(),
            "url": url, "api_key": process.key, "join": join,
            "ready_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        });
        return ready.to_string();
    }
    let join: String = join.iter().map(|address| format!("Join:     {address}\n")).collect();
    let (network, key, home) = (&network.to_string()[..16], &process.key, home_flag());
    let seconds = elapsed.as_secs_f64();
    format!(
        "Network:  {name} ({network})\nURL:      {url}\nAPI key:  {key}\n{join}\
         Ready in {seconds:.2} s. Ctrl-C stops it. Now try, in another terminal:\n  \
         archipelag{home} cargo list\n  \
         archipelag{home} run text-stats --input '{{\"text\": \"to be or not to be\", \"stream\": true}}'\n  \
         archipelag{home} status"
    )
}

/// Prints what a node says of itself. It goes on when nobody reads it.
fn announce(text: &str) {
    let _unread = line(text);
}

/// What commands need to find this node's home.
fn home_flag() -> String {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--home").skip(1);
    arguments.next().map_or_else(String::new, |home| format!(" --home {home}"))
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  archipelag init && archipelag start")]
pub(crate) struct Start {}

impl Start {
    pub(crate) async fn run(self, global: Global) -> Outcome {
        let started = Instant::now();
        let home = global.open_home()?;
        if home.config_text()?.is_none() {
            return Err(Failed::usage(format!(
                "{} is missing: write it with `archipelag init`, or use `archipelag up`",
                home.config_path().display()
            )));
        }
        let _lock = home.lock()?;
        let prepared = prepare(&home, &Overrides::default()).await?;
        let process = Process::start(&home, prepared).await?;
        let ready = json!({
            "url": process.url(), "node": process.node.mesh.node(), "join": process.addresses().await,
            "ready_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        if global.json {
            announce(&ready.to_string());
        } else {
            announce(&format!("Ready: {}, node {}", process.url(), process.node.mesh.node()));
        }
        Process::wait_for_signal().await?;
        process.stop().await
    }
}
