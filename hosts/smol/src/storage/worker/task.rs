//! The worker's tasks and their results.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use everseed_core::geometry::{PieceIndex, Span, TorrentId};
use everseed_core::pool::BlockId;
use everseed_disk::fault::Unread;
use everseed_disk::relocate::Relocation;
use everseed_disk::{Content, ReadError, WriteError};
use everseed_node::{BodySource, ConnId};

use crate::storage::spool::Spool;

/// The number of a torrent among the session's, which is never given again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct TorrentNumber(pub(super) u64);

impl TorrentNumber {
    /// The number after this one.
    pub(crate) fn next(self) -> TorrentNumber {
        TorrentNumber(self.0 + 1)
    }
}

/// A task.
#[derive(Debug)]
pub(crate) enum Task {
    /// Read these bytes for a connection as far as the buffer reaches, and the rest into the page cache.
    Warm(Arc<Content>, ConnId, BodySource, Span),
    /// Hash a piece.
    Verify(Arc<Content>, TorrentId, PieceIndex),
    /// Hash a piece as it is on the disk, not in the page cache.
    VerifyFresh(Arc<Content>, TorrentId, PieceIndex),
    /// Hash all pieces of the torrent with this number.
    Check(Arc<Content>, TorrentNumber, Arc<Progress>),
    /// Move the torrent with this number to its final place.
    Relocate(Arc<Content>, TorrentNumber, Arc<Progress>, Box<Relocation>),
    /// Look whether the files of the torrent with this number have changed; if asked, also whether anything can be
    /// read.
    Look(Arc<Content>, TorrentNumber, bool),
    /// Write a block.
    Write(Block),
    /// Make what there is of the torrent with this number durable, while it is downloaded.
    Settle(Arc<Content>, TorrentNumber),
    /// Make the writes of the torrent with this number durable: it is complete.
    Sync(Arc<Content>, TorrentNumber),
    /// Try whether some of the files that hold these bytes can be written again.
    Try(Arc<Content>, TorrentNumber, Vec<u64>),
    /// Write a block of metadata.
    Spool(Arc<Spool>, BlockId, Span, &'static mut [u8]),
    /// Hash this many bytes of metadata, and make a torrent file of them if the hash is right.
    Finish(Arc<Spool>, TorrentId, PieceIndex, u32),
    /// Lower the thread's priority below the serving thread's, for good.
    StandBack,
}

impl Task {
    /// The torrent of which this task hashes one piece.
    pub(super) fn verifies(&self) -> Option<TorrentId> {
        match self {
            Task::Verify(_, torrent, _) | Task::VerifyFresh(_, torrent, _) => Some(*torrent),
            _ => None,
        }
    }
}

/// A block to write, or one that was written.
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

/// The result of a task.
#[derive(Debug)]
pub(crate) enum Done {
    /// The bytes that were read; the buffer has to be returned.
    Warmed(
        ConnId,
        BodySource,
        u64,
        Result<Vec<u8>, (TorrentId, Unread)>,
    ),
    Verified(TorrentId, PieceIndex, Result<bool, Unread>),
    Wrote(
        BlockId,
        &'static mut [u8],
        Result<(), (TorrentId, Unwritten)>,
    ),
    /// A block of metadata was written.
    Spooled(TorrentId, BlockId, &'static mut [u8], io::Result<()>),
    /// Whether metadata has the right hash.
    Finished(TorrentId, PieceIndex, io::Result<bool>),
    /// Something that the session asked about the torrent with this number.
    Torrent(TorrentNumber, Outcome),
}

/// The result of a task that the session gave for one of its torrents.
#[derive(Debug)]
pub(crate) enum Outcome {
    Checked(Result<Found, ReadError>),
    Looked(Result<Look, ReadError>),
    Synced(Result<Look, WriteError>),
    /// The files' fingerprint after the sync.
    Settled(Result<u64, WriteError>),
    /// Whether a file that could not be written can be.
    Tried(bool),
    /// The fingerprint of the files at their new place.
    Relocated(Result<u64, WriteError>),
}

/// The result of a check: the good pieces, and some of the unreadable ones.
pub(crate) type Found = (Vec<u8>, Vec<Unread>);

/// A failed write of a block.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) error: WriteError,
    /// The pieces that it concerns, if only one file is at fault.
    pub(crate) pieces: Option<Range<u32>>,
}

/// The state of a torrent's files, without reading their bytes.
#[derive(Debug)]
pub(crate) struct Look {
    /// The fingerprint of sizes and times of change.
    pub(crate) fingerprint: u64,
    /// The pieces whose files are long enough; `None` means all.
    pub(crate) present: Option<Vec<u8>>,
}

/// Bytes that a check has done, one more than all while it searches for files, or [`GIVEN_UP`].
pub(crate) type Progress = AtomicU64;

/// Nobody wants the result of the check any more.
pub(crate) const GIVEN_UP: u64 = u64::MAX;
