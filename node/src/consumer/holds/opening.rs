//! Holds are opened and topped up: what waits for a block.

use super::{
    Error, Holds,
    hold::{Doubt, OpenHold},
};
use crate::{
    consumer::store::{Change, HoldRecord, Pair},
    ledger,
    mesh::now,
    services::{Bank, lock},
};
use archipelag_protocol::{
    amount::Credits,
    id::AccountId,
    ledger::{Action, Payee, Rejected, state::hold_of},
};
use std::sync::Arc;

/// Islands for which a hold is opened along with that of the one that is needed.
const MAX_SPARES: usize = 7;

impl Holds {
    /// Asks the ledger about a doubtful hold. False when it can't be used any more.
    pub(super) async fn check(&self, hold: &OpenHold, bank: &Arc<dyn Bank>) -> Result<bool, Error> {
        if lock(&hold.amounts).doubt.is_none() {
            return Ok(true);
        }
        let Some(found) = bank.hold(hold.hold).await? else { return Ok(false) };
        let usable = found.closes.is_none() && found.expires > now();
        let mut amounts = lock(&hold.amounts);
        amounts.cap = found.cap;
        if usable {
            amounts.doubt = None;
        }
        Ok(usable)
    }

    /// Adds what is missing. False when the ledger wants another hold instead.
    pub(super) async fn top_up(
        &self,
        hold: &Arc<OpenHold>,
        pair: Pair,
        bank: &Arc<dyn Bank>,
        price_max: Credits,
        doubt: Option<Doubt>,
    ) -> Result<bool, Error> {
        let room = hold.room_now();
        let missing = price_max.saturating_sub(room);
        if missing == Credits::ZERO && doubt != Some(Doubt::Refused) {
            return Ok(true);
        }
        let balance = bank.balance().await?;
        if missing == Credits::ZERO && balance == Credits::ZERO {
            return Ok(true);
        }
        // With that much room it is not room that the Island misses, and a liar would be given all.
        if doubt == Some(Doubt::Refused) && room >= price_max.saturating_add(self.portion(balance))
        {
            return Err(Error::Ledger("the Island refuses a hold that has room".into()));
        }
        if balance < missing {
            let available = balance.saturating_add(room);
            return Err(Error::Credits { required: price_max, available });
        }
        let amount = missing.max(self.portion(balance)).max(Credits::from_micro(1));
        match bank.send(Action::TopUp { hold: hold.hold, amount }).await {
            Ok(_) => {}
            Err(ledger::Error::Rejected(Rejected::NoHold(_) | Rejected::Field { .. })) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        hold.raise(amount);
        self.store.write(Change::Hold(pair, hold.clone())).await;
        Ok(true)
    }

    pub(super) async fn open(
        &self,
        pair: Pair,
        bank: &Arc<dyn Bank>,
        price_max: Credits,
        spares: &[AccountId],
    ) -> Result<Arc<OpenHold>, Error> {
        let balance = bank.balance().await?;
        if balance < price_max {
            return Err(Error::Credits { required: price_max, available: balance });
        }
        let cap = price_max.max(self.portion(balance)).max(Credits::from_micro(1));
        if balance == Credits::ZERO {
            let required = Credits::from_micro(1);
            return Err(Error::Credits { required, available: balance });
        }
        let expires = now().after_ms(self.policy.hold_life_ms);
        let mut payees = vec![Payee { account: pair.1, cap }];
        payees.extend(self.spares(pair, balance.saturating_sub(cap), price_max, spares));
        let dispute_ms = self.policy.dispute_window_ms;
        let open = |payees| Action::OpenHold { payees, expires, dispute_ms };
        let receipt = match bank.send(open(payees.clone())).await {
            // Without the spares there may be room.
            Err(ledger::Error::Rejected(_)) if payees.len() > 1 => {
                payees.truncate(1);
                bank.send(open(payees.clone())).await?
            }
            sent => sent?,
        };
        let mut first = None;
        for (index, Payee { account, cap }) in payees.into_iter().enumerate() {
            self.metrics.holds_opened.inc();
            let (hold, pair) = (hold_of(receipt.transaction, index), (pair.0, account));
            let (nonce, signed, earlier) = (0, Credits::ZERO, Credits::ZERO);
            let record = HoldRecord { hold, cap, expires, lane: 0, nonce, signed, earlier };
            let hold = Arc::new(OpenHold::new(record, None));
            // A hold that is not on disk would be forgotten by a crash, with the credits in it.
            self.store.write(Change::Hold(pair, hold.clone())).await;
            if first.is_none() {
                first = Some(hold);
            } else {
                *lock(&*self.slot(pair)?) = Some(hold);
            }
        }
        self.store.flush().await;
        first.ok_or_else(|| Error::Ledger("a hold for nobody".into()))
    }

    /// Shares for Islands that this payer has no hold with: a job's price each. With those that
    /// were opened so before and have not been used they are no more than a quarter of what is
    /// `left` of the balance.
    fn spares(
        &self,
        (payer, island): Pair,
        left: Credits,
        price_max: Credits,
        spares: &[AccountId],
    ) -> Vec<Payee> {
        let unused = {
            let slots = lock(&self.slots);
            let mine = slots.iter().filter(|((of, _), _)| *of == payer);
            let holds = mine.filter_map(|(_, slot)| lock(slot).clone());
            let unused = holds.map(|hold| {
                let amounts = lock(&hold.amounts);
                let idle = amounts.nonce == 0 && amounts.reserved == Credits::ZERO;
                if idle { amounts.cap } else { Credits::ZERO }
            });
            unused.fold(Credits::ZERO, Credits::saturating_add)
        };
        let mut room = left.fraction(1, 4).saturating_sub(unused);
        let mut payees = Vec::new();
        for account in spares.iter().copied().filter(|account| *account != island) {
            let known = lock(&self.slots).get(&(payer, account)).cloned();
            let has_hold = known.is_some_and(|slot| lock(&slot).is_some());
            let Some(rest) = room.checked_sub(price_max) else { break };
            if price_max > Credits::ZERO && !has_hold && payees.len() < MAX_SPARES {
                room = rest;
                payees.push(Payee { account, cap: price_max });
            }
        }
        payees
    }
}
