//! The hash that orders equally good Islands: SipHash-2-4 of the node, keyed by the job.
//!
//! Called by [`super::rank`] for each Island. Keyed, because a node chooses its own id: one that
//! comes first for all jobs must not exist. Source: Aumasson and Bernstein, "SipHash: a fast
//! short-input PRF", 2012.

use crate::id::{JobId, NodeId};

struct State([u64; 4]);

impl State {
    fn new(key: u128) -> Self {
        let (low, high) = (lower(key), lower(key >> 64));
        Self([
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        ])
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *c = c.wrapping_add(*d);
        *b = b.rotate_left(13) ^ *a;
        *d = d.rotate_left(16) ^ *c;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*b);
        *a = a.wrapping_add(*d);
        *b = b.rotate_left(17) ^ *c;
        *d = d.rotate_left(21) ^ *a;
        *c = c.rotate_left(32);
    }

    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }
}

/// The lower half, by a mask that can't lose anything.
fn lower(wide: u128) -> u64 {
    u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(0)
}

/// A number that says where `node` comes among equals for `job`.
pub(super) fn hash(job: JobId, node: NodeId) -> u64 {
    let mut state = State::new(u128::from_le_bytes(job.0));
    let (words, _) = node.0.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    // The last word of a message carries its length, here always 32 bytes.
    state.absorb(32 << 56);
    state.0[2] ^= 0xff;
    for _ in 0..4 {
        state.round();
    }
    state.0.iter().fold(0, |all, part| all ^ part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same function as the reference: the vector for 32 bytes 0, 1, 2, … of the authors'
    /// `vectors.h`, under the key 0, 1, …, 15.
    #[test]
    fn it_is_siphash() {
        let count = |i: usize| u8::try_from(i).unwrap();
        let job = JobId(std::array::from_fn(count));
        let node = NodeId(std::array::from_fn(count));
        #[expect(deprecated, reason = "std's SipHash-2-4, to compare with")]
        let mut reference = std::hash::SipHasher::new_with_keys(
            u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]),
            u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 15]),
        );
        std::hash::Hasher::write(&mut reference, &node.0);
        assert_eq!(hash(job, node), std::hash::Hasher::finish(&reference));
        assert_eq!(hash(job, node), 0x7127_512f_72f2_7cce);
    }
}
