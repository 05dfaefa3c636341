//! Randomness and clock skew, by owner: what one node draws does not change what another gets, so
//! that a run with one fault less stays as close to the original as it can.

use rand::{Rng as _, SeedableRng as _, TryRng, rngs::Xoshiro256PlusPlus};
use std::cell::{Cell, RefCell};

/// Whose code runs: a node, or the simulation itself.
pub type Owner = u32;

/// The simulation itself: its network, its faults, its order of tasks.
pub const WORLD: Owner = u32::MAX;

#[derive(Default)]
struct Sources {
    seed: u64,
    world: Option<Xoshiro256PlusPlus>,
    nodes: Vec<Option<Xoshiro256PlusPlus>>,
    skews: Vec<i64>,
}

thread_local! {
    /// How often bytes were asked for.
    static DRAWN: Cell<u64> = const { Cell::new(0) };
    static OWNER: Cell<Owner> = const { Cell::new(WORLD) };
    static SOURCES: RefCell<Sources> = RefCell::default();
}

pub(crate) fn seed(seed: u64) {
    OWNER.set(WORLD);
    SOURCES.set(Sources { seed, ..Sources::default() });
}

pub(crate) fn drawn() -> u64 {
    DRAWN.get()
}

fn source(seed: u64, owner: Owner) -> Xoshiro256PlusPlus {
    // Each seed of 64 bits is spread over the state; owners must not be neighbours of seeds.
    let owner = u64::from(owner).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    Xoshiro256PlusPlus::seed_from_u64(seed ^ owner)
}

fn index(owner: Owner) -> usize {
    usize::try_from(owner).unwrap_or(usize::MAX)
}

/// The next 64 random bits of whoever runs now.
#[must_use]
pub fn bits() -> u64 {
    let owner = OWNER.get();
    SOURCES.with_borrow_mut(|sources| {
        let seed = sources.seed;
        let slot = if owner == WORLD {
            &mut sources.world
        } else {
            let index = index(owner);
            if sources.nodes.len() <= index {
                sources.nodes.resize(index + 1, None);
            }
            &mut sources.nodes[index]
        };
        slot.get_or_insert_with(|| source(seed, owner)).next_u64()
    })
}

/// Runs `f` with the entropy and the clock of `owner`.
pub fn owned_by<T>(owner: Owner, f: impl FnOnce() -> T) -> T {
    struct Restore(Owner);
    impl Drop for Restore {
        fn drop(&mut self) {
            OWNER.set(self.0);
        }
    }
    let _restore = Restore(OWNER.replace(owner));
    f()
}

/// The entropy of whoever runs now, as a generator for distributions.
#[derive(Clone, Copy, Debug)]
pub struct Entropy;

impl TryRng for Entropy {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::try_from(bits() >> 32).unwrap_or(u32::MAX))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(bits())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        fill(bytes);
        Ok(())
    }
}

pub(crate) fn fill(bytes: &mut [u8]) {
    DRAWN.set(DRAWN.get() + 1);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&bits().to_le_bytes()[..chunk.len()]);
    }
}

/// Whose code runs now.
#[must_use]
pub fn owner() -> Owner {
    OWNER.get()
}

/// Sets by how many nanoseconds the wall clock of `owner` is fast. Timers don't see it: a monotonic
/// clock runs at one rate.
pub fn set_skew(owner: Owner, nanos: i64) {
    SOURCES.with_borrow_mut(|sources| {
        let index = index(owner);
        if sources.skews.len() <= index {
            sources.skews.resize(index + 1, 0);
        }
        sources.skews[index] = nanos;
    });
}

pub(crate) fn skew() -> i64 {
    let owner = OWNER.get();
    SOURCES
        .try_with(|sources| sources.borrow().skews.get(index(owner)).copied())
        .ok()
        .flatten()
        .unwrap_or(0)
}
