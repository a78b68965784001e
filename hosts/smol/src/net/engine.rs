//! The engine: the node on real sockets and files, with a thread of its own.
//!
//! The session holds the [`Engine`]. What that shares with its thread is in `shared`; the loop of the thread is the
//! `reactor`.

mod handle;
mod node;
mod reactor;
mod shared;
#[cfg(test)]
mod tests;

pub(crate) use self::handle::Engine;
pub(crate) use self::node::Good;
pub(crate) use self::reactor::{Announce, FileReports, TurnReport};
