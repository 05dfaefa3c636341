//! Fuzzes [`archipelag_protocol_fuzz::check::query_response`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("query_response"), |bytes: &[u8]| {
    check::query_response(bytes);
});
