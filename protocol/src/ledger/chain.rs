//! Blocks from transactions, and the state from blocks.

use super::{
    Block, Certificate, Header, SignedTransaction, State, TransactionReceipt,
    block::{Error, transactions_root},
    signatures,
    state::NotConserved,
    transaction::measure,
};
use crate::{
    id::{AccountId, StateRoot, TxId},
    limits::MAX_BLOCK_BYTES,
    time::Timestamp,
};

impl State {
    /// Builds the next block from `candidates`, in their order, which must have passed
    /// [`super::transaction::decode`]. Gives the block, the state after it, and a receipt for each
    /// candidate that was executed or refused. A refused one is not in the block; one whose nonce
    /// is ahead may be offered again. Candidates from the first that does not fit on have no
    /// receipt: they wait for the next block. `last` is why the block before is final, `None` in
    /// the first. A `time` before the last block's counts as the last block's.
    ///
    /// # Errors
    /// When `proposer` is not a validator, or a broken rule of ours ([`Error::NotConserved`]).
    pub fn propose(
        &self,
        proposer: AccountId,
        time: Timestamp,
        last: Option<Certificate>,
        candidates: impl IntoIterator<Item = SignedTransaction>,
    ) -> Result<(Block, Self, Vec<TransactionReceipt>), Error> {
        let mut next = self.begin(time.max(self.time), last.as_ref())?;
        let height = next.height;
        self.check_proposer(proposer)?;
        self.check_last(last.as_ref())?;
        let (mut transactions, mut ids, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
        let mut room = MAX_BLOCK_BYTES;
        for candidate in candidates {
            // Whatever came through `decode` has bytes.
            let Ok((id, size)) = measure(&candidate) else { continue };
            let Some(left) = room.checked_sub(size) else { break };
            let outcome = next.execute(&candidate, id);
            if outcome.is_ok() {
                room = left;
                ids.push(id);
                transactions.push(candidate);
            }
            receipts.push(TransactionReceipt { transaction: id, height, outcome });
        }
        let state = next.close()?;
        let header = Header {
            network: self.network,
            height,
            previous: self.last_block,
            time: next.time,
            validators: self.validators.id()?,
            proposer,
            last: last.as_ref().map(Certificate::id).transpose()?,
            transactions: transactions_root(&ids),
            state,
        };
        next.last_block = header.hash()?;
        Ok((Block { header, last, transactions }, next, receipts))
    }

    /// Verifies a block and gives the state after it. A block with one transaction that is not
    /// valid is refused whole. Whether the network decided for it is [`Header::verify`]'s to say,
    /// and whether its time is plausible the coordinator's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn apply(&self, block: &Block) -> Result<Self, Error> {
        self.apply_listing(block, |_, _| false).map(|(state, _)| state)
    }

    /// As [`State::apply`]; gives the ids of the block's transactions, too. Signatures of those
    /// that `is_verified` are not checked again: it must have seen a transaction with this very id,
    /// which is over all of its bytes, pass [`super::transaction::decode`].
    ///
    /// # Errors
    /// As [`State::apply`].
    pub fn apply_listing(
        &self,
        block: &Block,
        is_verified: impl Fn(&SignedTransaction, TxId) -> bool,
    ) -> Result<(Self, Vec<TxId>), Error> {
        let header = &block.header;
        let mut next = self.begin(header.time, block.last.as_ref())?;
        let height = next.height;
        let ids = self.check_header(&next, block)?;
        let unseen: Vec<_> = (0..)
            .zip(block.transactions.iter().zip(&ids))
            .filter(|(_, (transaction, id))| !is_verified(transaction, **id))
            .map(|(index, (transaction, _))| (index, transaction))
            .collect();
        signatures::verify(self.network, unseen.iter().map(|(_, t)| *t)).map_err(|invalid| {
            let index = unseen.get(invalid.index).map_or(0, |(index, _)| *index);
            Error::Transaction { height, index, reason: invalid.error.to_string() }
        })?;
        for (index, (transaction, id)) in block.transactions.iter().zip(&ids).enumerate() {
            next.execute(transaction, *id).map_err(|e| Error::Transaction {
                height,
                index,
                reason: e.to_string(),
            })?;
        }
        let state = next.close()?;
        if state != header.state {
            return Err(field(height, "state", format!("{}, it leads to {state}", header.state)));
        }
        next.last_block = header.hash()?;
        Ok((next, ids))
    }

