//! [`Torrents`]: the registry of all, and the state of those that are awake: their pieces, and what is fetched.

pub(crate) mod gossip;
pub(crate) mod info_hashes;
pub(crate) mod piece_set;
pub(crate) mod publicity;
pub(crate) mod registry;
pub(crate) mod stage;
mod stats;
pub(crate) mod unknown;

use everseed_core::bits;
use everseed_core::geometry::{BLOCK, Geometry, PieceIndex, TorrentId};
use everseed_core::hash::InfoHash;

use crate::api::{AddError, Have, Order, StorageError};
use crate::memory::ranges::LentRange;
use crate::torrent::gossip::Gossip;
use crate::torrent::info_hashes::InfoHashes;
use crate::torrent::publicity::Publicity;
use crate::torrent::registry::{EntryState, Registry};
use crate::torrent::stage::Stage;

/// A lent slot for one torrent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Torrent {
    /// Meaningless while the slot is vacant.
    id: TorrentId,
    pub(crate) state: TorrentState,
    pub(crate) info_hashes: InfoHashes,
    /// Whether its metadata or its content is fetched.
    pub(crate) stage: Stage,
    pub(crate) geometry: Option<Geometry>,
    /// Bytes of `info`, if it can be handed out (BEP 9).
    pub(crate) metadata_len: Option<u32>,
    /// Pieces that peers are told of.
    pub(crate) have: Bits,
    /// Pieces whose hash was checked; nothing else is sent. Every good piece is also had.
    pub(crate) good: Bits,
    /// The piece that the host is asked to verify.
    pub(crate) verifying: Option<PieceIndex>,
    /// All that is not good is verified, from this piece on.
    pub(crate) recheck: Option<u32>,
    /// Bytes of content sent to peers.
    pub(crate) uploaded: u64,
    /// `uploaded` when the torrent was added.
    pub(crate) uploaded_before: u64,
    /// Open connections.
    pub(crate) conns: u16,
    /// Whether what is missing is downloaded; not any more once all that is wanted is here.
    pub(crate) downloads: bool,
    /// Whether its metadata has just come. The host begins the download when it has prepared the files.
    pub(crate) begins: bool,
    /// Pieces that are to be downloaded.
    pub(crate) wanted: Bits,
    /// Pieces in progress.
    pub(crate) begun: Bits,
    pub(crate) order: Order,
    /// Whether something that was wanted is left out for now.
    pub(crate) narrowed: bool,
    /// Wanted pieces that are not here.
    pub(crate) missing: u32,
    /// How often each piece is there among the peers.
    pub(crate) counts: LentRange,
    /// Bytes of content that came, and what of it was there when the torrent was added.
    pub(crate) downloaded: u64,
    /// Pieces that came and were bad.
    pub(crate) bad_pieces: u32,
    /// The piece to suggest next.
    pub(crate) suggest_next: u32,
    /// Why nothing is asked for.
    pub(crate) refused: Option<StorageError>,
    /// The peers that came and left.
    pub(crate) gossip: Gossip,
    /// Whether every block that is missing was asked for, so that some are asked for twice.
    pub(crate) endgame: bool,
}

/// Whether a torrent can be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TorrentState {
    /// The slot is free.
    Vacant,
    /// Peers are welcome.
    Active,
    /// Its storage cannot be read; peers are refused until the host says otherwise.
    Suspended,
}

/// A set of pieces that costs memory only when it is mixed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bits {
    None,
    All,
    /// Where in the lent bits it lies, in bytes.
    Mixed {
        start: u32,
        len: u32,
    },
}

impl Torrent {
    /// An unused slot.
    pub(crate) const EMPTY: Torrent = Torrent {
        id: TorrentId {
            slot: 0,
            tenancy: 0,
        },
        state: TorrentState::Vacant,
        info_hashes: InfoHashes::one(InfoHash([0; 20])),
        stage: Stage::Content,
        geometry: None,
        metadata_len: None,
        have: Bits::None,
        good: Bits::None,
        verifying: None,
        recheck: None,
        uploaded: 0,
        uploaded_before: 0,
        conns: 0,
        downloads: false,
        wanted: Bits::All,
        begun: Bits::None,
        order: Order::Rarest,
        narrowed: false,
        begins: false,
        missing: 0,
        counts: LentRange::EMPTY,
        downloaded: 0,
        bad_pieces: 0,
        suggest_next: 0,
        refused: None,
        gossip: Gossip::EMPTY,
        endgame: false,
    };

    pub(crate) fn id(&self) -> TorrentId {
        self.id
    }

    /// Whether something that is wanted is missing and to be downloaded.
    pub(crate) fn is_active_download(&self) -> bool {
        self.downloads && self.missing > 0
    }

    pub(crate) fn pieces(&self) -> u32 {
        self.geometry.map_or(0, |g| g.pieces())
    }
}

