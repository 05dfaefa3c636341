//! The home directory of a node: identities, genesis, the local API key, the lock.
//!
//! The command line opens it, `node` and `serve` read from it. Every file is written whole or not
//! at all (temporary file, fsync, rename); key files are readable by their owner alone, and one
//! that others can read is refused. It holds no ledger, jobs or catalog: those are in redb files
//! under the network's directory, opened by whoever owns them.

mod files;

use archipelag_protocol::{genesis::Genesis, id::NetworkId, sign::SecretKey};
use libp2p::{Multiaddr, identity::Keypair};
use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};
use thiserror::Error;

/// The environment variable that moves the home directory.
pub const ENVIRONMENT: &str = "ARCHIPELAG_HOME";

const NODE_KEY: &str = "node.key";
const OPERATOR_KEY: &str = "operator.key";
const CONSUMER_KEY: &str = "consumer.key";
const API_KEY: &str = "api.key";
const CONFIG: &str = "config.toml";
const GENESIS: &str = "genesis.cbor";
const HTTP_ADDRESS: &str = "http.addr";
const MESH_ADDRESS: &str = "mesh.addr";
const LOCK: &str = "lock";
/// Consumers without a node that keep their holds, at a time.
const MAX_LIGHT: u32 = 16;

/// Why the home directory can't be used.
#[derive(Debug, Error)]
pub enum Error {
    #[error("there is no home directory: set {ENVIRONMENT} or pass --home DIR")]
    NoHome,
    #[error("{}: {reason}", path.display())]
    Io { path: PathBuf, reason: io::Error },
    #[error("{}: others on this machine can read or write it; run `chmod {wanted:o} {}`", path.display(), path.display())]
    Exposed { path: PathBuf, wanted: u32 },
    #[error("{}: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("{}: a node{} runs on this home already; stop it, or pass another --home DIR", path.display(), pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Running { path: PathBuf, pid: Option<u32> },
    #[error("the operating system gives no randomness: {0}")]
    Entropy(getrandom::Error),
}

/// The keys of a node.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who the node is in the mesh.
    pub node: Keypair,
    /// Earns as an Island, publishes, votes as a coordinator.
    pub operator: SecretKey,
    /// Pays for what this node's HTTP keys and command line run.
    pub consumer: SecretKey,
}

