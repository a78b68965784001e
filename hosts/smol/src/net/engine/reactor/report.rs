//! What the reactor tells the session.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};

use everseed_core::geometry::TorrentId;
use everseed_core::tracker::Report;
use everseed_disk::ReadError;
use everseed_disk::fault::{Extent, Unread};
use everseed_node::Job;
use everseed_node::discovery::udp_trackers::UdpOutcome;

use crate::storage::worker::{Done, Unwritten};

/// What happened that is not the engine's business, until somebody takes it.
///
/// Nobody may take it for a long time, as the session may wait for a disk. Each torrent is told of once until the
/// session has answered, each announce is made once, and of faults [`FAULTS`] are kept.
#[derive(Default)]
pub(crate) struct TurnReport {
    /// Signals that asked to stop.
    pub(crate) signals: u32,
    /// The alarm was rung: futures may go on.
    pub(crate) rung: bool,
    /// Connections that speak HTTP.
    pub(crate) web: Vec<(TcpStream, SocketAddr)>,
    /// Torrents whose files could not be read, and why.
    pub(crate) unreadable: Vec<(TorrentId, ReadError)>,
    /// Pieces that could not be read, while others can.
    pub(crate) unread: Vec<(TorrentId, Unread)>,
    /// Torrents whose files could not be written, and why.
    pub(crate) unwritable: Vec<(TorrentId, Unwritten)>,
    /// What the worker did for others.
    pub(crate) done: Vec<Done>,
    /// Torrents that are asleep and wanted, and peers of them that are known.
    pub(crate) wakes: Vec<(TorrentId, Vec<SocketAddr>)>,
    /// Torrents whose metadata is here, and those for which that could not be kept.
    pub(crate) fetched: Vec<TorrentId>,
    pub(crate) unspooled: Vec<(TorrentId, io::Error)>,
    /// Announces to make.
    pub(crate) announces: Vec<Announce>,
    /// Announces by UDP that have ended.
    pub(crate) udp_outcomes: Vec<UdpOutcome>,
    /// Somebody outside who called us.
    pub(crate) caller: Option<IpAddr>,
    /// Whether nobody is known in the distributed hash table.
    pub(crate) finds_nodes: bool,
}

/// An announce that the node asked for, and what is to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announce {
    pub(crate) job: Job,
    pub(crate) report: Report,
}

impl TurnReport {
    /// A piece could not be read, or a file was changed, which leads to a look at all of the torrent.
    pub(super) fn unread(&mut self, torrent: TorrentId, fault: Unread) {
        let is_known = match fault.extent {
            Extent::Change => self
                .unread
                .iter()
                .any(|(other, known)| *other == torrent && known.extent == Extent::Change),
            _ => self.unread.len() >= FAULTS,
        };
        if !is_known {
            self.unread.push((torrent, fault));
        }
    }

    /// A block could not be written. Of one file, one fault is enough.
    pub(super) fn unwritable(&mut self, torrent: TorrentId, fault: Unwritten) {
        let same = |(other, known): &(TorrentId, Unwritten)| {
            *other == torrent && known.pieces == fault.pieces
        };
        if self.unwritable.len() < FAULTS && !self.unwritable.iter().any(same) {
            self.unwritable.push((torrent, fault));
        }
    }

    /// Whether there is anything.
    pub(crate) fn is_any(&self) -> bool {
        let TurnReport {
            signals,
            rung,
            web,
            unreadable,
            unread,
            unwritable,
            done,
            wakes,
            fetched,
            unspooled,
            announces,
            udp_outcomes,
            caller,
            finds_nodes,
        } = self;
        let faults = !unreadable.is_empty() || !unread.is_empty() || !unwritable.is_empty();
        let metadata = !fetched.is_empty() || !unspooled.is_empty();
        let trackers = !announces.is_empty() || !udp_outcomes.is_empty();
        let work = !web.is_empty() || !done.is_empty() || !wakes.is_empty();
        let others = *signals > 0 || *rung || caller.is_some() || *finds_nodes;
        faults || metadata || trackers || work || others
    }
}

/// Faults that are kept of a kind; the next look or the next try finds out about more.
const FAULTS: usize = 256;
