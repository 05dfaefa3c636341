//! Fuzzes [`archipelag_protocol_fuzz::check::genesis`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("genesis"), |bytes: &[u8]| {
    check::genesis(bytes);
});
