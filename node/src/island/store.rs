//! What an Island keeps on disk: per lane the best voucher and what was earned, receipts until the
//! ledger has settled them, debts.
//!
//! Changes go through [`crate::write_behind`]: what was countersigned within the last
//! [`crate::write_behind::COMMIT_DELAY`] and one commit before a crash is lost, which is the
//! Island's own risk and less than a chunk per payer at a usual pace.

use super::payments::{Debt, Payments};
use crate::{
    disk::Handle,
    environment::Tasks,
    write_behind::{Apply, WriteBehind},
};
use archipelag_protocol::{
    amount::Credits,
    codec,
    id::{AccountId, HoldId},
    payment::{Lane, SettledReceipt, SignedVoucher},
    time::Timestamp,
};
use archipelag_runtimes::workers::{self, Workers};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const LANES: TableDefinition<'_, ([u8; 32], Lane), &[u8]> = TableDefinition::new("lanes");
const RECEIPTS: TableDefinition<'_, ([u8; 32], Lane, u64), &[u8]> =
    TableDefinition::new("receipts");
const DEBTS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("debts");

/// Receipts in one batch, and their bytes: what fits into a transaction with its envelope.
pub(super) const BATCH: usize = 200;
const BATCH_BYTES: usize = 120 << 10;
/// A stored value; far above what a voucher or receipt takes.
const MAX_VALUE_BYTES: usize = 4 << 10;

/// A receipt's place: the order in which the ledger settles.
pub(super) type Key = (HoldId, Lane, u64);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LaneRecord {
    pub(super) voucher: Option<SignedVoucher>,
    pub(super) earned: Credits,
}

/// A change to the database. Lanes and debts are read when they are written, so the order of
/// changes does not matter.
#[derive(Debug)]
pub(super) enum Change {
    Receipt(Box<SettledReceipt>),
    Lane(HoldId, Lane),
    Debt(AccountId),
    /// Receipts that are done with.
    Remove(Vec<Key>),
    /// A hold that has ended on the ledger.
    Ended(HoldId),
}

/// What goes to the ledger next.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) receipts: Vec<(Key, SettledReceipt)>,
    /// The stored vouchers of those receipts' lanes.
    pub(super) vouchers: BTreeMap<(HoldId, Lane), SignedVoucher>,
}

#[derive(Clone, Debug)]
pub(super) struct Store {
    database: Handle,
    workers: Arc<dyn Workers>,
    writes: WriteBehind<Change>,
    shared: Arc<Shared>,
}

/// What the writing task tells others.
#[derive(Debug, Default)]
struct Shared {
    payments: OnceLock<Arc<Payments>>,
    waiting: AtomicU64,
    enough: Notify,
}

impl Store {
    /// Opens the store and drops lanes whose vouchers are worthless. Blocks.
    ///
    /// # Errors
    /// When the database can't be read or written.
    pub(super) fn open(
        database: Handle,
        workers: Arc<dyn Workers>,
        tasks: &Tasks,
        stop: CancellationToken,
        now: Timestamp,
    ) -> Result<(Self, BTreeMap<AccountId, Debt>), redb::Error> {
        let (waiting, debts) = database.with(|database| prepare(database, now))?;
        let shared = Arc::new(Shared { waiting: AtomicU64::new(waiting), ..Shared::default() });
        let apply: Apply<Change> = {
            let (database, shared) = (database.clone(), shared.clone());
            Arc::new(move |changes| database.with(|database| write(database, &shared, changes)))
        };
        let writes = WriteBehind::start("island", tasks, workers.clone(), apply, stop);
        Ok((Self { database, workers, writes, shared }, debts))
    }

    /// Says whose lanes and debts are written. Must come before the first change.
    pub(super) fn attach(&self, payments: Arc<Payments>) {
        if self.shared.payments.set(payments).is_err() {
            tracing::debug!("island.store: attached already");
        }
    }

    pub(super) async fn write(&self, change: Change) {
        self.writes.write(change).await;
    }

    pub(super) async fn flush(&self) {
        self.writes.flush().await;
    }

