//! Fuzzes [`archipelag_protocol_fuzz::check::text`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("text"), |bytes: &[u8]| {
    check::text(bytes);
});
