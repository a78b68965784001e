//! Numbers about a torrent, and which of its pieces were verified.

use everseed_core::geometry::TorrentId;

use crate::api::{Have, TorrentStats};
use crate::torrent::{Bits, TorrentState, Torrents};

impl Torrents<'_> {
    /// Numbers about a torrent; `None` when it is asleep or was removed.
    pub(crate) fn stats(&self, id: TorrentId) -> Option<TorrentStats> {
        let torrent = self.get(id)?;
        let pieces = torrent.pieces();
        Some(TorrentStats {
            info_hash: torrent.info_hashes.first,
            uploaded: torrent.uploaded,
            conns: torrent.conns,
            have: self.count(torrent.have, pieces),
            good: self.count(torrent.good, pieces),
            readable: torrent.state == TorrentState::Active,
            downloaded: torrent.downloaded,
            wanted: self.count(torrent.wanted, pieces),
            left: self.missing(torrent).1,
            bad_pieces: torrent.bad_pieces,
            refused: torrent.refused,
        })
    }

    /// Which pieces of a torrent were verified.
    pub(crate) fn good(&self, id: TorrentId) -> Have<'_> {
        match self.get(id).map(|t| t.good) {
            None | Some(Bits::None) => Have::Nothing,
            Some(Bits::All) => Have::All,
            Some(set @ Bits::Mixed { .. }) => Have::Some(self.bytes(set)),
        }
    }
}
