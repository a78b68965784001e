//! Pieces in progress: which of their blocks were requested, and which are written.
//!
//! When no slot or no memory for the blocks' bits is free, no further piece is begun until one is
//! finished; one without blocks on their way gives way if a peer could not be asked otherwise.
//!
//! Invariant: a block that is written was asked for.

use everseed_core::bits;
use everseed_core::geometry::{BLOCK, PieceIndex, TorrentId};
use everseed_core::sums::Sum;

use crate::broken::broken;
use crate::download::evidence::Evidence;
use crate::memory::ranges::{LentRange, reserve};
use crate::peer::ConnId;

/// A lent slot for one piece in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PieceInProgress {
    pub(crate) torrent: Option<TorrentId>,
    pub(crate) piece: u32,
    pub(crate) state: PieceState,
    /// Bytes of the piece.
    size: u32,
    /// For each block a bit that it was requested, one that it is written, and two for its first sender.
    bits: LentRange,
    /// Blocks that are neither requested nor here.
    pub(crate) open: u32,
    /// Blocks that are not written.
    pub(crate) missing: u32,
    /// Pending blocks that carry a block of it.
    pub(crate) pending: u16,
    /// The only peer that is asked, as the piece was bad when it came from several.
    pub(crate) exclusive: Option<ConnId>,
    /// Where its blocks came from, and whether it is to come from one peer only.
    pub(crate) evidence: Evidence,
}

/// Bits for each block.
pub const BITS_PER_BLOCK: u32 = 4;

/// How far a piece in progress has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PieceState {
    /// Its blocks are fetched.
    Fetching,
    /// All are written: it is to be verified.
    Written,
    /// The host verifies it.
    Verifying,
}

impl PieceInProgress {
    /// An unused slot.
    pub(crate) const EMPTY: PieceInProgress = PieceInProgress {
        torrent: None,
        piece: 0,
        state: PieceState::Fetching,
        size: 0,
        bits: LentRange::EMPTY,
        open: 0,
        missing: 0,
        pending: 0,
        exclusive: None,
        evidence: Evidence::NONE,
    };

    /// Number of blocks.
    fn blocks(&self) -> u32 {
        self.size.div_ceil(BLOCK)
    }

    /// Bytes of one of its blocks.
    pub(crate) fn block_len(&self, index: u32) -> u32 {
        (self.size - index * BLOCK).min(BLOCK)
    }

    /// Whether a block of it may be requested from this peer.
    pub(crate) fn is_for(&self, conn: ConnId) -> bool {
        self.exclusive.is_none_or(|only| only == conn)
    }
}

/// All pieces in progress.
#[derive(Debug)]
pub(crate) struct PiecesInProgress<'m> {
    slots: &'m mut [PieceInProgress],
    bits: &'m mut [u8],
}

