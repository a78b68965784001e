//! A deterministic simulator: thousands of real [`Node`](everseed_node::Node)s in one process, in
//! virtual time.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | the hosts, their nodes, the clock and the events |
//! | [`link`] | connections: the bytes between two nodes, and how long they take |
//! | [`router`] | the router of a host: which datagrams it lets in |
//! | [`crowd`] | a DHT of nodes that are honest, silent, liars or a gang |
//! | [`storage`] | a disk that knows what every block should be, and can fail as disks do |
//! | [`replay`] | repeats the calls in the trace of a real host |
//! | [`scenarios`] | runs a swarm, prints its numbers, asserts what must be true of it |
//! | [`finding`] | scenarios about finding peers: the DHT, magnet links, routers, a dead tracker |
//! | [`chart`] | draws a chart as SVG |
//!
//! One seed decides all random numbers, so each fault can be repeated. These are asserted all the time: blocks that are
//! sent were verified, pieces that a node announces are on its disk, and at the end no block is missing.
//!
//! The network is a model. The connections of a node share its upload in turns, block by block, and its download in the
//! same way. Each pair of nodes has a latency, and connections lose nothing. Blocks have a mark in place of their
//! content: only [`storage`] looks at it.

#![forbid(unsafe_code)]
// The numbers of this model are far from the limits of their types.
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
