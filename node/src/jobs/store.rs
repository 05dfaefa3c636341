//! The book's database: heads, inputs, outputs, events and idempotency keys of jobs.
//!
//! Reads run on the worker pool; writes come from [`super::writer`] alone, many in one commit.

use super::{
    Error,
    index::{Claim, ClaimKey},
    log,
    record::Head,
};
use crate::disk::{self, Disk, Handle};
use archipelag_protocol::{codec, id::JobId};
use archipelag_runtimes::workers::{self, Workers};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::sync::Arc;

type Table<K, V> = TableDefinition<'static, K, V>;
const HEADS: Table<&[u8; 16], &[u8]> = TableDefinition::new("heads");
const INPUTS: Table<&[u8; 16], &str> = TableDefinition::new("inputs");
const OUTPUTS: Table<&[u8; 16], &str> = TableDefinition::new("outputs");
/// Keyed by the job and, big-endian, the number of the chunk's first event.
const EVENTS: Table<&[u8; 24], &[u8]> = TableDefinition::new("events");
/// Keyed by the account and the hash of the key.
const CLAIMS: Table<&[u8; 64], &[u8]> = TableDefinition::new("idempotency");

/// The database's name.
const NAME: &str = "jobs";

/// A head holds two signatures and a bounded reason; far below this.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// One change of the database. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Head(Box<Head>),
    Input(JobId, Arc<str>),
    Output(JobId, Arc<str>),
    Events(JobId, Arc<[(u64, Vec<u8>)]>),
    /// Everything of a job.
    Remove(JobId),
    Claim(ClaimKey, Claim),
    Unclaim(ClaimKey),
}

impl Op {
    /// The bytes of its texts; what else there is to a change is small.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Input(_, text) | Self::Output(_, text) => text.len(),
            Self::Events(_, chunks) => chunks.iter().map(|(_, chunk)| chunk.len()).sum(),
            Self::Head(_) | Self::Remove(_) | Self::Claim(..) | Self::Unclaim(_) => 0,
        }
    }
}

/// Input and output of a job; `None` where there is none or it is too long.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) input: Option<String>,
    pub(super) output: Option<String>,
    pub(super) shortened: bool,
}

/// Everything that the book holds in memory.
pub(super) type Loaded = (Vec<Head>, Vec<(ClaimKey, Claim)>);

#[derive(Clone, Debug)]
pub(super) struct Store {
    database: Handle,
    workers: Arc<dyn Workers>,
}

fn event_key(job: JobId, first: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&job.0);
    key[16..].copy_from_slice(&first.to_be_bytes());
    key
}

impl Store {
    /// Blocks.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        workers: Arc<dyn Workers>,
    ) -> Result<Self, disk::Error> {
        Ok(Self { database: Handle::open(disk, NAME)?, workers })
    }

    async fn on_workers<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let database = self.database.clone();
        let result = workers::run(&*self.workers, move || database.with(work)).await;
        result.map_err(|_| Error::Stopping)?.map_err(|e| Error::Store(e.to_string()))
    }

    /// Applies all of `ops` in one durable commit, or none.
    pub(super) async fn commit(&self, ops: Vec<Op>) -> Result<(), Error> {
        self.on_workers(move |database| commit(database, &ops)).await
    }

    pub(super) async fn load(&self) -> Result<Loaded, Error> {
        self.on_workers(load).await
    }

    /// The input and output of `jobs`, in their order, each at most `most_bytes` long.
    pub(super) async fn texts(
        &self,
        jobs: Vec<JobId>,
        most_bytes: usize,
    ) -> Result<Vec<Texts>, Error> {
        if jobs.is_empty() {
            // What is in memory can be shown while the disk fails.
            return Ok(Vec::new());
        }
        self.on_workers(move |database| {
            let read = database.begin_read()?;
            let (inputs, outputs) = (read.open_table(INPUTS)?, read.open_table(OUTPUTS)?);
            jobs.iter()
                .map(|job| {
                    let mut shortened = false;
                    let mut short = |text: &str| {
                        shortened |= text.len() > most_bytes;
                        (text.len() <= most_bytes).then(|| text.to_owned())
                    };
                    let input = inputs.get(&job.0)?.and_then(|t| short(t.value()));
                    let output = outputs.get(&job.0)?.and_then(|t| short(t.value()));
                    Ok(Texts { input, output, shortened })
                })
                .collect()
        })
        .await
    }

    /// Some events from number `from` on; none when there are no more.
    pub(super) async fn events(&self, job: JobId, from: u64) -> Result<Vec<Arc<str>>, Error> {
        self.on_workers(move |database| {
            let events = database.begin_read()?.open_table(EVENTS)?;
            let up_to = events.range::<&[u8; 24]>(&event_key(job, 0)..=&event_key(job, from))?;
            let Some(chunk) = up_to.last() else { return Ok(Vec::new()) };
            let (key, chunk) = chunk?;
            let mut first = [0; 8];
            first.copy_from_slice(&key.value()[16..]);
            Ok(log::split(u64::from_be_bytes(first), chunk.value(), from))
        })
        .await
    }
}

fn commit(database: &Database, ops: &[Op]) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut heads = write.open_table(HEADS)?;
        let mut inputs = write.open_table(INPUTS)?;
        let mut outputs = write.open_table(OUTPUTS)?;
        let mut events = write.open_table(EVENTS)?;
        let mut claims = write.open_table(CLAIMS)?;
        for op in ops {
            match op {
                Op::Head(head) => {
                    heads.insert(&head.id.0, &*encode(&**head)?)?;
                }
                Op::Input(job, text) => {
                    inputs.insert(&job.0, &**text)?;
                }
                Op::Output(job, text) => {
                    outputs.insert(&job.0, &**text)?;
                }
                Op::Events(job, chunks) => {
                    for (first, chunk) in &**chunks {
                        events.insert(&event_key(*job, *first), &**chunk)?;
                    }
                }
                Op::Remove(job) => {
                    heads.remove(&job.0)?;
                    inputs.remove(&job.0)?;
                    outputs.remove(&job.0)?;
                    let (first, last) = (event_key(*job, 0), event_key(*job, u64::MAX));
                    events.retain_in::<&[u8; 24], _>(&first..=&last, |_, _| false)?;
                }
                Op::Claim(key, claim) => {
                    claims.insert(&key.to_bytes(), &*encode(claim)?)?;
                }
                Op::Unclaim(key) => {
                    claims.remove(&key.to_bytes())?;
                }
            }
        }
    }
    Ok(write.commit()?)
}

fn load(database: &Database) -> Result<Loaded, redb::Error> {
    commit(database, &[])?; // Makes the tables.
    let read = database.begin_read()?;
    let mut heads = Vec::new();
    for row in read.open_table(HEADS)?.iter()? {
        heads.push(decode(row?.1.value())?);
    }
    let mut claims = Vec::new();
    for row in read.open_table(CLAIMS)?.iter()? {
        let (key, claim) = row?;
        claims.push((ClaimKey::from_bytes(key.value()), decode(claim.value())?));
    }
    Ok((heads, claims))
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, redb::Error> {
    codec::encode_loose("job record", value).map_err(|e| redb::Error::Corrupted(e.to_string()))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
    codec::decode_loose("job record", MAX_HEAD_BYTES, bytes)
        .map_err(|e| redb::Error::Corrupted(e.to_string()))
}