impl<'m> PiecesInProgress<'m> {
    pub(crate) fn new(
        slots: &'m mut [PieceInProgress],
        bits: &'m mut [u8],
    ) -> PiecesInProgress<'m> {
        let len = slots.len().min(usize::from(u16::MAX));
        let (slots, _) = slots.split_at_mut(len);
        slots.fill(PieceInProgress::EMPTY);
        PiecesInProgress { slots, bits }
    }

    /// Whether a piece of this size could ever be in progress here.
    pub(crate) fn has_room_for(&self, piece_size: u32) -> bool {
        let bytes = BITS_PER_BLOCK * piece_size.div_ceil(BLOCK).div_ceil(8);
        !self.slots.is_empty() && self.bits.len() >= bytes as usize
    }

    pub(crate) fn get(&self, slot: u16) -> Option<&PieceInProgress> {
        let slot = self.slots.get(usize::from(slot))?;
        slot.torrent.is_some().then_some(slot)
    }

    pub(crate) fn get_mut(&mut self, slot: u16) -> Option<&mut PieceInProgress> {
        let slot = self.slots.get_mut(usize::from(slot))?;
        slot.torrent.is_some().then_some(slot)
    }

    /// All of a torrent, by slot.
    pub(crate) fn of(&self, torrent: TorrentId) -> impl Iterator<Item = (u16, &PieceInProgress)> {
        (0..)
            .zip(&*self.slots)
            .filter(move |(_, partial)| partial.torrent == Some(torrent))
    }

    /// The slot of a piece, if it is in progress.
    pub(crate) fn find(&self, torrent: TorrentId, piece: PieceIndex) -> Option<u16> {
        let mut all = self.of(torrent);
        let found = all.find(|(_, partial)| partial.piece == piece.get());
        found.map(|(slot, _)| slot)
    }

    /// The piece of which nothing is on its way and most is missing; of those that were bad it is known who
    /// is suspected, so they come last.
    pub(crate) fn idlest(&self) -> Option<u16> {
        let idle = |(_, p): &(u16, &PieceInProgress)| {
            p.torrent.is_some() && p.pending == 0 && p.state == PieceState::Fetching
        };
        let all = (0..).zip(&*self.slots).filter(idle);
        let least = |(_, p): &(u16, &PieceInProgress)| (!p.evidence.alone, p.missing);
        all.max_by_key(least).map(|(slot, _)| slot)
    }

    /// A piece that is to be verified, of a torrent for which that can be done; it is being verified
    /// from now on.
    pub(crate) fn take_written(
        &mut self,
        may: impl Fn(TorrentId) -> bool,
    ) -> Option<PieceInProgress> {
        let due = |p: &&mut PieceInProgress| {
            p.state == PieceState::Written && p.torrent.is_some_and(&may)
        };
        let partial = self.slots.iter_mut().find(due)?;
        partial.state = PieceState::Verifying;
        Some(*partial)
    }

    /// The pieces of a torrent that were being verified are to be verified again.
    pub(crate) fn verify_again(&mut self, torrent: TorrentId) {
        let its = |p: &&mut PieceInProgress| {
            p.torrent == Some(torrent) && p.state == PieceState::Verifying
        };
        for partial in self.slots.iter_mut().filter(its) {
            partial.state = PieceState::Written;
        }
    }

    /// Begins a piece of `size` bytes; `None` if there is no room. `summed` is whether somebody may spoil it.
    pub(crate) fn begin(
        &mut self,
        torrent: TorrentId,
        piece: u32,
        size: u32,
        summed: bool,
    ) -> Option<u16> {
        let slot = self.slots.iter().position(|p| p.torrent.is_none())?;
        let blocks = size.div_ceil(BLOCK);
        let len = BITS_PER_BLOCK * blocks.div_ceil(8);
        let used = || self.slots.iter().map(|p| p.bits);
        let bits = reserve(len, self.bits.len(), used)?;
        bits.get_mut(self.bits).fill(0);
        self.slots[slot] = PieceInProgress {
            torrent: Some(torrent),
            piece,
            size,
            bits,
            open: blocks,
            missing: blocks,
            evidence: Evidence::new(summed),
            ..PieceInProgress::EMPTY
        };
        u16::try_from(slot).ok()
    }

    /// Forgets a piece in progress.
    pub(crate) fn end(&mut self, slot: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            *slot = PieceInProgress::EMPTY;
        }
    }

    /// Begins a piece again that was bad: all of it is to come from one peer. Returns the origin that sent all of the
    /// bad copy, if one did, and its strikes, see [`Evidence::bad`].
    pub(crate) fn restart(&mut self, slot: u16) -> Option<(u64, u8)> {
        let partial = self.slots.get_mut(usize::from(slot))?;
        partial.state = PieceState::Fetching;
        partial.exclusive = None;
        let blame = partial.evidence.bad();
        self.empty(slot);
        blame
    }

    /// The next block of a piece that comes from one origin alone is requested from this one. The blocks of another are
    /// dropped.
    pub(crate) fn claim(&mut self, slot: u16, by: ConnId, origin: u64) {
        let Some(partial) = self.slots.get_mut(usize::from(slot)) else {
            return broken("a piece in progress to claim");
        };
        partial.exclusive = Some(by);
        if partial.evidence.sole != Some(origin) {
            partial.evidence.restart(origin);
            self.empty(slot);
        }
    }

    /// Begins a piece again: no block is requested or written.
    fn empty(&mut self, slot: u16) {
        if let Some(partial) = self.slots.get_mut(usize::from(slot)) {
            let [asked, written, ..] = split(partial.bits.get_mut(self.bits));
            asked.fill(0);
            written.fill(0);
            (partial.open, partial.missing) = (partial.blocks(), partial.blocks());
        }
    }

    /// Remembers which origin sent a block. `sum` is computed only if it matters.
    pub(crate) fn block_received(
        &mut self,
        slot: u16,
        index: u32,
        origin: u64,
        sum: impl FnOnce() -> Sum,
    ) {
        let Some(partial) = self.slots.get_mut(usize::from(slot)) else {
            return broken("a piece in progress of a block that came");
        };
        let [_, _, low, high] = split(partial.bits.get_mut(self.bits));
        let evidence = &mut partial.evidence;
        if !evidence.alone {
            let sender = evidence.sender(origin);
            for (plane, bit) in [(&mut *low, 1), (&mut *high, 2)] {
                match sender & bit {
                    0 => bits::clear(plane, index),
                    _ => bits::set(plane, index),
                };
            }
        }
        if evidence.wants_sums() {
            let sender =
                usize::from(bits::get(low, index)) + 2 * usize::from(bits::get(high, index));
            evidence.add(sender, sum());
        }
    }

    /// Takes the first open block: one that is neither requested nor here.
    pub(crate) fn take_open(&mut self, slot: u16) -> Option<u32> {
        let partial = self.slots.get_mut(usize::from(slot))?;
        if partial.open == 0 {
            return None;
        }
        let [asked, ..] = split(partial.bits.get_mut(self.bits));
        let byte = asked.iter().position(|&byte| byte != 0xff)?;
        let index = u32::try_from(byte).ok()? * 8 + asked[byte].leading_ones();
        (index < partial.blocks()).then(|| {
            bits::set(asked, index);
            partial.open -= 1;
            index
        })
    }

    /// A block is here, and so not open any more.
    pub(crate) fn close(&mut self, slot: u16, index: u32) {
        let Some(partial) = self.slots.get_mut(usize::from(slot)) else {
            return broken("a piece in progress of a block that came");
        };
        let [asked, ..] = split(partial.bits.get_mut(self.bits));
        if bits::set(asked, index) {
            partial.open -= 1;
        }
    }

    /// A block is open again, as its request was dropped.
    pub(crate) fn reopen(&mut self, slot: u16, index: u32) {
        let Some(partial) = self.slots.get_mut(usize::from(slot)) else {
            return broken("a piece in progress of a block that is open again");
        };
        let [asked, written, ..] = split(partial.bits.get_mut(self.bits));
        if !bits::get(written, index) && bits::clear(asked, index) {
            partial.open += 1;
        }
    }

    /// Looks whether the counts of a piece are those of its bits, see [`crate::Node::audit`].
    pub(crate) fn audit(&self, slot: u16) {
        let Some(partial) = self.get(slot) else {
            return;
        };
        let all = partial.bits.get(self.bits);
        let (both, _) = all.split_at(all.len() / 2);
        let (asked, written) = both.split_at(both.len() / 2);
        let blocks = partial.blocks();
        assert_eq!(blocks - bits::count(asked), partial.open, "open blocks");
        let missing = blocks - bits::count(written);
        assert_eq!(missing, partial.missing, "missing blocks");
        let kept = written.iter().zip(asked).all(|(w, a)| w & !a == 0);
        assert!(kept, "what is written was asked for");
    }

    /// A block is written.
    pub(crate) fn block_written(&mut self, slot: u16, index: u32) {
        let Some(partial) = self.slots.get_mut(usize::from(slot)) else {
            return broken("a piece in progress of a block that was written");
        };
        let [asked, written, ..] = split(partial.bits.get_mut(self.bits));
        if bits::set(asked, index) {
            partial.open -= 1;
        }
        if bits::set(written, index) {
            partial.missing -= 1;
        }
        if partial.missing == 0 && partial.state == PieceState::Fetching {
            partial.state = PieceState::Written;
        }
    }
}