    /// Receipts that wait to be settled.
    pub(super) fn waiting(&self) -> u64 {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Returns when a whole batch waits.
    pub(super) async fn enough(&self) {
        self.shared.enough.notified().await;
    }

    /// The stored lanes of a hold. A store that can't be read has none.
    pub(super) async fn lanes(&self, hold: HoldId) -> Vec<(Lane, LaneRecord)> {
        let database = self.database.clone();
        let read = move || database.with(|database| read_lanes(database, hold));
        match workers::run(&*self.workers, read).await {
            Ok(Ok(lanes)) => lanes,
            Ok(Err(error)) => {
                tracing::error!(%hold, %error, "island.store: can't read lanes");
                Vec::new()
            }
            Err(_stopping) => Vec::new(),
        }
    }

    /// The next receipts to settle, in the order of their lanes.
    pub(super) async fn batch(&self) -> Result<Batch, String> {
        let (database, shared) = (self.database.clone(), self.shared.clone());
        let read = move || database.with(|database| read_batch(database, &shared));
        workers::run(&*self.workers, read)
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, redb::Error> {
    codec::encode_loose("stored value", value).map_err(|e| redb::Error::Corrupted(e.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
    codec::decode_loose("stored value", MAX_VALUE_BYTES, bytes)
        .map_err(|e| redb::Error::Corrupted(e.to_string()))
}

fn prepare(
    database: &Database,
    now: Timestamp,
) -> Result<(u64, BTreeMap<AccountId, Debt>), redb::Error> {
    let transaction = database.begin_write()?;
    let (mut debts, waiting) = (BTreeMap::new(), transaction.open_table(RECEIPTS)?.len()?);
    {
        let mut lanes = transaction.open_table(LANES)?;
        // A lane that can't be read has nothing to give.
        lanes.retain(|_, value| {
            let record = decode::<LaneRecord>(value).ok();
            record.and_then(|r| r.voucher).is_some_and(|voucher| voucher.value.expires > now)
        })?;
        for item in transaction.open_table(DEBTS)?.iter()? {
            let (payer, debt) = item?;
            debts.insert(AccountId(payer.value()), decode(debt.value())?);
        }
    }
    transaction.commit()?;
    Ok((waiting, debts))
}

fn write(database: &Database, shared: &Shared, changes: &[Change]) -> Result<(), redb::Error> {
    let Some(payments) = shared.payments.get() else { return Ok(()) };
    let transaction = database.begin_write()?;
    let mut waiting = 0;
    {
        let mut lanes = transaction.open_table(LANES)?;
        let mut receipts = transaction.open_table(RECEIPTS)?;
        let mut debts = transaction.open_table(DEBTS)?;
        let mut dirty = std::collections::BTreeSet::new();
        for change in changes {
            match change {
                Change::Receipt(settled) => {
                    let receipt = &settled.receipt;
                    let key = (receipt.hold.0, receipt.lane, receipt.sequence);
                    receipts.insert(key, encode(settled)?.as_slice())?;
                    dirty.insert((receipt.hold, receipt.lane));
                }
                Change::Lane(hold, lane) => {
                    dirty.insert((*hold, *lane));
                }
                Change::Debt(payer) => match payments.debt(*payer) {
                    Some(debt) => drop(debts.insert(payer.0, encode(&debt)?.as_slice())?),
                    None => drop(debts.remove(payer.0)?),
                },
                Change::Remove(keys) => {
                    for (hold, lane, sequence) in keys {
                        receipts.remove((hold.0, *lane, *sequence))?;
                    }
                }
                Change::Ended(hold) => {
                    lanes.retain_in((hold.0, 0)..=(hold.0, Lane::MAX), |_, _| false)?;
                    dirty.retain(|(dirty, _)| dirty != hold);
                }
            }
        }
        for (hold, lane) in dirty {
            if let Some(record) = payments.record(hold, lane) {
                lanes.insert((hold.0, lane), encode(&record)?.as_slice())?;
            }
        }
        waiting += receipts.len()?;
    }
    transaction.commit()?;
    for change in changes {
        if let Change::Receipt(settled) = change {
            let receipt = &settled.receipt;
            payments.resolved(receipt.hold, receipt.lane, receipt.sequence);
        }
    }
    shared.waiting.store(waiting, Ordering::Relaxed);
    if waiting >= BATCH as u64 {
        shared.enough.notify_one();
    }
    Ok(())
}

fn read_lanes(database: &Database, hold: HoldId) -> Result<Vec<(Lane, LaneRecord)>, redb::Error> {
    let lanes = database.begin_read()?.open_table(LANES)?;
    let mut found = Vec::new();
    for item in lanes.range((hold.0, 0)..=(hold.0, Lane::MAX))? {
        let (key, value) = item?;
        found.push((key.value().1, decode(value.value())?));
    }
    Ok(found)
}

/// Receipts in order. Those of a lane that come after one which may still come back wait for it.
fn read_batch(database: &Database, shared: &Shared) -> Result<Batch, redb::Error> {
    let Some(payments) = shared.payments.get() else { return Ok(Batch::default()) };
    let transaction = database.begin_read()?;
    let (lanes, receipts) = (transaction.open_table(LANES)?, transaction.open_table(RECEIPTS)?);
    let (mut batch, mut bytes) = (Batch::default(), 0);
    let mut start = ([0; 32], 0, 0);
    'lanes: loop {
        // One lane at a time, so that a long lane that waits is skipped without being read.
        let Some(first) = receipts.range(start..)?.next() else { break };
        let (hold, lane, _) = first?.0.value();
        let pending = payments.first_pending(HoldId(hold), lane).unwrap_or(u64::MAX);
        for item in receipts.range((hold, lane, 0)..(hold, lane, pending))? {
            let (key, value) = item?;
            bytes += value.value().len();
            if batch.receipts.len() == BATCH || bytes > BATCH_BYTES {
                break 'lanes;
            }
            let (_, _, sequence) = key.value();
            batch.receipts.push(((HoldId(hold), lane, sequence), decode(value.value())?));
        }
        if let Some(value) = lanes.get((hold, lane))?
            && let Some(voucher) = decode::<LaneRecord>(value.value())?.voucher
        {
            batch.vouchers.insert((HoldId(hold), lane), voucher);
        }
        start = match lane.checked_add(1) {
            Some(next) => (hold, next, 0),
            None => (hold, lane, u64::MAX),
        };
    }
    add_cut_lane(&mut batch, &lanes)?;
    Ok(batch)
}

/// The voucher of the lane in which a batch was cut off.
fn add_cut_lane(
    batch: &mut Batch,
    lanes: &impl ReadableTable<([u8; 32], Lane), &'static [u8]>,
) -> Result<(), redb::Error> {
    let Some(((hold, lane, _), _)) = batch.receipts.last() else { return Ok(()) };
    if let Some(value) = lanes.get((hold.0, *lane))?
        && let Some(voucher) = decode::<LaneRecord>(value.value())?.voucher
    {
        batch.vouchers.insert((*hold, *lane), voucher);
    }
    Ok(())
}
