//! The blocks of the height in progress: our own proposals, and others' as the library gets them.

use super::{
    Consensus, ROOM,
    context::{Height, Value},
    io::{Candidate, Proposed},
};
use crate::coordinator::engine::{Fatal, Output, Submission};
use arc_malachitebft_core_consensus::{Input, LocallyProposedValue, ProposedValue};
use arc_malachitebft_core_types::{Round, Validity, ValueOrigin};
use archipelag_protocol::{id::BlockHash, ledger::Block};
use std::sync::Arc;

impl Consensus {
    /// Lets the next height begin when something can be put into a block: what is not allowed must
    /// cause no empty one. Who proposes first finds out by making it.
    pub(super) fn prepare(&mut self) -> Result<(), Fatal> {
        if self.io.running || self.wanted || !self.io.mempool.is_ready() || !self.decides() {
            return Ok(());
        }
        let first = self.io.state.turns().first() == Some(&self.io.me());
        self.prepared = if first { self.build()? } else { None };
        self.wanted = if first { self.prepared.is_some() } else { self.io.has_allowed() };
        Ok(())
    }

    /// Gives the library the block that it waits for, unless there is nothing to put into one. From
    /// the second round on an empty one will do, so that a height that was begun ends.
    pub(super) fn propose(&mut self) -> Result<bool, Fatal> {
        let Some(round) = self.io.value_due else { return Ok(false) };
        let current = self.core.round() == round && self.core.driver.step_is_propose();
        if !current {
            self.io.value_due = None;
            return Ok(false);
        }
        if self.io.may_have_proposed && round == Round::ZERO {
            // The others may have one of ours already: they wait for it no longer than for any.
            self.io.value_due = None;
            return Ok(false);
        }
        let prepared = self.prepared.take();
        let prepared = prepared.filter(|(_, c)| c.block.header.height == self.io.height());
        let built = match prepared {
            Some(prepared) => Some(prepared),
            None if !self.io.mempool.is_ready() && round == Round::ZERO => None,
            None => self.build()?,
        };
        let built = match built {
            None if round > Round::ZERO => Some(self.build_of(Vec::new())?),
            built => built,
        };
        let Some((hash, candidate)) = built else { return Ok(false) };
        self.io.value_due = None;
        self.io.candidates.insert(hash, candidate);
        self.io.broadcast_own(hash);
        let (height, value) = (Height(self.io.height()), Value(hash));
        self.feed(Input::Propose(LocallyProposedValue { height, round, value }))?;
        Ok(true)
    }

    /// A block of what waits and is allowed; `None` when nothing is.
    fn build(&mut self) -> Result<Option<(BlockHash, Candidate)>, Fatal> {
        let mut batch = self.io.mempool.select(&self.io.state, ROOM);
        if let Some(own) = self.own()? {
            batch.insert(0, own);
        }
        let built = self.build_of(batch)?;
        Ok(Some(built).filter(|(_, candidate)| !candidate.block.transactions.is_empty()))
    }

    fn build_of(&mut self, batch: Vec<Submission>) -> Result<(BlockHash, Candidate), Fatal> {
        let io = &mut self.io;
        let candidates = batch.iter().map(|s| s.transaction.clone());
        let (proposer, last) = (io.me(), io.last.clone());
        let (block, next, outcomes) = io.state.propose(proposer, io.now, last, candidates)?;
        let mut ids = Vec::with_capacity(outcomes.len());
        for (submission, receipt) in batch.iter().zip(outcomes) {
            match receipt.outcome {
                Ok(()) => ids.push(receipt.transaction),
                Err(reason) => {
                    io.mempool.refuse(&io.state, submission);
                    let transaction = receipt.transaction;
                    io.outputs.push(Output::Refused { transaction, reason });
                }
            }
        }
        let hash = block.header.hash()?;
        let leads_to = Some((Arc::new(next), ids));
        Ok((hash, Candidate::new(Box::new(block), leads_to, false)))
    }

    /// Gives the library the blocks of proposals that it accepted, as they are there. Gives whether
    /// there was one.
    pub(super) fn check_bodies(&mut self) -> Result<bool, Fatal> {
        let io = &self.io;
        let missing = |block: &&BlockHash| !io.candidates.contains_key(*block);
        let wanted: Vec<_> = io.proposed.keys().filter(missing).copied().collect();
        self.door.forget_early();
        for hash in wanted {
            let Some(body) = self.door.body(self.io.now, hash) else { continue };
            self.keep(body, false)?;
            self.offer(hash)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Checks a block of the height in progress, once.
    pub(super) fn keep(&mut self, block: Box<Block>, logged: bool) -> Result<(), Fatal> {
        let hash = block.header.hash()?;
        // Some of the block's may be among them.
        self.take_arrived();
        let leads_to = match self.io.apply(&block) {
            Ok((state, ids)) => Some((Arc::new(state), ids)),
            Err(error) if error.is_ours() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, block = %hash.short(), "coordinator.bad_block");
                None
            }
        };
        self.io.candidates.insert(hash, Candidate::new(block, leads_to, logged));
        Ok(())
    }

    /// Tells the library whether a proposed block is valid.
    fn offer(&mut self, block: BlockHash) -> Result<(), Fatal> {
        let Some(Proposed { round, valid_round, proposer }) = self.io.proposed.get(&block).copied()
        else {
            return Ok(());
        };
        let valid = self.io.candidates.get(&block).is_some_and(|c| c.leads_to.is_some());
        let value = ProposedValue {
            height: Height(self.io.height()),
            round,
            valid_round,
            proposer,
            value: Value(block),
            validity: Validity::from_bool(valid),
        };
        self.feed(Input::ProposedValue(value, ValueOrigin::Consensus))
    }
}
