//! What a Consumer keeps on disk: its open holds, holds that are being closed, receipts.
//!
//! Vouchers are not waited for on the disk. After a restart each hold is used in its next lane, so
//! that a voucher that was signed and not written can't be contradicted; a hold whose lanes are
//! used up is closed.

use super::holds::OpenHold;
use crate::{
    disk::Handle,
    environment::Tasks,
    write_behind::{Apply, WriteBehind},
};
use archipelag_protocol::{
    amount::Credits,
    codec,
    id::{AccountId, HoldId, JobId},
    payment::{Lane, SettledReceipt},
    time::Timestamp,
};
use archipelag_runtimes::workers::Workers;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Holds by payer and payee.
const HOLDS: TableDefinition<'_, ([u8; 32], [u8; 32]), &[u8]> = TableDefinition::new("holds");
const CLOSING: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("closing");
/// Receipts by the time of their end, and by job.
const RECEIPTS: TableDefinition<'_, (u64, [u8; 16]), &[u8]> = TableDefinition::new("receipts");
const BY_JOB: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("receipts-by-job");

/// Receipts kept; the oldest make room.
const MAX_RECEIPTS: u64 = 10_000;
const MAX_VALUE_BYTES: usize = 4 << 10;

/// An open hold as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HoldRecord {
    pub(super) hold: HoldId,
    pub(super) cap: Credits,
    pub(super) expires: Timestamp,
    pub(super) lane: Lane,
    pub(super) nonce: u64,
    /// The last voucher's amount.
    pub(super) signed: Credits,
    /// What earlier lanes may take.
    pub(super) earlier: Credits,
}

/// A hold that its payer wants back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Closing {
    pub(super) hold: HoldId,
    pub(super) payer: AccountId,
    /// When the ledger is to be told next.
    pub(super) due: Timestamp,
}

/// A hold and who are its payer and payee.
pub(super) type Pair = (AccountId, AccountId);

/// A change to the database. A hold is read when it is written, so the order of its changes does
/// not matter.
#[derive(Debug)]
pub(super) enum Change {
    Hold(Pair, Arc<OpenHold>),
    NoHold(Pair, HoldId),
    Closing(Closing),
    Closed(HoldId),
    Receipt(Box<SettledReceipt>),
}

/// What was found at the start.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) holds: Vec<(Pair, HoldRecord)>,
    pub(super) closing: Vec<Closing>,
}

#[derive(Clone, Debug)]
pub(super) struct Store {
    database: Handle,
    writes: WriteBehind<Change>,
}

impl Store {
    /// Opens the store and moves every hold to its next lane, durably. Blocks.
    ///
    /// # Errors
    /// When the database can't be read or written.
    pub(super) fn open(
        database: Handle,
        workers: Arc<dyn Workers>,
        tasks: &Tasks,
        stop: CancellationToken,
        lanes_max: Lane,
        now: Timestamp,
    ) -> Result<(Self, Found), redb::Error> {
        let found = database.with(|database| prepare(database, lanes_max, now))?;
        let apply: Apply<Change> = {
            let database = database.clone();
            Arc::new(move |changes| database.with(|database| write(database, changes)))
        };
        let writes = WriteBehind::start("consumer", tasks, workers, apply, stop);
        Ok((Self { database, writes }, found))
    }

    pub(super) async fn write(&self, change: Change) {
        self.writes.write(change).await;
    }

    pub(super) async fn flush(&self) {
        self.writes.flush().await;
    }

    /// The receipt of a job, if it is among the last ones. Blocks for a read.
    pub(super) fn receipt(&self, job: JobId) -> Result<Option<SettledReceipt>, redb::Error> {
        self.database.with(|database| {
            let transaction = database.begin_read()?;
            let by_job = transaction.open_table(BY_JOB)?;
            let Some(finished) = by_job.get(job.0)?.map(|v| v.value()) else { return Ok(None) };
            let found = transaction.open_table(RECEIPTS)?.get((finished, job.0))?;
            found.map(|value| decode(value.value())).transpose()
        })
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, redb::Error> {
    codec::encode_loose("stored value", value).map_err(|e| redb::Error::Corrupted(e.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
    codec::decode_loose("stored value", MAX_VALUE_BYTES, bytes)
        .map_err(|e| redb::Error::Corrupted(e.to_string()))
}

fn prepare(database: &Database, lanes_max: Lane, now: Timestamp) -> Result<Found, redb::Error> {
    let mut found = Found::default();
    let transaction = database.begin_write()?;
    {
        transaction.open_table(RECEIPTS)?;
        transaction.open_table(BY_JOB)?;
        let mut closing = transaction.open_table(CLOSING)?;
        let mut holds = transaction.open_table(HOLDS)?;
        for item in holds.iter()? {
            let (key, value) = item?;
            let (payer, payee) = key.value();
            let record: HoldRecord = decode(value.value())?;
            found.holds.push(((AccountId(payer), AccountId(payee)), record));
        }
        for (pair, record) in std::mem::take(&mut found.holds) {
            let next = HoldRecord {
                lane: record.lane.saturating_add(1),
                earlier: record.earlier.saturating_add(record.signed),
                signed: Credits::ZERO,
                ..record
            };
            let key = (pair.0.0, pair.1.0);
            if next.lane < lanes_max && next.expires > now {
                holds.insert(key, encode(&next)?.as_slice())?;
                found.holds.push((pair, next));
            } else {
                holds.remove(key)?;
                let close = Closing { hold: next.hold, payer: pair.0, due: now };
                closing.insert(next.hold.0, encode(&close)?.as_slice())?;
            }
        }
        for item in closing.iter()? {
            found.closing.push(decode(item?.1.value())?);
        }
    }
    transaction.commit()?;
    Ok(found)
}

fn write(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut holds = transaction.open_table(HOLDS)?;
        let mut closing = transaction.open_table(CLOSING)?;
        let mut receipts = transaction.open_table(RECEIPTS)?;
        let mut by_job = transaction.open_table(BY_JOB)?;
        let mut written = std::collections::BTreeSet::new();
        // The newest first: a hold that was replaced since must not come back.
        for change in changes.iter().rev() {
            match change {
                Change::Hold(pair, hold) if written.insert(*pair) => {
                    let record = encode(&hold.record())?;
                    holds.insert((pair.0.0, pair.1.0), record.as_slice())?;
                }
                Change::NoHold(pair, hold) => {
                    let key = (pair.0.0, pair.1.0);
                    let stored =
                        holds.get(key)?.map(|v| decode::<HoldRecord>(v.value())).transpose()?;
                    if stored.is_some_and(|stored| stored.hold == *hold) && written.insert(*pair) {
                        holds.remove(key)?;
                    }
                }
                _ => {}
            }
        }
        for change in changes {
            match change {
                Change::Closing(close) => {
                    closing.insert(close.hold.0, encode(close)?.as_slice())?;
                }
                Change::Closed(hold) => drop(closing.remove(hold.0)?),
                Change::Receipt(settled) => {
                    let (finished, job) = (settled.receipt.finished.0, settled.receipt.job.0);
                    receipts.insert((finished, job), encode(settled)?.as_slice())?;
                    by_job.insert(job, finished)?;
                }
                Change::Hold(..) | Change::NoHold(..) => {}
            }
        }
        for _ in MAX_RECEIPTS..receipts.len()? {
            let oldest = receipts.pop_first()?.map(|(key, _)| key.value().1);
            if let Some(job) = oldest {
                by_job.remove(job)?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
