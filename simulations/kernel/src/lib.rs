//! Virtual time and entropy under code that knows nothing of it.
//!
//! One thread calls [`start`]; from then on the clocks, the randomness and the waiting of everything
//! that runs on it come from here: four symbols of the C library are answered by this crate
//! (`interpose.rs`), futures-timer is replaced by one that asks [`Timer`], and everything else in
//! use (std, tokio, mio, the random number crates) stands on those. Time passes only while the
//! thread waits, and then it jumps to the next event. Other threads keep real time.
//!
//! Linux only. A binary that links this crate must export the symbols (`EXPORTED`), since some
//! crates look them up by name; [`start`] checks that it does.

mod entropy;
mod events;
mod interpose;
mod strict;

pub use entropy::{Entropy, Owner, WORLD, bits, owned_by, owner, set_skew};
pub use events::{Handler, Timer, register, schedule};
pub use interpose::{EXPORTED, Unusable, real_elapsed};
pub use strict::forbid;

use std::{cell::Cell, time::Duration};

/// A moment of virtual time: nanoseconds since [`start`].
pub type Nanos = u64;

/// What `SystemTime` says at the start: 2026-01-01T00:00:00Z.
pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    static NOW: Cell<Nanos> = const { Cell::new(0) };
}

/// Whether this thread's time is virtual.
#[must_use]
pub fn is_active() -> bool {
    ACTIVE.try_with(Cell::get).unwrap_or(false)
}

/// The virtual time.
#[must_use]
pub fn now() -> Nanos {
    NOW.get()
}

/// A duration in nanoseconds, at most what the clock can hold.
#[must_use]
pub fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Makes this thread's time virtual, from 0 on, and its entropy a function of `seed`. Whatever the
/// thread did before must not matter, so it must be a new one.
///
/// # Errors
/// When this binary does not export the symbols, so that part of the code would see real time, or
/// when the thread was used before.
///
/// # Panics
/// When the thread's time is virtual already.
pub fn start(seed: u64) -> Result<(), Unusable> {
    assert!(!is_active(), "one simulation runs on a thread at a time");
    interpose::check_exported()?;
    entropy::seed(seed);
    events::clear();
    NOW.set(0);
    ACTIVE.set(true);
    if let Err(unusable) = check_thread().and_then(|()| interpose::check_effective()) {
        stop();
        return Err(unusable);
    }
    Ok(())
}

/// A thread draws the keys of its hash maps once. They must not be drawn yet.
fn check_thread() -> Result<(), Unusable> {
    let before = entropy::drawn();
    let _ = std::hash::RandomState::new();
    if entropy::drawn() == before { Err(Unusable::UsedThread) } else { Ok(()) }
}

/// Gives the thread its real time back.
pub fn stop() {
    ACTIVE.set(false);
    events::clear();
}
