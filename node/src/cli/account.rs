//! `archipelag account`: who pays, who earns, and keys of the HTTP API.

use super::{
    Global,
    client::{Client, data},
    exit::{Exit, Failed, Outcome},
    output::{self, Table, line, pairs},
    target::Target,
};
use crate::{home, ledger::Ledger, mesh::identity, wallet::Wallet};
use archipelag_protocol::{amount::Credits, id::AccountId, ledger::Action, limits::MAX_PROOFS};
use clap::Subcommand;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// The home's accounts and what they have; or the balances of others at one height, proven
    #[command(
        after_help = "Examples:\n  archipelag account show\n  archipelag account show 3b6a27bc…"
    )]
    Show { accounts: Vec<AccountId> },
    /// Make an account and keep its key in FILE (as consumer.key of a home, it pays)
    #[command(after_help = "Example:\n  archipelag account new savings.key")]
    New { file: PathBuf },
    /// Send credits from the home's consumer account
    #[command(after_help = "Example:\n  archipelag account transfer 3b6a27bc… 2.5")]
    Transfer {
        to: AccountId,
        credits: Credits,
        /// Send from the operator's account, which earns, instead
        #[arg(long)]
        from_operator: bool,
    },
    /// Keys of the HTTP API
    #[command(subcommand)]
    Keys(Keys),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// All keys of the account, without their secrets
    #[command(after_help = "Example:\n  archipelag account keys list")]
    List,
    /// Make a key; it is shown this once
    #[command(after_help = "Example:\n  archipelag account keys create laptop --scope read")]
    Create {
        name: String,
        /// What the key may do; may be repeated [default: read and write]
        #[arg(long, value_parser = ["read", "write"])]
        scope: Vec<String>,
    },
    /// End a key at once
    #[command(after_help = "Example:\n  archipelag account keys revoke 7")]
    Revoke { id: String },
}

impl Account {
    pub(crate) async fn run(self, global: &Global) -> Outcome {
        match self {
            Self::Show { accounts } if accounts.is_empty() => show(global).await,
            Self::Show { accounts } => others(global, &accounts).await,
            Self::New { file } => {
                let account = home::new_account(&file)?.account();
                if global.json {
                    return output::json(&json!({ "account": account, "file": file }));
                }
                line(&account.to_string())
            }
            Self::Transfer { to, credits, from_operator } => {
                transfer(global, to, credits, from_operator).await
            }
            Self::Keys(keys) => {
                keys.run(&global.client("archipelag account keys")?, global.json).await
            }
        }
    }
}

async fn show(global: &Global) -> Outcome {
    if let (Some(node), Ok(Target::Http(client))) = (&global.node, global.target())
        && node.starts_with("http")
        && global.mesh_address().is_err()
    {
        let account = data(client.get("api/v1/account").await?);
        return output::json(&account);
    }
    let identity = global.open_home()?.identity()?;
    let node = identity::node_of(identity.node.public().to_peer_id());
    let accounts = [identity.consumer.account(), identity.operator.account()];
    // Who these accounts are can be said without a node; what they have can't.
    let found = match global.light().await {
        Ok(light) => {
            let found = balances(&light.ledger, accounts).await;
            let network = light.mesh.network();
            light.stop().await;
            Some((found?, network))
        }
        Err(failed) if failed.exit == Exit::Network && global.node.is_none() => {
            eprintln!("{failed}");
            None
        }
        Err(failed) => return Err(failed),
    };
    let mut answer = json!({
        "node": node,
        "consumer": { "account": accounts[0] },
        "operator": { "account": accounts[1] },
    });
    if let Some(([consumer, operator], network)) = found {
        answer["network"] = json!(network);
        merge(&mut answer["consumer"], consumer);
        merge(&mut answer["operator"], operator);
    }
    if global.json {
        return output::json(&answer);
    }
    let credits = |of: &str| match answer[of]["credits"].as_str() {
        Some(credits) => format!("{}  {credits} credits", accounts[usize::from(of == "operator")]),
        None => accounts[usize::from(of == "operator")].to_string(),
    };
    let mut shown = vec![("consumer", credits("consumer")), ("operator", credits("operator"))];
    if let Some(karma) = answer["operator"]["karma"].as_str() {
        let (jobs, earned) = (&answer["operator"]["jobs"], &answer["operator"]["earned"]);
        shown.push((
            "island",
            format!(
                "karma {karma}, {jobs} jobs, {} credits earned",
                earned.as_str().unwrap_or("0")
            ),
        ));
    }
    shown.push(("node", node.map_or_else(|| "-".into(), |node| node.to_string())));
    pairs(&shown)
}

