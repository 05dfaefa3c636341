//! Choosing Islands for a Cargo (`SPEC.md`, "Choosing an Island"): one pure function from a request
//! and adverts to an ordered list, with an explanation for each Island.
//!
//! Called by every node that places a job, and by each Island through [`can_run`] and [`has_room`],
//! so that nobody offers what the Island would refuse. It never allocates per Island: words are
//! made when somebody asks for them ([`Ranked::explain`]).

mod score;
#[cfg(test)]
mod tests;
mod tie;

pub use score::{Factor, Line};

use crate::{
    advert::{self, Advert, MAX_REGION_BYTES, SignedAdvert},
    id::{CargoId, JobId, NodeId},
    job::RefusalKind,
    ledger::IslandStanding,
    manifest::{Platform, Requirements, RuntimeType},
    policy::Policy,
    time::Timestamp,
};
use score::Scores;
use std::cmp::Ordering;
use thiserror::Error;

/// Regions that one request may name.
pub const MAX_REGIONS: usize = 16;

/// What a job needs and its Consumer wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Seeds the order of Islands that are equally good, so that jobs spread over them.
    pub tie: JobId,
    pub cargo: CargoId,
    pub runtime: RuntimeType,
    pub requirements: Requirements,
    pub regions: RegionPolicy,
    /// The most that the Consumer pays, in percent of the Cargo's price.
    pub bid_percent: Option<u16>,
    /// The rate from which a `llmcpp` Island is as good as a faster one;
    /// [`Request::TOKENS_PER_SECOND`] when absent.
    pub tokens_per_second: Option<u32>,
}

impl Request {
    /// Faster than people read.
    pub const TOKENS_PER_SECOND: u32 = 20;

    fn tokens_wished(&self) -> u32 {
        self.tokens_per_second.unwrap_or(Self::TOKENS_PER_SECOND).max(1)
    }
}

/// Where a job may run. Names are compared without regard to ASCII case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RegionPolicy {
    #[default]
    Any,
    /// Elsewhere too, but here first.
    Prefer(String),
    /// Nowhere else.
    Only(Vec<String>),
}

/// A region policy over its limits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("field `regions`: {found} {unit}, must be 1 to {limit}")]
pub struct RegionError {
    limit: usize,
    found: usize,
    unit: &'static str,
}

impl RegionPolicy {
    /// Checks what a Consumer asked for.
    ///
    /// # Errors
    /// When a list is empty or longer than [`MAX_REGIONS`], or a name is empty or longer than an
    /// advert's may be.
    pub fn validate(&self) -> Result<(), RegionError> {
        let check = |limit, found, unit| {
            if (1..=limit).contains(&found) {
                return Ok(());
            }
            Err(RegionError { limit, found, unit })
        };
        let names: &[String] = match self {
            Self::Any => return Ok(()),
            Self::Prefer(name) => std::slice::from_ref(name),
            Self::Only(names) => names,
        };
        check(MAX_REGIONS, names.len(), "regions")?;
        names.iter().try_for_each(|name| check(MAX_REGION_BYTES, name.len(), "bytes in a name"))
    }

    fn allows(&self, region: &str) -> bool {
        match self {
            Self::Any | Self::Prefer(_) => true,
            Self::Only(names) => names.iter().any(|name| name.eq_ignore_ascii_case(region)),
        }
    }
}

/// What a node knows about one Island.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its newest advert, verified. One candidate for each node.
    pub advert: &'a SignedAdvert,
    /// What the ledger says of the advert's account; `None` for one that it doesn't know yet.
    pub standing: Option<IslandStanding>,
    /// Measured round-trip time in microseconds.
    pub rtt_us: Option<u32>,
    /// It has had this job, or has just refused it.
    pub failed_recently: bool,
}

impl Candidate<'_> {
    fn karma_milli(&self) -> i64 {
        self.standing.map_or(0, |standing| standing.karma_milli)
    }
}

