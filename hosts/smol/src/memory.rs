//! The node's memory, allocated once and lent for the rest of the process.

use everseed_core::geometry::{BLOCK, Geometry};
use everseed_core::pool::BlockSlot;
use everseed_node::Memory;
use everseed_node::announcer;
use everseed_node::candidates::Candidate;
use everseed_node::choker::Rank;
use everseed_node::conn::Conn;
use everseed_node::flights::Flight;
use everseed_node::partials::Partial;
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
    /// Bytes of the bits of pieces in progress.
    pub(crate) partial_bits: usize,
    /// Bytes of bitfields of peers.
    pub(crate) peer_bits: usize,
    /// Pieces of downloads.
    pub(crate) counts: usize,
}

impl Plan {
    /// Makes room for one more torrent with so many tiers of trackers: two bits a piece, as it may
    /// turn out that a piece is bad in a torrent that is not wholly verified.
    pub(crate) fn add(&mut self, geometry: &Geometry, tiers: usize) {
        self.torrents += 1;
        self.tiers += tiers;
        self.bits += 2 * geometry.bitfield_len() as usize;
    }

    /// Makes room for a download too: two more bits a piece, how often each piece is there, a bit a
    /// piece for each peer, and the bits of the blocks of some pieces in progress.
    pub(crate) fn add_download(&mut self, geometry: &Geometry) {
        let bitfield = geometry.bitfield_len() as usize;
        self.bits += 2 * bitfield;
        self.counts += geometry.pieces() as usize;
        self.peer_bits = self
            .peer_bits
            .max(bitfield * self.peers.min(PEERS_WITH_BITS));
        let blocks = geometry.piece_len().div_ceil(BLOCK);
        let each = 2 * blocks.div_ceil(8) as usize;
        let pieces = PARTIALS.min(MAX_PARTIAL_BITS / each).max(2);
        self.partial_bits = self.partial_bits.max(each * pieces);
    }

    fn downloads(&self) -> bool {
        self.counts > 0
    }

    fn blocks(&self) -> usize {
        if self.downloads() { BLOCKS } else { 0 }
    }

    /// Allocates it, for good.
    pub(crate) fn lend(&self) -> Memory<'static> {
        Memory {
            conns: lend(Conn::EMPTY, self.peers),
            ranks: lend(Rank::EMPTY, self.peers),
            requests: lend(Request::EMPTY, self.requests()),
            blocks: blocks(self.blocks()),
            flights: lend(Flight::EMPTY, self.blocks()),
            partials: lend(Partial::EMPTY, if self.downloads() { PARTIALS } else { 0 }),
            partial_bits: lend(0, self.partial_bits),
            peer_bits: lend(0, self.peer_bits),
            counts: lend(0, self.counts),
            torrents: lend(Torrent::EMPTY, self.torrents),
            bits: lend(0, self.bits),
            tiers: lend(announcer::Slot::EMPTY, self.tiers),
            candidates: lend(Candidate::EMPTY, (2 * self.peers).clamp(32, 512)),
            scratch: lend(
                0,
                if self.downloads() {
                    LONG_SCRATCH
                } else {
                    SCRATCH
                },
            ),
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

/// The same while blocks are downloaded: several of them at a time.
const LONG_SCRATCH: usize = 128 * 1024;

/// Blocks on their way, 16 KiB each: 4 MiB, a second of 33 Mbit/s from each of several peers.
const BLOCKS: usize = 256;

/// Pieces in progress.
const PARTIALS: usize = 64;

/// Bytes for the bits of pieces in progress, as long as that is enough for two.
const MAX_PARTIAL_BITS: usize = 64 * 1024;

/// Peers whose pieces are remembered, a bit each.
const PEERS_WITH_BITS: usize = 100;

fn blocks(count: usize) -> &'static mut [BlockSlot<'static>] {
    let bytes = lend(0, count * BLOCK as usize);
    let slots: Vec<_> = bytes
        .chunks_mut(BLOCK as usize)
        .map(BlockSlot::new)
        .collect();
    slots.leak()
}

fn lend<T: Clone>(value: T, len: usize) -> &'static mut [T] {
    vec![value; len].leak()
}
