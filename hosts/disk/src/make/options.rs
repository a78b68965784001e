//! [`Options`]: the fields of a new torrent beside its files, and how files are chosen and cut.

use std::path::{Path, PathBuf};

use crate::beneath::Links;
use crate::choice::Choice;
use crate::walk::Skipped;

/// The fields of a new torrent beside its files, and how files are chosen and cut.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Options {
    /// Announce URLs in tiers: those of the first are asked first (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Leave room for another announce URL in place of the only one while the torrent is in use, see
    /// [`stays_put`](super::stays_put).
    pub roomy: bool,
    /// HTTP addresses of the same files (BEP 19).
    pub webseeds: Vec<String>,
    /// A comment for people.
    pub comment: Option<String>,
    /// The program that made it. `None`: everseed; an empty text: the field is left out.
    pub created_by: Option<String>,
    /// Only the trackers may name peers (BEP 27).
    pub private: bool,
    /// Length of a piece in bytes, a power of two from 16 KiB on. `None`: [`default_piece_len`].
    pub piece_len: Option<u32>,
    /// Which links count as files.
    pub links: Links,
    /// The site that the torrent is for, as sites that share other sites' files want it. It stands in `info`, so the
    /// same files have another info-hash at each site.
    pub source: Option<String>,
    /// Begin every file with a new piece, by padding that nobody stores (BEP 47).
    pub align: bool,
    /// Which files of a folder are taken.
    pub choice: Choice,
    /// The configuration in use, which is never taken.
    pub configuration: Option<PathBuf>,
    /// A file that cannot be taken is an error.
    pub strict: bool,
}

/// A report while a torrent is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report<'a> {
    /// The path that is left out, and why.
    Skipped(&'a Path, Skipped),
    /// Progress of hashing.
    Hashed {
        /// Bytes that were hashed.
        done: u64,
        /// Bytes to hash in all.
        total: u64,
    },
}

/// The piece length for content of `total` bytes: a power of two from 16 KiB to 16 MiB that gives 1000 to 2000
/// pieces, if there is one. With more pieces the torrent file is large. With fewer, peers wait longer for their first
/// complete piece, which they can share.
pub fn default_piece_len(total: u64) -> u32 {
    const LEAST: u64 = 16 << 10;
    const MOST: u64 = 16 << 20;
    let len = total.div_ceil(2000).clamp(LEAST, MOST).next_power_of_two();
    // At most `MOST`.
    u32::try_from(len).unwrap_or(u32::MAX)
}
