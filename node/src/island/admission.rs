//! Everything an Island checks before it runs a job, cheapest first.
//!
//! Called once per stream. It reads the offer and the input; a refusal names the field and the
//! limit, and says what the Consumer is to do about it.

use super::{Core, payments::Reservation, payments::Terms, state::Place};
use crate::{
    catalog::{self, Resolved},
    job_stream::{self, Reader},
    mesh::now,
};
use archipelag_protocol::{
    advert::MAX_AHEAD_MS,
    amount::Credits,
    catalog::State,
    event::depth,
    id::ContentId,
    job::{self, Offer, Refusal, RefusalKind, SignedOffer, ToIsland},
    limits::MAX_JSON_DEPTH,
    matching,
    time::Timestamp,
};
use archipelag_runtimes::runtime::{Limits, Runtime};
use bytes::Bytes;
use futures::AsyncRead;
use std::sync::Arc;
use thiserror::Error;

/// A job that may run.
pub(super) struct Admitted {
    pub(super) offer: SignedOffer,
    pub(super) resolved: Arc<Resolved>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) input: Bytes,
    pub(super) limits: Limits,
    pub(super) place: Place,
    pub(super) money: Reservation,
}

/// Why a job does not run.
#[derive(Debug, Error)]
pub(super) enum Denied {
    /// The Consumer is told.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// No honest Consumer sends this; it is told, and scored down.
    #[error("hostile: {0}")]
    Hostile(Refusal),
    /// There is nobody to tell.
    #[error(transparent)]
    Stream(job_stream::Error),
}

fn refused(kind: RefusalKind, message: impl Into<String>) -> Denied {
    Denied::Refused(Refusal::new(kind, message))
}

