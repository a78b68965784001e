//! The memory of a node: slices and tables that the host lends once, at the start.

pub(crate) mod ids;
pub(crate) mod lazy_table;
pub(crate) mod lender;
pub(crate) mod ranges;

use everseed_core::geometry::BLOCK;
use everseed_core::pool::BlockSlot;
use serde::{Deserialize, Serialize};

use crate::discovery::announcer;
use crate::discovery::candidates::Candidate;
use crate::discovery::dht;
use crate::discovery::dht::turns::Turn;
use crate::discovery::udp_trackers::UdpAnnounce;
use crate::download::pending_blocks::PendingBlock;
pub use crate::download::pieces_in_progress::BITS_PER_BLOCK;
use crate::download::pieces_in_progress::PieceInProgress;
use crate::memory::lazy_table::LazyTable;
pub use crate::memory::lender::Lender;
use crate::peer::Conn;
use crate::torrent::Torrent;
use crate::torrent::registry::Registered;
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
/// | `in_progress`, `in_progress_bits` | no further piece is begun; one of which nothing is on its way gives way |
/// | `peer_bitfields` | a peer's pieces are not remembered, and it is asked for nothing unless it has all |
/// | `counts` | [`Node::download`](crate::Node::download) refuses |
/// | `registry` | [`Node::know`](crate::Node::know) and [`Node::add`](crate::Node::add) refuse |
/// | `torrents`, `bits` | [`Node::add`](crate::Node::add) and [`Node::wake`](crate::Node::wake) refuse |
/// | `tiers` | [`Node::announce`](crate::Node::announce) refuses |
/// | `udp_announces` | [`Node::announce_by_udp`](crate::Node::announce_by_udp) refuses |
/// | `dht` | see [its own](crate::discovery::dht::memory::Memory); without it none is spoken |
/// | `candidates` | addresses that failed give way first, then those of a source that has more than its share, see [`candidates`](crate::discovery::candidates) |
#[derive(Debug)]
pub struct Memory<'m> {
    /// One for each open connection.
    pub(crate) conns: LazyTable<'m, Conn>,
    /// Scratch of the choker: connections in order.
    pub(crate) ranks: &'m mut [u16],
    /// Queued requests of all peers together; 250 is what one peer may ask for ahead.
    pub(crate) requests: &'m mut [Request],
    /// Blocks that are on their way from peers to storage; none if nothing is downloaded.
    pub(crate) blocks: &'m mut [BlockSlot<'m>],
    /// One for each of `blocks`.
    pub(crate) pending: &'m mut [PendingBlock],
    /// Pieces in progress.
    pub(crate) in_progress: &'m mut [PieceInProgress],
    /// [`BITS_PER_BLOCK`] bits for each block of a piece in progress.
    pub(crate) in_progress_bits: &'m mut [u8],
    /// A bit a piece for each peer of an incomplete download that has some pieces.
    pub(crate) peer_bitfields: &'m mut [u8],
    /// 16 bits a piece for each incomplete download.
    pub(crate) counts: &'m mut [u16],
    /// One for each torrent that is known, awake or asleep; an eighth more makes looking one up faster.
    pub(crate) registry: &'m mut [Registered],
    /// One for each torrent that is awake.
    pub(crate) torrents: &'m mut [Torrent],
    /// Bitfields of torrents that are incomplete (one bit per piece) or not verified yet (one more),
    /// and of downloads (one more, and one if not everything is wanted).
    pub(crate) bits: &'m mut [u8],
    /// One for each tier of trackers of each torrent.
    pub(crate) tiers: &'m mut [announcer::TierSlot],
    /// Announces to UDP trackers at a time.
    pub(crate) udp_announces: LazyTable<'m, UdpAnnounce>,
    /// The memory of the DHT.
    pub(crate) dht: dht::memory::Memory<'m>,
    /// With it, one for each of `registry`.
    pub(crate) turns: &'m mut [Turn],
    /// Addresses of peers to dial.
    pub(crate) candidates: LazyTable<'m, Candidate>,
    /// The buffer into which the host reads sockets: at least [`SCRATCH_MIN`] bytes, 16 KiB serve well.
    pub(crate) scratch: &'m mut [u8],
}

/// The lengths of what is in [`Memory`], in elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sizes {
    /// Connections, at most 65,535.
    pub conns: u32,
    /// Queued requests of all peers together.
    pub requests: u32,
    /// Blocks of 16 KiB that were requested and are not written yet.
    pub blocks: u32,
    /// Pieces in progress.
    pub in_progress: u32,
    /// Bytes of the bits of pieces in progress.
    pub in_progress_bits: u32,
    /// Bytes of the bitfields of peers.
    pub peer_bitfields: u32,
    /// Pieces of incomplete downloads.
    pub counts: u32,
    /// Torrents that are known.
    pub registry: u32,
    /// Torrents that are awake.
    pub torrents: u32,
    /// Bytes of our bitfields.
    pub bits: u32,
    /// Tiers of trackers.
    pub tiers: u32,
    /// Announces to UDP trackers at a time; more than [`MOST`](crate::discovery::udp_trackers::MOST) are of no use.
    pub udp_announces: u32,
    /// Whether it takes part in the distributed hash table: 1, or 0.
    pub dht: u32,
    /// Addresses of peers to dial.
    pub candidates: u32,
    /// Bytes of scratch, at least [`SCRATCH_MIN`].
    pub scratch: u32,
}

