//! Fuzzes [`archipelag_protocol_fuzz::check::job_to_island`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("job_to_island"), |bytes: &[u8]| {
    check::job_to_island(bytes);
});
