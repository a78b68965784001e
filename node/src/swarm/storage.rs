//! Events of the host about a torrent's storage.

use core::ops::Range;

use everseed_core::geometry::{PieceIndex, TorrentId};

use crate::api::Action;
use crate::api::{Have, StorageError};
use crate::download::pieces_in_progress;
use crate::parts::Parts;
use crate::peer::Reason;
use crate::swarm::Swarm;
use crate::torrent;
use crate::torrent::Bits;
use crate::wake::Wake;

impl Swarm<'_> {
    /// The host verified a piece.
    pub(crate) fn verified(
        &mut self,
        on: &mut Parts<'_>,
        id: TorrentId,
        piece: PieceIndex,
        good: bool,
    ) {
        if !self.downloaded_piece(on, id, piece, good) {
            self.rechecked(on, id, piece, good);
        }
    }

    /// The host verified a piece that was in storage before.
    fn rechecked(&mut self, on: &mut Parts<'_>, id: TorrentId, piece: PieceIndex, good: bool) {
        on.cx.wakes.add(Wake::Recheck);
        let Some(torrent) = on.cx.torrents.get_mut(id) else {
            return;
        };
        if torrent.verifying == Some(piece) {
            torrent.verifying = None;
        }
        let (downloads, had) = (torrent.is_active_download(), torrent.have);
        let had = on.cx.torrents.contains(had, piece);
        if !on.cx.torrents.verified(id, piece, good) {
            log::warn!(
                "no memory to note whether piece {} is good: serving stops",
                piece.get()
            );
            self.suspend(on, id);
            return;
        }
        // A host may answer late about what it was asked before a restore.
        if good != had {
            if good {
                self.tell_have(on, id, piece);
            }
            self.count_missing(on, id);
            if downloads && on.cx.torrents.get(id).is_some_and(|t| t.missing == 0) {
                self.download_finished(on, id);
            }
        }
        for slot in 0..on.cx.peers.len() {
            if on.cx.peers[slot].link.torrent != Some(id) || !on.cx.peers[slot].is_open() {
                continue;
            }
            if !good && on.cx.peers[slot].link.outbox.is_sending(piece) {
                // The rest of a block cannot be taken back.
                self.close(on, slot, Reason::MissingPiece);
            } else if !good && on.cx.peers[slot].link.features.fast {
                on.upload
                    .queue
                    .reject_piece(&on.cx.peers[slot].upload.requests, piece.get());
            } else if !good && on.cx.peers[slot].upload.awaits_verify == Some(piece) {
                self.close(on, slot, Reason::MissingPiece);
            }
            on.cx.peers.make_ready(slot);
        }
    }

    /// The host cannot read a piece.
    pub(crate) fn piece_unreadable(
        &mut self,
        on: &mut Parts<'_>,
        id: TorrentId,
        piece: PieceIndex,
    ) {
        if let Some(torrent) = on.cx.torrents.get_mut(id).filter(|t| t.lacks_metadata()) {
            // It is fetched again when the host says that its storage can be used.
            torrent.refused = Some(StorageError::Failed);
            return on.download.forget_partials(&mut on.cx, id);
        }
        let verifying = |p: &pieces_in_progress::PieceInProgress| {
            p.state == pieces_in_progress::PieceState::Verifying
        };
        if let Some(slot) = on.download.in_progress.find(id, piece)
            && on.download.in_progress.get(slot).is_some_and(verifying)
        {
            on.download.end_partial(&mut on.cx, slot);
        }
        self.leave_out(on, id, piece.get()..piece.get() + 1);
        self.rechecked(on, id, piece, false);
    }

    /// These pieces of a download are not requested any more, and those in progress are given up.
    pub(crate) fn leave_out(&mut self, on: &mut Parts<'_>, id: TorrentId, pieces: Range<u32>) {
        let Some(torrent) = on.cx.torrents.get(id).filter(|t| t.downloads) else {
            return;
        };
        let Some(geometry) = torrent.geometry else {
            return;
        };
        for index in pieces.start..pieces.end.min(geometry.pieces()) {
            let Some(piece) = geometry.piece(index) else {
                continue;
            };
            if let Some(partial) = on.download.in_progress.find(id, piece) {
                on.download.give_up(&mut on.cx, partial);
            }
            if !on.cx.torrents.leave_out(id, piece) {
                log::warn!("no memory to note that piece {index} is left out: serving stops");
                self.suspend(on, id);
                break;
            }
        }
        let missing = on.cx.torrents.get(id).map(|t| on.cx.torrents.missing(t).0);
        if let (Some(torrent), Some(missing)) = (on.cx.torrents.get_mut(id), missing) {
            (torrent.missing, torrent.narrowed) = (missing, true);
        }
        on.cx.wakes.add(Wake::EndDownloads);
        on.cx.wakes.add(Wake::Request);
    }

    /// Ends the downloads that lack nothing any more, as pieces were left out.
    pub(crate) fn finish_narrowed(&mut self, on: &mut Parts<'_>) {
        let done = |t: &&torrent::Torrent| t.downloads && t.missing == 0 && t.begun != Bits::None;
        loop {
            let next = on.cx.torrents.all().find(done).map(|t| t.id());
            let Some(id) = next else { return };
            self.download_finished(on, id);
        }
    }

    /// A torrent's files were changed from outside: `have` is what may still be there.
    pub(crate) fn storage_changed(&mut self, on: &mut Parts<'_>, id: TorrentId, have: Have<'_>) {
        if !on.cx.torrents.doubt(id, have) {
            log::warn!("no memory to note which pieces are gone: serving stops");
            return self.suspend(on, id);
        }
        if let Some(torrent) = on.cx.torrents.get_mut(id) {
            torrent.verifying = None;
        }
        on.download.in_progress.verify_again(id);
        on.cx.wakes.add(Wake::Verify);
        self.count_missing(on, id);
        self.recheck(on, id);
        // Who waits for a piece has it verified.
        for slot in 0..on.cx.peers.len() {
            if on.cx.peers[slot].link.torrent == Some(id) && on.cx.peers[slot].is_open() {
                on.cx.peers.make_ready(slot);
            }
        }
    }

    /// Every piece that is not known to be good is verified.
    pub(crate) fn recheck(&mut self, on: &mut Parts<'_>, id: TorrentId) {
        if let Some(torrent) = on.cx.torrents.get_mut(id) {
            torrent.recheck = Some(0);
            on.cx.wakes.add(Wake::Recheck);
        }
    }

    /// The next piece to verify for which no peer waits: a suspected one, then those to recheck.
    pub(crate) fn doubt_action(&mut self, on: &mut Parts<'_>) -> Option<Action> {
        if let Some((torrent, piece)) = on.upload.suspect
            && let Some(entry) = on.cx.torrents.get_mut(torrent)
            && entry.verifying.is_none()
        {
            entry.verifying = Some(piece);
            on.upload.suspect = None;
            return Some(Action::Verify {
                torrent,
                piece,
                fresh: true,
            });
        }
        while on.cx.wakes.has(Wake::Recheck) {
            let due = |t: &&torrent::Torrent| {
                t.state == torrent::TorrentState::Active
                    && t.recheck.is_some()
                    && t.verifying.is_none()
            };
            let next = on.cx.torrents.all().find(due).map(|t| t.id());
            let Some(id) = next else { break };
            if let Some(piece) = on.cx.torrents.next_recheck(id)
                && let Some(entry) = on.cx.torrents.get_mut(id)
            {
                entry.verifying = Some(piece);
                return Some(Action::Verify {
                    torrent: id,
                    piece,
                    fresh: false,
                });
            }
        }
        on.cx.wakes.take(Wake::Recheck);
        None
    }

    /// Serves and downloads a torrent no more, until the host restores it.
    pub(crate) fn suspend(&mut self, on: &mut Parts<'_>, id: TorrentId) {
        if let Some(torrent) = on.cx.torrents.get_mut(id) {
            torrent.state = torrent::TorrentState::Suspended;
            torrent.verifying = None;
            self.close_all(on, id, Reason::TorrentGone);
            on.download.in_progress.verify_again(id);
            on.cx.wakes.add(Wake::Verify);
        }
    }

    /// Counts the pieces that a download lacks, which may have changed.
    pub(crate) fn count_missing(&mut self, on: &mut Parts<'_>, id: TorrentId) {
        let Some(torrent) = on.cx.torrents.get(id).filter(|t| t.downloads) else {
            return;
        };
        let (had, (missing, _)) = (torrent.missing, on.cx.torrents.missing(torrent));
        if let Some(torrent) = on.cx.torrents.get_mut(id) {
            torrent.missing = missing;
        }
        if had == 0 && missing > 0 {
            // What the peers have is known from the next connections on.
            self.close_all(on, id, Reason::TorrentGone);
            // One that was complete from the start has its counts still.
            let counts = !on.cx.torrents.has_no_counts(id)
                || on.download.availability.reserve_counts(&mut on.cx, id);
            if !(counts && on.cx.torrents.reserve_begun(id)) {
                log::warn!("no memory to download what is missing of {:?}", id);
                if let Some(torrent) = on.cx.torrents.get_mut(id) {
                    torrent.missing = 0;
                }
            }
        }
    }

    /// A torrent's storage can be used again: `have` is what is there.
    pub(crate) fn storage_restored(&mut self, on: &mut Parts<'_>, id: TorrentId, have: Have<'_>) {
        if on.cx.torrents.get(id).is_none() {
            return;
        }
        self.close_all(on, id, Reason::TorrentGone);
        on.download.forget_partials(&mut on.cx, id);
        let enough = on.cx.torrents.set_have(id, have).is_ok();
        if let Some(torrent) = on.cx.torrents.get_mut(id) {
            torrent.verifying = None;
            torrent.state = if enough {
                torrent::TorrentState::Active
            } else {
                torrent::TorrentState::Suspended
            };
        }
        self.count_missing(on, id);
    }
}

