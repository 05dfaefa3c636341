//! A job's events as lines, numbered from 0: growing in memory while the job runs, in chunks on
//! disk afterwards. Readers follow by number, so that none is lost or seen twice wherever they
//! begin.

use super::{Error, store::Store};
use archipelag_protocol::id::JobId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Lines that a reader takes at once.
const READ_LINES: usize = 256;
/// Bytes of one chunk on disk, unless a line is longer.
const CHUNK_BYTES: usize = 256 << 10;

/// The events of a job that runs, or ran and still has readers.
#[derive(Debug)]
pub(super) struct Log {
    lines: Mutex<Lines>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<Arc<str>>,
    bytes: usize,
    ended: bool,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { lines: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of lines and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let lines = self.lock();
        (lines.lines.len(), lines.bytes)
    }

    pub(super) fn push(&self, line: String) {
        self.add(line, false);
    }

    /// The line and whether it is the last come under one lock: a reader between the two would take
    /// the line before for the last.
    fn add(&self, line: String, last: bool) {
        let mut lines = self.lock();
        lines.bytes += line.len();
        lines.lines.push(line.into());
        lines.ended |= last;
        drop(lines);
        self.changed.send_replace(());
    }

    /// Adds the last line.
    pub(super) fn end(&self, line: String) {
        self.add(line, true);
    }

    /// Ends the log without a last line: the node stops, and its next start goes on with the job.
    pub(super) fn close(&self) {
        self.lock().ended = true;
        self.changed.send_replace(());
    }

    /// Waits until the last line is there.
    pub(super) async fn ended(&self) {
        let mut changed = self.changed.subscribe();
        while !self.lock().ended && changed.changed().await.is_ok() {}
    }

    /// The lines and `last`, as they are kept on disk: each chunk with the number of its first
    /// line.
    pub(super) fn chunks(&self, last: &str) -> Vec<(u64, Vec<u8>)> {
        let lines = self.lock();
        let mut chunks: Vec<(u64, Vec<u8>)> = Vec::new();
        for (number, line) in (0_u64..).zip(lines.lines.iter().map(|l| &**l).chain([last])) {
            match chunks.last_mut() {
                Some((_, chunk)) if chunk.len() + line.len() < CHUNK_BYTES => {
                    chunk.push(b'\n');
                    chunk.extend_from_slice(line.as_bytes());
                }
                _ => chunks.push((number, line.as_bytes().to_vec())),
            }
        }
        chunks
    }

    /// Lines from number `from` on, and whether the stream ends with them.
    fn read(&self, from: u64) -> (Vec<Arc<str>>, bool) {
        let lines = self.lock();
        let count = lines.lines.len();
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(count);
        let to = count.min(from + READ_LINES);
        (lines.lines[from..to].to_vec(), lines.ended && to == count)
    }
}

/// Splits a chunk as [`Log::chunks`] made it: the lines from number `from` on.
pub(super) fn split(first: u64, chunk: &[u8], from: u64) -> Vec<Arc<str>> {
    let lines = chunk.split(|b| *b == b'\n').map(|l| Arc::from(String::from_utf8_lossy(l)));
    let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
    lines.skip(skip).collect()
}

/// A job's events from some number on, to the last one.
#[derive(Debug)]
pub struct Events {
    source: Source,
    /// The number of the next event.
    next: u64,
    ended: bool,
}

#[derive(Debug)]
enum Source {
    Live { log: Arc<Log>, changed: watch::Receiver<()> },
    Stored { store: Store, job: JobId },
}

impl Events {
    pub(super) fn live(log: Arc<Log>, from: u64) -> Self {
        let changed = log.changed.subscribe();
        Self::new(Source::Live { log, changed }, from)
    }

    pub(super) fn stored(store: Store, job: JobId, from: u64) -> Self {
        Self::new(Source::Stored { store, job }, from)
    }

    fn new(source: Source, next: u64) -> Self {
        Self { source, next, ended: false }
    }

    /// The next events with their numbers, as many as are there by now; none after the last.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn next(&mut self) -> Result<Vec<(u64, Arc<str>)>, Error> {
        while !self.ended {
            let lines = match &mut self.source {
                Source::Live { log, changed } => {
                    changed.mark_unchanged();
                    let (lines, ended) = log.read(self.next);
                    self.ended = ended;
                    if lines.is_empty() && !ended {
                        // The log holds the sender, so this fails never.
                        let _kept = changed.changed().await;
                        continue;
                    }
                    lines
                }
                Source::Stored { store, job } => {
                    let lines = store.events(*job, self.next).await?;
                    self.ended = lines.is_empty();
                    lines
                }
            };
            let first = self.next;
            self.next += lines.len() as u64;
            return Ok((first..).zip(lines).collect());
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut events: Events) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        loop {
            let some = events.next().await.unwrap();
            if some.is_empty() {
                return found;
            }
            found.extend(some.into_iter().map(|(number, line)| (number, line.to_string())));
        }
    }

    #[tokio::test]
    async fn readers_before_during_and_after_see_every_line_once() {
        let log = Arc::new(Log::new());
        let early = tokio::spawn(all(Events::live(Arc::clone(&log), 0)));
        let mut expected = Vec::new();
        for number in 0..1_000_u64 {
            log.push(number.to_string());
            expected.push((number, number.to_string()));
            if number % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let middle = tokio::spawn(all(Events::live(Arc::clone(&log), 600)));
        tokio::task::yield_now().await;
        log.end("last".into());
        expected.push((1_000, "last".into()));
        assert_eq!(early.await.unwrap(), expected);
        assert_eq!(middle.await.unwrap(), expected[600..]);
        assert_eq!(all(Events::live(Arc::clone(&log), 1_001)).await, []);
        assert_eq!(all(Events::live(log, u64::MAX)).await, []);
    }

    #[test]
    fn chunks_split_into_the_same_lines() {
        let log = Log::new();
        let long = "x".repeat(CHUNK_BYTES * 2);
        let lines = ["a", "b", &long, "c"];
        lines.iter().for_each(|l| log.push((*l).to_owned()));
        let chunks = log.chunks("end");
        assert_eq!(chunks.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 2, 3]);
        let read: Vec<_> = chunks.iter().flat_map(|(first, c)| split(*first, c, 0)).collect();
        assert_eq!(read.iter().map(|l| &**l).collect::<Vec<_>>(), ["a", "b", &long, "c", "end"]);
        assert_eq!(split(3, &chunks[2].1, 4).iter().map(|l| &**l).collect::<Vec<_>>(), ["end"]);
        assert!(split(3, &chunks[2].1, 5).is_empty());
    }
}
