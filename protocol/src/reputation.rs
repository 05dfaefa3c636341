//! A Cargo's reputation: how its jobs went, recent ones weighing more (`SPEC.md`, "Reputation of a
//! Cargo"). The ledger keeps it with the Cargo's counters; integers only.

use crate::policy::ReputationPolicy;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One outcome, in the unit of a share.
const ONE: u64 = 1 << 20;

/// How many of some outcomes were good, each weighing a little less with every one after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    good: u64,
    all: u64,
}

impl Share {
    /// A share of `count` good outcomes.
    fn of(count: u32) -> Self {
        let all = u64::from(count).saturating_mul(ONE);
        Self { good: all, all }
    }

    /// Takes one more; `memory` outcomes later it weighs a third of that.
    fn add(&mut self, good: bool, memory: u32) {
        let memory = u64::from(memory.max(1));
        self.good -= self.good / memory;
        self.all -= self.all / memory;
        self.all = self.all.saturating_add(ONE);
        if good {
            self.good = self.good.saturating_add(ONE);
        }
    }

    /// In thousandths; `None` before the first.
    #[must_use]
    pub fn milli(self) -> Option<u32> {
        let milli = (u128::from(self.good) * 1000).checked_div(u128::from(self.all))?;
        u32::try_from(milli).ok()
    }
}

/// What the ledger remembers of how a Cargo's jobs went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reputation {
    /// Jobs that succeeded. The first is preceded by some good ones of which nobody knows, so that
    /// it does not decide alone.
    pub success: Share,
    /// Hours with jobs in which so many of them succeeded as have to.
    pub reliability: Share,
    /// What reviews and ratings of its users add. Nobody rates yet: none counts as the rest does.
    pub feedback: Share,
    /// Jobs of the hour that has not been swept, and how many of them succeeded.
    pub hour_jobs: u32,
    pub hour_successes: u32,
    /// The score fell to where its publisher is warned, or below to where a trust level is lost;
    /// once until it rises again.
    pub warned: bool,
    pub demoted: bool,
}

/// What a sweep finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Fine,
    /// Its publisher should look at it.
    Warn,
    /// It loses one trust level.
    Demote,
    Suspend,
}

/// A score in thousandths of 0..1, shown as 0.0 to 5.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Score(pub u32);

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_mul(5) / 100;
        write!(f, "{}.{}", tenths / 10, tenths % 10)
    }
}

impl Score {
    #[must_use]
    pub fn label(self) -> &'static str {
        match self.0 {
            800.. => "Excellent",
            600.. => "Good",
            400.. => "Fair",
            200.. => "Poor",
            _ => "at risk",
        }
    }
}

impl Reputation {
    /// Counts a job that succeeded, or failed by the Cargo's doing.
    pub fn count(&mut self, succeeded: bool, policy: &ReputationPolicy) {
        if self.success == Share::default() {
            self.success = Share::of(policy.prior_jobs);
        }
        self.success.add(succeeded, policy.memory_jobs);
        self.hour_jobs = self.hour_jobs.saturating_add(1);
        self.hour_successes = self.hour_successes.saturating_add(u32::from(succeeded));
    }

    /// `None` before the first job.
    #[must_use]
    pub fn score(&self, policy: &ReputationPolicy) -> Option<Score> {
        let success = self.success.milli()?;
        // Before the first hour is over nothing is known of hours.
        let reliability = self.reliability.milli().unwrap_or(success);
        let weights = [policy.success_weight_percent, policy.reliability_weight_percent];
        let [of_success, of_reliability] = weights.map(u32::from);
        let known = of_success + of_reliability;
        let weighted = of_success * success + of_reliability * reliability;
        let Some(feedback) = self.feedback.milli() else {
            return weighted.checked_div(known).map(Score);
        };
        let of_feedback = u32::from(policy.feedback_weight_percent);
        (weighted + of_feedback * feedback).checked_div(known + of_feedback).map(Score)
    }

