//! Extended messages (BEP 10, BEP 9): nothing panics.
#![no_main]

use everseed_core::{extension, metadata};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = extension::PeerHandshake::decode(bytes);
    let _ = metadata::decode(bytes);
});
