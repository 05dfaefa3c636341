//! What the ledger knows. Read by anyone; changed only by applying blocks.

use super::{entry::Key, epoch::Epoch, pairs, stake::Stake, tree::Tree, validators::ValidatorSet};
use crate::{
    amount::Credits,
    catalog::{self, Counters, Record},
    genesis::{self, Genesis, PublisherTier},
    id::{AccountId, BlockHash, CargoId, HoldId, NetworkId, TxId},
    manifest::{SignedManifest, Version},
    payment::Lane,
    time::Timestamp,
};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The whole state after a block. A copy costs little: copies share what they have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub network: NetworkId,
    pub genesis: Arc<Genesis>,
    pub height: u64,
    /// The hash of the last block's header; the network id's bytes before the first block.
    pub last_block: BlockHash,
    /// Who decided the last block.
    pub last_validators: ValidatorSet,
    /// Who decides the next one.
    pub validators: ValidatorSet,
    /// The last block's time; the genesis document's before the first block.
    pub time: Timestamp,
    pub treasury: Credits,
    pub minted: Credits,
    #[serde(with = "pairs")]
    pub accounts: OrdMap<AccountId, Account>,
    #[serde(with = "pairs")]
    pub holds: OrdMap<HoldId, Hold>,
    #[serde(with = "pairs")]
    pub cargos: OrdMap<CargoId, Arc<Cargo>>,
    /// How the executions of each Cargo version went.
    #[serde(with = "pairs")]
    pub counters: OrdMap<CargoId, Counters>,
    #[serde(with = "pairs")]
    pub slugs: OrdMap<String, Slug>,
    #[serde(with = "pairs")]
    pub islands: OrdMap<AccountId, IslandStanding>,
    /// Who takes part in the elections of coordinators.
    #[serde(with = "pairs")]
    pub stakes: OrdMap<AccountId, Stake>,
    pub epoch: Epoch,
    /// Over all that is above, as of the last block.
    #[serde(skip)]
    pub(super) tree: Tree,
    /// What transactions changed since.
    #[serde(skip)]
    pub(super) touched: BTreeSet<Key>,
    /// Microcredits that they made so far; zero after a block.
    #[serde(skip)]
    pub(super) gained: i128,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub balance: Credits,
    /// The nonce of its next transaction.
    pub nonce: u64,
    pub tier: PublisherTier,
    /// Open holds that it pays for.
    pub holds: u32,
    /// Active Cargos: slugs of which it has a version published or in review.
    pub cargos: u32,
}

/// Credits reserved by a payer for one payee.
///
/// `cap = left for vouchers + redeemed`; `redeemed = settled + earned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub payer: AccountId,
    pub payee: AccountId,
    pub cap: Credits,
    /// Taken by vouchers so far.
    pub redeemed: Credits,
    /// Of what was redeemed: split by receipts so far.
    pub settled: Credits,
    pub expires: Timestamp,
    /// How long the payee may redeem after the payer asked to close, and after expiry.
    pub dispute_ms: u64,
    /// Set when the payer asked to close: the end of the dispute window.
    pub closes: Option<Timestamp>,
    #[serde(with = "pairs")]
    pub lanes: BTreeMap<Lane, LaneState>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneState {
    /// The amount of the last voucher redeemed.
    pub cumulative: Credits,
    /// The first receipt sequence that has not been settled.
    pub next_receipt: u64,
}

/// A Cargo version: what was published and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cargo {
    pub manifest: SignedManifest,
    pub record: Record,
}

/// A slug and its versions, newest last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slug {
    pub owner: AccountId,
    #[serde(with = "pairs")]
    pub versions: BTreeMap<Version, CargoId>,
}

impl Hold {
    /// What it still contains. One that settled more than its cap counts as empty, so the sums
    /// differ then, too.
    #[must_use]
    pub fn credits(&self) -> Credits {
        self.cap.saturating_sub(self.settled)
    }
}

