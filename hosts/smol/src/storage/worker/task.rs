//! What the worker is asked for, and what it answers.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use everseed_core::geometry::{PieceIndex, Span, TorrentId};
use everseed_core::pool::BlockId;
use everseed_disk::fault::Unread;
use everseed_disk::relocate::Relocation;
use everseed_disk::{Content, ReadError, WriteError};
use everseed_node::{ConnId, Source};

use crate::storage::spool::Spool;

/// Something to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Read this for a connection, as much as there is room for, and the rest into the page cache.
    Warm(Arc<Content>, ConnId, Source, Span),
    /// Hash a piece.
    Verify(Arc<Content>, TorrentId, PieceIndex),
    /// The same, as it is on the disk, past what memory holds.
    VerifyFresh(Arc<Content>, TorrentId, PieceIndex),
    /// Hash all pieces of the torrent of this number.
    Check(Arc<Content>, usize, Arc<Progress>),
    /// Move the torrent of this number to its place.
    Relocate(Arc<Content>, usize, Arc<Progress>, Box<Relocation>),
    /// Look whether the files of the torrent of this number are as they were, and if so asked, whether
    /// anything can be read.
    Look(Arc<Content>, usize, bool),
    /// Write a block.
    Write(Block),
    /// Make durable what was written for the torrent of this number.
    Sync(Arc<Content>, usize),
    /// Try whether some of the files that hold these bytes take writes again.
    Try(Arc<Content>, usize, Vec<u64>),
    /// Write a block of metadata.
    Spool(Arc<Spool>, BlockId, Span, &'static mut [u8]),
    /// Hash metadata of so many bytes, and make a torrent file of it if it is right.
    Finish(Arc<Spool>, TorrentId, PieceIndex, u32),
    /// Stand back behind the thread that serves, for good.
    StandBack,
}

impl Task {
    /// The torrent of which it hashes one piece.
    pub(super) fn verifies(&self) -> Option<TorrentId> {
        match self {
            Task::Verify(_, torrent, _) | Task::VerifyFresh(_, torrent, _) => Some(*torrent),
            _ => None,
        }
    }
}

/// A block that is to be written, or was.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) content: Arc<Content>,
    pub(crate) id: BlockId,
    pub(crate) span: Span,
    pub(crate) bytes: &'static mut [u8],
}

impl Block {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.span.len as usize).unwrap_or(&[])
    }
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Done {
    /// What was read, which is to be given back.
    Warmed(ConnId, Source, u64, Result<Vec<u8>, (TorrentId, Unread)>),
    Verified(TorrentId, PieceIndex, Result<bool, Unread>),
    Checked(usize, Result<Found, ReadError>),
    Looked(usize, Result<Look, ReadError>),
    Wrote(
        BlockId,
        &'static mut [u8],
        Result<(), (TorrentId, Unwritten)>,
    ),
    /// A block of metadata was written.
    Spooled(TorrentId, BlockId, &'static mut [u8], io::Result<()>),
    /// Whether metadata has the right hash.
    Finished(TorrentId, PieceIndex, io::Result<bool>),
    Synced(usize, Result<u64, WriteError>),
    Tried(usize, bool),
    /// The fingerprint of the files in their new place.
    Relocated(usize, Result<u64, WriteError>),
}

/// What a check finds: the pieces that are good, and some of those that could not be read.
pub(crate) type Found = (Vec<u8>, Vec<Unread>);

/// Why a block was not written.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) error: WriteError,
    /// The pieces that it concerns, if it is a matter of one file.
    pub(crate) pieces: Option<Range<u32>>,
}

/// How a torrent's files look, without their bytes being read.
#[derive(Debug)]
pub(crate) struct Look {
    /// Of sizes and times of change.
    pub(crate) fingerprint: u64,
    /// Pieces whose files reach far enough; `None` is all.
    pub(crate) present: Option<Vec<u8>>,
}

/// Bytes that a check has behind it, or [`GIVEN_UP`].
pub(crate) type Progress = AtomicU64;

/// Nobody wants to know any more what a check finds out.
pub(crate) const GIVEN_UP: u64 = u64::MAX;
