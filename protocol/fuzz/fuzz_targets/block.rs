//! Fuzzes [`archipelag_protocol_fuzz::check::block`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("block"), |bytes: &[u8]| {
    check::block(bytes);
});