fn hostile(message: impl Into<String>) -> Denied {
    Denied::Hostile(Refusal::new(RefusalKind::Invalid, message))
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<job_stream::Error> for Denied {
    fn from(error: job_stream::Error) -> Self {
        if error.is_hostile() { hostile(error.to_string()) } else { Self::Stream(error) }
    }
}

/// Reads an offer with its input and checks both.
///
/// # Errors
/// Why the job does not run here.
pub(super) async fn admit<R: AsyncRead + Unpin>(
    island: &Core,
    reader: &mut Reader<R>,
) -> Result<Admitted, Denied> {
    let ToIsland::Offer(offer) = reader.next(job::decode_to_island).await? else {
        return Err(hostile("the first frame must be an offer"));
    };
    check_offer(island, &offer)?;
    island.state.check(offer.value.job)?;
    let (resolved, runtime, limits) = check_cargo(island, &offer.value).await?;
    let price = &resolved.entry.manifest.value.price;
    check_price_max(&offer.value, price.per_job)?;
    let terms = Terms { per_job: price.per_job, time_ms: limits.sandbox.time_ms };
    let money =
        island.payments.reserve(offer.signer, &offer.value, terms, &island.store, now()).await?;
    let input = read_input(reader, &offer.value).await?;
    check_input(&resolved, &input)?;
    let place = island.state.take(offer.value.job, offer.value.expires, now())?;
    Ok(Admitted { offer, resolved, runtime, input, limits, place, money })
}

/// What needs nothing but the offer. The signature, which costs most, is checked last.
fn check_offer(island: &Core, signed: &SignedOffer) -> Result<(), Denied> {
    let (offer, now, policy) = (&signed.value, now(), &island.genesis.policy.job);
    if offer.island != island.payments.me {
        return Err(refused(RefusalKind::Invalid, "field `island`: it is another Island's offer"));
    }
    if offer.input_bytes > policy.input_bytes_max {
        let (found, most) = (offer.input_bytes, policy.input_bytes_max);
        let message = format!("field `input_bytes`: {found}, the limit is {most}");
        return Err(refused(RefusalKind::Invalid, message));
    }
    check_age(offer, now, policy.offer_life_ms, island.started)?;
    if offer.started > offer.issued {
        return Err(hostile("field `started`: later than `issued`"));
    }
    signed
        .verify(island.payments.network)
        .map_err(|e| hostile(format!("field `signature`: {e}")))?;
    Ok(())
}

/// A job that can't pay its price per job would run for less.
fn check_price_max(offer: &Offer, per_job: Credits) -> Result<(), Denied> {
    if offer.price_max < per_job {
        let most = offer.price_max;
        let message = format!("field `price_max`: {most} credits, a job costs {per_job}");
        return Err(refused(RefusalKind::Invalid, message));
    }
    Ok(())
}

fn check_age(
    offer: &Offer,
    now: Timestamp,
    life_ms: u64,
    started: Timestamp,
) -> Result<(), Denied> {
    let stale = |message: String| Err(refused(RefusalKind::Stale, message));
    if offer.issued.since_ms(now) > MAX_AHEAD_MS {
        let ahead = offer.issued.since_ms(now);
        return stale(format!("field `issued`: {ahead} ms in the future, at most {MAX_AHEAD_MS}"));
    }
    if offer.expires < now {
        return stale(format!("field `expires`: {}, it is {now}", offer.expires));
    }
    if offer.expires > offer.issued.after_ms(life_ms) {
        return Err(hostile(format!("field `expires`: an offer lives {life_ms} ms at most")));
    }
    // Job ids of before the start are forgotten, so an offer of then might run twice.
    if offer.issued < started {
        return stale(format!(
            "field `issued`: {}, this Island started at {started}",
            offer.issued
        ));
    }
    Ok(())
}

/// Whether this Island runs this Cargo, and within which limits.
async fn check_cargo(
    island: &Core,
    offer: &Offer,
) -> Result<(Arc<Resolved>, Arc<dyn Runtime>, Limits), Denied> {
    let unsuitable = |message: String| refused(RefusalKind::Unsuitable, message);
    let resolved = island.cargos.cargo(offer.cargo).await.map_err(|e| match e {
        catalog::Error::Invalid(_) | catalog::Error::Unknown(_) => {
            unsuitable(format!("field `cargo`: {e}"))
        }
        _ => unsuitable(e.to_string()),
    })?;
    let (manifest, record) = (&resolved.entry.manifest.value, &resolved.entry.record);
    if record.state != State::Published {
        return Err(unsuitable(format!(
            "{} is {:?}, not published",
            manifest.label(),
            record.state
        )));
    }
    matching::can_run(&island.capabilities, manifest.runtime_type, &manifest.requirements)
        .map_err(|e| refused(e.refusal_kind(), e.to_string()))?;
    let runtime = island.runtimes.get(&manifest.runtime_type).cloned().ok_or_else(|| {
        unsuitable(format!("runtime_type: the {} runtime is not built in", manifest.runtime_type))
    })?;
    let level = record.trust_level;
    if level.needs_signature() {
        let message = format!(
            "trust level {level} needs a cosign signature, and this Island can't verify any: \
             it runs levels 0 and 1"
        );
        return Err(unsuitable(message));
    }
    let policy = &island.genesis.policy;
    policy.sandbox.check(level, &manifest.requirements).map_err(|e| unsuitable(e.to_string()))?;
    let sandbox = island.config.tighten.apply(policy.sandbox.limits(level));
    let limits = Limits::new(sandbox, &policy.job);
    Ok((resolved, runtime, limits))
}

async fn read_input<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    offer: &Offer,
) -> Result<Bytes, Denied> {
    let invalid = |message: String| Err(refused(RefusalKind::Invalid, message));
    // The offer's own size is bounded; memory grows with what comes, not with what is announced.
    let length = usize::try_from(offer.input_bytes).unwrap_or(usize::MAX);
    let mut input: Vec<u8> = Vec::new();
    while input.len() < length {
        match reader.next(job::decode_to_island).await? {
            ToIsland::Input(chunk) if chunk.is_empty() => {
                return Err(hostile("an empty input frame"));
            }
            ToIsland::Input(chunk) if input.is_empty() => input = chunk.into_vec(),
            ToIsland::Input(chunk) => input.extend_from_slice(&chunk),
            ToIsland::Cancel => return Err(Denied::Stream(job_stream::Error::Closed)),
            _ => return Err(hostile("a frame that is no input, within the input")),
        }
        if input.len() > length {
            return invalid(format!("field `input_bytes`: more than {length} bytes came"));
        }
    }
    if ContentId::of(&input) != offer.input {
        return invalid("field `input`: the input is not what its hash says".into());
    }
    Ok(input.into())
}

/// The messages say where the input is wrong, never what is in it.
fn check_input(resolved: &Resolved, input: &[u8]) -> Result<(), Denied> {
    let invalid = |message: String| refused(RefusalKind::Invalid, message);
    let text =
        std::str::from_utf8(input).map_err(|_| invalid("field `input`: not UTF-8".into()))?;
    if depth(text) > MAX_JSON_DEPTH {
        return Err(invalid(format!("field `input`: nested deeper than {MAX_JSON_DEPTH}")));
    }
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|e| invalid(format!("field `input`: not JSON, column {}", e.column())))?;
    if !value.is_object() {
        return Err(invalid("field `input`: not a JSON object".into()));
    }
    resolved.input_schema.validate(&value).map_err(|errors| {
        let first = errors.first().map(|e| e.field.clone()).unwrap_or_default();
        invalid(format!("field `input{first}`: not what the Cargo's input_schema asks for"))
    })
}
