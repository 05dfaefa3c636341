//! Named databases: where a node keeps what must survive it (`DESIGN.md`, "State on disk").
//!
//! Each concern opens its own by name. Production hands in a [`FileDisk`], tests and the simulator
//! a [`MemoryDisk`]. A disk knows nothing of what is stored on it.

pub mod flaky;
mod handle;

pub(crate) use handle::Handle;

use redb::{Database, DatabaseError, StorageBackend, StorageError};
use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use thiserror::Error;

/// Memory that one open database may use to cache pages.
const CACHE_BYTES: usize = 64 << 20;
/// How long a failing disk is left alone before the next attempt.
pub(crate) const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The longest name of a database.
const MAX_NAME_BYTES: usize = 64;

/// Why a database could not be opened.
#[derive(Debug, Error)]
pub enum Error {
    #[error("database {name:?}: a name is 1 to {MAX_NAME_BYTES} of a-z, 0-9, - and _")]
    Name { name: String },
    #[error(
        "{place} is open already: another node runs on this home; stop it, or use --home to run a second one"
    )]
    Busy { place: String },
    #[error(
        "{place} is damaged: {reason}; restore it from a backup, or move it away to start without what it held"
    )]
    Corrupt { place: String, reason: String },
    #[error(
        "{place} can't be opened: {reason}; check its permissions and the space left on the disk"
    )]
    Io { place: String, reason: String },
}

/// Opens databases by name. Opening one that is open is [`Error::Busy`].
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens the database, and creates it when it does not exist. Blocks.
    ///
    /// # Errors
    /// Says which database, why not, and what to do about it.
    fn open(&self, name: &str) -> Result<Arc<Database>, Error>;
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        return Err(Error::Name { name: name.chars().take(MAX_NAME_BYTES).collect() });
    }
    Ok(())
}

/// Opens a database. redb trusts some of what it reads back, and panics when that is damaged.
fn open_guarded(
    place: String,
    open: impl FnOnce() -> Result<Database, DatabaseError>,
) -> Result<Arc<Database>, Error> {
    match panic::catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(database)) => Ok(Arc::new(database)),
        Ok(Err(error)) => Err(opening_error(place, error)),
        Err(_) => Err(Error::Corrupt { place, reason: "its structure is inconsistent".into() }),
    }
}

fn opening_error(place: String, error: DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Error::Busy { place },
        DatabaseError::Storage(StorageError::Io(e)) => match e.kind() {
            io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput => Error::Corrupt { place, reason: e.to_string() },
            _ => Error::Io { place, reason: e.to_string() },
        },
        DatabaseError::Storage(e @ StorageError::PreviousIo) => {
            Error::Io { place, reason: e.to_string() }
        }
        other => Error::Corrupt { place, reason: other.to_string() },
    }
}

/// Databases as files `<name>.redb` in one directory, readable by their owner alone.
#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
}

impl FileDisk {
    /// A disk on `directory`, which is created (mode 0700) when it does not exist. The permissions
    /// of a directory that exists are its owner's business.
    ///
    /// # Errors
    /// When it can't be created or is not a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self, Error> {
        let directory = directory.into();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&directory).map_err(|e| io_error(&directory, &e))?;
        Ok(Self { directory })
    }

    fn open_file(&self, path: &Path) -> io::Result<File> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        if file.metadata()?.len() == 0 {
            // A new file's name must survive a power cut as well as what is in it.
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(file)
    }
}

fn io_error(path: &Path, error: &io::Error) -> Error {
    Error::Io { place: path.display().to_string(), reason: error.to_string() }
}

impl Disk for FileDisk {
    fn open(&self, name: &str) -> Result<Arc<Database>, Error> {
        check_name(name)?;
        let path = self.directory.join(format!("{name}.redb"));
        let file = self.open_file(&path).map_err(|e| io_error(&path, &e))?;
        open_guarded(path.display().to_string(), || {
            Database::builder().set_cache_size(CACHE_BYTES).create_file(file)
        })
    }
}

