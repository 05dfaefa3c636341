//! What one transaction would change, until all of it is known to be allowed.
//!
//! A draft reads through to the state and keeps changes to itself. A refused transaction drops its
//! draft, so it changes nothing; an accepted one is absorbed whole. It costs what the transaction
//! touches, never a copy of the state.

use super::{
    Account, Epoch, Hold, IslandStanding, Key, Rejected, Stake, State, ValidatorSet,
    state::{Cargo, Slug},
};
use crate::{
    amount::Credits,
    catalog::{Counters, Record},
    id::{AccountId, CargoId, HoldId},
    policy::Policy,
};
use std::{collections::BTreeMap, sync::Arc};

pub(super) struct Draft<'a> {
    pub(super) state: &'a State,
    changes: Changes,
}

/// New values of everything that changed.
pub(super) struct Changes {
    treasury: Credits,
    accounts: BTreeMap<AccountId, Account>,
    /// `None` for a hold that ended.
    holds: BTreeMap<HoldId, Option<Hold>>,
    counters: BTreeMap<CargoId, Counters>,
    islands: BTreeMap<AccountId, IslandStanding>,
    slugs: BTreeMap<String, Slug>,
    cargos: BTreeMap<CargoId, Cargo>,
    stakes: BTreeMap<AccountId, Stake>,
    validators: Option<ValidatorSet>,
    epoch: Option<Epoch>,
}

/// `a + b`. No sum can overflow while credits are conserved, since all that were minted fit.
pub(super) fn sum(a: Credits, b: Credits) -> Result<Credits, Rejected> {
    a.checked_add(b)
        .ok_or_else(|| Rejected::field("amount", "the sum is more than an amount can hold"))
}

impl<'a> Draft<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        let changes = Changes {
            treasury: state.treasury,
            accounts: BTreeMap::new(),
            holds: BTreeMap::new(),
            counters: BTreeMap::new(),
            islands: BTreeMap::new(),
            slugs: BTreeMap::new(),
            cargos: BTreeMap::new(),
            stakes: BTreeMap::new(),
            validators: None,
            epoch: None,
        };
        Self { state, changes }
    }

    pub(super) fn finish(self) -> Changes {
        self.changes
    }

    pub(super) fn policy(&self) -> &'a Policy {
        &self.state.genesis.policy
    }

    pub(super) fn treasury(&self) -> Credits {
        self.changes.treasury
    }

    pub(super) fn set_treasury(&mut self, treasury: Credits) {
        self.changes.treasury = treasury;
    }

    /// The account, which exists from now on: call it when the account receives something.
    pub(super) fn account_mut(&mut self, id: AccountId) -> &mut Account {
        let state = self.state;
        self.changes
            .accounts
            .entry(id)
            .or_insert_with(|| state.accounts.get(&id).copied().unwrap_or_default())
    }

    pub(super) fn debit(&mut self, id: AccountId, amount: Credits) -> Result<(), Rejected> {
        let account = self.account_mut(id);
        let available = account.balance;
        account.balance =
            available.checked_sub(amount).ok_or(Rejected::Funds { needed: amount, available })?;
        Ok(())
    }

    /// Gives `amount` to an account; nothing makes no account.
    pub(super) fn credit(&mut self, id: AccountId, amount: Credits) -> Result<(), Rejected> {
        if amount > Credits::ZERO {
            let account = self.account_mut(id);
            account.balance = sum(account.balance, amount)?;
        }
        Ok(())
    }

    pub(super) fn hold_mut(&mut self, id: HoldId) -> Result<&mut Hold, Rejected> {
        let state = self.state;
        self.changes
            .holds
            .entry(id)
            .or_insert_with(|| state.holds.get(&id).cloned())
            .as_mut()
            .ok_or(Rejected::NoHold(id))
    }

    pub(super) fn open_hold(&mut self, id: HoldId, hold: Hold) {
        self.changes.holds.insert(id, Some(hold));
    }

    pub(super) fn end_hold(&mut self, id: HoldId) {
        self.changes.holds.insert(id, None);
    }

    pub(super) fn island_mut(&mut self, id: AccountId) -> &mut IslandStanding {
        let state = self.state;
        self.changes
            .islands
            .entry(id)
            .or_insert_with(|| state.islands.get(&id).copied().unwrap_or_default())
    }

    pub(super) fn island(&self, id: AccountId) -> IslandStanding {
        let changed = self.changes.islands.get(&id);
        changed.or_else(|| self.state.islands.get(&id)).copied().unwrap_or_default()
    }

    /// The counters of a Cargo that is in the state.
    pub(super) fn counters_mut(&mut self, id: CargoId) -> &mut Counters {
        let state = self.state;
        self.changes
            .counters
            .entry(id)
            .or_insert_with(|| state.counters.get(&id).copied().unwrap_or_default())
    }

    /// Changes the record of a Cargo that is in the state.
    pub(super) fn set_record(&mut self, cargo: &Cargo, record: Record) {
        let cargo = Cargo { record, ..cargo.clone() };
        self.changes.cargos.insert(cargo.record.cargo, cargo);
    }

    /// An account's stake; one that ends up with nothing in it is none.
    pub(super) fn stake_mut(&mut self, id: AccountId) -> &mut Stake {
        let state = self.state;
        self.changes
            .stakes
            .entry(id)
            .or_insert_with(|| state.stakes.get(&id).cloned().unwrap_or_default())
    }

    /// Who decides the next block.
    pub(super) fn validators(&self) -> &ValidatorSet {
        self.changes.validators.as_ref().unwrap_or(&self.state.validators)
    }

    pub(super) fn set_validators(&mut self, validators: ValidatorSet) {
        self.changes.validators = Some(validators);
    }

    pub(super) fn epoch_mut(&mut self) -> &mut Epoch {
        let state = self.state;
        self.changes.epoch.get_or_insert_with(|| state.epoch.clone())
    }

    pub(super) fn register(&mut self, id: CargoId, cargo: Cargo, slug: Slug) {
        self.changes.slugs.insert(cargo.manifest.value.slug.clone(), slug);
        self.changes.cargos.insert(id, cargo);
    }
}

