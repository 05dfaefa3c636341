//! Fuzzes [`archipelag_protocol_fuzz::check::payment`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("payment"), |bytes: &[u8]| {
    check::payment(bytes);
});
