//! A deterministic simulator: thousands of real [`Node`](everseed_node::Node)s in one process, in
//! virtual time.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | the nodes, the clock, and what happens next |
//! | [`link`] | connections: how bytes get from one node to another, and how long that takes |
//! | [`router`] | what stands between a host and the internet, and lets in whom |
//! | [`crowd`] | a DHT of nodes that are honest, silent, liars or a gang |
//! | [`storage`] | an oracle: it knows what every block should be, and can fail in the ways of disks |
//! | [`replay`] | what a real node was told, told again |
//! | [`scenarios`] | swarms to look at, and what must be true of each |
//! | [`finding`] | the same about being found: the DHT, magnet links, routers, a dead tracker |
//! | [`chart`] | the picture for a README |
//!
//! One seed decides everything, so whatever goes wrong can be seen again. Asserted all the time: what
//! is sent was verified, what a node says it has is on its disk, and at rest no block is missing.
//!
//! The network is a model: a node's upload is one pipe that its connections share in turns, block by
//! block, as is its download; there is a latency for each pair, and no loss within a connection. Blocks
//! carry a mark in place of their content, as nobody but the oracle ever looks at it.

#![forbid(unsafe_code)]
// A model: its numbers are far from the ends of their types.
#![allow(clippy::cast_possible_truncation)]

pub mod chart;
pub mod crowd;
pub mod finding;
pub mod link;
pub mod replay;
pub mod router;
pub mod scenarios;
pub mod storage;
pub mod world;
