//! Torrent content on a std file system: spans to files, checking, making torrents.
//!
//! - [`read_torrent`] parses a torrent file, and [`Content`] finds and reads its files: without
//!   waiting from what is cached and open, or waiting on another thread. A [`FileCache`] bounds how
//!   many files are open at a time.
//! - [`check`] tells which pieces are good, and whether files have changed since.
//! - [`fault`] tells what an error of reading concerns.
//! - [`write`](mod@write) puts downloaded blocks where they belong.
//! - [`unpack`](mod@unpack) takes gzip and deflate off torrents and answers.
//! - [`owner`] tells which files are not ours to write.
//! - [`make`] writes a torrent of a file or folder, [`edit`] changes one.
//!
//! RAM does not grow with the number of files or pieces of what is served; only `make` holds a list
//! of its files and 20 bytes for each piece while it runs.
//!
//! It has no threads, no queues and no notion of peers: those are the host's. Linux is what it is built for.

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
mod fitting;
pub mod hash;
mod hashing;
mod index;
mod layout;
mod lengthen;
pub mod make;
mod ours;
pub mod owner;
mod placed;
mod regular;
pub mod relocate;
mod replace;
pub mod room;
mod searched;
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
pub use crate::choice::{Choice, fits, is_unwanted};
pub use crate::content::Content;
pub use crate::entry::{
    Entries, Entry, TORRENT_MAX, TorrentError, open_torrent, read_entries, read_name, read_torrent,
    reopen_torrent,
};
pub use crate::error::{OpenError, ReadError};
pub use crate::ours::Ours;
pub use crate::regular::{RegularError, open_in_place, open_regular, read_regular};
pub use crate::replace::{replace, replace_soon, sync_folder};
pub use crate::stream::Stream;
pub use crate::walk::Skipped;
pub use crate::write::WriteError;
