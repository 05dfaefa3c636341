//! `archipelag coordinator`: who decides on the ledger, and elections to that.

use super::{
    Global,
    exit::{Failed, Outcome},
    light::Light,
    output::{self, Table, line},
};
use crate::{clock::Moment, mesh::identity, wallet::Wallet};
use archipelag_protocol::{
    amount::Credits,
    id::{AccountId, NodeId},
    ledger::{Action, Epoch, Key, Stake, ValidatorSet},
    limits::MAX_PAGE,
    query::{Request, Response},
};
use clap::{Args, Subcommand};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

/// Pages of stakes that are read at most.
const MAX_PAGES: usize = 100;

#[derive(Debug, Subcommand)]
pub(crate) enum Coordinator {
    /// Who has a seat, who stands for one, and when the next election is
    #[command(after_help = "Example:\n  archipelag coordinator set")]
    Set,
    /// Stand for a seat with this home's node, or say that it is back (sent by the operator's
    /// account)
    #[command(
        after_help = "Example:\n  archipelag coordinator candidate --bond 1000\n\nThe node must keep the ledger: [coordinator] standby = true in config.toml"
    )]
    Candidate {
        #[command(flatten)]
        stake: Bond,
        /// Stand down: the seat is free from the end of the epoch on
        #[arg(long, conflicts_with = "bond")]
        withdraw: bool,
    },
    /// Say who should have a seat, instead of what was said before
    #[command(
        after_help = "Example:\n  archipelag coordinator approve 3b6a27bc… --bond 20\n\nAn approval weighs as much as the account has bonded, and up to twice that with karma"
    )]
    Approve {
        candidates: Vec<AccountId>,
        #[command(flatten)]
        stake: Bond,
    },
    /// Take credits out of what is bonded; they come back after some weeks
    #[command(after_help = "Example:\n  archipelag coordinator unbond 20")]
    Unbond {
        credits: Credits,
        #[command(flatten)]
        from: From,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Bond {
    /// Bond so many credits first
    #[arg(long, value_name = "CREDITS")]
    bond: Option<Credits>,
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Args)]
pub(crate) struct From {
    /// Act for the consumer account instead of the operator's
    #[arg(long)]
    from_consumer: bool,
}

impl Coordinator {
    pub(crate) async fn run(self, global: &Global) -> Outcome {
        let light = global.light().await?;
        let done = self.act(global, &light).await;
        light.stop().await;
        done
    }

    async fn act(self, global: &Global, light: &Light) -> Outcome {
        match self {
            Self::Set => set(light, global.json).await,
            Self::Candidate { stake, withdraw } => {
                let node = if withdraw { None } else { Some(own_node(global)?) };
                let shown = if withdraw { "stands down" } else { "stands for a seat" };
                let actions = stake.actions(Action::Candidate { node });
                send(global, light, &stake.from, actions, shown).await
            }
            Self::Approve { mut candidates, stake } => {
                candidates.sort_unstable();
                candidates.dedup();
                let shown = format!("approves of {}", candidates.len());
                let actions = stake.actions(Action::Approve { candidates });
                send(global, light, &stake.from, actions, &shown).await
            }
            Self::Unbond { credits, from } => {
                let actions = vec![Action::Unbond { amount: credits }];
                send(global, light, &from, actions, &format!("unbonds {credits}")).await
            }
        }
    }
}

impl Bond {
    fn actions(&self, action: Action) -> Vec<Action> {
        let bond = self.bond.map(|amount| Action::Bond { amount });
        bond.into_iter().chain([action]).collect()
    }
}

fn own_node(global: &Global) -> Outcome<NodeId> {
    let identity = global.open_home()?.identity()?;
    identity::node_of(identity.node.public().to_peer_id())
        .ok_or_else(|| Failed::usage("node.key is not an ed25519 key"))
}

async fn send(
    global: &Global,
    light: &Light,
    from: &From,
    actions: Vec<Action>,
    shown: &str,
) -> Outcome {
    let identity = global.open_home()?.identity()?;
    let key = if from.from_consumer { identity.consumer } else { identity.operator };
    let wallet = Wallet::new(key, light.mesh.network(), light.ledger.clone());
    let mut transactions = Vec::new();
    for action in actions {
        let receipt = wallet.send(action).await?;
        transactions.push(json!({ "transaction": receipt.transaction, "height": receipt.height }));
    }
    let account = wallet.account();
    if global.json {
        return output::json(&json!({ "account": account, "transactions": transactions }));
    }
    line(&format!("{account} {shown}"))
}

/// An entry of the state, proven.
async fn entry<T: DeserializeOwned + Serialize>(light: &Light, key: Key) -> Outcome<Option<T>> {
    let proven = light.ledger.prove(key.clone()).await?;
    light.ledger.know(&proven.header).await;
    let verified = proven.verify(&light.mesh.trust(), &key);
    verified.map_err(|e| Failed::network(format!("the ledger's proof does not hold: {e}")))
}

/// All who stand for a seat, as the node that answers says.
async fn candidates(light: &Light) -> Outcome<Vec<(AccountId, Stake)>> {
    let (mut found, mut after) = (Vec::new(), None);
    let limit = u16::try_from(MAX_PAGE).unwrap_or(u16::MAX);
    for _ in 0..MAX_PAGES {
        let answer = light.ledger.ask(Request::Stakes { after, limit }).await?;
        let Response::Stakes(page) = answer else {
            return Err(Failed::network("a coordinator answered something else"));
        };
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        found.extend(page.into_iter().filter(|(_, stake)| stake.node.is_some()));
    }
    Ok(found)
}

async fn set(light: &Light, as_json: bool) -> Outcome {
    let missing = || Failed::network("the state has no such entry");
    let seats: ValidatorSet = entry(light, Key::Validators).await?.ok_or_else(missing)?;
    let epoch: Epoch = entry(light, Key::Epoch).await?.ok_or_else(missing)?;
    let mut members = Vec::new();
    for seat in seats.iter() {
        let stake: Option<Stake> = entry(light, Key::Stake(seat.account)).await?;
        members.push((seat.account, stake.unwrap_or_default()));
    }
    let candidates = candidates(light).await?;
    let others = candidates.into_iter().filter(|(account, _)| !seats.contains(*account));
    let rows: Vec<_> = members.into_iter().chain(others).collect();
    let state = |account: &AccountId, stake: &Stake| match seats.contains(*account) {
        true if epoch.absent.contains_key(account) => "absent",
        true if stake.node.is_none() => "leaves",
        true => "seat",
        false => "candidate",
    };
    if as_json {
        let rows = rows.iter().map(|(account, stake)| {
            json!({
                "account": account, "state": state(account, stake),
                "bonded": stake.bonded.to_string(),
            })
        });
        let rows: Vec<_> = rows.collect();
        return output::json(&json!({
            "epoch": epoch.number, "ends_at": Moment(epoch.ends), "coordinators": rows,
        }));
    }
    let mut table = Table::new(["ACCOUNT", "STATE", "BONDED"]);
    for (account, stake) in &rows {
        table.row([
            account.to_string(),
            state(account, stake).to_owned(),
            stake.bonded.to_string(),
        ]);
    }
    table.print()?;
    let ends = json!(Moment(epoch.ends));
    line(&format!(
        "epoch {}; the next election is with the first block after {}",
        epoch.number,
        ends.as_str().unwrap_or_default()
    ))
}
