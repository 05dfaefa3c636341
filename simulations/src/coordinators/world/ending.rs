//! What must hold when everything that went wrong is over.

use super::{START, World, network::blocks_of};
use crate::coordinators::{Tally, process::Process};
use anyhow::{Context as _, ensure};
use archipelag_protocol::{
    id::TxId,
    ledger::{State, transaction},
    limits::MAX_PAGE,
    query::CertifiedBlock,
    sign::SecretKey,
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// After how many seconds a user sends again what no block took.
const SENT_AGAIN_S: u64 = 10;

impl World {
    /// All honest ones agree, and a new transfer gets through; nothing that was acknowledged is
    /// lost.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        // What was lost may have left a gap in its account; another account's must get through.
        let fresh = self.users.last_transfer(&mut self.random)?;
        for second in 0..180 {
            // Who is told that no block took it sends it again.
            if second % SENT_AGAIN_S == 0 && !self.checks.acknowledged.contains_key(&fresh.0) {
                self.submit(&fresh)?;
            }
            self.run(1_000)?;
            if self.agree() && self.checks.acknowledged.contains_key(&fresh.0) {
                break;
            }
        }
        ensure!(self.checks.acknowledged.contains_key(&fresh.0), "nothing is decided any more");
        ensure!(self.agree(), "somebody stays behind");
        let chain = self.chain()?;
        let included = included(&chain)?;
        self.checks.nothing_lost(&included)?;
        // Processes pass over some in one step.
        let (mut state, minted) = (State::genesis(self.genesis.clone())?, self.genesis.minted());
        let minted = minted.context("more credits than there can be")?;
        for certified in &chain {
            state = archipelag_node::coordinator::follow(&state, certified)?;
            self.checks.block(&state, minted, &self.users)?;
        }
        self.tally.blocks = state.height;
        self.tally.transactions = u64::try_from(included.len())?;
        Ok(())
    }

    /// Every transfer that nobody refused is in a block, where nothing was lost but messages.
    ///
    /// # Errors
    /// What is not.
    pub(crate) fn all_included(&self) -> anyhow::Result<()> {
        let included = included(&self.chain()?)?;
        let missing = self.users.transfers.iter().filter(|id| !included.contains_key(*id));
        let missing: Vec<_> = missing.collect();
        ensure!(missing.is_empty(), "in no block: {missing:?}");
        Ok(())
    }

    /// Each block was decided at once and has a transaction, where nothing went wrong.
    ///
    /// # Errors
    /// Which was waited for.
    pub(crate) fn nobody_waited(&self) -> anyhow::Result<()> {
        for CertifiedBlock { block, certificate } in self.chain()? {
            let (height, round) = (certificate.height, certificate.round);
            ensure!(round == 0, "block {height} took until round {round}");
            ensure!(!block.transactions.is_empty(), "block {height} is empty");
        }
        Ok(())
    }

    /// Whether all honest processes are at one height.
    fn agree(&self) -> bool {
        let honest = self.processes.iter().filter(|process| self.is_honest(process.validator));
        let mut heights = honest.filter_map(Process::state).map(|state| state.height);
        let first = heights.next();
        heights.all(|height| Some(height) == first)
    }

    /// All blocks, by an honest process that has them.
    fn chain(&self) -> anyhow::Result<Vec<CertifiedBlock>> {
        let honest = self.processes.iter().filter(|process| self.is_honest(process.validator));
        for process in honest {
            let mut chain: Vec<CertifiedBlock> = Vec::new();
            loop {
                let next = u64::try_from(chain.len())? + 1;
                let page = blocks_of(process, next, MAX_PAGE)?;
                if page.is_empty() {
                    break;
                }
                chain.extend(page);
            }
            if !chain.is_empty() {
                return Ok(chain);
            }
        }
        anyhow::bail!("nobody has the first block")
    }

    /// What the run came to.
    ///
    /// # Errors
    /// When a process is down.
    pub(crate) fn tally(&self) -> anyhow::Result<Tally> {
        let mut hash = Sha256::new();
        for process in &self.processes {
            let state = process.state().context("it is down")?;
            hash.update(state.last_block.0);
            hash.update(state.root().0);
        }
        hash.update(self.order.to_be_bytes());
        let state = self.latest()?;
        let slashed = |validator: &usize| {
            let account = self.keys.get(*validator).map(SecretKey::account);
            account.and_then(|a| state.stakes.get(&a)).is_some_and(|stake| stake.slashed)
        };
        let liars = || self.two_faced.iter().chain(self.liars.keys());
        let found_out = u64::from(liars().any(slashed));
        for honest in (0..self.keys.len()).filter(|validator| self.is_honest(*validator)) {
            ensure!(!slashed(&honest), "{honest} is honest and lost its stake");
        }
        let seats = self.seats();
        for liar in liars().filter(|liar| slashed(liar)) {
            let account = self.keys.get(*liar).map(SecretKey::account);
            ensure!(account.is_none_or(|a| !seats.contains(&a)), "{liar} lied and has a seat");
        }
        Ok(Tally {
            digest: hash.finalize().into(),
            acknowledged: u64::try_from(self.checks.acknowledged.len())?,
            simulated_ms: self.now - START,
            slashed: found_out,
            ..self.tally.clone()
        })
    }

    /// Where each process stands, for who has to find out why they are stuck.
    pub(crate) fn standing(&self) -> String {
        let seats = self.seats();
        let one = |process: &Process| {
            let key = self.keys.get(process.validator);
            let seat = key.is_some_and(|key| seats.contains(&key.account()));
            let seat = if seat { "seated" } else { "without a seat" };
            let driver = process.running.as_ref().map(|running| &running.driver);
            format!("{} {seat}: {driver:?}", process.validator)
        };
        self.processes.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

/// The transactions of a chain, and their heights.
fn included(chain: &[CertifiedBlock]) -> anyhow::Result<BTreeMap<TxId, u64>> {
    let mut included = BTreeMap::new();
    for CertifiedBlock { block, .. } in chain {
        for signed in &block.transactions {
            included.insert(transaction::id(signed)?, block.header.height);
        }
    }
    Ok(included)
}
