//! Notices of a session to its front end: `cli` prints them, tests collect them.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use everseed_core::hash::InfoHash;
use everseed_disk::Skipped;

use super::numbers::Numbers;

/// A notice: an event or a state. Names stand as in the torrent; the listener has to escape them.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// The division of the memory.
    Memory {
        /// The most bytes.
        most: u64,
        /// The parts, in words.
        plan: &'a str,
    },
    /// The links and files by which others find a torrent.
    Torrent(&'a Introduction),
    /// Links that name only this tracker work within the network; others need this port forwarded.
    WorksOnly {
        /// The tracker's announce URL.
        tracker: &'a str,
        /// Within which network, in words.
        within: &'static str,
        /// The TCP port.
        port: u16,
    },
    /// Peers connect at this address.
    Listening(SocketAddr),
    /// A router forwards our port; the text says how.
    Forwarded(&'a str),
    /// The torrent of this name is served.
    Seeding(&'a str),
    /// Pieces of a seeded torrent are missing or damaged.
    Missing {
        /// Its name.
        name: &'a str,
        /// Missing pieces, and all pieces.
        pieces: (u32, u32),
        /// Its .torrent.
        torrent: &'a Path,
        /// Its content.
        root: &'a Path,
    },
    /// A download goes on.
    Downloading {
        /// Its name.
        name: &'a str,
        /// Bytes still missing, and bytes that are wanted.
        left: (u64, u64),
    },
    /// A download is complete and on the disk.
    Complete {
        /// Its name.
        name: &'a str,
        /// Bytes that are left out, and the reason.
        but: Option<(u64, LeftOut)>,
    },
    /// A complete download is being copied to its final place on another disk.
    Moving {
        /// Its name.
        name: &'a str,
        /// The folder of its final place.
        to: &'a Path,
    },
    /// A download stops before it is complete.
    Unfinished {
        /// Its name.
        name: &'a str,
        /// Bytes still missing.
        left: u64,
        /// The reason, in words.
        why: &'static str,
    },
    /// The item at this path is paused: nothing is sent or requested until it is resumed.
    Paused(&'a Path),
    /// The item at this path is resumed.
    Resumed(&'a Path),
    /// All of a torrent was read and compared with its hashes, as was asked for.
    Verified {
        /// Its name.
        name: &'a str,
        /// Good pieces, and all pieces.
        pieces: (u32, u32),
    },
    /// An item is not verified although that was asked for.
    NotVerified {
        /// Its path.
        path: &'a Path,
        /// The reason, in words.
        why: &'a str,
    },
    /// There is no room for a torrent, in words; it is tried again later.
    NoRoom(&'a str),
    /// The torrent of this name is no longer seeded.
    Stopped(&'a [u8]),
    /// The number of torrents that are known and asleep at the start.
    Asleep(usize),
    /// The file or folder has changed, so it has a new torrent in place of this former one.
    Replaced {
        /// The file or folder.
        path: &'a Path,
        /// The name of the former torrent's file.
        former: &'a [u8],
    },
    /// A file is left out of a torrent that is being made.
    LeftOut(&'a Path, Skipped),
    /// The number of files that match no pattern of `--include`.
    NotIncluded(u64),
    /// Bytes of a torrent being made that are hashed, and all its bytes.
    Hashed(u64, u64),
    /// Hashing has ended.
    HashingEnded,
    /// The session is stopping.
    Ending,
    /// The numbers of the session.
    Numbers(&'a Numbers),
    /// Something that was asked for cannot be done, for this reason.
    Failed(&'a str),
}

/// Why bytes of a complete download are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeftOut {
    /// Their file or piece cannot be written or read.
    Unusable,
    /// They belong to files that are kept as they are.
    Kept,
}

/// The links and files by which others find a torrent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// The path of its .torrent.
    pub torrent: Vec<u8>,
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// The URL at which its .torrent is given out.
    pub url: Option<String>,
    /// Its magnet link, unless it is private.
    pub magnet: Option<String>,
}

/// The receiver of a session's notices, called on the thread of the event.
#[derive(Clone)]
pub struct Notices(Arc<Hear>);

type Hear = dyn Fn(Notice<'_>) -> io::Result<()> + Send + Sync;

impl Notices {
    /// A receiver that calls `hear` with each notice.
    pub fn to(hear: impl Fn(Notice<'_>) -> io::Result<()> + Send + Sync + 'static) -> Notices {
        Notices(Arc::new(hear))
    }

    /// A receiver that ignores all notices.
    pub fn nobody() -> Notices {
        Notices::to(|_| Ok(()))
    }

    /// Gives a notice to the receiver. A receiver that has gone away does not stop seeding.
    pub(crate) fn tell(&self, notice: Notice<'_>) {
        let _ = self.insist(notice);
    }

    /// As [`tell`](Self::tell), but returns the receiver's error.
    pub(crate) fn insist(&self, notice: Notice<'_>) -> io::Result<()> {
        (self.0)(notice)
    }
}

impl Debug for Notices {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}
