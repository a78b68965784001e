//! What follows from a piece that the host verified: peers are told, senders of bad blocks are banned, downloads end.

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

#[cfg(test)]
mod tests {
    use everseed_core::geometry::BLOCK;
    use everseed_core::sums::Sum;

    use super::*;
    use crate::api::Have;
    use crate::download::pieces_in_progress::PieceState;
    use crate::parts::small::{parts, peer, piece};
    use crate::peer::LinkState;
    use crate::swarm::tests::swarm;

    /// A piece whose two blocks came from an origin, in this state.
    fn in_progress(
        parts: &mut Parts<'static>,
        id: TorrentId,
        index: u32,
        origin: u64,
        state: PieceState,
    ) -> u16 {
        let Parts { cx, download, .. } = parts;
        let pieces = &mut download.in_progress;
        let slot = pieces.begin(id, index, 2 * BLOCK, true).unwrap();
        cx.torrents.set_begun(id, piece(index), true);
        for block in 0..2 {
            assert_eq!(pieces.take_open(slot), Some(block));
            pieces.block_received(slot, block, origin, || Sum::NONE);
            pieces.block_written(slot, block);
        }
        pieces.get_mut(slot).unwrap().state = state;
        slot
    }

    #[test]
    fn only_a_piece_that_is_being_verified_was_downloaded() {
        for (state, taken) in [
            (None, false),
            (Some(PieceState::Fetching), false),
            (Some(PieceState::Written), false),
            (Some(PieceState::Verifying), true),
        ] {
            let (mut parts, id) = parts(Have::Nothing);
            if let Some(state) = state {
                in_progress(&mut parts, id, 3, 1, state);
            }
            let was = swarm().downloaded_piece(&mut parts, id, piece(3), true);
            assert_eq!(was, taken, "{state:?}");
            let torrent = parts.cx.torrents.get(id).unwrap();
            assert_eq!(torrent.missing, 8 - u32::from(taken), "{state:?}");
            let has = parts.cx.torrents.contains(torrent.have, piece(3));
            assert_eq!(has, taken, "{state:?}");
        }
    }

    #[test]
    fn peers_are_told_of_a_good_piece() {
        let (mut parts, id) = parts(Have::Nothing);
        let mut swarm = swarm();
        let open = peer(&mut parts.cx, id, true);
        let greeting = peer(&mut parts.cx, id, true);
        parts.cx.peers.set_state(greeting, LinkState::Greeting);
        while parts.cx.peers.next_ready().is_some() {}
        in_progress(&mut parts, id, 3, 1, PieceState::Verifying);
        assert!(swarm.downloaded_piece(&mut parts, id, piece(3), true));
        assert_eq!(swarm.have_log.next(id, 0).map(|(_, piece)| piece), Some(3));
        assert_eq!(parts.cx.peers.next_ready(), Some(open));
        assert_eq!(
            parts.cx.peers.next_ready(),
            None,
            "it is told at its greeting"
        );
    }

    #[test]
    fn whoever_shared_in_a_good_piece_gets_credit() {
        let (mut parts, id) = parts(Have::Nothing);
        let (giver, other) = (peer(&mut parts.cx, id, true), peer(&mut parts.cx, id, true));
        let from = origin(parts.cx.peers[giver].link.addr);
        in_progress(&mut parts, id, 3, from, PieceState::Verifying);
        swarm().downloaded_piece(&mut parts, id, piece(3), true);
        let good = [giver, other].map(|slot| parts.cx.peers[slot].download.good_pieces);
        assert_eq!(good, [1, 0]);
    }

    #[test]
    fn whoever_sent_all_of_bad_pieces_is_banned() {
        // The number of pieces, and whether each came from one origin: is it closed, and banned.
        for (count, from_one, banned) in [(1, true, false), (2, true, true), (2, false, false)] {
            let (mut parts, id) = parts(Have::Nothing);
            let mut swarm = swarm();
            let giver = peer(&mut parts.cx, id, true);
            let from = origin(parts.cx.peers[giver].link.addr);
            for index in 0..count {
                let slot = in_progress(&mut parts, id, index, from, PieceState::Verifying);
                if !from_one {
                    let pieces = &mut parts.download.in_progress;
                    pieces.block_received(slot, 1, from + 1, || Sum::NONE);
                }
                assert!(swarm.downloaded_piece(&mut parts, id, piece(index), false));
                // It is fetched again, from one peer.
                let partial = parts.download.in_progress.get(slot).unwrap();
                assert_eq!((partial.state, partial.open), (PieceState::Fetching, 2));
                assert!(partial.evidence.alone && parts.cx.wakes.take(Wake::Request));
            }
            let torrent = parts.cx.torrents.get(id).unwrap();
            assert_eq!((torrent.bad_pieces, torrent.missing), (count, 8));
            assert_eq!(swarm.bans.is_banned(parts.cx.now, from), banned, "{count}");
            let closing = LinkState::Closing(Reason::BadPieces);
            let is_closing = parts.cx.peers[giver].link.state == closing;
            assert_eq!(is_closing, banned, "{count} {from_one}");
        }
    }

    #[test]
    fn the_last_piece_ends_the_download() {
        let (mut parts, id) = parts(Have::Nothing);
        let mut swarm = swarm();
        let (seed, leecher) = (peer(&mut parts.cx, id, true), peer(&mut parts.cx, id, true));
        for (slot, count) in [(seed, 8), (leecher, 7)] {
            let conn = &mut parts.cx.peers[slot];
            (conn.download.have_count, conn.download.interested) = (count, true);
        }
        for index in 0..7 {
            assert!(parts.cx.torrents.verified(id, piece(index), true));
        }
        parts.cx.torrents.get_mut(id).unwrap().missing = 1;
        in_progress(&mut parts, id, 7, 1, PieceState::Verifying);
        in_progress(&mut parts, id, 0, 1, PieceState::Fetching);
        assert!(swarm.downloaded_piece(&mut parts, id, piece(7), true));
        let torrent = parts.cx.torrents.get(id).unwrap();
        assert_eq!((torrent.missing, torrent.have), (0, torrent::Bits::All));
        assert!(parts.download.in_progress.of(id).next().is_none());
        let states = [seed, leecher].map(|slot| parts.cx.peers[slot].link.state);
        let parted = LinkState::Closing(Reason::BothSeeds);
        assert_eq!(states, [parted, LinkState::Open]);
        assert!(!parts.cx.peers[leecher].download.interested);
    }
}
