//! The reactor's reports to the session.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};

use everseed_core::geometry::TorrentId;
use everseed_core::tracker::Report;
use everseed_disk::ReadError;
use everseed_disk::fault::{Extent, Unread};
use everseed_node::Job;
use everseed_node::discovery::udp_trackers::UdpOutcome;

use crate::storage::worker::{Outcome, TorrentNumber, Unwritten};

/// Events that the session has to handle, collected until it takes them.
///
/// The session may take long, as it may be waiting. So the report is bounded: each torrent is named once until the
/// session has answered, each announce is there once, and at most [`FAULTS`] faults of a kind are kept, and one of each
/// torrent.
#[derive(Default)]
pub(crate) struct TurnReport {
    /// Signals that asked to stop.
    pub(crate) signals: u32,
    /// The alarm was rung: futures can go on.
    pub(crate) rung: bool,
    /// Connections of HTTP clients.
    pub(crate) web: Vec<(TcpStream, SocketAddr)>,
    pub(crate) files: FileReports,
    /// Sleeping torrents that peers ask for, and peers of them that are known.
    pub(crate) wakes: Vec<(TorrentId, Vec<SocketAddr>)>,
    /// Torrents whose metadata is complete, and those whose metadata could not be stored.
    pub(crate) fetched: Vec<TorrentId>,
    pub(crate) unspooled: Vec<(TorrentId, io::Error)>,
    /// Announces to make.
    pub(crate) announces: Vec<Announce>,
    /// Announces by UDP that have ended.
    pub(crate) udp_outcomes: Vec<UdpOutcome>,
    /// A caller from outside this network.
    pub(crate) caller: Option<IpAddr>,
    /// Whether the DHT knows no node.
    pub(crate) finds_nodes: bool,
}

/// What was found out about torrents' files.
#[derive(Default)]
pub(crate) struct FileReports {
    /// Torrents whose files could not be read, and the errors.
    pub(crate) unreadable: Vec<(TorrentId, ReadError)>,
    /// Pieces that could not be read while others can.
    pub(crate) unread: Vec<(TorrentId, Unread)>,
    /// Torrents whose files could not be written, and the errors.
    pub(crate) unwritable: Vec<(TorrentId, Unwritten)>,
    /// Finished tasks that the session gave to the worker.
    pub(crate) done: Vec<(TorrentNumber, Outcome)>,
}

/// An announce that the node asks for, and its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announce {
    pub(crate) job: Job,
    pub(crate) report: Report,
}

impl FileReports {
    /// Adds an unreadable piece, or a changed file, which makes the session check the whole torrent.
    pub(super) fn unread(&mut self, torrent: TorrentId, fault: Unread) {
        let is_known = match fault.extent {
            Extent::Change => self
                .unread
                .iter()
                .any(|(other, known)| *other == torrent && known.extent == Extent::Change),
            _ => {
                let same = |(other, known): &(TorrentId, Unread)| {
                    *other == torrent && known.extent != Extent::Change
                };
                self.unread.len() >= FAULTS && self.unread.iter().any(same)
            }
        };
        if !is_known {
            self.unread.push((torrent, fault));
        }
    }

    /// Adds a failed write. One fault for each file is enough.
    pub(super) fn unwritable(&mut self, torrent: TorrentId, fault: Unwritten) {
        let same = |(other, known): &(TorrentId, Unwritten)| {
            *other == torrent && known.pieces == fault.pieces
        };
        let of_it = |(other, _): &(TorrentId, Unwritten)| *other == torrent;
        let is_full = self.unwritable.len() >= FAULTS && self.unwritable.iter().any(of_it);
        if !is_full && !self.unwritable.iter().any(same) {
            self.unwritable.push((torrent, fault));
        }
    }

    fn is_any(&self) -> bool {
        let FileReports {
            unreadable,
            unread,
            unwritable,
            done,
        } = self;
        let faults = !unreadable.is_empty() || !unread.is_empty() || !unwritable.is_empty();
        faults || !done.is_empty()
    }
}

impl TurnReport {
    /// Whether there is any report.
    pub(crate) fn is_any(&self) -> bool {
        let TurnReport {
            signals,
            rung,
            web,
            files,
            wakes,
            fetched,
            unspooled,
            announces,
            udp_outcomes,
            caller,
            finds_nodes,
        } = self;
        let metadata = !fetched.is_empty() || !unspooled.is_empty();
        let trackers = !announces.is_empty() || !udp_outcomes.is_empty();
        let work = files.is_any() || !web.is_empty() || !wakes.is_empty();
        let others = *signals > 0 || *rung || caller.is_some() || *finds_nodes;
        metadata || trackers || work || others
    }
}

/// The most faults of a kind that are kept, beside one of each torrent. The session itself keeps at most 17 files of a
/// torrent in mind, and the next try finds the others.
const FAULTS: usize = 32;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use everseed_disk::WriteError;

    use super::*;

    /// Many faults of one torrent leave room for one of each other torrent.
    #[test]
    fn some_of_each_torrent() {
        let torrent = |slot| TorrentId { slot, tenancy: 1 };
        let mut report = FileReports::default();
        for slot in 0..4 {
            for number in 0..1000 {
                let path = PathBuf::from(format!("{number}"));
                let extent = if number % 100 == 50 {
                    Extent::Change
                } else {
                    Extent::Piece
                };
                let (piece, error) = (number, ReadError::Missing { path: path.clone() });
                let unread = Unread {
                    piece,
                    extent,
                    error,
                };
                report.unread(torrent(slot), unread);
                let (error, pieces) = (WriteError::Taken { path }, Some(number..number + 1));
                report.unwritable(torrent(slot), Unwritten { error, pieces });
            }
        }
        let of = |slot| {
            let unread = report.unread.iter().filter(|(id, _)| *id == torrent(slot));
            let (changes, pieces): (Vec<_>, Vec<_>) =
                unread.partition(|(_, known)| known.extent == Extent::Change);
            let unwritable = report.unwritable.iter();
            let unwritable = unwritable.filter(|(id, _)| *id == torrent(slot)).count();
            (changes.len(), pieces.len(), unwritable)
        };
        assert_eq!(of(0), (1, FAULTS, FAULTS));
        for slot in 1..4 {
            assert_eq!(of(slot), (1, 1, 1), "{slot}");
        }
    }
}
