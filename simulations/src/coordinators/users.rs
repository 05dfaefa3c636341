//! Who uses the ledger meanwhile: accounts that send credits to each other, payers that open holds
//! and sign vouchers, and coordinators that take part in elections.

use super::random::Random;
use archipelag_protocol::{
    amount::Credits,
    id::{AccountId, ContentId, HoldId, NetworkId, NodeId, TxId},
    ledger::{Action, Payee, SignedTransaction, State, Transaction, state::hold_of, transaction},
    payment::{Lane, SignedVoucher, Voucher},
    policy::PaymentPolicy,
    sign::SecretKey,
};
use std::collections::{BTreeMap, BTreeSet};

/// Accounts that send credits, one after another, whatever becomes of the transfer before.
const SENDERS: u8 = 8;
/// Accounts that pay by holds.
const PAYERS: u8 = 3;
/// What each account has at first.
pub(super) const BALANCE: Credits = Credits::from_whole(1_000);

/// The voucher for the most that a payer signed, by lane.
type Signed = BTreeMap<Lane, SignedVoucher>;

pub(super) struct Users {
    network: NetworkId,
    /// Nonces used up by accounts that don't wait for what they sent before.
    sent: BTreeMap<AccountId, u64>,
    /// Transfers that were sent, and not refused.
    pub(super) transfers: BTreeSet<TxId>,
    /// Of holds that were asked for: they may have been refused.
    pub(super) signed: BTreeMap<HoldId, Signed>,
}

fn user(index: u8) -> SecretKey {
    SecretKey::from_seed([index + 1; 32])
}

/// All accounts of users; the last sends nothing before the end.
pub(super) fn accounts() -> impl Iterator<Item = AccountId> {
    (0..=SENDERS + PAYERS).map(|index| user(index).account())
}

fn some_user(random: &mut Random, first: u8, count: u8) -> SecretKey {
    user(first + u8::try_from(random.below(u64::from(count))).unwrap_or_default())
}

impl Users {
    pub(super) fn new(network: NetworkId) -> Self {
        Self { network, sent: BTreeMap::new(), transfers: BTreeSet::new(), signed: BTreeMap::new() }
    }

    fn sign(
        &self,
        from: &SecretKey,
        nonce: u64,
        action: Action,
    ) -> anyhow::Result<(TxId, SignedTransaction)> {
        let signed = from.seal(self.network, Transaction { nonce, salt: 0, action })?;
        Ok((transaction::id(&signed)?, signed))
    }

    fn transfer_of(
        &mut self,
        random: &mut Random,
        from: &SecretKey,
    ) -> anyhow::Result<(TxId, SignedTransaction)> {
        let nonce = *self.sent.entry(from.account()).and_modify(|n| *n += 1).or_insert(0);
        let to = some_user(random, 0, SENDERS).account();
        let amount = Credits::from_micro(1 + random.below(1_000));
        let transfer = self.sign(from, nonce, Action::Transfer { to, amount })?;
        self.transfers.insert(transfer.0);
        Ok(transfer)
    }

    /// A transfer. The next one of the same account follows it.
    pub(super) fn transfer(
        &mut self,
        random: &mut Random,
    ) -> anyhow::Result<(TxId, SignedTransaction)> {
        let from = some_user(random, 0, SENDERS);
        self.transfer_of(random, &from)
    }

    /// A transfer of an account that sent nothing before.
    pub(super) fn last_transfer(
        &mut self,
        random: &mut Random,
    ) -> anyhow::Result<(TxId, SignedTransaction)> {
        self.transfer_of(random, &user(SENDERS + PAYERS))
    }

    /// Something about holds that is right, or not quite.
    pub(super) fn payment(
        &mut self,
        random: &mut Random,
        state: &State,
    ) -> anyhow::Result<(TxId, SignedTransaction)> {
        let from = some_user(random, SENDERS, PAYERS);
        let nonce = state.accounts.get(&from.account()).map_or(0, |account| account.nonce);
        let own = holds_of(state, from.account());
        let some = random.pick(&own).copied();
        let action = match (random.below(10), some) {
            (0, Some((hold, ..))) => Action::CloseHold { hold },
            (1, Some((hold, ..))) => {
                Action::TopUp { hold, amount: Credits::from_micro(random.below(500)) }
            }
            (2.., Some((hold, payee, cap))) => {
                let voucher = self.voucher(random, &from, (hold, payee, cap), state)?;
                Action::Redeem { vouchers: vec![voucher] }
            }
            (_, None) => open(random, &state.genesis.policy.payment, state),
        };
        // Who redeems is anybody.
        let redeems = matches!(action, Action::Redeem { .. });
        let sender = if redeems { some_user(random, SENDERS, PAYERS) } else { from };
        let of_sender = state.accounts.get(&sender.account()).map_or(nonce, |a| a.nonce);
        let (id, signed) = self.sign(&sender, of_sender, action)?;
        if let Action::OpenHold { payees, .. } = &signed.value.action {
            for index in 0..payees.len() {
                self.signed.entry(hold_of(id, index)).or_default();
            }
        }
        Ok((id, signed))
    }