#[cfg(test)]
mod tests {
    use everseed_core::geometry::BLOCK;

    use super::*;
    use crate::parts::small::{first_block, parts, peer, piece};
    use crate::peer::LinkState;
    use crate::peer::outbox::Out;
    use crate::swarm::tests::swarm;
    use crate::torrent::TorrentState;
    use crate::upload::request_queue::ReplyKind;

    #[test]
    fn what_a_verified_piece_changes() {
        // Whether the piece was here, whether it is good now: pieces that are missing then, and whether peers are told.
        for (had, good, missing, told) in [
            (false, false, 8, false),
            (false, true, 7, true),
            (true, true, 7, false),
            (true, false, 8, false),
        ] {
            let (mut parts, id) = parts(Have::Nothing);
            let mut swarm = swarm();
            if had {
                parts.cx.torrents.verified(id, piece(3), true);
                swarm.count_missing(&mut parts, id);
            }
            let torrent = parts.cx.torrents.get_mut(id).unwrap();
            torrent.verifying = Some(piece(3));
            swarm.verified(&mut parts, id, piece(3), good);
            let torrent = parts.cx.torrents.get(id).unwrap();
            assert_eq!((torrent.missing, torrent.verifying), (missing, None));
            let has = parts.cx.torrents.contains(torrent.have, piece(3));
            assert_eq!(has, good, "{had} {good}");
            let is_told = swarm.have_log.next(id, 0).is_some();
            assert_eq!(is_told, told, "{had} {good}");
        }
    }

