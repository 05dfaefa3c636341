//! A disk for tests and simulations that fails when told to, and forgets what was not synced when
//! its power is cut.

use super::{Disk, Error};
use redb::{Database, StorageBackend};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// One database in memory, whatever it is called. What is written is lost in a power cut until it
/// is synced.
#[derive(Clone, Debug, Default)]
pub struct FlakyDisk(Arc<Mutex<Medium>>);

#[derive(Debug, Default)]
struct Medium {
    written: Vec<u8>,
    synced: Vec<u8>,
    /// Writes since the last sync, in order.
    unsynced: Vec<(usize, Vec<u8>)>,
    open: bool,
    /// Counts power cuts: what was opened before the last one is dead.
    boot: u64,
    /// Changes and syncs until the disk breaks.
    operations_left: Option<u64>,
    /// What is there can be overwritten; nothing can be added.
    full: bool,
    /// Changes that were refused.
    refused: usize,
}

impl Medium {
    fn refuse(&mut self) -> io::Result<()> {
        self.refused += 1;
        Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"))
    }
}

impl FlakyDisk {
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn medium<T>(&self, f: impl FnOnce(&mut Medium) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// After so many changes and syncs all fail, as on a disk that is full.
    pub fn break_after(&self, operations: u64) {
        self.medium(|m| m.operations_left = Some(operations));
    }

    /// There is no room from now on for more than is there.
    pub fn fill(&self) {
        self.medium(|m| m.full = true);
    }

    pub fn mend(&self) {
        self.medium(|m| (m.operations_left, m.full) = (None, false));
    }

    /// How many changes were refused.
    pub fn refused(&self) -> usize {
        self.medium(|m| m.refused)
    }

    /// As when the file is moved away while the disk fails. The disk works then.
    pub fn replace_with_an_empty_one(&self) {
        self.medium(|m| *m = Medium { boot: m.boot + 1, ..Medium::default() });
    }

    /// As when other bytes are found where the database was. The disk works then.
    pub fn damage(&self) {
        self.medium(|m| {
            m.written.fill(7);
            (m.operations_left, m.full) = (None, false);
        });
    }

    /// Cuts the power: of the writes that were not synced only those survive that `keep` names. The
    /// disk works then.
    pub fn cut_power(&self, mut keep: impl FnMut(usize) -> bool) {
        self.medium(|m| {
            let mut bytes = std::mem::take(&mut m.synced);
            for (index, (at, data)) in std::mem::take(&mut m.unsynced).into_iter().enumerate() {
                if keep(index) {
                    let end = at + data.len();
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[at..end].copy_from_slice(&data);
                }
            }
            m.written.clone_from(&bytes);
            m.synced = bytes;
            m.boot += 1;
            m.open = false;
            (m.operations_left, m.full) = (None, false);
        });
    }
}

impl Disk for FlakyDisk {
    fn open(&self, _: &str) -> Result<Arc<Database>, Error> {
        let place = "the test's disk".to_owned();
        let boot = self.medium(|m| (!std::mem::replace(&mut m.open, true)).then_some(m.boot));
        let Some(boot) = boot else { return Err(Error::Busy { place }) };
        let opened = super::open_guarded(place, || {
            Database::builder().create_with_backend(Opened { disk: self.clone(), boot })
        });
        if opened.is_err() {
            self.medium(|m| m.open = false);
        }
        opened
    }
}

#[derive(Debug)]
struct Opened {
    disk: FlakyDisk,
    boot: u64,
}

impl Opened {
    fn with<T>(&self, f: impl FnOnce(&mut Medium) -> io::Result<T>) -> io::Result<T> {
        self.disk.medium(|m| match m.boot == self.boot {
            true => f(m),
            false => Err(io::Error::other("the power was cut")),
        })
    }

    fn change(&self, f: impl FnOnce(&mut Medium) -> io::Result<()>) -> io::Result<()> {
        self.with(|m| {
            match &mut m.operations_left {
                Some(0) => return m.refuse(),
                Some(left) => *left -= 1,
                None => {}
            }
            f(m)
        })
    }
}

impl StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        self.with(|m| Ok(m.written.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|m| {
            let found = m.written.get(at..at + out.len());
            out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // The size of a file is metadata, which a journal keeps in order.
        self.change(|m| {
            if m.full && len > m.written.len() {
                return m.refuse();
            }
            m.written.resize(len, 0);
            m.synced.resize(len, 0);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|m| {
            for (at, data) in std::mem::take(&mut m.unsynced) {
                let end = at + data.len();
                // What was written to a part that was cut off since is gone.
                if let Some(out) = m.synced.get_mut(at..end) {
                    out.copy_from_slice(&data);
                }
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(|m| {
            let out = m.written.get_mut(at..at + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(data);
            m.unsynced.push((at, data.to_vec()));
            Ok(())
        })
    }

    fn close(&self) -> io::Result<()> {
        // After a power cut there is nothing to close.
        let _cut = self.with(|m| {
            m.open = false;
            Ok(())
        });
        Ok(())
    }
}
