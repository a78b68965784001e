//! The registry of all torrents that this node knows: each has an entry, awake or asleep.
//!
//! A torrent that is awake has a [`Torrent`](crate::torrent::Torrent) besides, with all that serving it
//! takes. One that is asleep has nothing but its entry and its tiers of trackers, so ten thousand of
//! them fit beside fifty that are awake.
//!
//! The table is addressed by the info-hash. Entries never move, so a torrent's id stays valid as long as the torrent is
//! known. Invariant: from where an info-hash belongs to where its entry is,
//! no entry is `EntryState::Never`.

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;

use crate::api::AddError;
use crate::broken::broken;
use crate::torrent::publicity::Publicity;

/// A lent slot for one torrent's entry, or for its second info-hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registered {
    info_hash: InfoHash,
    tenancy: u16,
    place: EntryState,
    publicity: Publicity,
    /// Whether another entry, an [`Alias`](EntryState::Alias), has a second info-hash of it.
    has_alias: bool,
    /// KiB of content that went to peers and came from them, in the times that it was awake before
    /// this one; a tracker needs it no finer.
    sent_kib: u32,
    got_kib: u32,
}

const _: () = assert!(size_of::<Registered>() <= 36);

/// The state of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EntryState {
    /// The slot was never used.
    Never,
    /// The torrent was removed.
    Gone,
    /// With the host, until somebody asks for the torrent.
    Asleep,
    /// In this slot for torrents.
    Awake(u16),
    /// This is a second info-hash (BEP 52) of the torrent whose entry is there.
    Alias(u16),
}

impl Registered {
    /// An unused slot.
    pub(crate) const EMPTY: Registered = Registered {
        info_hash: InfoHash([0; 20]),
        tenancy: 0,
        place: EntryState::Never,
        publicity: Publicity::NONE,
        has_alias: false,
        sent_kib: 0,
        got_kib: 0,
    };

    /// Whether it is a torrent's.
    fn is_known(&self) -> bool {
        matches!(self.place, EntryState::Asleep | EntryState::Awake(_))
    }

    fn is_free(&self) -> bool {
        matches!(self.place, EntryState::Never | EntryState::Gone)
    }
}

/// All entries.
#[derive(Debug)]
pub(crate) struct Registry<'m> {
    slots: &'m mut [Registered],
    known: usize,
}

