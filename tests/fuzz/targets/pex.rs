//! Messages of PEX (BEP 11): nothing panics, the number of peers is limited, and peers that are written and read again
//! are the same.
#![no_main]

use everseed_core::pex::{self, MAX_LEN, MAX_PEERS, Peer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let taken = |bytes: &[u8]| {
        let mut peers = Vec::new();
        pex::read(bytes, |peer: Peer| peers.push(peer));
        peers
    };
    let mut peers = taken(bytes);
    assert!(peers.len() <= MAX_PEERS);
    let mut out = [0; MAX_LEN];
    let gone: Vec<_> = peers.iter().map(|peer| peer.addr).collect();
    let len = pex::write(&peers, &gone, &mut out).expect("room");
    let mut again = taken(&out[..len]);
    let key = |peer: &Peer| (peer.addr, peer.flags.has(pex::Flags::SEED));
    peers.sort_by_key(key);
    again.sort_by_key(key);
    assert_eq!(again.len(), peers.len());
    assert!(again.iter().map(key).eq(peers.iter().map(key)));
});
