//! The node's memory, allocated once and lent for the rest of the process.

use everseed_core::geometry::Geometry;
use everseed_node::Memory;
use everseed_node::announcer;
use everseed_node::candidates::Candidate;
use everseed_node::choker::Rank;
use everseed_node::conn::Conn;
use everseed_node::queue::Request;
use everseed_node::torrent::Torrent;

/// How much of what the node needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    /// Connections.
    pub(crate) peers: usize,
    /// Peers that are served at a time.
    pub(crate) slots: usize,
    /// Torrents.
    pub(crate) torrents: usize,
    /// Tiers of trackers of all torrents.
    pub(crate) tiers: usize,
    /// Bytes of bitfields.
    pub(crate) bits: usize,
}

impl Plan {
    /// Makes room for one more torrent with so many tiers of trackers: two bits a piece, as it may
    /// turn out that a piece is bad in a torrent that is not wholly verified.
    pub(crate) fn add(&mut self, geometry: &Geometry, tiers: usize) {
        self.torrents += 1;
        self.tiers += tiers;
        self.bits += 2 * geometry.bitfield_len() as usize;
    }

    /// Allocates it, for good.
    pub(crate) fn lend(&self) -> Memory<'static> {
        Memory {
            conns: lend(Conn::EMPTY, self.peers),
            ranks: lend(Rank::EMPTY, self.peers),
            requests: lend(Request::EMPTY, self.requests()),
            blocks: &mut [],
            flights: &mut [],
            partials: &mut [],
            partial_bits: &mut [],
            peer_bits: &mut [],
            counts: &mut [],
            torrents: lend(Torrent::EMPTY, self.torrents),
            bits: lend(0, self.bits),
            tiers: lend(announcer::Slot::EMPTY, self.tiers),
            candidates: lend(Candidate::EMPTY, (2 * self.peers).clamp(32, 512)),
            scratch: lend(0, SCRATCH),
        }
    }

    /// Queued requests: what the peers that are served ask for ahead, within reason.
    fn requests(&self) -> usize {
        let served = self.slots.min(self.peers);
        (served * REQUESTS_PER_PEER).clamp(MIN_REQUESTS, MAX_REQUESTS)
    }
}

const REQUESTS_PER_PEER: usize = 250;
const MIN_REQUESTS: usize = 500;
const MAX_REQUESTS: usize = 16 * 1024;

/// Bytes that are read from a socket at a time.
const SCRATCH: usize = 16 * 1024;

fn lend<T: Clone>(value: T, len: usize) -> &'static mut [T] {
    vec![value; len].leak()
}
