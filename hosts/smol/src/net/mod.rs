//! The network: the engine that drives the peers, its memory, their sockets, and the addresses from which others are
//! called.

pub(crate) mod address;
pub(crate) mod changes;
pub(crate) mod engine;
mod epoll;
pub mod listen;
pub(crate) mod lsd;
pub(crate) mod memory;
pub mod proxy;
pub(crate) mod routes;
pub(crate) mod scope;
pub(crate) mod socket;
mod sockopt;
pub mod udp;
pub mod way;

/// How blocks get from the page cache into sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    /// Through a buffer that all peers share, sixteen blocks at a time.
    Copy,
    /// By the kernel's `sendfile`. Just before, the ends of each block are checked to be in the page cache, and the
    /// file to be unchanged. Two differences remain. All peers wait if the kernel dropped only the middle of a block.
    /// And bytes that somebody writes into the file while a block is on its way may reach the peer, whose hash check
    /// finds them.
    Sendfile,
}
