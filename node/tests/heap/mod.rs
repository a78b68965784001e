//! Memory for nodes in tests.

use std::mem::MaybeUninit;

use everseed_node::memory::Lender;

/// Lends memory from the heap and never frees it.
pub(crate) struct Heap;

impl Lender<'static> for Heap {
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
