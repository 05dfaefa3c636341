//! `/jobs`: submit, list, show, cancel.

use super::{
    Gateway,
    auth::{Reader, Writer},
    body::{Bounded, Json, Params, Path, only},
    error::{Error, Result},
};
use crate::{
    clock::Moment,
    consumer::{Request, whole_numbers},
    jobs::{Job, Submission, credits, usage_json, workload_id},
};
use archipelag_protocol::{
    amount::Credits,
    id::{AccountId, CargoId, JobId, NodeId},
    job::Step,
    manifest::{Version, check_slug},
    matching::RegionPolicy,
    pricing::Price,
};
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest as _, Sha256};

/// What a body may hold beside the input.
const ENVELOPE_BYTES: usize = 64 << 10;
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

impl Bounded for NewJob {
    /// Twice the longest input, for a client that escapes more than it must.
    fn limit(gateway: &Gateway) -> usize {
        let input = gateway.node.mesh.genesis().policy.job.input_bytes_max;
        usize::try_from(input)
            .unwrap_or(usize::MAX)
            .saturating_mul(2)
            .saturating_add(ENVELOPE_BYTES)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewJob {
    workload: String,
    /// Another version than the newest.
    version: Option<String>,
    input: Value,
    /// Taken and not used: jobs are dispatched at once, and those that wait for room are equal.
    #[serde(default, rename = "priority")]
    _priority: Option<Value>,
    region: Option<String>,
    #[serde(default)]
    regions: Vec<String>,
    prefer_region: Option<String>,
    /// The most to pay, in credits, for what the Cargo has a price for.
    bid_price: Option<serde_json::Number>,
    /// The same, in percent of that price.
    bid_percent: Option<u16>,
    /// How long it may wait, in seconds, while every Island that could take it is full.
    wait_s: Option<u32>,
}

impl NewJob {
    fn regions(
        only: Option<String>,
        mut regions: Vec<String>,
        prefer: Option<String>,
    ) -> Result<RegionPolicy> {
        regions.extend(only);
        let policy = match (prefer, regions.is_empty()) {
            (None, true) => RegionPolicy::Any,
            (None, false) => RegionPolicy::Only(regions),
            (Some(region), true) => RegionPolicy::Prefer(region),
            (Some(_), false) => {
                return Err(Error::field(
                    "prefer_region",
                    "not together with `region` or `regions`",
                ));
            }
        };
        policy.validate().map_err(|e| Error::malformed(e.to_string()))?;
        Ok(policy)
    }
}

/// The one price that a Cargo has; a bid in credits means nothing for several.
fn base(price: &Price) -> Option<Credits> {
    let mut set = [price.per_job, price.per_token, price.per_second]
        .into_iter()
        .filter(|price| *price != Credits::ZERO);
    let only = set.next()?;
    set.next().is_none().then_some(only)
}

/// A bid in credits as percent of the Cargo's price, rounded down: never more than was bid.
fn percent(bid: &serde_json::Number, price: &Price) -> Result<u16> {
    let wrong = |reason: &str| Error::field("bid_price", reason);
    let bid: Credits = bid.to_string().parse().map_err(|e| Error::field("bid_price", e))?;
    let base = base(price)
        .ok_or_else(|| wrong("this Cargo has not exactly one price: bid by `bid_percent`"))?;
    let percent = u128::from(bid.micro()) * 100 / u128::from(base.micro());
    Ok(u16::try_from(percent).unwrap_or(u16::MAX))
}

fn idempotency(headers: &HeaderMap, body: &[u8]) -> Result<Option<(String, [u8; 32])>> {
    let Some(key) = only(headers, "Idempotency-Key")? else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len()));
    let key = key.ok_or_else(|| {
        let limit = MAX_IDEMPOTENCY_KEY_BYTES;
        Error::field("Idempotency-Key", format!("1 to {limit} printable ASCII characters"))
    })?;
    Ok(Some((key.to_owned(), Sha256::digest(body).into())))
}

pub(super) async fn submit(
    State(gateway): State<Gateway>,
    Writer(caller): Writer,
    headers: HeaderMap,
    Json { value: wanted, bytes }: Json<NewJob>,
) -> Result<Response> {
    check_slug(&wanted.workload).map_err(|_| {
        Error::field("workload", "a slug: 1 to 64 lower-case letters, digits and inner hyphens")
    })?;
    let version = wanted.version.map(|text| text.parse::<Version>()).transpose();
    let mut request = Request {
        slug: wanted.workload,
        version: version.map_err(|e| Error::field("version", e))?,
        input: whole_numbers(wanted.input),
        regions: NewJob::regions(wanted.region, wanted.regions, wanted.prefer_region)?,
        bid_percent: wanted.bid_percent,
        wait_s: wanted.wait_s,
    };
    if let Some(bid) = &wanted.bid_price {
        if request.bid_percent.is_some() {
            return Err(Error::field("bid_price", "not together with `bid_percent`"));
        }
        request.bid_percent = Some(percent(bid, &gateway.jobs.resolve(&request).await?.price)?);
    }
    let idempotency = idempotency(&headers, &bytes)?;
    let submission = Submission { account: caller.account, request, idempotency };
    let (job, repeated) = gateway.jobs.submit(submission).await?;
    let location = [(header::LOCATION, format!("/api/v1/jobs/{}", job.head.id))];
    let status = if repeated { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, location, axum::Json(json!({ "data": Shown::from(job) }))).into_response())
}

