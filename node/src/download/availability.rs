//! Availability: which pieces the peers of incomplete torrents have, and how many peers have each piece.
//!
//! Each peer that has some pieces and not all has a bit for each piece, in lent memory. Seeds need no memory, and are not
//! counted. If no memory is left, a peer's pieces are not remembered: it counts as having none until it has all.
//!
//! Invariant: `counts` of a torrent are the sums of the bits that are remembered of its peers.

use everseed_core::bits;
use everseed_core::geometry::TorrentId;

use crate::api::Stuck;
use crate::context::Context;
use crate::download::picker::Set;
use crate::memory::ranges::{LentRange, reserve};
use crate::peer::{Conn, Has, Peers, Reason};
use crate::torrent::Torrents;

/// The lent memory.
#[derive(Debug)]
pub(crate) struct Availability<'m> {
    pub(crate) bytes: &'m mut [u8],
    pub(crate) counts: &'m mut [u16],
}

impl Availability<'_> {
    /// The pieces of a peer, for the picker.
    pub(crate) fn has(&self, cx: &Context<'_>, slot: usize) -> Set<'_> {
        match cx.peers[slot].download.has {
            Has::Nothing => Set::None,
            Has::All => Set::All,
            Has::Some(range) => Set::Some(range.get(self.bytes)),
        }
    }

    /// The peer has one more piece.
    pub(crate) fn peer_has(&mut self, cx: &mut Context<'_>, slot: usize, piece: u32) {
        let range = match cx.peers[slot].download.has {
            Has::All => return,
            Has::Some(range) => range,
            Has::Nothing => match self.reserve_bits(cx, slot) {
                Some(range) => range,
                None => return,
            },
        };
        if bits::set(range.get_mut(self.bytes), piece) {
            self.count(cx, slot, piece, 1);
        }
        if cx.peers[slot].download.have_count >= cx.pieces_of(slot) {
            self.peer_has_all(cx, slot);
        }
    }

    /// The peer's bits from piece `8 * at` on, as its bitfield says.
    pub(crate) fn peer_has_bits(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
        at: u32,
        bytes: &[u8],
    ) {
        let range = match cx.peers[slot].download.has {
            Has::Some(range) => Some(range),
            _ => self.reserve_bits(cx, slot),
        };
        let Some(range) = range else { return };
        for (byte, piece) in bytes.iter().zip((at * 8..).step_by(8)) {
            for bit in (0..8).filter(|bit| byte & (0x80 >> bit) != 0) {
                if bits::set(range.get_mut(self.bytes), piece + bit) {
                    self.count(cx, slot, piece + bit, 1);
                }
            }
        }
    }

    /// Reserves memory for a bitfield of `len` bytes that comes before the metadata. False if there is none: one bitfield
    /// takes at most a sixteenth, and all such together half.
    pub(crate) fn keep_early(&mut self, cx: &mut Context<'_>, slot: usize, len: u32) -> bool {
        self.forget_bits(cx, slot);
        let early = |slot: usize| cx.lacks_metadata(slot).then(|| range_of(&cx.peers[slot]));
        let kept: usize = (0..cx.peers.len())
            .filter_map(|slot| early(slot).flatten())
            .map(|range| range.len as usize)
            .sum();
        let (wanted, all) = (len as usize, self.bytes.len());
        if wanted == 0 || wanted > all / 16 || kept + wanted > all / 2 {
            return false;
        }
        let ranges = || cx.peers.iter().filter_map(range_of);
        let Some(range) = reserve(len, all, ranges) else {
            return false;
        };
        range.get_mut(self.bytes).fill(0);
        cx.peers[slot].download.has = Has::Some(range);
        true
    }

    /// Bytes of such a bitfield.
    pub(crate) fn early_bits(&mut self, cx: &Context<'_>, slot: usize, at: u32, bytes: &[u8]) {
        if let Has::Some(range) = cx.peers[slot].download.has {
            let rest = range.get_mut(self.bytes).iter_mut().skip(at as usize);
            rest.zip(bytes).for_each(|(to, from)| *to = *from);
        }
    }

    /// The peer has one more piece, of an unknown number of them.
    pub(crate) fn early_have(&mut self, cx: &mut Context<'_>, slot: usize, piece: u32) {
        match cx.peers[slot].download.has {
            Has::All => {}
            Has::Some(range) if piece / 8 < range.len => {
                bits::set(range.get_mut(self.bytes), piece);
            }
            _ => cx.peers[slot].download.unkept = true,
        }
    }

    /// It is known now how many pieces there are: counts those of a peer, or says that its bitfield is of
    /// another torrent's size.
    pub(crate) fn settle_early(&mut self, cx: &mut Context<'_>, slot: usize) -> Result<(), Reason> {
        let pieces = cx.pieces_of(slot);
        let range = match cx.peers[slot].download.has {
            Has::Nothing => return Ok(()),
            Has::All => {
                cx.peers[slot].download.have_count = pieces;
                return Ok(());
            }
            Has::Some(range) => range,
        };
        if range.len != pieces.div_ceil(8) {
            // Nothing of it was counted.
            cx.peers[slot].download.has = Has::Nothing;
            return Err(Reason::BadBitfield);
        }
        if let Some(end) = range.get_mut(self.bytes).last_mut() {
            *end = bits::without_spare(*end, pieces);
        }
        let mut count = 0;
        for piece in 0..pieces {
            if bits::get(range.get(self.bytes), piece) {
                self.count(cx, slot, piece, 1);
                count += 1;
            }
        }
        cx.peers[slot].download.have_count = count;
        if count >= pieces {
            self.peer_has_all(cx, slot);
        }
        Ok(())
    }

    /// The peer is a seed.
    pub(crate) fn peer_has_all(&mut self, cx: &mut Context<'_>, slot: usize) {
        self.forget_bits(cx, slot);
        cx.peers[slot].download.has = Has::All;
    }

    /// Forgets the pieces of a peer.
    pub(crate) fn forget_bits(&mut self, cx: &mut Context<'_>, slot: usize) {
        if let Has::Some(range) = cx.peers[slot].download.has {
            for piece in 0..cx.pieces_of(slot) {
                if bits::get(range.get(self.bytes), piece) {
                    self.count(cx, slot, piece, -1);
                }
            }
        }
        cx.peers[slot].download.has = Has::Nothing;
    }

    /// Forgets the pieces of all peers of a torrent.
    pub(crate) fn forget_bits_of_all(&mut self, cx: &mut Context<'_>, id: TorrentId) {
        for slot in 0..cx.peers.len() {
            let conn = &cx.peers[slot];
            if conn.link.torrent == Some(id) && matches!(conn.download.has, Has::Some(_)) {
                self.forget_bits(cx, slot);
            }
        }
    }

    /// The pieces that a download lacks, if no connected peer has any of them. Looks at every piece.
    pub(crate) fn stuck(
        &self,
        peers: &Peers<'_>,
        torrents: &Torrents<'_>,
        id: TorrentId,
    ) -> Option<Stuck> {
        let torrent = torrents.get(id).filter(|t| t.is_active_download())?;
        let open = || {
            let its = |conn: &&Conn| conn.is_open() && conn.link.torrent == Some(id);
            peers.iter().filter(its)
        };
        // Of some peers it is not known what they have.
        let may = |conn: &Conn| {
            conn.download.has == Has::All
                || conn.download.has == Has::Nothing && conn.download.have_count > 0
        };
        if open().any(may) {
            return None;
        }
        let counts = torrent.counts.get(self.counts);
        let missing = torrent.geometry?.all_pieces().filter(|&piece| {
            let had = torrents.contains(torrent.have, piece);
            !had && torrents.contains(torrent.wanted, piece)
        });
        let (mut pieces, mut first) = (0, None);
        for piece in missing {
            if counts.get(piece.get() as usize) != Some(&0) {
                return None;
            }
            pieces += 1;
            first = first.or(Some(piece));
        }
        Some(Stuck {
            pieces,
            first: first?,
            peers: u16::try_from(open().count()).unwrap_or(u16::MAX),
        })
    }

    /// Memory for a peer's bits, all clear.
    fn reserve_bits(&mut self, cx: &mut Context<'_>, slot: usize) -> Option<LentRange> {
        let torrent = cx.torrent_of(slot).filter(|t| t.downloads)?;
        let len = torrent.geometry?.bitfield_len();
        let ranges = || cx.peers.iter().filter_map(range_of);
        let range = reserve(len, self.bytes.len(), ranges)?;
        range.get_mut(self.bytes).fill(0);
        cx.peers[slot].download.has = Has::Some(range);
        Some(range)
    }

    fn count(&mut self, cx: &mut Context<'_>, slot: usize, piece: u32, change: i16) {
        let counts = cx.torrent_of(slot).map_or(LentRange::EMPTY, |t| t.counts);
        let counts = counts.get_mut(self.counts);
        if let Some(count) = counts.get_mut(piece as usize) {
            *count = count.saturating_add_signed(change);
        }
    }

    /// Memory for how often each piece of a torrent is there.
    pub(crate) fn reserve_counts(&mut self, cx: &mut Context<'_>, id: TorrentId) -> bool {
        let Some(torrent) = cx.torrents.get(id) else {
            return false;
        };
        if torrent.counts != LentRange::EMPTY {
            // It was complete meanwhile, by what was found on the disk.
            return true;
        }
        let pieces = torrent.pieces();
        let ranges = || cx.torrents.all().map(|t| t.counts);
        let Some(range) = reserve(pieces, self.counts.len(), ranges) else {
            return false;
        };
        range.get_mut(self.counts).fill(0);
        if let Some(torrent) = cx.torrents.get_mut(id) {
            torrent.counts = range;
        }
        true
    }
}