    /// A copy of the state that stands at the next block, which says by `last` why the last one is
    /// final.
    fn begin(&self, time: Timestamp, last: Option<&Certificate>) -> Result<Self, Error> {
        let height = self
            .height
            .checked_add(1)
            .ok_or_else(|| field(self.height, "height", "no block can follow".into()))?;
        let last_validators = self.validators.clone();
        let mut next = Self { height, time, last_validators, ..self.clone() };
        if let Some(last) = last {
            self.call_the_roll(&mut next, last);
        }
        Ok(next)
    }

    /// Ends the epoch if it is over, checks that all changes of the block together neither made nor
    /// lost a credit, and gives the root, after the last transaction of a block.
    fn close(&mut self) -> Result<StateRoot, Error> {
        let height = self.height;
        let not_conserved =
            |NotConserved { minted, found }| Error::NotConserved { height, minted, found };
        if self.time >= self.epoch.sweep {
            self.sweep();
        }
        if self.time >= self.epoch.ends {
            self.end_epoch().map_err(|e| field(height, "epoch", e.to_string()))?;
            self.check_conservation().map_err(not_conserved)?;
        }
        match std::mem::take(&mut self.gained) {
            0 => self.update_tree(),
            gained => {
                let minted = u128::from(self.minted.micro());
                let found = minted.saturating_add_signed(gained);
                Err(not_conserved(NotConserved { minted, found }))
            }
        }
    }

    fn check_proposer(&self, proposer: AccountId) -> Result<(), Error> {
        if self.validators.contains(proposer) {
            return Ok(());
        }
        Err(field(self.height + 1, "proposer", format!("{proposer} is not a validator")))
    }

    /// Checks what the next block says of why the last one is final.
    fn check_last(&self, last: Option<&Certificate>) -> Result<(), Error> {
        let refuse = |reason: String| Err(field(self.height + 1, "last", reason));
        match last {
            None if self.height == 0 => Ok(()),
            None => refuse("the certificate of the block before is missing".into()),
            Some(_) if self.height == 0 => refuse("no block is before it".into()),
            Some(last) if (last.height, last.block) != (self.height, self.last_block) => {
                refuse(format!("it is for block {} at height {}", last.block, last.height))
            }
            Some(last) => Ok(last.verify(self.network, &self.last_validators)?),
        }
    }

    /// Everything about a block that costs no signature; cheap checks first. Gives the ids.
    fn check_header(&self, next: &Self, block: &Block) -> Result<Vec<TxId>, Error> {
        let (header, height) = (&block.header, next.height);
        if header.height != height {
            return Err(field(header.height, "height", format!("the next is {height}")));
        }
        if header.network != self.network {
            return Err(field(height, "network", format!("ours is {}", self.network)));
        }
        if header.previous != self.last_block {
            return Err(field(height, "previous", format!("the last is {}", self.last_block)));
        }
        if header.time < self.time {
            return Err(field(height, "time", format!("it is before {}", self.time)));
        }
        let validators = self.validators.id()?;
        if header.validators != validators {
            return Err(field(height, "validators", format!("they are {validators}")));
        }
        self.check_proposer(header.proposer)?;
        let ids = block.check_body()?;
        self.check_last(block.last.as_ref())?;
        Ok(ids)
    }
}

fn field(height: u64, field: &'static str, reason: String) -> Error {
    Error::Field { height, field, reason }
}