impl Cargo {
    /// Whether it has ever been published, so that receipts of its jobs count. A version that was
    /// suspended or retired since may still have jobs to settle.
    #[must_use]
    pub fn was_published(&self) -> bool {
        use catalog::State::{Published, Retired, Suspended};
        matches!(self.record.state, Published | Suspended | Retired)
    }
}

/// An Island's karma (`SPEC.md`, "Karma of an Island").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IslandStanding {
    pub karma_milli: i64,
    /// Successful compute that has not yet made a milli-point, in milliseconds times percent.
    pub remainder: u64,
    pub suspended: bool,
    /// Jobs settled, however they ended.
    pub jobs: u64,
    /// What its account received for jobs.
    pub earned: Credits,
}

/// The id of the hold that `transaction` opened for its payee at `index`. The first one's is the
/// transaction's.
#[must_use]
pub fn hold_of(transaction: TxId, index: usize) -> HoldId {
    let Ok(index @ 1..) = u16::try_from(index) else { return HoldId(transaction.0) };
    let mut hasher = Sha256::new_with_prefix(b"archipelag/hold/1\0");
    hasher.update(transaction.0);
    hasher.update(index.to_be_bytes());
    HoldId(hasher.finalize().into())
}

/// How the credits that exist differ from those that were minted, in microcredits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotConserved {
    pub minted: u128,
    pub found: u128,
}

impl State {
    /// The state before the first block.
    ///
    /// # Errors
    /// The field of the genesis document that is wrong.
    pub fn genesis(genesis: impl Into<Arc<Genesis>>) -> Result<Self, genesis::Error> {
        let genesis = genesis.into();
        genesis.validate()?;
        let network = genesis.network()?;
        let minted = genesis.minted().ok_or_else(|| genesis::Error::Field {
            field: "accounts",
            reason: "the balances add up to more than an amount can hold".into(),
        })?;
        let mut accounts: OrdMap<AccountId, Account> = OrdMap::new();
        for allocation in &genesis.accounts {
            accounts.entry(allocation.account).or_default().balance = allocation.balance;
        }
        for publisher in &genesis.publishers {
            accounts.entry(publisher.account).or_default().tier = publisher.tier;
        }
        let validators = genesis.validator_set()?;
        let mut stakes = OrdMap::new();
        for validator in validators.iter() {
            // A coordinator sends transactions, and keeps its seat until another is elected to it.
            accounts.entry(validator.account).or_default();
            let stake = Stake { node: Some(validator.node), ..Stake::default() };
            stakes.insert(validator.account, stake);
        }
        let epoch = Epoch::first(genesis.created, &genesis.policy, validators.clone());
        let mut state = Self {
            network,
            height: 0,
            last_block: BlockHash(network.0),
            last_validators: validators.clone(),
            validators,
            time: genesis.created,
            treasury: genesis.treasury,
            minted,
            accounts,
            holds: OrdMap::new(),
            cargos: OrdMap::new(),
            counters: OrdMap::new(),
            slugs: OrdMap::new(),
            islands: OrdMap::new(),
            stakes,
            epoch,
            tree: Tree::default(),
            touched: BTreeSet::new(),
            gained: 0,
            genesis,
        };
        state.rebuild_tree()?;
        Ok(state)
    }

    /// Checks that no credit appeared or vanished: balances, what holds still contain (unredeemed,
    /// and redeemed but not settled), stakes and the treasury add up to what was minted (`SPEC.md`,
    /// "Price and payout"). It looks at all of them, once an epoch; of each block what it changed
    /// is checked.
    ///
    /// # Errors
    /// Both sums.
    pub fn check_conservation(&self) -> Result<(), NotConserved> {
        let balances = self.accounts.values().map(|a| a.balance);
        let held = self.holds.values().map(Hold::credits);
        let staked = self.stakes.values().map(Stake::credits);
        let all = balances.chain(held).chain(staked);
        let found =
            all.map(|c| u128::from(c.micro())).sum::<u128>() + u128::from(self.treasury.micro());
        let minted = u128::from(self.minted.micro());
        if found == minted { Ok(()) } else { Err(NotConserved { minted, found }) }
    }
}
