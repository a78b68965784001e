//! What the host tells about a torrent's storage.

use everseed_core::geometry::{PieceIndex, TorrentId};

use everseed_core::time::Instant;

use crate::conn::Reason;
use crate::torrent::Have;
use crate::{Node, torrent};

impl Node<'_> {
    pub(crate) fn verified(&mut self, now: Instant, id: TorrentId, piece: PieceIndex, good: bool) {
        if self.downloaded_piece(now, id, piece, good) {
            return;
        }
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
                "no memory to note that piece {} is bad: serving stops",
                piece.get()
            );
            self.unreadable(id);
            return;
        }
        // A host may answer late about what it was asked before a restore.
        if good != had {
            self.count_missing(id);
            if downloads && self.torrents.get(id).is_some_and(|t| t.missing == 0) {
                self.finished(now, id);
            }
        }
        for slot in 0..self.conns.len() {
            if self.conns[slot].torrent != Some(id) || !self.conns[slot].is_open() {
                continue;
            }
            if !good && self.conns[slot].features.fast {
                self.queue
                    .reject_piece(&self.conns[slot].requests, piece.get());
            } else if !good && self.conns[slot].awaits == Some(piece) {
                self.close(slot, Reason::MissingPiece);
            }
            self.due(slot);
        }
    }

    pub(crate) fn unreadable(&mut self, id: TorrentId) {
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.state = torrent::State::Suspended;
            torrent.verifying = None;
            self.close_all(id, Reason::TorrentGone);
            self.partials.verify_again(id);
            self.to_verify = true;
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
            if !(self.torrents.reserve_begun(id) && self.reserve_counts(id)) {
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
        self.forget_partials(id);
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
