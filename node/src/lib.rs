//! The engine: BitTorrent as a function of time and input to actions.
//!
//! [`Node`] owns no socket, file, clock, thread or heap. It lives in [`Memory`] that the host lends, so its memory
//! bound is a fact of its types. The same engine runs under smol, under async-std and in a simulation.
//!
//! | module | what lives there |
//! |---|---|
//! | [`api`] | actions, events, limits, statistics |
//! | [`input`] | every call that changes a node, as a value |
//! | `swarm` | connections: who is let in, what is said, when they end |
//! | `upload` | requests of peers, the choker, the rate limits |
//! | `download` | blocks that are requested and received, until their piece is verified |
//! | [`discovery`] | trackers, the DHT, PEX, LSD, port mapping, and the candidates to call |
//! | `peer` | the state of one connection |
//! | `torrent` | the torrents that are known, and the pieces of those that are awake |
//! | [`memory`] | the lent slices, and what happens when each is full |
//! | [`trace`] | recorded calls of a node, to be replayed |

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

pub mod api;
mod audit;
mod broken;
mod commands;
mod context;
pub mod discovery;
mod download;
pub mod input;
pub mod memory;
mod node;
mod parts;
mod peer;
mod rate;
mod swarm;
mod torrent;
pub mod trace;
mod upload;
mod wake;

pub use crate::api::{
    Action, AddError, Bodies, Body, BodySource, Event, Have, Identity, Limits, MetadataStats,
    Order, Stats, StorageError, Stuck, TorrentStats, Wanted,
};
pub use crate::discovery::announcer::{AnnounceId, Job};
pub use crate::discovery::candidates::PeerSource;
pub use crate::memory::Memory;
pub use crate::node::{Node, PACKET_MAX};
pub use crate::peer::{ConnId, Reason};
pub use crate::torrent::publicity::Publicity;
