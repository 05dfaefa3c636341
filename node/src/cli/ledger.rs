//! `archipelag ledger`: where it stands, its blocks, and whether every one of them is right.

use super::{
    Global,
    exit::{Exit, Failed, Outcome},
    light::Light,
    output::{self, Progress, Table, pairs},
    proof,
};
use crate::coordinator::follow;
use archipelag_protocol::{
    ledger::{Action, State, transaction},
    limits::MAX_PAGE,
    query::{CertifiedBlock, LedgerStatus},
};
use clap::Subcommand;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Blocks that are asked for at once.
#[expect(clippy::cast_possible_truncation, reason = "a page is far below 65,536")]
const PAGE: u16 = MAX_PAGE as u16;

#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Height, time, what exists and where
    #[command(after_help = "Example:\n  archipelag ledger status")]
    Status,
    /// Blocks with their transactions
    #[command(after_help = "Example:\n  archipelag ledger blocks --from 1 --limit 20")]
    Blocks {
        /// The first height [default: the last blocks]
        #[arg(long)]
        from: Option<u64>,
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
        limit: u16,
    },
    /// Replays every block from the genesis: signatures, links, state roots, conservation
    #[command(
        after_help = "Examples:\n  archipelag ledger verify\n  archipelag ledger verify --proof balance.proof"
    )]
    Verify {
        /// Check a file that `ledger proof` wrote instead; no node is asked
        #[arg(long, value_name = "FILE")]
        proof: Option<PathBuf>,
        /// The genesis document to trust [default: the one that --home has of the proof's network]
        #[arg(long, value_name = "FILE", requires = "proof")]
        genesis: Option<PathBuf>,
    },
    /// Proves what the ledger has of an account, hold, Cargo or Island, or that it has nothing
    #[command(
        after_help = "Examples:\n  archipelag ledger proof account 3b6a27bc…\n  archipelag ledger proof cargo 3b6a27bc… --out cargo.proof"
    )]
    Proof {
        #[command(subcommand)]
        of: proof::Of,
        /// Where to write the proof, for `ledger verify --proof`
        #[arg(long, global = true, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

impl Ledger {
    pub(crate) async fn run(self, global: &Global) -> Outcome {
        if let Self::Verify { proof: Some(file), genesis } = &self {
            return proof::verify(global, file, genesis.as_deref());
        }
        let light = {
            let _progress = Progress::start("dialling");
            global.light().await?
        };
        let outcome = match self {
            Self::Status => status(&light, global.json).await,
            Self::Blocks { from, limit } => blocks(&light, from, limit, global.json).await,
            Self::Verify { .. } => Box::pin(verify(&light, global.json)).await,
            Self::Proof { of, out } => proof::prove(&light, of, out.as_deref(), global.json).await,
        };
        light.stop().await;
        outcome
    }
}

fn status_json(status: &LedgerStatus) -> Value {
    json!({
        "height": status.height, "state": status.state, "time_ms": status.time.0,
        "minted": status.minted.to_string(), "treasury": status.treasury.to_string(),
        "accounts": status.accounts, "holds": status.holds, "cargos": status.cargos,
    })
}

async fn status(light: &Light, as_json: bool) -> Outcome {
    let status = light.ledger.status().await?;
    if as_json {
        let mut answer = status_json(&status);
        answer["network"] = json!(light.mesh.network());
        return output::json(&answer);
    }
    pairs(&[
        ("network", format!("{} ({})", light.mesh.genesis().name, light.mesh.network())),
        ("height", status.height.to_string()),
        ("state", status.state.to_string()),
        ("minted", format!("{} credits", status.minted)),
        ("treasury", format!("{} credits", status.treasury)),
        ("accounts", status.accounts.to_string()),
        ("holds", status.holds.to_string()),
        ("cargos", status.cargos.to_string()),
    ])
}

fn name(action: &Action) -> &'static str {
    match action {
        Action::Transfer { .. } => "transfer",
        Action::OpenHold { .. } => "open_hold",
        Action::TopUp { .. } => "top_up",
        Action::Redeem { .. } => "redeem",
        Action::Settle { .. } => "settle",
        Action::CloseHold { .. } => "close_hold",
        Action::Publish { .. } => "publish",
        Action::Bond { .. } => "bond",
        Action::Unbond { .. } => "unbond",
        Action::Candidate { .. } => "candidate",
        Action::Approve { .. } => "approve",
        Action::Evidence { .. } => "evidence",
    }
}