    /// Closes the hour of a Cargo with `jobs` that counted in all, and says what to do with it.
    pub fn sweep(&mut self, jobs: u64, policy: &ReputationPolicy) -> Finding {
        if self.hour_jobs > 0 {
            let kept = u64::from(self.hour_successes) * 1000
                >= u64::from(self.hour_jobs) * u64::from(policy.suspend_success_milli);
            self.reliability.add(kept, policy.memory_hours);
            (self.hour_jobs, self.hour_successes) = (0, 0);
        }
        let (Some(Score(score)), Some(success)) = (self.score(policy), self.success.milli()) else {
            return Finding::Fine;
        };
        if jobs >= policy.established_jobs {
            let bad = score < policy.suspend_score_milli || success < policy.suspend_success_milli;
            return if bad { Finding::Suspend } else { Finding::Fine };
        }
        let (warn, demote) = (score < policy.warn_score_milli, score < policy.demote_score_milli);
        let (warned, demoted) = (self.warned, self.demoted);
        (self.warned, self.demoted) = (warn, demote);
        match () {
            () if score < policy.new_suspend_score_milli => Finding::Suspend,
            () if demote && !demoted => Finding::Demote,
            () if warn && !warned => Finding::Warn,
            () => Finding::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> ReputationPolicy {
        ReputationPolicy { prior_jobs: 0, ..ReputationPolicy::default() }
    }

    fn after(jobs: &[(bool, u32)], policy: &ReputationPolicy) -> Reputation {
        let mut reputation = Reputation::default();
        for (succeeded, count) in jobs {
            (0..*count).for_each(|_| reputation.count(*succeeded, policy));
        }
        reputation
    }

    #[test]
    fn the_score_is_what_its_parts_weigh() {
        let policy = policy();
        let mut reputation = after(&[(true, 4), (false, 1)], &policy);
        assert_eq!(Reputation::default().score(&policy), None);
        // 80 % of the jobs; no hour is over, nobody rated: nothing else counts.
        let few = reputation.score(&policy).unwrap().0;
        assert!((790..=800).contains(&few), "{few}");
        // The hour was not one of those in which 90 % succeeded: (60 × 0.80 + 25 × 0) / 85.
        assert_eq!(reputation.sweep(5, &policy), Finding::Fine);
        let swept = reputation.score(&policy).unwrap().0;
        assert!((555..=565).contains(&swept), "{swept}");
        // 60 × 0.80 + 25 × 0 + 15 × 1 = 0.63.
        reputation.feedback = Share::of(10);
        let rated = reputation.score(&policy).unwrap();
        assert!((620..=632).contains(&rated.0), "{rated:?}");
        assert_eq!((rated.to_string(), rated.label()), ("3.1".to_owned(), "Good"));
        assert_eq!(Score(1000).to_string(), "5.0");
        assert_eq!(
            [1000, 799, 599, 399, 199].map(|s| Score(s).label()),
            ["Excellent", "Good", "Fair", "Poor", "at risk"]
        );
    }

    #[test]
    fn recent_jobs_weigh_more() {
        let policy = policy();
        let improved = after(&[(false, 100), (true, 100)], &policy).success.milli().unwrap();
        let worsened = after(&[(true, 100), (false, 100)], &policy).success.milli().unwrap();
        assert!(improved > 650 && worsened < 350, "{improved} {worsened}");
        let long = after(&[(false, 1_000), (true, 1_000)], &policy).success.milli().unwrap();
        assert!(long > 990, "{long}");
    }

    #[test]
    fn an_established_cargo_is_suspended_below_nine_in_ten_or_half_a_score() {
        let policy = policy();
        let cases = [((true, 100), Finding::Fine), ((false, 100), Finding::Suspend)];
        for (jobs, expected) in cases {
            assert_eq!(after(&[jobs], &policy).sweep(100, &policy), expected);
        }
        // 11 of the last hundred failed.
        let mut eleven = after(&[(true, 89), (false, 11)], &policy);
        assert_eq!(eleven.sweep(100, &policy), Finding::Suspend);
        let mut new = after(&[(true, 89), (false, 10)], &policy);
        assert_eq!(
            new.sweep(99, &policy),
            Finding::Fine,
            "the strict rule is for established ones"
        );
    }

    #[test]
    fn a_new_cargo_goes_down_the_ladder() {
        let policy = policy();
        let rung = |good: u32| {
            let mut reputation = after(&[(false, 40 - good), (true, good)], &policy);
            // A good hour would add to the score: look at jobs alone.
            let score = reputation.score(&policy).unwrap().0;
            (score, reputation.sweep(40, &policy))
        };
        for (good, expected) in [
            (2, Finding::Suspend),
            (3, Finding::Suspend),
            (6, Finding::Demote),
            (9, Finding::Demote),
        ] {
            let (score, found) = rung(good);
            assert_eq!(found, expected, "{good} of 40, {score}");
        }
        assert_eq!(rung(14).1, Finding::Warn);
        assert_eq!(rung(30).1, Finding::Fine);
        // Once, until it has risen.
        let mut low = after(&[(false, 31), (true, 9)], &policy);
        assert_eq!(low.sweep(40, &policy), Finding::Demote);
        assert_eq!(low.sweep(40, &policy), Finding::Fine);
        assert!(low.demoted && low.warned);
        (0..60).for_each(|_| low.count(true, &policy));
        assert_eq!(low.sweep(99, &policy), Finding::Fine);
        assert!(!low.demoted && !low.warned);
    }

    #[test]
    fn the_first_job_does_not_decide_alone() {
        let policy = ReputationPolicy::default();
        let mut unlucky = after(&[(false, 1)], &policy);
        assert_eq!(unlucky.sweep(1, &policy), Finding::Fine);
        assert!(unlucky.score(&policy).unwrap() > Score(500));
    }
}
