//! How much goes wrong.

#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) loss_percent: u64,
    pub(super) delay_ms: u64,
    /// One crash per so many steps; zero for none.
    pub(super) crash_every: u64,
    /// How often a user's act finds everybody killed at once.
    pub(super) blackout_percent: u64,
    /// One disk that refuses writes for seconds per so many steps.
    pub(super) fail_every: u64,
    pub(super) skew_ms: u64,
    pub(super) partition: bool,
    /// Whether a crash may take the disk along.
    pub(super) lose_disks: bool,
    /// Whether one validator after the other says nothing for a while.
    pub(super) mute: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss_percent: 0,
            delay_ms: 20,
            crash_every: 0,
            blackout_percent: 0,
            fail_every: 0,
            skew_ms: 0,
            partition: false,
            lose_disks: false,
            mute: false,
        }
    }
}
