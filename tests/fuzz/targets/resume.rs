//! Resume records: an accepted record that is encoded and decoded again is the same.
#![no_main]

use everseed_core::resume::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = Record::decode(bytes) else {
        return;
    };
    let mut again = vec![0; record.encoded_len()];
    let len = record.encode(&mut again).expect("as much room as it says");
    assert_eq!(Record::decode(&again[..len]), Ok(record));
});
