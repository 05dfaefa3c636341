//! One transaction against the state: all of it or nothing.
//!
//! Called for each transaction of a block, and by mempools through [`State::check`]. Signatures are
//! checked before, by [`super::transaction::decode`] or [`State::apply`]; here signers are compared
//! with whom the rules ask for. The height and time are those of the state, which a block sets
//! before its first transaction.

use super::{
    Action, Hold, Rejected, SignedTransaction, State,
    draft::{Changes, Draft, sum},
    settle, stake,
    state::{Cargo, Slug, hold_of},
    transaction::{Payee, check_batch},
};
use crate::{
    amount::Credits,
    catalog::{self, Record},
    genesis::PublisherTier,
    id::{AccountId, HoldId, TxId},
    manifest::SignedManifest,
    payment::{Lane, SignedVoucher},
    policy::PublishingPolicy,
    time::Timestamp,
    trust::TrustLevel,
};
use std::collections::BTreeMap;

impl State {
    /// Whether a mempool may keep a transaction: the sender is known, its nonce is not used up and
    /// its batch is within the limits. A nonce ahead of the account's may become valid. Costs one
    /// look-up; the signature is taken as checked.
    ///
    /// # Errors
    /// Why it can't be executed, now or later.
    pub fn check(&self, transaction: &SignedTransaction) -> Result<(), Rejected> {
        let sender = transaction.signer;
        let account = self.accounts.get(&sender).ok_or(Rejected::NoAccount(sender))?;
        let (expected, found) = (account.nonce, transaction.value.nonce);
        if found < expected {
            return Err(Rejected::Nonce { expected, found });
        }
        check_batch(&transaction.value.action)
    }

    /// Whether the next block could execute a transaction whose signatures are valid and whose id
    /// is `id`, if it had no other.
    ///
    /// # Errors
    /// As [`State::execute`].
    pub fn allows(&self, transaction: &SignedTransaction, id: TxId) -> Result<(), Rejected> {
        self.attempt(transaction, id).map(|_| ())
    }

    /// Of vouchers whose signatures are valid those that one `Redeem` could take in a block of the
    /// time `now`, in their order.
    #[must_use]
    pub fn redeemable<'a>(
        &self,
        now: Timestamp,
        vouchers: impl IntoIterator<Item = &'a SignedVoucher>,
    ) -> Vec<&'a SignedVoucher> {
        let mut draft = Draft::new(self);
        let lives = |voucher: &&SignedVoucher| voucher.value.expires >= now;
        let vouchers = vouchers.into_iter().filter(lives);
        vouchers.filter(|voucher| redeem(&mut draft, voucher).is_ok()).collect()
    }

    /// Executes a transaction whose signatures are valid and whose id is `id`. A refused one
    /// changes nothing, its sender's nonce included.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn execute(&mut self, transaction: &SignedTransaction, id: TxId) -> Result<(), Rejected> {
        let changes = self.attempt(transaction, id)?;
        self.absorb(changes);
        Ok(())
    }

    fn attempt(&self, transaction: &SignedTransaction, id: TxId) -> Result<Changes, Rejected> {
        self.check(transaction)?;
        let sender = transaction.signer;
        let mut draft = Draft::new(self);
        let account = draft.account_mut(sender);
        let (expected, found) = (account.nonce, transaction.value.nonce);
        if found != expected {
            return Err(Rejected::Nonce { expected, found });
        }
        account.nonce = found.checked_add(1).ok_or_else(|| Rejected::field("nonce", "used up"))?;
        match &transaction.value.action {
            Action::Transfer { to, amount } => transfer(&mut draft, sender, *to, *amount)?,
            Action::OpenHold { payees, expires, dispute_ms } => {
                open_holds(&mut draft, sender, id, payees, (*expires, *dispute_ms))?;
            }
            Action::TopUp { hold, amount } => top_up(&mut draft, sender, *hold, *amount)?,
            Action::Redeem { vouchers } => {
                each(vouchers, |voucher| redeem(&mut draft, voucher))?;
            }
            Action::Settle { receipts } => {
                each(receipts, |receipt| settle::receipt(&mut draft, &receipt.receipt))?;
            }
            Action::CloseHold { hold } => close_hold(&mut draft, sender, *hold)?,
            Action::Publish { manifest } => publish(&mut draft, sender, manifest)?,
            Action::Bond { amount } => stake::bond(&mut draft, sender, *amount)?,
            Action::Unbond { amount } => stake::unbond(&mut draft, sender, *amount)?,
            Action::Candidate { node } => stake::candidate(&mut draft, sender, *node)?,
            Action::Approve { candidates } => stake::approve(&mut draft, sender, candidates)?,
            Action::Evidence { evidence } => stake::evidence(&mut draft, evidence)?,
        }
        Ok(draft.finish())
    }
}