async fn others(global: &Global, accounts: &[AccountId]) -> Outcome {
    if accounts.len() > MAX_PROOFS {
        return Err(Failed::usage(format!("at most {MAX_PROOFS} accounts at a time")));
    }
    let light = global.light().await?;
    let found = light.ledger.balances(accounts).await;
    light.stop().await;
    let Some((height, balances)) = found? else {
        return Err(Failed::network("there is no block yet to prove anything by"));
    };
    let rows = accounts.iter().zip(&balances);
    if global.json {
        let rows = rows.map(|(id, c)| json!({ "account": id, "credits": c.to_string() }));
        let rows: Vec<_> = rows.collect();
        return output::json(&json!({ "height": height, "accounts": rows }));
    }
    let mut table = Table::new(["ACCOUNT", "CREDITS"]);
    for (account, credits) in rows {
        table.row([account.to_string(), credits.to_string()]);
    }
    table.print()?;
    line(&format!("at height {height}"))
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

async fn balances(ledger: &Ledger, accounts: [AccountId; 2]) -> Outcome<[Value; 2]> {
    let [consumer, operator] = accounts;
    let (consumer, earner) = (ledger.account(consumer).await?, ledger.account(operator).await?);
    let standing = ledger.standing(operator).await?;
    let karma = format!(
        "{}{}.{:03}",
        if standing.karma_milli < 0 { "-" } else { "" },
        standing.karma_milli.unsigned_abs() / 1000,
        standing.karma_milli.unsigned_abs() % 1000
    );
    Ok([
        json!({
            "credits": consumer.balance.to_string(), "nonce": consumer.nonce, "holds": consumer.holds,
        }),
        json!({
            "credits": earner.balance.to_string(), "nonce": earner.nonce,
            "publisher_tier": earner.tier, "cargos": earner.cargos,
            "karma": karma, "suspended": standing.suspended,
            "jobs": standing.jobs, "earned": standing.earned.to_string(),
        }),
    ])
}

async fn transfer(global: &Global, to: AccountId, amount: Credits, from_operator: bool) -> Outcome {
    let identity = global.open_home()?.identity()?;
    let light = global.light().await?;
    let key = if from_operator { identity.operator } else { identity.consumer };
    let wallet = Wallet::new(key, light.mesh.network(), light.ledger.clone());
    let sent = wallet.send(Action::Transfer { to, amount }).await;
    light.stop().await;
    let receipt = sent?;
    if global.json {
        return output::json(&json!({
            "transaction": receipt.transaction, "height": receipt.height,
            "from": wallet.account(), "to": to, "credits": amount.to_string(),
        }));
    }
    line(&format!("{amount} credits sent to {}, in block {}", to.short(), receipt.height))
}

impl Keys {
    async fn run(self, client: &Client, as_json: bool) -> Outcome {
        match self {
            Self::List => {
                let keys = data(client.get("api/v1/api-keys").await?);
                if as_json { output::json(&keys) } else { list(&keys) }
            }
            Self::Create { name, scope } => {
                let mut body = json!({ "name": name });
                if !scope.is_empty() {
                    body["scopes"] = scope.into();
                }
                let answer = client.post("api/v1/api-keys", &body).await?;
                if as_json {
                    return output::json(&answer);
                }
                eprintln!("this key is shown once:");
                line(answer["key"].as_str().unwrap_or_default())
            }
            Self::Revoke { id } => {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                if id.is_empty() || !id.chars().all(plain) {
                    return Err(Failed::usage(format!(
                        "{id:?} is no key's id; `archipelag account keys list` shows them"
                    )));
                }
                let answer = client.delete(&format!("api/v1/api-keys/{id}")).await?;
                if as_json { output::json(&answer) } else { line("revoked") }
            }
        }
    }
}

fn list(keys: &Value) -> Outcome {
    let mut table = Table::new(["ID", "NAME", "PREFIX", "CREATED", "LAST USED"]);
    for key in keys.as_array().into_iter().flatten() {
        let text = |field: &str| match &key[field] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        table.row(["id", "name", "prefix", "created_at", "last_used_at"].map(text));
    }
    table.print()
}
