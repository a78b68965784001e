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
//! lost, although memory still shows them and the next `sync` reports nothing. Then a
//! [`check`](crate::check::check()) tells what the disk holds.

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use everseed_core::metainfo::FileKind;
use rustix::fs::Stat;
use rustix::io::Errno;

use crate::access::{self, Access};
use crate::beneath::{OpenFailure, Root};
use crate::cache::{FileCache, Part, Source};
use crate::content::Content;
use crate::entry::Entry;
use crate::error::{ReadError, Shown, leaves, owners};
use crate::index::Record;
use crate::lengthen;
use crate::ours::{Mark, Note, Ours};

/// Why content could not be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// The file system is full.
    NoSpace {
        /// The file.
        path: PathBuf,
    },
    /// The user's quota on the file system is used up.
    Quota {
        /// The file.
        path: PathBuf,
    },
    /// The file system allows no file that long.
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its full length in bytes, if that is known.
        len: Option<u64>,
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
    /// The file is the owner's: it was there before, or was completed.
    Owners {
        /// The file.
        path: PathBuf,
    },
    /// The file has other hard links, whose content would be overwritten too.
    Linked {
        /// The file.
        path: PathBuf,
    },
    /// Something has the name of the content in its final place.
    Taken {
        /// What stands there.
        path: PathBuf,
    },
    /// The record of our files could not be written.
    Record {
        /// The record's path.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The disk of the content is not mounted, so nothing was made.
    NotMounted {
        /// The file.
        path: PathBuf,
    },
    /// Another error of the operating system.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The place to write to could not be found.
    Place(ReadError),
    /// Not tried, because the write before it failed.
    Again,
}

impl WriteError {
    /// Whether the whole disk is away: not mounted any more, or broken.
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

    /// The path of the file or folder that the error is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            WriteError::NoSpace { path }
            | WriteError::Quota { path }
            | WriteError::TooLong { path, .. }
            | WriteError::NotAFile { path }
            | WriteError::Leaves { path }
            | WriteError::Owners { path }
            | WriteError::Linked { path }
            | WriteError::Taken { path }
            | WriteError::Record { path, .. }
            | WriteError::NotMounted { path }
            | WriteError::Io { path, .. } => Some(path),
            WriteError::Place(error) => Some(error.path()),
            WriteError::Again => None,
        }
    }

    /// Whether the disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, WriteError::NoSpace { .. } | WriteError::Quota { .. })
    }

    /// Whether the disk can only be read, as after an error that the kernel met.
    pub fn is_read_only(&self) -> bool {
        match self {
            WriteError::Io { error, .. } => Errno::from_io_error(error) == Some(Errno::ROFS),
            _ => false,
        }
    }

    /// Whether the error concerns only that file, so that others may still be written.
    pub fn is_of_file(&self) -> bool {
        match self {
            WriteError::NotAFile { .. }
            | WriteError::Leaves { .. }
            | WriteError::Owners { .. }
            | WriteError::Linked { .. }
            | WriteError::TooLong { .. } => true,
            WriteError::Io { error, .. } => match Errno::from_io_error(error) {
                // The disk, or this process itself, is at fault.
                Some(Errno::ROFS | Errno::MFILE | Errno::NFILE | Errno::NOMEM) => false,
                _ => !self.is_away(),
            },
            _ => false,
        }
    }

    fn record(ours: &Ours, error: io::Error) -> WriteError {
        let path = ours.path().to_owned();
        WriteError::Record { path, error }
    }

    fn open(path: PathBuf, failure: OpenFailure) -> WriteError {
        match failure {
            OpenFailure::NotAFile => WriteError::NotAFile { path },
            OpenFailure::Leaves => WriteError::Leaves { path },
            OpenFailure::Missing => WriteError::of(path, Errno::NOENT.into()),
            OpenFailure::Os(error) => WriteError::of(path, error.into()),
        }
    }

    pub(crate) fn of(path: PathBuf, error: io::Error) -> WriteError {
        match error.kind() {
            io::ErrorKind::StorageFull => WriteError::NoSpace { path },
            io::ErrorKind::QuotaExceeded => WriteError::Quota { path },
            io::ErrorKind::FileTooLarge => WriteError::TooLong { path, len: None },
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
            WriteError::TooLong { path, len: None } => write!(
                f,
                "{}: no file may be so long there; use another file system, or raise `ulimit -f`",
                Shown(path)
            ),
            WriteError::TooLong {
                path,
                len: Some(len),
            } => {
                let (size, unit) = match len >> 30 {
                    0 => (len >> 20, "MiB"),
                    gib => (gib, "GiB"),
                };
                write!(f, "{}: ", Shown(path))?;
                match lengthen::is_allowed(*len) {
                    true => write!(
                        f,
                        "the file system holds no file of {size} {unit}; use another one"
                    ),
                    false => write!(
                        f,
                        "no file may be so long there, {size} {unit}; raise `ulimit -f` (LimitFSIZE= of a service)"
                    ),
                }
            }
            WriteError::NotAFile { path } => write!(
                f,
                "{} is no regular file, but the torrent has one there; move it away",
                Shown(path)
            ),
            WriteError::Leaves { path } => leaves(f, path),
            WriteError::Owners { path } => owners(f, path),
            WriteError::Record { path, error } => write!(
                f,
                "{}: {error}. Nothing is downloaded, because it is recorded there which files are everseed's own; make room \
                 there or choose another folder with --state",
                Shown(path)
            ),
            WriteError::Linked { path } => write!(
                f,
                "{} has other names too (hard links), which would all be written over; put a copy in its place",
                Shown(path)
            ),
            WriteError::Taken { path } => write!(
                f,
                "{} is there already, where it is to be moved to; move that away",
                Shown(path)
            ),
            WriteError::NotMounted { path } => {
                write!(f, "the disk of {} is not mounted", Shown(path))
            }
            WriteError::Io { path, error } => write!(f, "{}: {error}", Shown(path)),
            WriteError::Place(error) => error.fmt(f),
            WriteError::Again => f.write_str("the write before it failed"),
        }
    }
}

