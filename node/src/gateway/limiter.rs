//! How often each key may ask: a token bucket per key.

use super::keys::KeyId;
use crate::services::lock;
use std::{collections::BTreeMap, num::NonZero, sync::Mutex, time::Duration};
use tokio::time::Instant;

const PERIOD: Duration = Duration::from_secs(60);

/// The buckets. A key that has not asked for a minute has none, so there are never more than keys.
#[derive(Debug)]
pub(super) struct Limiter {
    /// Requests in a minute; all of them may come at once.
    per_minute: NonZero<u32>,
    /// When each key's bucket is full again.
    full_at: Mutex<BTreeMap<KeyId, Instant>>,
}

impl Limiter {
    pub(super) fn new(per_minute: NonZero<u32>) -> Self {
        Self { per_minute, full_at: Mutex::default() }
    }

    pub(super) fn per_minute(&self) -> u32 {
        self.per_minute.get()
    }

    /// Counts a request of `key` at `now`.
    ///
    /// # Errors
    /// How long to wait until one would be taken.
    pub(super) fn take(&self, key: KeyId, now: Instant) -> Result<(), Duration> {
        let each = PERIOD / self.per_minute.get();
        let mut full_at = lock(&self.full_at);
        let full = full_at.get(&key).copied().unwrap_or(now).max(now) + each;
        let ahead = full.duration_since(now);
        if ahead > PERIOD {
            return Err(ahead - PERIOD);
        }
        full_at.retain(|_, full| *full > now);
        full_at.insert(key, full);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_then_one_per_share_of_the_minute() {
        let limiter = Limiter::new(NonZero::new(100).unwrap());
        let (key, other, start) = (KeyId([1; 8]), KeyId([2; 8]), Instant::now());
        for _ in 0..100 {
            limiter.take(key, start).unwrap();
        }
        let wait = limiter.take(key, start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(600));
        limiter.take(other, start).unwrap();
        limiter.take(key, start + wait).unwrap();
        assert!(limiter.take(key, start + wait).is_err());
        let later = start + wait + PERIOD;
        for _ in 0..100 {
            limiter.take(key, later).unwrap();
        }
        assert!(limiter.take(key, later).is_err());
        assert_eq!(lock(&limiter.full_at).len(), 1, "an idle key keeps no bucket");
    }
}
