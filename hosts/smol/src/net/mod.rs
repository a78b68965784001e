//! The network: the loop that drives the peers, their sockets, and which way calls go.

pub(crate) mod address;
pub(crate) mod engine;
mod epoll;
pub mod listen;
pub mod proxy;
pub(crate) mod scope;
pub(crate) mod socket;
mod sockopt;
pub mod way;
