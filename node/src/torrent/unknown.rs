//! Torrents of which nothing but the info-hash is known, until their metadata is here.
//!
//! Metadata is one piece whose hash is the info-hash (BEP 9). While it is fetched, the torrent's `geometry` is that
//! of its metadata, of the size that some peer told; before that it has none. It counts as a download with one piece
//! missing until the host has made a torrent of it.

use everseed_core::geometry::{Geometry, PieceIndex, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;

use crate::api::{AddError, Have};
use crate::memory::ranges::LentRange;
use crate::torrent::stage::Stage;
use crate::torrent::{Bits, Torrent, Torrents};

impl Torrent {
    /// Whether what it consists of is not known yet.
    pub(crate) fn lacks_metadata(&self) -> bool {
        self.stage != Stage::Content
    }

    /// Whether its metadata is being fetched.
    pub(crate) fn fetches_metadata(&self) -> bool {
        matches!(self.stage, Stage::Metadata { .. })
    }

    /// The only piece of its metadata, of the size that is tried.
    pub(crate) fn metadata_piece(&self) -> Option<(PieceIndex, u32)> {
        let piece = self.geometry.filter(|_| self.fetches_metadata())?;
        let index = piece.piece(0)?;
        Some((index, piece.piece_size(index)))
    }
}

impl Torrents<'_> {
    /// Makes a torrent known and awake of which nothing but the info-hash is known.
    pub(crate) fn add_unknown(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
    ) -> Result<TorrentId, AddError> {
        let id = self.registry.add(info_hash)?;
        let awake = self.wake_unknown(now, id);
        if awake.is_err() {
            self.registry.remove(id);
        }
        awake.map(|()| id)
    }

    /// Takes such a torrent that is asleep into a slot.
    pub(crate) fn wake_unknown(&mut self, now: Instant, id: TorrentId) -> Result<(), AddError> {
        self.occupy(id, None, Have::Nothing)?;
        if let Some(torrent) = self.get_mut(id) {
            torrent.stage = Stage::Metadata { since: now };
            (torrent.downloads, torrent.missing) = (true, 1);
        }
        Ok(())
    }

    /// Another size of a torrent's metadata is tried from now on. False if there is no memory for it.
    pub(crate) fn try_size(&mut self, now: Instant, id: TorrentId, size: u32) -> bool {
        let Ok(geometry) = Geometry::new(u64::from(size), u64::from(size)) else {
            return false;
        };
        if let Some(torrent) = self.get_mut(id) {
            torrent.geometry = Some(geometry);
            torrent.stage = Stage::Metadata { since: now };
        }
        self.reserve_begun(id)
    }

    /// Goes on with the content of a torrent, whose metadata is here.
    pub(crate) fn begin_content(
        &mut self,
        id: TorrentId,
        geometry: Geometry,
        have: Have<'_>,
    ) -> Result<(), AddError> {
        let Some(slot) = self.registry.awake(id) else {
            return Ok(());
        };
        let before = self.slots[slot];
        let torrent = &mut self.slots[slot];
        (torrent.geometry, torrent.stage) = (Some(geometry), Stage::Content);
        (torrent.downloads, torrent.begins, torrent.missing) = (false, true, 0);
        (torrent.begun, torrent.counts) = (Bits::None, LentRange::EMPTY);
        (torrent.bad_pieces, torrent.endgame) = (0, false);
        self.set_slot(slot, have)
            .inspect_err(|_| self.slots[slot] = before)
    }

    /// The next torrent whose metadata is here, of which the host was not told.
    pub(crate) fn next_fetched(&mut self) -> Option<(TorrentId, u32)> {
        let due = |t: &&mut Torrent| t.stage == Stage::Fetched { told: false };
        let torrent = self.slots.iter_mut().find(due)?;
        torrent.stage = Stage::Fetched { told: true };
        let size = torrent.geometry.map_or(0, |g| g.piece_len());
        Some((torrent.id(), size))
    }

    /// A torrent's metadata is here, and verified.
    pub(crate) fn fetched(&mut self, id: TorrentId) {
        if let Some(torrent) = self.get_mut(id) {
            torrent.stage = Stage::Fetched { told: false };
            torrent.endgame = false;
        }
    }
}
