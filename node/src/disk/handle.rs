//! The one way to an open database: every store of a node reads and writes through a [`Handle`].
//!
//! redb refuses everything after a read or write that failed, until the database is opened again.
//! The handle does that, so that a full disk that has room again needs no restart of the node. It
//! rests in between: redb reads all of a database that was not closed properly.

use super::{Disk, Error};
use crate::services::lock;
use redb::Database;
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError, RwLock, TryLockError, Weak},
    time::{Duration, Instant},
};

/// After an opening again there is no other for so many times as long as it took, up to a minute.
const REST: u32 = 10;
const MAX_REST: Duration = Duration::from_secs(60);

/// A database of one name; cheap to clone. It is closed when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    name: &'static str,
    /// `None` from a failure until it is open again.
    database: RwLock<Option<Arc<Database>>>,
    /// The last failure.
    failure: Mutex<Failure>,
    /// When it may be opened again. Locked by who does that.
    next: Mutex<Instant>,
}

/// Why there is no database.
#[derive(Clone)]
enum Failure {
    Io(String),
    Corrupt(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Corrupt { place, reason } => Self::Corrupt(format!("{place}: {reason}")),
            other => Self::Io(other.to_string()),
        }
    }
}

impl From<Failure> for redb::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io(reason) => Self::Io(io::Error::other(reason)),
            Failure::Corrupt(reason) => Self::Corrupted(reason),
        }
    }
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
        let failure = Failure::Io("a read or write failed".into()).into();
        let next = Instant::now().into();
        Ok(Self(Arc::new(Shared { disk, name, database, failure, next })))
    }

    /// Does `work` with the database, which must not use the handle. Blocks.
    ///
    /// # Errors
    /// Those of `work`; and after a failure, while the database is not open again, the last one: an
    /// I/O error, or that the database is damaged.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let (result, used) = loop {
            let database = self.0.database.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(database) = &*database {
                break (work(database), Arc::downgrade(database));
            }
            drop(database);
            self.reopen()?;
        };
        match &result {
            Err(redb::Error::Io(error)) => {
                *lock(&self.0.failure) = Failure::Io(error.to_string());
                self.close(&used);
            }
            // Who met the failure itself notes it.
            Err(redb::Error::PreviousIo) => self.close(&used),
            _ => {}
        }
        result
    }

    /// Closes `failed`, unless another has, and has perhaps opened the database again.
    fn close(&self, failed: &Weak<Database>) {
        let mut database = self.0.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.as_ref().is_some_and(|open| Weak::ptr_eq(&Arc::downgrade(open), failed)) {
            *database = None;
        }
    }

    /// Opens the database again. Others fail meanwhile, instead of holding up a worker each.
    fn reopen(&self) -> Result<(), redb::Error> {
        let Shared { disk, name, database, failure, next } = &*self.0;
        let mut next = match next.try_lock() {
            Ok(next) => next,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(lock(failure).clone().into()),
        };
        if database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let started = Instant::now();
        if started < *next {
            return Err(lock(failure).clone().into());
        }
        let opened = disk.open(name);
        let took = started.elapsed();
        *next = Instant::now() + (took * REST).min(MAX_REST);
        tracing::debug!(name, ?took, opened = opened.is_ok(), "disk.reopen");
        match opened {
            Ok(opened) => {
                *database.write().unwrap_or_else(PoisonError::into_inner) = Some(opened);
                Ok(())
            }
            Err(error) => {
                let error = Failure::from(error);
                *lock(failure) = error.clone();
                Err(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::flaky::FlakyDisk;
    use redb::{ReadableDatabase, TableDefinition};

    const DEADLINE: Duration = Duration::from_secs(20);
    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

    fn write(handle: &Handle, key: u64) -> Result<(), redb::Error> {
        handle.with(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(TABLE)?.insert(key, key)?;
            Ok(transaction.commit()?)
        })
    }

    /// Writes it when the database is open again.
    fn write_in_the_end(handle: &Handle, key: u64) {
        let started = Instant::now();
        while let Err(error) = write(handle, key) {
            assert!(started.elapsed() < DEADLINE, "{error}");
            std::thread::yield_now();
        }
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
            write_in_the_end(&handle, 3);
            write(&handle, 2).unwrap();
            assert_eq!([1, 2, 3].map(|key| read(&handle, key)), [Some(1), Some(2), Some(3)]);
        }
        assert!(failed >= 9, "the disk failed only {failed} times");
    }

    /// Notes how long each opening took.
    #[derive(Debug)]
    struct Timed(FlakyDisk, Mutex<Vec<Duration>>);

    impl Disk for Timed {
        fn open(&self, name: &str) -> Result<Arc<Database>, Error> {
            let started = Instant::now();
            let opened = self.0.open(name);
            lock(&self.1).push(started.elapsed());
            opened
        }
    }

    /// Whether it is the opening that fails, or the first write after it.
    #[test]
    fn opening_again_takes_a_small_part_of_the_time() {
        for operations in [0, 20] {
            let flaky = FlakyDisk::default();
            let disk = Arc::new(Timed(flaky.clone(), Mutex::default()));
            let handle = Handle::open(disk.clone(), "numbers").unwrap();
            write(&handle, 1).unwrap();
            lock(&disk.1).clear();
            let started = Instant::now();
            let mut uses = 0;
            while lock(&disk.1).len() < 5 {
                flaky.break_after(operations);
                let failed = std::iter::from_fn(|| Some(write(&handle, 2).err()));
                let failed = failed.flatten().next().unwrap();
                assert!(failed.to_string().contains("no space left"), "{failed}");
                uses += 1;
                assert!(started.elapsed() < DEADLINE);
            }
            let elapsed = started.elapsed();
            assert!(uses > 5, "no use failed without an opening");
            let took: Duration = lock(&disk.1)[..4].iter().sum();
            assert!(elapsed >= took * REST, "{took:?} of {elapsed:?}");
        }
    }

    #[test]
    fn a_database_that_was_damaged_while_its_disk_failed_is_said_to_be() {
        let disk = FlakyDisk::default();
        let handle = Handle::open(disk.shared(), "numbers").unwrap();
        write(&handle, 1).unwrap();
        disk.break_after(0);
        assert!(matches!(write(&handle, 2), Err(redb::Error::Io(_))));
        disk.damage();
        // Also who comes before it is looked at again.
        for _ in 0..3 {
            let error = write(&handle, 2).unwrap_err();
            assert!(matches!(error, redb::Error::Corrupted(_)), "{error:?}");
            assert!(error.to_string().contains("the test's disk"), "{error}");
        }
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
