//! What happens before any money moves: find the Cargo, check the input, bound the price, order the
//! Islands.

use super::{Core, Refused, Request};
use crate::{
    catalog::{self, Resolved},
    mesh::{SeenIsland, now},
    services::{Bank, lock},
};
use archipelag_protocol::{
    advert::{Advert, SignedAdvert},
    amount::Credits,
    event::depth,
    id::{AccountId, ContentId, JobId, NodeId},
    ledger::IslandStanding,
    limits::MAX_JSON_DEPTH,
    matching::{self, Candidate, Line, Ranking},
    pricing::{Metering, Price},
};
use archipelag_runtimes::schema::FieldError;
use bytes::Bytes;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// The shortest line that is a token, with its newline: `{"type":"token","content":"x"}`.
const TOKEN_LINE_BYTES: u64 = 31;
/// How long what the ledger says of an Island is taken from memory.
const STANDING_LIFE: Duration = Duration::from_secs(30);
/// Islands whose standing one refresh asks for.
const MAX_STANDINGS: usize = 64;
/// Reasons that a refusal lists.
const MAX_EXCLUDED: usize = 100;

/// Where a job would run and what it may cost at most, without running it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub cargo: Arc<Resolved>,
    pub input_bytes: u64,
    pub price_max: Credits,
    /// What the payer has free: its balance, and what is reserved for the best Island already.
    pub available: Credits,
    /// Best first.
    pub ranked: Vec<PlannedIsland>,
    pub excluded: Vec<(NodeId, String)>,
}

/// An Island that can have the job, and why it stands where it does.
#[derive(Clone, Debug)]
pub struct PlannedIsland {
    pub node: NodeId,
    pub island: AccountId,
    pub region: String,
    pub score: u16,
    pub lines: Vec<Line>,
}

/// A job that may be dispatched, as far as it alone is concerned.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) resolved: Arc<Resolved>,
    pub(super) input: Bytes,
    pub(super) input_hash: ContentId,
    pub(super) price_max: Credits,
    pub(super) time_ms: u64,
    /// How long it may wait for room.
    pub(super) wait: Duration,
    pub(super) matching: matching::Request,
}

/// Finds the Cargo and checks the request against it.
///
/// # Errors
/// What is wrong with the request.
pub(super) async fn prepare(
    core: &Core,
    id: JobId,
    request: &Request,
) -> Result<Prepared, Refused> {
    let policy = &core.genesis.policy;
    request
        .regions
        .validate()
        .map_err(|e| Refused::Invalid { field: "regions".into(), reason: e.to_string() })?;
    let resolved = core.cargos.resolve(&request.slug, request.version.as_ref()).await;
    let resolved = resolved.map_err(|error| match error {
        catalog::Error::Unknown(what) => Refused::UnknownCargo(what),
        catalog::Error::Invalid(reason) => Refused::Invalid { field: "slug".into(), reason },
        other => Refused::Network(other.to_string()),
    })?;
    let (manifest, level) = (&resolved.entry.manifest.value, resolved.entry.record.trust_level);
    policy.sandbox.check(level, &manifest.requirements)?;
    let input = check_input(&resolved, &request.input, policy.job.input_bytes_max)?;
    let time_ms = policy.sandbox.limits(level).time_ms;
    let price_max =
        price_max(&manifest.price, time_ms, &request.input, policy.job.output_bytes_max);
    let matching = matching::Request {
        tie: id,
        cargo: resolved.cargo,
        runtime: manifest.runtime_type,
        requirements: manifest.requirements,
        regions: request.regions.clone(),
        bid_percent: request.bid_percent,
        tokens_per_second: None,
    };
    let input_hash = ContentId::of(&input);
    let wait = Duration::from_secs(request.wait_s.unwrap_or(Request::WAIT_S).into());
    Ok(Prepared { resolved, input, input_hash, price_max, time_ms, wait, matching })
}

fn check_input(resolved: &Resolved, input: &Value, limit: u64) -> Result<Bytes, Refused> {
    let whole = |message: &str| {
        Refused::Schema(vec![FieldError { field: String::new(), message: message.into() }])
    };
    if !input.is_object() {
        return Err(whole("must be a JSON object"));
    }
    let text = input.to_string();
    let found = text.len() as u64;
    if found > limit {
        return Err(Refused::TooLarge { field: "input", limit, found });
    }
    if depth(&text) > MAX_JSON_DEPTH {
        return Err(whole(&format!("nested deeper than {MAX_JSON_DEPTH}")));
    }
    resolved.input_schema.validate(input).map_err(Refused::Schema)?;
    Ok(text.into())
}

/// The most that a job can cost (`SPEC.md`, "Price and payout"): all of its time, and the tokens
/// that it asks for or that its output can hold.
pub(super) fn price_max(price: &Price, time_ms: u64, input: &Value, output_bytes: u64) -> Credits {
    let number = |field: &str| input.get(field).and_then(Value::as_u64);
    let asked = number("max_tokens").or_else(|| number("max_completion_tokens"));
    let most = output_bytes / TOKEN_LINE_BYTES;
    let choices = number("n").unwrap_or(1).max(1);
    let tokens = asked.map_or(most, |asked| asked.saturating_mul(choices).min(most));
    price.of(Metering { tokens, duration_ms: time_ms })
}

/// What the ledger said of Islands, for a while.
#[derive(Debug, Default)]
pub(super) struct Standings(Mutex<BTreeMap<AccountId, (Instant, IslandStanding)>>);

impl Standings {
    pub(super) fn get(&self, island: AccountId) -> Option<IslandStanding> {
        lock(&self.0).get(&island).map(|(_, standing)| *standing)
    }

