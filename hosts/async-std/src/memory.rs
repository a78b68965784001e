//! The node's memory, allocated once and lent for good: tasks of async-std can hold no borrow that ends.

use std::hash::{BuildHasher, RandomState};

use everseed_core::rng::Rng;
use everseed_disk::Content;
use everseed_heap::Heap;
use everseed_node::memory::Sizes;
use everseed_node::{Identity, Limits, Memory, Node};

/// The most connections.
pub(crate) const PEERS: u32 = 50;

/// The most peers that are served at a time.
const SLOTS: u16 = 8;

/// A node with room for one torrent, reachable at `port`.
pub(crate) fn node(content: &Content, port: u16) -> Node<'static> {
    // The system's randomness is good enough to tell nodes apart.
    let seed = RandomState::new().hash_one(port);
    let mut peer_id = *b"-ES0100-............";
    Rng::new(RandomState::new().hash_one(seed)).fill(&mut peer_id[8..]);
    let sizes = Sizes {
        conns: PEERS,
        // The most requests that a peer may have waiting, for each served peer.
        requests: 250 * u32::from(SLOTS),
        registry: 1,
        torrents: 1,
        // A bit for what peers were told, and one for what was verified.
        bits: 2 * content.geometry().bitfield_len(),
        candidates: PEERS,
        scratch: 16 * 1024,
        ..Sizes::NONE
    };
    let memory = Memory::lend(&sizes, &mut Heap);
    let identity = Identity {
        peer_id,
        port,
        client: concat!("everseed ", env!("CARGO_PKG_VERSION")),
    };
    let limits = Limits {
        slots: Some(SLOTS),
        most_slots: SLOTS,
        peers: u16::MAX,
        upload_bps: None,
        download_bps: None,
    };
    Node::new(memory, identity, limits, seed)
}
