//! A pool of fixed-size block buffers over memory that is lent once.
//!
//! A slot holds one block of at most [`BLOCK`] bytes. Ids carry the slot's tenancy, so the answer of
//! a slow disk that comes after the slot was given to somebody else touches nothing. While a
//! block is being written, its buffer is with whoever writes it, and the slot cannot be taken.

use serde::{Deserialize, Serialize};

use crate::geometry::BLOCK;

/// A block's slot and the tenancy that it was given for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct BlockId {
    /// Index of the slot.
    pub slot: u16,
    /// How often the slot had been let before.
    pub tenancy: u16,
}

/// A slot and its buffer.
#[derive(Debug)]
pub struct BlockSlot<'m> {
    bytes: Option<&'m mut [u8]>,
    tenancy: u16,
    taken: bool,
    next_free: u16,
}

impl<'m> BlockSlot<'m> {
    /// A free slot with this buffer.
    ///
    /// # Panics
    /// If the buffer is not [`BLOCK`] bytes long.
    pub fn new(bytes: &'m mut [u8]) -> BlockSlot<'m> {
        assert!(
            bytes.len() == BLOCK as usize,
            "a block's buffer is {BLOCK} bytes long"
        );
        BlockSlot {
            bytes: Some(bytes),
            tenancy: 0,
            taken: false,
            next_free: NONE,
        }
    }
}

/// Blocks by id.
///
/// Invariants: a slot is either taken or in the list that begins with `first_free`; `free` is the length of that
/// list; only a taken slot's buffer may be away.
#[derive(Debug)]
pub struct Pool<'m> {
    slots: &'m mut [BlockSlot<'m>],
    first_free: u16,
    free: u16,
}

/// No slot has this index.
const NONE: u16 = u16::MAX;

impl<'m> Pool<'m> {
    /// A pool of these slots; at most 65,535 of them are used.
    pub fn new(slots: &'m mut [BlockSlot<'m>]) -> Pool<'m> {
        let len = slots.len().min(usize::from(NONE));
        let (slots, _) = slots.split_at_mut(len);
        let mut first_free = NONE;
        let mut free = 0u16;
        for (slot, index) in slots.iter_mut().zip(0..NONE) {
            slot.next_free = first_free;
            first_free = index;
            free = free.saturating_add(1);
        }
        Pool {
            slots,
            first_free,
            free,
        }
    }

    /// All slots.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is not a single slot.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Slots that are free.
    pub fn free(&self) -> usize {
        usize::from(self.free)
    }

    /// Takes a slot; `None` when all are taken, which the caller answers by not asking for more.
    pub fn take(&mut self) -> Option<BlockId> {
        let slot = self.first_free;
        let entry = self.slots.get_mut(usize::from(slot))?;
        self.first_free = entry.next_free;
        entry.taken = true;
        self.free = self.free.saturating_sub(1);
        Some(BlockId {
            slot,
            tenancy: entry.tenancy,
        })
    }

    /// Gives a slot back; a stale id is ignored, and so is one whose buffer is away. Answers whether
    /// the slot is free now.
    pub fn release(&mut self, id: BlockId) -> bool {
        let first_free = self.first_free;
        let Some(entry) = self.entry(id).filter(|entry| entry.bytes.is_some()) else {
            return false;
        };
        entry.taken = false;
        entry.tenancy = entry.tenancy.wrapping_add(1);
        entry.next_free = first_free;
        self.first_free = id.slot;
        self.free = self.free.saturating_add(1);
        true
    }

    /// The bytes of a block, [`BLOCK`] of them; `None` while its buffer is away.
    pub fn bytes(&self, id: BlockId) -> Option<&[u8]> {
        let entry = self.slots.get(usize::from(id.slot))?;
        entry.bytes.as_deref().filter(|_| entry.is(id))
    }

    /// The bytes of a block, to be filled.
    pub fn bytes_mut(&mut self, id: BlockId) -> Option<&mut [u8]> {
        self.entry(id)?.bytes.as_deref_mut()
    }

    /// Hands out a block's buffer, for good as far as the type knows: [`put_back`](Self::put_back)
    /// it.
    pub fn hand_out(&mut self, id: BlockId) -> Option<&'m mut [u8]> {
        self.entry(id)?.bytes.take()
    }

    /// Takes the buffer of a block back. False if none is missing there: then it is dropped.
    pub fn put_back(&mut self, id: BlockId, bytes: &'m mut [u8]) -> bool {
        match self.entry(id) {
            Some(entry) if entry.bytes.is_none() && bytes.len() == BLOCK as usize => {
                entry.bytes = Some(bytes);
                true
            }
            _ => false,
        }
    }

    fn entry(&mut self, id: BlockId) -> Option<&mut BlockSlot<'m>> {
        self.slots
            .get_mut(usize::from(id.slot))
            .filter(|entry| entry.is(id))
    }
}

impl BlockSlot<'_> {
    fn is(&self, id: BlockId) -> bool {
        self.taken && self.tenancy == id.tenancy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    #[test]
    fn take_fill_release() {
        let mut bytes = std::vec![0; 2 * BLOCK as usize];
        let mut slots: Vec<_> = bytes
            .chunks_mut(BLOCK as usize)
            .map(BlockSlot::new)
            .collect();
        let mut pool = Pool::new(&mut slots);
        assert_eq!((pool.free(), pool.len()), (2, 2));
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!(pool.take(), None);
        pool.bytes_mut(a).unwrap().fill(1);
        pool.bytes_mut(b).unwrap().fill(2);
        assert!(pool.bytes(a).unwrap().iter().all(|&x| x == 1));
        assert!(pool.release(a));
        assert_eq!(pool.bytes(a), None);
        let again = pool.take().unwrap();
        assert_eq!(again.slot, a.slot);
        assert!(
            !pool.release(a),
            "a stale id does not free the new tenant's slot"
        );
        assert_eq!(pool.bytes_mut(a), None);
        assert!(pool.release(again) && pool.release(b));
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn a_buffer_that_is_away_keeps_its_slot() {
        let mut bytes = std::vec![0; BLOCK as usize];
        let mut slots = [BlockSlot::new(&mut bytes)];
        let mut pool = Pool::new(&mut slots);
        let id = pool.take().unwrap();
        let buffer = pool.hand_out(id).unwrap();
        assert!(pool.hand_out(id).is_none() && pool.bytes(id).is_none());
        assert!(!pool.release(id), "its buffer is away");
        assert!(pool.put_back(id, buffer));
        assert!(pool.release(id));
        assert_eq!(pool.free(), 1);
    }
}
