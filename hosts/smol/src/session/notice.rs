//! What a session tells whoever is in front of it: `cli` prints it, tests collect it.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use everseed_core::hash::InfoHash;
use everseed_disk::Skipped;

use super::numbers::Numbers;

/// One thing that happened, or how something stands. Names are as the torrent has them: they are for the listener to
/// escape.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// How the memory is shared out: so many bytes at most, in these parts.
    Memory {
        /// Bytes at most.
        most: u64,
        /// The parts.
        plan: &'a str,
    },
    /// What others need to know of a torrent.
    Torrent(&'a Introduction),
    /// Links that name this tracker alone work here only; others need this port forwarded.
    WorksOnly {
        /// The tracker's announce URL.
        tracker: &'a str,
        /// Where it works, in words.
        within: &'static str,
        /// The TCP port.
        port: u16,
    },
    /// Peers connect here.
    Listening(SocketAddr),
    /// A router forwards our port, in words.
    Forwarded(&'a str),
    /// A torrent is served.
    Seeding(&'a str),
    /// Of a torrent that is seeded some is missing or damaged.
    Missing {
        /// Its name.
        name: &'a str,
        /// Pieces that are missing, and pieces in all.
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
        /// Bytes that are to come, and bytes that are wanted.
        left: (u64, u64),
    },
    /// A download is complete and on the disk.
    Complete {
        /// Its name.
        name: &'a str,
        /// Bytes that are left out, and why.
        but: Option<(u64, LeftOut)>,
    },
    /// A download is complete, and copied to its place on another disk.
    Moving {
        /// Its name.
        name: &'a str,
        /// The folder that it goes to.
        to: &'a Path,
    },
    /// A download is left before it is complete.
    Unfinished {
        /// Its name.
        name: &'a str,
        /// Bytes that are to come.
        left: u64,
        /// Why it is left, in words.
        why: &'static str,
    },
    /// Of what is here nothing is sent or asked for until it is resumed.
    Paused(&'a Path),
    /// It goes on.
    Resumed(&'a Path),
    /// A torrent is not seeded any more.
    Stopped(&'a [u8]),
    /// So many torrents are known and asleep at the start.
    Asleep(usize),
    /// What was shared from here has changed, so its torrent is another one than this former one.
    Replaced {
        /// The file or folder.
        path: &'a Path,
        /// The name of the former torrent's file.
        former: &'a [u8],
    },
    /// Something is left out of a torrent that is made.
    LeftOut(&'a Path, Skipped),
    /// So many files fit no pattern of `--include`.
    NotIncluded(u64),
    /// So many bytes of a torrent that is made are hashed, of so many.
    Hashed(u64, u64),
    /// The hashing has ended.
    HashingEnded,
    /// It stops.
    Ending,
    /// How everything stands.
    Numbers(&'a Numbers),
    /// Something that was asked for cannot be done, in words.
    Failed(&'a str),
}

/// What of a download is complete all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeftOut {
    /// It cannot be written or read.
    Unusable,
    /// It is in files that are kept as they are.
    Kept,
}

/// What others need to know of a torrent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// The path of its .torrent.
    pub torrent: Vec<u8>,
    /// Its info-hash.
    pub info_hash: InfoHash,
    /// Where its .torrent is given out.
    pub url: Option<String>,
    /// Its magnet link, unless it is private.
    pub magnet: Option<String>,
}

/// Who hears the notices of a session, on whatever thread something happens.
#[derive(Clone)]
pub struct Notices(Arc<Hear>);

type Hear = dyn Fn(Notice<'_>) -> io::Result<()> + Send + Sync;

impl Notices {
    /// Has `hear` called with each.
    pub fn to(hear: impl Fn(Notice<'_>) -> io::Result<()> + Send + Sync + 'static) -> Notices {
        Notices(Arc::new(hear))
    }

    /// Nobody hears them.
    pub fn nobody() -> Notices {
        Notices::to(|_| Ok(()))
    }

    /// Tells one. A listener that has gone away is no reason to stop seeding.
    pub(crate) fn tell(&self, notice: Notice<'_>) {
        let _ = self.insist(notice);
    }

    /// The same where it is one.
    pub(crate) fn insist(&self, notice: Notice<'_>) -> io::Result<()> {
        (self.0)(notice)
    }
}

impl Debug for Notices {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Notices")
    }
}