/// A job as the API has it.
#[derive(Debug, Serialize)]
struct Shown {
    id: JobId,
    workload_id: u64,
    workload_slug: String,
    version: Version,
    cargo: CargoId,
    status: &'static str,
    input: Option<Box<RawValue>>,
    output: Option<String>,
    /// Whether `input` or `output` is left out because it is too long for a list.
    shortened: bool,
    error: Option<String>,
    /// The step that failed.
    error_step: Option<Step>,
    created_at: Moment,
    started_at: Option<Moment>,
    completed_at: Option<Moment>,
    duration_ms: Option<u64>,
    usage: Value,
    host_id: Option<NodeId>,
    island: Option<AccountId>,
    attempts: u32,
    receipt: Option<Value>,
}

impl From<Job> for Shown {
    fn from(job: Job) -> Self {
        let head = job.head;
        let receipt = head.receipt.as_ref().map(|settled| {
            let receipt = &settled.receipt;
            json!({
                "price": credits(receipt.price), "tokens": receipt.metering.tokens,
                "duration_ms": receipt.metering.duration_ms,
                "input": receipt.input, "output": receipt.output, "hold": receipt.hold,
            })
        });
        Self {
            workload_id: workload_id(head.cargo),
            duration_ms: head.duration_ms(),
            usage: usage_json(&head.usage),
            id: head.id,
            workload_slug: head.slug,
            version: head.version,
            cargo: head.cargo,
            status: head.status.name(),
            input: job.input.and_then(|text| RawValue::from_string(text).ok()),
            output: job.output,
            shortened: job.shortened,
            error: head.error,
            error_step: head.step,
            created_at: Moment(head.created),
            started_at: head.started.map(Moment),
            completed_at: head.completed.map(Moment),
            host_id: head.place.map(|place| place.node),
            island: head.place.map(|place| place.island),
            attempts: head.attempts,
            receipt,
        }
    }
}

pub(super) async fn list(
    State(gateway): State<Gateway>,
    Reader(caller): Reader,
    params: Params,
) -> Result<axum::Json<Value>> {
    let limit = params.number("limit")?.unwrap_or(DEFAULT_LIMIT);
    let offset = params.number("offset")?.unwrap_or_default();
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::field("limit", format!("{limit}, must be 1 to {MAX_LIMIT}")));
    }
    let (jobs, total) = gateway.jobs.list(caller.account, limit, offset).await?;
    let jobs: Vec<Shown> = jobs.into_iter().map(Shown::from).collect();
    let meta = json!({ "total": total, "limit": limit, "offset": offset });
    Ok(axum::Json(json!({ "data": jobs, "meta": meta })))
}

/// A text that is no job's id names no job.
pub(super) fn job_id(text: &str) -> Result<JobId> {
    text.parse().map_err(|_| unknown())
}

pub(super) fn unknown() -> Error {
    Error::not_found("no job of this account has this id; `GET /api/v1/jobs` lists them")
}

pub(super) async fn show(
    State(gateway): State<Gateway>,
    Reader(caller): Reader,
    Path(id): Path,
) -> Result<axum::Json<Value>> {
    let job = gateway.jobs.get(caller.account, job_id(&id)?).await?.ok_or_else(unknown)?;
    Ok(axum::Json(json!({ "data": Shown::from(job) })))
}

pub(super) async fn output(
    State(gateway): State<Gateway>,
    Reader(caller): Reader,
    Path(id): Path,
) -> Result<axum::Json<Value>> {
    let job = gateway.jobs.get(caller.account, job_id(&id)?).await?.ok_or_else(unknown)?;
    if !job.head.status.is_final() {
        let status = job.head.status;
        return Err(Error::conflict(format!("the job is {status}; its stream says when it ends")));
    }
    let answer = json!({ "status": job.head.status.name(), "output": job.output });
    Ok(axum::Json(json!({ "data": answer })))
}

pub(super) async fn cancel(
    State(gateway): State<Gateway>,
    Writer(caller): Writer,
    Path(id): Path,
) -> Result<axum::Json<Value>> {
    let job = gateway.jobs.cancel(caller.account, job_id(&id)?).await?.ok_or_else(unknown)?;
    Ok(axum::Json(json!({ "data": Shown::from(job) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bid_in_credits_is_a_percentage_of_the_one_price() {
        let number = |text: &str| serde_json::from_str::<serde_json::Number>(text).unwrap();
        let micro = Credits::from_micro;
        let price = Price { per_job: micro(10_000), ..Price::default() };
        assert_eq!(percent(&number("0.01"), &price).unwrap(), 100);
        assert_eq!(percent(&number("0.015"), &price).unwrap(), 150);
        assert_eq!(percent(&number("0.009999"), &price).unwrap(), 99);
        assert_eq!(percent(&number("0"), &price).unwrap(), 0);
        assert_eq!(percent(&number("1000000"), &price).unwrap(), u16::MAX);
        for bad in ["-1", "1e400", "0.0000001"] {
            if let Ok(bad) = serde_json::from_str(bad) {
                assert!(percent(&bad, &price).is_err(), "{bad}");
            }
        }
        let two = Price { per_token: micro(1), ..price };
        assert!(percent(&number("1"), &two).is_err());
        assert!(percent(&number("1"), &Price::default()).is_err());
    }

    #[test]
    fn regions_are_one_wish() {
        let some = |text: &str| Some(text.to_owned());
        let of = NewJob::regions;
        assert_eq!(of(None, vec![], None).unwrap(), RegionPolicy::Any);
        assert_eq!(of(some("eu"), vec![], None).unwrap(), RegionPolicy::Only(vec!["eu".into()]));
        assert_eq!(of(None, vec![], some("eu")).unwrap(), RegionPolicy::Prefer("eu".into()));
        assert!(of(some("eu"), vec![], some("us")).is_err());
        assert!(of(some(""), vec![], None).is_err());
        assert!(of(None, vec!["r".into(); 17], None).is_err());
    }
}
