//! What a piece that was verified means for everybody: peers are told, senders of bad blocks are banned, a
//! download ends.

use everseed_core::geometry::{PieceIndex, TorrentId};

use crate::Node;
use crate::download::evidence::{Evidence, Verdict};
use crate::download::pieces_in_progress;
use crate::peer::Reason;
use crate::peer::origin;
use crate::torrent;

impl Node<'_> {
    /// A piece that was downloaded has been verified; false if it was none.
    pub(crate) fn downloaded_piece(
        &mut self,
        id: TorrentId,
        piece: PieceIndex,
        good: bool,
    ) -> bool {
        let Some(slot) = self.download.in_progress.find(id, piece) else {
            return false;
        };
        if self.download.in_progress.get(slot).map(|p| p.state)
            != Some(pieces_in_progress::State::Verifying)
        {
            return false;
        }
        if !good {
            self.bad_piece(id, slot);
            return true;
        }
        let evidence = self
            .download
            .in_progress
            .get(slot)
            .map(|partial| partial.evidence);
        self.with_download(|d, cx| d.end_partial(cx, slot));
        if let Some(evidence) = evidence {
            self.judge(&evidence);
        }
        // It may be had already, by a late answer, and not be wanted any more.
        let lacked = self.torrents.get(id).is_some_and(|t| {
            self.torrents.contains(t.wanted, piece) && !self.torrents.contains(t.have, piece)
        });
        if !self.torrents.verified(id, piece, true) {
            log::warn!("no memory to note that piece {} is here", piece.get());
            self.unreadable(id);
            return true;
        }
        self.tell_have(id, piece);
        if let Some(torrent) = self.torrents.get_mut(id).filter(|_| lacked) {
            torrent.missing = torrent.missing.saturating_sub(1);
            if torrent.missing == 0 {
                self.finished(id);
            }
        }
        true
    }

    /// Everybody is told of a piece.
    pub(crate) fn tell_have(&mut self, id: TorrentId, piece: PieceIndex) {
        self.swarm.have_log.add(id, piece.get());
        for slot in 0..self.peers.len() {
            if self.peers[slot].link.torrent == Some(id) && self.peers[slot].is_open() {
                self.peers.make_ready(slot);
            }
        }
    }

    /// A piece was bad: who gave all of it is charged, and it is fetched from one peer.
    fn bad_piece(&mut self, id: TorrentId, slot: u16) {
        let Some(partial) = self.download.in_progress.get(slot) else {
            return;
        };
        log::debug!("piece {} is bad", partial.piece);
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.bad_pieces = torrent.bad_pieces.saturating_add(1);
        }
        if let Some((giver, strikes)) = self.download.in_progress.again(slot) {
            self.charge(giver, strikes);
        }
        self.download.request_all = true;
    }

    /// A piece is good: who gave it gets credit, and who gave bad copies of it before is found out.
    fn judge(&mut self, evidence: &Evidence) {
        for giver in evidence.sources() {
            self.swarm.bans.credit(giver);
            for conn in self.peers.iter_mut().filter(|conn| conn.is_open()) {
                conn.download.good_pieces += u32::from(origin(conn.link.addr) == giver);
            }
        }
        for verdict in evidence.verdicts() {
            match verdict {
                Verdict::Proven(giver, strikes) => self.charge(giver, strikes),
                Verdict::Acquitted(giver, strikes) => self.swarm.bans.acquit(giver, strikes),
            }
        }
    }

    fn charge(&mut self, giver: u64, strikes: u8) {
        if self.swarm.bans.charge(self.now, giver, strikes) {
            self.expel(giver);
        }
    }

    /// Closes the connections of a banned origin.
    fn expel(&mut self, giver: u64) {
        for slot in 0..self.peers.len() {
            if self.peers[slot].is_live() && origin(self.peers[slot].link.addr) == giver {
                self.close(slot, Reason::BadPieces);
            }
        }
    }

    /// All that is wanted is here.
    pub(crate) fn finished(&mut self, id: TorrentId) {
        for slot in 0..self.peers.len() {
            if self.peers[slot].link.torrent != Some(id) {
                continue;
            }
            self.with_download(|d, cx| d.drop_all_pending(cx, slot, false));
            self.with_download(|d, cx| d.forget_bits(cx, slot));
            self.with_download(|d, cx| d.review(cx, slot));
            if self.peers[slot].is_open()
                && let Err(reason) = self.both_seeds(slot)
            {
                self.close(slot, reason);
            }
        }
        // What is in progress is not wanted any more.
        self.with_download(|d, cx| d.forget_partials(cx, id));
        let Some(torrent) = self.torrents.get_mut(id) else {
            return;
        };
        torrent.endgame = false;
        torrent.counts = crate::memory::ranges::LentRange::EMPTY;
        torrent.begun = torrent::Bits::None;
        if torrent.have == torrent::Bits::All {
            self.discovery.announcer.completed(self.now, id);
        }
    }
}
