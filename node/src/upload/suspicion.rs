//! Suspicion: a peer that hangs up soon after the last block of a piece, or requests it again, may have found it damaged.
//! Nothing else shows that a disk has changed bytes, as the sizes and times of the files stay.
//!
//! Such a piece is read from the disk and verified, one a minute at most. So a peer that requests the same piece again and
//! again costs no more than that.

use core::time::Duration;

use everseed_core::geometry::{BlockRef, PieceIndex};

use crate::context::Context;
use crate::peer::NO_PIECE;
use crate::upload::Upload;

/// A peer that hangs up so soon after the last block of a piece may have found it damaged.
const SOON: Duration = Duration::from_secs(10);

/// The time between two verifications.
const PAUSE: Duration = Duration::from_secs(60);

impl Upload<'_> {
    /// A block goes out. If it is the last one of its piece, that is remembered.
    pub(crate) fn block_sent(&mut self, cx: &mut Context<'_>, slot: usize, block: BlockRef) {
        let geometry = cx.torrent_of(slot).and_then(|t| t.geometry);
        let size = geometry.and_then(|g| Some(g.piece_size(g.piece(block.index)?)));
        let conn = &mut cx.peers[slot];
        if size == Some(block.begin + block.len) {
            conn.upload.recent_piece_at = cx.now;
            if conn.upload.recent_pieces[0] != block.index {
                conn.upload.recent_pieces.rotate_right(1);
                conn.upload.recent_pieces[0] = block.index;
            }
        }
    }

    /// A peer hung up.
    pub(crate) fn suspect_last_piece(&mut self, cx: &mut Context<'_>, slot: usize) {
        let conn = &cx.peers[slot];
        let last = conn.upload.recent_pieces[0];
        if last != NO_PIECE
            && cx.now - conn.upload.recent_piece_at <= SOON
            && let Some(geometry) = cx.torrent_of(slot).and_then(|t| t.geometry)
            && let Some(piece) = geometry.piece(last)
        {
            self.suspect(cx, slot, piece);
        }
    }

    /// A peer seems to find a piece damaged.
    pub(crate) fn suspect(&mut self, cx: &mut Context<'_>, slot: usize, piece: PieceIndex) {
        let good = |t: &crate::torrent::Torrent| cx.torrents.contains(t.good, piece);
        let good = cx.torrent_of(slot).is_some_and(good);
        if let Some(id) = cx.peers[slot].link.torrent
            && good
            && cx.now >= self.next_suspicion
        {
            self.suspect = Some((id, piece));
            self.next_suspicion = cx.now + PAUSE;
        }
    }
}
