//! Indices of slots.

/// No slot: the end of a list.
pub(crate) const NONE: u16 = u16::MAX;
