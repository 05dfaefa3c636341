//! The keys of the HTTP API: random secrets of which only hashes are kept.
//!
//! The node's own key lies in its home and is handed in at the start; all others are made through
//! the API, each by a key that answers for it: who revokes a key revokes what it made, so that a
//! leaked key can't leave another behind.

use crate::{
    disk::{self, Disk, Handle},
    mesh::now,
    services::lock,
};
use archipelag_protocol::{codec, text::shows, time::Timestamp};
use archipelag_runtimes::workers::{self, Workers};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex},
    time::Duration,
};
use thiserror::Error;
use tokio::sync::watch;

const KEYS: TableDefinition<'_, &[u8; 8], &[u8]> = TableDefinition::new("api-keys");
const MAX_KEYS: usize = 1_000;
const MAX_NAME_CHARS: usize = 100;
const MAX_RECORD_BYTES: usize = 4 << 10;
/// How exactly the last use is kept on disk.
const USED_RESOLUTION_MS: u64 = 60_000;
/// How soon after the clock was set an open answer looks whether its key is over.
const RECHECK: Duration = Duration::from_secs(60);
/// Characters of a key that lists show.
const PREFIX_CHARS: usize = 11;

/// Names a key without being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct KeyId(pub(super) [u8; 8]);

impl KeyId {
    /// The key that lies in the node's home.
    pub(super) const OWN: Self = Self([0; 8]);
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::OWN {
            return f.write_str("own");
        }
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl FromStr for KeyId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "own" {
            return Ok(Self::OWN);
        }
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = if digits { u64::from_str_radix(text, 16) } else { return Err(()) };
        id.map(|id| Self(id.to_be_bytes())).map_err(|_| ())
    }
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    Read,
    Write,
}

impl Scope {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: KeyId,
    pub(super) name: String,
    /// How the secret begins, for people who look for a key.
    pub(super) prefix: String,
    /// SHA-256 of the secret, which has 256 random bits: guessing it is hopeless without a slow
    /// hash.
    hash: [u8; 32],
    pub(super) scopes: Vec<Scope>,
    /// The key by which it was made.
    maker: KeyId,
    pub(super) created: Timestamp,
    pub(super) expires: Option<Timestamp>,
    pub(super) last_used: Option<Timestamp>,
    /// Counts no more, but may still be on disk.
    #[serde(skip)]
    revoked: bool,
}

impl Record {
    pub(super) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// Why a key was not made or revoked.
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error("field `{field}`: {reason}")]
    Field { field: &'static str, reason: String },
    #[error("a key can't give a right that it has not: {}", .0.name())]
    Scope(Scope),
    #[error("there are {MAX_KEYS} keys, which is the limit; revoke some")]
    Full,
    #[error("this key lies in the node's home: stop the node, delete api.key and start it again")]
    Own,
    #[error("the key store does not accept writes: {0}")]
    Store(String),
}

/// Why the keys could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error("the key store is not readable: {0}")]
    Store(#[from] redb::Error),
}

/// A key to be made.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) scopes: Vec<Scope>,
    pub(super) expires: Option<Timestamp>,
}

/// All keys of a node.
pub(super) struct Keys {
    database: Handle,
    workers: Arc<dyn Workers>,
    keys: Mutex<BTreeMap<KeyId, Record>>,
    /// Sent to when keys were revoked.
    revoked: watch::Sender<()>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn prefix(secret: &str) -> String {
    secret.chars().take(PREFIX_CHARS).collect()
}

impl Keys {
    /// Opens the store; `own` is the secret in the node's home.
    ///
    /// # Errors
    /// When the database can't be opened or read.
    pub(super) async fn open(
        disk: Arc<dyn Disk>,
        workers: Arc<dyn Workers>,
        own: &str,
    ) -> Result<Self, OpenError> {
        let opened = workers::run(&*workers, move || {
            let database = Handle::open(disk, "keys")?;
            let keys = database.with(load)?;
            Ok::<_, OpenError>((database, keys))
        });
        let lost = |e: workers::Lost| redb::Error::Corrupted(e.to_string());
        let (database, mut keys) = opened.await.map_err(lost)??;
        let own = Record {
            id: KeyId::OWN,
            name: "the node's own".into(),
            prefix: prefix(own),
            hash: hash(own),
            scopes: vec![Scope::Read, Scope::Write],
            maker: KeyId::OWN,
            created: now(),
            expires: None,
            last_used: None,
            revoked: false,
        };
        keys.insert(KeyId::OWN, own);
        Ok(Self { database, workers, keys: Mutex::new(keys), revoked: watch::Sender::new(()) })
    }

