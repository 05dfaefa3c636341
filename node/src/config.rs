//! `config.toml`: what an operator sets about a node.
//!
//! Read by `archipelag start` and `up` from the home directory, written once by `init` and `up`
//! with every key explained. Keys that don't exist, values of a wrong type and values out of range
//! are refused with the key's name: a setting is never ignored.

use archipelag_protocol::{
    advert::{MAX_NAME_BYTES, MAX_REGION_BYTES},
    id::NetworkId,
    text::shows,
};
use libp2p::{Multiaddr, multiaddr::Protocol};
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZero,
};
use thiserror::Error;

/// Where the HTTP surface answers by default.
pub const HTTP_PORT: u16 = 8420;
/// Where the mesh listens by default, TCP and UDP.
pub const MESH_PORT: u16 = 8422;
/// Requests that one API key may make in a minute by default (`API.md`).
const REQUESTS_PER_MINUTE: NonZero<u32> = NonZero::new(100).unwrap();
/// Jobs that one Island may run at a time.
const MAX_JOBS: u32 = 10_000;
const MAX_CONNECTIONS: u32 = 100_000;
/// Addresses in one list.
const MAX_ADDRESSES: usize = 32;

/// Why the settings were refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error("{0}")]
    Syntax(String),
    #[error("key `{key}`: {reason}")]
    Key { key: &'static str, reason: String },
}

fn refuse(key: &'static str, reason: impl Into<String>) -> Result<(), Error> {
    Err(Error::Key { key, reason: reason.into() })
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The network whose genesis lies in this home.
    pub network: Option<NetworkId>,
    /// What the Island is called in lists; empty for a part of its node id.
    pub name: String,
    /// Where it stands, as Consumers ask for it.
    pub region: String,
    pub mesh: Mesh,
    pub http: Http,
    pub island: Island,
    pub coordinator: Coordinator,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mesh {
    pub listen: Vec<Multiaddr>,
    /// Nodes to meet the mesh through, each address ending in `/p2p/<peer>`.
    pub join: Vec<Multiaddr>,
    pub mdns: bool,
    pub max_connections: u32,
}

impl Default for Mesh {
    fn default() -> Self {
        Self { listen: loopback(MESH_PORT), join: Vec::new(), mdns: false, max_connections: 256 }
    }
}

/// TCP and QUIC on the loopback address; port 0 takes a free one.
#[must_use]
pub fn loopback(port: u16) -> Vec<Multiaddr> {
    let ip = || Multiaddr::empty().with(Protocol::Ip4(Ipv4Addr::LOCALHOST));
    vec![ip().with(Protocol::Tcp(port)), ip().with(Protocol::Udp(port)).with(Protocol::QuicV1)]
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    pub listen: SocketAddr,
    /// Must be set before `listen` may be an address that other machines reach.
    pub allow_remote: bool,
    /// Requests that one API key may make in a minute.
    pub requests_per_minute: NonZero<u32>,
}

impl Default for Http {
    fn default() -> Self {
        let listen = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, HTTP_PORT));
        Self { listen, allow_remote: false, requests_per_minute: REQUESTS_PER_MINUTE }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Island {
    pub enabled: bool,
    /// Jobs at a time; what is advertised.
    pub max_jobs: u32,
    /// Tightens the memory that the trust level gives a job, in MiB.
    pub memory_mb_max: Option<u32>,
    /// Tightens the time that the trust level gives a job, in seconds.
    pub time_s_max: Option<u32>,
}

impl Default for Island {
    fn default() -> Self {
        Self { enabled: true, max_jobs: cores().max(2), memory_mb_max: None, time_s_max: None }
    }
}

/// Cores that this process may use.
#[must_use]
pub fn cores() -> u32 {
    let found = std::thread::available_parallelism().map_or(1, NonZero::get);
    u32::try_from(found).unwrap_or(MAX_JOBS).min(MAX_JOBS)
}

/// Keeps the ledger when the genesis names this node's operator, or when it stands by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Coordinator {
    pub enabled: bool,
    pub standby: bool,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self { enabled: true, standby: false }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Config {
    /// Reads and checks the text of a settings file.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let config: Self =
            toml::from_str(text).map_err(|e| Error::Syntax(e.to_string().trim_end().to_owned()))?;
        config.validate()?;
        Ok(config)
    }

    /// # Errors
    /// The first key whose value is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        label("name", &self.name, MAX_NAME_BYTES)?;
        label("region", &self.region, MAX_REGION_BYTES)?;
        addresses("mesh.listen", &self.mesh.listen)?;
        addresses("mesh.join", &self.mesh.join)?;
        for address in &self.mesh.join {
            if !matches!(address.iter().last(), Some(Protocol::P2p(_))) {
                return refuse(
                    "mesh.join",
                    format!("{address} names no node: it must end in /p2p/<peer id>"),
                );
            }
        }
        range("mesh.max_connections", self.mesh.max_connections, 1, MAX_CONNECTIONS)?;
        if !self.http.listen.ip().is_loopback() && !self.http.allow_remote {
            let listen = self.http.listen;
            let reason = format!(
                "{listen} is open to other machines; set http.allow_remote = true if you mean it"
            );
            return refuse("http.listen", reason);
        }
        range("island.max_jobs", self.island.max_jobs, 1, MAX_JOBS)?;
        range("island.memory_mb_max", self.island.memory_mb_max.unwrap_or(1), 1, u32::MAX)?;
        range("island.time_s_max", self.island.time_s_max.unwrap_or(1), 1, u32::MAX)
    }

    /// The text of a settings file with these values, every key explained.
    ///
    /// # Errors
    /// Never for a config that validates; TOML has no form for some values of other ones.
    pub fn to_text(&self) -> Result<String, Error> {
        let plain = toml::to_string(self).map_err(|e| Error::Syntax(e.to_string()))?;
        let mut text =
            String::from("# Settings of an Archipelag node. Unknown keys are refused.\n");
        let mut table = String::new();
        for line in plain.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                table = format!("{name}.");
                text.push_str(line);
                text.push('\n');
                continue;
            }
            let key = line.split(" = ").next().unwrap_or("");
            if let Some((_, about)) = ABOUT.iter().find(|(k, _)| *k == format!("{table}{key}")) {
                text.push_str(&format!("# {about}\n"));
            }
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("\n# In [island], memory_mb_max and time_s_max tighten what a trust level gives a job.\n");
        Ok(text)
    }
}

