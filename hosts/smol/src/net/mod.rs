//! The network: the loop that drives the peers, their sockets, and which way calls go.

pub(crate) mod address;
pub(crate) mod engine;
mod epoll;
pub mod listen;
pub(crate) mod lsd;
pub mod proxy;
pub(crate) mod routes;
pub(crate) mod scope;
pub(crate) mod socket;
mod sockopt;
pub mod udp;
pub mod way;

/// How blocks come from the page cache into sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    /// Read into a buffer that all peers share, sixteen at a time, and sent from there.
    Copy,
    /// Passed on by the kernel, `sendfile`. Whether the ends of a block are in the page cache and its
    /// file is as it was is looked at just before, which leaves two differences: all peers wait if
    /// the kernel dropped the middle of a block alone, and what somebody writes into the file while
    /// a block is on its way may reach the peer, whose check finds it.
    Sendfile,
}
