//! The engine: the node on real sockets and files, with a thread of its own.
//!
//! [`Engine`] is what the session holds. What it shares with the thread is in `shared`, and the loop that the thread
//! drives is the `reactor`.

mod handle;
mod node;
mod reactor;
mod shared;

pub(crate) use self::handle::Engine;
pub(crate) use self::reactor::{Announce, TurnReport};