/// An opened home directory.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// Held by the one node that runs on a home; let go when dropped, also by a crash.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl Home {
    /// Opens `chosen`, else what `ARCHIPELAG_HOME` names, else `~/.archipelag`; creates it when it
    /// is missing.
    ///
    /// # Errors
    /// When it can't be created or others can write to it.
    pub fn open(chosen: Option<PathBuf>) -> Result<Self, Error> {
        let path = match chosen.or_else(|| std::env::var_os(ENVIRONMENT).map(PathBuf::from)) {
            Some(path) => path,
            None => std::env::home_dir()
                .filter(|home| !home.as_os_str().is_empty())
                .ok_or(Error::NoHome)?
                .join(".archipelag"),
        };
        files::create_directory(&path)?;
        Ok(Self(path))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether no identity has been made here yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        !self.file(CONSUMER_KEY).exists()
    }

    /// The keys; each is made at its first use.
    ///
    /// # Errors
    /// When a key file is readable by others, malformed, or can't be written.
    pub fn identity(&self) -> Result<Identity, Error> {
        let path = self.file(NODE_KEY);
        let seed = seed_file(&path, "The node's identity in the mesh")?;
        let node = Keypair::ed25519_from_bytes(seed)
            .map_err(|e| Error::Malformed { path, reason: e.to_string() })?;
        let operator = seed_file(
            &self.file(OPERATOR_KEY),
            "The operator's account: Island earnings, publishing, coordinator votes",
        )?;
        Ok(Identity { node, operator: SecretKey::from_seed(operator), consumer: self.consumer()? })
    }

    /// The account that pays for what is run from here.
    ///
    /// # Errors
    /// As [`Home::identity`].
    pub fn consumer(&self) -> Result<SecretKey, Error> {
        let about = "The consumer account: pays for what this node's API keys run";
        seed_file(&self.file(CONSUMER_KEY), about).map(SecretKey::from_seed)
    }

    /// The bearer key of the local command line, made at its first use.
    ///
    /// # Errors
    /// As [`Home::identity`].
    pub fn api_key(&self) -> Result<String, Error> {
        let path = self.file(API_KEY);
        if let Some(text) = files::read_secret(&path)? {
            let key = text.lines().map(str::trim).find(|line| line.starts_with("ak_"));
            return key.map(str::to_owned).ok_or_else(|| Error::Malformed {
                path,
                reason: "no line starts with ak_; delete the file to get a new key".into(),
            });
        }
        let key = format!("ak_{}", hex(&random()?));
        let text =
            format!("# Archipelag: the local command line's own API key. Keep it secret.\n{key}\n");
        if files::write_secret(&path, text.as_bytes())? { Ok(key) } else { self.api_key() }
    }

    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.file(CONFIG)
    }

    /// The settings file's text; `None` when there is none.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn config_text(&self) -> Result<Option<String>, Error> {
        files::read_text(&self.config_path())
    }

    /// # Errors
    /// When it can't be written.
    pub fn write_config(&self, text: &str) -> Result<(), Error> {
        files::write(&self.config_path(), text.as_bytes())
    }

    /// Where a network's stores lie.
    ///
    /// # Errors
    /// When it can't be created.
    pub fn network_directory(&self, network: NetworkId) -> Result<PathBuf, Error> {
        let path = self.0.join(&network.to_string()[..16]);
        files::create_directory(&path)?;
        Ok(path)
    }

    /// A network's genesis; `None` when this home has never seen the network.
    ///
    /// # Errors
    /// When the file is there but is not that network's genesis.
    pub fn genesis(&self, network: NetworkId) -> Result<Option<Genesis>, Error> {
        let path = self.0.join(&network.to_string()[..16]).join(GENESIS);
        let Some(bytes) = files::read(&path, archipelag_protocol::limits::MAX_GENESIS_BYTES)?
        else {
            return Ok(None);
        };
        let wrong = |path: PathBuf, reason| Error::Malformed { path, reason };
        let genesis = Genesis::decode(&bytes).map_err(|e| wrong(path.clone(), e.to_string()))?;
        match genesis.network() {
            Ok(found) if found == network => Ok(Some(genesis)),
            Ok(found) => Err(wrong(path, format!("it is the genesis of {found}"))),
            Err(error) => Err(wrong(path, error.to_string())),
        }
    }

    /// Keeps `genesis` and gives its network.
    ///
    /// # Errors
    /// When it can't be encoded or written.
    pub fn save_genesis(&self, genesis: &Genesis) -> Result<NetworkId, Error> {
        let wrong = |e: archipelag_protocol::codec::Error| Error::Malformed {
            path: self.file(GENESIS),
            reason: e.to_string(),
        };
        let (network, bytes) =
            (genesis.network().map_err(wrong)?, genesis.to_bytes().map_err(wrong)?);
        files::write(&self.network_directory(network)?.join(GENESIS), &bytes)?;
        Ok(network)
    }

    /// Claims this home for the one node that may run on it.
    ///
    /// # Errors
    /// [`Error::Running`] with the process that has it.
    pub fn lock(&self) -> Result<Lock, Error> {
        match lock_file(&self.file(LOCK))? {
            Ok(lock) => Ok(lock),
            Err(pid) => Err(Error::Running { path: self.0.clone(), pid }),
        }
    }

    /// Where a Consumer without a node keeps its holds, claimed: processes that run at the same
    /// time have one each, and later ones find their holds there. `None` when [`MAX_LIGHT`] are
    /// running.
    ///
    /// # Errors
    /// When it can't be created.
    pub fn light_directory(&self, network: NetworkId) -> Result<Option<(PathBuf, Lock)>, Error> {
        let all = self.network_directory(network)?.join("light");
        for number in 0..MAX_LIGHT {
            let path = all.join(number.to_string());
            files::create_directory(&path)?;
            if let Ok(lock) = lock_file(&path.join(LOCK))? {
                return Ok(Some((path, lock)));
            }
        }
        Ok(None)
    }

    /// Where the running node answers HTTP; `None` when none has said so.
    ///
    /// # Errors
    /// When the file can't be read or is malformed.
    pub fn http_address(&self) -> Result<Option<SocketAddr>, Error> {
        self.address(HTTP_ADDRESS)
    }

    /// Where the running node is dialled, `/p2p/<peer>` included; `None` when none has said so.
    ///
    /// # Errors
    /// When the file can't be read or is malformed.
    pub fn mesh_address(&self) -> Result<Option<Multiaddr>, Error> {
        self.address(MESH_ADDRESS)
    }

    fn address<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.file(name);
        let Some(text) = files::read_text(&path)? else { return Ok(None) };
        let malformed =
            |e: T::Err| Error::Malformed { path, reason: format!("{e}; delete the file") };
        text.trim().parse().map(Some).map_err(malformed)
    }

    /// Says where this node can be reached, for the command line.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_addresses(&self, http: SocketAddr, mesh: Option<&Multiaddr>) -> Result<(), Error> {
        if let Some(mesh) = mesh {
            files::write(&self.file(MESH_ADDRESS), format!("{mesh}\n").as_bytes())?;
        }
        files::write(&self.file(HTTP_ADDRESS), format!("{http}\n").as_bytes())
    }

    /// Takes back what [`Home::write_addresses`] said.
    ///
    /// # Errors
    /// When a file is there and can't be removed.
    pub fn remove_addresses(&self) -> Result<(), Error> {
        for name in [HTTP_ADDRESS, MESH_ADDRESS] {
            let path = self.file(name);
            match fs::remove_file(&path) {
                Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Io { path, reason });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The lock, or the process that has it.
fn lock_file(path: &Path) -> Result<Result<Lock, Option<u32>>, Error> {
    let io = |reason| Error::Io { path: path.to_owned(), reason };
    let mut file = files::open_secret(path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for a message: an unreadable one leaves it out.
            let _read = file.take(16).read_to_string(&mut pid);
            return Ok(Err(pid.trim().parse().ok()));
        }
        Err(TryLockError::Error(reason)) => return Err(io(reason)),
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(Ok(Lock(file)))
}

fn random() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(Error::Entropy)?;
    Ok(bytes)
}

fn hex(bytes: &[u8; 32]) -> String {
    archipelag_protocol::id::ContentId(*bytes).to_string()
}

/// Makes a new account and keeps its key in `path`, which must not exist.
///
/// # Errors
/// When it exists or can't be written.
pub fn new_account(path: &Path) -> Result<SecretKey, Error> {
    if path.exists() {
        return Err(Error::Malformed { path: path.to_owned(), reason: "it exists already".into() });
    }
    seed_file(path, "An account").map(SecretKey::from_seed)
}

/// Reads a seed, or draws one and writes it.
fn seed_file(path: &Path, about: &str) -> Result<[u8; 32], Error> {
    if let Some(text) = files::read_secret(path)? {
        let digits: Vec<&str> =
            text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        let wrong = |reason: String| Error::Malformed { path: path.to_owned(), reason };
        let [digits] = digits[..] else {
            return Err(wrong("expected one line of 64 hexadecimal digits".into()));
        };
        // The parser's error would quote a part of the key.
        return digits
            .parse()
            .map(|id: archipelag_protocol::id::ContentId| id.0)
            .map_err(|_| wrong("the key is not 64 hexadecimal digits".into()));
    }
    let seed = random()?;
    let text =
        format!("# Archipelag: {about}.\n# Secret: whoever has it is you.\n{}\n", hex(&seed));
    if files::write_secret(path, text.as_bytes())? { Ok(seed) } else { seed_file(path, about) }
}

#[cfg(test)]
mod tests;
