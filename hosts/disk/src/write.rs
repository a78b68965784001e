//! Writing what was downloaded: spans to files that are made as they are needed.
//!
//! Rules: a file is made, at its full length and sparse, when the first block of it is written; nothing outside
//! the folder that the owner named is written, whatever links are in it; padding files are not written (BEP 47). The
//! content's own folder is made by [`prepare`] and never again, so that an unmounted disk is an error
//! and does not fill the one below it. A piece that reaches into a file which was not asked for is
//! written whole, as it could not be verified otherwise.
//!
//! What is written is durable after [`sync`], and no sooner. If that fails, some of what was written since the
//! last time that it did not may be lost, though memory still shows it and the next `sync` says nothing of
//! it: a [`check`](crate::check::check()) tells what the disk holds.

use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use everseed_core::metainfo::Kind;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::beneath::{OpenFailure, Root};
use crate::cache::{FileCache, Part, Source};
use crate::content::Content;
use crate::entry::Entry;
use crate::error::{ReadError, Shown, leaves};

/// Why content could not be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// The file system is full.
    NoSpace {
        /// The file.
        path: PathBuf,
    },
    /// The user's share of the file system is used up.
    Quota {
        /// The file.
        path: PathBuf,
    },
    /// No file may be so long there.
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A folder or a device stands where the file should be.
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// The file, or a folder on its way, is a link that leads out of the folder that the owner named.
    Leaves {
        /// The file.
        path: PathBuf,
    },
    /// The disk that the content lies on is not mounted, so nothing was made.
    NotMounted {
        /// The file.
        path: PathBuf,
    },
    /// The operating system said something else.
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Where to write could not be found out.
    Place(ReadError),
    /// It was not tried, as writing what stands before it failed.
    Again,
}

impl WriteError {
    /// Whether the place itself is away: a disk that is not mounted any more, or broke.
    pub fn is_away(&self) -> bool {
        match self {
            WriteError::NotMounted { .. } => true,
            WriteError::Io { error, .. } => match Errno::from_io_error(error) {
                Some(Errno::NODEV | Errno::NXIO | Errno::STALE) => true,
                Some(Errno::NOTCONN | Errno::SHUTDOWN) => true,
                _ => error.kind() == io::ErrorKind::NotFound,
            },
            _ => false,
        }
    }

    /// The file, or the folder.
    pub fn path(&self) -> Option<&Path> {
        match self {
            WriteError::NoSpace { path }
            | WriteError::Quota { path }
            | WriteError::TooLong { path }
            | WriteError::NotAFile { path }
            | WriteError::Leaves { path }
            | WriteError::NotMounted { path }
            | WriteError::Io { path, .. } => Some(path),
            WriteError::Place(error) => Some(error.path()),
            WriteError::Again => None,
        }
    }

    /// Whether there is no space left.
    pub fn is_no_space(&self) -> bool {
        matches!(self, WriteError::NoSpace { .. } | WriteError::Quota { .. })
    }

    /// Whether it is a matter of that one file: others may well be written.
    pub fn is_of_file(&self) -> bool {
        match self {
            WriteError::NotAFile { .. }
            | WriteError::Leaves { .. }
            | WriteError::TooLong { .. } => true,
            WriteError::Io { error, .. } => match Errno::from_io_error(error) {
                // The disk, or we ourselves.
                Some(Errno::ROFS | Errno::MFILE | Errno::NFILE | Errno::NOMEM) => false,
                _ => !self.is_away(),
            },
            _ => false,
        }
    }

    fn open(path: PathBuf, failure: OpenFailure) -> WriteError {
        match failure {
            OpenFailure::NotAFile => WriteError::NotAFile { path },
            OpenFailure::Leaves => WriteError::Leaves { path },
            OpenFailure::Missing => WriteError::of(path, io::ErrorKind::NotFound.into()),
            OpenFailure::Os(error) => WriteError::of(path, error.into()),
        }
    }

    fn of(path: PathBuf, error: io::Error) -> WriteError {
        match error.kind() {
            io::ErrorKind::StorageFull => WriteError::NoSpace { path },
            io::ErrorKind::QuotaExceeded => WriteError::Quota { path },
            io::ErrorKind::FileTooLarge => WriteError::TooLong { path },
            _ => WriteError::Io { path, error },
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::NoSpace { path } => {
                write!(f, "{}: no space is left; make room", Shown(path))
            }
            WriteError::Quota { path } => write!(
                f,
                "{}: the quota of this user is used up; make room or have it raised",
                Shown(path)
            ),
            WriteError::TooLong { path } => write!(
                f,
                "{}: no file may be so long there; use another file system, or raise `ulimit -f`",
                Shown(path)
            ),
            WriteError::NotAFile { path } => write!(
                f,
                "{} is no regular file, but the torrent has one there; move it away",
                Shown(path)
            ),
            WriteError::Leaves { path } => leaves(f, path),
            WriteError::NotMounted { path } => {
                write!(f, "the disk of {} is not mounted", Shown(path))
            }
            WriteError::Io { path, error } => write!(f, "{}: {error}", Shown(path)),
            WriteError::Place(error) => error.fmt(f),
            WriteError::Again => f.write_str("what stands before it could not be written"),
        }
    }
}

