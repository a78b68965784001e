//! What peers do when a piece that we sent was damaged: they hang up soon after its last block, or ask for
//! it again. Rot below a file system shows in no other way, as files look as they did.
//!
//! Such a piece is verified as it is on the disk, one a minute at most: whoever asks for the same again and
//! again costs no more than that.

use core::time::Duration;

use everseed_core::geometry::{BlockRef, PieceIndex};
use everseed_core::time::Instant;

use crate::Node;
use crate::peer::NO_PIECE;

/// Who leaves so soon after a piece's last block may have found it damaged.
const SOON: Duration = Duration::from_secs(10);

/// The time between two verifications.
const PAUSE: Duration = Duration::from_secs(60);

impl Node<'_> {
    /// A block goes out: if it is the last of its piece, that is remembered.
    pub(crate) fn note_given(&mut self, now: Instant, slot: usize, block: BlockRef) {
        let geometry = self.torrent_of(slot).and_then(|t| t.geometry);
        let size = geometry.and_then(|g| Some(g.piece_size(g.piece(block.index)?)));
        let conn = &mut self.peers[slot];
        if size == Some(block.begin + block.len) {
            conn.upload.recent_piece_at = now;
            if conn.upload.recent_pieces[0] != block.index {
                conn.upload.recent_pieces.rotate_right(1);
                conn.upload.recent_pieces[0] = block.index;
            }
        }
    }

    /// A peer hung up.
    pub(crate) fn suspect_last(&mut self, now: Instant, slot: usize) {
        let conn = &self.peers[slot];
        let last = conn.upload.recent_pieces[0];
        if last != NO_PIECE
            && now - conn.upload.recent_piece_at <= SOON
            && let Some(geometry) = self.torrent_of(slot).and_then(|t| t.geometry)
            && let Some(piece) = geometry.piece(last)
        {
            self.suspect(now, slot, piece);
        }
    }

    /// A peer seems to find a piece damaged.
    pub(crate) fn suspect(&mut self, now: Instant, slot: usize, piece: PieceIndex) {
        let good = |t: &crate::torrent::Torrent| self.torrents.contains(t.good, piece);
        let good = self.torrent_of(slot).is_some_and(good);
        if let Some(id) = self.peers[slot].link.torrent
            && good
            && now >= self.upload.next_suspicion
        {
            self.upload.suspect = Some((id, piece));
            self.upload.next_suspicion = now + PAUSE;
        }
    }
}
