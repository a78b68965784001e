//! [`DownloadSide`] of a connection: what the peer has, what we requested from it, what it sends.

use everseed_core::geometry::BlockRef;
use everseed_core::time::Instant;

use crate::download::pending_blocks;
use crate::memory::ids::NONE;
use crate::memory::ranges::LentRange;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct DownloadSide {
    /// How many pieces the peer has.
    pub(crate) have_count: u32,
    /// Which pieces it has, while the torrent is downloaded.
    pub(crate) has: Has,
    /// Whether it said of its pieces what could not be kept, as it is not known yet how many there are.
    pub(crate) unkept: bool,
    /// Whether it has what we want; the outbox knows what it was told.
    pub(crate) interested: bool,
    /// Whether it serves us.
    pub(crate) unchoked: bool,
    /// Blocks that were requested from it.
    pub(crate) pending: pending_blocks::PendingList,
    /// The pending block that it is sending.
    pub(crate) receiving: u16,
    /// The piece in progress that was requested from it last.
    pub(crate) last_partial: u16,
    /// How many blocks to request at a time.
    pub(crate) pipeline: u16,
    /// How many requests it keeps (BEP 10).
    pub(crate) reqq: u16,
    /// Blocks that may come though we do not wait for them any more.
    pub(crate) excused: u16,
    /// Bytes of blocks that came unrequested.
    pub(crate) unrequested: u32,
    /// Requests to cancel.
    pub(crate) cancels: heapless::Vec<BlockRef, CANCELS>,
    /// Pieces that it serves though it chokes us, and one that it suggests (BEP 6).
    pub(crate) allowed_fast: heapless::Vec<u32, ALLOWED_FAST>,
    pub(crate) suggested: Option<u32>,
    /// Bytes of blocks that came from it, how many at the last choking rounds, and at the last sweep.
    pub(crate) downloaded: u64,
    pub(crate) downloaded_before: [u64; 2],
    pub(crate) downloaded_swept: u64,
    /// Whether it has not sent for a minute what was requested (BEP 3, anti-snubbing).
    pub(crate) snubbed: bool,
    /// Whether it is so slow that it has no share of the blocks.
    pub(crate) slow: bool,
    /// Whether something was requested and no block came since.
    pub(crate) owes: bool,
    /// Good pieces that its address had a share in.
    pub(crate) good_pieces: u32,
    /// How often it took back what it had offered, see `offers`.
    pub(crate) retractions: u8,
    /// When a block came from it last, or when something was requested after a pause.
    pub(crate) last_block_at: Instant,
}

/// The pieces that a peer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Has {
    /// Nothing that is remembered.
    Nothing,
    /// All.
    All,
    /// The bits of this range.
    Some(LentRange),
}

/// Requests to cancel that are remembered. Blocks that were requested beyond this count may still arrive.
const CANCELS: usize = 4;

/// Pieces allowed fast that are remembered.
const ALLOWED_FAST: usize = 8;

/// Blocks that are requested at once, to begin with and at least.
pub(crate) const PIPELINE_MIN: u16 = 4;

/// How many requests a peer keeps that does not say so.
const REQQ_UNTOLD: u16 = 250;

impl DownloadSide {
    pub(crate) const EMPTY: DownloadSide = DownloadSide {
        have_count: 0,
        has: Has::Nothing,
        unkept: false,
        interested: false,
        unchoked: false,
        pending: pending_blocks::PendingList::EMPTY,
        receiving: NONE,
        last_partial: NONE,
        pipeline: PIPELINE_MIN,
        reqq: REQQ_UNTOLD,
        excused: 0,
        unrequested: 0,
        cancels: heapless::Vec::new(),
        allowed_fast: heapless::Vec::new(),
        suggested: None,
        downloaded: 0,
        downloaded_before: [0; 2],
        downloaded_swept: 0,
        snubbed: false,
        slow: false,
        owes: false,
        good_pieces: 0,
        retractions: 0,
        last_block_at: Instant::ZERO,
    };

    /// Whether it may be asked for its share of the blocks.
    pub(crate) fn shares(&self) -> bool {
        self.unchoked && self.interested && !self.snubbed && !self.slow
    }

    /// Bytes of blocks that came from it in the last two choking rounds.
    pub(crate) fn recent(&self) -> u64 {
        self.downloaded - self.downloaded_before[0]
    }
}
