//! `archipelag-sim diff`: where two runs part.

use super::Held;
use anyhow::Context as _;
use archipelag_simulations::trace::{ENTRY_BYTES, Entry};
use std::{
    collections::VecDeque,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

/// Entries that are shown before the first difference, which both runs share.
const SHOWN: usize = 5;

/// The entries of a trace, one by one.
struct Entries(BufReader<File>);

impl Entries {
    fn open(run: &Path) -> anyhow::Result<Self> {
        let path = run.join("trace.bin");
        let file = File::open(&path).with_context(|| {
            format!("can't open {}: run it with --out and --trace", path.display())
        })?;
        Ok(Self(BufReader::with_capacity(1 << 20, file)))
    }

    fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        let mut bytes = [0; ENTRY_BYTES];
        let mut filled = 0;
        while filled < ENTRY_BYTES {
            match self.0.read(&mut bytes[filled..])? {
                0 => return Ok(None),
                count => filled += count,
            }
        }
        Ok(Some(Entry::from_bytes(&bytes).context("this is not a trace of this version")?))
    }
}

/// Where two traces part, in words; `None` when they don't.
pub(super) fn first_difference(one: &Path, other: &Path) -> anyhow::Result<Option<String>> {
    let (mut one, mut other) = (Entries::open(one)?, Entries::open(other)?);
    let (mut count, mut shared) = (0u64, VecDeque::new());
    loop {
        let (a, b) = (one.next()?, other.next()?);
        match (a, b) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) if a == b => {
                count += 1;
                shared.push_back(a);
                if shared.len() > SHOWN {
                    shared.pop_front();
                }
            }
            _ => return Ok(Some(explain(count, &shared, a, b))),
        }
    }
}

fn explain(
    count: u64,
    shared: &VecDeque<Entry>,
    one: Option<Entry>,
    other: Option<Entry>,
) -> String {
    let mut text =
        format!("the first {count} things that happened are the same, the last of them:\n");
    for entry in shared {
        text += &format!("    {entry}\n");
    }
    let words = |entry: Option<Entry>| match entry {
        Some(entry) => entry.to_string(),
        None => "it ended".into(),
    };
    text + &format!("then\n  1 {}\n  2 {}\n", words(one), words(other))
}

pub(crate) fn between(one: &Path, other: &Path) -> anyhow::Result<Held> {
    let difference = first_difference(one, other)?;
    match &difference {
        None => println!("both runs are the same"),
        Some(text) => print!("{text}"),
    }
    Ok(Held::of(difference.is_none()))
}
