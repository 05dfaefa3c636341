//! The node's own code in virtual time: networks, faults, adversaries, checkers, experiments.
//!
//! Tests and `archipelag-sim` call it. It re-implements nothing of a node; it starts nodes, crashes
//! them, starts them again on the disks they left, submits jobs, and checks what must always hold.
//! One scenario and one seed give one run, to the byte.

mod activities;
mod adversary;
pub mod coordinators;
pub mod disk;
mod draw;
pub mod executor;
pub mod network;
mod observe;
mod oracles;
pub mod output;
pub mod record;
pub mod run;
pub mod scenario;
pub mod trace;
pub mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose critical sections don't panic half-way.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
