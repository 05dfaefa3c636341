//! The artifacts that this node holds, by content: on disk, with the ones in use in memory.

use crate::disk::{self, Disk, Handle};
use archipelag_protocol::{id::ContentId, limits::MAX_ARTIFACT_BYTES};
use archipelag_runtimes::workers::{self, Workers};
use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use thiserror::Error;

/// Content by id, and ids in the order in which they came.
const CONTENT: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("content");
const ARRIVED: TableDefinition<'_, u64, [u8; 32]> = TableDefinition::new("arrived");
/// What all artifacts may take; the ones that came first make room.
const MAX_STORE_BYTES: u64 = 1 << 30;
/// Artifacts kept in memory: what was used last.
const MAX_MEMORY_BYTES: usize = 64 << 20;

#[derive(Debug, Error)]
pub enum Error {
    #[error("{found} bytes, the limit is {MAX_ARTIFACT_BYTES}")]
    TooLong { found: u64 },
    #[error("the artifact store failed: {0}")]
    Storage(String),
}

#[derive(Clone, Debug)]
pub struct ArtifactStore {
    database: Handle,
    workers: Arc<dyn Workers>,
    recent: Arc<Mutex<VecDeque<(ContentId, Bytes)>>>,
}

fn storage(error: impl std::fmt::Display) -> Error {
    Error::Storage(error.to_string())
}

impl ArtifactStore {
    /// # Errors
    /// When the store can't be opened.
    pub fn open(disk: Arc<dyn Disk>, workers: Arc<dyn Workers>) -> Result<Self, disk::Error> {
        Ok(Self { database: Handle::open(disk, "artifacts")?, workers, recent: Arc::default() })
    }

    /// The bytes of `content`, if they are here. A store that fails holds nothing.
    #[must_use]
    pub fn get(&self, content: ContentId) -> Option<Bytes> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.iter().position(|(id, _)| *id == content) {
            let found = recent.remove(at)?;
            let bytes = found.1.clone();
            recent.push_back(found);
            return Some(bytes);
        }
        drop(recent);
        let bytes = match self.database.with(|database| read(database, content)) {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(%content, %error, "catalog.artifacts: can't read");
                return None;
            }
        };
        // A store that was damaged must not pass for the content.
        if ContentId::of(&bytes) != content {
            tracing::warn!(%content, "catalog.artifacts: the stored bytes are damaged");
            return None;
        }
        self.remember(content, bytes.clone());
        Some(bytes)
    }

    fn remember(&self, content: ContentId, bytes: Bytes) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back((content, bytes));
        let mut total: usize = recent.iter().map(|(_, bytes)| bytes.len()).sum();
        while total > MAX_MEMORY_BYTES && recent.len() > 1 {
            total -= recent.pop_front().map_or(0, |(_, bytes)| bytes.len());
        }
    }

    /// Keeps `bytes`; returns their id once they are durable.
    ///
    /// # Errors
    /// [`Error::TooLong`], or that the store failed.
    pub async fn put(&self, bytes: Bytes) -> Result<ContentId, Error> {
        let found = bytes.len() as u64;
        if found > MAX_ARTIFACT_BYTES {
            return Err(Error::TooLong { found });
        }
        let content = ContentId::of(&bytes);
        if self.get(content).is_some() {
            return Ok(content);
        }
        let (database, stored) = (self.database.clone(), bytes.clone());
        let write = move |database: &redb::Database| write(database, content, &stored);
        workers::run(&*self.workers, move || database.with(write))
            .await
            .map_err(storage)?
            .map_err(storage)?;
        self.remember(content, bytes);
        Ok(content)
    }
}

fn read(database: &redb::Database, content: ContentId) -> Result<Option<Bytes>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(CONTENT) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let found = table.get(content.0)?;
    Ok(found.map(|bytes| Bytes::copy_from_slice(bytes.value())))
}

fn write(database: &redb::Database, content: ContentId, bytes: &[u8]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut contents = transaction.open_table(CONTENT)?;
        let mut arrived = transaction.open_table(ARRIVED)?;
        let mut total = contents.stats()?.stored_bytes();
        while total + bytes.len() as u64 > MAX_STORE_BYTES {
            let Some((_, first)) = arrived.pop_first()?.map(|(k, v)| (k.value(), v.value())) else {
                break;
            };
            let removed = contents.remove(first)?;
            total = total.saturating_sub(removed.map_or(0, |bytes| bytes.value().len() as u64));
        }
        let next = arrived.last()?.map_or(0, |(key, _)| key.value() + 1);
        if contents.insert(content.0, bytes)?.is_none() {
            arrived.insert(next, content.0)?;
        }
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::MemoryDisk,
        environment::{InlineWorkers, TokioExecutor},
    };

    #[tokio::test]
    async fn what_was_put_is_there_after_a_restart() {
        let disk = MemoryDisk::new();
        let executor = Arc::new(TokioExecutor(tokio::runtime::Handle::current()));
        let open = || {
            let workers = Arc::new(InlineWorkers(executor.clone()));
            ArtifactStore::open(Arc::new(disk.clone()), workers).unwrap()
        };
        let store = open();
        let content = store.put(Bytes::from_static(b"module")).await.unwrap();
        assert_eq!(store.put(Bytes::from_static(b"module")).await.unwrap(), content);
        assert_eq!(store.get(ContentId::of(b"other")), None);
        drop(store);
        assert_eq!(open().get(content).as_deref(), Some(&b"module"[..]));
    }
}
