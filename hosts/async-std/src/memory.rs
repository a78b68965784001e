//! The node's memory, allocated once and lent for good: the node borrows it, and tasks of async-std
//! can hold no borrow that ends.

use std::hash::{BuildHasher, RandomState};

use everseed_core::rng::Rng;
use everseed_disk::Content;
use everseed_node::discovery::announcer;
use everseed_node::memory::table::Table;
use everseed_node::torrent::Torrent;
use everseed_node::torrent::registry::Name;
use everseed_node::{Identity, Limits, Memory, Node};

/// Connections.
pub(crate) const PEERS: usize = 50;

/// Peers that are served at a time.
const SLOTS: u16 = 8;

/// A node with room for one torrent, reachable at `port`.
pub(crate) fn node(content: &Content, port: u16) -> Node<'static> {
    // Keyed from the system's randomness, and so good enough to tell nodes apart.
    let seed = RandomState::new().hash_one(port);
    let mut peer_id = *b"-ES0100-............";
    Rng::new(RandomState::new().hash_one(seed)).fill(&mut peer_id[8..]);
    let memory = Memory {
        conns: table(PEERS),
        ranks: lend(0, PEERS),
        // As many as a peer may ask for ahead, for each that is served.
        requests: lend([0; 4], 250 * usize::from(SLOTS)),
        blocks: &mut [],
        flights: &mut [],
        partials: &mut [],
        partial_bits: &mut [],
        peer_bits: &mut [],
        counts: &mut [],
        names: lend(Name::EMPTY, 1),
        torrents: lend(Torrent::EMPTY, 1),
        // A bit for what peers are told of, and one for what was verified.
        bits: lend(0, 2 * content.geometry().bitfield_len() as usize),
        tiers: lend(announcer::Slot::EMPTY, 0),
        candidates: table(PEERS),
        scratch: lend(0, 16 * 1024),
    };
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

fn lend<T: Clone>(value: T, len: usize) -> &'static mut [T] {
    vec![value; len].leak()
}

fn table<T>(len: usize) -> Table<'static, T> {
    let places = (0..len).map(|_| None).collect::<Vec<_>>();
    Table::new(Box::leak(Box::new_uninit_slice(len)), places.leak())
}
