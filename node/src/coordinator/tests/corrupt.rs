//! Stores that were changed behind the coordinator's back: it must say so, or not be fooled.

use super::{
    super::{Error, StoreError},
    Node, genesis, transfer, validator,
};
use crate::{
    coordinator::Config,
    disk::{Disk, FileDisk, MemoryDisk},
};
use archipelag_protocol::{genesis::Genesis, query::CertifiedBlock};
use redb::{ReadableTable, TableDefinition};
use std::{fs, sync::Arc};

const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
const SNAPSHOTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("snapshots");
const RECEIPTS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("receipts");

fn change(
    disk: &dyn Disk,
    table: TableDefinition<'_, u64, &[u8]>,
    key: u64,
    f: impl FnOnce(&mut Vec<u8>),
) {
    let database = disk.open("ledger").unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(table).unwrap();
        let mut bytes = table.get(key).unwrap().unwrap().value().to_vec();
        f(&mut bytes);
        table.insert(key, bytes.as_slice()).unwrap();
    }
    write.commit().unwrap();
}

pub(super) fn change_block(disk: &dyn Disk, height: u64, f: impl FnOnce(&mut Vec<u8>)) {
    change(disk, BLOCKS, height, f);
}

/// A disk with five blocks, whose node was killed: no snapshot.
fn five_blocks() -> (MemoryDisk, Arc<dyn Disk>) {
    let disk = MemoryDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let node = Node::start(&shared).unwrap();
    for nonce in 0..5 {
        node.submit(&transfer(0, nonce, 1, 10));
    }
    drop(node);
    (disk, shared)
}

fn refusal(disk: &Arc<dyn Disk>) -> String {
    let error = Node::start(disk).err().expect("it started");
    assert!(matches!(error, Error::Store(StoreError::Corrupt { .. })), "{error:?}");
    error.to_string()
}

fn edit(bytes: &mut Vec<u8>, f: impl FnOnce(&mut CertifiedBlock)) {
    let mut block = archipelag_protocol::codec::decode_loose("block", 1 << 20, bytes).unwrap();
    f(&mut block);
    *bytes = archipelag_protocol::codec::encode_loose("block", &block).unwrap();
}

#[test]
fn every_kind_of_changed_block_is_named() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 6] = [
        ("truncated", |b| b.truncate(40)),
        ("another amount", |b| {
            edit(b, |c| c.block.transactions = vec![transfer(0, 2, 1, 11)]);
        }),
        ("no transactions", |b| edit(b, |c| c.block.transactions.clear())),
        ("no votes", |b| edit(b, |c| c.certificate.votes.clear())),
        ("another time", |b| edit(b, |c| c.block.header.time = c.block.header.time.after_ms(1))),
        ("another previous", |b| edit(b, |c| c.block.header.previous.0[0] ^= 1)),
    ];
    for (name, f) in changes {
        let (disk, shared) = five_blocks();
        change_block(&disk, 3, f);
        let message = refusal(&shared);
        assert!(message.contains("corrupt at height 3"), "{name}: {message}");
        assert!(message.contains("restore it from a backup"), "{name}: {message}");
    }
}

#[test]
fn a_missing_block_is_named() {
    let (disk, shared) = five_blocks();
    let database = disk.open("ledger").unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(BLOCKS).unwrap().remove(2).unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(refusal(&shared).contains("corrupt at height 2: the block is missing"));
}

#[test]
fn a_changed_snapshot_is_named() {
    let (disk, shared) = five_blocks();
    Node::start(&shared).unwrap().stop();
    change(&disk, SNAPSHOTS, 5, |bytes| bytes.truncate(100));
    assert!(refusal(&shared).contains("corrupt at height 5"));

    // One that is consistent in itself, but not what the network agreed on.
    let (disk, shared) = five_blocks();
    Node::start(&shared).unwrap().stop();
    change(&disk, SNAPSHOTS, 5, |bytes| {
        let mut state = archipelag_protocol::ledger::State::from_snapshot(bytes).unwrap();
        let rich = super::user(1).account();
        let poor = super::user(2).account();
        let moved = state.accounts[&poor].balance;
        state.accounts.get_mut(&poor).unwrap().balance = archipelag_protocol::amount::Credits::ZERO;
        let account = state.accounts.get_mut(&rich).unwrap();
        account.balance = account.balance.checked_add(moved).unwrap();
        *bytes = state.to_snapshot().unwrap();
    });
    assert!(refusal(&shared).contains("does not have the block's state root"));
}

#[test]
fn verify_finds_a_lost_receipt() {
    let (disk, shared) = five_blocks();
    let database = disk.open("ledger").unwrap();
    let write = database.begin_write().unwrap();
    let lost = write.open_table(RECEIPTS).unwrap().pop_first().unwrap().is_some();
    write.commit().unwrap();
    drop(database);
    assert!(lost);
    let node = Node::start(&shared).unwrap();
    let error = node.verify(1).unwrap_err().to_string();
    assert!(error.contains("the receipt of"), "{error}");
}

#[test]
fn another_networks_ledger_is_refused() {
    let (_, shared) = five_blocks();
    let other = Genesis { name: "other".into(), ..genesis() };
    let error = Node::start_with(&shared, Config::alone(other.clone(), validator())).err().unwrap();
    let (stored, expected) = (genesis().network().unwrap(), other.network().unwrap());
    let StoreError::OtherNetwork { .. } = (match error {
        Error::Store(e) => e,
        other => panic!("{other:?}"),
    }) else {
        panic!("not refused as another network's")
    };
    assert_ne!(stored, expected);
}

/// Whatever happens to the file, the coordinator either says that it is damaged or has the state
/// that it had: bytes that are overwritten may be ones that nothing uses.
#[test]
fn damaged_files_never_give_another_state() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(directory.path()).unwrap());
    let node = Node::start(&disk).unwrap();
    for nonce in 0..20 {
        node.submit(&transfer(0, nonce, 1, 10));
    }
    let root = node.root();
    drop(node);
    let path = directory.path().join("ledger.redb");
    let good = fs::read(&path).unwrap();
    let damage = |at: usize, length: usize| {
        let mut bytes = good.clone();
        let end = (at + length).min(bytes.len());
        bytes[at..end].iter_mut().for_each(|b| *b ^= 0x5a);
        bytes
    };
    let shorter = (1..16).map(|part| good[..good.len() * part / 16].to_vec());
    let flipped = (0..40).map(|i| damage(i * good.len() / 40 + i * 7, 64));
    let mut refused = 0;
    for (index, bytes) in shorter.chain(flipped).chain([damage(0, 64)]).enumerate() {
        fs::write(&path, bytes).unwrap();
        match Node::start(&disk) {
            Ok(node) => assert_eq!(node.root(), root, "damage {index} gave another state"),
            Err(error) => {
                refused += 1;
                assert!(matches!(error, Error::Disk(_) | Error::Store(_)), "{index}: {error:?}");
            }
        }
    }
    assert!(refused >= 10, "only {refused} damaged files were noticed");
}
