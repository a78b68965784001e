//! The heap as a [`Lender`], from which a host lends its [`Node`](everseed_node::Node) memory.
//!
//! Lent memory is never freed: a node lives as long as its program, and tasks can hold no borrow that ends.

#![forbid(unsafe_code)]

use std::mem::MaybeUninit;

use everseed_node::memory::Lender;

/// A lender of memory from the heap, which lends it for good.
///
/// ```
/// use everseed_heap::Heap;
/// use everseed_node::memory::{SCRATCH_MIN, Sizes};
/// use everseed_node::Memory;
///
/// let sizes = Sizes { conns: 50, registry: 1, torrents: 1, scratch: SCRATCH_MIN as u32, ..Sizes::NONE };
/// let memory = Memory::lend(&sizes, &mut Heap);
/// assert_eq!(memory.sizes(), sizes);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

impl Lender<'static> for Heap {
    // Zeros come from pages that the system has not given yet.
    fn filled<T: Clone + 'static>(&mut self, value: T, len: usize) -> &'static mut [T] {
        vec![value; len].leak()
    }

    fn made<T: 'static>(&mut self, len: usize, mut make: impl FnMut() -> T) -> &'static mut [T] {
        Vec::leak((0..len).map(|_| make()).collect())
    }

    fn room<T: 'static>(&mut self, len: usize) -> &'static mut [MaybeUninit<T>] {
        Box::leak(Box::new_uninit_slice(len))
    }
}
