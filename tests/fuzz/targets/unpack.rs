//! Gzip and deflate (RFC 1950 to 1952): nothing panics, and at most the allowed number of bytes is unpacked.
#![no_main]

use everseed_disk::unpack::{Packing, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for packing in [Packing::Gzip, Packing::Deflate] {
        let mut came = 0;
        let _ = unpack(packing, bytes, 100_000, &mut |part: &[u8]| {
            came += part.len();
            Ok(())
        });
        assert!(came <= 100_000, "more than was allowed");
    }
});