    #[test]
    fn who_waits_for_a_piece_that_is_bad() {
        type Change = fn(&mut crate::peer::Conn);
        let gone = LinkState::Closing(Reason::MissingPiece);
        let cases: [(&str, bool, Change, LinkState); 4] = [
            ("nothing", false, |_| (), LinkState::Open),
            (
                "it waits, without Fast",
                false,
                |conn| conn.upload.awaits_verify = Some(piece(3)),
                gone,
            ),
            (
                "it waits, with Fast",
                true,
                |conn| conn.upload.awaits_verify = Some(piece(3)),
                LinkState::Open,
            ),
            (
                "a block is half sent",
                true,
                |conn| conn.link.outbox.current = Some(Out::Piece(first_block(3))),
                gone,
            ),
        ];
        for (name, fast, change, state) in cases {
            let (mut parts, id) = parts(Have::All);
            let slot = peer(&mut parts.cx, id, fast);
            let conn = &mut parts.cx.peers[slot];
            change(conn);
            let list = &mut conn.upload.requests;
            parts
                .upload
                .queue
                .push(list, first_block(3), ReplyKind::Piece);
            swarm().verified(&mut parts, id, piece(3), false);
            let conn = &parts.cx.peers[slot];
            assert_eq!(conn.link.state, state, "{name}");
            if state == LinkState::Open {
                let kind = parts.upload.queue.at(conn.upload.requests.front());
                let kind = kind.map(|(_, kind, _)| kind);
                let rejected = kind == Some(ReplyKind::Reject);
                assert_eq!(rejected, fast, "{name}");
            }
        }
    }