    /// The key whose secret this is, if it counts now; notes its use.
    pub(super) fn check(&self, secret: &str) -> Option<Record> {
        let (hash, now) = (hash(secret), now());
        let mut keys = lock(&self.keys);
        let id = keys.values().find(|record| record.hash == hash)?.id;
        counting(&keys, id, now)?;
        let record = keys.get_mut(&id)?;
        let before = record.last_used.replace(now);
        let record = record.clone();
        drop(keys);
        let stale = before.is_none_or(|before| now.since_ms(before) >= USED_RESOLUTION_MS);
        if stale && record.id != KeyId::OWN {
            let (database, used) = (self.database.clone(), record.clone());
            self.workers.spawn(Box::pin(async move {
                if let Err(error) = database.with(|d| put(d, &used, false)) {
                    tracing::warn!(%error, "keys.used");
                }
            }));
        }
        Some(record)
    }

    /// Waits until a key counts no more: revoked, or beyond its time.
    pub(super) async fn over(&self, id: KeyId) {
        let mut revoked = self.revoked.subscribe();
        loop {
            let now = now();
            let expires = match counting(&lock(&self.keys), id, now) {
                Some(record) => record.expires,
                None => return,
            };
            let left = expires.map(|expires| Duration::from_millis(expires.since_ms(now)));
            let left = left.map_or(RECHECK, |left| left.min(RECHECK));
            // Whatever woke it, it looks again.
            let _woken = tokio::time::timeout(left, revoked.changed()).await;
        }
    }

    /// The keys that `of` made, and those that they made, and itself; newest first.
    pub(super) fn list(&self, of: KeyId) -> Vec<Record> {
        let keys = lock(&self.keys);
        let mut found: Vec<Record> =
            keys.values().filter(|key| descends(&keys, key.id, of)).cloned().collect();
        found.sort_by_key(|key| std::cmp::Reverse((key.created, key.id)));
        found
    }

    /// Makes a key; gives it with its secret, which is kept nowhere. It is on disk when this
    /// returns.
    ///
    /// # Errors
    /// What is wrong with it, or that it can't be kept.
    pub(super) async fn create(
        &self,
        maker: &Record,
        wanted: Wanted,
    ) -> Result<(Record, String), Error> {
        let count = wanted.name.chars().count();
        if count > MAX_NAME_CHARS || wanted.name.trim().is_empty() || !shows(&wanted.name) {
            let reason = format!("1 to {MAX_NAME_CHARS} characters, all of which can be seen");
            return Err(Error::Field { field: "name", reason });
        }
        if wanted.scopes.is_empty() {
            let reason = "at least one of \"read\" and \"write\"".into();
            return Err(Error::Field { field: "scopes", reason });
        }
        if let Some(scope) = wanted.scopes.iter().find(|scope| !maker.may(**scope)) {
            return Err(Error::Scope(*scope));
        }
        let created = now();
        if wanted.expires.is_some_and(|expires| expires <= created) {
            return Err(Error::Field { field: "expires_at", reason: "it is over".into() });
        }
        let random = |bytes: &mut [u8]| {
            getrandom::fill(bytes).map_err(|e| Error::Store(format!("no randomness: {e}")))
        };
        let (mut id, mut seed) = ([0; 8], [0; 32]);
        random(&mut id)?;
        random(&mut seed)?;
        let digits: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = format!("ak_{digits}");
        let expires = [wanted.expires, maker.expires].into_iter().flatten().min();
        let record = Record {
            id: KeyId(id),
            name: wanted.name,
            prefix: prefix(&secret),
            hash: hash(&secret),
            scopes: wanted.scopes,
            maker: maker.id,
            created,
            expires,
            last_used: None,
            revoked: false,
        };
        let stored = record.clone();
        if lock(&self.keys).len() >= MAX_KEYS {
            return Err(Error::Full);
        }
        self.on_disk(move |database| put(database, &stored, true)).await?;
        lock(&self.keys).insert(record.id, record.clone());
        Ok((record, secret))
    }