impl std::error::Error for WriteError {}

/// Makes a folder that the owner named, and its missing parents.
pub fn make_named(content: &Content, folder: &Path) -> Result<(), WriteError> {
    let made = content.access().make_folder(folder);
    made.map_err(|error| WriteError::of(folder.to_owned(), error))
}

/// Makes the content's folder.
pub fn make_folder(content: &Content) -> Result<(), WriteError> {
    let layout = content.layout();
    let named = layout.named();
    make_named(content, named.folder)?;
    let access = content.access();
    let failure = match named.make_folder(layout.base(), access) {
        Ok(_) => return Ok(()),
        Err(failure) => failure,
    };
    let own = layout.base().to_owned();
    let tops = layout.fitting_tops().into_iter();
    let mut tops = tops.filter(|_| failure.is_no_such_name() && !layout.is_single());
    let made = tops.find(|top| named.make_folder(top, access).is_ok());
    let made = made.ok_or_else(|| WriteError::open(content.folder(), failure))?;
    layout.set_top(&made);
    content.note_refused(&own, &made);
    Ok(())
}

/// Makes the missing files for which `wanted` holds, and notes that they are ours. If one cannot be made, its first
/// write reports that.
///
/// A file stays empty until its note is durable, and has one byte from then on, so that nobody takes it for a free
/// one. A file that appears between the two looks here is somebody else's. On a file system that ignores case it is
/// another file of this torrent.
pub fn prepare(
    content: &Content,
    mut wanted: impl FnMut(&Entry) -> bool,
) -> Result<(), WriteError> {
    make_folder(content)?;
    let ours = content.ours();
    let layout = content.layout();
    let named = layout.named();
    let mut missing = Vec::new();
    let is_bare = content.is_bare();
    each(content, |_, entry| {
        let is_missing = || match named.find_file(&content.place_of(entry)) {
            Err(failure) => failure.is_no_such_name(),
            Ok(_) => false,
        };
        let is_wanted = wanted(entry) && entry.kind == FileKind::Data;
        missing.push(is_wanted && (is_bare || is_missing()));
        Ok(())
    })?;
    let mut missing = missing.into_iter();
    each(content, |number, entry| {
        // Without a record a file is made when it is first written.
        if missing.next() != Some(true) || number.is_some() && ours.is_none() {
            return Ok(());
        }
        let made = make(content, &content.place_to_make(entry));
        let (Some(number), Some(ours), Ok(Some((file, _)))) = (number, &ours, &made) else {
            return match made {
                Err(error) if !error.is_of_file() => Err(error),
                _ => Ok(()),
            };
        };
        note(ours, number, Mark::of(file))
    })?;
    let Some(ours) = ours else {
        return Ok(());
    };
    sync_record(&ours)?;
    each(content, |number, entry| {
        if let Some(Note::Ours(mark)) = number.map(|number| ours.note(number))
            && let Ok((file, stat)) = named.open_to_write(&content.place_of(entry))
            && stat.st_size == 0
            && mark.fits(Mark::of(&file))
        {
            let longer = lengthen::begin(&file);
            longer.map_err(|error| WriteError::of(content.path_of(entry), error.into()))?;
        }
        Ok(())
    })
}

