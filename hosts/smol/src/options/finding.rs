//! Findings about a configuration: errors, and things that cannot be done.

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    /// Its line in the file, from 1 on.
    pub(crate) line: usize,
    /// The message for people.
    pub(crate) text: String,
    pub(crate) weight: Weight,
}

/// The consequence of a finding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Weight {
    /// everseed waits for it, at a start too.
    Waits,
    /// This one thing cannot be done; a start goes on without it.
    Wrong,
    /// Nothing can be done: a start fails.
    Fatal,
}