    /// Whether nothing fresh is known of an Island.
    pub(super) fn is_stale(&self, islands: &[SeenIsland]) -> bool {
        let known = lock(&self.0);
        islands.iter().take(MAX_STANDINGS).any(|seen| {
            known
                .get(&seen.advert.value.account)
                .is_none_or(|(since, _)| since.elapsed() > STANDING_LIFE)
        })
    }

    /// Asks the ledger about Islands of which nothing fresh is known. What it does not answer stays
    /// as it was.
    pub(super) async fn refresh(&self, islands: &[SeenIsland], bank: &dyn Bank) {
        let accounts: BTreeSet<AccountId> =
            islands.iter().take(MAX_STANDINGS).map(|seen| seen.advert.value.account).collect();
        lock(&self.0).retain(|account, _| accounts.contains(account));
        for account in accounts {
            let fresh = |(since, _): &(Instant, _)| since.elapsed() <= STANDING_LIFE;
            if lock(&self.0).get(&account).is_some_and(fresh) {
                continue;
            }
            match bank.standing(account).await {
                Ok(standing) => {
                    lock(&self.0).insert(account, (Instant::now(), standing));
                }
                Err(error) => {
                    tracing::debug!(%error, "consumer.standings");
                    return;
                }
            }
        }
    }
}

/// The Islands known now, as matching wants them. `tried` have had the job, or have just refused
/// it.
pub(super) fn candidates<'a>(
    core: &Core,
    islands: &'a [SeenIsland],
    tried: &BTreeSet<NodeId>,
) -> Vec<Candidate<'a>> {
    islands
        .iter()
        .map(|seen| Candidate {
            advert: &seen.advert,
            standing: core.standings.get(seen.advert.value.account),
            rtt_us: seen.rtt_us,
            failed_recently: tried.contains(&seen.advert.value.node),
        })
        .collect()
}

/// The best Islands `within` what the job's payer can reach, at most as many as it may try. When
/// all of them are full, or were when they last said so, the best of these: adverts lag behind.
///
/// # Errors
/// [`Refused::NoIsland`] with the reason for each.
pub(super) fn choose(
    core: &Core,
    prepared: &Prepared,
    tried: &BTreeSet<NodeId>,
    within: impl Fn(&Advert) -> bool,
) -> Result<Vec<Arc<SignedAdvert>>, Refused> {
    let (mut islands, policy) = (core.routes.islands(), &core.genesis.policy);
    islands.retain(|seen| within(&seen.advert.value));
    let candidates = candidates(core, &islands, tried);
    let count = usize::try_from(policy.job.attempts_max).unwrap_or(usize::MAX);
    let ranking = matching::best(&prepared.matching, &candidates, policy, now(), count);
    let best = if ranking.ranked.is_empty() { &ranking.full } else { &ranking.ranked };
    if best.is_empty() {
        return Err(Refused::NoIsland { excluded: excluded(&ranking) });
    }
    let advert_of = |node: NodeId| islands.iter().find(|seen| seen.advert.value.node == node);
    let chosen = best.iter().filter_map(|ranked| advert_of(ranked.node()));
    Ok(chosen.map(|seen| seen.advert.clone()).collect())
}

pub(super) fn excluded(ranking: &Ranking<'_>) -> Vec<(NodeId, String)> {
    let reasons = ranking.excluded.iter().take(MAX_EXCLUDED);
    reasons.map(|e| (e.candidate.advert.value.node, e.reason.to_string())).collect()
}

/// Everything about a job but the job.
///
/// # Errors
/// What is wrong with the request, or that the ledger can't be asked.
pub(super) async fn plan(
    core: &Core,
    bank: &Arc<dyn Bank>,
    request: &Request,
) -> Result<Plan, Refused> {
    let prepared = prepare(core, JobId([0; 16]), request).await?;
    let islands = core.routes.islands();
    core.standings.refresh(&islands, &**bank).await;
    let candidates = candidates(core, &islands, &BTreeSet::new());
    let ranking = matching::rank(&prepared.matching, &candidates, &core.genesis.policy, now());
    let balance = bank.balance().await.map_err(|e| Refused::Network(e.to_string()))?;
    let ranked: Vec<_> = ranking
        .ranked
        .iter()
        .map(|ranked| PlannedIsland {
            node: ranked.node(),
            island: ranked.candidate.advert.value.account,
            region: ranked.candidate.advert.value.region.clone(),
            score: ranked.score(),
            lines: ranked.explain(&prepared.matching),
        })
        .collect();
    let payer = bank.key().account();
    let room = ranked.first().map_or(Credits::ZERO, |best| core.holds.room(payer, best.island));
    Ok(Plan {
        input_bytes: prepared.input.len() as u64,
        price_max: prepared.price_max,
        available: balance.saturating_add(room),
        excluded: excluded(&ranking),
        ranked,
        cargo: prepared.resolved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_price_is_bounded_by_what_the_job_may_do() {
        let micro = Credits::from_micro;
        let job = Price { per_job: micro(7), ..Price::default() };
        assert_eq!(price_max(&job, 60_000, &json!({}), 1 << 20), micro(7));
        let second = Price { per_second: micro(10), ..job };
        assert_eq!(price_max(&second, 60_000, &json!({}), 1 << 20), micro(607));
        let token = Price { per_token: micro(2), ..job };
        assert_eq!(price_max(&token, 1, &json!({}), 310), micro(27));
        assert_eq!(price_max(&token, 1, &json!({ "max_tokens": 3 }), 310), micro(13));
        let several = json!({ "max_completion_tokens": 3, "n": 2 });
        assert_eq!(price_max(&token, 1, &several, 310), micro(19));
        assert_eq!(price_max(&token, 1, &json!({ "max_tokens": u64::MAX }), 310), micro(27));
    }
}
