//! What other coordinators say: messages about the height in progress, questions, and the decided
//! blocks by which one that is behind catches up.

use super::{
    Consensus, MAX_ARRIVED,
    door::{self, Question},
};
use crate::coordinator::engine::{Fatal, Output, Submission};
use archipelag_protocol::{
    consensus::{self, Message},
    id::{NodeId, TxId},
    ledger::transaction,
    query::CertifiedBlock,
};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

impl Consensus {
    /// Takes decided blocks, as far as they follow.
    pub(super) fn catch_up(&mut self, blocks: Vec<CertifiedBlock>) -> Result<(), Fatal> {
        for certified in blocks {
            let (io, header) = (&self.io, &certified.block.header);
            if header.height <= io.state.height {
                continue;
            }
            let checked = header
                .verify(&certified.certificate, &io.state.validators)
                .and_then(|()| io.apply(&certified.block));
            match checked {
                Ok((state, ids)) => {
                    self.recovered.clear();
                    self.io.running = false;
                    self.io.inputs.clear();
                    self.io.timers.clear();
                    self.io.adopt(certified, Arc::new(state), ids);
                }
                Err(error) if error.is_ours() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "coordinator.bad_blocks");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(super) fn peer(&mut self, from: NodeId, bytes: &[u8]) -> Result<(), Fatal> {
        if !self.io.state.validators.iter().any(|validator| validator.node == from) {
            return Ok(());
        }
        match consensus::decode(bytes) {
            Ok(message) => self.take(from, message),
            Err(error) => {
                tracing::warn!(node = %from.short(), %error, "coordinator.bad_message");
                Ok(())
            }
        }
    }

    /// Takes a message of another validator's node.
    pub(super) fn take(&mut self, from: NodeId, message: Message) -> Result<(), Fatal> {
        match message {
            Message::Status { height } => {
                if let Some(newcomer) = &mut self.newcomer {
                    newcomer.hear(self.io.now, from, height, self.io.state.height);
                }
                self.settle_in();
                self.on_status(from, height);
                Ok(())
            }
            Message::Transactions(list) => {
                let theirs = self.arrived.entry(from).or_default();
                let room = MAX_ARRIVED.saturating_sub(theirs.len());
                theirs.extend(list.into_iter().take(room));
                Ok(())
            }
            Message::WantDecided { from: first } => {
                if self.door.may_ask(self.io.now, from, Question::Decided) {
                    // The blocks may be a part of all, or none when this one joined later.
                    let height = self.io.state.height;
                    self.io.send(from, &Message::Status { height });
                    self.io.outputs.push(Output::Serve { to: from, first });
                }
                Ok(())
            }
            Message::Decided(blocks) => {
                let before = self.io.state.height;
                self.catch_up(blocks)?;
                self.settle_in();
                let first = self.io.height();
                if first > before + 1 {
                    // There may be more than went into one message.
                    self.io.send(from, &Message::WantDecided { from: first });
                }
                Ok(())
            }
            Message::WantBlock { height, block } => {
                if height != self.io.height() {
                    self.on_status(from, height.saturating_sub(1));
                    return Ok(());
                }
                if let Some(candidate) = self.io.candidates.get(&block)
                    && candidate.leads_to.is_some()
                    && self.door.may_ask(self.io.now, from, Question::Block)
                {
                    let message = Message::Block(candidate.block.clone());
                    self.io.send(from, &message);
                }
                Ok(())
            }
            about => {
                self.take_about(from, about);
                Ok(())
            }
        }
    }

    /// Takes transactions that were submitted to other coordinators, as if they had come here; but
    /// nobody waits for them here, and they are not passed on.
    pub(super) fn take_arrived(&mut self) {
        let list: Vec<_> = std::mem::take(&mut self.arrived).into_values().flatten().collect();
        let state = &self.io.state;
        // One that a block took meanwhile needs no check.
        let decoded = transaction::decode_all(&list, self.io.network, |t| state.check(t));
        for (bytes, transaction) in list.iter().zip(decoded) {
            let Ok(transaction) = transaction else { continue };
            let id = TxId(Sha256::digest(bytes).into());
            let submission = Submission { id, transaction, bytes: bytes.as_slice().into() };
            // One that is refused here may be taken where it was submitted.
            let _refused = self.io.mempool.add(self.io.now, &self.io.state, submission);
        }
    }

    /// Takes a message about the height in progress, or keeps it until that one is.
    fn take_about(&mut self, from: NodeId, message: Message) {
        let (height, current) = (door::height_of(&message), self.io.height());
        if height < current {
            self.on_status(from, height.saturating_sub(1));
            return;
        }
        if height > current {
            self.on_status(from, height - 1);
            self.door.hold(current, from, message);
            return;
        }
        if let Message::Block(block) = message {
            // With the right header and another body it would pass for a bad block.
            match block.check_body() {
                Ok(_) => self.door.put_body(from, block),
                Err(error) => tracing::debug!(node = %from.short(), %error, "coordinator.bad_body"),
            }
            return;
        }
        let round = if self.io.running { self.core.round() } else { door::ANY_ROUND };
        if let Err(reason) = door::check(&self.io, round, &message) {
            tracing::debug!(node = %from.short(), reason, "coordinator.refused_message");
            return;
        }
        if !self.io.running {
            // Whoever wakes us must be one who may.
            if door::is_signed(&self.io, &message) {
                self.door.hold(current, from, message);
                self.wanted = true;
            }
            return;
        }
        if let Message::Proposal(proposal) = &message {
            let block = proposal.value.block;
            if !self.io.candidates.contains_key(&block) && !self.door.has_body(block) {
                self.io.send(from, &Message::WantBlock { height, block });
            }
        }
        self.io.inputs.extend(door::input(message));
    }

    /// Another one's last block has this height: helps who is behind, or asks who is ahead.
    fn on_status(&mut self, from: NodeId, theirs: u64) {
        let ours = self.io.state.height;
        if theirs < ours && self.door.may_ask(self.io.now, from, Question::Status) {
            self.io.send(from, &Message::Status { height: ours });
        }
        if theirs > ours && self.door.may_ask(self.io.now, from, Question::Want) {
            self.io.send(from, &Message::WantDecided { from: ours + 1 });
        }
    }

    /// Asks for the blocks of accepted proposals that are still missing.
    pub(super) fn ask_again(&mut self) {
        let height = self.io.height();
        let missing: Vec<_> = self
            .io
            .proposed
            .keys()
            .filter(|b| !self.io.candidates.contains_key(*b) && !self.door.has_body(**b))
            .copied()
            .collect();
        for block in missing {
            self.io.broadcast(&Message::WantBlock { height, block });
        }
    }
}