/// The registry of all torrents, those that are awake, and the bits that their mixed sets of pieces need.
///
/// Invariant: an entry of the registry says `Awake(i)` exactly if `slots[i]` is not vacant and has its id.
#[derive(Debug)]
pub(crate) struct Torrents<'m> {
    pub(crate) registry: Registry<'m>,
    slots: &'m mut [Torrent],
    bits: &'m mut [u8],
}

impl<'m> Torrents<'m> {
    pub(crate) fn new(
        registry: Registry<'m>,
        slots: &'m mut [Torrent],
        bits: &'m mut [u8],
    ) -> Torrents<'m> {
        let len = slots.len().min(usize::from(u16::MAX));
        let (slots, _) = slots.split_at_mut(len);
        slots.fill(Torrent::EMPTY);
        Torrents {
            registry,
            slots,
            bits,
        }
    }

    /// Whether no memory is reserved for how often each piece of a torrent is there.
    pub(crate) fn has_no_counts(&self, id: TorrentId) -> bool {
        self.get(id).is_some_and(|t| t.counts == LentRange::EMPTY)
    }

    /// Whether a torrent is known and asleep.
    pub(crate) fn is_asleep(&self, id: TorrentId) -> bool {
        self.registry.state(id) == Some(EntryState::Asleep)
    }

    /// By what peers of a torrent may be found, awake or asleep.
    pub(crate) fn publicity(&self, id: TorrentId) -> Publicity {
        self.registry.publicity(id)
    }

    /// Whether something of a torrent is wanted and missing, though it may not be requested now.
    pub(crate) fn is_downloading(&self, id: TorrentId) -> bool {
        self.get(id).is_some_and(|t| t.is_active_download())
    }

    /// Whether no peer can give us anything of a torrent, now or when its download begins.
    pub(crate) fn needs_nothing(&self, id: TorrentId) -> bool {
        self.get(id)
            .is_none_or(|t| t.have == Bits::All || !t.is_active_download() && !t.begins)
    }

    /// Whether something of a torrent is missing, wanted and can be written.
    pub(crate) fn fetches(&self, id: TorrentId) -> bool {
        self.get(id).is_some_and(|t| {
            t.is_active_download() && t.refused.is_none() && t.state == TorrentState::Active
        })
    }

    /// Whether a piece is wanted and not here.
    pub(crate) fn is_missing(&self, id: TorrentId, index: u32) -> bool {
        let torrent = self.get(id).filter(|t| t.is_active_download());
        torrent.is_some_and(|t| {
            let piece = t.geometry.and_then(|g| g.piece(index));
            piece.is_some_and(|p| self.contains(t.wanted, p) && !self.contains(t.have, p))
        })
    }

    /// Makes a torrent known, and awake.
    pub(crate) fn add(
        &mut self,
        info_hash: InfoHash,
        geometry: Geometry,
        have: Have<'_>,
    ) -> Result<TorrentId, AddError> {
        let id = self.registry.add(info_hash)?;
        let awake = self.wake(id, geometry, have);
        if awake.is_err() {
            self.registry.remove(id);
        }
        awake.map(|()| id)
    }

    /// Takes a torrent that is asleep into a slot.
    pub(crate) fn wake(
        &mut self,
        id: TorrentId,
        geometry: Geometry,
        have: Have<'_>,
    ) -> Result<(), AddError> {
        self.occupy(id, Some(geometry), have)
    }

    fn occupy(
        &mut self,
        id: TorrentId,
        geometry: Option<Geometry>,
        have: Have<'_>,
    ) -> Result<(), AddError> {
        let asleep = self.registry.state(id) == Some(EntryState::Asleep);
        let Some(info_hash) = self.registry.info_hash(id).filter(|_| asleep) else {
            return Err(AddError::Duplicate);
        };
        let vacant = |t: &Torrent| t.state == TorrentState::Vacant;
        let slot = self.slots.iter().position(vacant);
        let slot = slot.ok_or(AddError::Torrents)?;
        self.slots[slot] = Torrent {
            id,
            info_hashes: InfoHashes {
                first: info_hash,
                second: self.registry.second(id),
            },
            geometry,
            ..Torrent::EMPTY
        };
        if let Err(error) = self.set_slot(slot, have) {
            self.slots[slot] = Torrent::EMPTY;
            return Err(error);
        }
        self.slots[slot].state = TorrentState::Active;
        #[allow(clippy::cast_possible_truncation)] // At most `u16::MAX` slots.
        self.registry.set_state(id, EntryState::Awake(slot as u16));
        Ok(())
    }

    /// Gives a torrent's slot back; its entry in the registry stays.
    pub(crate) fn sleep(&mut self, id: TorrentId) {
        let Some(slot) = self.registry.awake(id) else {
            return;
        };
        let torrent = &self.slots[slot];
        let (sent, got) = (
            torrent.uploaded - torrent.uploaded_before,
            torrent.downloaded,
        );
        self.slots[slot] = Torrent::EMPTY;
        self.registry.add_moved(id, sent, got);
        self.registry.set_state(id, EntryState::Asleep);
    }

    /// Replaces what is known of a torrent's pieces.
    pub(crate) fn set_have(&mut self, id: TorrentId, have: Have<'_>) -> Result<(), AddError> {
        match self.registry.awake(id) {
            Some(slot) => self.set_slot(slot, have),
            None => Ok(()),
        }
    }

    fn set_slot(&mut self, slot: usize, have: Have<'_>) -> Result<(), AddError> {
        let len = self.slots[slot].geometry.map_or(0, |g| g.bitfield_len());
        self.slots[slot].have = Bits::None;
        self.slots[slot].good = Bits::None;
        match have {
            Have::Nothing => {}
            Have::All => (self.slots[slot].have, self.slots[slot].good) = (Bits::All, Bits::All),
            Have::Unverified => {
                self.slots[slot].have = Bits::All;
                self.slots[slot].good = self.reserve(len)?;
            }
            Have::Presumed(given) => {
                self.slots[slot].have = self.reserve(len)?;
                self.slots[slot].good = self.reserve(len)?;
                self.slots[slot].have = self.copy(slot, given);
            }
            Have::Some(given) => {
                self.slots[slot].have = self.reserve(len)?;
                let range = self.copy(slot, given);
                (self.slots[slot].have, self.slots[slot].good) = (range, range);
            }
        }
        Ok(())
    }

    /// Copies a bitfield into the bits reserved for `have`, without what is past the last piece.
    fn copy(&mut self, slot: usize, given: &[u8]) -> Bits {
        let (set, pieces) = (self.slots[slot].have, self.slots[slot].pieces());
        let bits = self.bits_mut(set);
        for piece in (0..pieces).filter(|&piece| bits::get(given, piece)) {
            bits::set(bits, piece);
        }
        self.simplify(set, pieces)
    }

    /// Makes a torrent known by a second info-hash.
    pub(crate) fn add_second_hash(
        &mut self,
        id: TorrentId,
        hash: InfoHash,
    ) -> Result<(), AddError> {
        self.registry.add_second(id, hash)?;
        let second = self.registry.second(id);
        if let Some(torrent) = self.get_mut(id) {
            torrent.info_hashes.second = second;
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, id: TorrentId) {
        self.sleep(id);
        self.registry.remove(id);
    }

    /// The id of a torrent, awake or asleep.
    pub(crate) fn find(&self, info_hash: InfoHash) -> Option<TorrentId> {
        self.registry.find(info_hash)
    }

    /// A torrent that is awake.
    pub(crate) fn get(&self, id: TorrentId) -> Option<&Torrent> {
        self.slots.get(self.registry.awake(id)?)
    }

    pub(crate) fn get_mut(&mut self, id: TorrentId) -> Option<&mut Torrent> {
        self.slots.get_mut(self.registry.awake(id)?)
    }

    /// Ids of all torrents that are awake.
    pub(crate) fn ids(&self) -> impl Iterator<Item = TorrentId> {
        self.all().map(|torrent| torrent.id)
    }

    /// Bytes of content that are not had. Of what is not known there is a block at least: 0 would mean a seed.
    pub(crate) fn left(&self, torrent: &Torrent) -> u64 {
        if torrent.lacks_metadata() {
            return u64::from(BLOCK);
        }
        let Some(geometry) = torrent.geometry else {
            return 0;
        };
        let missing = |&piece: &PieceIndex| !self.contains(torrent.have, piece);
        match torrent.have {
            Bits::All => 0,
            Bits::None => geometry.total(),
            Bits::Mixed { .. } => {
                let missing = geometry.all_pieces().filter(missing);
                missing
                    .map(|piece| u64::from(geometry.piece_size(piece)))
                    .sum()
            }
        }
    }

    /// Wanted pieces that are not had: how many, and of how many bytes.
    pub(crate) fn missing(&self, torrent: &Torrent) -> (u32, u64) {
        let Some(geometry) = torrent.geometry else {
            return (0, 0);
        };
        if torrent.have == Bits::All {
            return (0, 0);
        }
        let missing = geometry.all_pieces().filter(|&piece| {
            self.contains(torrent.wanted, piece) && !self.contains(torrent.have, piece)
        });
        missing.fold((0, 0), |(pieces, bytes), piece| {
            (pieces + 1, bytes + u64::from(geometry.piece_size(piece)))
        })
    }

    /// Replaces what is wanted of a torrent.
    pub(crate) fn set_wanted(&mut self, id: TorrentId, given: Option<&[u8]>) -> bool {
        let Some(torrent) = self.get_mut(id) else {
            return false;
        };
        let before = core::mem::replace(&mut torrent.wanted, Bits::All);
        let Some(given) = given else { return true };
        let pieces = torrent.pieces();
        let Ok(set) = self.reserve(pieces.div_ceil(8)) else {
            if let Some(torrent) = self.get_mut(id) {
                torrent.wanted = before;
            }
            return false;
        };
        let bytes = self.bits_mut(set);
        for piece in (0..pieces).filter(|&piece| bits::get(given, piece)) {
            bits::set(bytes, piece);
        }
        let set = self.simplify(set, pieces);
        if let Some(torrent) = self.get_mut(id) {
            torrent.wanted = set;
        }
        true
    }

    /// Makes room to note which pieces are in progress.
    pub(crate) fn reserve_begun(&mut self, id: TorrentId) -> bool {
        let Some(torrent) = self.get(id) else {
            return false;
        };
        if torrent.begun != Bits::None {
            return true;
        }
        let Ok(set) = self.reserve(torrent.pieces().div_ceil(8)) else {
            return false;
        };
        if let Some(torrent) = self.get_mut(id) {
            torrent.begun = set;
        }
        true
    }

    /// Notes whether a piece is in progress.
    pub(crate) fn set_begun(&mut self, id: TorrentId, piece: PieceIndex, on: bool) {
        let set = self.get(id).map_or(Bits::None, |t| t.begun);
        let bytes = self.bits_mut(set);
        if on {
            bits::set(bytes, piece.get());
        } else {
            bits::clear(bytes, piece.get());
        }
    }

    /// All that are awake.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Torrent> {
        self.slots
            .iter()
            .filter(|t| t.state != TorrentState::Vacant)
    }

    /// Notes the outcome of verifying a piece. False when it needed bits and there were none left.
    pub(crate) fn verified(&mut self, id: TorrentId, piece: PieceIndex, good: bool) -> bool {
        let Some(torrent) = self.get(id).copied() else {
            return true;
        };
        let pieces = torrent.pieces();
        let (mut had, mut checked) = (torrent.have, torrent.good);
        let enough = self.put(&mut checked, piece, good, pieces);
        let enough = enough && self.put(&mut had, piece, good, pieces);
        if !enough {
            return false;
        }
        let (had, checked) = (self.simplify(had, pieces), self.simplify(checked, pieces));
        if let Some(torrent) = self.get_mut(id) {
            (torrent.have, torrent.good) = (had, checked);
        }
        true
    }

    /// Notes that a torrent's content was changed: what is `present` is had if it was before, and
    /// nothing is good. False when that needed bits and there were none left.
    pub(crate) fn doubt(&mut self, id: TorrentId, present: Have<'_>) -> bool {
        let Some(torrent) = self.get(id).copied() else {
            return true;
        };
        let (pieces, mut had) = (torrent.pieces(), torrent.have);
        if let Some(torrent) = self.get_mut(id) {
            torrent.good = Bits::None;
        }
        let gone = |piece: &PieceIndex| match present {
            Have::Nothing => true,
            Have::All | Have::Unverified => false,
            Have::Presumed(given) | Have::Some(given) => !bits::get(given, piece.get()),
        };
        let all = torrent.geometry.into_iter().flat_map(|g| g.all_pieces());
        let enough = all
            .filter(gone)
            .all(|piece| self.put(&mut had, piece, false, pieces));
        let had = self.simplify(had, pieces);
        if let Some(torrent) = self.get_mut(id) {
            torrent.have = had;
        }
        enough
    }

    /// Takes a piece out of what is wanted. False when that needed bits and there were none left.
    pub(crate) fn leave_out(&mut self, id: TorrentId, piece: PieceIndex) -> bool {
        let Some(torrent) = self.get(id).copied() else {
            return true;
        };
        let mut wanted = torrent.wanted;
        let enough = self.put(&mut wanted, piece, false, torrent.pieces());
        if let Some(torrent) = self.get_mut(id) {
            torrent.wanted = wanted;
        }
        enough
    }

    /// The next piece that is to be verified though nobody waits for it.
    pub(crate) fn next_recheck(&mut self, id: TorrentId) -> Option<PieceIndex> {
        let torrent = self.get(id).copied()?;
        let (geometry, from) = (torrent.geometry?, torrent.recheck?);
        // What a download lacks is no matter of reading.
        let due = |piece: &PieceIndex| {
            !self.contains(torrent.good, *piece)
                && (!torrent.is_active_download() || self.contains(torrent.have, *piece))
        };
        let all = (from..torrent.pieces()).filter_map(|index| geometry.piece(index));
        let next = all.into_iter().find(due);
        if let Some(torrent) = self.get_mut(id) {
            torrent.recheck = next.map(|piece| piece.get() + 1);
        }
        next
    }
}

#[cfg(test)]
mod tests;
