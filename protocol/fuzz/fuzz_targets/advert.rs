//! Fuzzes [`archipelag_protocol_fuzz::check::advert`]. Started by `run.sh`.
#![no_main]

use archipelag_protocol_fuzz::{check, seed};

libfuzzer_sys::fuzz_target!(init: seed::write("advert"), |bytes: &[u8]| {
    check::advert(bytes);
});