/// Why an Island is not offered a job, or refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Exclusion {
    #[error("runtime_type: the {needed} runtime is not among its supported_runtimes")]
    Runtime { needed: RuntimeType },
    #[error("platform: the {needed} runtime does not exist on platform {found:?}")]
    Platform { needed: RuntimeType, found: Platform },
    #[error("required_vram_mb: {needed} needed, it has {found}")]
    Vram { needed: u32, found: u32 },
    #[error("required_cpu_cores: {needed} needed, it has {found}")]
    Cores { needed: u32, found: u32 },
    #[error("required_ram_mb: {needed} needed, it has {found}")]
    Ram { needed: u32, found: u32 },
    #[error("suspended: the ledger has suspended this Island")]
    Suspended,
    #[error("advert: {age_ms} ms old, it counts for {life_ms}")]
    Expired { age_ms: u64, life_ms: u64 },
    #[error("advert: issued {ahead_ms} ms in the future, the limit is {}", advert::MAX_AHEAD_MS)]
    FromTheFuture { ahead_ms: u64 },
    #[error("region: not one that the job allows")]
    Region,
    #[error("asking_percent: it asks {asking} percent of the price, the bid is {bid}")]
    Price { asking: u16, bid: u16 },
    #[error("tried: it has had this job or has just refused it")]
    Tried,
    #[error("active_jobs: {active} of max_jobs {max}, it is full")]
    Full { active: u32, max: u32 },
}

impl Exclusion {
    /// What an Island answers that refuses an offer for this reason.
    #[must_use]
    pub fn refusal_kind(&self) -> RefusalKind {
        match self {
            Self::Full { .. } => RefusalKind::Full,
            _ => RefusalKind::Unsuitable,
        }
    }
}

/// Whether the Island of `advert` can run a Cargo at all. The rule of whoever places a job and the
/// Island's own refusal are this function.
///
/// # Errors
/// The first thing that it lacks.
pub fn can_run(
    advert: &Advert,
    runtime: RuntimeType,
    requirements: &Requirements,
) -> Result<(), Exclusion> {
    if !advert.supported_runtimes.contains(&runtime) {
        return Err(Exclusion::Runtime { needed: runtime });
    }
    if !runtime.runs_on(advert.platform) {
        return Err(Exclusion::Platform { needed: runtime, found: advert.platform });
    }
    let (needs, has) = (requirements, &advert.hardware);
    if has.vram_mb < needs.vram_mb {
        return Err(Exclusion::Vram { needed: needs.vram_mb, found: has.vram_mb });
    }
    if has.cpu_cores < needs.cpu_cores {
        return Err(Exclusion::Cores { needed: needs.cpu_cores, found: has.cpu_cores });
    }
    if has.ram_mb < needs.ram_mb {
        return Err(Exclusion::Ram { needed: needs.ram_mb, found: has.ram_mb });
    }
    Ok(())
}

/// Whether the Island takes one more job.
///
/// # Errors
/// [`Exclusion::Full`].
pub fn has_room(advert: &Advert) -> Result<(), Exclusion> {
    if advert.active_jobs >= advert.max_jobs {
        return Err(Exclusion::Full { active: advert.active_jobs, max: advert.max_jobs });
    }
    Ok(())
}

/// All that can stand between a job and an Island. Being full comes last: it alone says that
/// waiting helps.
fn check(
    request: &Request,
    candidate: &Candidate<'_>,
    policy: &Policy,
    now: Timestamp,
) -> Result<(), Exclusion> {
    let advert = &candidate.advert.value;
    if candidate.standing.is_some_and(|standing| standing.suspended) {
        return Err(Exclusion::Suspended);
    }
    can_run(advert, request.runtime, &request.requirements)?;
    let ahead_ms = advert.issued.since_ms(now);
    if ahead_ms > advert::MAX_AHEAD_MS {
        return Err(Exclusion::FromTheFuture { ahead_ms });
    }
    let (age_ms, life_ms) = (now.since_ms(advert.issued), policy.advert.life_ms());
    if age_ms > life_ms {
        return Err(Exclusion::Expired { age_ms, life_ms });
    }
    if !request.regions.allows(&advert.region) {
        return Err(Exclusion::Region);
    }
    if let Some(bid) = request.bid_percent
        && advert.asking_percent > bid
    {
        return Err(Exclusion::Price { asking: advert.asking_percent, bid });
    }
    if candidate.failed_recently {
        return Err(Exclusion::Tried);
    }
    has_room(advert)
}

