//! How good an Island is for a job: integer points for each factor, and the words for them.
//!
//! Called by [`super::rank`] for each Island that can have the job. The weights are of this file
//! and not of the network policy: nodes that differ in them choose differently, but still agree
//! on everything that is signed. Nearly equal is made equal where a measure is rough (karma,
//! round-trip time), so that the tie-break spreads jobs over Islands that are as good.

use super::{Candidate, RegionPolicy, Request};
use crate::{manifest::RuntimeType, policy::KarmaPolicy};
use std::fmt;

/// What an Island is judged by, in the order of `SPEC.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// The region that the Consumer prefers: all or nothing.
    Region,
    /// It has run this Cargo version lately or holds it ready: all or nothing.
    Warm,
    /// None below zero, then a tenth more for each monetization threshold, the first at zero.
    Karma,
    /// The part of its slots that is free.
    Load,
    /// By steps from under a millisecond to over half a second.
    Rtt,
    /// All at half of the Cargo's price, half at that price, none from one and a half times it.
    Price,
    /// For `llmcpp`: the estimated token rate, up to the rate that is wished for.
    Fit,
}

impl Factor {
    pub const ALL: [Self; 7] =
        [Self::Region, Self::Warm, Self::Karma, Self::Load, Self::Rtt, Self::Price, Self::Fit];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Warm => "warm",
            Self::Karma => "karma",
            Self::Load => "load",
            Self::Rtt => "round trip",
            Self::Price => "price",
            Self::Fit => "hardware fit",
        }
    }

    /// Its weight: the points of an Island that is best in it.
    #[must_use]
    pub fn max(self) -> u16 {
        match self {
            Self::Region => 300,
            Self::Warm => 250,
            Self::Karma | Self::Load => 150,
            Self::Rtt | Self::Price | Self::Fit => 100,
        }
    }
}

/// One factor of one Island, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub factor: Factor,
    pub points: u16,
    pub words: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (factor, words) = (self.factor, &self.words);
        write!(f, "{} {}/{}: {words}", factor.name(), self.points, factor.max())
    }
}

/// Points by factor, in the order of [`Factor::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scores([u16; 7]);

impl Scores {
    pub(super) fn of(request: &Request, candidate: &Candidate<'_>, karma: &KarmaPolicy) -> Self {
        Self(Factor::ALL.map(|factor| {
            let max = factor.max();
            match factor {
                Factor::Region => all_or_nothing(max, in_preferred_region(request, candidate)),
                Factor::Warm => all_or_nothing(max, is_warm(request, candidate)),
                Factor::Karma => share(max, karma_steps(candidate, karma), 10),
                Factor::Load => {
                    let advert = &candidate.advert.value;
                    let free = advert.max_jobs.saturating_sub(advert.active_jobs);
                    share(max, free.into(), advert.max_jobs.into())
                }
                Factor::Rtt => share(max, rtt_percent(candidate.rtt_us), 100),
                Factor::Price => {
                    let asking = u64::from(candidate.advert.value.asking_percent);
                    share(max, 150_u64.saturating_sub(asking), 100)
                }
                Factor::Fit => tokens_per_second(request, candidate)
                    .map_or(0, |rate| share(max, rate.into(), request.tokens_wished().into())),
            }
        }))
    }

    pub(super) fn total(self) -> u16 {
        self.0.iter().sum()
    }

    pub(super) fn explain(self, request: &Request, candidate: &Candidate<'_>) -> Vec<Line> {
        Factor::ALL
            .into_iter()
            .zip(self.0)
            .filter_map(|(factor, points)| {
                words(factor, request, candidate).map(|words| Line { factor, points, words })
            })
            .collect()
    }
}

fn all_or_nothing(max: u16, all: bool) -> u16 {
    if all { max } else { 0 }
}

