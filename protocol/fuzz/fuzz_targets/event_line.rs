//! Fuzzes [`archipelag_protocol_fuzz::check::event_line`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("event_line"), |bytes: &[u8]| {
    check::event_line(bytes);
});
