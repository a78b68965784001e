//! What the host tells about a torrent's storage.

use everseed_core::geometry::{PieceIndex, TorrentId};

use crate::conn::Reason;
use crate::torrent::Have;
use crate::{Node, torrent};

impl Node<'_> {
    pub(crate) fn verified(&mut self, id: TorrentId, piece: PieceIndex, good: bool) {
        let Some(torrent) = self.torrents.get_mut(id) else {
            return;
        };
        if torrent.verifying == Some(piece) {
            torrent.verifying = None;
        }
        if !self.torrents.verified(id, piece, good) {
            log::warn!(
                "no memory to note that piece {} is bad: serving stops",
                piece.get()
            );
            self.unreadable(id);
            return;
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
            self.close_all(id);
        }
    }

    pub(crate) fn restored(&mut self, id: TorrentId, have: Have<'_>) {
        if self.torrents.get(id).is_none() {
            return;
        }
        self.close_all(id);
        let enough = self.torrents.set_have(usize::from(id.slot), have).is_ok();
        if let Some(torrent) = self.torrents.get_mut(id) {
            torrent.verifying = None;
            torrent.state = if enough {
                torrent::State::Active
            } else {
                torrent::State::Suspended
            };
        }
    }
}
