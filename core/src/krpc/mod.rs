//! KRPC: the messages between nodes of the distributed hash table (BEP 5), one in each datagram.
//!
//! | module | what it is | source |
//! |---|---|---|
//! | `read`, `write` | messages from and to datagrams | BEP 5, 32, 33, 42, 43, 51 |
//! | `id` | ids of nodes, their distance, and those that belong to an address | BEP 5, 42 |
//! | `bloom` | sets that count peers without naming them | BEP 33 |
//!
//! A message borrows from its datagram; nothing is copied. Faults of clients in use are tolerated: unknown keys,
//! keys in any order, values of a wrong type where the rest makes sense, and bytes after the message. A query of an
//! unknown method that names a target is answered like `find_node`.

mod bloom;
mod id;
mod read;
#[cfg(test)]
mod tests;
mod write;

use core::net::SocketAddr;

pub use bloom::Bloom;
pub use id::{NodeId, is_local};
pub use read::{Malformed, Nodes, Values};
pub use write::{put_node, put_value};

/// One datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Chosen by whoever asks and repeated in the answer, at most [`TRANSACTION_MAX`] bytes.
    pub transaction: &'a [u8],
    /// The sender's client and version, four bytes as a rule; empty if untold.
    pub version: &'a [u8],
    /// The sender answers no queries and wants to be in nobody's table (BEP 43).
    pub read_only: bool,
    /// The address that this answer was sent to: the receiver's own, as the sender sees it (BEP 42).
    pub observed: Option<SocketAddr>,
    /// The query, answer or error.
    pub body: Body<'a>,
}

/// The content of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// A query, with the id of the node that asks.
    Query(NodeId, Query<'a>),
    /// The answer to a query.
    Response(Response<'a>),
    /// The refusal of a query.
    Error {
        /// One of the `ERROR_` numbers, or any other.
        code: i64,
        /// Words for a person.
        reason: &'a [u8],
    },
}

/// A query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query<'a> {
    /// `ping`: are you there?
    Ping,
    /// `find_node`: which nodes are close to `target`?
    FindNode {
        /// Any id.
        target: NodeId,
        /// The families of the nodes.
        want: Want,
    },
    /// `get_peers`: which peers of a torrent do you know, or nodes that are closer to it?
    GetPeers {
        /// The torrent.
        info_hash: NodeId,
        /// The families of the nodes.
        want: Want,
        /// The node that asks has no use for seeds (BEP 33).
        noseed: bool,
        /// Peers are to be counted, not named (BEP 33).
        scrape: bool,
    },
    /// `announce_peer`: I am a peer of this torrent.
    AnnouncePeer {
        /// The torrent.
        info_hash: NodeId,
        /// The port on which peers can call the sender.
        port: u16,
        /// The port is the one that the datagram came from.
        implied_port: bool,
        /// The token of the answer to `get_peers`.
        token: &'a [u8],
        /// The sender has all of it (BEP 33).
        seed: bool,
    },
    /// `sample_infohashes`: of which torrents do you know peers? (BEP 51)
    SampleInfohashes {
        /// Nodes close to this are asked for too.
        target: NodeId,
        /// The families of the nodes.
        want: Want,
    },
    /// A query of another method.
    Unknown,
}

/// Nodes of which families are asked for (BEP 32). If of none, those of the datagram's own are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Want {
    /// `n4`.
    pub v4: bool,
    /// `n6`.
    pub v6: bool,
}

/// An answer; which parts it has depends on what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response<'a> {
    /// The id of the node that answers.
    pub id: NodeId,
    /// The token that an announce to this node has to show.
    pub token: Option<&'a [u8]>,
    /// Nodes by IPv4 (BEP 5).
    pub nodes: Nodes<'a>,
    /// Nodes by IPv6 (BEP 32).
    pub nodes6: Nodes<'a>,
    /// Peers.
    pub values: Values<'a>,
    /// Seeds and other peers, counted (BEP 33).
    pub blooms: Option<Blooms<'a>>,
    /// Torrents (BEP 51).
    pub samples: Option<Samples<'a>>,
}

/// Peers of a torrent, counted (BEP 33).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blooms<'a> {
    /// Peers that have all of the torrent.
    pub seeds: &'a [u8; Bloom::BYTES],
    /// Peers that do not.
    pub peers: &'a [u8; Bloom::BYTES],
}

/// Some of the torrents that a node knows peers of (BEP 51).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Samples<'a> {
    /// Seconds before there will be others.
    pub interval_s: u32,
    /// How many the node knows.
    pub known: u32,
    /// Info-hashes, one after the other.
    pub info_hashes: &'a [u8],
}

impl<'a> Response<'a> {
    /// An answer with nothing in it.
    pub const fn empty(id: NodeId) -> Response<'a> {
        Response {
            id,
            token: None,
            nodes: Nodes::v4(&[]),
            nodes6: Nodes::v6(&[]),
            values: Values::new(&[]),
            blooms: None,
            samples: None,
        }
    }
}

/// The longest transaction id that is read, in bytes. Clients in use choose 2 to 8.
pub const TRANSACTION_MAX: usize = 32;

/// The longest token that is read, in bytes. Clients in use give 4 to 20.
pub const TOKEN_MAX: usize = 32;

/// Error: something else.
pub const ERROR_GENERIC: i64 = 201;
/// Error: the query makes no sense, as its token does not.
pub const ERROR_PROTOCOL: i64 = 203;
/// Error: no such method.
pub const ERROR_METHOD: i64 = 204;
