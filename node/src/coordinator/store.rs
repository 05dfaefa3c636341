//! Blocks, receipts, snapshots and the log of consensus on disk: what makes the ledger survive its
//! node.
//!
//! The actor commits what a step of the engine leads to in one durable transaction; everybody else
//! reads. What is read back is checked as if a stranger had sent it. The store decides nothing.

use super::{
    actor::Head,
    consensus::log::Entry,
    engine::{Decided, Joined},
};
use crate::disk::Handle;
use archipelag_protocol::{
    codec,
    genesis::Genesis,
    id::{NetworkId, TxId},
    ledger::{Handover, State, TransactionReceipt, block, transaction},
    limits::{MAX_BLOCK_BYTES, MAX_GENESIS_BYTES, MAX_QUERY_BYTES},
    query::{CertifiedBlock, MAX_SNAPSHOT_PART_BYTES},
};
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata as _, TableDefinition};
use std::{ops::Bound, sync::Arc};
use thiserror::Error;

/// The name under which a disk holds it.
pub(crate) const NAME: &str = "ledger";
/// Blocks between two snapshots: what an opening has to replay at most.
pub(crate) const SNAPSHOT_EVERY: u64 = 256;
/// Snapshots that are kept; the older one is there for `verify`.
const SNAPSHOTS_KEPT: usize = 2;
/// A block, its certificate and what the encoding adds.
const MAX_STORED_BLOCK_BYTES: usize = MAX_BLOCK_BYTES + (1 << 20);

const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const GENESIS: &str = "genesis";
/// There when this disk has all votes of its coordinator.
const VOTER: &str = "voter";
const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// The height of each transaction's block.
const RECEIPTS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("receipts");
/// By height and place.
const LOG: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("log");
/// Changes of the validators, by the height after which they took over.
const HANDOVERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("handovers");
const SNAPSHOTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("snapshots");

