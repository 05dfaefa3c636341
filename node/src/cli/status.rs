//! `archipelag status`: what a node does, and what it sees of the mesh.

use super::{
    Global,
    client::data,
    exit::Outcome,
    output::{self, line, pairs, plain},
};
use serde_json::{Value, json};

/// An address as it is, a peer in one line.
fn in_a_line(value: &Value) -> String {
    let field = |name: &str| value[name].as_str().unwrap_or("-");
    match (value.as_str(), value["rtt_us"].as_u64()) {
        (Some(text), _) => text.to_owned(),
        (None, rtt) => {
            let id: String = field("id").chars().take(8).collect();
            let rtt = rtt.map_or_else(|| "-".into(), |us| format!("{us} µs"));
            format!("{id} {} {rtt}", field("address"))
        }
    }
}

/// Peers that are listed for people.
const SHOWN_PEERS: usize = 20;

pub(crate) async fn run(global: &Global) -> Outcome {
    let client = global.client("archipelag status")?;
    let health = client.get("api/v1/health").await?;
    let node = data(client.get("api/v1/node").await?);
    let islands = data(client.get("api/v1/hosts").await?);
    let islands = islands.as_array().cloned().unwrap_or_default();
    if global.json {
        return output::json(&json!({ "health": health, "node": node, "islands": islands }));
    }
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut shown = vec![
        ("node", client.url().to_owned()),
        ("status", format!("{}, version {}", text(&health["status"]), text(&health["version"]))),
    ];
    // Whatever the node says about itself in single values, in its own words.
    let fields = node.as_object().into_iter().flatten();
    shown.extend(
        fields
            .filter(|(_, v)| !v.is_array() && !v.is_object() && !v.is_null())
            .map(|(k, v)| (k.as_str(), text(v))),
    );
    shown.push(("islands", islands.len().to_string()));
    pairs(&shown)?;
    for (name, field) in [("join", "listen_addresses"), ("peer", "peers")] {
        for value in node[field].as_array().into_iter().flatten().take(SHOWN_PEERS) {
            line(&format!("{name}: {}", plain(&in_a_line(value))))?;
        }
    }
    Ok(())
}
