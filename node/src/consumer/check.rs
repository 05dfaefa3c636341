//! Whether what an Island claims fits what this Consumer has seen: prices along the way, receipts
//! at the end.

use super::delivery::Output;
use archipelag_protocol::{
    advert::MAX_AHEAD_MS,
    amount::Credits,
    event::Event,
    id::AccountId,
    job::{Failure, Offer, Step},
    manifest::RuntimeType,
    payment::{Receipt, Verdict},
    pricing::{HardwareTier, Metering, Price},
    time::Timestamp,
};
use std::time::Duration;

/// What two clocks may differ by over one job, and what a runtime may take to end a job that is out
/// of time.
const SLACK_MS: u64 = 1_500;

/// How many times as fast as the clock instructions can be metered: the meter's rate is half of
/// what fast cores do.
const METERED_SPEED_MAX: u64 = 4;

/// What the Consumer knows of the job that a receipt is for.
pub(super) struct Expected<'a> {
    pub(super) offer: &'a Offer,
    pub(super) payer: AccountId,
    pub(super) tier: HardwareTier,
    pub(super) price: Price,
    pub(super) runtime: RuntimeType,
    /// The tier's time limit.
    pub(super) time_ms: u64,
    /// Since the offer went out.
    pub(super) elapsed: Duration,
    /// This Consumer asked for the end.
    pub(super) cancelled: bool,
}

impl Expected<'_> {
    /// The most that a meter which runs `speed` times as fast as the clock can show.
    fn elapsed_ms(&self, speed: u64) -> u64 {
        let elapsed = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX);
        let elapsed = elapsed.saturating_add(elapsed / 50);
        elapsed.saturating_mul(speed).saturating_add(SLACK_MS)
    }

    /// The most that the work so far can have cost, as the Island meters it: by the clock.
    pub(super) fn price_by_now(&self, output: &Output) -> Credits {
        let duration_ms = self.elapsed_ms(1).min(self.time_ms.saturating_add(SLACK_MS));
        let price = self.price.of(Metering { tokens: output.tokens(), duration_ms });
        price.min(self.offer.price_max)
    }

    /// Checks a receipt whose signature is the Island's.
    ///
    /// # Errors
    /// What is not as it must be.
    pub(super) fn check(
        &self,
        receipt: &Receipt,
        reason: Option<&Failure>,
        output: &Output,
        now: Timestamp,
    ) -> Result<(), String> {
        let offer = self.offer;
        let same = [
            ("job", receipt.job == offer.job),
            ("cargo", receipt.cargo == offer.cargo),
            ("payer", receipt.payer == self.payer),
            ("island", receipt.island == offer.island),
            ("hold", receipt.hold == offer.hold),
            ("lane", receipt.lane == offer.lane),
            ("input", receipt.input == offer.input),
            ("output", receipt.output == output.id()),
            ("tier", receipt.tier == self.tier),
            ("finished", receipt.finished.since_ms(now) <= MAX_AHEAD_MS),
        ];
        if let Some((field, _)) = same.iter().find(|(_, same)| !same) {
            return Err(format!("receipt field `{field}` is not this job's"));
        }
        self.check_verdict(receipt.verdict, reason, output)?;
        self.check_metering(receipt.metering, output)?;
        self.check_price(receipt, output)
    }

    fn check_verdict(
        &self,
        verdict: Verdict,
        reason: Option<&Failure>,
        output: &Output,
    ) -> Result<(), String> {
        let last = output.last();
        match verdict {
            Verdict::Completed if !matches!(last, Some(Event::Done { .. })) => {
                Err("receipt field `verdict`: completed, and the output has no `done`".into())
            }
            Verdict::Completed => Ok(()),
            _ if reason.is_none() => Err("a job that did not complete needs a reason".into()),
            _ if matches!(last, Some(Event::Done { .. })) && !self.cancelled => {
                Err("receipt field `verdict`: not completed, and the output has `done`".into())
            }
            _ => Ok(()),
        }
    }

    fn check_metering(&self, metering: Metering, output: &Output) -> Result<(), String> {
        if metering.tokens > output.tokens() {
            let (found, most) = (metering.tokens, output.tokens());
            return Err(format!("receipt field `tokens`: {found}, of which {most} came"));
        }
        // A repeatable run is metered by its instructions, which a fast machine runs in less time.
        let by_clock = receipt_is_by_clock(self.runtime);
        let speed = if by_clock { 1 } else { METERED_SPEED_MAX };
        let limit = self.time_ms.saturating_add(SLACK_MS);
        let most = self.elapsed_ms(speed).min(limit);
        if metering.duration_ms > most {
            let found = metering.duration_ms;
            return Err(format!("receipt field `duration_ms`: {found}, at most {most}"));
        }
        Ok(())
    }

    fn check_price(&self, receipt: &Receipt, output: &Output) -> Result<(), String> {
        let most = match receipt.verdict {
            Verdict::Completed => self.price.of(receipt.metering),
            Verdict::Cancelled => {
                let mut parts = self.price;
                if output.is_empty() {
                    parts.per_job = Credits::ZERO;
                }
                parts.of(receipt.metering)
            }
            _ => Credits::ZERO,
        };
        let most = most.min(self.offer.price_max);
        if receipt.price > most {
            let found = receipt.price;
            return Err(format!("receipt field `price`: {found} credits, at most {most}"));
        }
        Ok(())
    }
}

fn receipt_is_by_clock(runtime: RuntimeType) -> bool {
    runtime != RuntimeType::Wasm
}

/// Whether another Island may succeed where this one failed. What the Cargo does to itself (a trap,
/// a limit, a broken protocol, its own `error`) it would do anywhere.
pub(super) fn is_islands_fault(failure: &Failure) -> bool {
    matches!(failure.step, Step::Artifact | Step::Engine | Step::Lost)
}
