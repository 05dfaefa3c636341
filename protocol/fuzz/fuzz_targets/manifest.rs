//! Fuzzes [`archipelag_protocol_fuzz::check::manifest`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("manifest"), |bytes: &[u8]| {
    check::manifest(bytes);
});
