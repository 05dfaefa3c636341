//! Fuzzes [`archipelag_protocol_fuzz::check::query_request`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("query_request"), |bytes: &[u8]| {
    check::query_request(bytes);
});