/// Why the store can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    #[error(
        "the ledger on this disk is network {stored}, not {expected}: use another --home, or the genesis document that belongs to it"
    )]
    OtherNetwork { stored: NetworkId, expected: NetworkId },
    #[error(
        "the ledger on this disk is corrupt at height {height}: {reason}; restore it from a backup, or move it away to start without what it held"
    )]
    Corrupt { height: u64, reason: String },
    #[error(
        "the ledger's disk failed: {0}; nothing was acknowledged that it, or other coordinators' disks, do not hold; check the space left and the hardware"
    )]
    Failed(String),
    #[error(transparent)]
    Codec(#[from] codec::Error),
    /// A broken rule of ours.
    #[error(transparent)]
    Block(#[from] block::Error),
}

fn corrupt(height: u64, reason: impl ToString) -> Error {
    Error::Corrupt { height, reason: reason.to_string() }
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(reason) => corrupt(0, reason),
            redb::Error::TableTypeMismatch { .. } => {
                corrupt(0, "another version of this program wrote it")
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

/// How far a verification has come, and how far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub height: u64,
    pub last: u64,
}

/// Verifies that `next` follows `state` and that the network decided for it; gives the state after.
///
/// # Errors
/// What is wrong with the block.
pub fn follow(state: &State, next: &CertifiedBlock) -> Result<State, block::Error> {
    next.block.header.verify(&next.certificate, &state.validators)?;
    state.apply(&next.block)
}

#[derive(Debug)]
pub(crate) struct Store {
    database: Handle,
}

impl Store {
    /// Opens the ledger of `genesis` in `database`, and gives where it stands. An empty
    /// database starts with the genesis document.
    ///
    /// # Errors
    /// When it belongs to another network, is corrupt, or the disk failed.
    pub(crate) fn open(database: Handle, genesis: Genesis) -> Result<(Self, Head), Error> {
        let store = Self { database };
        store.check_network(&genesis)?;
        let first = State::genesis(genesis).map_err(|e| corrupt(0, e))?;
        let start = store.snapshot_before(u64::MAX, first)?;
        let state = Arc::new(store.replay(start, |_, _| Ok(()))?);
        let last = store.block(state.height)?;
        let decided = last.map(|last| (last.block.header, last.certificate));
        Ok((store, Head { state, decided }))
    }

    fn check_network(&self, genesis: &Genesis) -> Result<(), Error> {
        let (bytes, expected) = (genesis.to_bytes()?, genesis.network()?);
        let (found, has_blocks) = self.database.with(|database| {
            let write = database.begin_write()?;
            write.open_table(RECEIPTS)?;
            write.open_table(SNAPSHOTS)?;
            write.open_table(LOG)?;
            write.open_table(HANDOVERS)?;
            let has_blocks = write.open_table(BLOCKS)?.first()?.is_some();
            let mut facts = write.open_table(FACTS)?;
            let found = facts.get(GENESIS)?.map(|v| v.value().to_vec());
            if found.is_none() && !has_blocks {
                facts.insert(GENESIS, bytes.as_slice())?;
            }
            drop(facts);
            write.commit()?;
            Ok((found, has_blocks))
        })?;
        match found {
            Some(found) if found == bytes => Ok(()),
            Some(found) if found.len() <= MAX_GENESIS_BYTES => {
                let stored = Genesis::decode(&found).map_err(|e| corrupt(0, e))?;
                Err(Error::OtherNetwork { stored: stored.network()?, expected })
            }
            Some(_) => Err(corrupt(0, "the genesis document is too long")),
            None if has_blocks => Err(corrupt(0, "there are blocks and no genesis document")),
            None => Ok(()),
        }
    }

    /// The newest snapshot below `height`, checked against its block; `first` when there is none.
    fn snapshot_before(&self, height: u64, first: State) -> Result<State, Error> {
        let newest = self.database.with(|database| {
            let snapshots = database.begin_read()?.open_table(SNAPSHOTS)?;
            let newest = snapshots.range(..height)?.next_back().transpose()?;
            Ok(newest.map(|(at, bytes)| (at.value(), bytes.value().to_vec())))
        })?;
        let Some((at, bytes)) = newest else { return Ok(first) };
        let state = State::from_snapshot(&bytes).map_err(|e| corrupt(at, e))?;
        let Some(CertifiedBlock { block, certificate }) = self.block(at)? else {
            return Err(corrupt(at, "there is a snapshot and no block"));
        };
        let hash = block.header.hash()?;
        let at_block = (block.header.height, hash, block.header.time);
        if (state.height, state.last_block, state.time) != at_block || state.height != at {
            return Err(corrupt(at, "the snapshot is of another block"));
        }
        if state.network != first.network || state.root() != block.header.state {
            return Err(corrupt(at, "the snapshot does not have the block's state root"));
        }
        block.header.verify(&certificate, &state.last_validators).map_err(|e| corrupt(at, e))?;
        Ok(state)
    }

    /// Applies all blocks after `state`, verified, and shows `seen` each.
    fn replay(
        &self,
        mut state: State,
        mut seen: impl FnMut(&CertifiedBlock, u64) -> Result<(), Error>,
    ) -> Result<State, Error> {
        let last = self.last_height()?;
        if last < state.height {
            return Err(corrupt(last, format!("there is a snapshot of block {}", state.height)));
        }
        while state.height < last {
            let height = state.height + 1;
            let next =
                self.block(height)?.ok_or_else(|| corrupt(height, "the block is missing"))?;
            state = follow(&state, &next).map_err(|e| corrupt(height, e))?;
            seen(&next, last)?;
        }
        Ok(state)
    }

    pub(crate) fn last_height(&self) -> Result<u64, Error> {
        Ok(self.database.with(|database| {
            let blocks = database.begin_read()?.open_table(BLOCKS)?;
            Ok(blocks.last()?.map_or(0, |(height, _)| height.value()))
        })?)
    }

    /// Makes decided blocks durable, with their receipts, now and then the state, and what has to
    /// be in the log of the heights after them, and that this coordinator votes. When this returns
    /// `Ok` all of it survives a power cut, else none of it. May be called again after it failed,
    /// when it may be there already.
    pub(crate) fn commit(
        &self,
        decided: &[&Decided],
        log: &[(u64, Entry)],
        votes: bool,
    ) -> Result<(), Error> {
        let blocks: Vec<_> = decided.iter().copied().map(Encoded::new).collect::<Result<_, _>>()?;
        let last = decided.last().map_or(0, |decided| decided.state.height);
        // Nobody asks for the log of a height that is decided.
        let log: Vec<(u64, Vec<u8>)> = log
            .iter()
            .filter(|(height, _)| *height > last)
            .map(|(height, entry)| Ok((*height, codec::encode_loose("log entry", entry)?)))
            .collect::<Result<_, Error>>()?;
        if blocks.is_empty() && log.is_empty() && !votes {
            return Ok(());
        }
        let gap = self.database.with(|database| {
            let write = database.begin_write()?;
            for block in &blocks {
                if !block.put(&write)? {
                    return Ok(Some(block.height));
                }
            }
            put_log(&write, last, &log)?;
            if votes {
                write.open_table(FACTS)?.insert(VOTER, [].as_slice())?;
            }
            write.commit()?;
            Ok(None)
        })?;
        match gap {
            None => Ok(()),
            // The file was replaced while the disk failed.
            Some(height) => Err(corrupt(height, "the block before it is missing")),
        }
    }

    /// Makes durable where the chain goes on for one that joins.
    pub(crate) fn join(&self, joined: &Joined) -> Result<(), Error> {
        let height = joined.state.height;
        let block = codec::encode_loose("stored block", &joined.certified)?;
        let snapshot = joined.state.to_snapshot()?;
        let handovers: Vec<(u64, Vec<u8>)> = joined
            .handovers
            .iter()
            .map(|h| Ok((h.0.header.height, codec::encode_loose("handover", h)?)))
            .collect::<Result<_, Error>>()?;
        Ok(self.database.with(|database| {
            let write = database.begin_write()?;
            write.open_table(BLOCKS)?.insert(height, block.as_slice())?;
            let mut table = write.open_table(HANDOVERS)?;
            for (at, handover) in &handovers {
                table.insert(at, handover.as_slice())?;
            }
            drop(table);
            put_snapshot(&write, height, &snapshot)?;
            put_log(&write, height, &[])?;
            Ok(write.commit()?)
        })?)
    }

    /// A part of the snapshot of `height`, or of the newest when that is zero: its height, the
    /// length of all of it, and what there is from `offset` on.
    pub(crate) fn snapshot_part(
        &self,
        height: u64,
        offset: u64,
    ) -> Result<Option<(u64, u64, Vec<u8>)>, Error> {
        Ok(self.database.with(|database| {
            let snapshots = database.begin_read()?.open_table(SNAPSHOTS)?;
            let found = match height {
                0 => snapshots.last()?.map(|(height, bytes)| (height.value(), bytes)),
                height => snapshots.get(height)?.map(|bytes| (height, bytes)),
            };
            Ok(found.map(|(height, bytes)| {
                let bytes = bytes.value();
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(MAX_SNAPSHOT_PART_BYTES).min(bytes.len());
                let part = bytes.get(start..end).unwrap_or_default().to_vec();
                (height, u64::try_from(bytes.len()).unwrap_or(u64::MAX), part)
            }))
        })?)
    }

    /// Whether this disk has all votes of its coordinator, so that it may vote.
    pub(crate) fn has_voted(&self) -> Result<bool, Error> {
        Ok(self
            .database
            .with(|database| Ok(database.begin_read()?.open_table(FACTS)?.get(VOTER)?.is_some()))?)
    }

    /// What the log has of a height that was not decided, in its order.
    pub(crate) fn log(&self, height: u64) -> Result<Vec<Entry>, Error> {
        let entries = self.database.with(|database| {
            let log = database.begin_read()?.open_table(LOG)?;
            let of_height = log.range((height, 0)..=(height, u64::MAX))?;
            of_height.map(|item| Ok(item?.1.value().to_vec())).collect::<Result<Vec<_>, _>>()
        })?;
        let decoded = |bytes: &Vec<u8>| {
            codec::decode_loose("log entry", MAX_STORED_BLOCK_BYTES, bytes)
                .map_err(|e| corrupt(height, e))
        };
        entries.iter().map(decoded).collect()
    }

    /// Keeps `state`, the newest, so that the next opening replays nothing.
    pub(crate) fn snapshot(&self, state: &State) -> Result<(), Error> {
        // A block that was acknowledged and is not here yet comes again.
        if state.height == 0 || state.height > self.last_height()? {
            return Ok(());
        }
        let bytes = state.to_snapshot()?;
        Ok(self.database.with(|database| {
            let write = database.begin_write()?;
            put_snapshot(&write, state.height, &bytes)?;
            Ok(write.commit()?)
        })?)
    }

    pub(crate) fn block(&self, height: u64) -> Result<Option<CertifiedBlock>, Error> {
        let bytes = self.database.with(|database| {
            let blocks = database.begin_read()?.open_table(BLOCKS)?;
            Ok(blocks.get(height)?.map(|bytes| bytes.value().to_vec()))
        })?;
        bytes.map(|bytes| decode_block(height, &bytes)).transpose()
    }

    /// The blocks from `from` on: at most `limit`, and no more than fit into `size_bytes`. Empty
    /// when there are none, `None` when the first one alone does not fit.
    pub(crate) fn blocks(
        &self,
        from: u64,
        limit: usize,
        size_bytes: usize,
    ) -> Result<Option<Vec<CertifiedBlock>>, Error> {
        let found = self.database.with(|database| {
            let table = database.begin_read()?.open_table(BLOCKS)?;
            let (mut found, mut room) = (Vec::new(), size_bytes);
            for item in table.range(from..)?.take(limit) {
                let (height, bytes) = item?;
                // One that joined has none from before.
                let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
                if height.value() != from.saturating_add(count) {
                    break;
                }
                let Some(left) = room.checked_sub(bytes.value().len()) else {
                    return Ok(Some(found).filter(|b| !b.is_empty()));
                };
                room = left;
                found.push((height.value(), bytes.value().to_vec()));
            }
            Ok(Some(found))
        })?;
        let decoded = |found: Vec<(u64, Vec<u8>)>| {
            found.into_iter().map(|(height, bytes)| decode_block(height, &bytes)).collect()
        };
        found.map(decoded).transpose()
    }

    /// The changes of the validators after `height`, in order, as many as fit into `size_bytes`.
    pub(crate) fn handovers(&self, height: u64, size_bytes: usize) -> Result<Vec<Handover>, Error> {
        let found = self.database.with(|database| {
            let table = database.begin_read()?.open_table(HANDOVERS)?;
            let (mut found, mut room) = (Vec::new(), size_bytes);
            for item in table.range((Bound::Excluded(height), Bound::Unbounded))? {
                let (at, bytes) = item?;
                let Some(left) = room.checked_sub(bytes.value().len()) else { break };
                room = left;
                found.push((at.value(), bytes.value().to_vec()));
            }
            Ok(found)
        })?;
        let decoded = |(at, bytes): (u64, Vec<u8>)| {
            codec::decode_loose("handover", MAX_QUERY_BYTES, &bytes).map_err(|e| corrupt(at, e))
        };
        found.into_iter().map(decoded).collect()
    }

    /// The receipt of a transaction that is in a block.
    pub(crate) fn receipt(&self, transaction: TxId) -> Result<Option<TransactionReceipt>, Error> {
        let height = self.database.with(|database| {
            let receipts = database.begin_read()?.open_table(RECEIPTS)?;
            Ok(receipts.get(&transaction.0)?.map(|height| height.value()))
        })?;
        Ok(height.map(|height| TransactionReceipt { transaction, height, outcome: Ok(()) }))
    }

    /// Executes the chain again, at least from block `from` on (1 for all of it), and checks every
    /// link, certificate, transaction, state root and receipt. Gives the state at the end.
    pub(crate) fn verify(
        &self,
        genesis: Arc<Genesis>,
        from: u64,
        mut progress: impl FnMut(Progress),
    ) -> Result<State, Error> {
        let first = State::genesis(genesis).map_err(|e| corrupt(0, e))?;
        // One that joined begins with what it joined by, as long as that is kept.
        let oldest = self.database.with(|database| {
            let blocks = database.begin_read()?.open_table(BLOCKS)?;
            let last = blocks.last()?.map_or(0, |(height, _)| height.value());
            let is_whole = blocks.len()? == last;
            let snapshots = database.begin_read()?.open_table(SNAPSHOTS)?;
            let snapshot = snapshots.first()?.map_or(0, |(height, _)| height.value());
            Ok(if is_whole { 1 } else { snapshot.saturating_add(1) })
        })?;
        let start = self.snapshot_before(from.max(oldest), first)?;
        self.replay(start, |next, last| {
            let height = next.block.header.height;
            for signed in &next.block.transactions {
                let id = transaction::id(signed)?;
                if self.receipt(id)?.is_none_or(|receipt| receipt.height != height) {
                    return Err(corrupt(
                        height,
                        format!("the receipt of {id} is not this block's"),
                    ));
                }
            }
            progress(Progress { height, last });
            Ok(())
        })
    }
}

fn decode_block(height: u64, bytes: &[u8]) -> Result<CertifiedBlock, Error> {
    codec::decode_loose("stored block", MAX_STORED_BLOCK_BYTES, bytes)
        .map_err(|e| corrupt(height, e))
}

/// A decided block in the form in which it is stored.
struct Encoded {
    height: u64,
    block: Vec<u8>,
    transactions: Vec<TxId>,
    snapshot: Option<Vec<u8>>,
    handover: Option<Vec<u8>>,
}

impl Encoded {
    fn new(decided: &Decided) -> Result<Self, Error> {
        let height = decided.state.height;
        let due = height.is_multiple_of(SNAPSHOT_EVERY);
        let handover = decided.handover()?;
        Ok(Self {
            height,
            block: codec::encode_loose("stored block", &decided.certified)?,
            transactions: decided.receipts.iter().map(|receipt| receipt.transaction).collect(),
            snapshot: due.then(|| decided.state.to_snapshot()).transpose()?,
            handover: handover.map(|h| codec::encode_loose("handover", &h)).transpose()?,
        })
    }

    /// Writes it; `false` when the block before it is missing.
    fn put(&self, write: &redb::WriteTransaction) -> Result<bool, redb::Error> {
        let mut blocks = write.open_table(BLOCKS)?;
        let last = blocks.last()?.map_or(0, |(height, _)| height.value());
        if last < self.height && last.checked_add(1) != Some(self.height) {
            return Ok(false);
        }
        blocks.insert(self.height, self.block.as_slice())?;
        let mut receipts = write.open_table(RECEIPTS)?;
        for transaction in &self.transactions {
            receipts.insert(&transaction.0, self.height)?;
        }
        if let Some(handover) = &self.handover {
            write.open_table(HANDOVERS)?.insert(self.height, handover.as_slice())?;
        }
        if let Some(snapshot) = &self.snapshot {
            put_snapshot(write, self.height, snapshot)?;
        }
        Ok(true)
    }
}

/// Adds to the log, and drops what it has of heights up to `decided`.
fn put_log(
    write: &redb::WriteTransaction,
    decided: u64,
    entries: &[(u64, Vec<u8>)],
) -> Result<(), redb::Error> {
    let mut log = write.open_table(LOG)?;
    log.retain_in(..=(decided, u64::MAX), |_, _| false)?;
    for (height, entry) in entries {
        let last = log.range((*height, 0)..=(*height, u64::MAX))?.next_back().transpose()?;
        let next = last.map_or(0, |(key, _)| key.value().1.saturating_add(1));
        log.insert((*height, next), entry.as_slice())?;
    }
    Ok(())
}

fn put_snapshot(
    write: &redb::WriteTransaction,
    height: u64,
    bytes: &[u8],
) -> Result<(), redb::Error> {
    let mut snapshots = write.open_table(SNAPSHOTS)?;
    snapshots.insert(height, bytes)?;
    let heights: Result<Vec<u64>, _> =
        snapshots.iter()?.map(|item| item.map(|(height, _)| height.value())).collect();
    let heights = heights?;
    let surplus = heights.len().saturating_sub(SNAPSHOTS_KEPT);
    for height in heights.into_iter().take(surplus) {
        snapshots.remove(height)?;
    }
    Ok(())
}