impl Changes {
    /// Microcredits that exist after them and did not before.
    fn gained(&self, state: &State) -> i128 {
        fn sum(credits: impl Iterator<Item = Option<Credits>>) -> i128 {
            credits.flatten().map(|c| i128::from(c.micro())).sum()
        }
        let after = sum(self.accounts.values().map(|a| Some(a.balance)))
            + sum(self.holds.values().map(|h| h.as_ref().map(Hold::credits)))
            + sum(self.stakes.values().map(|s| Some(s.credits())))
            + i128::from(self.treasury.micro());
        let before = sum(self.accounts.keys().map(|id| state.accounts.get(id).map(|a| a.balance)))
            + sum(self.holds.keys().map(|id| state.holds.get(id).map(Hold::credits)))
            + sum(self.stakes.keys().map(|id| state.stakes.get(id).map(Stake::credits)))
            + i128::from(state.treasury.micro());
        after - before
    }
}

impl State {
    pub(super) fn absorb(&mut self, changes: Changes) {
        self.gained += changes.gained(self);
        if self.treasury != changes.treasury {
            self.treasury = changes.treasury;
            self.touched.insert(Key::Treasury);
        }
        for (id, account) in changes.accounts {
            self.accounts.insert(id, account);
            self.touched.insert(Key::Account(id));
        }
        for (id, island) in changes.islands {
            self.islands.insert(id, island);
            self.touched.insert(Key::Island(id));
        }
        for (name, slug) in changes.slugs {
            self.slugs.insert(name.clone(), slug);
            self.touched.insert(Key::Slug(name));
        }
        for (id, cargo) in changes.cargos {
            self.cargos.insert(id, Arc::new(cargo));
            self.touched.insert(Key::Cargo(id));
        }
        for (id, counters) in changes.counters {
            self.counters.insert(id, counters);
            self.touched.insert(Key::Counters(id));
        }
        for (id, hold) in changes.holds {
            match hold {
                Some(hold) => self.holds.insert(id, hold),
                None => self.holds.remove(&id),
            };
            self.touched.insert(Key::Hold(id));
        }
        for (id, stake) in changes.stakes {
            match stake.is_empty() {
                true => self.stakes.remove(&id),
                false => self.stakes.insert(id, stake),
            };
            self.touched.insert(Key::Stake(id));
        }
        if let Some(validators) = changes.validators.filter(|v| *v != self.validators) {
            self.validators = validators;
            self.touched.insert(Key::Validators);
        }
        if let Some(epoch) = changes.epoch {
            self.epoch = epoch;
            self.touched.insert(Key::Epoch);
        }
    }
}
