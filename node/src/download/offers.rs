//! What peers say about serving us: choke, unchoke, and the messages of the Fast extension (BEP 6).
//!
//! Whoever offers and takes back again and again, by rejecting what is asked of it while it unchokes us
//! or by choking us, would be asked as fast as it can do that. So it is counted until a block comes,
//! and beyond [`RETRACTIONS_MAX`] nothing is asked before the next sweep.

use everseed_core::geometry::BlockRef;

use crate::Node;
use crate::download::pending_blocks::{PendingBlock, State};
use crate::peer::Reason;
use crate::torrent::Bits;

type Verdict = Result<(), Reason>;

/// How much a peer may take back between two sweeps: a reject is 1.
pub(crate) const RETRACTIONS_MAX: u8 = 32;

/// What a choke counts.
const CHOKE: u8 = 4;

impl Node<'_> {
    /// Without Fast a choke drops what was asked for (BEP 3); with it every request is answered.
    pub(crate) fn choked_us(&mut self, slot: usize) -> Verdict {
        let fast = self.peers[slot].link.features.fast;
        let conn = &mut self.peers[slot];
        conn.download.retractions = conn.download.retractions.saturating_add(CHOKE);
        conn.download.unchoked = false;
        conn.download.owes = false;
        self.drop_all_pending(slot, fast);
        self.count_active_sources();
        Ok(())
    }

    pub(crate) fn unchoked_us(&mut self, slot: usize) -> Verdict {
        self.peers[slot].download.unchoked = true;
        self.count_active_sources();
        Ok(())
    }

    /// A request will not be served; it may be asked for elsewhere.
    pub(crate) fn rejected(&mut self, slot: usize, block: BlockRef) -> Verdict {
        let hit = |pending: &PendingBlock| {
            pending.state == State::Asked && self.block_ref(pending) == Some(block)
        };
        if let Some(at) = self
            .download
            .pending
            .find(&self.peers[slot].download.pending, hit)
        {
            let conn = &mut self.peers[slot];
            if conn.download.unchoked {
                conn.download.retractions = conn.download.retractions.saturating_add(1);
            }
            conn.download.owes = false;
            // Who rejects what it would serve is asked for other pieces first.
            conn.download
                .allowed_fast
                .retain(|&piece| piece != block.index);
            self.drop_pending(slot, at);
            self.download.request_all = true;
        }
        let conn = &mut self.peers[slot];
        conn.download.excused = conn.download.excused.saturating_sub(1);
        Ok(())
    }

    /// Until the first whole copy went out, an origin suggests to each peer that it serves a piece that
    /// it suggested to nobody else (BEP 6), so that it sends none twice while others are missing. Peers
    /// choose for themselves all the same, and mind it only if the piece is rare.
    pub(crate) fn hint(&mut self, slot: usize) {
        let conn = &self.peers[slot];
        let Some(id) = conn.link.torrent.filter(|_| conn.link.features.fast) else {
            return;
        };
        let Some(torrent) = self.torrents.get_mut(id) else {
            return;
        };
        let total = torrent.geometry.map_or(0, |g| g.total());
        let pieces = torrent.pieces();
        let origin = torrent.good == Bits::All && torrent.uploaded < total;
        if origin && torrent.suggest_next < pieces {
            self.peers[slot].upload.to_suggest = Some(torrent.suggest_next);
            torrent.suggest_next += 1;
            self.peers.make_ready(slot);
        }
    }

    /// The peer would like to send this piece.
    pub(crate) fn suggested(&mut self, slot: usize, piece: u32) -> Verdict {
        if piece >= self.pieces_of(slot) {
            return Err(Reason::BadMessage);
        }
        self.peers[slot].download.suggested = Some(piece);
        Ok(())
    }

    /// The peer sends this piece even if it chokes us. The first few are remembered.
    pub(crate) fn allowed(&mut self, slot: usize, piece: u32) -> Verdict {
        if piece >= self.pieces_of(slot) {
            return Err(Reason::BadMessage);
        }
        let allowed = &mut self.peers[slot].download.allowed_fast;
        if !allowed.contains(&piece) {
            let _ = allowed.push(piece);
        }
        Ok(())
    }

    /// Whether a piece is wanted and not here.
    pub(crate) fn is_missing(&self, slot: usize, index: u32) -> bool {
        let torrent = self.torrent_of(slot).filter(|t| t.is_active_download());
        torrent.is_some_and(|t| {
            let piece = t.geometry.and_then(|g| g.piece(index));
            piece.is_some_and(|p| {
                self.torrents.contains(t.wanted, p) && !self.torrents.contains(t.have, p)
            })
        })
    }
}
