//! One simulated machine's disk: databases by name that lose what was not flushed when the machine
//! stops, and fail when told to.

use crate::lock;
use archipelag_node::disk::{Disk, Error, flaky::FlakyDisk};
use archipelag_simulation_kernel as kernel;
use redb::Database;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// Databases that survive what their node does not. Clones are one disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<BTreeMap<String, FlakyDisk>>>);

impl SimulatedDisk {
    fn each(&self, act: impl Fn(&FlakyDisk)) {
        lock(&self.0).values().for_each(act);
    }

    /// The machine stops: of the writes that were not flushed some survive, by the seed.
    pub fn cut_power(&self) {
        self.each(|database| database.cut_power(|_| kernel::bits().is_multiple_of(2)));
    }

    /// From now on every write fails.
    pub fn break_now(&self) {
        self.each(|database| database.break_after(0));
    }

    pub fn mend(&self) {
        self.each(FlakyDisk::mend);
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, name: &str) -> Result<Arc<Database>, Error> {
        let database = lock(&self.0).entry(name.to_owned()).or_default().clone();
        database.open(name)
    }
}