    /// Ends `id` and what it made, at once; gives what it was. `None` when `by` does not see it.
    ///
    /// # Errors
    /// When it is the node's own, or it can't be taken off the disk: it does not count any more
    /// then, until the next start, and stays in the list so that it can be revoked again.
    pub(super) async fn revoke(&self, by: KeyId, id: KeyId) -> Result<Option<Record>, Error> {
        let (ids, record) = {
            let mut keys = lock(&self.keys);
            if !descends(&keys, id, by) {
                return Ok(None);
            }
            if id == KeyId::OWN {
                return Err(Error::Own);
            }
            let ids: Vec<KeyId> =
                keys.keys().copied().filter(|key| descends(&keys, *key, id)).collect();
            for key in &ids {
                keys.entry(*key).and_modify(|record| record.revoked = true);
            }
            self.revoked.send_replace(());
            (ids, keys.get(&id).cloned())
        };
        let removed = ids.clone();
        self.on_disk(move |database| remove(database, &removed)).await?;
        lock(&self.keys).retain(|key, _| !ids.contains(key));
        Ok(record)
    }

    async fn on_disk(
        &self,
        write: impl FnOnce(&Database) -> Result<(), redb::Error> + Send + 'static,
    ) -> Result<(), Error> {
        let store = |error: String| Error::Store(error);
        let database = self.database.clone();
        let written = workers::run(&*self.workers, move || database.with(write))
            .await
            .map_err(|e| store(e.to_string()))?;
        written.map_err(|e| store(e.to_string()))
    }
}

/// The key, if it counts at `now`.
fn counting(keys: &BTreeMap<KeyId, Record>, id: KeyId, now: Timestamp) -> Option<&Record> {
    // A key whose maker was revoked while it was being made counts never.
    let whole = descends(keys, id, KeyId::OWN) && line(keys, id).all(|record| !record.revoked);
    let record = keys.get(&id).filter(|_| whole)?;
    record.expires.is_none_or(|expires| expires > now).then_some(record)
}

/// Whether `key` is `from`, or was made by it, by whatever way. What is not there descends from
/// nothing.
fn descends(keys: &BTreeMap<KeyId, Record>, key: KeyId, from: KeyId) -> bool {
    line(keys, key).any(|record| record.id == from)
}

/// A key, its maker, that one's maker, and so on.
fn line(keys: &BTreeMap<KeyId, Record>, key: KeyId) -> impl Iterator<Item = &Record> {
    let maker = |record: &&Record| keys.get(&record.maker).filter(|_| record.id != KeyId::OWN);
    // Each step leads to an older key; a damaged store must not make this turn for ever.
    std::iter::successors(keys.get(&key), maker).take(keys.len())
}

fn load(database: &Database) -> Result<BTreeMap<KeyId, Record>, redb::Error> {
    let write = database.begin_write()?;
    write.open_table(KEYS)?;
    write.commit()?;
    let mut keys = BTreeMap::new();
    for row in database.begin_read()?.open_table(KEYS)?.iter()? {
        let bytes = row?;
        let record: Record = codec::decode_loose("api key", MAX_RECORD_BYTES, bytes.1.value())
            .map_err(|e| redb::Error::Corrupted(e.to_string()))?;
        keys.insert(record.id, record);
    }
    Ok(keys)
}

/// Writes a key; one that is not `new` only when it has not been revoked meanwhile.
fn put(database: &Database, record: &Record, new: bool) -> Result<(), redb::Error> {
    let bytes = codec::encode_loose("api key", record)
        .map_err(|e| redb::Error::Corrupted(e.to_string()))?;
    let write = database.begin_write()?;
    {
        let mut keys = write.open_table(KEYS)?;
        if new || keys.get(&record.id.0)?.is_some() {
            keys.insert(&record.id.0, &*bytes)?;
        }
    }
    Ok(write.commit()?)
}

fn remove(database: &Database, ids: &[KeyId]) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut keys = write.open_table(KEYS)?;
        for id in ids {
            keys.remove(&id.0)?;
        }
    }
    Ok(write.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::{MemoryDisk, flaky::FlakyDisk},
        environment::{InlineWorkers, TokioExecutor},
    };

    const DEADLINE: Duration = Duration::from_secs(20);

    async fn open(disk: &(impl Disk + Clone + 'static)) -> Keys {
        let executor = TokioExecutor(tokio::runtime::Handle::current());
        let workers = Arc::new(InlineWorkers(Arc::new(executor)));
        Keys::open(Arc::new(disk.clone()), workers, "ak_own").await.unwrap()
    }

    fn wanted(name: &str, scopes: &[Scope]) -> Wanted {
        Wanted { name: name.into(), scopes: scopes.to_vec(), expires: None }
    }

    #[tokio::test]
    async fn keys_outlive_the_process_and_revoking_takes_what_they_made() {
        let disk = MemoryDisk::new();
        let keys = open(&disk).await;
        let own = keys.check("ak_own").unwrap();
        let both = [Scope::Read, Scope::Write];
        let (first, secret) = keys.create(&own, wanted("first", &both)).await.unwrap();
        let (second, leaked) = keys.create(&first, wanted("second", &both)).await.unwrap();
        let (_, other) = keys.create(&own, wanted("other", &[Scope::Read])).await.unwrap();
        assert_eq!(keys.list(KeyId::OWN).len(), 4);
        assert_eq!(keys.list(first.id).len(), 2);
        drop(keys);
        let keys = open(&disk).await;
        assert_eq!(keys.check(&leaked).unwrap().id, second.id);
        assert!(keys.revoke(second.id, first.id).await.unwrap().is_none(), "not its maker's");
        assert!(matches!(keys.revoke(KeyId::OWN, KeyId::OWN).await, Err(Error::Own)));
        keys.revoke(KeyId::OWN, first.id).await.unwrap().unwrap();
        for gone in [&secret, &leaked] {
            assert!(keys.check(gone).is_none());
        }
        drop(keys);
        let keys = open(&disk).await;
        assert!(keys.check(&secret).is_none() && keys.check(&leaked).is_none());
        assert!(keys.check(&other).is_some() && keys.check("ak_own").is_some());
        assert!(keys.check("ak_").is_none());
    }

    #[tokio::test]
    async fn a_key_that_could_not_be_taken_off_the_disk_can_be_revoked_again() {
        let disk = FlakyDisk::default();
        let keys = open(&disk).await;
        let own = keys.check("ak_own").unwrap();
        let both = [Scope::Read, Scope::Write];
        let (first, secret) = keys.create(&own, wanted("first", &both)).await.unwrap();
        let (second, leaked) = keys.create(&first, wanted("second", &both)).await.unwrap();
        let (other, _) = keys.create(&own, wanted("other", &both)).await.unwrap();
        disk.break_after(0);
        for _ in 0..2 {
            let refused = keys.revoke(KeyId::OWN, first.id).await;
            assert!(matches!(refused, Err(Error::Store(_))), "{refused:?}");
            assert!(keys.check(&secret).is_none() && keys.check(&leaked).is_none());
        }
        assert_eq!(keys.list(first.id).len(), 2, "what is to be revoked again");
        let strange = keys.revoke(other.id, first.id).await;
        assert!(matches!(strange, Ok(None)), "not its maker's");

        disk.mend();
        let again = async {
            loop {
                match keys.revoke(KeyId::OWN, first.id).await {
                    Err(Error::Store(_)) => tokio::task::yield_now().await,
                    done => return done.unwrap(),
                }
            }
        };
        let again = tokio::time::timeout(DEADLINE, again).await.expect("the disk works again");
        assert_eq!(again.unwrap().id, first.id);
        assert!(keys.revoke(KeyId::OWN, second.id).await.unwrap().is_none(), "gone with its maker");
        assert_eq!(keys.list(KeyId::OWN).len(), 2);
        disk.cut_power(|_| false);
        drop(keys);
        let keys = open(&disk).await;
        assert!(keys.check(&secret).is_none() && keys.check(&leaked).is_none());
    }

    #[tokio::test]
    async fn a_key_gives_no_more_than_it_has() {
        let keys = open(&MemoryDisk::new()).await;
        let own = keys.check("ak_own").unwrap();
        let soon = now().after_ms(60_000);
        let short = Wanted { expires: Some(soon), ..wanted("short", &[Scope::Write]) };
        let (short, _) = keys.create(&own, short).await.unwrap();
        let refused = keys.create(&short, wanted("more", &[Scope::Read])).await;
        assert!(matches!(refused, Err(Error::Scope(Scope::Read))));
        let (child, _) = keys.create(&short, wanted("child", &[Scope::Write])).await.unwrap();
        assert_eq!(child.expires, Some(soon));
        let over = Wanted { expires: Some(Timestamp(1)), ..wanted("over", &[Scope::Read]) };
        for bad in [over, wanted("a", &[])] {
            assert!(matches!(keys.create(&own, bad).await, Err(Error::Field { .. })));
        }
    }

    #[tokio::test]
    async fn a_name_is_all_to_be_seen() {
        let keys = open(&MemoryDisk::new()).await;
        let own = keys.check("ak_own").unwrap();
        let long = "n".repeat(MAX_NAME_CHARS + 1);
        let bad = ["", " ", &long, "a\n", "a\u{7f}", "a\u{85}", "a\u{200b}b", "a\u{200d}"];
        let turned =
            ["\u{202e}nwo", "a\u{2066}", "a\u{61c}", "\u{feff}a", "a\u{2028}", "\u{e0041}"];
        for name in bad.into_iter().chain(turned) {
            let made = keys.create(&own, wanted(name, &[Scope::Read])).await;
            assert!(matches!(made, Err(Error::Field { field: "name", .. })), "{name:?}");
        }
        for name in ["the laptop", "Büro 2", "Ноутбук", "笔记本", "مفتاح", &long[1..]]
        {
            keys.create(&own, wanted(name, &[Scope::Read])).await.expect(name);
        }
    }

    #[tokio::test]
    async fn a_key_is_over_when_it_is_revoked_or_its_time_is() {
        let keys = open(&MemoryDisk::new()).await;
        let own = keys.check("ak_own").unwrap();
        let (maker, _) = keys.create(&own, wanted("maker", &[Scope::Read])).await.unwrap();
        let (made, _) = keys.create(&maker, wanted("made", &[Scope::Read])).await.unwrap();
        let (other, _) = keys.create(&own, wanted("other", &[Scope::Read])).await.unwrap();
        let mut waiting = Box::pin(keys.over(made.id));
        let mut kept = Box::pin(keys.over(other.id));
        assert!(futures::poll!(&mut waiting).is_pending());
        keys.revoke(KeyId::OWN, maker.id).await.unwrap();
        tokio::time::timeout(DEADLINE, waiting).await.expect("revoked with its maker");
        assert!(futures::poll!(&mut kept).is_pending());

        let expires = Some(now().after_ms(50));
        let short = Wanted { expires, ..wanted("short", &[Scope::Read]) };
        let (short, _) = keys.create(&own, short).await.unwrap();
        tokio::time::timeout(DEADLINE, keys.over(short.id)).await.expect("beyond its time");
        assert!(Some(now()) >= expires);
        assert!(futures::poll!(&mut kept).is_pending());
    }

    #[test]
    fn ids_survive_their_text() {
        for id in [KeyId::OWN, KeyId([0, 1, 2, 3, 4, 5, 6, 255])] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for bad in ["", "0", "+123456789abcdef", "zz", "0123456789abcdef0"] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad}");
        }
    }
}
