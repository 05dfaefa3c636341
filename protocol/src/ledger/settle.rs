//! Receipts: who gets what of a job's price, and what the job does to an Island's karma and a
//! Cargo's counters (`SPEC.md`, "Price and payout" and "Karma of an Island").

use super::{
    IslandStanding, Rejected,
    draft::{Draft, sum},
    execute::check_lane,
};
use crate::{
    amount::Credits,
    catalog::Counters,
    id::{AccountId, HoldId},
    payment::{Receipt, Verdict},
    policy::{KarmaPolicy, ReputationPolicy},
    pricing::{self, HardwareTier, Split},
};

/// Settles one receipt that both sides signed: takes its price out of what the hold has redeemed
/// and splits it between Island, publisher and treasury.
pub(super) fn receipt(draft: &mut Draft<'_>, receipt: &Receipt) -> Result<(), Rejected> {
    let state = draft.state;
    check_lane(draft, receipt.lane)?;
    let cargo =
        state.cargos.get(&receipt.cargo).filter(|c| c.was_published()).ok_or_else(|| {
            Rejected::field("cargo", format!("no Cargo {} is published", receipt.cargo))
        })?;
    let price = check_price(receipt, cargo.manifest.value.price.of(receipt.metering))?;
    advance_hold(draft, receipt, price)?;

    // The standing before this job decides whether it is paid.
    let share = cargo.manifest.value.revenue_share_percent;
    let split = split(draft, receipt.island, price, share, receipt.tier);
    draft.credit(receipt.island, split.island)?;
    draft.credit(cargo.record.publisher, split.publisher)?;
    move_treasury(draft, split, Credits::ZERO)?;

    let limit_ms = draft.policy().sandbox.limits(cargo.record.trust_level).time_ms;
    let policy = &draft.policy().karma;
    let standing = draft.island_mut(receipt.island);
    standing.jobs = standing.jobs.saturating_add(1);
    standing.earned = sum(standing.earned, split.island)?;
    add_karma(policy, standing, receipt, limit_ms);
    let policy = &draft.policy().reputation;
    count(draft.counters_mut(receipt.cargo), receipt, limit_ms, policy);
    Ok(())
}

/// Only completed work is charged, and of a cancelled job what was delivered; never more than the
/// Cargo's price for what was metered.
fn check_price(receipt: &Receipt, most: Credits) -> Result<Credits, Rejected> {
    let charged = matches!(receipt.verdict, Verdict::Completed | Verdict::Cancelled);
    let most = if charged { most } else { Credits::ZERO };
    if receipt.price > most {
        let reason =
            format!("{} credits, at most {most} for this verdict and metering", receipt.price);
        return Err(Rejected::field("price", reason));
    }
    Ok(receipt.price)
}

/// Checks the receipt against its hold and takes its place in the lane.
fn advance_hold(draft: &mut Draft<'_>, receipt: &Receipt, price: Credits) -> Result<(), Rejected> {
    let hold = draft.hold_mut(receipt.hold)?;
    if receipt.payer != hold.payer {
        return Err(Rejected::field("payer", "it is not the hold's payer"));
    }
    if receipt.island != hold.payee {
        return Err(Rejected::field("island", "it is not the hold's payee"));
    }
    let earned = hold.redeemed.saturating_sub(hold.settled);
    if price > earned {
        let reason =
            format!("{price} credits, {earned} are redeemed and not settled: redeem first");
        return Err(Rejected::field("price", reason));
    }
    hold.settled = sum(hold.settled, price)?;
    let lane = hold.lanes.entry(receipt.lane).or_default();
    if receipt.sequence < lane.next_receipt {
        let reason =
            format!("{}, the lane is settled up to {}", receipt.sequence, lane.next_receipt);
        return Err(Rejected::field("sequence", reason));
    }
    lane.next_receipt =
        receipt.sequence.checked_add(1).ok_or_else(|| Rejected::field("sequence", "used up"))?;
    Ok(())
}

fn split(
    draft: &Draft<'_>,
    island: AccountId,
    price: Credits,
    share_percent: u8,
    tier: HardwareTier,
) -> Split {
    let policy = draft.policy();
    let standing = draft.island(island);
    let paid = earns(&policy.karma, &standing);
    pricing::split(&policy.payout, price, share_percent, tier, paid, draft.treasury())
}

