//! What a validator sends that wants to do harm: signed by its own key, of the right form or not.

use super::random::Random;
use archipelag_protocol::{
    consensus::{self, Message},
    id::{BlockHash, ContentId, NetworkId, StateRoot},
    ledger::{Block, Proposal, Vote},
    sign::SecretKey,
};
use std::collections::{BTreeMap, VecDeque};

/// Messages of others that it keeps, to say them again.
const KEPT: usize = 64;

pub(super) struct Liar {
    key: SecretKey,
    network: NetworkId,
    heard: VecDeque<Vec<u8>>,
    /// Blocks that it made out of its own, by height.
    made: BTreeMap<u64, Block>,
}

fn some_hash(random: &mut Random) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&random.next().to_be_bytes());
    hash
}

impl Liar {
    pub(super) fn new(key: SecretKey, network: NetworkId) -> Self {
        Self { key, network, heard: VecDeque::new(), made: BTreeMap::new() }
    }

    pub(super) fn hear(&mut self, message: &[u8]) {
        if self.heard.len() >= KEPT {
            self.heard.pop_front();
        }
        self.heard.push_back(message.to_vec());
    }

    /// What it sends instead of `honest`; `None` for that itself.
    pub(super) fn instead_of(&mut self, random: &mut Random, honest: &[u8]) -> Option<Vec<u8>> {
        match random.below(12) {
            0 => {
                let mut noise = honest.to_vec();
                let at = usize::try_from(random.below(u64::try_from(noise.len()).ok()?)).ok()?;
                *noise.get_mut(at)? ^= u8::try_from(1 + random.below(255)).ok()?;
                Some(noise)
            }
            1 => self.heard.get(usize::try_from(random.below(64)).ok()?).cloned(),
            2 => consensus::encode(&Message::Status { height: random.next() >> random.below(64) })
                .ok(),
            3 => {
                let from = random.next() >> random.below(64);
                consensus::encode(&Message::WantDecided { from }).ok()
            }
            4..6 => None,
            _ => consensus::encode(&self.twist(random, consensus::decode(honest).ok()?)?).ok(),
        }
    }

    /// A message of the same kind that says something else.
    fn twist(&mut self, random: &mut Random, message: Message) -> Option<Message> {
        Some(match message {
            Message::Vote(vote) => {
                let block = match random.below(3) {
                    0 => None,
                    1 => Some(BlockHash(some_hash(random))),
                    _ => self.made.get(&vote.value.height)?.header.hash().ok(),
                };
                let twisted = Vote { block, ..vote.value };
                Message::Vote(self.key.seal(self.network, twisted).ok()?)
            }
            Message::Proposal(proposal) => {
                let made = self.made.get(&proposal.value.height)?;
                let twisted = Proposal { block: made.header.hash().ok()?, ..proposal.value };
                Message::Proposal(self.key.seal(self.network, twisted).ok()?)
            }
            Message::Block(block) => {
                let height = block.header.height;
                let twisted =
                    self.made.entry(height).or_insert_with(|| other_block(random, *block));
                Message::Block(Box::new(twisted.clone()))
            }
            Message::Transactions(mut list) => {
                let first = list.first_mut()?;
                *first = serde_bytes::ByteBuf::from(some_hash(random).to_vec());
                Message::Transactions(list)
            }
            Message::Decided(mut blocks) => {
                let last = blocks.last_mut()?;
                match random.below(3) {
                    0 => last.certificate.votes.truncate(1),
                    1 => last.block = other_block(random, last.block.clone()),
                    _ => blocks.reverse(),
                }
                Message::Decided(blocks)
            }
            Message::Polka(mut polka) => {
                polka.block = BlockHash(some_hash(random));
                Message::Polka(polka)
            }
            Message::NewRound(mut new) => {
                new.round = u32::try_from(random.below(1 << 20)).ok()?;
                Message::NewRound(new)
            }
            Message::WantBlock { height, .. } => {
                Message::WantBlock { height, block: BlockHash(some_hash(random)) }
            }
            other @ (Message::Status { .. } | Message::WantDecided { .. }) => other,
        })
    }
}

/// A block that is wrong in one way.
fn other_block(random: &mut Random, mut block: Block) -> Block {
    let header = &mut block.header;
    match random.below(7) {
        0 => {
            block.transactions.pop();
        }
        1 => block.transactions.extend(block.transactions.first().cloned()),
        2 => header.time = header.time.after_ms(random.below(1 << 40)),
        3 => header.state = StateRoot(some_hash(random)),
        4 => header.height += 1,
        5 => header.transactions = ContentId(some_hash(random)),
        // An honest one but for its time: valid, and there are two.
        _ => header.time = header.time.after_ms(1),
    }
    block
}
