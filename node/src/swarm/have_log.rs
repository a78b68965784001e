//! [`HaveLog`]: the pieces that were completed lately, in order, so that each peer gets the `have`s that it lacks.

use everseed_core::geometry::TorrentId;

/// See the module.
#[derive(Debug)]
pub(crate) struct HaveLog {
    ring: [(TorrentId, u32); REMEMBERED],
    /// How many there ever were.
    pub(crate) count: u32,
}

/// Pieces that are remembered. Peers that know of fewer get `have` for each piece that we have.
const REMEMBERED: usize = 256;

impl HaveLog {
    pub(crate) const fn new() -> HaveLog {
        let nothing = TorrentId {
            slot: 0,
            tenancy: 0,
        };
        HaveLog {
            ring: [(nothing, 0); REMEMBERED],
            count: 0,
        }
    }

    pub(crate) fn add(&mut self, id: TorrentId, piece: u32) {
        self.ring[self.count as usize % REMEMBERED] = (id, piece);
        self.count = self.count.wrapping_add(1);
    }

    /// The next piece of a torrent from number `from` on, and its number.
    pub(crate) fn next(&self, id: TorrentId, from: u32) -> Option<(u32, u32)> {
        let behind = self.count.wrapping_sub(from);
        (0..behind).find_map(|n| {
            let at = from.wrapping_add(n);
            let (torrent, piece) = self.ring[at as usize % REMEMBERED];
            (torrent == id).then_some((at, piece))
        })
    }

    /// Whether what follows `from` is not all known any more.
    pub(crate) fn lost(&self, from: u32) -> bool {
        self.count.wrapping_sub(from) as usize > REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(slot: u16) -> TorrentId {
        TorrentId { slot, tenancy: 0 }
    }

    #[test]
    fn each_torrent_has_its_own_pieces() {
        let mut log = HaveLog::new();
        for (slot, piece) in [(1, 10), (2, 20), (1, 11)] {
            log.add(id(slot), piece);
        }
        for (slot, from, expected) in [
            (1, 0, Some((0, 10))),
            (1, 1, Some((2, 11))),
            (2, 0, Some((1, 20))),
            (2, 2, None),
            (3, 0, None),
            (1, 3, None),
        ] {
            assert_eq!(log.next(id(slot), from), expected, "{slot} from {from}");
        }
    }

    #[test]
    fn what_is_forgotten_counts_as_lost() {
        let mut log = HaveLog::new();
        // The count goes round.
        log.count = u32::MAX - 10;
        let start = log.count;
        for piece in 0..REMEMBERED as u32 {
            log.add(id(1), piece);
        }
        assert!(!log.lost(start) && log.lost(start.wrapping_sub(1)));
        assert_eq!(log.next(id(1), start), Some((start, 0)));
        log.add(id(1), 999);
        assert!(log.lost(start) && !log.lost(log.count));
    }
}
