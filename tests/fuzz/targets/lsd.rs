//! Packets of LSD (BEP 14): nothing panics, and at most [`MOST`] torrents are read.
#![no_main]

use everseed_core::lsd::{MOST, Search};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(search) = Search::read(bytes) {
        assert!(search.port > 0 && search.info_hashes().count() <= MOST);
    }
});
