//! What is wrong in a configuration, or cannot be carried out.

/// One thing that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    /// Where in the file, counted from 1.
    pub(crate) line: usize,
    /// For people.
    pub(crate) text: String,
    pub(crate) weight: Weight,
}

/// How much it matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Weight {
    /// It is waited for, at a start as well.
    Waits,
    /// It cannot be carried out, and everything else can: a start goes on without it.
    Wrong,
    /// Nothing can be carried out.
    Fatal,
}
