//! What every subsystem needs besides what is its own: the time, chance, the connections and the torrents.

use everseed_core::rng::Rng;
use everseed_core::time::Instant;

use crate::Node;
use crate::download::Download;
use crate::peer::Peers;
use crate::torrent::{Torrent, Torrents};
use crate::upload::Upload;

/// See the module.
#[derive(Debug)]
pub(crate) struct Context<'a, 'm> {
    /// The time that the host told last.
    pub(crate) now: Instant,
    pub(crate) rng: &'a mut Rng,
    pub(crate) peers: &'a mut Peers<'m>,
    pub(crate) torrents: &'a mut Torrents<'m>,
}

impl Context<'_, '_> {
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

impl<'m> Node<'m> {
    pub(crate) fn torrent_of(&self, slot: usize) -> Option<&Torrent> {
        self.peers[slot]
            .link
            .torrent
            .and_then(|id| self.torrents.get(id))
    }

    pub(crate) fn pieces_of(&self, slot: usize) -> u32 {
        self.torrent_of(slot).map_or(0, |t| t.pieces())
    }

    /// What the download needs.
    pub(crate) fn downloading(&mut self) -> (&mut Download<'m>, Context<'_, 'm>) {
        let context = Context {
            now: self.now,
            rng: &mut self.rng,
            peers: &mut self.peers,
            torrents: &mut self.torrents,
        };
        (&mut self.download, context)
    }

    pub(crate) fn with_download<R>(
        &mut self,
        run: impl FnOnce(&mut Download<'m>, &mut Context<'_, 'm>) -> R,
    ) -> R {
        let (download, mut context) = self.downloading();
        run(download, &mut context)
    }

    pub(crate) fn with_upload<R>(
        &mut self,
        run: impl FnOnce(&mut Upload<'m>, &mut Context<'_, 'm>) -> R,
    ) -> R {
        let mut context = Context {
            now: self.now,
            rng: &mut self.rng,
            peers: &mut self.peers,
            torrents: &mut self.torrents,
        };
        run(&mut self.upload, &mut context)
    }
}