/// The bits of what was asked for, of what is written, and those that make up who gave it first.
fn split(all: &mut [u8]) -> [&mut [u8]; 4] {
    let (front, back) = all.split_at_mut(all.len() / 2);
    let (asked, written) = front.split_at_mut(front.len() / 2);
    let (low, high) = back.split_at_mut(back.len() / 2);
    [asked, written, low, high]
}

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::geometry::Geometry;

    const ID: TorrentId = TorrentId {
        slot: 0,
        tenancy: 0,
    };

    #[test]
    fn a_piece_from_its_first_block_to_its_last() {
        let (mut slots, mut bytes) = ([PieceInProgress::EMPTY; 2], [0; 8]);
        let mut in_progress = PiecesInProgress::new(&mut slots, &mut bytes);
        let slot = in_progress.begin(ID, 3, 9 * BLOCK + 5, false).unwrap();
        assert!(
            in_progress.begin(ID, 4, BLOCK, false).is_none(),
            "no bits are left"
        );
        for index in 0..10 {
            assert_eq!(in_progress.take_open(slot), Some(index));
        }
        assert_eq!(in_progress.take_open(slot), None);
        assert_eq!(in_progress.get(slot).unwrap().block_len(9), 5);
        in_progress.reopen(slot, 4);
        assert_eq!(in_progress.take_open(slot), Some(4));
        (0..10).for_each(|index| in_progress.block_written(slot, index));
        in_progress.reopen(slot, 4);
        let partial = in_progress.get(slot).unwrap();
        assert_eq!((partial.open, partial.state), (0, PieceState::Written));
        in_progress.restart(slot);
        assert_eq!(in_progress.take_open(slot), Some(0));
        let piece = Geometry::new(80 * u64::from(BLOCK), u64::from(9 * BLOCK + 5)).unwrap();
        let piece = piece.piece(3).unwrap();
        assert_eq!(in_progress.find(ID, piece), Some(slot));
        in_progress.end(slot);
        assert!(in_progress.begin(ID, 4, BLOCK, false).is_some());
    }
}
