//! What the node lives in: slices and tables that the host lends once, at the start.

pub(crate) mod arena;
pub mod table;

use everseed_core::pool::BlockSlot;
use serde::{Deserialize, Serialize};

use crate::discovery::announcer;
use crate::discovery::candidates::Candidate;
use crate::download::pending_blocks::Flight;
use crate::download::pieces_in_progress::Partial;
use crate::memory::table::Table;
use crate::peer::Conn;
use crate::torrent::Torrent;
use crate::torrent::registry::Name;
use crate::upload::request_queue::Request;

/// The node's whole memory. A bare-metal host lends statics, a daemon allocates each slice once.
///
/// Every length is a limit, and every limit has its rule:
///
/// | slice | when it is full |
/// |---|---|
/// | `conns` | the least useful connection leaves, see [`Node::accept`](crate::Node::accept) |
/// | `ranks` | at least as long as `conns`; peers beyond it are not unchoked |
/// | `requests` | a peer is read no further until some of its requests are served |
/// | `blocks` | nothing more is asked for until some block was written |
/// | `partials`, `partial_bits` | no further piece is begun; one of which nothing is on its way gives way |
/// | `peer_bits` | a peer's pieces are not remembered, and it is asked for nothing unless it has all |
/// | `counts` | [`Node::download`](crate::Node::download) refuses |
/// | `names` | [`Node::know`](crate::Node::know) and [`Node::add`](crate::Node::add) refuse |
/// | `torrents`, `bits` | [`Node::add`](crate::Node::add) and [`Node::wake`](crate::Node::wake) refuse |
/// | `tiers` | [`Node::announce`](crate::Node::announce) refuses |
/// | `candidates` | addresses that failed are forgotten first, then new ones are not kept |
#[derive(Debug)]
pub struct Memory<'m> {
    /// One for each open connection.
    pub conns: Table<'m, Conn>,
    /// Scratch of the choker: connections in order.
    pub ranks: &'m mut [u16],
    /// Queued requests of all peers together; 250 is what one peer may ask for ahead.
    pub requests: &'m mut [Request],
    /// Blocks that are on their way from peers to storage; none if nothing is downloaded.
    pub blocks: &'m mut [BlockSlot<'m>],
    /// One for each of `blocks`.
    pub flights: &'m mut [Flight],
    /// Pieces in progress.
    pub partials: &'m mut [Partial],
    /// Some bits for each block of a piece in progress, see [`BITS_PER_BLOCK`](crate::download::pieces_in_progress::BITS_PER_BLOCK).
    pub partial_bits: &'m mut [u8],
    /// A bit a piece for each peer of an incomplete download that has some pieces.
    pub peer_bits: &'m mut [u8],
    /// 16 bits a piece for each incomplete download.
    pub counts: &'m mut [u16],
    /// One for each torrent that is known, awake or asleep; an eighth more makes looking one up faster.
    pub names: &'m mut [Name],
    /// One for each torrent that is awake.
    pub torrents: &'m mut [Torrent],
    /// Bitfields of torrents that are incomplete (one bit per piece) or not verified yet (one more),
    /// and of downloads (one more, and one if not everything is wanted).
    pub bits: &'m mut [u8],
    /// One for each tier of trackers of each torrent.
    pub tiers: &'m mut [announcer::Slot],
    /// Addresses of peers to dial.
    pub candidates: Table<'m, Candidate>,
    /// What the host reads sockets into: at least [`SCRATCH_MIN`] bytes, 16 KiB serve well.
    pub scratch: &'m mut [u8],
}

/// The lengths of what is in [`Memory`], in elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Sizes {
    pub conns: u32,
    pub ranks: u32,
    pub requests: u32,
    pub blocks: u32,
    pub flights: u32,
    pub partials: u32,
    pub partial_bits: u32,
    pub peer_bits: u32,
    pub counts: u32,
    pub names: u32,
    pub torrents: u32,
    pub bits: u32,
    pub tiers: u32,
    pub candidates: u32,
    pub scratch: u32,
}

impl Memory<'_> {
    /// How much of everything there is.
    pub fn sizes(&self) -> Sizes {
        let len = |len| u32::try_from(len).unwrap_or(u32::MAX);
        Sizes {
            conns: len(self.conns.capacity()),
            ranks: len(self.ranks.len()),
            requests: len(self.requests.len()),
            blocks: len(self.blocks.len()),
            flights: len(self.flights.len()),
            partials: len(self.partials.len()),
            partial_bits: len(self.partial_bits.len()),
            peer_bits: len(self.peer_bits.len()),
            counts: len(self.counts.len()),
            names: len(self.names.len()),
            torrents: len(self.torrents.len()),
            bits: len(self.bits.len()),
            tiers: len(self.tiers.len()),
            candidates: len(self.candidates.capacity()),
            scratch: len(self.scratch.len()),
        }
    }
}

/// The least scratch that works, in bytes.
pub const SCRATCH_MIN: usize = 512;
