//! `archipelag init`, and what `up` and `init` share: identity, network and settings of a home.

use super::{
    Global,
    exit::{Failed, Outcome},
    output::{Progress, line, plain},
};
use crate::{
    config::{Config, HTTP_PORT, loopback},
    environment::{Tasks, TokioExecutor, network_transport},
    home::{Home, Identity},
    mesh::{self, identity},
};
use archipelag_protocol::{
    amount::Credits,
    genesis::{Allocation, Genesis, Publisher, PublisherTier, Validator},
    id::NetworkId,
    limits::MAX_GENESIS_BYTES,
    policy::{Policy, PublishingPolicy},
};
use libp2p::Multiaddr;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a development network starts with.
const DEVELOPMENT_TREASURY: Credits = Credits::from_whole(1_000_000);
const DEVELOPMENT_CONSUMER: Credits = Credits::from_whole(10_000);
/// Ports that are tried for a second node on one machine.
const HTTP_PORTS: u16 = 80;

/// Settings that can be given on the command line. In a new home they are kept.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Overrides {
    /// Where HTTP answers [default: 127.0.0.1:8420; with --join the first free port from there]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Let --http be an address that other machines reach
    #[arg(long, requires = "http")]
    allow_remote: bool,
    /// Where the mesh listens; may be repeated [default: port 8422 on loopback, TCP and QUIC; with
    /// --join free ports]
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<Multiaddr>,
    /// A node of the mesh to join, its address ending in /p2p/<peer id>; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    join: Vec<Multiaddr>,
    /// The network's genesis document, made by `archipelag-bootstrap genesis new`
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// What this Island is called in lists
    #[arg(long)]
    name: Option<String>,
    /// Where it stands, as Consumers ask for it
    #[arg(long)]
    region: Option<String>,
    /// Run no jobs for others
    #[arg(long)]
    no_island: bool,
    /// Keep the ledger without a seat, so that this node's operator can be elected to one
    #[arg(long)]
    standby: bool,
    /// Find nodes of the network on the local network
    #[arg(long)]
    mdns: bool,
}

impl Overrides {
    fn apply(&self, config: &mut Config) -> Outcome {
        if let Some(http) = self.http {
            config.http.listen = http;
        }
        config.http.allow_remote |= self.allow_remote;
        if !self.listen.is_empty() {
            config.mesh.listen.clone_from(&self.listen);
        }
        for join in &self.join {
            if !config.mesh.join.contains(join) {
                config.mesh.join.push(join.clone());
            }
        }
        if let Some(name) = &self.name {
            config.name.clone_from(name);
        }
        if let Some(region) = &self.region {
            config.region.clone_from(region);
        }
        config.island.enabled &= !self.no_island;
        config.coordinator.standby |= self.standby;
        config.mesh.mdns |= self.mdns;
        config.validate().map_err(|error| Failed::usage(error.to_string()))
    }
}

/// A home that a node can start from.
pub(crate) struct Prepared {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) genesis: Genesis,
    pub(crate) network: NetworkId,
}

/// Reads the home's settings, and makes what is missing. The caller holds the home's lock.
pub(crate) async fn prepare(home: &Home, overrides: &Overrides) -> Outcome<Prepared> {
    let identity = home.identity()?;
    let text = home.config_text()?;
    let mut config = match &text {
        Some(text) => Config::parse(text)?,
        None => first_config(overrides),
    };
    if let Some(network) = config.network {
        overrides.apply(&mut config)?;
        let genesis = known_genesis(home, network)?;
        if let Some(path) = &overrides.genesis
            && read_genesis(path)? != genesis
        {
            return Err(Failed::usage(format!(
                "--genesis {}: this home belongs to network {:?} ({network}); use another --home for another network",
                path.display(),
                genesis.name
            )));
        }
        check_join(&overrides.join, &identity, network).await?;
        return Ok(Prepared { config, identity, genesis, network });
    }
    overrides.apply(&mut config)?;
    let genesis = new_genesis(overrides, &config, &identity).await?;
    let network = home.save_genesis(&genesis)?;
    config.network = Some(network);
    match text {
        // Somebody wrote it: what they wrote stays as it is.
        Some(text) => home.write_config(&format!("network = \"{network}\"\n{text}"))?,
        None => home.write_config(&config.to_text()?)?,
    }
    Ok(Prepared { config, identity, genesis, network })
}

