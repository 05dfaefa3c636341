//! How the price of a running job grows, and when the payer must pay for it.
//!
//! An Island works unpaid for one chunk (`DESIGN.md`, "Ledger"). A price that grows is asked for at
//! half a chunk, so that an honest payer's voucher is here before the work has to wait.

use archipelag_protocol::{
    amount::Credits,
    pricing::{Metering, Price},
};
use std::time::Duration;
use tokio::time::Instant;

/// How long unpaid work waits for its voucher before it is stopped.
pub(super) const VOUCHER_WAIT: Duration = Duration::from_secs(30);

/// The meter is read no more often than this.
const MIN_STEP_MS: u64 = 10;

/// What the meter wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Go,
    /// A voucher for this price.
    Ask(Credits),
    /// An end, because the voucher did not come.
    Unpaid,
    /// An end, because the price has reached what the payer allows.
    Spent,
}

/// The meter of one job.
#[derive(Debug)]
pub(super) struct Meter {
    price: Price,
    price_max: Credits,
    /// What may be unpaid.
    allowance: Credits,
    /// Time beyond this isn't charged: the sandbox ends the work there.
    limit_ms: u64,
    started: Instant,
    tokens: u64,
    paid: Credits,
    asked: Option<(Credits, Instant)>,
}

impl Meter {
    pub(super) fn start(
        price: Price,
        price_max: Credits,
        allowance: Credits,
        limit_ms: u64,
        now: Instant,
    ) -> Self {
        Self {
            price,
            price_max,
            allowance,
            limit_ms,
            started: now,
            tokens: 0,
            paid: Credits::ZERO,
            asked: None,
        }
    }

    /// The work proper starts now: what came before is not charged.
    pub(super) fn restart(&mut self, now: Instant) {
        self.started = now;
    }

    pub(super) fn count_token(&mut self) {
        self.tokens += 1;
    }

    /// What has been delivered.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// What the work has cost by `now`, without the price per job.
    pub(super) fn accrued_beside_job(&self, now: Instant) -> Credits {
        self.accrued(now).saturating_sub(self.price.per_job)
    }

    /// The price that a voucher was asked for.
    pub(super) fn due(&self) -> Option<Credits> {
        self.asked.map(|(due, _)| due)
    }

    /// The voucher for [`Meter::due`] has come.
    pub(super) fn paid(&mut self) {
        if let Some((due, _)) = self.asked.take() {
            self.paid = due;
        }
    }

    /// What the work has cost by `now`, without the payer's limit.
    pub(super) fn accrued(&self, now: Instant) -> Credits {
        let elapsed = now.saturating_duration_since(self.started).as_millis();
        let duration_ms = u64::try_from(elapsed).unwrap_or(u64::MAX).min(self.limit_ms);
        self.price.of(Metering { tokens: self.tokens, duration_ms })
    }

    fn unpaid(&self, now: Instant) -> Credits {
        self.accrued(now).min(self.price_max).saturating_sub(self.paid)
    }

    /// From how much unpaid work on a voucher is asked for.
    fn threshold(&self) -> Credits {
        let grows = self.price.per_token > Credits::ZERO || self.price.per_second > Credits::ZERO;
        if grows { self.allowance.fraction(1, 2) } else { self.allowance }
    }

    /// Whether output has to wait for a voucher.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.asked.is_some() && self.unpaid(now) > self.allowance
    }

    /// What is to be done at `now`.
    pub(super) fn read(&mut self, now: Instant) -> Reading {
        if self.accrued(now) > self.price_max {
            return Reading::Spent;
        }
        match self.asked {
            None if self.unpaid(now) > self.threshold() => {
                let due = self.accrued(now);
                self.asked = Some((due, now));
                Reading::Ask(due)
            }
            Some((_, since)) if self.is_paused(now) && now >= since + VOUCHER_WAIT => {
                Reading::Unpaid
            }
            _ => Reading::Go,
        }
    }

    /// When to read next, if nothing else happens.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if self.is_paused(now) {
            return self.asked.map(|(_, since)| since + VOUCHER_WAIT);
        }
        let rate = self.price.per_second.micro();
        let target = if self.asked.is_some() { self.allowance } else { self.threshold() };
        let target = self.paid.saturating_add(target).min(self.price_max);
        let missing = target.saturating_sub(self.accrued(now)).micro().saturating_add(1);
        let ms = missing.saturating_mul(1000).checked_div(rate)?.saturating_add(1);
        Some(now + Duration::from_millis(ms.clamp(MIN_STEP_MS, self.limit_ms.max(MIN_STEP_MS))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credits(micro: u64) -> Credits {
        Credits::from_micro(micro)
    }

    fn meter(price: Price, price_max: u64) -> (Meter, Instant) {
        let now = Instant::now();
        (Meter::start(price, credits(price_max), credits(1000), 60_000, now), now)
    }

    #[test]
    fn a_price_within_a_chunk_is_never_asked_for() {
        let price = Price { per_job: credits(1000), ..Price::default() };
        let (mut meter, now) = meter(price, 1000);
        assert_eq!(meter.read(now + Duration::from_secs(50)), Reading::Go);
        assert_eq!(meter.next(now), None);
    }

    #[test]
    fn a_price_above_a_chunk_is_paid_first() {
        let price = Price { per_job: credits(1001), ..Price::default() };
        let (mut meter, now) = meter(price, 1001);
        assert_eq!(meter.read(now), Reading::Ask(credits(1001)));
        assert!(meter.is_paused(now));
        assert_eq!(meter.next(now), Some(now + VOUCHER_WAIT));
        assert_eq!(meter.read(now + VOUCHER_WAIT), Reading::Unpaid);
        meter.paid();
        assert!(!meter.is_paused(now));
        assert_eq!(meter.read(now + VOUCHER_WAIT), Reading::Go);
    }

    #[test]
    fn time_is_asked_for_at_half_a_chunk_and_waits_at_a_whole_one() {
        let price = Price { per_second: credits(1000), ..Price::default() };
        let (mut meter, now) = meter(price, 60_000);
        let at = |ms| now + Duration::from_millis(ms);
        assert_eq!(meter.next(now), Some(at(502)));
        assert_eq!(meter.read(at(500)), Reading::Go);
        assert_eq!(meter.read(at(502)), Reading::Ask(credits(502)));
        assert!(!meter.is_paused(at(1000)));
        assert!(meter.is_paused(at(1001)));
        meter.paid();
        assert_eq!(meter.read(at(1001)), Reading::Go);
        assert_eq!(meter.read(at(1003)), Reading::Ask(credits(1003)));
    }

    #[test]
    fn the_payers_limit_ends_it_and_time_beyond_the_sandboxs_is_free() {
        let price = Price { per_token: credits(10), per_second: credits(1), ..Price::default() };
        let (mut meter, now) = meter(price, 160);
        for _ in 0..10 {
            meter.count_token();
        }
        assert_eq!(meter.read(now + Duration::from_secs(1000)), Reading::Go);
        assert_eq!(meter.accrued(now + Duration::from_secs(1000)), credits(160));
        meter.count_token();
        assert_eq!(meter.read(now + Duration::from_secs(60)), Reading::Spent);
    }
}
