//! The one way to an open database: every store of a node reads and writes through a [`Handle`].
//!
//! redb refuses everything after a read or write that failed, until the database is opened again.
//! The handle does that, so that a full disk that has room again needs no restart of the node.

use super::{Disk, Error};
use redb::Database;
use std::{
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
};

/// A database of one name; cheap to clone. It is closed when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    name: &'static str,
    /// `None` from a failure to the next use.
    database: RwLock<Option<Arc<Database>>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl Handle {
    /// Opens the database. Blocks.
    ///
    /// # Errors
    /// As [`Disk::open`].
    pub(crate) fn open(disk: Arc<dyn Disk>, name: &'static str) -> Result<Self, Error> {
        let database = RwLock::new(Some(disk.open(name)?));
        Ok(Self(Arc::new(Shared { disk, name, database })))
    }

    /// Does `work` with the database, which must not use the handle. Blocks.
    ///
    /// # Errors
    /// Those of `work`, and that the database can't be opened again after a failure: an I/O error.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let result = loop {
            let database = self.0.database.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(database) = &*database {
                break work(database);
            }
            drop(database);
            self.reopen()?;
        };
        if matches!(result, Err(redb::Error::Io(_) | redb::Error::PreviousIo)) {
            *self.0.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    fn reopen(&self) -> Result<(), redb::Error> {
        let mut database = self.0.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            let opened = self.0.disk.open(self.0.name);
            *database = Some(opened.map_err(|e| redb::Error::Io(io::Error::other(e)))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::flaky::FlakyDisk;
    use redb::{ReadableDatabase, TableDefinition};

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

    fn write(handle: &Handle, key: u64) -> Result<(), redb::Error> {
        handle.with(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(TABLE)?.insert(key, key)?;
            Ok(transaction.commit()?)
        })
    }

    fn read(handle: &Handle, key: u64) -> Option<u64> {
        let found = handle.with(|database| {
            let table = database.begin_read()?.open_table(TABLE)?;
            Ok(table.get(key)?.map(|v| v.value()))
        });
        found.unwrap()
    }

    /// Whichever operation of a write it is that fails first.
    #[test]
    fn a_database_is_used_again_after_its_disk_failed() {
        let mut failed = 0;
        for operations in 0..10 {
            let disk = FlakyDisk::default();
            let handle = Handle::open(disk.shared(), "numbers").unwrap();
            write(&handle, 1).unwrap();
            disk.break_after(operations);
            for _ in 0..3 {
                failed += u32::from(write(&handle, 2).is_err());
            }
            disk.mend();
            write(&handle, 3).unwrap();
            write(&handle, 2).unwrap();
            assert_eq!([1, 2, 3].map(|key| read(&handle, key)), [Some(1), Some(2), Some(3)]);
        }
        assert!(failed >= 9, "the disk failed only {failed} times");
    }

    #[test]
    fn an_error_that_is_not_the_disks_leaves_the_database_open() {
        let disk = FlakyDisk::default();
        let handle = Handle::open(disk.shared(), "numbers").unwrap();
        let damage = || redb::Error::Corrupted("a value".into());
        assert!(handle.with(|_| Err::<(), _>(damage())).is_err());
        assert!(matches!(disk.open("numbers"), Err(Error::Busy { .. })));
    }
}
