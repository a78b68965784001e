//! What the host tells about a torrent's storage.

use core::ops::Range;

use everseed_core::geometry::{PieceIndex, TorrentId};
use everseed_core::time::Instant;

use crate::Node;
use crate::api::Action;
use crate::download::pending_blocks::{PendingBlock, State};
use crate::download::pieces_in_progress;
use crate::memory::ids::NONE;
use crate::peer::Reason;
use crate::torrent;
use crate::torrent::{Bits, Have};
use crate::torrent_has_no_counts;

impl Node<'_> {
    pub(crate) fn verified(&mut self, now: Instant, id: TorrentId, piece: PieceIndex, good: bool) {
        if !self.downloaded_piece(id, piece, good) {
            self.found(now, id, piece, good);
        }
    }

    /// A piece that was there before is good or is not.
    fn found(&mut self, _now: Instant, id: TorrentId, piece: PieceIndex, good: bool) {
        self.torrents.to_recheck = true;
        let Some(torrent) = self.torrents.get_mut(id) else {
            return;
        };
        if torrent.verifying == Some(piece) {
            torrent.verifying = None;
        }
        let (downloads, had) = (torrent.is_active_download(), torrent.have);
        let had = self.torrents.contains(had, piece);
        if !self.torrents.verified(id, piece, good) {
            log::warn!(
                "no memory to note whether piece {} is good: serving stops",
                piece.get()
            );
            self.unreadable(id);
            return;
        }
        // A host may answer late about what it was asked before a restore.
        if good != had {
            if good {
                self.tell_have(id, piece);
            }
            self.count_missing(id);
            if downloads && self.torrents.get(id).is_some_and(|t| t.missing == 0) {
                self.finished(id);
            }
        }
        for slot in 0..self.peers.len() {
            if self.peers[slot].link.torrent != Some(id) || !self.peers[slot].is_open() {
                continue;
            }
            if !good && self.peers[slot].link.outbox.is_sending(piece) {
                // The rest of a block cannot be taken back.
                self.close(slot, Reason::MissingPiece);
            } else if !good && self.peers[slot].link.features.fast {
                self.upload
                    .queue
                    .reject_piece(&self.peers[slot].upload.requests, piece.get());
            } else if !good && self.peers[slot].upload.awaits_verify == Some(piece) {
                self.close(slot, Reason::MissingPiece);
            }
            self.peers.make_ready(slot);
        }
    }

    /// A piece cannot be read.
    pub(crate) fn unread(&mut self, now: Instant, id: TorrentId, piece: PieceIndex) {
        let verifying = |p: &pieces_in_progress::PieceInProgress| {
            p.state == pieces_in_progress::State::Verifying
        };
        if let Some(slot) = self.download.in_progress.find(id, piece)
            && self.download.in_progress.get(slot).is_some_and(verifying)
        {
            self.with_download(|d, cx| d.end_partial(cx, slot));
        }
        self.leave_out(id, piece.get()..piece.get() + 1);
        self.found(now, id, piece, false);
    }

    /// These pieces of a download are not asked for any more, and what is in progress of them is given
    /// up.
    pub(crate) fn leave_out(&mut self, id: TorrentId, pieces: Range<u32>) {
        let Some(torrent) = self.torrents.get(id).filter(|t| t.downloads) else {
            return;
        };
        let Some(geometry) = torrent.geometry else {
            return;
        };
        for index in pieces.start..pieces.end.min(geometry.pieces()) {
            let Some(piece) = geometry.piece(index) else {
                continue;
            };
            if let Some(partial) = self.download.in_progress.find(id, piece) {
                self.give_up(partial);
            }
            if !self.torrents.leave_out(id, piece) {
                log::warn!("no memory to note that piece {index} is left out: serving stops");
                self.unreadable(id);
                break;
            }
        }
        let missing = self.torrents.get(id).map(|t| self.torrents.missing(t).0);
        if let (Some(torrent), Some(missing)) = (self.torrents.get_mut(id), missing) {
            (torrent.missing, torrent.narrowed) = (missing, true);
        }
        self.torrents.left_out = true;
        self.download.request_all = true;
    }

    /// Forgets a piece in progress, and the blocks of it that are on their way.
    fn give_up(&mut self, partial: u16) {
        for at in 0..self.download.pending.len() {
            let Ok(at) = u16::try_from(at) else { break };
            let its = |f: &PendingBlock| f.partial == partial;
            let Some(pending) = self.download.pending.get(at).copied().filter(its) else {
                continue;
            };
            match pending.state {
                State::Free | State::Dropped => {}
                State::Write => {
                    self.download.pending.unlink(&mut self.download.writes, at);
                    self.with_download(|d, cx| d.free_pending(cx, at, pending));
                }
                State::Writing => {
                    if let Some(pending) = self.download.pending.get_mut(at) {
                        (pending.state, pending.partial) = (State::Dropped, NONE);
                    }
                }
                _ => {
                    self.with_download(|d, cx| d.cancel_pending(cx, usize::from(pending.conn), at))
                }
            }
        }
        self.with_download(|d, cx| d.end_partial(cx, partial));
    }

    /// Ends the downloads that lack nothing any more as something was left out.
    pub(crate) fn finish_narrowed(&mut self, _now: Instant) {
        let done = |t: &&torrent::Torrent| t.downloads && t.missing == 0 && t.begun != Bits::None;
        loop {
            let next = self.torrents.all().find(done).map(|t| t.id());
            let Some(id) = next else { return };
            self.finished(id);
        }
    }

    /// Somebody changed a torrent's storage.
    pub(crate) fn changed(&mut self, id: TorrentId, have: Have<'_>) {
        if !self.torrents.doubt(id, have) {
            log::warn!("no memory to note which pieces are gone: serving stops");
            return self.unreadable(id);
        }
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.verifying = None;
        }
        self.download.in_progress.verify_again(id);
        self.download.to_verify = true;
        self.count_missing(id);
        self.recheck(id);
        // Who waits for a piece has it verified.
        for slot in 0..self.peers.len() {
            if self.peers[slot].link.torrent == Some(id) && self.peers[slot].is_open() {
                self.peers.make_ready(slot);
            }
        }
    }

    /// What is not good is verified, whether somebody waits for it or not.
    pub(crate) fn recheck(&mut self, id: TorrentId) {
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.recheck = Some(0);
            self.torrents.to_recheck = true;
        }
    }

    /// The piece to verify next that nobody waits for.
    pub(crate) fn doubt_action(&mut self) -> Option<Action> {
        if let Some((torrent, piece)) = self.upload.suspect
            && let Some(entry) = self.torrents.get_mut(torrent)
            && entry.verifying.is_none()
        {
            entry.verifying = Some(piece);
            self.upload.suspect = None;
            return Some(Action::Verify {
                torrent,
                piece,
                fresh: true,
            });
        }
        while self.torrents.to_recheck {
            let due = |t: &&torrent::Torrent| {
                t.state == torrent::State::Active && t.recheck.is_some() && t.verifying.is_none()
            };
            let next = self.torrents.all().find(due).map(|t| t.id());
            let Some(id) = next else { break };
            if let Some(piece) = self.torrents.next_recheck(id)
                && let Some(entry) = self.torrents.get_mut(id)
            {
                entry.verifying = Some(piece);
                return Some(Action::Verify {
                    torrent: id,
                    piece,
                    fresh: false,
                });
            }
        }
        self.torrents.to_recheck = false;
        None
    }

    pub(crate) fn unreadable(&mut self, id: TorrentId) {
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.state = torrent::State::Suspended;
            torrent.verifying = None;
            self.close_all(id, Reason::TorrentGone);
            self.download.in_progress.verify_again(id);
            self.download.to_verify = true;
        }
    }

    /// What a download lacks may have changed.
    pub(crate) fn count_missing(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get(id).filter(|t| t.downloads) else {
            return;
        };
        let (had, (missing, _)) = (torrent.missing, self.torrents.missing(torrent));
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.missing = missing;
        }
        if had == 0 && missing > 0 {
            // What the peers have is known from the next connections on.
            self.close_all(id, Reason::TorrentGone);
            // One that was complete from the start has its counts still.
            let counts = !torrent_has_no_counts(&self.torrents, id)
                || self.with_download(|d, cx| d.reserve_counts(cx, id));
            if !(counts && self.torrents.reserve_begun(id)) {
                log::warn!("no memory to download what is missing of {:?}", id);
                if let Some(torrent) = self.torrents.get_mut(id) {
                    torrent.missing = 0;
                }
            }
        }
    }

    pub(crate) fn restored(&mut self, id: TorrentId, have: Have<'_>) {
        if self.torrents.get(id).is_none() {
            return;
        }
        self.close_all(id, Reason::TorrentGone);
        self.with_download(|d, cx| d.forget_partials(cx, id));
        let enough = self.torrents.set_have(id, have).is_ok();
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.verifying = None;
            torrent.state = if enough {
                torrent::State::Active
            } else {
                torrent::State::Suspended
            };
        }
        self.count_missing(id);
    }
}
