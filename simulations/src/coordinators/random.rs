//! Draws that depend on the seed alone.

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus, seq::IndexedRandom as _};

#[derive(Debug)]
pub(super) struct Random(Xoshiro256PlusPlus);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Another one, whose draws leave those of this one as they are.
    pub(super) fn split(&mut self) -> Self {
        Self::new(self.next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.random()
    }

    /// A number below `bound`; zero when that is zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound.max(1))
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// Whether something that happens once in `every` times happens now; zero means never.
    pub(super) fn once_in(&mut self, every: u64) -> bool {
        every > 0 && self.below(every) == 0
    }

    /// One of a list; none of an empty one.
    pub(super) fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.choose(&mut self.0)
    }
}
