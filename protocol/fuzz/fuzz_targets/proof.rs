//! Fuzzes [`archipelag_protocol_fuzz::check::proof`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("proof"), |bytes: &[u8]| {
    check::proof(bytes);
});
