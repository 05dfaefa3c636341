//! Fuzzes [`archipelag_protocol_fuzz::check::snapshot`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("snapshot"), |bytes: &[u8]| {
    check::snapshot(bytes);
});
