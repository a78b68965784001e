//! Pending blocks: requested from a peer, being received, or waiting to be written.
//!
//! There is one [`PendingBlock`] for each slot of the block pool, of the same index, so a block that is requested
//! always has memory. A connection's pending blocks are a list in the order of their requests; requests that
//! are yet to be sent are at its end.
//!
//! Invariant: a pending block that is neither `Free` nor being written is in exactly one list: a connection's, or
//! that of the blocks to write.

use core::ops::Range;

use everseed_core::pool::BlockId;
use everseed_core::time::Instant;

use crate::broken::broken;
use crate::memory::ids::NONE;

/// A lent slot for what is known of a block on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingBlock {
    pub(crate) state: BlockState,
    pub(crate) block: BlockId,
    pub(crate) source: BlockSource,
    /// The piece in progress that it is of.
    pub(crate) partial: u16,
    /// Its number in the piece.
    pub(crate) index: u32,
    /// Bytes.
    pub(crate) len: u32,
    /// Bytes that have come.
    pub(crate) got: u32,
    pub(crate) requested_at: Instant,
    pub(crate) next: u16,
}

/// Whom a block is requested from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BlockSource {
    /// Nobody: the slot is free.
    None,
    /// The peer of the connection in this slot.
    Peer(u16),
}

impl BlockSource {
    /// The slot of the connection, if it is a peer.
    pub(crate) fn peer(self) -> Option<usize> {
        match self {
            BlockSource::None => None,
            BlockSource::Peer(slot) => Some(usize::from(slot)),
        }
    }
}

/// How far a block has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BlockState {
    /// The slot is free.
    Free,
    /// Its request is to be sent.
    Reserved,
    /// Its request was sent.
    Requested,
    /// Its bytes are being received.
    Receiving,
    /// It is here, and the host is to write it.
    Write,
    /// The host writes it.
    Writing,
    /// As before, but nobody needs it any more.
    Dropped,
}

impl PendingBlock {
    /// An unused slot.
    pub(crate) const EMPTY: PendingBlock = PendingBlock {
        state: BlockState::Free,
        block: BlockId {
            slot: 0,
            tenancy: 0,
        },
        source: BlockSource::None,
        partial: NONE,
        index: 0,
        len: 0,
        got: 0,
        requested_at: Instant::ZERO,
        next: NONE,
    };
}

impl PendingBlock {
    /// Whether both are of the same block.
    pub(crate) fn is_same(&self, other: &PendingBlock) -> bool {
        (self.partial, self.index) == (other.partial, other.index)
    }
}

/// A list of pending blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PendingList {
    pub(crate) head: u16,
    pub(crate) tail: u16,
    pub(crate) len: u16,
    /// The first that is not sent yet.
    pub(crate) unsent: u16,
}

impl PendingList {
    pub(crate) const EMPTY: PendingList = PendingList {
        head: NONE,
        tail: NONE,
        len: 0,
        unsent: NONE,
    };
}

/// All pending blocks.
#[derive(Debug)]
pub(crate) struct PendingBlocks<'m> {
    slots: &'m mut [PendingBlock],
}

impl<'m> PendingBlocks<'m> {
    pub(crate) fn new(slots: &'m mut [PendingBlock]) -> PendingBlocks<'m> {
        slots.fill(PendingBlock::EMPTY);
        PendingBlocks { slots }
    }

    /// The number of each slot.
    #[allow(clippy::cast_possible_truncation)] // One for each block of a pool, which has at most `u16::MAX`.
    pub(crate) fn slots(&self) -> Range<u16> {
        0..self.slots.len().min(usize::from(u16::MAX)) as u16
    }

    pub(crate) fn get(&self, slot: u16) -> Option<&PendingBlock> {
        self.slots.get(usize::from(slot))
    }

    pub(crate) fn get_mut(&mut self, slot: u16) -> Option<&mut PendingBlock> {
        self.slots.get_mut(usize::from(slot))
    }

    /// The pending block after this one in its list.
    pub(crate) fn next(&self, slot: u16) -> u16 {
        self.get(slot).map_or(NONE, |pending| pending.next)
    }

    /// Pending blocks that are in use, by slot.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = (u16, &PendingBlock)> {
        (0..)
            .zip(&*self.slots)
            .filter(|(_, f)| f.state != BlockState::Free)
    }

    /// Appends a pending block to a list.
    pub(crate) fn push(&mut self, list: &mut PendingList, slot: u16) {
        let Some(pending) = self.get_mut(slot) else {
            return broken("a pending block to append");
        };
        pending.next = NONE;
        let unsent = pending.state == BlockState::Reserved;
        match self.get_mut(list.tail) {
            Some(tail) => tail.next = slot,
            None => list.head = slot,
        }
        list.tail = slot;
        list.len += 1;
        if unsent && list.unsent == NONE {
            list.unsent = slot;
        }
    }

    /// Takes a pending block out of a list; false if it is not in it.
    pub(crate) fn unlink(&mut self, list: &mut PendingList, slot: u16) -> bool {
        let (mut before, mut at) = (NONE, list.head);
        while at != slot {
            if at == NONE {
                return false;
            }
            (before, at) = (at, self.next(at));
        }
        let next = self.next(slot);
        match self.get_mut(before) {
            Some(pending) => pending.next = next,
            None => list.head = next,
        }
        if list.tail == slot {
            list.tail = before;
        }
        if list.unsent == slot {
            list.unsent = next;
        }
        list.len -= 1;
        true
    }

    /// The first pending block of a list for which `hit` holds.
    pub(crate) fn find(
        &self,
        list: &PendingList,
        hit: impl Fn(&PendingBlock) -> bool,
    ) -> Option<u16> {
        let mut at = list.head;
        while let Some(pending) = self.get(at) {
            if hit(pending) {
                return Some(at);
            }
            at = pending.next;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_and_know_what_is_unsent() {
        let mut slots = [PendingBlock::EMPTY; 5];
        let mut pending = PendingBlocks::new(&mut slots);
        let mut list = PendingList::EMPTY;
        for slot in 0..4 {
            pending.get_mut(slot).unwrap().state = if slot < 2 {
                BlockState::Requested
            } else {
                BlockState::Reserved
            };
            pending.push(&mut list, slot);
        }
        assert_eq!((list.head, list.unsent, list.len), (0, 2, 4));
        assert!(!pending.unlink(&mut list, 4));
        for (slot, head, unsent) in [(1, 0, 2), (2, 0, 3), (0, 3, 3), (3, NONE, NONE)] {
            assert!(pending.unlink(&mut list, slot));
            assert_eq!((list.head, list.unsent), (head, unsent), "without {slot}");
        }
        assert_eq!(list, PendingList::EMPTY);
        pending.get_mut(4).unwrap().state = BlockState::Reserved;
        pending.push(&mut list, 4);
        assert_eq!((list.head, list.unsent, list.len), (4, 4, 1));
    }
}
