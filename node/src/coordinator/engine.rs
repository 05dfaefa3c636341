//! What decides the next block: the one interface behind which consensus stands.
//!
//! An engine is a state machine: inputs and the time go in, outputs come out. The driver in
//! [`super::actor`] owns it, gathers the outputs of some calls, makes durable what of them has to
//! be, and then performs the others in order. So nothing leaves, and nobody is answered, before
//! what led to it is durable ([`super::staged`] has the two exceptions). While the disk takes
//! nothing the driver tries again and calls nothing; the engine never learns of it.

use super::consensus::log::Entry;
use archipelag_protocol::{
    codec,
    id::{NodeId, TxId},
    ledger::{
        Handover, Key, Proven, Rejected, SignedTransaction, State, TransactionReceipt, block,
    },
    payment::SignedVoucher,
    query::CertifiedBlock,
    time::Timestamp,
};
use std::{fmt, sync::Arc};
use thiserror::Error;

/// A transaction whose form and signatures have been checked.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub id: TxId,
    pub transaction: SignedTransaction,
    /// Its canonical encoding.
    pub bytes: Arc<[u8]>,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// To be put into a block, or refused. The same transaction may come again while it is pending.
    Transaction(Submission),
    /// A transaction that came by gossip: the others have it, too, and nobody waits here.
    Heard(Submission),
    /// Vouchers to redeem for others, signed by their payers.
    Entrusted(Vec<SignedVoucher>),
    /// Two thirds of those who decide were asked for the next block and had none.
    Current,
    /// The state after a later block, checked, to go on from.
    Joined(Box<Joined>),
    /// Decided blocks from wherever, to follow those who decide. They prove themselves.
    Decided(Vec<CertifiedBlock>),
    /// Bytes from the node of another coordinator. Hostile until checked.
    Peer { from: NodeId, message: Vec<u8> },
}

/// What the driver has to do.
#[derive(Debug)]
pub(crate) enum Output {
    /// The transaction will be in no block.
    Refused { transaction: TxId, reason: Rejected },
    /// Must be durable before anything else of these outputs leaves, until the height is decided.
    Log { height: u64, entry: Entry },
    /// Send to all other coordinators' nodes; need not wait for what is logged, but for its place
    /// in the log ([`Entry::Reserved`]). May be lost.
    Early { message: Vec<u8> },
    /// It goes on from a later block: make that durable.
    Joined(Box<Joined>),
    /// It has seen enough to vote: must be durable before its first vote leaves.
    Voter,
    /// The next block is final: make it durable, then acknowledge it.
    Decided(Box<Decided>),
    /// Send decided blocks from height `first` on to one coordinator's node.
    Serve { to: NodeId, first: u64 },
    /// Send to one coordinator's node. May be lost.
    Send { to: NodeId, message: Vec<u8> },
    /// Send to all other coordinators' nodes. May be lost.
    Broadcast { message: Vec<u8> },
}

/// A state that others made, and what proves it.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub state: Arc<State>,
    /// The block that led to it.
    pub certified: CertifiedBlock,
    /// All changes of the validators up to it, for who asks this one.
    pub handovers: Vec<Handover>,
}

/// A final block and what it led to.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub certified: CertifiedBlock,
    /// The state after the block.
    pub state: Arc<State>,
    /// One for each of the block's transactions, in order.
    pub receipts: Vec<TransactionReceipt>,
}

impl Decided {
    /// What proves who decides from the next block on, when that changes.
    ///
    /// # Errors
    /// A broken rule of ours.
    pub(crate) fn handover(&self) -> Result<Option<Handover>, block::Error> {
        if self.state.validators == self.state.last_validators {
            return Ok(None);
        }
        let CertifiedBlock { block, certificate } = &self.certified;
        let (header, certificate) = (block.header.clone(), certificate.clone());
        let proof = self.state.prove(&Key::Validators)?;
        Ok(Some(Handover(Proven { header, certificate, proof })))
    }
}

/// The engine can't go on: our own fault, never a peer's.
#[derive(Debug, Error)]
pub enum Fatal {
    #[error("the block that this coordinator proposed is not valid: {0}")]
    OwnBlock(#[from] block::Error),
    #[error("a vote or block can't be encoded: {0}")]
    Codec(#[from] codec::Error),
    #[error("consensus can't go on: {0}")]
    Core(String),
}

/// Decides blocks. See the module's contract.
pub(crate) trait Engine: Send + fmt::Debug {
    /// Takes one input.
    ///
    /// # Errors
    /// [`Fatal`] ends the coordinator. Bad input from outside never is: it gets refused or dropped.
    fn on(&mut self, now: Timestamp, input: Input) -> Result<Vec<Output>, Fatal>;

    /// Does what is due. Called when [`Engine::deadline`] has passed.
    ///
    /// # Errors
    /// As [`Engine::on`].
    fn tick(&mut self, now: Timestamp) -> Result<Vec<Output>, Fatal>;

    /// When [`Engine::tick`] wants to be called next; a moment that has passed means at once.
    fn deadline(&self) -> Option<Timestamp>;

    /// Transactions that wait for a block.
    fn pending(&self) -> usize;

    /// Whether it has been where the others are since it started: what it says before may be old.
    fn is_current(&self) -> bool;
}