/// What stands above each key in a written file.
const ABOUT: [(&str, &str); 13] = [
    ("network", "The network whose genesis lies in this home."),
    ("name", "What this Island is called in lists; empty for a part of its node id."),
    ("region", "Where it stands, as Consumers ask for it with --region."),
    ("mesh.listen", "Addresses of the mesh. /ip4/0.0.0.0/... is reachable from other machines."),
    ("mesh.join", "Nodes to meet the mesh through, each address ending in /p2p/<peer id>."),
    ("mesh.mdns", "Finds nodes of this network on the local network by itself."),
    ("mesh.max_connections", "Connections to other nodes at a time."),
    ("http.listen", "The HTTP surface; other than loopback only with allow_remote = true."),
    ("island.enabled", "Whether this node runs jobs for others."),
    ("island.max_jobs", "Jobs at a time."),
    ("coordinator.enabled", "Whether it keeps the ledger when the genesis names its operator."),
    ("coordinator.standby", "Whether it keeps the ledger anyway, so that it can be elected."),
    ("log.format", "text or json."),
];

fn label(key: &'static str, value: &str, most: usize) -> Result<(), Error> {
    if value.len() > most {
        return refuse(key, format!("{} bytes, the limit is {most}", value.len()));
    }
    if !shows(value) {
        return refuse(key, "control and invisible characters are not allowed");
    }
    Ok(())
}

fn addresses(key: &'static str, list: &[Multiaddr]) -> Result<(), Error> {
    if list.len() > MAX_ADDRESSES {
        return refuse(key, format!("{} addresses, the limit is {MAX_ADDRESSES}", list.len()));
    }
    Ok(())
}

fn range(key: &'static str, found: u32, least: u32, most: u32) -> Result<(), Error> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    refuse(key, format!("{found}, must be {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!(config, Config::default());
        assert!(config.island.enabled && config.island.max_jobs >= 2);
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:8420");
        let listen: Vec<String> = config.mesh.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["/ip4/127.0.0.1/tcp/8422", "/ip4/127.0.0.1/udp/8422/quic-v1"]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let config = Config {
            network: Some(NetworkId([7; 32])),
            name: "a \"quoted\" # name".into(),
            island: Island { memory_mb_max: Some(64), ..Island::default() },
            ..Config::default()
        };
        let text = config.to_text().unwrap();
        assert_eq!(Config::parse(&text).unwrap(), config);
        for (key, about) in ABOUT {
            assert!(text.contains(about), "{key} is not explained in\n{text}");
        }
    }

    #[test]
    fn every_refusal_names_the_key() {
        let cases = [
            ("colour = 1", "colour"),
            ("[mesh]\nlisten = ['/ip4/1.2.3']", "listen"),
            ("[mesh]\njoin = ['/ip4/127.0.0.1/tcp/1']", "mesh.join"),
            ("[mesh]\nmax_connections = 0", "mesh.max_connections"),
            ("[mesh]\nmax_connections = -1", "max_connections"),
            ("[mesh]\nlisten = 5", "listen"),
            ("[http]\nlisten = '0.0.0.0:8420'", "http.listen"),
            ("[http]\nlisten = 'localhost'", "listen"),
            ("[http]\nport = 1", "port"),
            ("[island]\nmax_jobs = 0", "island.max_jobs"),
            ("[island]\nmax_jobs = 10001", "island.max_jobs"),
            ("[island]\ntime_s_max = 0", "island.time_s_max"),
            ("[island]\nmemory_mb_max = 0", "island.memory_mb_max"),
            ("[log]\nformat = 'xml'", "format"),
            ("[coordinator]\nenabled = 'yes'", "enabled"),
            ("network = 'ab'", "network"),
            ("name = \"a\\nb\"", "name"),
            (&format!("region = '{}'", "x".repeat(33)), "region"),
        ];
        for (text, key) in cases {
            let message = Config::parse(text).expect_err(text).to_string();
            assert!(message.contains(key), "{text}: {message}");
        }
    }

    #[test]
    fn a_public_address_needs_a_second_word() {
        let text = "[http]\nlisten = '0.0.0.0:8420'\nallow_remote = true";
        assert!(Config::parse(text).is_ok());
    }
}