/// `max × part / whole`, rounded down, at most `max`; nothing of nothing.
fn share(max: u16, part: u64, whole: u64) -> u16 {
    let scaled = (u64::from(max) * part.min(whole)).checked_div(whole).unwrap_or(0);
    u16::try_from(scaled).unwrap_or(max)
}

fn in_preferred_region(request: &Request, candidate: &Candidate<'_>) -> bool {
    let region = &candidate.advert.value.region;
    matches!(&request.regions, RegionPolicy::Prefer(name) if name.eq_ignore_ascii_case(region))
}

fn is_warm(request: &Request, candidate: &Candidate<'_>) -> bool {
    candidate.advert.value.warm.contains(&request.cargo)
}

/// 0 below zero karma, then 1 to 10.
fn karma_steps(candidate: &Candidate<'_>, policy: &KarmaPolicy) -> u64 {
    let step = policy.monetization_threshold_milli.max(1);
    u64::try_from(candidate.karma_milli())
        .map_or(0, |karma| 1 + (karma / step.unsigned_abs()).min(9))
}

/// An Island that was never measured stands between near and far, so that it gets its chance.
fn rtt_percent(rtt_us: Option<u32>) -> u64 {
    match rtt_us {
        Some(0..1_000) => 100,
        Some(1_000..5_000) => 90,
        Some(5_000..20_000) => 75,
        Some(20_000..50_000) => 60,
        Some(50_000..100_000) | None => 40,
        Some(100_000..250_000) => 20,
        Some(250_000..500_000) => 10,
        Some(500_000..) => 0,
    }
}

/// What a `llmcpp` Island can be hoped to generate. Each token reads the whole model once, so the
/// rate is memory bandwidth over model size; the memory that the Cargo requires stands for the
/// size. `None` for other runtimes and for an Island that tells no bandwidth.
fn tokens_per_second(request: &Request, candidate: &Candidate<'_>) -> Option<u32> {
    let bandwidth = candidate.advert.value.hardware.memory_bandwidth_mbps;
    if request.runtime != RuntimeType::Llmcpp || bandwidth == 0 {
        return None;
    }
    let needs = &request.requirements;
    let model_mb = if needs.vram_mb > 0 { needs.vram_mb } else { needs.ram_mb };
    Some(bandwidth / model_mb.max(1))
}

/// What a person reads about one factor; `None` where the request doesn't look at it.
fn words(factor: Factor, request: &Request, candidate: &Candidate<'_>) -> Option<String> {
    let advert = &candidate.advert.value;
    Some(match factor {
        Factor::Region => match &request.regions {
            RegionPolicy::Prefer(name) if in_preferred_region(request, candidate) => {
                format!("in {name}, as preferred")
            }
            RegionPolicy::Prefer(name) => format!("in {}, {name} is preferred", advert.region),
            RegionPolicy::Any | RegionPolicy::Only(_) => return None,
        },
        Factor::Warm if is_warm(request, candidate) => "ran this version lately or holds it".into(),
        Factor::Warm => "must fetch and prepare this version first".into(),
        Factor::Karma => {
            let milli = candidate.karma_milli();
            let sign = if milli < 0 { "-" } else { "" };
            let karma = milli.unsigned_abs();
            format!("karma {sign}{}.{:03}", karma / 1000, karma % 1000)
        }
        Factor::Load => format!("{} of {} jobs running", advert.active_jobs, advert.max_jobs),
        Factor::Rtt => match candidate.rtt_us {
            Some(us) => format!("{}.{:03} ms away", us / 1000, us % 1000),
            None => "not measured yet".into(),
        },
        Factor::Price => format!("asks {} percent of the Cargo's price", advert.asking_percent),
        Factor::Fit if request.runtime != RuntimeType::Llmcpp => return None,
        Factor::Fit => match tokens_per_second(request, candidate) {
            Some(rate) => {
                format!("about {rate} tokens/s, {} are wished for", request.tokens_wished())
            }
            None => "tells no memory bandwidth".into(),
        },
    })
}
