//! `archipelag ledger proof` and `ledger verify --proof`: what the ledger has of something, in a
//! form that needs no trust in the node that gave it.

use super::{
    Global,
    exit::{Exit, Failed, Outcome},
    light::Light,
    output::{self, pairs},
};
use archipelag_protocol::{
    amount::Credits,
    catalog::{Counters, Record},
    genesis::Genesis,
    id::{AccountId, CargoId, HoldId},
    ledger::{
        Account, Epoch, Hold, IslandStanding, Key, Proven, Stake, Trust, ValidatorSet,
        light::Document, state::Slug,
    },
    limits::{MAX_GENESIS_BYTES, MAX_PROOF_BYTES},
};
use clap::Subcommand;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{fs, io::Read as _, path::Path};

/// What a proof is about. Amounts in what it shows are microcredits.
#[derive(Debug, Subcommand)]
pub(crate) enum Of {
    /// An account's balance, nonce, tier, holds and Cargos
    #[command(after_help = "Example:\n  archipelag ledger proof account 3b6a27bc…")]
    Account { id: AccountId },
    /// A hold and what was taken from it
    #[command(after_help = "Example:\n  archipelag ledger proof hold 3b6a27bc…")]
    Hold { id: HoldId },
    /// The record of a Cargo version
    #[command(after_help = "Example:\n  archipelag ledger proof cargo 3b6a27bc…")]
    Cargo { id: CargoId },
    /// How the executions of a Cargo version went
    #[command(after_help = "Example:\n  archipelag ledger proof counters 3b6a27bc…")]
    Counters { id: CargoId },
    /// Who owns a slug, and its versions
    #[command(after_help = "Example:\n  archipelag ledger proof slug text-stats")]
    Slug { slug: String },
    /// An Island's karma and earnings
    #[command(after_help = "Example:\n  archipelag ledger proof island 3b6a27bc…")]
    Island { account: AccountId },
    /// What the treasury holds
    #[command(after_help = "Example:\n  archipelag ledger proof treasury")]
    Treasury,
    /// Who decides the next block
    #[command(after_help = "Example:\n  archipelag ledger proof validators")]
    Validators,
    /// What an account has at stake in the elections, and whom it approves of
    #[command(after_help = "Example:\n  archipelag ledger proof stake 3b6a27bc…")]
    Stake { account: AccountId },
    /// When the next election is, and which validators are absent
    #[command(after_help = "Example:\n  archipelag ledger proof epoch")]
    Epoch,
}

impl From<Of> for Key {
    fn from(of: Of) -> Self {
        match of {
            Of::Account { id } => Self::Account(id),
            Of::Hold { id } => Self::Hold(id),
            Of::Cargo { id } => Self::Cargo(id),
            Of::Counters { id } => Self::Counters(id),
            Of::Slug { slug } => Self::Slug(slug),
            Of::Island { account } => Self::Island(account),
            Of::Treasury => Self::Treasury,
            Of::Validators => Self::Validators,
            Of::Stake { account } => Self::Stake(account),
            Of::Epoch => Self::Epoch,
        }
    }
}

fn wrong(reason: impl std::fmt::Display) -> Failed {
    Failed::new(Exit::JobFailed, format!("the proof does NOT hold: {reason}"))
}

/// Gets a proof from a coordinator, checks it, shows it and writes it to `out`.
pub(crate) async fn prove(light: &Light, of: Of, out: Option<&Path>, as_json: bool) -> Outcome {
    let key = Key::from(of);
    let proven = light.ledger.prove(key.clone()).await?;
    light.ledger.know(&proven.header).await;
    let handovers = light.mesh.handovers(proven.header.height);
    let document = Document { key, proven, handovers };
    let value = check(&light.mesh.trust(), &document)?;
    if let Some(path) = out {
        let bytes = document.to_bytes().map_err(wrong)?;
        fs::write(path, bytes)
            .map_err(|e| Failed::usage(format!("--out {}: {e}", path.display())))?;
    }
    show(&document, &value, as_json)
}

/// Checks a proof in a file, by a genesis document and nothing else.
pub(crate) fn verify(global: &Global, file: &Path, genesis: Option<&Path>) -> Outcome {
    let bytes = read("--proof", file, MAX_PROOF_BYTES)?;
    let document = Document::decode(&bytes).map_err(wrong)?;
    let network = document.proven.header.network;
    let genesis = match genesis {
        Some(path) => Genesis::decode(&read("--genesis", path, MAX_GENESIS_BYTES)?)
            .map_err(|e| Failed::usage(format!("--genesis {}: {e}", path.display())))?,
        None => global.open_home()?.genesis(network)?.ok_or_else(|| {
            Failed::usage(format!(
                "this home has no genesis of network {network}: name one that you trust with --genesis FILE"
            ))
        })?,
    };
    let trust = document.trust(Trust::genesis(&genesis).map_err(wrong)?).map_err(wrong)?;
    let value = check(&trust, &document)?;
    show(&document, &value, global.json)
}

fn read(option: &str, path: &Path, limit: usize) -> Outcome<Vec<u8>> {
    let failed = |e: std::io::Error| Failed::usage(format!("{option} {}: {e}", path.display()));
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// What the proof proves; null for no entry.
fn check(trust: &Trust, document: &Document) -> Outcome<Value> {
    fn value<T: DeserializeOwned + Serialize>(
        trust: &Trust,
        Document { key, proven, .. }: &Document,
    ) -> Outcome<Value> {
        let value: Option<T> = proven.verify(trust, key).map_err(wrong)?;
        serde_json::to_value(value).map_err(wrong)
    }
    match &document.key {
        Key::Network => value::<archipelag_protocol::id::NetworkId>(trust, document),
        Key::Minted | Key::Treasury => value::<Credits>(trust, document),
        Key::Validators => value::<ValidatorSet>(trust, document),
        Key::Account(_) => value::<Account>(trust, document),
        Key::Hold(_) => value::<Hold>(trust, document),
        Key::Cargo(_) => value::<Record>(trust, document),
        Key::Counters(_) => value::<Counters>(trust, document),
        Key::Slug(_) => value::<Slug>(trust, document),
        Key::Island(_) => value::<IslandStanding>(trust, document),
        Key::Stake(_) => value::<Stake>(trust, document),
        Key::Epoch => value::<Epoch>(trust, document),
    }
}

fn show(document: &Document, value: &Value, as_json: bool) -> Outcome {
    let Proven { header, certificate, proof } = &document.proven;
    if as_json {
        return output::json(&json!({
            "key": document.key, "value": value, "network": header.network,
            "height": header.height, "time_ms": header.time.0, "state": header.state,
            "votes": certificate.votes.len(), "siblings": proof.path.siblings.len(), "holds": true,
        }));
    }
    let entry = match value {
        Value::Null => "nothing: there is no such entry".into(),
        value => value.to_string(),
    };
    pairs(&[
        ("entry", serde_json::to_string(&document.key).map_err(wrong)?),
        ("value", entry),
        ("at height", header.height.to_string()),
        ("block time", format!("{} ms", header.time.0)),
        ("state", header.state.to_string()),
        ("decided by", format!("{} votes", certificate.votes.len())),
        ("verdict", "it follows from the genesis document".into()),
    ])
}
