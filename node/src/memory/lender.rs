//! [`Lender`]: the source of a node's memory.

use core::mem::MaybeUninit;

/// A source of memory: the heap of a daemon, or statics on bare metal. What is lent is never taken back.
pub trait Lender<'m> {
    /// `len` copies of a value.
    fn filled<T: Clone + 'm>(&mut self, value: T, len: usize) -> &'m mut [T];

    /// `len` values that are made one by one.
    fn made<T: 'm>(&mut self, len: usize, make: impl FnMut() -> T) -> &'m mut [T];

    /// Room for `len` values, which should take no memory before it is used.
    fn room<T: 'm>(&mut self, len: usize) -> &'m mut [MaybeUninit<T>];
}
