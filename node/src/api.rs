//! How the API shows Cargos and Islands: used by the gateway, and by the command line when it asks
//! the mesh itself, so that both say the same.

use crate::{clock::Moment, jobs, mesh::SeenIsland};
use archipelag_protocol::{
    catalog::{Entry, State},
    ledger::IslandStanding,
    policy::ReputationPolicy,
    query::CatalogItem,
    time::Timestamp,
};
use serde_json::{Value, json};

/// A Cargo. Its integer id is the start of its hash, for clients that want an integer.
pub(crate) fn cargo(entry: &Entry) -> Value {
    let manifest = &entry.manifest.value;
    let schema = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let credits = jobs::credits;
    json!({
        "id": jobs::workload_id(entry.record.cargo), "cargo": entry.record.cargo,
        "name": manifest.name, "slug": manifest.slug, "version": manifest.version,
        "description": manifest.description, "runtime_type": manifest.runtime_type,
        "publisher": entry.record.publisher, "state": entry.record.state,
        "is_enabled": entry.record.state == State::Published,
        "trust_level": entry.record.trust_level,
        "price_per_job": credits(manifest.price.per_job),
        "price_per_token": credits(manifest.price.per_token),
        "price_per_second": credits(manifest.price.per_second),
        "required_vram_mb": manifest.requirements.vram_mb,
        "required_cpu_cores": manifest.requirements.cpu_cores,
        "required_ram_mb": manifest.requirements.ram_mb,
        "category": manifest.category, "tags": manifest.tags,
        "input_schema": schema(&manifest.input_schema),
        "output_schema": schema(&manifest.output_schema),
    })
}

/// A Cargo with the counters that the ledger keeps of it.
pub(crate) fn catalog_item(item: &CatalogItem, policy: &ReputationPolicy) -> Value {
    let (counters, mut cargo) = (&item.counters, cargo(&item.entry));
    cargo["total_jobs"] = counters.total_jobs.into();
    cargo["successful_jobs"] = counters.successful_jobs.into();
    cargo["failed_jobs"] = counters.failed_jobs.into();
    cargo["avg_execution_time_ms"] = counters.avg_execution_time_ms().into();
    cargo["reputation_score"] = json!(counters.reputation.score(policy).map(|s| s.to_string()));
    cargo
}

/// An Island by its last advert, with what the ledger says of it where that is known.
pub(crate) fn island(seen: &SeenIsland, standing: Option<IslandStanding>, now: Timestamp) -> Value {
    let advert = &seen.advert.value;
    let suspended = standing.is_some_and(|standing| standing.suspended);
    let status = match advert.active_jobs < advert.max_jobs {
        _ if suspended => "suspended",
        true => "online",
        false => "busy",
    };
    json!({
        "id": advert.node, "account": advert.account, "name": advert.name, "status": status,
        "region": advert.region,
        "capabilities": {
            "platform": advert.platform, "supported_runtimes": advert.supported_runtimes,
            "cpu_cores": advert.hardware.cpu_cores, "ram_mb": advert.hardware.ram_mb,
            "vram_mb": advert.hardware.vram_mb, "tier": advert.hardware.tier,
        },
        "karma_score": standing.as_ref().map(karma),
        "last_heartbeat_at": Moment(advert.issued),
        "active_jobs": advert.active_jobs, "max_jobs": advert.max_jobs,
        "asking_percent": advert.asking_percent, "rtt_us": seen.rtt_us,
        "advert_age_ms": now.since_ms(advert.issued),
    })
}

/// Karma as a number, exact in thousandths.
#[expect(clippy::cast_precision_loss, reason = "karma stays far below 2^52 thousandths")]
pub(crate) fn karma(standing: &IslandStanding) -> f64 {
    standing.karma_milli as f64 / 1000.0
}
