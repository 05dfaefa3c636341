//! Fuzzes [`archipelag_protocol_fuzz::check::consensus_message`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("consensus_message"), |bytes: &[u8]| {
    check::consensus_message(bytes);
});
