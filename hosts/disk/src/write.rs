//! Writing downloaded blocks into files that we made ourselves.
//!
//! Rules:
//! - Nothing is written into the owner's files; `ours` says which files are not the owner's. [`prepare`] makes
//!   missing files with one byte; a file gets its full length, sparse, when its first block is written. The bytes of
//!   a piece that belong to one of the owner's files are left out, and the piece is verified with what is there.
//! - Nothing outside the folder that the owner named is written, whatever links are in it.
//! - [`make_folder`] makes the content's own folder, and nothing makes it again. So an unmounted disk is an error,
//!   and the file system below its mount point is not filled.
//! - A piece that reaches into an unwanted file is written whole, because it could not be verified otherwise. Padding
//!   files are not written (BEP 47).
//!
//! Writes are durable after [`sync`], and no sooner. If that fails, writes since the last successful sync may be
//! lost, although memory still shows them. Then a [`check`](crate::check::check()) tells what the disk holds, and
//! until it begins every `sync` fails.

mod error;
mod file;
mod prepare;

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::cache::{FileCache, Part, Source};
use crate::content::Content;
use crate::error::ReadError;
use crate::index::Record;
use crate::lengthen;

pub use error::WriteError;
use file::{create, longer, open, size};
pub(crate) use file::{sync_record, take};
pub use prepare::{make_folder, make_named, prepare, reserve};

/// Writes `blocks` one after another from `offset` on. `files` holds files that are open for writing. After an error
/// some of the blocks may be written.
pub fn write(
    content: &Content,
    files: &FileCache,
    mut offset: u64,
    blocks: &[&[u8]],
) -> Result<(), WriteError> {
    let mut blocks = blocks.iter().copied();
    let mut rest: &[u8] = &[];
    loop {
        if rest.is_empty() {
            match blocks.next() {
                Some(block) => rest = block,
                None => return Ok(()),
            }
        }
        let part = match part(content, files, offset) {
            // The piece is verified with what is there.
            Err(WriteError::Owners { .. }) if is_shared(content, offset) => {
                let record = content.record(offset).map_err(WriteError::Place)?;
                part_of(&record, Source::Zeros)
            }
            part => part?,
        };
        let mut room = part.end - offset;
        let mut bufs = [IoSlice::new(&[]); AT_ONCE];
        let mut count = 0;
        let mut total = 0;
        while count < AT_ONCE && room > 0 && !rest.is_empty() {
            let len = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
            let (now, later) = rest.split_at(len);
            bufs[count] = IoSlice::new(now);
            count += 1;
            total += len;
            room -= len as u64;
            rest = later;
            if rest.is_empty() {
                rest = blocks.next().unwrap_or(&[]);
            }
        }
        if let Source::File { fd, .. } = &*part.source {
            write_all(fd, offset - part.start, &mut bufs[..count])
                .map_err(|error| WriteError::of(content.path_holding(offset), error))?;
        }
        offset += total as u64;
    }
}

/// Makes all writes durable, names of files included. An error may also be that of an earlier write to any file of
/// that disk, because the kernel does not say which (Linux 5.8 or later), or that of an earlier sync.
pub fn sync(content: &Content) -> Result<(), WriteError> {
    let folder = content.folder();
    let synced = content
        .held()
        .sync(&folder, |folder| rustix::fs::syncfs(folder));
    synced.map_err(|error| WriteError::of(folder, error))
}

/// Holds the folder open, so that a failure of what is written from now on is reported to us.
fn hold_folder(content: &Content) -> Result<(), WriteError> {
    let folder = content.folder();
    match content.held().hold(&folder) {
        Ok(_) => Ok(()),
        Err(error) => Err(WriteError::of(folder, error)),
    }
}

/// Makes the file that holds the byte at `offset` longer by a step, before it is written. Returns whether it is long
/// enough, or cannot be written at all; [`write()`] then says why. Without this call `write` takes longer.
pub fn lengthen(content: &Content, files: &FileCache, offset: u64) -> bool {
    if files.find(content.id(), offset).is_some() {
        return true;
    }
    let step = || -> Result<bool, WriteError> {
        let record = content.record(offset).map_err(WriteError::Place)?;
        if record.zeros {
            return Ok(true);
        }
        hold_folder(content)?;
        let path = content.place_at(&record);
        let path = path.map_err(WriteError::Place)?;
        let (file, stat) = open(content, record.number, &path)?;
        let now = longer(content, &path, &file, size(&stat), record.len)?;
        Ok(now >= record.len)
    };
    step().unwrap_or(true)
}

/// Whether the file that holds the byte at `offset` can be opened for writing and have its full length. It is made if
/// need be.
pub fn is_writable(content: &Content, offset: u64) -> bool {
    let opened = || -> Result<bool, WriteError> {
        let record = content.record(offset).map_err(WriteError::Place)?;
        let path = content.place_at(&record);
        let path = path.map_err(WriteError::Place)?;
        let (file, _) = open(content, record.number, &path)?;
        Ok(lengthen::fits(&file, record.len).is_ok())
    };
    opened().unwrap_or(false)
}

/// Fails if the file that holds the byte at `offset` was removed while it is open for writing.
pub fn keeps_name(content: &Content, files: &FileCache, offset: u64) -> Result<(), ReadError> {
    match files.find(content.id(), offset) {
        Some(part) if part.has_no_name() => Err(ReadError::Missing {
            path: content.path_holding(offset),
        }),
        _ => Ok(()),
    }
}

/// The pieces to leave out if the file that holds the byte at `offset` cannot be written.
pub fn pieces_of_file(content: &Content, offset: u64) -> Option<Range<u32>> {
    content.pieces_around(offset)
}

/// The most buffers of one system call.
const AT_ONCE: usize = 32;

fn write_all(fd: &OwnedFd, mut at: u64, mut bufs: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !bufs.is_empty() {
        match rustix::io::pwritev(fd, bufs, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut bufs, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The file that holds the byte at `offset`, open for writing.
fn part(content: &Content, files: &FileCache, offset: u64) -> Result<Part, WriteError> {
    if let Some(part) = files.find(content.id(), offset) {
        return Ok(part);
    }
    let record = content.record(offset).map_err(WriteError::Place)?;
    hold_folder(content)?;
    let source = if record.zeros {
        Source::Zeros
    } else {
        let place = content.place_at(&record).map_err(WriteError::Place)?;
        Source::written(create(content, record.number, &place, record.len)?)
    };
    let part = part_of(&record, source);
    files.insert(content.id(), part.clone());
    Ok(part)
}

fn part_of(record: &Record, source: Source) -> Part {
    Part {
        start: record.start,
        end: record.start.saturating_add(record.len),
        source: Arc::new(source),
    }
}

/// Whether the piece that holds the byte at `offset` lies in other files too.
fn is_shared(content: &Content, offset: u64) -> bool {
    let geometry = content.geometry();
    let (Ok(record), Some(piece)) = (content.record(offset), geometry.piece_at(offset)) else {
        return false;
    };
    let start = geometry.piece_offset(piece);
    let end = start + u64::from(geometry.piece_size(piece));
    start < record.start || record.start + record.len < end
}
