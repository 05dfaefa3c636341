//! What happened, in order: hashed always, kept in a file when asked for.
//!
//! Network and world write to it. Two runs of one seed give the same entries; `diff` reads two files
//! and finds where they part.

use archipelag_simulation_kernel as kernel;
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

/// What one entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes arrived: from, to, how many, the start of their hash.
    Arrived,
    /// A connection was asked for: from, to, whether it was made.
    Dialled,
    /// A node was started or ended: node, which of these, how often before.
    Node,
    /// A fault began or ended: its number, which of these.
    Fault,
    /// A job changed: its number, its new state, the node.
    Job,
    /// A block: coordinator, height, the start of its root.
    Block,
    /// A node wrote to its log: node, the start of the text's hash.
    Said,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Arrived, Self::Dialled, Self::Node, Self::Fault, Self::Job, Self::Block, Self::Said];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Bytes of one entry in a file.
pub const ENTRY_BYTES: usize = 41;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds of virtual time.
    pub at: u64,
    pub kind: Kind,
    pub what: [u64; 4],
}

impl Entry {
    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0] = self.kind as u8;
        for (at, word) in [self.at].into_iter().chain(self.what).enumerate() {
            bytes[1 + at * 8..9 + at * 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// `None`: not an entry.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let (words, _) = bytes[1..].as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        Some(Self {
            kind: Kind::of(bytes[0])?,
            at: words.next()?,
            what: [words.next()?, words.next()?, words.next()?, words.next()?],
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.what;
        write!(f, "{}.{:09} s: ", self.at / 1_000_000_000, self.at % 1_000_000_000)?;
        match self.kind {
            Kind::Arrived => write!(f, "{c} bytes from node {a} reached node {b} (hash {d:016x})"),
            Kind::Dialled if c == 1 => write!(f, "node {a} connected to node {b}"),
            Kind::Dialled => write!(f, "node {a} could not connect to node {b}"),
            Kind::Node if b == 1 => write!(f, "node {a} started (start {c})"),
            Kind::Node => write!(f, "node {a} ended (start {c})"),
            Kind::Fault if b == 1 => write!(f, "fault {a} began"),
            Kind::Fault => write!(f, "fault {a} ended"),
            Kind::Job => write!(f, "job {a} of node {c}: state {b} ({d})"),
            Kind::Block => write!(f, "coordinator {a} has block {b} (root {c:016x})"),
            Kind::Said => write!(f, "node {a} said something (hash {b:016x})"),
        }
    }
}

/// The record of one run.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: Sha256,
    entries: u64,
    file: Option<BufWriter<File>>,
}

impl Trace {
    /// # Errors
    /// When the file can't be made.
    pub fn to_file(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            file: Some(BufWriter::with_capacity(1 << 20, File::create(path)?)),
            ..Self::default()
        })
    }

    pub fn add(&mut self, kind: Kind, what: [u64; 4]) {
        let bytes = Entry { at: kernel::now(), kind, what }.to_bytes();
        self.hasher.update(bytes);
        self.entries += 1;
        let failed = self.file.as_mut().is_some_and(|file| file.write_all(&bytes).is_err());
        if failed {
            // The hash goes on; who compares files sees that this one is short.
            self.file = None;
        }
    }

    /// How many things happened, and the hash of all of them.
    #[must_use]
    pub fn digest(&self) -> (u64, String) {
        let hash = self.hasher.clone().finalize();
        (self.entries, hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// # Errors
    /// When the file can't be written.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

/// The start of a hash of `bytes`.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    let (words, _) = hash.as_chunks::<8>();
    words.first().map_or(0, |word| u64::from_le_bytes(*word))
}
