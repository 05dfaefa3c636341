//! A disk that fails or loses what was not synced: what was acknowledged must survive, and what
//! could not be made durable must not be acknowledged.

use super::{Node, START, request, transfer};
use crate::disk::{self, Disk};
use archipelag_protocol::query::{Request, Response};
use redb::{Database, StorageBackend};
use std::{
    io,
    sync::{Arc, Mutex},
};

/// One database in memory. What is written is lost in a power cut until it is synced.
#[derive(Debug, Default)]
struct Flaky(Mutex<Medium>);

#[derive(Debug, Default)]
struct Medium {
    written: Vec<u8>,
    synced: Vec<u8>,
    /// Writes since the last sync, in order.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Counts power cuts: what was opened before the last one is dead.
    boot: u64,
    /// Writes and syncs until the disk breaks.
    operations_left: Option<u64>,
}

impl Medium {
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.operations_left {
            Some(0) => Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Opened {
    disk: Arc<Flaky>,
    boot: u64,
}

#[derive(Clone, Debug, Default)]
struct FlakyDisk(Arc<Flaky>);

impl FlakyDisk {
    fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Cuts the power: of the writes that were not synced only those survive that `keep` names.
    fn cut(&self, mut keep: impl FnMut(usize) -> bool) {
        let mut medium = self.0.0.lock().unwrap();
        let mut bytes = std::mem::take(&mut medium.synced);
        for (index, (at, data)) in std::mem::take(&mut medium.unsynced).into_iter().enumerate() {
            if keep(index) {
                let end = at + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[at..end].copy_from_slice(&data);
            }
        }
        medium.written.clone_from(&bytes);
        medium.synced = bytes;
        medium.boot += 1;
        medium.operations_left = None;
    }

    fn break_after(&self, operations: u64) {
        self.0.0.lock().unwrap().operations_left = Some(operations);
    }
}

impl Disk for FlakyDisk {
    fn open(&self, _: &str) -> Result<Arc<Database>, disk::Error> {
        let boot = self.0.0.lock().unwrap().boot;
        let backend = Opened { disk: Arc::clone(&self.0), boot };
        Database::builder()
            .create_with_backend(backend)
            .map(Arc::new)
            .map_err(|e| disk::Error::Io { place: "the test's disk".into(), reason: e.to_string() })
    }
}

impl Opened {
    fn with<T>(&self, f: impl FnOnce(&mut Medium) -> io::Result<T>) -> io::Result<T> {
        let mut medium = self.disk.0.lock().unwrap();
        if medium.boot != self.boot {
            return Err(io::Error::other("the power was cut"));
        }
        f(&mut medium)
    }
}

impl StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        self.with(|m| Ok(m.written.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.with(|m| {
            out.copy_from_slice(
                m.written.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?,
            );
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        // The size of a file is metadata, which a journal keeps in order.
        self.with(|m| {
            m.written.resize(len, 0);
            m.synced.resize(len, 0);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|m| {
            m.spend()?;
            for (at, data) in std::mem::take(&mut m.unsynced) {
                m.synced[at..at + data.len()].copy_from_slice(&data);
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.with(|m| {
            m.spend()?;
            let out = m.written.get_mut(at..at + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(data);
            m.unsynced.push((at, data.to_vec()));
            Ok(())
        })
    }
}

/// Which unsynced writes survive: none, all, and mixtures.
fn survivors(round: u64) -> impl FnMut(usize) -> bool {
    let mut seed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match round % 4 {
            0 => false,
            1 => true,
            _ => seed >> 63 == 0,
        }
    }
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let disk = FlakyDisk::default();
    let mut receipts = Vec::new();
    for round in 0..24 {
        let node = Node::start(&disk.shared()).unwrap();
        assert_eq!(node.coordinator.state().height, receipts.len() as u64, "round {round}");
        for nonce in receipts.len() as u64..receipts.len() as u64 + 4 {
            let receipt = node.submit(&transfer(0, nonce, 1, 10));
            assert_eq!(receipt.outcome, Ok(()));
            receipts.push(receipt);
        }
        disk.cut(survivors(round));
        drop(node);
    }
    let node = Node::start(&disk.shared()).unwrap();
    assert_eq!(node.verify(1).unwrap().len(), receipts.len());
    for (nonce, receipt) in (0..).zip(&receipts) {
        assert_eq!(node.submit(&transfer(0, nonce, 1, 10)), *receipt);
    }
    assert_eq!(node.balance(1), START.micro() + 10 * receipts.len() as u64);
}

/// Breaks the disk after each possible number of operations, then cuts the power.
#[test]
fn a_failing_disk_stops_the_coordinator_before_it_acknowledges() {
    let mut stopped = 0;
    for operations in 0..60 {
        let disk = FlakyDisk::default();
        let node = Node::start(&disk.shared()).unwrap();
        node.submit(&transfer(0, 0, 1, 10));
        disk.break_after(operations);
        let mut acknowledged = 1;
        for nonce in 1..6 {
            match node.ask(request(&transfer(0, nonce, 1, 10))) {
                Response::Submitted(receipt) => {
                    assert_eq!(receipt.outcome, Ok(()));
                    acknowledged = nonce + 1;
                }
                Response::Unavailable(reason) => {
                    assert!(reason.contains("the ledger's disk failed"), "{reason}");
                    assert_eq!(
                        Some(reason.as_str()).map(|r| r.contains("no space left")),
                        Some(true)
                    );
                    stopped += 1;
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        if node.coordinator.failure().is_some() {
            // It stays stopped, for reads as well.
            assert!(matches!(node.ask(Request::Status), Response::Unavailable(_)));
        }
        disk.cut(survivors(operations));
        drop(node);
        let node = Node::start(&disk.shared()).unwrap();
        let height = node.coordinator.state().height;
        // The block that was being written may have become durable all the same.
        let may = [acknowledged, acknowledged + 1];
        assert!(may.contains(&height), "{operations}: {acknowledged} acknowledged, {height} there");
        node.coordinator.state().check_conservation().unwrap();
        assert_eq!(node.submit(&transfer(0, height, 1, 10)).outcome, Ok(()));
    }
    assert!(stopped > 5, "the disk failed only {stopped} times");
}

#[test]
fn a_disk_that_fails_at_once_is_an_error_of_the_start() {
    let disk = FlakyDisk::default();
    disk.break_after(0);
    let error = Node::start(&disk.shared()).err().expect("it started").to_string();
    assert!(error.contains("no space left on device"), "{error}");
}
