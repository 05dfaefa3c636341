//! Fuzzes [`archipelag_protocol_fuzz::check::transaction`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("transaction"), |bytes: &[u8]| {
    check::transaction(bytes);
});
