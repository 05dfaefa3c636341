//! What the fuzz targets share: real values to start from, and what must hold for any bytes.
//!
//! Called by the targets in `fuzz_targets`, one for each decoder; `run.sh` builds and runs them.
//! [`check`] decides by panicking, never by itself writing anything; only [`seed`] writes files.

pub mod check;
pub mod sample;
pub mod seed;
