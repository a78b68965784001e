//! The swarm: the connections of all torrents, from their admission to their end.
//!
//! | module | what it does |
//! |---|---|
//! | `admission` | who gets a place, and who leaves when there is none for others |
//! | `connections` | a connection's slot from the call to the end |
//! | `inbound`, [`outbound`] | the messages that peers send, and those that are sent to them |
//! | `traffic` | the next action of a connection, and the count of bytes that were sent |
//! | `pieces`, `storage` | what follows from a piece that was verified, and from other events of the storage |
//! | `early_pieces` | what peers say of their pieces before there is metadata |
//! | `have_log` | the pieces that peers are to be told of |
//! | `gossip` | what peers are told of each other |
//! | `timers` | the sweep every five seconds: timeouts, keep-alives |
//! | `stash` | the buffer of an extended message that arrives in parts |
//! | `bans` | the addresses that sent bad pieces |

pub(crate) mod admission;
pub(crate) mod bans;
pub(crate) mod connections;
pub(crate) mod early_pieces;
pub(crate) mod gossip;
pub(crate) mod have_log;
pub(crate) mod inbound;
pub(crate) mod outbound;
pub(crate) mod pieces;
pub(crate) mod stash;
pub(crate) mod storage;
pub(crate) mod timers;
pub(crate) mod traffic;

#[cfg(test)]
mod tests;

use core::net::SocketAddr;

use everseed_core::time::Instant;

use crate::api::{Identity, Limits, Stats};
use crate::discovery::pex::Outgoing;
use crate::parts::Parts;
use crate::swarm::bans::Bans;
use crate::swarm::have_log::HaveLog;
use crate::swarm::stash::Stash;

/// See the module.
#[derive(Debug)]
pub(crate) struct Swarm<'m> {
    pub(crate) identity: Identity,
    /// The ports at which we are reached from outside, by IPv4 first: that of a mapping may be another one.
    pub(crate) ports: [u16; 2],
    pub(crate) limits: Limits,
    pub(crate) stopping: bool,
    /// The buffer into which sockets are read.
    pub(crate) scratch: &'m mut [u8],
    /// An extended message that comes in pieces.
    pub(crate) stash: Stash,
    pub(crate) have_log: HaveLog,
    /// The PEX messages that are being sent.
    pub(crate) pex: Outgoing,
    pub(crate) bans: Bans,
    /// The count of peers for which there was no place, see [`Stats`](crate::Stats).
    pub(crate) turned_away: u64,
    pub(crate) next_sweep: Option<Instant>,
}

impl<'m> Swarm<'m> {
    pub(crate) fn new(scratch: &'m mut [u8], identity: Identity, limits: Limits) -> Swarm<'m> {
        Swarm {
            ports: [identity.port; 2],
            identity,
            limits,
            stopping: false,
            scratch,
            stash: Stash::default(),
            have_log: HaveLog::new(),
            pex: Outgoing::new(),
            bans: Bans::new(),
            turned_away: 0,
            next_sweep: None,
        }
    }

    /// Numbers about the whole node.
    pub(crate) fn stats(&self, on: &Parts<'_>) -> Stats {
        let mut stats = Stats {
            uploaded: on.upload.uploaded,
            downloaded: on.download.downloaded,
            turned_away: self.turned_away,
            ..Stats::default()
        };
        for conn in on.cx.peers.iter().filter(|conn| conn.is_open()) {
            stats.peers += 1;
            stats.interested += u16::from(conn.upload.interested);
            stats.unchoked += u16::from(conn.upload.unchoked);
        }
        stats
    }

    /// The port that somebody at an address is told to call.
    pub(crate) fn port_for(&self, addr: SocketAddr) -> u16 {
        self.ports[usize::from(addr.ip().to_canonical().is_ipv6())]
    }
}