/// Databases in memory, shared by all clones. What was written stays when a database is dropped, so
/// that opening it again is a restart.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, Arc<MemoryFile>>>>,
}

#[derive(Default)]
struct MemoryFile {
    bytes: RwLock<Vec<u8>>,
    open: AtomicBool,
}

impl MemoryDisk {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn file(&self, name: &str) -> Arc<MemoryFile> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(files.entry(name.to_owned()).or_default())
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").finish_non_exhaustive()
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> Result<Arc<Database>, Error> {
        check_name(name)?;
        let place = format!("database {name} in memory");
        let file = self.file(name);
        if file.open.swap(true, Ordering::AcqRel) {
            return Err(Error::Busy { place });
        }
        open_guarded(place, || {
            let backend = MemoryBackend(file);
            Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)
        })
    }
}

/// One opening of a [`MemoryFile`]; `close` frees it for the next.
struct MemoryBackend(Arc<MemoryFile>);

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").finish_non_exhaustive()
    }
}

impl MemoryBackend {
    fn read_bytes<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        read(&self.0.bytes.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change_bytes<T>(&self, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        change(&mut self.0.bytes.write().unwrap_or_else(PoisonError::into_inner))
    }
}

fn beyond_end() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the storage")
}

fn range(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(|_| beyond_end())?;
    let end = start.checked_add(length).ok_or_else(beyond_end)?;
    Ok(start..end)
}

impl StorageBackend for MemoryBackend {
    fn len(&self) -> io::Result<u64> {
        self.read_bytes(|bytes| u64::try_from(bytes.len()).map_err(|_| beyond_end()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let range = range(offset, out.len())?;
        self.read_bytes(|bytes| {
            out.copy_from_slice(bytes.get(range).ok_or_else(beyond_end)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| beyond_end())?;
        self.change_bytes(|bytes| bytes.resize(len, 0));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = range(offset, data.len())?;
        self.change_bytes(|bytes| {
            bytes.get_mut(range).ok_or_else(beyond_end)?.copy_from_slice(data);
            Ok(())
        })
    }

    fn close(&self) -> io::Result<()> {
        self.0.open.store(false, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::{ReadableDatabase, TableDefinition};

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

    fn write(database: &Database, key: u64, value: u64) {
        let transaction = database.begin_write().unwrap();
        transaction.open_table(TABLE).unwrap().insert(key, value).unwrap();
        transaction.commit().unwrap();
    }

    fn read(database: &Database, key: u64) -> Option<u64> {
        let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
        table.get(key).unwrap().map(|v| v.value())
    }

    fn holds_a_disks_promises(disk: &dyn Disk) {
        let database = disk.open("ledger").unwrap();
        write(&database, 1, 10);
        let busy = disk.open("ledger").unwrap_err();
        assert!(busy.to_string().contains("another node runs on this home"), "{busy}");
        let other = disk.open("jobs").unwrap();
        write(&other, 1, 20);
        drop(database);
        let database = disk.open("ledger").unwrap();
        assert_eq!((read(&database, 1), read(&other, 1)), (Some(10), Some(20)));
        for name in ["", "../ledger", "Ledger", "a/b", &"x".repeat(65)] {
            assert!(matches!(disk.open(name), Err(Error::Name { .. })), "{name} was opened");
        }
    }

    #[test]
    fn memory() {
        let disk = MemoryDisk::new();
        holds_a_disks_promises(&disk);
        assert_eq!(read(&disk.open("jobs").unwrap(), 1), Some(20));
    }

    #[test]
    fn files() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("deep").join("network");
        holds_a_disks_promises(&FileDisk::new(&directory).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn files_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("network");
        let disk = FileDisk::new(&directory).unwrap();
        drop(disk.open("ledger").unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("ledger.redb")), 0o600);
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_with_advice() {
        let home = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(home.path()).unwrap();
        let path = home.path().join("ledger.redb");
        fs::write(&path, vec![7; 1 << 16]).unwrap();
        let error = disk.open("ledger").unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("restore it from a backup"), "{error}");
        assert!(matches!(FileDisk::new(&path), Err(Error::Io { .. })));
    }
}
