//! Fuzzes [`archipelag_protocol_fuzz::check::catalog_entry`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("catalog_entry"), |bytes: &[u8]| {
    check::catalog_entry(bytes);
});
