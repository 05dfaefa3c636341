//! Whole nodes in one process: in-memory transport and disks, one thread, the production code.
//!
//! Tests and `archipelag-sim` call it. It re-implements nothing of a node; it starts nodes, crashes
//! them, starts them again on the disks they left, submits jobs, and checks what must always hold.
//! Keys and inputs come from the seed. Of whole nodes the time is the machine's for now, so their
//! runs are not yet repeatable to the byte; [`coordinators`] are simulated in virtual time.

pub mod checks;
pub mod coordinators;
pub mod scenario;
pub mod world;
