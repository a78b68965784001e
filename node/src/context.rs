//! What every subsystem needs besides what is its own.

use everseed_core::rng::Rng;
use everseed_core::time::Instant;

use crate::peer::Peers;
use crate::torrent::{Torrent, Torrents};

/// The time, chance, the connections and the torrents.
#[derive(Debug)]
pub(crate) struct Context<'m> {
    /// The time that the host told last.
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) peers: Peers<'m>,
    pub(crate) torrents: Torrents<'m>,
}

impl Context<'_> {
    /// The torrent of a connection, if it is awake.
    pub(crate) fn torrent_of(&self, slot: usize) -> Option<&Torrent> {
        let id = self.peers[slot].link.torrent?;
        self.torrents.get(id)
    }

    /// Pieces of a connection's torrent.
    pub(crate) fn pieces_of(&self, slot: usize) -> u32 {
        self.torrent_of(slot).map_or(0, |t| t.pieces())
    }
}
