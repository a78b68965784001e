//! [`UploadSide`] of a connection: what the peer requests from us, and what we sent it.

use everseed_core::geometry::{BLOCK, PieceIndex};
use everseed_core::time::Instant;

use crate::upload::request_queue::RequestList;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct UploadSide {
    /// Whether the peer is interested in what we have.
    pub(crate) interested: bool,
    /// Whether we serve it; the outbox knows what it was told.
    pub(crate) unchoked: bool,
    /// Whether it had a slot before, or has one.
    pub(crate) had_slot: bool,
    /// Whether its slot is an optimistic one (BEP 3).
    pub(crate) optimistic: bool,
    /// Slots that its address has, for the choker.
    pub(crate) unchoked_from_same_ip: u16,
    /// When `unchoked` changed last, or when it became interested.
    pub(crate) choke_changed_at: Instant,
    /// Its requests that wait to be served.
    pub(crate) requests: RequestList,
    /// Whether reading waits until some request is served.
    pub(crate) queue_full: bool,
    /// The piece that has to be verified before anything more can be sent.
    pub(crate) awaits_verify: Option<PieceIndex>,
    /// Since when a block could go out and the peer takes nothing, if that is so.
    pub(crate) offered_at: Option<Instant>,
    /// Bytes of blocks that were sent to it, and how many at the last choking round.
    pub(crate) uploaded: u64,
    pub(crate) uploaded_before: u64,
    /// When it had taken another block's worth of bytes.
    pub(crate) took_block_at: Instant,
    /// A piece to suggest to it (BEP 6), and the one that was suggested last.
    pub(crate) to_suggest: Option<u32>,
    pub(crate) last_suggested: Option<u32>,
    /// Pieces whose last blocks went out lately, and when the latest did; see `suspicion`.
    pub(crate) recent_pieces: [u32; RECENT_PIECES],
    pub(crate) recent_piece_at: Instant,
}

/// Pieces whose last blocks went out that are remembered, and what stands for none.
const RECENT_PIECES: usize = 4;
pub(crate) const NO_PIECE: u32 = u32::MAX;

impl UploadSide {
    pub(crate) const EMPTY: UploadSide = UploadSide {
        interested: false,
        unchoked: false,
        had_slot: false,
        optimistic: false,
        unchoked_from_same_ip: 0,
        choke_changed_at: Instant::ZERO,
        requests: RequestList::EMPTY,
        queue_full: false,
        awaits_verify: None,
        offered_at: None,
        uploaded: 0,
        uploaded_before: 0,
        took_block_at: Instant::ZERO,
        to_suggest: None,
        last_suggested: None,
        recent_pieces: [NO_PIECE; RECENT_PIECES],
        recent_piece_at: Instant::ZERO,
    };

    /// Counts bytes of blocks that went out to it.
    pub(crate) fn add_uploaded(&mut self, now: Instant, bytes: u64) {
        let blocks = |bytes: u64| bytes / u64::from(BLOCK);
        let before = self.uploaded;
        self.uploaded = before.saturating_add(bytes);
        if blocks(self.uploaded) > blocks(before) {
            self.took_block_at = now;
        }
    }
}