/// Whether an Island's payout reaches it.
fn earns(policy: &KarmaPolicy, standing: &IslandStanding) -> bool {
    !standing.suspended && standing.karma_milli >= policy.monetization_threshold_milli
}

/// Books a split's treasury part, and `more` into the treasury.
fn move_treasury(draft: &mut Draft<'_>, split: Split, more: Credits) -> Result<(), Rejected> {
    let into = sum(split.to_treasury, more)?;
    let left = draft.treasury().saturating_sub(split.from_treasury);
    draft.set_treasury(sum(left, into)?);
    Ok(())
}

/// What a job does to karma.
///
/// - Completed: its time counts, up to the Cargo's own time limit; the remainder carries over.
/// - The Cargo's `error`, a trap, a broken protocol or a limit hit are the Cargo's doing: nothing.
///   Else anybody could ruin an Island with a Cargo that always fails, which costs its Consumer
///   nothing.
/// - A time-out after the Cargo had all of its time is the Cargo's doing too. One before that means
///   that the Island stopped or lost the work: it costs what a lost lease costs. So does a job that
///   a restarted Island settles because the work died with it.
/// - Cancelled: nothing.
fn add_karma(
    policy: &KarmaPolicy,
    standing: &mut IslandStanding,
    receipt: &Receipt,
    limit_ms: u64,
) {
    match receipt.verdict {
        Verdict::Completed => {
            let ms = receipt.metering.duration_ms.min(limit_ms);
            let below = standing.karma_milli < policy.monetization_threshold_milli;
            let percent = if below { policy.below_threshold_percent } else { 100 };
            let per_milli_point = (policy.compute_ms_per_point / 10).max(1);
            let total = ms.saturating_mul(u64::from(percent)).saturating_add(standing.remainder);
            let gained = i64::try_from(total / per_milli_point).unwrap_or(i64::MAX);
            standing.karma_milli = standing.karma_milli.saturating_add(gained);
            standing.remainder = total % per_milli_point;
        }
        Verdict::Timeout if receipt.metering.duration_ms < limit_ms => {
            standing.karma_milli = standing.karma_milli.saturating_sub(policy.timeout_cost_milli);
        }
        Verdict::Timeout | Verdict::CargoFailed | Verdict::Failed | Verdict::Cancelled => {}
    }
}

/// Counts a job for its Cargo. A cancelled one, and one that the Island lost, is neither a success
/// nor a failure of the Cargo.
fn count(counters: &mut Counters, receipt: &Receipt, limit_ms: u64, policy: &ReputationPolicy) {
    let duration_ms = receipt.metering.duration_ms;
    counters.total_jobs = counters.total_jobs.saturating_add(1);
    match receipt.verdict {
        Verdict::Completed => {
            counters.successful_jobs = counters.successful_jobs.saturating_add(1);
            counters.execution_ms = counters.execution_ms.saturating_add(duration_ms.min(limit_ms));
            counters.reputation.count(true, policy);
        }
        Verdict::Timeout if duration_ms < limit_ms => {}
        Verdict::Timeout | Verdict::CargoFailed | Verdict::Failed => {
            counters.failed_jobs = counters.failed_jobs.saturating_add(1);
            counters.reputation.count(false, policy);
        }
        Verdict::Cancelled => {}
    }
}

/// Ends a hold. What was not redeemed goes back to the payer. What was redeemed but never settled
/// by a receipt is split with the default revenue share and the lowest hardware tier, and the
/// publisher's part goes to the treasury, since nothing says which Cargo and hardware it was: so
/// keeping receipts back never pays (`adr/0001-redeem-and-settle.md`).
pub(super) fn end_hold(draft: &mut Draft<'_>, id: HoldId) -> Result<(), Rejected> {
    let hold = draft.hold_mut(id)?.clone();
    draft.end_hold(id);
    let payer = draft.account_mut(hold.payer);
    payer.holds = payer.holds.saturating_sub(1);
    draft.credit(hold.payer, hold.cap.saturating_sub(hold.redeemed))?;

    let unsettled = hold.redeemed.saturating_sub(hold.settled);
    let share = draft.policy().payout.revenue_share_default_percent;
    let split = split(draft, hold.payee, unsettled, share, HardwareTier::CpuOnly);
    draft.credit(hold.payee, split.island)?;
    if split.island > Credits::ZERO {
        let standing = draft.island_mut(hold.payee);
        standing.earned = sum(standing.earned, split.island)?;
    }
    move_treasury(draft, split, split.publisher)
}
