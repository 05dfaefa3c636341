//! Whole nodes in one process: in-memory transport and disks, one thread, the production code.
//!
//! Tests and `archipelag-sim` call it. It re-implements nothing of a node; it starts nodes, crashes
//! them, starts them again on the disks they left, submits jobs, and checks what must always hold.
//! Keys and inputs come from the seed. Time is the machine's for now: runs are not yet repeatable to
//! the byte.

pub mod checks;
pub mod scenario;
pub mod world;
