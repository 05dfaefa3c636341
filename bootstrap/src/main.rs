//! The public entry point of a mesh: a seed node that others meet through, and genesis tooling.
//!
//! A seed routes, answers queries by asking a coordinator, and holds catalog records. It runs no
//! jobs, keeps no ledger and has no accounts to spend from.

mod genesis;

use anyhow::{Context as _, bail};
use archipelag_node::{
    disk::FileDisk,
    environment::{Environment, PoolWorkers, Tasks, TokioExecutor, network_transport},
    home::Home,
    mesh::{self, fetch_genesis},
    node::{Node, Settings},
};
use archipelag_protocol::genesis::Genesis;
use clap::{Args, Parser, Subcommand};
use libp2p::{Multiaddr, identity::Keypair};
use std::{path::PathBuf, sync::Arc};

/// The public entry point of an Archipelag mesh.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example: archipelag-bootstrap run --join /ip4/192.0.2.1/tcp/8422/p2p/12D3Koo…"
)]
struct Arguments {
    /// Where keys and data are kept (default ~/.archipelag).
    #[arg(long, global = true, env = "ARCHIPELAG_HOME")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a seed node until Ctrl-C.
    Run(Run),
    /// Makes a genesis document, or shows one.
    #[command(subcommand)]
    Genesis(genesis::Command),
}

#[derive(Debug, Args)]
struct Run {
    /// The network's genesis document; without it, it is fetched from the node to join.
    #[arg(long)]
    genesis: Option<PathBuf>,
    /// A node of the mesh, its address ending in /p2p/<peer>; may be repeated.
    #[arg(long)]
    join: Vec<Multiaddr>,
    /// Addresses to listen on.
    #[arg(long, default_values = ["/ip4/0.0.0.0/tcp/8422", "/ip4/0.0.0.0/udp/8422/quic-v1"])]
    listen: Vec<Multiaddr>,
    /// Connections from others at a time.
    #[arg(long, default_value_t = 1024)]
    max_connections: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| "warn,archipelag_node=info".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Run(run) => seed(arguments.home, run).await,
        Command::Genesis(command) => genesis::run(arguments.home, command),
    }
}

async fn seed(home: Option<PathBuf>, run: Run) -> anyhow::Result<()> {
    let home = Home::open(home)?;
    let _lock = home.lock()?;
    let identity = home.identity()?;
    let genesis = network_genesis(&run, &identity.node).await?;
    let network = home.save_genesis(&genesis)?;
    let workers = Arc::new(PoolWorkers::start(1)?);
    let environment = Environment {
        transport: network_transport(&identity.node)?,
        disk: Arc::new(FileDisk::new(&home.network_directory(network)?)?),
        executor: Arc::new(TokioExecutor(tokio::runtime::Handle::current())),
        workers,
    };
    let settings = Settings {
        mesh: mesh::Config {
            listen: run.listen,
            bootstrap: run.join,
            mdns: false,
            max_connections: run.max_connections,
        },
        island: None,
        coordinator: false,
    };
    let node = Node::start(settings, &identity, Arc::new(genesis), environment, Vec::new()).await?;
    println!("Network: {network}");
    let peer = identity.node.public().to_peer_id();
    while node.mesh.listen_addresses().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for address in node.mesh.listen_addresses() {
        println!("Join: {address}");
    }
    println!("Ready: seed {peer}; Ctrl-C stops it");
    stop_signal().await?;
    node.stop().await;
    Ok(())
}

async fn network_genesis(run: &Run, key: &Keypair) -> anyhow::Result<Genesis> {
    if let Some(path) = &run.genesis {
        let bytes =
            std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
        return Ok(Genesis::decode(&bytes)?);
    }
    let Some(address) = run.join.first() else {
        bail!("name the network: --genesis FILE, or --join ADDRESS to fetch it from a node");
    };
    let tasks = Tasks::new(Arc::new(TokioExecutor(tokio::runtime::Handle::current())));
    let genesis = fetch_genesis(address, key, network_transport(key)?, &tasks).await;
    tasks.stop().await;
    genesis
}

async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
