//! What coordinators say to each other while they agree on a block, on `/archipelag/consensus/1`.
//!
//! What is signed is [`crate::ledger::vote`]'s; here is how it travels. Nothing counts because of
//! who sent it: votes and proposals are signed, blocks go by their hash, certificates prove
//! themselves. Decoding bounds lengths; who receives a message checks it against the height that it
//! is at.

use crate::{
    codec,
    genesis::MAX_VALIDATORS,
    id::{AccountId, BlockHash, Signature},
    ledger::{Block, SignedProposal, SignedVote, vote::Step},
    query::CertifiedBlock,
};
use serde::{Deserialize, Serialize};

/// A message: some decided blocks, or one.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Blocks in one message, as far as they fit.
pub const MAX_BLOCKS: usize = 64;

/// Transactions in one message.
pub const MAX_TRANSACTIONS: usize = 256;

/// One message between coordinators. Any of them may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    Vote(SignedVote),
    Proposal(SignedProposal),
    Polka(Polka),
    NewRound(NewRound),
    /// The body of a proposed block: sent with a proposal, and when it is wanted.
    Block(Box<Block>),
    WantBlock {
        height: u64,
        block: BlockHash,
    },
    /// Signed transactions that were submitted to the sender.
    Transactions(Vec<serde_bytes::ByteBuf>),
    /// The height of the sender's last block: sent to who seems to be behind or ahead.
    Status {
        height: u64,
    },
    /// Wants the decided blocks from this height on.
    WantDecided {
        from: u64,
    },
    Decided(Vec<CertifiedBlock>),
}

/// Prevotes of more than two thirds for one block in one round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Polka {
    pub height: u64,
    pub round: u32,
    pub block: BlockHash,
    /// In the order of the accounts.
    pub votes: Vec<(AccountId, Signature)>,
}

/// Why a round begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// More than two thirds precommitted in the round before, and not for one block.
    RoundEnded,
    /// More than a third, so at least one honest validator, are in this round.
    OthersAhead,
}

/// Votes that take a validator to another round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRound {
    pub height: u64,
    /// The round of the votes.
    pub round: u32,
    pub why: Why,
    /// In the order of the accounts.
    pub votes: Vec<RoundVote>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundVote {
    pub voter: AccountId,
    pub step: Step,
    pub block: Option<BlockHash>,
    pub signature: Signature,
}

/// # Errors
/// When it is longer than [`MAX_MESSAGE_BYTES`].
pub fn encode(message: &Message) -> Result<Vec<u8>, codec::Error> {
    let bytes = codec::encode("consensus message", message)?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        let (what, limit, found) = ("consensus message", MAX_MESSAGE_BYTES, bytes.len());
        return Err(codec::Error::TooLong { what, limit, found });
    }
    Ok(bytes)
}

/// Decodes a message. It has one encoding, so one that was received can be sent. Its lists are
/// within their limits; nothing in it was verified.
///
/// # Errors
/// When it is too long or malformed, or a list in it is.
pub fn decode(bytes: &[u8]) -> Result<Message, codec::Error> {
    let what = "consensus message";
    let message: Message = codec::decode(what, MAX_MESSAGE_BYTES, bytes)?;
    let (found, limit) = match &message {
        Message::Polka(polka) => (polka.votes.len(), MAX_VALIDATORS),
        Message::NewRound(new) => (new.votes.len(), MAX_VALIDATORS),
        Message::Decided(blocks) => (blocks.len(), MAX_BLOCKS),
        Message::Transactions(list) => (list.len(), MAX_TRANSACTIONS),
        _ => (0, 0),
    };
    if found > limit {
        let reason = format!("{found} items in its list, at most {limit}");
        return Err(codec::Error::Malformed { what, reason });
    }
    Ok(message)
}