fn range_of(conn: &Conn) -> Option<LentRange> {
    match conn.download.has {
        Has::Some(range) => Some(range),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::api::Have;
    use crate::parts::Parts;
    use crate::parts::small::{geometry, parts, peer, piece, unknown};

    #[test]
    fn a_peer_that_has_every_piece_is_a_seed_and_not_counted() {
        let (mut parts, id) = parts(Have::Nothing);
        let Parts { cx, download, .. } = &mut parts;
        let slot = peer(cx, id, true);
        for piece in 0..8 {
            cx.peers[slot].download.have_count = piece + 1;
            download.availability.peer_has(cx, slot, piece);
            // A piece that is told twice counts once.
            download.availability.peer_has(cx, slot, piece);
            let seed = cx.peers[slot].download.has == Has::All;
            assert_eq!(seed, piece == 7, "{piece}");
            let counted: u16 = download.availability.counts.iter().sum();
            let expected = if seed { 0 } else { piece + 1 };
            assert_eq!(u32::from(counted), expected, "{piece}");
        }
    }

    #[test]
    fn without_memory_a_peer_counts_as_having_nothing() {
        let (mut parts, id) = parts(Have::Nothing);
        let Parts { cx, download, .. } = &mut parts;
        download.availability.bytes = &mut [];
        let slot = peer(cx, id, true);
        download.availability.peer_has_bits(cx, slot, 0, &[0xff]);
        assert_eq!(cx.peers[slot].download.has, Has::Nothing);
        download.availability.peer_has_all(cx, slot);
        assert_eq!(cx.peers[slot].download.has, Has::All);
    }

    #[test]
    fn bitfields_before_the_metadata_have_a_share_of_the_memory() {
        // Of 64 bytes: those that another such peer has, and those that come: whether they are kept.
        for (other, len, kept) in [
            (0, 4, true),
            (0, 5, false),
            (0, 0, false),
            (28, 4, true),
            (29, 4, false),
        ] {
            let (mut parts, id) = unknown();
            let Parts { cx, download, .. } = &mut parts;
            download.availability.bytes = std::vec![0xff; 64].leak();
            let (first, slot) = (peer(cx, id, true), peer(cx, id, true));
            if other > 0 {
                let range = LentRange {
                    start: 0,
                    len: other,
                };
                cx.peers[first].download.has = Has::Some(range);
            }
            let was = download.availability.keep_early(cx, slot, len);
            assert_eq!(was, kept, "{len} beside {other}");
            if let Has::Some(range) = cx.peers[slot].download.has {
                let bytes = range.get(download.availability.bytes);
                assert!(bytes.iter().all(|&byte| byte == 0), "{len} beside {other}");
            }
        }
    }

    #[test]
    fn bits_beyond_the_last_piece_do_not_count() {
        let (mut parts, id) = unknown();
        let Parts { cx, download, .. } = &mut parts;
        download.availability.bytes = std::vec![0; 64].leak();
        let slot = peer(cx, id, true);
        assert!(download.availability.keep_early(cx, slot, 1));
        download
            .availability
            .early_bits(cx, slot, 0, &[0b1000_0011]);
        let block = u64::from(everseed_core::geometry::BLOCK);
        let six = everseed_core::geometry::Geometry::new(6 * block, block).unwrap();
        cx.torrents.begin_content(id, six, Have::Nothing).unwrap();
        assert_eq!(download.availability.settle_early(cx, slot), Ok(()));
        assert_eq!(cx.peers[slot].download.have_count, 1);
        assert_eq!(download.availability.bytes[0], 0b1000_0000);
    }

    #[test]
    fn what_nobody_has() {
        // What two peers have, what we have: the pieces that nobody has, and the first of them.
        for (a, b, have, stuck) in [
            (0xf0, 0x0e, &[0x00], None),
            (0xf0, 0x0e, &[0xfe], Some((1, 7))),
            (0xf0, 0x00, &[0xf0], Some((4, 4))),
            (0xf0, 0x01, &[0xf0], None),
        ] {
            let (mut parts, id) = parts(Have::Nothing);
            let Parts { cx, download, .. } = &mut parts;
            for bits in [a, b] {
                let slot = peer(cx, id, true);
                download.availability.peer_has_bits(cx, slot, 0, &[bits]);
            }
            for index in 0..8 {
                if bits::get(have, index) {
                    assert!(cx.torrents.verified(id, piece(index), true));
                }
            }
            let found = download.availability.stuck(&cx.peers, &cx.torrents, id);
            let found = found.map(|stuck| {
                assert_eq!(stuck.peers, 2);
                (stuck.pieces, stuck.first.get())
            });
            assert_eq!(found, stuck, "{a:x} {b:x} {have:x?}");
            // A seed has it.
            let seed = peer(cx, id, true);
            download.availability.peer_has_all(cx, seed);
            let found = download.availability.stuck(&cx.peers, &cx.torrents, id);
            assert!(found.is_none());
        }
        assert_eq!(geometry().pieces(), 8);
    }
}
