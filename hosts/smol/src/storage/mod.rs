//! The disk: the thread that waits for it, and the state that outlives a run.

mod aside;
pub(crate) mod catalogue;
pub(crate) mod closed;
pub(crate) mod contents;
pub(crate) mod described;
pub(crate) mod dormant;
mod lines;
pub(crate) mod mount_guard;
pub(crate) mod paused;
pub(crate) mod prune;
pub(crate) mod spool;
pub(crate) mod state;
pub(crate) mod worker;
