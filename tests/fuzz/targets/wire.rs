//! Messages of the peer protocol: bytes decode to the same messages however they are cut, and a message that is encoded
//! and decoded again is the same.
#![no_main]

use everseed_core::wire::{Decoder, Handshake, Item, Message, WireError};
use libfuzzer_sys::fuzz_target;

fn decode(bytes: &[u8], step: usize) -> (Vec<Message>, Vec<u8>, Option<WireError>) {
    let (mut messages, mut payload) = (Vec::new(), Vec::new());
    let mut decoder = Decoder::new();
    for mut chunk in bytes.chunks(step) {
        loop {
            match decoder.next(&mut chunk) {
                Ok(None) => break,
                Ok(Some(Item::Message(message))) => messages.push(message),
                Ok(Some(Item::Payload { bytes, .. })) => payload.extend(bytes),
                Err(error) => return (messages, payload, Some(error)),
            }
        }
    }
    (messages, payload, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&step, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(whole, decode(bytes, usize::from(step).max(1)));
    for message in whole.0 {
        let head = message.encode();
        let (again, _, error) = decode(head.bytes(), 1);
        assert_eq!((again.as_slice(), error), (&[message][..], None));
    }
    if let Some(hello) = bytes.first_chunk::<{ Handshake::LEN }>()
        && let Some(hello) = Handshake::decode(hello)
    {
        assert_eq!(Handshake::decode(&hello.encode()), Some(hello));
    }
});
