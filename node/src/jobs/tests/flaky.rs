//! A disk that fails when told to, and forgets what was not synced when its power is cut.

use crate::disk::{self, Disk};
use redb::{Database, StorageBackend};
use std::{
    io,
    sync::{Arc, Mutex},
};

#[derive(Debug, Default)]
struct Medium {
    written: Vec<u8>,
    synced: Vec<u8>,
    /// Counts power cuts: what was opened before the last one is dead.
    boot: u64,
    fails: bool,
    /// What is there can be overwritten; nothing can be added.
    full: bool,
    /// Changes that were refused.
    refused: usize,
    open: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FlakyDisk(Arc<Mutex<Medium>>);

impl FlakyDisk {
    /// Whether writes fail from now on, as on a disk that is full.
    pub(super) fn fail(&self, fails: bool) {
        self.0.lock().unwrap().fails = fails;
    }

    /// Whether the disk has no room from now on for more than is on it.
    pub(super) fn fill(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    /// How many changes were refused.
    pub(super) fn refused(&self) -> usize {
        self.0.lock().unwrap().refused
    }

    pub(super) fn cut_power(&self) {
        let mut medium = self.0.lock().unwrap();
        medium.boot += 1;
        medium.open = false;
        medium.written = medium.synced.clone();
    }
}

impl Disk for FlakyDisk {
    fn open(&self, _: &str) -> Result<Arc<Database>, disk::Error> {
        let place = "the test's disk".to_owned();
        let boot = {
            let mut medium = self.0.lock().unwrap();
            if std::mem::replace(&mut medium.open, true) {
                return Err(disk::Error::Busy { place });
            }
            medium.boot
        };
        Database::builder()
            .create_with_backend(Opened { disk: self.clone(), boot })
            .map(Arc::new)
            .map_err(|e| disk::Error::Io { place, reason: e.to_string() })
    }
}

#[derive(Debug)]
struct Opened {
    disk: FlakyDisk,
    boot: u64,
}

impl Opened {
    fn with<T>(&self, f: impl FnOnce(&mut Medium) -> io::Result<T>) -> io::Result<T> {
        let mut medium = self.disk.0.lock().unwrap();
        if medium.boot != self.boot {
            return Err(io::Error::other("the power was cut"));
        }
        f(&mut medium)
    }

    fn change<T>(&self, f: impl FnOnce(&mut Medium) -> T) -> io::Result<T> {
        self.with(|medium| {
            if medium.fails {
                medium.refused += 1;
                return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
            }
            Ok(f(medium))
        })
    }

    /// # Errors
    /// When the disk is full and `len` is more than there is.
    fn grow(&self, len: u64) -> io::Result<()> {
        self.with(|medium| {
            if medium.full && len > medium.written.len() as u64 {
                medium.refused += 1;
                return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
            }
            Ok(())
        })
    }
}

impl StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        self.with(|medium| Ok(medium.written.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.with(|medium| {
            let found = medium.written.get(at..at + out.len());
            out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.grow(len)?;
        self.change(|medium| medium.written.resize(usize::try_from(len).unwrap(), 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|medium| medium.synced = medium.written.clone())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.change(|medium| medium.written[at..at + data.len()].copy_from_slice(data))
    }

    fn close(&self) -> io::Result<()> {
        // After a power cut there is nothing to close.
        let _cut = self.with(|medium| {
            medium.open = false;
            Ok(())
        });
        Ok(())
    }
}