impl Sizes {
    /// Nothing at all.
    pub const NONE: Sizes = Sizes {
        conns: 0,
        requests: 0,
        blocks: 0,
        in_progress: 0,
        in_progress_bits: 0,
        peer_bitfields: 0,
        counts: 0,
        registry: 0,
        torrents: 0,
        bits: 0,
        tiers: 0,
        udp_announces: 0,
        dht: 0,
        candidates: 0,
        scratch: 0,
    };

    /// Bytes of memory of these sizes.
    pub const fn bytes(&self) -> usize {
        let conn = lazy_table::bytes_each::<Conn>() + size_of::<u16>();
        let block = BLOCK as usize + size_of::<PendingBlock>() + size_of::<BlockSlot<'_>>();
        self.conns as usize * conn
            + self.requests as usize * size_of::<Request>()
            + self.blocks as usize * block
            + self.in_progress as usize * size_of::<PieceInProgress>()
            + self.in_progress_bits as usize
            + self.peer_bitfields as usize
            + self.counts as usize * size_of::<u16>()
            + self.registry as usize * size_of::<Registered>()
            + self.torrents as usize * size_of::<Torrent>()
            + self.bits as usize
            + self.tiers as usize * size_of::<announcer::TierSlot>()
            + self.udp_announces as usize * lazy_table::bytes_each::<UdpAnnounce>()
            + self.dht().bytes()
            + self.turns() * size_of::<Turn>()
            + self.candidates as usize * lazy_table::bytes_each::<Candidate>()
            + self.scratch as usize
    }

    const fn dht(&self) -> dht::memory::Sizes {
        match self.dht {
            0 => dht::memory::Sizes::NONE,
            _ => dht::memory::Sizes::FULL,
        }
    }

    /// Torrents that may be announced in it.
    const fn turns(&self) -> usize {
        match self.dht {
            0 => 0,
            _ => self.registry as usize,
        }
    }

    /// The largest of all.
    pub fn largest(&self) -> u32 {
        let few = [self.conns, self.requests, self.blocks, self.in_progress];
        let bytes = [
            self.in_progress_bits,
            self.peer_bitfields,
            self.bits,
            self.scratch,
        ];
        let rest = [
            self.counts,
            self.registry,
            self.torrents,
            self.tiers,
            self.udp_announces,
            self.candidates,
        ];
        let all = few.iter().chain(&bytes).chain(&rest);
        all.copied().max().unwrap_or(0)
    }
}

impl<'m> Memory<'m> {
    /// Memory of these sizes.
    pub fn lend(sizes: &Sizes, lender: &mut impl Lender<'m>) -> Memory<'m> {
        let blocks = sizes.blocks as usize;
        let mut bytes = lender
            .filled(0, blocks * BLOCK as usize)
            .chunks_mut(BLOCK as usize);
        let mut block = || BlockSlot::new(bytes.next().unwrap_or_default());
        Memory {
            conns: table(sizes.conns as usize, lender),
            ranks: lender.filled(0, sizes.conns as usize),
            requests: lender.filled([0; 4], sizes.requests as usize),
            blocks: lender.made(blocks, &mut block),
            pending: lender.filled(PendingBlock::EMPTY, blocks),
            in_progress: lender.filled(PieceInProgress::EMPTY, sizes.in_progress as usize),
            in_progress_bits: lender.filled(0, sizes.in_progress_bits as usize),
            peer_bitfields: lender.filled(0, sizes.peer_bitfields as usize),
            counts: lender.filled(0, sizes.counts as usize),
            registry: lender.filled(Registered::EMPTY, sizes.registry as usize),
            torrents: lender.filled(Torrent::EMPTY, sizes.torrents as usize),
            bits: lender.filled(0, sizes.bits as usize),
            tiers: lender.filled(announcer::TierSlot::EMPTY, sizes.tiers as usize),
            udp_announces: table(sizes.udp_announces as usize, lender),
            dht: dht::memory::Memory::lend(&sizes.dht(), lender),
            turns: lender.filled(Turn::OFF, sizes.turns()),
            candidates: table(sizes.candidates as usize, lender),
            scratch: lender.filled(0, sizes.scratch as usize),
        }
    }

    /// How much of everything there is.
    pub fn sizes(&self) -> Sizes {
        let len = |len| u32::try_from(len).unwrap_or(u32::MAX);
        Sizes {
            conns: len(self.conns.capacity()),
            requests: len(self.requests.len()),
            blocks: len(self.blocks.len()),
            in_progress: len(self.in_progress.len()),
            in_progress_bits: len(self.in_progress_bits.len()),
            peer_bitfields: len(self.peer_bitfields.len()),
            counts: len(self.counts.len()),
            registry: len(self.registry.len()),
            torrents: len(self.torrents.len()),
            bits: len(self.bits.len()),
            tiers: len(self.tiers.len()),
            udp_announces: len(self.udp_announces.capacity()),
            dht: u32::from(self.dht.is_lent()),
            candidates: len(self.candidates.capacity()),
            scratch: len(self.scratch.len()),
        }
    }
}

fn table<'m, T: 'm>(len: usize, lender: &mut impl Lender<'m>) -> LazyTable<'m, T> {
    LazyTable::new(lender.room(len), lender.made(len, || None))
}

/// The least scratch that works, in bytes.
pub const SCRATCH_MIN: usize = 512;
