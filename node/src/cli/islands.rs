//! `archipelag islands`: who runs Cargos, as one node sees it.

use super::{
    Global,
    client::data,
    exit::{Failed, Outcome},
    light::Light,
    output::{self, Table, pairs},
    target::Target,
};
use crate::{api, mesh::now};
use clap::Subcommand;
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(crate) enum Islands {
    /// All Islands whose adverts count now
    #[command(after_help = "Example:\n  archipelag islands list")]
    List,
    /// One Island, by its node id or the start of it
    #[command(after_help = "Example:\n  archipelag islands show 9f86d081")]
    Show { island: String },
}

impl Islands {
    pub(crate) async fn run(self, global: &Global) -> Outcome {
        let islands = match global.target()? {
            Target::Http(client) => data(client.get("api/v1/hosts").await?),
            Target::Mesh(_) => {
                let light = global.light().await?;
                light.wait_for_islands().await;
                let islands = seen(&light);
                light.stop().await;
                islands
            }
        };
        let islands = islands.as_array().cloned().unwrap_or_default();
        match self {
            Self::List if global.json => output::json(&islands),
            Self::List => list(&islands),
            Self::Show { island } => {
                let island = find(&islands, &island)?;
                if global.json { output::json(island) } else { show(island) }
            }
        }
    }
}

fn seen(light: &Light) -> Value {
    let (islands, now) = (light.mesh.islands(), now());
    islands.iter().map(|island| api::island(island, None, now)).collect()
}

fn find<'a>(islands: &'a [Value], wanted: &str) -> Outcome<&'a Value> {
    let id = |island: &'a Value| island["id"].as_str().unwrap_or_default();
    let found: Vec<&Value> = islands.iter().filter(|i| id(i).starts_with(wanted)).collect();
    match found[..] {
        [island] => Ok(island),
        [] => {
            Err(Failed::usage(format!("no Island {wanted}; `archipelag islands list` shows all")))
        }
        _ => Err(Failed::usage(format!(
            "{wanted} begins {} Islands' ids; write more of it",
            found.len()
        ))),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(islands: &[Value]) -> Outcome {
    let mut table = Table::new(["ISLAND", "NAME", "REGION", "STATUS", "JOBS", "RUNTIMES", "RTT"]);
    for island in islands {
        let runtimes = island["capabilities"]["supported_runtimes"].as_array();
        let runtimes: Vec<&str> =
            runtimes.into_iter().flatten().filter_map(Value::as_str).collect();
        let jobs = match (island["active_jobs"].as_u64(), island["max_jobs"].as_u64()) {
            (Some(active), Some(max)) => format!("{active}/{max}"),
            _ => "-".into(),
        };
        let rtt = island["rtt_us"].as_u64().map_or_else(|| "-".into(), |us| format!("{us} µs"));
        table.row([
            text(&island["id"]).chars().take(8).collect(),
            text(&island["name"]),
            text(&island["region"]),
            text(&island["status"]),
            jobs,
            runtimes.join(","),
            rtt,
        ]);
    }
    table.print()
}

fn show(island: &Value) -> Outcome {
    let fields = island.as_object().into_iter().flatten();
    let shown: Vec<(&str, String)> =
        fields.filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.as_str(), text(v))).collect();
    pairs(&shown)
}
