//! A pool of fixed-size block buffers over memory that is lent once.
//!
//! A slot holds one block of at most [`BLOCK`] bytes. Ids carry the slot's tenancy, so the answer of
//! a slow disk that comes after the slot was given to somebody else touches nothing.

use crate::geometry::BLOCK;

/// A block's slot and the tenancy that it was given for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct BlockId {
    /// Index of the slot.
    pub slot: u16,
    /// How often the slot had been let before.
    pub tenancy: u16,
}

/// The book-keeping of one slot.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockSlot {
    tenancy: u16,
    taken: bool,
}

/// Blocks by id.
///
/// Invariant: `slots.len() * BLOCK <= bytes.len()` and `slots.len() <= 65536`.
#[derive(Debug)]
pub struct Pool<'m> {
    slots: &'m mut [BlockSlot],
    bytes: &'m mut [u8],
    free: usize,
}

impl<'m> Pool<'m> {
    /// A pool of as many blocks as both slices have room for; whatever is longer stays unused.
    pub fn new(slots: &'m mut [BlockSlot], bytes: &'m mut [u8]) -> Pool<'m> {
        let room = bytes.chunks_exact(BLOCK as usize).len();
        let len = slots.len().min(room).min(usize::from(u16::MAX));
        let (slots, _) = slots.split_at_mut(len);
        slots.fill(BlockSlot::default());
        Pool {
            free: slots.len(),
            slots,
            bytes,
        }
    }

    /// Slots that are free.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Takes a slot; `None` when all are taken, which the caller answers by not asking for more.
    pub fn take(&mut self) -> Option<BlockId> {
        let slot = self.slots.iter().position(|slot| !slot.taken)?;
        let entry = self.slots.get_mut(slot)?;
        entry.taken = true;
        self.free = self.free.saturating_sub(1);
        Some(BlockId {
            slot: u16::try_from(slot).ok()?,
            tenancy: entry.tenancy,
        })
    }

    /// Gives a slot back; a stale id is ignored. Answers whether it was the tenant.
    pub fn release(&mut self, id: BlockId) -> bool {
        let Some(entry) = self.entry(id) else {
            return false;
        };
        entry.taken = false;
        entry.tenancy = entry.tenancy.wrapping_add(1);
        self.free = self.free.saturating_add(1);
        true
    }

    /// The bytes of a block, [`BLOCK`] of them.
    pub fn bytes(&self, id: BlockId) -> Option<&[u8]> {
        self.slots
            .get(usize::from(id.slot))
            .filter(|entry| entry.is(id))?;
        self.bytes
            .chunks_exact(BLOCK as usize)
            .nth(usize::from(id.slot))
    }

    /// The bytes of a block, to be filled.
    pub fn bytes_mut(&mut self, id: BlockId) -> Option<&mut [u8]> {
        self.entry(id)?;
        self.bytes
            .chunks_exact_mut(BLOCK as usize)
            .nth(usize::from(id.slot))
    }

    fn entry(&mut self, id: BlockId) -> Option<&mut BlockSlot> {
        self.slots
            .get_mut(usize::from(id.slot))
            .filter(|entry| entry.is(id))
    }
}

impl BlockSlot {
    fn is(&self, id: BlockId) -> bool {
        self.taken && self.tenancy == id.tenancy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;

    #[test]
    fn take_fill_release() {
        let mut slots = [BlockSlot::default(); 3];
        let mut bytes = std::vec![0; 2 * BLOCK as usize + 5];
        let mut pool = Pool::new(&mut slots, &mut bytes);
        assert_eq!(pool.free(), 2);
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
}
