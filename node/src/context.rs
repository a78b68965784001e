//! [`Context`]: what the functions of every subsystem are given besides the subsystem's own state.

use everseed_core::geometry::TorrentId;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;

use crate::peer::{Conn, Peers};
use crate::torrent::{Torrent, Torrents};
use crate::wake::Wakes;

/// The time, random numbers, the connections, the torrents, and the wake-ups that functions add.
#[derive(Debug)]
pub(crate) struct Context<'m> {
    /// The time that the host told last.
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) peers: Peers<'m>,
    pub(crate) torrents: Torrents<'m>,
    pub(crate) wakes: Wakes,
}

impl Context<'_> {
    /// The torrent of a connection, if it is awake.
    pub(crate) fn torrent_of(&self, slot: usize) -> Option<&Torrent> {
        let id = self.peers[slot].link.torrent?;
        self.torrents.get(id)
    }

    /// Pieces of a connection's torrent; none as long as they are not known.
    pub(crate) fn pieces_of(&self, slot: usize) -> u32 {
        let known = self.torrent_of(slot).filter(|t| !t.lacks_metadata());
        known.map_or(0, |t| t.pieces())
    }

    /// Whether a torrent is downloaded and nobody who is connected has what is missing.
    pub(crate) fn has_nobody(&self, id: TorrentId) -> bool {
        let unknown = self.torrents.get(id).is_some_and(|t| t.lacks_metadata());
        let serves = |conn: &Conn| {
            let its = conn.is_open() && conn.link.torrent == Some(id);
            its && (conn.download.interested || unknown)
        };
        self.torrents.is_downloading(id) && !self.peers.iter().any(serves)
    }

    /// Whether what a connection's torrent consists of is not known yet.
    pub(crate) fn lacks_metadata(&self, slot: usize) -> bool {
        self.torrent_of(slot).is_some_and(|t| t.lacks_metadata())
    }
}
