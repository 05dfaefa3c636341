//! Making and showing genesis documents.

use anyhow::{Context as _, anyhow, bail};
use archipelag_node::{home::Home, mesh::identity::node_of};
use archipelag_protocol::{
    amount::Credits,
    genesis::{Allocation, Genesis, Publisher, PublisherTier, Validator},
    id::{AccountId, NodeId},
    limits::MAX_GENESIS_BYTES,
    policy::Policy,
    time::Timestamp,
};
use clap::{Args, Subcommand};
use std::{io::Read, path::PathBuf, str::FromStr, time::SystemTime};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes a genesis document.
    #[command(
        after_help = "Example: archipelag-bootstrap genesis new --name ours --validator <account>:<node> --allocate <account>=1000 --out genesis.cbor"
    )]
    New(New),
    /// Prints a genesis document as JSON, with the network's id.
    Show { file: PathBuf },
    /// Makes keys in --home, where there are none, and prints what `genesis new` asks for: the
    /// operator as a validator, and the account from which this home's Consumers pay.
    #[command(after_help = "Example: archipelag-bootstrap --home ~/ours genesis identity")]
    Identity,
}

#[derive(Debug, Args)]
pub(crate) struct New {
    #[arg(long)]
    name: String,
    /// A coordinator: <account>:<node>, as `genesis identity` prints it.
    #[arg(long, required = true)]
    validator: Vec<Pair<':', AccountId, NodeId>>,
    /// Credits that an account starts with: <account>=<credits>.
    #[arg(long)]
    allocate: Vec<Pair<'=', AccountId, Credits>>,
    /// What the treasury starts with.
    #[arg(long, default_value = "1000000")]
    treasury: Credits,
    /// A publisher of tier partner.
    #[arg(long)]
    partner: Vec<AccountId>,
    /// Publishes without review: for development networks.
    #[arg(long)]
    open_publishing: bool,
    /// A number of the network's policy: <field>=<value>, as `genesis show` prints them.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<Pair<'=', String, serde_json::Value>>,
    #[arg(long)]
    out: PathBuf,
}

/// Two values with a separator between them.
#[derive(Clone, Debug)]
pub(crate) struct Pair<const SEPARATOR: char, A, B>(A, B);

impl<const SEPARATOR: char, A, B> FromStr for Pair<SEPARATOR, A, B>
where
    A: FromStr<Err: std::fmt::Display>,
    B: FromStr<Err: std::fmt::Display>,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (a, b) =
            text.split_once(SEPARATOR).ok_or_else(|| format!("there is no {SEPARATOR:?} in it"))?;
        Ok(Self(
            a.parse().map_err(|e: A::Err| e.to_string())?,
            b.parse().map_err(|e: B::Err| e.to_string())?,
        ))
    }
}

pub(crate) fn run(home: Option<PathBuf>, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Identity => identity(home),
        Command::New(new) => write(new),
        Command::Show { file } => {
            let mut bytes = Vec::new();
            std::fs::File::open(&file)
                .with_context(|| format!("can't read {}", file.display()))?
                .take(MAX_GENESIS_BYTES as u64 + 1)
                .read_to_end(&mut bytes)?;
            let genesis = Genesis::decode(&bytes)?;
            println!("{}", serde_json::to_string_pretty(&genesis)?);
            println!("Network: {}", genesis.network()?);
            Ok(())
        }
    }
}

fn identity(home: Option<PathBuf>) -> anyhow::Result<()> {
    let home = Home::open(home)?;
    let _lock = home.lock()?;
    let identity = home.identity()?;
    let node = node_of(identity.node.public().to_peer_id())
        .ok_or_else(|| anyhow!("node.key is not an ed25519 key"))?;
    println!("Validator: {}:{node}", identity.operator.account());
    println!("Consumer: {}", identity.consumer.account());
    Ok(())
}

/// The default policy with some fields set to other values.
fn policy(set: Vec<Pair<'=', String, serde_json::Value>>) -> anyhow::Result<Policy> {
    let mut policy = serde_json::to_value(Policy::default())?;
    for Pair(field, value) in set {
        let pointer = format!("/{}", field.replace('.', "/"));
        let Some(slot) = policy.pointer_mut(&pointer) else {
            bail!("--set {field}: the policy has no such field; `genesis show` prints all of them");
        };
        *slot = value;
    }
    let policy: Policy = serde_json::from_value(policy).context("--set")?;
    Ok(policy)
}

fn write(new: New) -> anyhow::Result<()> {
    if new.out.exists() {
        bail!("{} exists already: a genesis is never changed", new.out.display());
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut policy = policy(new.set)?;
    policy.publishing.open |= new.open_publishing;
    let genesis = Genesis {
        name: new.name,
        created: Timestamp(u64::try_from(since.as_millis())?),
        policy,
        accounts: new
            .allocate
            .into_iter()
            .map(|Pair(account, balance)| Allocation { account, balance })
            .collect(),
        treasury: new.treasury,
        validators: new
            .validator
            .into_iter()
            .map(|Pair(account, node)| Validator { account, node })
            .collect(),
        publishers: new
            .partner
            .into_iter()
            .map(|account| Publisher { account, tier: PublisherTier::Partner })
            .collect(),
    };
    genesis.validate()?;
    std::fs::write(&new.out, genesis.to_bytes()?)
        .with_context(|| format!("can't write {}", new.out.display()))?;
    println!("Network: {}", genesis.network()?);
    Ok(())
}
