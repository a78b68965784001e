//! Torrent content on a file system of std: reading, checking and writing it, and making torrents.
//!
//! - [`read_torrent`] parses a torrent file. [`Content`] finds and reads its files: cached bytes of open files
//!   without waiting, everything else on a thread that may wait. A [`FileCache`] bounds the number of open files.
//! - [`check`] finds out which pieces are good, and whether files have changed since.
//! - [`fault`] finds out how much a read error concerns.
//! - [`write`](mod@write) writes downloaded blocks to their files.
//! - [`unpack`](mod@unpack) decompresses gzip and deflate of torrent files and HTTP answers.
//! - [`owner`] finds the files of a download that we must not write.
//! - [`make`] makes a torrent of a file or folder, [`edit`] changes one.
//!
//! RAM does not grow with the number of files or pieces that are served. Only `make` holds a list of its files, and
//! 20 bytes for each piece, while it runs.
//!
//! This crate has no threads, no queues and no notion of peers: those are the host's. It is built for Linux.

#![forbid(unsafe_code)]

mod access;
mod beneath;
mod cache;
pub mod check;
mod checkpoint;
mod choice;
mod content;
pub mod edit;
mod entry;
mod error;
pub mod fault;
pub mod find;
mod fingerprint;
mod fitting;
pub mod hash;
mod hashing;
mod held;
mod index;
mod layout;
mod lengthen;
pub mod make;
mod ours;
pub mod owner;
mod placed;
mod regular;
pub mod relocate;
mod rename;
mod replace;
pub mod room;
mod searched;
mod state;
mod stream;
pub mod unfinished;
mod unique;
pub mod unpack;
mod walk;
pub mod write;

#[cfg(test)]
mod scratch;

pub use crate::access::Access;
pub use crate::beneath::{Links, resolve};
pub use crate::cache::FileCache;
pub use crate::checkpoint::Checkpoint;
pub use crate::choice::{Choice, fits, is_unwanted, means};
pub use crate::content::Content;
pub use crate::entry::{
    Entries, Entry, TORRENT_MAX, TorrentError, identify_torrent, open_torrent, read_entries,
    read_name, read_torrent, reopen_torrent, unpacked,
};
pub use crate::error::{OpenError, ReadError};
pub use crate::ours::Ours;
pub use crate::regular::{RegularError, open_in_place, open_regular, read_regular};
pub use crate::replace::{replace, replace_soon, sync_folder};
pub use crate::state::{is_state, state_of};
pub use crate::stream::Stream;
pub use crate::walk::Skipped;
pub use crate::write::WriteError;
