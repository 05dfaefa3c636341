//! Fuzzes [`archipelag_protocol_fuzz::check::certificate`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("certificate"), |bytes: &[u8]| {
    check::certificate(bytes);
});
