//! Answers of trackers over HTTP (BEP 3, 7, 23) and UDP (BEP 15): nothing panics, and there are no more peers than
//! bytes.
#![no_main]

use everseed_core::tracker::{Family, http, udp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut peers = 0_usize;
    let _ = http::Response::read(bytes, &mut |_| peers += 1);
    assert!(peers <= bytes.len() / 6 + 1, "more peers than bytes");
    let mut room = [0; 64];
    if let Some(decoded) = http::percent_decode(bytes, &mut room) {
        let mut text = String::new();
        http::percent_encode(&mut text, decoded).expect("a string takes all");
        let mut again = [0; 64];
        assert_eq!(
            http::percent_decode(text.as_bytes(), &mut again),
            Some(decoded)
        );
    }
    for family in [Family::V4, Family::V6] {
        match udp::Response::decode(bytes, family) {
            Some((_, udp::Response::Announce { peers, .. })) => {
                assert!(peers.count() <= bytes.len() / 6);
            }
            Some((_, udp::Response::Scrape(scrapes))) => {
                assert!(scrapes.count() <= bytes.len() / 12);
            }
            _ => {}
        }
    }
});
