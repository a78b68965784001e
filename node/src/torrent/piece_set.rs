//! Sets of pieces of a torrent: none, all, or some, whose bits are in the lent memory.

use everseed_core::bits;
use everseed_core::geometry::PieceIndex;

use crate::api::AddError;
use crate::download::picker::Set;
use crate::torrent::{Bits, Torrents};

impl Torrents<'_> {
    pub(crate) fn contains(&self, set: Bits, piece: PieceIndex) -> bool {
        match set {
            Bits::None => false,
            Bits::All => true,
            Bits::Mixed { .. } => bits::get(self.bytes(set), piece.get()),
        }
    }

    /// How many pieces of a torrent with `pieces` are in the set.
    pub(crate) fn count(&self, set: Bits, pieces: u32) -> u32 {
        match set {
            Bits::None => 0,
            Bits::All => pieces,
            Bits::Mixed { .. } => bits::count(self.bytes(set)),
        }
    }

    /// A set, as the picker sees it.
    pub(crate) fn set(&self, set: Bits) -> Set<'_> {
        match set {
            Bits::None => Set::None,
            Bits::All => Set::All,
            Bits::Mixed { .. } => Set::Some(self.bytes(set)),
        }
    }

    /// The bytes of a mixed set.
    pub(crate) fn bytes(&self, set: Bits) -> &[u8] {
        match set {
            Bits::Mixed { start, len } => &self.bits[start as usize..(start + len) as usize],
            _ => &[],
        }
    }

    /// Sets or clears one piece, making the set mixed where it must be.
    pub(super) fn put(&mut self, set: &mut Bits, piece: PieceIndex, on: bool, pieces: u32) -> bool {
        if self.contains(*set, piece) == on {
            return true;
        }
        if !matches!(set, Bits::Mixed { .. }) {
            let Ok(mixed) = self.reserve(pieces.div_ceil(8)) else {
                return false;
            };
            if *set == Bits::All {
                let bytes = self.bits_mut(mixed);
                (0..pieces).for_each(|i| _ = bits::set(bytes, i));
            }
            *set = mixed;
        }
        let bytes = self.bits_mut(*set);
        if on {
            bits::set(bytes, piece.get());
        } else {
            bits::clear(bytes, piece.get());
        }
        true
    }

    pub(super) fn simplify(&self, set: Bits, pieces: u32) -> Bits {
        match self.count(set, pieces) {
            0 => Bits::None,
            n if n == pieces => Bits::All,
            _ => set,
        }
    }

    pub(super) fn bits_mut(&mut self, set: Bits) -> &mut [u8] {
        match set {
            Bits::Mixed { start, len } => &mut self.bits[start as usize..(start + len) as usize],
            _ => &mut [],
        }
    }

    /// The first gap of `len` bytes between the ranges in use, zeroed.
    pub(super) fn reserve(&mut self, len: u32) -> Result<Bits, AddError> {
        let mut start = 0;
        while let Some(end) = self.in_the_way(start, len) {
            start = end;
        }
        let end = start.checked_add(len).ok_or(AddError::Bits)?;
        let bytes = self
            .bits
            .get_mut(start as usize..end as usize)
            .ok_or(AddError::Bits)?;
        bytes.fill(0);
        Ok(Bits::Mixed { start, len })
    }

    /// The end of a range in use that overlaps `len` bytes at `start`.
    pub(super) fn in_the_way(&self, start: u32, len: u32) -> Option<u32> {
        self.slots
            .iter()
            .flat_map(|t| [t.have, t.good, t.wanted, t.begun])
            .find_map(|set| match set {
                Bits::Mixed { start: s, len: l }
                    if s < start.saturating_add(len) && start < s + l =>
                {
                    Some(s + l)
                }
                _ => None,
            })
    }
}