/// The settings of a home that has none.
fn first_config(overrides: &Overrides) -> Config {
    let mut config = Config::default();
    if !overrides.join.is_empty() {
        // Likely not the only node on this machine.
        config.mesh.listen = loopback(0);
        config.http.listen = free_http();
    }
    config
}

fn free_http() -> SocketAddr {
    let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let free = |port: &u16| TcpListener::bind(at(*port)).is_ok();
    at((HTTP_PORT..HTTP_PORT + HTTP_PORTS).find(free).unwrap_or(HTTP_PORT))
}

fn known_genesis(home: &Home, network: NetworkId) -> Outcome<Genesis> {
    home.genesis(network)?.ok_or_else(|| {
        let config = home.config_path();
        Failed::usage(format!(
            "{}: key `network`: this home has no genesis of {network}; remove the key and `archipelag init --join` or --genesis FILE",
            config.display()
        ))
    })
}

async fn new_genesis(
    overrides: &Overrides,
    config: &Config,
    identity: &Identity,
) -> Outcome<Genesis> {
    if let Some(path) = &overrides.genesis {
        return read_genesis(path);
    }
    match config.mesh.join.first() {
        Some(address) => {
            let _progress = Progress::start("fetching the network's genesis");
            fetch(address, identity).await
        }
        None => development(identity),
    }
}

fn read_genesis(path: &Path) -> Outcome<Genesis> {
    use std::io::Read as _;
    let wrong = |reason: String| Failed::usage(format!("--genesis {}: {reason}", path.display()));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| wrong(e.to_string()))?;
    let read = file.take(MAX_GENESIS_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| wrong(e.to_string()))?;
    Genesis::decode(&bytes).map_err(|e| wrong(e.to_string()))
}

async fn fetch(address: &Multiaddr, identity: &Identity) -> Outcome<Genesis> {
    let failed = |e: anyhow::Error| Failed::network(format!("{e:#}"));
    let tasks = Tasks::new(Arc::new(TokioExecutor(tokio::runtime::Handle::current())));
    let transport = network_transport(&identity.node).map_err(failed)?;
    let fetched = mesh::fetch_genesis(address, &identity.node, transport, &tasks).await;
    tasks.stop().await;
    fetched.map_err(failed)
}

/// A home has one network: joining a node of another one would never work.
async fn check_join(join: &[Multiaddr], identity: &Identity, network: NetworkId) -> Outcome {
    let Some(address) = join.first() else { return Ok(()) };
    match fetch(address, identity).await {
        Ok(genesis) if genesis.network().ok() != Some(network) => Err(Failed::usage(format!(
            "--join {address}: that node is of the network {:?}, this home is of another; pass another --home DIR",
            plain(&genesis.name)
        ))),
        Ok(_) => Ok(()),
        Err(failed) => {
            tracing::warn!(%address, reason = %failed, "join: not reachable now, trying on");
            Ok(())
        }
    }
}

/// A network of one node: its operator coordinates and publishes, its consumer has credits.
fn development(identity: &Identity) -> Outcome<Genesis> {
    let (operator, consumer) = (identity.operator.account(), identity.consumer.account());
    let node = identity::node_of(identity.node.public().to_peer_id());
    let node = node.ok_or_else(|| Failed::usage("node.key is not an ed25519 key"))?;
    Ok(Genesis {
        name: "dev".into(),
        created: mesh::now(),
        policy: Policy {
            publishing: PublishingPolicy { open: true, ..PublishingPolicy::default() },
            ..Policy::default()
        },
        accounts: vec![Allocation { account: consumer, balance: DEVELOPMENT_CONSUMER }],
        treasury: DEVELOPMENT_TREASURY,
        validators: vec![Validator { account: operator, node }],
        publishers: vec![Publisher { account: operator, tier: PublisherTier::Partner }],
    })
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  archipelag init --name harbour --region eu\n  archipelag init --join /ip4/192.0.2.1/tcp/8422/p2p/12D3Koo…"
)]
pub(crate) struct Init {
    #[command(flatten)]
    overrides: Overrides,
}

