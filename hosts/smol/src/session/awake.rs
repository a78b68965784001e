//! The torrents that are awake, in the order in which they were started.

use std::ops::{Deref, DerefMut};

use everseed_core::geometry::TorrentId;

use super::torrent::ManagedTorrent;
use crate::storage::worker::TorrentNumber;

/// All torrents that are awake.
pub(super) struct AwakeTorrents(Vec<ManagedTorrent>);

impl AwakeTorrents {
    /// No torrents yet, with room for so many.
    pub(super) fn with_room(torrents: usize) -> AwakeTorrents {
        AwakeTorrents(Vec::with_capacity(torrents))
    }

    pub(super) fn add(&mut self, torrent: ManagedTorrent) {
        self.0.push(torrent);
    }

    /// The torrent with this number.
    pub(super) fn get(&self, number: TorrentNumber) -> Option<&ManagedTorrent> {
        self.iter().find(|torrent| torrent.number() == number)
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, number: TorrentNumber) -> Option<&mut ManagedTorrent> {
        self.iter_mut().find(|torrent| torrent.number() == number)
    }

    /// Takes the torrent with this number out.
    pub(super) fn take(&mut self, number: TorrentNumber) -> Option<ManagedTorrent> {
        let at = self.iter().position(|torrent| torrent.number() == number)?;
        Some(self.0.remove(at))
    }

    /// The torrent that the node serves, or checks, under this id.
    pub(super) fn added_as(&mut self, id: TorrentId) -> Option<&mut ManagedTorrent> {
        self.iter_mut().find(|torrent| torrent.id() == Some(id))
    }

    /// The torrent that the node knows under this id, even if it was woken and its files are away.
    pub(super) fn known_as(&self, id: TorrentId) -> Option<&ManagedTorrent> {
        self.iter().find(|torrent| torrent.is_known_as(id))
    }

    /// The same, to change it.
    pub(super) fn known_as_mut(&mut self, id: TorrentId) -> Option<&mut ManagedTorrent> {
        self.iter_mut().find(|torrent| torrent.is_known_as(id))
    }
}

impl Deref for AwakeTorrents {
    type Target = [ManagedTorrent];

    fn deref(&self) -> &[ManagedTorrent] {
        &self.0
    }
}

impl DerefMut for AwakeTorrents {
    fn deref_mut(&mut self) -> &mut [ManagedTorrent] {
        &mut self.0
    }
}