    /// A voucher of a hold that is open, for a coordinator to redeem.
    pub(super) fn entrusted(
        &mut self,
        random: &mut Random,
        state: &State,
    ) -> anyhow::Result<Option<SignedVoucher>> {
        let from = some_user(random, SENDERS, PAYERS);
        let own = holds_of(state, from.account());
        let Some(hold) = random.pick(&own).copied() else { return Ok(None) };
        self.voucher(random, &from, hold, state).map(Some)
    }

    /// The next voucher of a hold, for more than its cap now and then, or the last one again.
    fn voucher(
        &mut self,
        random: &mut Random,
        payer: &SecretKey,
        (hold, payee, cap): (HoldId, AccountId, Credits),
        state: &State,
    ) -> anyhow::Result<SignedVoucher> {
        let lane = Lane::try_from(random.below(2))?;
        let lanes = self.signed.entry(hold).or_default();
        let last = lanes.get(&lane);
        if let Some(last) = last
            && random.percent(20)
        {
            return Ok(last.clone());
        }
        let (nonce, before) =
            last.map_or((0, Credits::ZERO), |v| (v.value.nonce, v.value.cumulative));
        let more = Credits::from_micro(random.below(cap.micro() / 2 + 1));
        // A later one for less, now and then: the payee's must not be worth less for it.
        let (nonce, before) = match random.percent(15) {
            true => (u64::MAX - 1, Credits::from_micro(random.below(before.micro() + 1))),
            false => (nonce, before),
        };
        let voucher = Voucher {
            hold,
            payee,
            lane,
            nonce: nonce.saturating_add(1),
            cumulative: before.saturating_add(more),
            metering_digest: ContentId([0; 32]),
            expires: state.time.after_ms(3_600_000),
        };
        let signed = payer.seal(self.network, voucher)?;
        // The one for the most is what it owes.
        let most = lanes.entry(lane).or_insert_with(|| signed.clone());
        if most.value.cumulative < signed.value.cumulative {
            *most = signed.clone();
        }
        Ok(signed)
    }

    /// A coordinator bonds, stands or stands down, or approves of two others.
    pub(super) fn canvass(
        &self,
        random: &mut Random,
        keys: &[SecretKey],
        state: &State,
    ) -> anyhow::Result<(TxId, SignedTransaction)> {
        let count = u64::try_from(keys.len())?;
        let mut draw = || usize::try_from(random.below(count)).unwrap_or_default();
        let (who, one, other) = (draw(), draw(), draw());
        let account = |index: usize| keys.get(index).map(SecretKey::account);
        let mut candidates: Vec<_> = account(one).into_iter().chain(account(other)).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let from = keys.get(who).ok_or_else(|| anyhow::anyhow!("nobody"))?;
        let node = Some(super::world::node_of(who));
        let bonded = state.stakes.get(&from.account()).is_some_and(|s| s.bonded > Credits::ZERO);
        let amount = Credits::from_whole(150);
        let action = match random.below(8) {
            _ if !bonded => Action::Bond { amount },
            0..3 => Action::Candidate { node },
            3 => Action::Candidate { node: None::<NodeId> },
            4 => Action::Unbond { amount },
            _ => Action::Approve { candidates },
        };
        let nonce = state.accounts.get(&from.account()).map_or(0, |account| account.nonce);
        self.sign(from, nonce, action)
    }
}

/// The open holds of a payer, with payee and cap.
fn holds_of(state: &State, payer: AccountId) -> Vec<(HoldId, AccountId, Credits)> {
    let own = state.holds.iter().filter(|(_, hold)| hold.payer == payer);
    own.map(|(id, hold)| (*id, hold.payee, hold.cap)).collect()
}

/// A hold for each of one or two payees.
fn open(random: &mut Random, policy: &PaymentPolicy, state: &State) -> Action {
    let mut payees: Vec<Payee> = Vec::new();
    for _ in 0..=random.below(2) {
        let account = some_user(random, 0, SENDERS).account();
        payees.push(Payee { account, cap: Credits::from_micro(1 + random.below(1_000)) });
    }
    let expires = state.time.after_ms(policy.hold_life_max_ms / 2);
    Action::OpenHold { payees, expires, dispute_ms: policy.dispute_window_ms }
}
