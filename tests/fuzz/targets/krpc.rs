//! Messages of the distributed hash table (BEP 5, 32, 33, 42, 43, 51): nothing panics, and a message that is decoded,
//! encoded and decoded again is the same.
#![no_main]

use everseed_core::krpc::{Body, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::decode(bytes) else {
        return;
    };
    if let Body::Response(response) = message.body {
        assert!(response.nodes.count() <= bytes.len() / 26);
        assert!(response.nodes6.count() <= bytes.len() / 38);
        assert!(response.values.count() <= bytes.len() / 8);
    }
    let mut out = vec![0; 2 * bytes.len() + 64];
    let len = message.encode(&mut out).expect("no longer than it was, but for its keys");
    assert_eq!(Message::decode(&out[..len]), Ok(message));
});