/// An Island that can have the job.
#[derive(Clone, Copy, Debug)]
pub struct Ranked<'a> {
    pub candidate: &'a Candidate<'a>,
    scores: Scores,
    /// Their sum, made once: sorting asks for it often.
    total: u16,
    tie: u64,
}

impl Ranked<'_> {
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.candidate.advert.value.node
    }

    /// The sum of its factors' points; the highest comes first.
    #[must_use]
    pub fn score(&self) -> u16 {
        self.total
    }

    /// One line for each factor that this request looks at. `request` is the one that ranked it.
    #[must_use]
    pub fn explain(&self, request: &Request) -> Vec<Line> {
        self.scores.explain(request, self.candidate)
    }

    /// Best first; among equals by a hash of job and node (rendezvous hashing), so that every node
    /// sees the same order for one job, and each job another.
    fn order(&self, other: &Self) -> Ordering {
        let last = |r: &Self| (r.node(), r.candidate.advert.value.sequence);
        (other.total, self.tie)
            .cmp(&(self.total, other.tie))
            .then_with(|| last(self).cmp(&last(other)))
    }
}

/// An Island that can't have the job.
#[derive(Clone, Copy, Debug)]
pub struct Excluded<'a> {
    pub candidate: &'a Candidate<'a>,
    pub reason: Exclusion,
}

/// What [`rank`] found.
#[derive(Clone, Debug, Default)]
pub struct Ranking<'a> {
    /// Best first.
    pub ranked: Vec<Ranked<'a>>,
    /// Those that lack nothing but room, best first: whoever waits for room asks these. They are
    /// among `excluded`, too.
    pub full: Vec<Ranked<'a>>,
    /// In the order of the input.
    pub excluded: Vec<Excluded<'a>>,
}

/// Orders all Islands that can have the job, best first, and says of every other one why not.
///
/// The result does not depend on the order of `candidates`, except that `excluded` keeps it.
#[must_use]
pub fn rank<'a>(
    request: &Request,
    candidates: &'a [Candidate<'a>],
    policy: &Policy,
    now: Timestamp,
) -> Ranking<'a> {
    let mut ranking = score_all(request, candidates, policy, now);
    ranking.ranked.sort_unstable_by(Ranked::order);
    ranking.full.sort_unstable_by(Ranked::order);
    ranking
}

/// The first `count` of each list of [`rank`], without sorting the others.
#[must_use]
pub fn best<'a>(
    request: &Request,
    candidates: &'a [Candidate<'a>],
    policy: &Policy,
    now: Timestamp,
    count: usize,
) -> Ranking<'a> {
    let mut ranking = score_all(request, candidates, policy, now);
    for list in [&mut ranking.ranked, &mut ranking.full] {
        if count > 0 && count < list.len() {
            list.select_nth_unstable_by(count - 1, Ranked::order);
        }
        list.truncate(count);
        list.sort_unstable_by(Ranked::order);
    }
    ranking
}

fn score_all<'a>(
    request: &Request,
    candidates: &'a [Candidate<'a>],
    policy: &Policy,
    now: Timestamp,
) -> Ranking<'a> {
    let mut ranking = Ranking::default();
    for candidate in candidates {
        let checked = check(request, candidate, policy, now);
        let list = match checked {
            Ok(()) => &mut ranking.ranked,
            Err(reason) => {
                ranking.excluded.push(Excluded { candidate, reason });
                if !matches!(reason, Exclusion::Full { .. }) {
                    continue;
                }
                &mut ranking.full
            }
        };
        let scores = Scores::of(request, candidate, &policy.karma);
        let tie = tie::hash(request.tie, candidate.advert.value.node);
        list.push(Ranked { candidate, total: scores.total(), scores, tie });
    }
    ranking
}