impl<'m> Registry<'m> {
    pub(crate) fn new(slots: &'m mut [Registered]) -> Registry<'m> {
        let len = slots.len().min(usize::from(u16::MAX));
        let (slots, _) = slots.split_at_mut(len);
        slots.fill(Registered::EMPTY);
        Registry { slots, known: 0 }
    }

    /// The id of the torrent with this info-hash, its first or second.
    pub(crate) fn find(&self, info_hash: InfoHash) -> Option<TorrentId> {
        for slot in self.probe(info_hash) {
            let entry = &self.slots[slot];
            if entry.place == EntryState::Never {
                return None;
            }
            if !entry.is_free() && entry.info_hash == info_hash {
                return match entry.place {
                    EntryState::Alias(slot) => self.at(usize::from(slot)),
                    _ => Some(self.id(slot)),
                };
            }
        }
        None
    }

    /// Makes a torrent known, asleep.
    pub(crate) fn add(&mut self, info_hash: InfoHash) -> Result<TorrentId, AddError> {
        let slot = self.occupy(info_hash, EntryState::Asleep)?;
        self.known += 1;
        Ok(self.id(slot))
    }

    /// Makes a torrent known by a second info-hash, which takes an entry of its own; another one that it had is
    /// forgotten.
    pub(crate) fn add_second(&mut self, id: TorrentId, hash: InfoHash) -> Result<(), AddError> {
        if self.get(id).is_none() || self.find(hash).is_some_and(|other| other != id) {
            return Err(AddError::Duplicate);
        }
        if self.info_hash(id) == Some(hash) || self.second(id) == Some(hash) {
            return Ok(());
        }
        self.remove_alias(id);
        self.occupy(hash, EntryState::Alias(id.slot))?;
        if let Some(entry) = self.get_mut(id) {
            entry.has_alias = true;
        }
        Ok(())
    }

    fn occupy(&mut self, info_hash: InfoHash, place: EntryState) -> Result<usize, AddError> {
        if self.find(info_hash).is_some() {
            return Err(AddError::Duplicate);
        }
        let free = |&slot: &usize| self.slots[slot].is_free();
        let slot = self.probe(info_hash).find(free);
        let slot = slot.ok_or(AddError::Registry)?;
        self.slots[slot] = Registered {
            info_hash,
            tenancy: self.slots[slot].tenancy,
            place,
            ..Registered::EMPTY
        };
        Ok(slot)
    }

    pub(crate) fn remove(&mut self, id: TorrentId) {
        if self.get(id).is_some() {
            self.remove_alias(id);
            self.known -= 1;
            self.vacate(usize::from(id.slot));
        }
    }

    fn remove_alias(&mut self, id: TorrentId) {
        if let Some(slot) = self.alias(id) {
            self.vacate(slot);
        }
        if let Some(entry) = self.get_mut(id) {
            entry.has_alias = false;
        }
    }

    /// The slot of a torrent's second info-hash.
    fn alias(&self, id: TorrentId) -> Option<usize> {
        let has_one = self.get(id)?.has_alias;
        let its = |entry: &Registered| entry.place == EntryState::Alias(id.slot);
        has_one.then(|| self.slots.iter().position(its)).flatten()
    }

    fn vacate(&mut self, slot: usize) {
        let entry = &mut self.slots[slot];
        entry.place = EntryState::Gone;
        entry.tenancy = entry.tenancy.wrapping_add(1);
        // Nobody looks past the end of a run, so what is gone at its end need not be passed.
        let len = self.slots.len();
        let mut slot = slot;
        while self.slots[(slot + 1) % len].place == EntryState::Never
            && self.slots[slot].place == EntryState::Gone
        {
            self.slots[slot].place = EntryState::Never;
            slot = (slot + len - 1) % len;
        }
    }

    /// The torrent of a place, if there is one.
    pub(crate) fn at(&self, slot: usize) -> Option<TorrentId> {
        self.slots.get(slot)?.is_known().then(|| self.id(slot))
    }

    /// Where a torrent is; `None` if it is not known any more.
    pub(crate) fn state(&self, id: TorrentId) -> Option<EntryState> {
        Some(self.get(id)?.place)
    }

    pub(crate) fn set_state(&mut self, id: TorrentId, place: EntryState) {
        match self.get_mut(id) {
            Some(entry) => entry.place = place,
            None => broken("a torrent that is awake in the registry"),
        }
    }

    /// The slot of a torrent that is awake.
    pub(crate) fn awake(&self, id: TorrentId) -> Option<usize> {
        match self.state(id) {
            Some(EntryState::Awake(slot)) => Some(usize::from(slot)),
            _ => None,
        }
    }

    /// The first info-hash of a torrent.
    pub(crate) fn info_hash(&self, id: TorrentId) -> Option<InfoHash> {
        Some(self.get(id)?.info_hash)
    }

    /// The second info-hash of a torrent, if it has one.
    pub(crate) fn second(&self, id: TorrentId) -> Option<InfoHash> {
        Some(self.slots[self.alias(id)?].info_hash)
    }

    /// By what its peers may be found; those of one that is not known by nothing.
    pub(crate) fn publicity(&self, id: TorrentId) -> Publicity {
        self.get(id)
            .map_or(Publicity::NONE, |entry| entry.publicity)
    }

    pub(crate) fn set_publicity(&mut self, id: TorrentId, publicity: Publicity) {
        if let Some(entry) = self.get_mut(id) {
            entry.publicity = publicity;
        }
    }

    /// The first torrent whose place is this one or a later one.
    pub(crate) fn next_from(&self, place: u16) -> Option<TorrentId> {
        let mut rest = usize::from(place)..self.slots.len();
        let slot = rest.find(|&slot| self.slots[slot].is_known())?;
        Some(self.id(slot))
    }

    /// Bytes of content sent and received in the times that a torrent was awake before.
    pub(crate) fn moved(&self, id: TorrentId) -> (u64, u64) {
        self.get(id).map_or((0, 0), |entry| {
            (
                u64::from(entry.sent_kib) << 10,
                u64::from(entry.got_kib) << 10,
            )
        })
    }

    /// Adds to them.
    pub(crate) fn add_moved(&mut self, id: TorrentId, sent: u64, got: u64) {
        let kib = |bytes: u64| u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        if let Some(entry) = self.get_mut(id) {
            entry.sent_kib = entry.sent_kib.saturating_add(kib(sent));
            entry.got_kib = entry.got_kib.saturating_add(kib(got));
        }
    }

    /// How many torrents are known.
    pub(crate) fn count(&self) -> usize {
        self.known
    }

    fn get(&self, id: TorrentId) -> Option<&Registered> {
        let entry = self.slots.get(usize::from(id.slot))?;
        (entry.is_known() && entry.tenancy == id.tenancy).then_some(entry)
    }

    fn get_mut(&mut self, id: TorrentId) -> Option<&mut Registered> {
        let entry = self.slots.get_mut(usize::from(id.slot))?;
        (entry.is_known() && entry.tenancy == id.tenancy).then_some(entry)
    }

    #[allow(clippy::cast_possible_truncation)] // `new` cut the table to `u16::MAX` slots.
    fn id(&self, slot: usize) -> TorrentId {
        TorrentId {
            slot: slot as u16,
            tenancy: self.slots[slot].tenancy,
        }
    }

    /// All slots, from the one where an info-hash belongs.
    fn probe(&self, info_hash: InfoHash) -> impl Iterator<Item = usize> + use<> {
        let len = self.slots.len();
        let [a, b, c, d, ..] = info_hash.0;
        // Whoever is asked for is chosen by others, but who is in the table is not.
        let first = u32::from_le_bytes([a, b, c, d]) as usize % len.max(1);
        (first..len).chain(0..first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(first: u8, other: u8) -> InfoHash {
        let mut hash = [other; 20];
        (hash[0], hash[1], hash[2], hash[3]) = (first, 0, 0, 0);
        InfoHash(hash)
    }

    #[test]
    fn entries_stay_where_they_are() {
        let mut slots = [Registered::EMPTY; 8];
        let mut registry = Registry::new(&mut slots);
        // All of them belong to slot 6, and go round the end.
        let ids = [1, 2, 3, 4].map(|n| registry.add(hash(6, n)).unwrap());
        assert_eq!(ids.map(|id| id.slot), [6, 7, 0, 1]);
        registry.remove(ids[1]);
        assert_eq!(registry.find(hash(6, 2)), None);
        assert_eq!(registry.state(ids[1]), None);
        assert_eq!(registry.find(hash(6, 4)), Some(ids[3]));
        assert_eq!(registry.add(hash(6, 3)), Err(AddError::Duplicate));
        let again = registry.add(hash(6, 5)).unwrap();
        assert_eq!((again.slot, again.tenancy), (7, 1));
        assert_eq!(registry.count(), 4);
    }

    #[test]
    fn what_is_gone_is_not_passed_for_ever() {
        let mut slots = [Registered::EMPTY; 8];
        let mut registry = Registry::new(&mut slots);
        let ids = [1, 2, 3].map(|n| registry.add(hash(6, n)).unwrap());
        for id in [ids[1], ids[0], ids[2]] {
            registry.remove(id);
        }
        let never = registry
            .slots
            .iter()
            .all(|entry| entry.place == EntryState::Never);
        assert!(never, "{:?}", registry.slots);
    }

    #[test]
    fn a_second_hash_names_the_same() {
        let mut slots = [Registered::EMPTY; 4];
        let mut registry = Registry::new(&mut slots);
        let ids = [1, 2].map(|n| registry.add(hash(n, n)).unwrap());
        assert_eq!(
            registry.add_second(ids[0], hash(2, 2)),
            Err(AddError::Duplicate)
        );
        assert_eq!((registry.second(ids[0]), registry.count()), (None, 2));
        for n in [9, 9, 1, 8] {
            registry.add_second(ids[0], hash(n, n)).unwrap();
            let second = if n == 1 { hash(9, 9) } else { hash(n, n) };
            assert_eq!(registry.second(ids[0]), Some(second));
            for hash in [hash(1, 1), second] {
                assert_eq!(registry.find(hash), Some(ids[0]), "{n}");
                assert_eq!(registry.add(hash), Err(AddError::Duplicate), "{n}");
            }
        }
        assert_eq!((registry.find(hash(9, 9)), registry.count()), (None, 2));
        // It takes an entry, and is no torrent of its own.
        registry.add_second(ids[1], hash(7, 7)).unwrap();
        assert_eq!(registry.add(hash(3, 3)), Err(AddError::Registry));
        let all = || (0..4).filter_map(|slot| registry.at(slot));
        assert!(all().count() == 2 && all().all(|id| ids.contains(&id)));
        registry.remove(ids[0]);
        assert_eq!(
            (registry.find(hash(1, 1)), registry.find(hash(8, 8))),
            (None, None)
        );
        assert_eq!(
            registry.add_second(ids[0], hash(3, 3)),
            Err(AddError::Duplicate)
        );
        assert_eq!(registry.find(hash(7, 7)), Some(ids[1]));
        registry.remove(ids[1]);
        assert!(registry.slots.iter().all(Registered::is_free));
    }

    #[test]
    fn full() {
        let mut slots = [Registered::EMPTY; 2];
        let mut registry = Registry::new(&mut slots);
        let ids = [1, 2].map(|n| registry.add(hash(0, n)).unwrap());
        assert_eq!(registry.add(hash(0, 3)), Err(AddError::Registry));
        assert_eq!(registry.find(hash(0, 3)), None);
        registry.remove(ids[0]);
        registry.remove(ids[1]);
        assert!(registry.add(hash(0, 3)).is_ok());
        assert_eq!(
            Registry::new(&mut []).add(hash(0, 3)),
            Err(AddError::Registry)
        );
        assert_eq!(Registry::new(&mut []).find(hash(0, 3)), None);
    }

    /// Against a list that is searched from end to end.
    #[test]
    fn as_a_list_would() {
        let mut slots = [Registered::EMPTY; 16];
        let mut registry = Registry::new(&mut slots);
        let mut list: [Option<TorrentId>; 40] = [None; 40];
        let mut rng = everseed_core::rng::Rng::new(1);
        for _ in 0..10_000 {
            let n = rng.below(40) as u8;
            let known = list.iter().flatten().count();
            let of = |n: u8| hash(n % 16, n);
            match list[usize::from(n)] {
                Some(id) => {
                    registry.remove(id);
                    list[usize::from(n)] = None;
                }
                None => {
                    let added = registry.add(of(n));
                    assert_eq!(added.is_ok(), known < 16);
                    list[usize::from(n)] = added.ok();
                }
            }
            assert_eq!(registry.count(), list.iter().flatten().count());
            for (n, id) in (0..).zip(list) {
                assert_eq!(registry.find(of(n)), id);
            }
        }
    }
}
