//! The outcome of a verified piece: peers are told, senders of bad blocks are banned, a download ends.

use everseed_core::geometry::{PieceIndex, TorrentId};

use crate::broken::broken;
use crate::download::evidence::{Evidence, Verdict};
use crate::download::pieces_in_progress;
use crate::parts::Parts;
use crate::peer::Reason;
use crate::peer::origin;
use crate::swarm::Swarm;
use crate::swarm::bans::BANNED_AT;
use crate::torrent;
use crate::wake::Wake;

impl Swarm<'_> {
    /// The host verified a piece that was being downloaded. False if this piece was not being downloaded.
    pub(crate) fn downloaded_piece(
        &mut self,
        on: &mut Parts<'_>,
        id: TorrentId,
        piece: PieceIndex,
        good: bool,
    ) -> bool {
        let Some(slot) = on.download.in_progress.find(id, piece) else {
            return false;
        };
        if on.download.in_progress.get(slot).map(|p| p.state)
            != Some(pieces_in_progress::PieceState::Verifying)
        {
            return false;
        }
        if !good {
            self.bad_piece(on, id, slot);
            return true;
        }
        let evidence = on
            .download
            .in_progress
            .get(slot)
            .map(|partial| partial.evidence);
        on.download.end_partial(&mut on.cx, slot);
        if let Some(evidence) = evidence {
            self.weigh_evidence(on, &evidence);
        }
        if on.cx.torrents.get(id).is_some_and(|t| t.lacks_metadata()) {
            on.cx.torrents.fetched(id);
            on.cx.wakes.add(Wake::TellFetched);
            return true;
        }
        // It may be had already, by a late answer, and not be wanted any more.
        let lacked = on.cx.torrents.get(id).is_some_and(|t| {
            on.cx.torrents.contains(t.wanted, piece) && !on.cx.torrents.contains(t.have, piece)
        });
        if !on.cx.torrents.verified(id, piece, true) {
            log::warn!("no memory to note that piece {} is here", piece.get());
            self.suspend(on, id);
            return true;
        }
        self.tell_have(on, id, piece);
        if let Some(torrent) = on.cx.torrents.get_mut(id).filter(|_| lacked) {
            torrent.missing = torrent.missing.saturating_sub(1);
            if torrent.missing == 0 {
                self.download_finished(on, id);
            }
        }
        true
    }

    /// The peers of a torrent are told of a piece (BEP 3, have).
    pub(crate) fn tell_have(&mut self, on: &mut Parts<'_>, id: TorrentId, piece: PieceIndex) {
        self.have_log.add(id, piece.get());
        for slot in 0..on.cx.peers.len() {
            if on.cx.peers[slot].link.torrent == Some(id) && on.cx.peers[slot].is_open() {
                on.cx.peers.make_ready(slot);
            }
        }
    }

    /// A piece is bad: if one origin sent all of it, that is charged. The piece is fetched again, from one peer.
    fn bad_piece(&mut self, on: &mut Parts<'_>, id: TorrentId, slot: u16) {
        let Some(partial) = on.download.in_progress.get(slot) else {
            return broken("a piece in progress that is bad");
        };
        log::debug!("piece {} is bad", partial.piece);
        if let Some(torrent) = on.cx.torrents.get_mut(id) {
            torrent.bad_pieces = torrent.bad_pieces.saturating_add(1);
        }
        let metadata = on.cx.torrents.get(id).is_some_and(|t| t.lacks_metadata());
        if let Some((giver, strikes)) = on.download.in_progress.restart(slot) {
            // All of it came from there, and there is much that others could do meanwhile.
            let strikes = if metadata { BANNED_AT } else { strikes };
            self.charge(on, giver, strikes);
        }
        on.cx.wakes.add(Wake::Request);
    }

    /// A piece is good: its senders get credit, and the senders of earlier bad copies are charged or acquitted.
    fn weigh_evidence(&mut self, on: &mut Parts<'_>, evidence: &Evidence) {
        for giver in evidence.sources() {
            self.bans.credit(giver);
            for conn in on.cx.peers.iter_mut().filter(|conn| conn.is_open()) {
                conn.download.good_pieces += u32::from(origin(conn.link.addr) == giver);
            }
        }
        for verdict in evidence.verdicts() {
            match verdict {
                Verdict::Proven(giver, strikes) => self.charge(on, giver, strikes),
                Verdict::Acquitted(giver, strikes) => self.bans.acquit(giver, strikes),
            }
        }
    }

    fn charge(&mut self, on: &mut Parts<'_>, giver: u64, strikes: u8) {
        if self.bans.charge(on.cx.now, giver, strikes) {
            self.expel(on, giver);
        }
    }

    /// Closes the connections of a banned origin.
    fn expel(&mut self, on: &mut Parts<'_>, giver: u64) {
        for slot in 0..on.cx.peers.len() {
            if on.cx.peers[slot].is_live() && origin(on.cx.peers[slot].link.addr) == giver {
                self.close(on, slot, Reason::BadPieces);
            }
        }
    }

    /// A download has all that is wanted.
    pub(crate) fn download_finished(&mut self, on: &mut Parts<'_>, id: TorrentId) {
        for slot in 0..on.cx.peers.len() {
            if on.cx.peers[slot].link.torrent != Some(id) {
                continue;
            }
            on.download.drop_all_pending(&mut on.cx, slot, false);
            on.download.availability.forget_bits(&mut on.cx, slot);
            on.download.update_interest(&mut on.cx, slot);
            if on.cx.peers[slot].is_open()
                && let Err(reason) = self.both_seeds(on, slot)
            {
                self.close(on, slot, reason);
            }
        }
        // What is in progress is not wanted any more.
        on.download.forget_partials(&mut on.cx, id);
        let Some(torrent) = on.cx.torrents.get_mut(id) else {
            return broken("a torrent whose download ends");
        };
        torrent.endgame = false;
        torrent.counts = crate::memory::ranges::LentRange::EMPTY;
        torrent.begun = torrent::Bits::None;
        if torrent.have == torrent::Bits::All {
            on.discovery.announcer.completed(on.cx.now, id);
        }
    }
}
