//! Magnet links (BEP 9, 53): nothing panics, and a link that is written and read again has the same values.
#![no_main]

use everseed_core::magnet::{Magnet, Parameters, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(magnet) = Magnet::parse(text) else { return };
    let decoded = |value: everseed_core::magnet::Value<'_>| String::from_utf8(value.bytes().collect());
    let trackers: Vec<String> = magnet.trackers().filter_map(|url| decoded(url).ok()).collect();
    for value in magnet.peers().chain(magnet.web_seeds()).chain(magnet.name()) {
        value.bytes().for_each(drop);
    }
    magnet.files().into_iter().flatten().for_each(drop);
    let mut again = String::new();
    let urls = trackers.iter().map(String::as_str);
    let _ = write(&mut again, magnet.info_hash, &Parameters::default(), urls);
    if let Ok(back) = Magnet::parse(&again) {
        assert_eq!(back.info_hash, magnet.info_hash);
        let same: Vec<String> = back.trackers().filter_map(|url| decoded(url).ok()).collect();
        assert_eq!(same, trackers);
    }
});