    #[test]
    fn pieces_that_cannot_be_written_are_left_out() {
        for (pieces, missing) in [(2..4, 6), (7..90, 7), (0..8, 0), (3..3, 8)] {
            let (mut parts, id) = parts(Have::Nothing);
            let first = parts.download.in_progress.begin(id, 2, 2 * BLOCK, false);
            assert!(first.is_some());
            let range = pieces.clone();
            swarm().leave_out(&mut parts, id, range);
            let torrent = parts.cx.torrents.get(id).unwrap();
            assert_eq!((torrent.missing, torrent.narrowed), (missing, true));
            let begun = parts.download.in_progress.find(id, piece(2)).is_some();
            assert_eq!(begun, !pieces.contains(&2), "{pieces:?}");
            assert!(parts.cx.wakes.has(Wake::EndDownloads) && parts.cx.wakes.has(Wake::Request));
        }
    }

    #[test]
    fn a_download_that_lacks_only_what_is_left_out_ends() {
        let (mut parts, id) = parts(Have::Nothing);
        let mut swarm = swarm();
        let slot = peer(&mut parts.cx, id, true);
        parts.cx.peers[slot].download.interested = true;
        swarm.finish_narrowed(&mut parts);
        assert!(parts.cx.peers[slot].download.interested, "all is missing");
        swarm.leave_out(&mut parts, id, 0..8);
        swarm.finish_narrowed(&mut parts);
        assert!(!parts.cx.peers[slot].download.interested);
    }

    #[test]
    fn a_suspected_piece_is_verified_first_and_one_at_a_time() {
        let (mut parts, id) = parts(Have::Some(&[0b0111_1111]));
        let mut swarm = swarm();
        parts.upload.suspect = Some((id, piece(5)));
        swarm.recheck(&mut parts, id);
        let verify = |piece, fresh| Action::Verify {
            torrent: id,
            piece,
            fresh,
        };
        let first = swarm.doubt_action(&mut parts);
        assert_eq!(first, Some(verify(piece(5), true)));
        assert_eq!(swarm.doubt_action(&mut parts), None, "one at a time");
        swarm.verified(&mut parts, id, piece(5), true);
        let then = swarm.doubt_action(&mut parts);
        assert_eq!(then, Some(verify(piece(0), false)), "it is not good");
        swarm.verified(&mut parts, id, piece(0), false);
        assert_eq!(swarm.doubt_action(&mut parts), None, "all others are good");
    }

    #[test]
    fn a_suspended_torrent_serves_nobody_until_it_is_restored() {
        let (mut parts, id) = parts(Have::All);
        let mut swarm = swarm();
        let slot = peer(&mut parts.cx, id, true);
        swarm.suspend(&mut parts, id);
        let state = |parts: &Parts<'_>| parts.cx.torrents.get(id).unwrap().state;
        assert_eq!(state(&parts), TorrentState::Suspended);
        let gone = LinkState::Closing(Reason::TorrentGone);
        assert_eq!(parts.cx.peers[slot].link.state, gone);
        swarm.storage_restored(&mut parts, id, Have::Some(&[0x80]));
        assert_eq!(state(&parts), TorrentState::Active);
        let torrent = parts.cx.torrents.get(id).unwrap();
        let has = [0, 1].map(|n| parts.cx.torrents.contains(torrent.have, piece(n)));
        assert_eq!(has, [true, false]);
    }

    #[test]
    fn a_torrent_whose_files_changed_is_verified_again() {
        let (mut parts, id) = parts(Have::All);
        let mut swarm = swarm();
        let good = |parts: &Parts<'_>| {
            let torrent = parts.cx.torrents.get(id).unwrap();
            [0, 7].map(|n| parts.cx.torrents.contains(torrent.good, piece(n)))
        };
        assert_eq!(good(&parts), [true; 2]);
        swarm.storage_changed(&mut parts, id, Have::Some(&[0xfe]));
        assert_eq!(good(&parts), [false; 2]);
        let torrent = parts.cx.torrents.get(id).unwrap();
        let has = [0, 7].map(|n| parts.cx.torrents.contains(torrent.have, piece(n)));
        assert_eq!(has, [true, false], "what is gone is not told of");
        let action = swarm.doubt_action(&mut parts);
        assert!(matches!(action, Some(Action::Verify { piece: p, .. }) if p == piece(0)));
    }
}