/// Runs `rule` on each item of a batch; the first refusal refuses the batch and names the item.
fn each<T>(items: &[T], mut rule: impl FnMut(&T) -> Result<(), Rejected>) -> Result<(), Rejected> {
    for (index, item) in (0..).zip(items) {
        rule(item).map_err(|e| Rejected::Item { index, reason: e.to_string() })?;
    }
    Ok(())
}

fn more_than_zero(field: &'static str, amount: Credits) -> Result<(), Rejected> {
    if amount == Credits::ZERO {
        return Err(Rejected::field(field, "must be more than zero"));
    }
    Ok(())
}

/// # Errors
/// When `lane` is not one that a hold may have.
pub(super) fn check_lane(draft: &Draft<'_>, lane: Lane) -> Result<(), Rejected> {
    let limit = draft.policy().payment.lanes_per_hold_max;
    if lane >= limit {
        return Err(Rejected::field("lane", format!("{lane}, must be below {limit}")));
    }
    Ok(())
}

fn transfer(
    draft: &mut Draft<'_>,
    from: AccountId,
    to: AccountId,
    amount: Credits,
) -> Result<(), Rejected> {
    // Nothing is nothing received: it must not make an account.
    more_than_zero("amount", amount)?;
    draft.debit(from, amount)?;
    draft.credit(to, amount)
}

/// Opens a hold for each payee, all or none.
fn open_holds(
    draft: &mut Draft<'_>,
    payer: AccountId,
    transaction: TxId,
    payees: &[Payee],
    (expires, dispute_ms): (Timestamp, u64),
) -> Result<(), Rejected> {
    let (policy, now) = (&draft.policy().payment, draft.state.time);
    let (window_ms, life_ms) = (policy.dispute_window_ms, policy.hold_life_max_ms);
    let latest = now.after_ms(life_ms);
    if expires <= now || expires > latest {
        let reason = format!("{expires}, must be after {now} and not after {latest}");
        return Err(Rejected::field("expires", reason));
    }
    if dispute_ms < window_ms || dispute_ms > window_ms.max(life_ms) {
        let reason = format!("{dispute_ms}, must be {window_ms} to {life_ms}");
        return Err(Rejected::field("dispute_ms", reason));
    }
    for (index, Payee { account: payee, cap }) in payees.iter().enumerate() {
        more_than_zero("cap", *cap)?;
        draft.debit(payer, *cap)?;
        let account = draft.account_mut(payer);
        if account.holds >= policy.holds_per_account_max {
            let reason = format!("{} are open, that is the limit: close one", account.holds);
            return Err(Rejected::field("holds", reason));
        }
        account.holds += 1;
        // The payee becomes known to the ledger, so that it can send its vouchers itself.
        draft.account_mut(*payee);
        let hold = Hold {
            payer,
            payee: *payee,
            cap: *cap,
            redeemed: Credits::ZERO,
            settled: Credits::ZERO,
            expires,
            dispute_ms,
            closes: None,
            lanes: BTreeMap::new(),
        };
        draft.open_hold(hold_of(transaction, index), hold);
    }
    Ok(())
}

fn top_up(
    draft: &mut Draft<'_>,
    sender: AccountId,
    id: HoldId,
    amount: Credits,
) -> Result<(), Rejected> {
    more_than_zero("amount", amount)?;
    let now = draft.state.time;
    let hold = draft.hold_mut(id)?;
    if sender != hold.payer {
        return Err(Rejected::NotAllowed("the hold's payer".into()));
    }
    if hold.closes.is_some() || hold.expires <= now {
        return Err(Rejected::field("hold", "it is closing or expired: open another"));
    }
    hold.cap = sum(hold.cap, amount)?;
    draft.debit(sender, amount)
}

