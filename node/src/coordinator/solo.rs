//! The engine of a network with one coordinator: whatever is pending becomes the next block at once.
//!
//! Nothing is bypassed: there are blocks, a signed vote, and a certificate that is checked as any
//! other. While the driver makes one block durable, the next one's transactions gather, so that one
//! write to disk serves many of them.

use super::{
    engine::{Decided, Engine, Fatal, Input, Output},
    mempool::{Mempool, Room},
};
use archipelag_protocol::{
    id::{AccountId, TxId},
    ledger::{Block, Certificate, Rejected, State, block::Commit},
    query::CertifiedBlock,
    sign::SecretKey,
    time::Timestamp,
};
use std::{collections::BTreeSet, sync::Arc};
use thiserror::Error;

/// A block has to fit into one answer of the query protocol
/// (`archipelag_protocol::limits::MAX_QUERY_BYTES`), with room for its header and certificate.
const ROOM: Room = Room { transactions: 2_048, size_bytes: 768 << 10 };

/// This key can't decide alone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the network has {validators} coordinators and {account} is not the only one")]
pub struct NotAlone {
    pub account: AccountId,
    pub validators: usize,
}

#[derive(Debug)]
pub(crate) struct Solo {
    key: SecretKey,
    state: Arc<State>,
    mempool: Mempool,
}

impl Solo {
    /// An engine that goes on from `state`.
    ///
    /// # Errors
    /// When `key` is not the network's only validator.
    pub(crate) fn new(key: SecretKey, state: Arc<State>) -> Result<Self, NotAlone> {
        let (account, validators) = (key.account(), state.genesis.validators.len());
        if validators != 1 || !state.genesis.is_validator(account) {
            return Err(NotAlone { account, validators });
        }
        Ok(Self { key, state, mempool: Mempool::default() })
    }

    /// Makes the next block, unless everything that was ready turns out to be refused.
    fn decide(&mut self, now: Timestamp) -> Result<Vec<Output>, Fatal> {
        let batch = self.mempool.take(&self.state, ROOM);
        let senders: BTreeSet<_> = batch.iter().map(|s| s.transaction.signer).collect();
        let candidates = batch.into_iter().map(|s| s.transaction);
        let (block, next, outcomes) = self.state.propose(self.key.account(), now, candidates)?;
        let mut outputs = Vec::new();
        let mut receipts = Vec::with_capacity(block.transactions.len());
        for receipt in outcomes {
            match receipt.outcome {
                Ok(()) => receipts.push(receipt),
                Err(reason) => outputs.push(refused((receipt.transaction, reason))),
            }
        }
        if !block.transactions.is_empty() {
            let certified = self.certify(block)?;
            self.state = Arc::new(next);
            let state = Arc::clone(&self.state);
            outputs.push(Output::Decided(Box::new(Decided { certified, state, receipts })));
        }
        outputs.extend(self.mempool.advance(&self.state, &senders).into_iter().map(refused));
        Ok(outputs)
    }

    fn certify(&self, block: Block) -> Result<CertifiedBlock, Fatal> {
        let network = self.state.network;
        let commit = Commit { height: block.header.height, block: block.header.hash()? };
        let vote = (self.key.account(), self.key.sign(network, &commit)?);
        let certificate = Certificate { commit, votes: vec![vote] };
        certificate.verify(network, &self.state.genesis, &block.header)?;
        Ok(CertifiedBlock { block, certificate })
    }
}

fn refused((transaction, reason): (TxId, Rejected)) -> Output {
    Output::Refused { transaction, reason }
}

impl Engine for Solo {
    fn on(&mut self, now: Timestamp, input: Input) -> Result<Vec<Output>, Fatal> {
        let submission = match input {
            Input::Transaction(submission) => submission,
            // It has no peers, so whoever sent this is not one.
            Input::Peer { .. } => return Ok(Vec::new()),
        };
        let id = submission.id;
        let added = self.mempool.add(now, &self.state, submission);
        Ok(added.err().map(|reason| refused((id, reason))).into_iter().collect())
    }

    fn tick(&mut self, now: Timestamp) -> Result<Vec<Output>, Fatal> {
        let mut outputs: Vec<_> =
            self.mempool.expire(now, &self.state).into_iter().map(refused).collect();
        if self.mempool.is_ready() {
            outputs.extend(self.decide(now)?);
        }
        Ok(outputs)
    }

    fn deadline(&self) -> Option<Timestamp> {
        match self.mempool.is_ready() {
            true => Some(Timestamp(0)),
            false => self.mempool.expiry(),
        }
    }

    fn pending(&self) -> usize {
        self.mempool.len()
    }
}