/// Calls `act` for each file, with the file's number if it holds a byte.
fn each(
    content: &Content,
    mut act: impl FnMut(Option<u64>, &Entry) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let mut next = 0;
    for entry in content.entries().map_err(WriteError::Place)? {
        let entry = entry.map_err(|e| WriteError::Place(content.torrent_error(e)))?;
        let number = (entry.len > 0).then_some(next);
        next += u64::from(entry.len > 0);
        act(number, &entry)?;
    }
    Ok(())
}

/// Reserves the disk space of our files for which `wanted` holds, where that takes no time.
pub fn reserve(
    content: &Content,
    mut wanted: impl FnMut(&Entry) -> bool,
) -> Result<(), WriteError> {
    each(content, |number, entry| {
        let wanted = wanted(entry) && entry.kind == FileKind::Data;
        let Some(number) = number.filter(|_| wanted) else {
            return Ok(());
        };
        let place = content.place_of(entry);
        let (file, _) = match open(content, number, &place) {
            Err(error) if error.is_of_file() => return Ok(()),
            opened => opened?,
        };
        let taken = lengthen::take(&file, entry.len);
        taken.map_err(|error| WriteError::of(content.path_of(entry), error.into()))
    })
}

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
/// that disk, because the kernel does not say which (Linux 5.8 or later).
pub fn sync(content: &Content) -> Result<(), WriteError> {
    let synced = content.with_folder(|folder| Ok(rustix::fs::syncfs(folder)?));
    synced.map_err(|error| WriteError::of(content.folder(), error))
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
        // As before each first write: the folder is held open.
        let folder = content.with_folder(|_| Ok(()));
        folder.map_err(|error| WriteError::of(content.folder(), error))?;
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
    // The folder is opened before the first write, so that a write's failure is reported to us.
    let folder = content.with_folder(|_| Ok(()));
    folder.map_err(|error| WriteError::of(content.folder(), error))?;
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

/// Checks that the content's folder exists, and is on the device where it should be.
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

/// Opens a file for writing, and makes it and its folders if they are missing. A short file is made longer. `path` is
/// beneath the folder that the owner named.
fn create(content: &Content, number: u64, path: &Path, len: u64) -> Result<OwnedFd, WriteError> {
    let (file, stat) = open(content, number, path)?;
    let mut now = size(&stat);
    while now < len {
        now = longer(content, path, &file, now, len)?;
    }
    Ok(file)
}

fn longer(
    content: &Content,
    path: &Path,
    file: &OwnedFd,
    now: u64,
    len: u64,
) -> Result<u64, WriteError> {
    let longer = lengthen::lengthen(file, now, len);
    longer.map_err(|error| match error {
        Errno::FBIG => WriteError::TooLong {
            path: content.layout().whole(path),
            len: Some(len),
        },
        error => WriteError::of(content.layout().whole(path), error.into()),
    })
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Opens a file for writing, whatever its length.
fn open(content: &Content, number: u64, path: &Path) -> Result<(OwnedFd, Stat), WriteError> {
    on_its_disk(content)?;
    match content.ours() {
        None => open_or_make(content, path),
        Some(ours) => {
            let opened = open_ours(content, &ours, number, path)?;
            opened.ok_or_else(|| WriteError::Owners {
                path: content.layout().whole(path),
            })
        }
    }
}

/// Opens a file that is ours. A file that holds nothing becomes ours; `None` if the file holds something.
fn open_ours(
    content: &Content,
    ours: &Ours,
    number: u64,
    path: &Path,
) -> Result<Option<(OwnedFd, Stat)>, WriteError> {
    let layout = content.layout();
    let is_ours =
        |file: &OwnedFd| matches!(ours.note(number), Note::Ours(mark) if mark.fits(Mark::of(file)));
    let is_free = |stat: &Stat| stat.st_size == 0 && stat.st_nlink == 1;
    match layout.named().find_file(path) {
        Ok((file, stat)) if !is_ours(&file) && !is_free(&stat) => return Ok(None),
        // Its disk may have been unmounted since: the file would be made below the mount point.
        Err(failure) if failure.is_no_such_name() && ours.note(number) != Note::Owners => {
            return Err(WriteError::open(layout.whole(path), failure));
        }
        _ => {}
    }
    let (file, stat) = open_or_make(content, path)?;
    if !is_ours(&file) {
        // Somebody may have written something into it since.
        if !is_free(&stat) {
            return Ok(None);
        }
        note(ours, number, Mark::of(&file))?;
        sync_record(ours)?;
    }
    Ok(Some((file, stat)))
}

/// Makes a file ours, whatever it holds.
pub(crate) fn take(
    content: &Content,
    ours: &Ours,
    number: u64,
    path: &Path,
) -> Result<(), WriteError> {
    let (file, stat) = open_or_make(content, path)?;
    if stat.st_nlink != 1 {
        let path = content.layout().whole(path);
        return Err(WriteError::Linked { path });
    }
    note(ours, number, Mark::of(&file))
}

fn note(ours: &Ours, number: u64, mark: Mark) -> Result<(), WriteError> {
    let noted = ours.put(number, Note::Ours(mark));
    noted.map_err(|error| WriteError::record(ours, error))
}

/// Makes the notes of our files durable, before anything is written into them.
pub(crate) fn sync_record(ours: &Ours) -> Result<(), WriteError> {
    ours.sync().map_err(|error| WriteError::record(ours, error))
}

fn open_or_make(content: &Content, path: &Path) -> Result<(OwnedFd, Stat), WriteError> {
    let layout = content.layout();
    match layout.named().open_to_write(path) {
        Err(failure) if failure.is_no_such_name() => {}
        opened => {
            return opened
                .map_err(|failure| WriteError::open(content.layout().whole(path), failure));
        }
    }
    // A dangling link is in the way.
    let in_the_way = || WriteError::NotAFile {
        path: content.layout().whole(path),
    };
    make(content, path)?.ok_or_else(in_the_way)
}

/// Makes a file and its folders; `None` if something has its name already. If the file system refuses the name, the
/// file gets a substitute.
fn make(content: &Content, path: &Path) -> Result<Option<(OwnedFd, Stat)>, WriteError> {
    let (named, access) = (content.layout().named(), content.access());
    let failure = match make_at(named, path, access) {
        Ok(made) => return Ok(made),
        Err(failure) => failure,
    };
    let fits = || content.make_fitting(path, |place| make_at(named, place, access).ok().flatten());
    // Some file systems report a name that they refuse as missing, though its folder exists.
    let made = failure.is_no_such_name().then(fits).flatten();
    made.map(Some)
        .ok_or_else(|| WriteError::open(content.layout().whole(path), failure))
}

fn make_at(
    named: Root<'_>,
    path: &Path,
    access: Access,
) -> Result<Option<(OwnedFd, Stat)>, OpenFailure> {
    let folder = named.make_folder(path.parent().unwrap_or(Path::new("")), access)?;
    match Root::make_file(&folder, path.file_name().unwrap_or_default()) {
        Err(Errno::EXIST) => Ok(None),
        Err(error) => Err(error.into()),
        Ok((file, stat)) => {
            access.give(&file, access::FILE)?;
            Ok(Some((file, stat)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an error is told as, and what waits for what.
    #[test]
    fn errors_are_what_they_are() {
        let of = |errno: Errno| WriteError::of(PathBuf::from("/srv/file"), errno.into());
        let table = [
            // error, a full disk, of the file alone, of a place that is away
            (Errno::NOSPC, true, false, false),
            (Errno::DQUOT, true, false, false),
            (Errno::FBIG, false, true, false),
            (Errno::ROFS, false, false, false),
            (Errno::PERM, false, true, false),
            (Errno::ACCESS, false, true, false),
            (Errno::IO, false, true, false),
            (Errno::INVAL, false, true, false),
            (Errno::NAMETOOLONG, false, true, false),
            (Errno::MFILE, false, false, false),
            (Errno::NOENT, false, false, true),
            (Errno::NODEV, false, false, true),
            (Errno::STALE, false, false, true),
        ];
        for (errno, full, file, away) in table {
            let error = of(errno);
            let found = (error.is_no_space(), error.is_of_file(), error.is_away());
            assert_eq!(found, (full, file, away), "{errno:?}");
            assert!(error.to_string().starts_with("/srv/file: "), "{error}");
        }
        let said = |errno| of(errno).to_string();
        assert!(said(Errno::FBIG).contains("no file may be so long"));
        assert!(said(Errno::DQUOT).contains("quota"));
        assert!(said(Errno::NOSPC).contains("no space is left"));
        assert!(said(Errno::ROFS).contains("Read-only file system"));
    }
}