/// Takes what one voucher adds to the ones before it in its lane. Possible while the hold exists,
/// so after its expiry too, until somebody ends it.
fn redeem(draft: &mut Draft<'_>, signed: &SignedVoucher) -> Result<(), Rejected> {
    let (voucher, now) = (&signed.value, draft.state.time);
    check_lane(draft, voucher.lane)?;
    let hold = draft.hold_mut(voucher.hold)?;
    if signed.signer != hold.payer {
        return Err(Rejected::field("signer", "it is not the hold's payer"));
    }
    if voucher.payee != hold.payee {
        return Err(Rejected::field("payee", "it is not the hold's payee"));
    }
    if voucher.expires < now {
        return Err(Rejected::field("expires", format!("it expired at {}", voucher.expires)));
    }
    let left = hold.cap.saturating_sub(hold.redeemed);
    let lane = hold.lanes.entry(voucher.lane).or_default();
    // By its amount alone: its payer, who may sign any nonce, must not make one worthless that the
    // payee holds.
    let added = voucher.cumulative.saturating_sub(lane.cumulative);
    if added == Credits::ZERO {
        let reason = format!("{}, the lane is at {}", voucher.cumulative, lane.cumulative);
        return Err(Rejected::field("cumulative", reason));
    }
    if added > left {
        let reason = format!("{added} credits more, {left} are left in the hold");
        return Err(Rejected::field("cumulative", reason));
    }
    lane.cumulative = voucher.cumulative;
    hold.redeemed = sum(hold.redeemed, added)?;
    Ok(())
}

fn close_hold(draft: &mut Draft<'_>, sender: AccountId, id: HoldId) -> Result<(), Rejected> {
    let now = draft.state.time;
    let hold = draft.hold_mut(id)?;
    let window_ms = hold.dispute_ms;
    let over = now >= hold.expires.after_ms(window_ms);
    if sender == hold.payee || over {
        return settle::end_hold(draft, id);
    }
    if sender != hold.payer {
        let who = format!("its payer and payee, others from {}", hold.expires.after_ms(window_ms));
        return Err(Rejected::NotAllowed(who));
    }
    match hold.closes {
        None => {
            hold.closes = Some(now.after_ms(window_ms));
            Ok(())
        }
        Some(closes) if now >= closes => settle::end_hold(draft, id),
        Some(closes) => Err(Rejected::field(
            "hold",
            format!("the payee may redeem until {closes}: ask again then"),
        )),
    }
}

/// The most active Cargos of a publisher; `None` for no limit.
fn cargos_max(policy: &PublishingPolicy, tier: PublisherTier) -> Option<u32> {
    match tier {
        PublisherTier::Individual => Some(policy.individual_cargos_max),
        PublisherTier::Verified => Some(policy.verified_cargos_max),
        PublisherTier::Organization | PublisherTier::Partner => None,
    }
}

/// Registers a version. A submission in review counts as an active Cargo, else submissions would
/// have no limit. Any version that is new is taken, also one below the newest: an old line may need
/// a correction.
fn publish(
    draft: &mut Draft<'_>,
    sender: AccountId,
    manifest: &SignedManifest,
) -> Result<(), Rejected> {
    let (policy, value) = (draft.policy(), &manifest.value);
    if manifest.signer != sender {
        return Err(Rejected::NotAllowed("the manifest's signer".into()));
    }
    value.validate(&policy.payout)?;
    let id = value.id().map_err(|e| Rejected::field("manifest", e.to_string()))?;
    let mut slug = match draft.state.slugs.get(&value.slug) {
        Some(slug) if slug.owner != sender => {
            return Err(Rejected::SlugTaken { slug: value.slug.clone() });
        }
        Some(slug) => slug.clone(),
        None => {
            let account = draft.account_mut(sender);
            let found = account.cargos;
            if let Some(limit) = cargos_max(&policy.publishing, account.tier)
                && found >= limit
            {
                return Err(Rejected::TooManyCargos { limit, found });
            }
            account.cargos = found.saturating_add(1);
            Slug { owner: sender, versions: BTreeMap::new() }
        }
    };
    if slug.versions.contains_key(&value.version) {
        return Err(Rejected::VersionTaken { label: value.label() });
    }
    let limit = usize::try_from(policy.publishing.versions_per_cargo_max).unwrap_or(usize::MAX);
    if slug.versions.len() >= limit {
        return Err(Rejected::field("version", format!("{} has {limit}, the limit", value.slug)));
    }
    slug.versions.insert(value.version.clone(), id);
    let state = match policy.publishing.open {
        true => catalog::State::Published,
        false => catalog::State::PendingReview,
    };
    let (trust_level, height) = (TrustLevel::Untrusted, draft.state.height);
    let record = Record { cargo: id, publisher: sender, state, trust_level, height };
    let cargo = Cargo { manifest: manifest.clone(), record };
    draft.register(id, cargo, slug);
    Ok(())
}
