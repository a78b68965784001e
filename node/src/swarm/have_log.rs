//! The pieces that came lately, in order, so that each peer is told of those that it was not told of yet.

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