async fn blocks(light: &Light, from: Option<u64>, limit: u16, as_json: bool) -> Outcome {
    let from = match from {
        Some(from) => from.max(1),
        None => (light.ledger.status().await?.height + 1).saturating_sub(u64::from(limit)).max(1),
    };
    let blocks = light.ledger.blocks(from, limit).await?;
    let hash = |found: &CertifiedBlock| {
        found.block.header.hash().map_err(|e| Failed::network(e.to_string()))
    };
    let mut list = Vec::new();
    let mut table = Table::new(["HEIGHT", "BLOCK", "TIME", "PROPOSER", "VOTES", "TRANSACTIONS"]);
    for found in &blocks {
        let (header, hash) = (&found.block.header, hash(found)?);
        let transactions = &found.block.transactions;
        let actions: Vec<&str> = transactions.iter().map(|t| name(&t.value.action)).collect();
        let votes = found.certificate.votes.len();
        if as_json {
            let shown = transactions.iter().zip(&actions).map(|(signed, action)| {
                let id = transaction::id(signed).map_err(|e| Failed::network(e.to_string()))?;
                Ok(json!({ "id": id, "action": action, "signer": signed.signer }))
            });
            let shown: Vec<_> = shown.collect::<Outcome<_>>()?;
            list.push(json!({
                "height": header.height, "hash": hash, "previous": header.previous,
                "time_ms": header.time.0, "proposer": header.proposer, "state": header.state,
                "votes": votes, "transactions": shown,
            }));
            continue;
        }
        table.row([
            header.height.to_string(),
            hash.short(),
            header.time.0.to_string(),
            header.proposer.short(),
            votes.to_string(),
            if actions.is_empty() { "-".into() } else { actions.join(",") },
        ]);
    }
    if as_json { output::json(&list) } else { table.print() }
}

fn wrong(reason: impl std::fmt::Display) -> Failed {
    Failed::new(Exit::JobFailed, format!("the ledger is NOT right: {reason}"))
}

async fn verify(light: &Light, as_json: bool) -> Outcome {
    let (network, genesis) = (light.mesh.network(), light.mesh.genesis());
    let claimed = light.ledger.status().await?;
    let mut state = State::genesis((**genesis).clone()).map_err(wrong)?;
    let (mut transactions, mut votes) = (0_u64, 0_u64);
    let progress = Progress::start("verifying blocks");
    while state.height < claimed.height {
        let page = light.ledger.blocks(state.height + 1, PAGE).await?;
        if page.is_empty() {
            let (missing, height) = (state.height + 1, claimed.height);
            return Err(wrong(format!("block {missing} of {height} was not given")));
        }
        for next in page {
            // The next page can hold more than there were at the start.
            if state.height == claimed.height {
                break;
            }
            state = follow(&state, &next).map_err(wrong)?;
            transactions += next.block.transactions.len() as u64;
            votes += next.certificate.votes.len() as u64;
        }
        progress.position(state.height, claimed.height);
        tokio::task::yield_now().await;
    }
    drop(progress);
    let root = state.root();
    if root != claimed.state {
        return Err(wrong(format!("the blocks lead to {root}, the node says {}", claimed.state)));
    }
    if let Err(sums) = state.check_conservation() {
        let (found, minted) = (sums.found, sums.minted);
        return Err(wrong(format!("{found} microcredits exist, {minted} were minted")));
    }
    if as_json {
        return output::json(&json!({
            "network": network, "height": state.height, "state": root,
            "minted": state.minted.to_string(), "sum": state.minted.to_string(),
            "transactions": transactions, "votes": votes, "right": true,
        }));
    }
    pairs(&[
        ("network", network.to_string()),
        ("height", state.height.to_string()),
        ("state", root.to_string()),
        ("checked", format!("{transactions} transactions, {votes} votes")),
        ("credits", format!("{} minted = balances + holds + stakes + treasury", state.minted)),
        ("verdict", "every block follows from the genesis".into()),
    ])
}