impl Init {
    pub(crate) async fn run(self, global: Global) -> Outcome {
        let home = global.open_home()?;
        let _lock = home.lock()?;
        if home
            .config_text()?
            .is_some_and(|text| Config::parse(&text).is_ok_and(|c| c.network.is_some()))
        {
            let path = home.config_path();
            return Err(Failed::usage(format!(
                "{} is there already: edit it, or pass another --home DIR",
                path.display()
            )));
        }
        let prepared = prepare(&home, &self.overrides).await?;
        let (name, identity) = (plain(&prepared.genesis.name), &prepared.identity);
        let (consumer, operator) = (identity.consumer.account(), identity.operator.account());
        if global.json {
            return super::output::json(&serde_json::json!({
                "home": home.path(), "config": home.config_path(), "network": prepared.network,
                "network_name": name, "consumer": consumer, "operator": operator,
            }));
        }
        line(&format!("wrote {}", home.config_path().display()))?;
        line(&format!("network {name:?}: {}", prepared.network))?;
        line(&format!("consumer account {consumer}\noperator account {operator}"))?;
        eprintln!("next: archipelag start");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(Some(directory.path().join("home"))).unwrap();
        (directory, home)
    }

    #[tokio::test]
    async fn a_new_home_gets_a_development_network_and_keeps_it() {
        let (_directory, home) = home();
        let overrides =
            Overrides { name: Some("n".into()), no_island: true, ..Overrides::default() };
        let first = prepare(&home, &overrides).await.unwrap();
        assert!(first.genesis.policy.publishing.open);
        first.genesis.validate().unwrap();
        assert!(first.genesis.validator(first.identity.operator.account()).is_some());
        let again = prepare(&home, &Overrides::default()).await.unwrap();
        assert_eq!((again.network, &again.genesis), (first.network, &first.genesis));
        assert_eq!(again.config, first.config, "what was given the first time is kept");
        assert!(!again.config.island.enabled);
        // Its own document is no other network; another one is.
        let mut other = first.genesis;
        for (name, is_own) in [(other.name.clone(), true), ("other".into(), false)] {
            other.name = name;
            let file = home.path().join("given.cbor");
            std::fs::write(&file, other.to_bytes().unwrap()).unwrap();
            let given = Overrides { genesis: Some(file), ..Overrides::default() };
            match prepare(&home, &given).await {
                Ok(_) => assert!(is_own, "another network's document was ignored"),
                Err(error) => assert!(!is_own && error.message.contains("another --home")),
            }
        }
    }

    #[tokio::test]
    async fn a_written_file_keeps_its_text_and_gets_the_network() {
        let (_directory, home) = home();
        home.write_config("# mine\nregion = \"eu\"\n[log]\nformat = \"json\"\n").unwrap();
        let prepared = prepare(&home, &Overrides::default()).await.unwrap();
        let text = home.config_text().unwrap().unwrap();
        assert!(text.contains("# mine"));
        let config = Config::parse(&text).unwrap();
        assert_eq!(config.network, Some(prepared.network));
        assert_eq!(config.region, "eu");
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused_before_anything_is_written() {
        let (_directory, home) = home();
        let http = Some("0.0.0.0:1".parse().unwrap());
        let open = Overrides { http, ..Overrides::default() };
        assert!(prepare(&home, &open).await.err().unwrap().message.contains("http.listen"));
        let join = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
        let nobody = Overrides { join, ..Overrides::default() };
        assert!(prepare(&home, &nobody).await.err().unwrap().message.contains("/p2p/"));
        assert!(home.config_text().unwrap().is_none());
        let mut other = development(&home.identity().unwrap()).unwrap();
        other.name = String::new();
        let file = home.path().join("bad.cbor");
        std::fs::write(&file, other.to_bytes().unwrap()).unwrap();
        let bad = Overrides { genesis: Some(file), ..Overrides::default() };
        assert!(prepare(&home, &bad).await.err().unwrap().message.contains("name"));
    }
}
