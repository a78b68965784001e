//! What every subsystem needs besides what is its own, and the subsystems together.

use everseed_core::rng::Rng;
use everseed_core::time::Instant;

use crate::discovery::Discovery;
use crate::download::Download;
use crate::peer::Peers;
use crate::torrent::{Torrent, Torrents};
use crate::upload::Upload;

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

/// All that is below the swarm.
#[derive(Debug)]
pub(crate) struct Parts<'m> {
    pub(crate) cx: Context<'m>,
    pub(crate) upload: Upload<'m>,
    pub(crate) download: Download<'m>,
    pub(crate) discovery: Discovery<'m>,
}