impl std::error::Error for WriteError {}

/// Makes the content's folder and the empty ones of the files for which `wanted` holds; if `full`, all
/// of these, at their full lengths and with their space taken.
pub fn prepare(
    content: &Content,
    full: bool,
    mut wanted: impl FnMut(&Entry) -> bool,
) -> Result<(), WriteError> {
    let layout = content.layout();
    let named = layout.named();
    let made = fs::create_dir_all(named.folder);
    made.map_err(|error| WriteError::of(named.folder.to_owned(), error))?;
    let made = named.make_folder(layout.base());
    made.map_err(|failure| WriteError::open(content.folder(), failure))?;
    for entry in content.entries().map_err(WriteError::Place)? {
        let entry = entry.map_err(|e| WriteError::Place(content.torrent_error(e)))?;
        if entry.kind != Kind::Data || !wanted(&entry) || (entry.len > 0 && !full) {
            continue;
        }
        let path = content.path_of(&entry);
        let file = create(content, &entry.path, entry.len)?;
        if full && entry.len > 0 {
            let taken = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, entry.len);
            match taken {
                // A file system that cannot do so keeps it sparse.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(WriteError::of(path, error.into())),
            }
        }
    }
    Ok(())
}

/// Writes `blocks` one after another from `offset` on. `files` are those that are open for writing. If it
/// fails, some of the blocks may be written.
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
        let part = part(content, files, offset)?;
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

/// Makes all that was written durable, names of files included. An error is also what the kernel could not
/// write meanwhile, of whatever file on that disk: it does not say which (Linux 5.8 or later).
pub fn sync(content: &Content) -> Result<(), WriteError> {
    let synced = content.with_folder(|folder| Ok(rustix::fs::syncfs(folder)?));
    synced.map_err(|error| WriteError::of(content.folder(), error))
}

/// Whether the file that holds the byte at `offset` can be opened for writing. It is made if need be.
pub fn is_writable(content: &Content, offset: u64) -> bool {
    part(content, &FileCache::new(1), offset).is_ok()
}

/// The pieces that have to be left out if the file that holds the byte at `offset` takes no writes.
pub fn pieces_of_file(content: &Content, offset: u64) -> Option<Range<u32>> {
    content.pieces_around(offset)
}

/// Buffers of one system call.
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
    // Before the first write, so that no failure is told to somebody else.
    let folder = content.with_folder(|_| Ok(()));
    folder.map_err(|error| WriteError::of(content.folder(), error))?;
    let source = if record.zeros {
        Source::Zeros
    } else {
        let path = content
            .path_at(record.position)
            .map_err(WriteError::Place)?;
        Source::written(create(content, &path, record.len)?)
    };
    let part = Part {
        start: record.start,
        end: record.start.saturating_add(record.len),
        source: Arc::new(source),
    };
    files.insert(content.id(), part.clone());
    Ok(part)
}

/// The content's folder has to be there, and on the disk where it should be.
fn on_its_disk(content: &Content) -> Result<(), WriteError> {
    let layout = content.layout();
    let folder = layout.named().stat(layout.base());
    let folder = folder.map_err(|failure| WriteError::open(content.folder(), failure))?;
    // The type of the field differs between architectures.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let now = folder.st_dev as u64;
    match content.device() {
        Some(device) if device != now => Err(WriteError::NotMounted {
            path: content.folder(),
        }),
        _ => Ok(()),
    }
}

/// Opens a file for writing, making it and the folders on its way. What is too short is made longer.
fn create(content: &Content, path: &Path, len: u64) -> Result<OwnedFd, WriteError> {
    let shown = || content.path_beneath(path);
    let failed = |failure| WriteError::open(shown(), failure);
    let layout = content.layout();
    let (named, relative) = (layout.named(), layout.relative(path));
    on_its_disk(content)?;
    let (file, stat) = match named.open_to_write(&relative) {
        Err(OpenFailure::Missing) => {
            let folder = relative.parent().unwrap_or(Path::new(""));
            let folder = named.make_folder(folder).map_err(failed)?;
            let name = relative.file_name().unwrap_or_default();
            Root::make_file(&folder, name).map_err(|error| match error {
                // A link that leads nowhere.
                Errno::EXIST => failed(OpenFailure::NotAFile),
                error => failed(error.into()),
            })?
        }
        opened => opened.map_err(failed)?,
    };
    if u64::try_from(stat.st_size).is_ok_and(|size| size < len) {
        rustix::fs::ftruncate(&file, len).map_err(|e| WriteError::of(shown(), e.into()))?;
    }
    Ok(file)
}
