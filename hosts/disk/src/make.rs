//! Making a torrent of a file or folder (BEP 3, 12, 19, 27, 47).
//!
//! The same files, names and options give the same bytes: files are sorted by the bytes of their names, and no
//! creation date is written. A folder's files are the regular ones that its [`Choice`] takes: hidden files too, and
//! links to files in the folder. A file that cannot be read, or whose name others could not read, is left out and
//! reported; with strict options it is an error.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

use everseed_core::bencode::Writer;
use everseed_core::geometry::{Geometry, GeometryError};
use everseed_core::hash::{Digest, Sha1 as _};
use everseed_core::metainfo::{MAX_PATH, Metainfo};

use crate::beneath::{Links, Root};
use crate::cache::Stamp;
use crate::choice::Choice;
use crate::content::Content;
use crate::entry::read_torrent;
use crate::error::{ReadError, Shown};
use crate::hash::Fast;
use crate::hashing::{HashError, Pieces, scratch};
use crate::regular::open_regular;
use crate::replace::{replace, replace_for_all};
use crate::stream::Stream;
use crate::walk::{self, Found, Skipped};

/// The fields of a new torrent beside its files, and how files are chosen and cut.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Options {
    /// Announce URLs in tiers: those of the first are asked first (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Leave room for another announce URL in place of the only one while the torrent is in use, see [`stays_put`].
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

/// Why no torrent was made.
#[derive(Debug)]
#[non_exhaustive]
pub enum MakeError {
    /// The folder has no file, or all its files are empty.
    Empty {
        /// The path to share.
        path: PathBuf,
    },
    /// A name is not UTF-8, so other systems could not read it.
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// A path within the folder that is longer than clients accept.
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The torrent file would overwrite the file that it is made of.
    Overwrites {
        /// The file.
        path: PathBuf,
    },
    /// The path is a device, socket or FIFO.
    Special {
        /// The path to share.
        path: PathBuf,
    },
    /// The path has no name that the torrent could have.
    NoName {
        /// The path to share.
        path: PathBuf,
    },
    /// A file was written to while it was hashed.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The content does not fit into a torrent of this piece length.
    Geometry(GeometryError),
    /// A file could not be read, or the torrent file could not be written.
    Io {
        /// The path of that file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A file is not a regular file any more, or a link now leads out of the folder.
    Read(ReadError),
}

/// Makes a torrent of `path`, a file or a folder, and writes it to `out`, replacing it as a whole.
///
/// `out` may lie in the shared folder; it is then not part of the torrent.
pub fn make(
    path: &Path,
    out: &Path,
    options: &Options,
    report: &mut dyn FnMut(Report<'_>),
) -> Result<(), MakeError> {
    let mut source = Listing::find(path, out, options, report)?;
    let piece_len = source.piece_len(options);
    source.geometry(path, piece_len, options.align)?;
    let hashes = source.hash(piece_len, options, report)?;
    if let Some(path) = source.difference(&Listing::find(path, out, options, &mut |_| {})?) {
        return Err(MakeError::Changed { path });
    }
    source.files.retain(|file| !file.unreadable);
    source.geometry(path, piece_len, options.align)?;
    let bytes = hashes.as_flattened();
    replace_for_all(out, |file| {
        let info = |out: &mut Writer<_>| {
            let (len, mut pieces) = (bytes.len() as u64, bytes);
            write_info(out, &source, piece_len, options, len, &mut pieces)
        };
        write(file, options, info)
    })
    .map_err(|error| {
        let path = out.to_owned();
        MakeError::Io { path, error }
    })
}

/// The number of bytes that [`make`] would hash, if the files can be listed.
pub fn total(path: &Path, options: &Options) -> Option<u64> {
    let source = Listing::find(path, Path::new(""), options, &mut |_| {});
    source.ok().map(|source| source.total())
}

/// Whether a torrent made of `path` now would have the same info-hash as `content`, if the files' bytes are
/// unchanged. These are not read. Only a few files that `content` does not list are read: what cannot be read was
/// left out, and would be again.
pub fn would_be_same(path: &Path, content: &Content, options: &Options) -> bool {
    let same = || -> Option<bool> {
        let mut source = Listing::find(path, Path::new(""), options, &mut |_| {}).ok()?;
        let metainfo = content.metainfo();
        let piece_len = source.piece_len(options);
        source.leave_out_unreadable(content)?;
        if metainfo.geometry != source.geometry(path, piece_len, options.align).ok()? {
            return Some(false);
        }
        let mut torrent = File::open(content.torrent_file()).ok()?;
        let at = io::SeekFrom::Start(metainfo.pieces_at());
        torrent.seek(at).ok()?;
        let len = u64::from(metainfo.geometry.pieces()) * 20;
        let mut pieces = torrent.take(len);
        let mut out = Writer::new(Stream(Hashed::default()));
        write_info(&mut out, &source, piece_len, options, len, &mut pieces).ok()?;
        Some(out.into_inner().0.0.finish() == metainfo.info_hash.0)
    };
    same().unwrap_or(false)
}

/// A sink that computes the SHA-1 of what is written to it.
#[derive(Default)]
struct Hashed(Fast);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Replaces the fields of a torrent file outside `info` by those of `options`, unless they are the same already; the
/// info-hash stays. If `options` name no program, the torrent keeps the one that made it.
pub fn retrack(torrent: &Path, metainfo: &Metainfo, options: &Options) -> Result<(), MakeError> {
    let failed = |error| MakeError::Io {
        path: torrent.to_owned(),
        error,
    };
    let file = open_regular(torrent, u64::MAX);
    let mut file = file.map_err(|error| failed(io::Error::other(error)))?;
    let mut options = options.clone();
    if options.created_by.is_none() {
        let changed = |error: &dyn fmt::Display| failed(io::Error::other(error.to_string()));
        // The file's `info` may have moved since `metainfo` was read.
        let now = read_torrent(torrent).map_err(|error| changed(&error))?;
        let mut room = [0; 256];
        let text = now.created_by(Stream(&file), &mut room);
        let text = text.map_err(|error| changed(&error))?;
        options.created_by = Some(String::from_utf8_lossy(text).into_owned());
    }
    let range = metainfo.info_range();
    if says_so(&file, &range, &options).map_err(failed)? {
        return Ok(());
    }
    file.seek(io::SeekFrom::Start(range.start))
        .map_err(failed)?;
    let mut info = file.take(range.end - range.start);
    replace(torrent, |out| {
        write(out, &options, |out| copy_raw(&mut info, out))
    })
    .map_err(failed)
}

/// Whether [`retrack`] with these options leaves `info` at its offset in the file. Then readers of piece hashes and
/// file names in it need not be told.
pub fn stays_put(metainfo: &Metainfo, options: &Options) -> bool {
    let mut file = Vec::new();
    let head = Options {
        webseeds: Vec::new(),
        ..options.clone()
    };
    // After the key there is only the end of the outer dictionary.
    let written = write(&mut file, &head, |_| Ok(()));
    written.is_ok() && metainfo.info_range().start + 1 == file.len() as u64
}

/// Whether the bytes before and after `info` are those that these options would make.
fn says_so(mut file: &File, info: &Range<u64>, options: &Options) -> io::Result<bool> {
    let mut wanted = Vec::new();
    let mut before = 0;
    write(&mut wanted, options, |out| {
        before = out.inner().0.len() as u64;
        Ok(())
    })?;
    file.rewind()?;
    let len = file.metadata()?.len();
    if info.start != before || len - info.end != wanted.len() as u64 - before {
        return Ok(false);
    }
    let mut there = Vec::with_capacity(wanted.len());
    file.take(before).read_to_end(&mut there)?;
    file.seek(io::SeekFrom::Start(info.end))?;
    file.read_to_end(&mut there)?;
    Ok(there == wanted)
}

pub(crate) fn copy_raw<W: io::Write>(
    from: &mut (impl io::Read + ?Sized),
    to: &mut Writer<Stream<W>>,
) -> io::Result<()> {
    let mut buffer = [0; 8 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            len => to.raw(&buffer[..len])?,
        }
    }
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

/// The files to share, listed but not read yet.
struct Listing {
    /// The torrent's name.
    name: String,
    /// The folder to which the paths of `files` are relative.
    folder: PathBuf,
    links: Links,
    files: Vec<Found>,
    single: bool,
}

impl Listing {
    fn find(
        path: &Path,
        out: &Path,
        options: &Options,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<Listing, MakeError> {
        let links = options.links;
        let failed = |path: &Path, error| {
            let path = path.to_owned();
            MakeError::Io { path, error }
        };
        let real = fs::canonicalize(path).map_err(|error| failed(path, error))?;
        let metadata = fs::metadata(&real).map_err(|error| failed(path, error))?;
        if !metadata.is_file() && !metadata.is_dir() {
            let path = path.to_owned();
            return Err(MakeError::Special { path });
        }
        let name = name_of(path, &real)?;
        let out = canonical_output(out);
        if out.as_ref() == Some(&real) {
            let path = path.to_owned();
            return Err(MakeError::Overwrites { path });
        }
        if let (true, Some(folder), Some(file)) =
            (metadata.is_file(), real.parent(), real.file_name())
        {
            let file = PathBuf::from(file);
            let there = Root { folder, links }.stat_file(&file);
            let stat = there.map_err(|e| MakeError::Read(ReadError::open(real.clone(), e)))?;
            let only = Found {
                path: file,
                len: u64::try_from(stat.st_size).unwrap_or(0),
                stamp: Stamp::of(&stat),
                unreadable: false,
            };
            return Ok(Listing {
                name,
                folder: folder.to_owned(),
                links,
                files: vec![only],
                single: true,
            });
        }
        let mut trouble = None;
        let mut skip = |path: &Path, why| {
            report(Report::Skipped(path, why));
            if options.strict && trouble.is_none() {
                trouble = strict_error(path, why);
            }
        };
        let (folder, choice) = (&*real, &options.choice);
        let root = Root { folder, links };
        let files = walk::walk(root, out.as_deref(), choice, &mut skip)
            .map_err(|(path, error)| MakeError::Io { path, error })?;
        match trouble {
            Some(error) => Err(error),
            None => Ok(Listing {
                name,
                folder: real,
                links,
                files,
                single: false,
            }),
        }
    }

    fn total(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    fn piece_len(&self, options: &Options) -> u32 {
        let default = || default_piece_len(self.total());
        options.piece_len.unwrap_or_else(default)
    }

    /// Length and pieces of the content, padding included.
    fn geometry(&self, path: &Path, piece_len: u32, align: bool) -> Result<Geometry, MakeError> {
        let padded = padded(&self.files, piece_len, align);
        let total = padded.map(|(padding, file)| padding + file.len).sum();
        match Geometry::new(total, u64::from(piece_len)) {
            Ok(geometry) => Ok(geometry),
            Err(GeometryError::Total) if total == 0 => {
                let path = path.to_owned();
                Err(MakeError::Empty { path })
            }
            Err(error) => Err(MakeError::Geometry(error)),
        }
    }

    /// Hashes all files. A file that could not be read is marked, and its bytes are not part of the pieces.
    fn hash(
        &mut self,
        piece_len: u32,
        options: &Options,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<Vec<Digest>, MakeError> {
        let mut pieces = Pieces::new(piece_len);
        let mut scratch = scratch();
        let (mut done, total) = (0, self.total());
        let mut progress = |report: &mut dyn FnMut(Report<'_>), bytes| {
            done += bytes;
            report(Report::Hashed { done, total });
        };
        let (folder, links) = (&*self.folder, self.links);
        let root = Root { folder, links };
        let mut offset = 0;
        for found in &mut self.files {
            let path = folder.join(&found.path);
            let opened = root.open_file(&found.path);
            let opened = opened.map_err(|failure| match ReadError::open(path.clone(), failure) {
                ReadError::Io { path, error } => HashError::Io(path, error),
                _ => HashError::Changed(path.clone()),
            });
            let mark = pieces.mark();
            let padding = padding(offset, found.len, piece_len, options.align);
            pieces.add_zeros(padding);
            let mut progress = |bytes| progress(report, bytes);
            let added = opened.and_then(|(fd, _)| {
                let file = File::from(fd);
                pieces.add_file(&path, file, found.len, &mut scratch, &mut progress)
            });
            match added {
                Ok(()) => offset += padding + found.len,
                Err(HashError::Io(path, error)) if !self.single && !options.strict => {
                    pieces.back_to(mark);
                    found.unreadable = true;
                    report(Report::Skipped(&path, Skipped::unreadable(&error)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(pieces.finish())
    }

    /// Leaves out files that `content` does not list and that cannot be read to their end. If there are very many,
    /// none is tried. `None` if the torrent cannot be read.
    fn leave_out_unreadable(&mut self, content: &Content) -> Option<()> {
        let (folder, links) = (&*self.folder, self.links);
        let root = Root { folder, links };
        let entries = content.entries().ok()?;
        let listed: HashSet<PathBuf> =
            entries.map(|e| Some(e.ok()?.path)).collect::<Option<_>>()?;
        let others = self
            .files
            .iter()
            .filter(|file| !listed.contains(&file.path));
        if self.single || others.count() > LEFT_OUT {
            return Some(());
        }
        let mut pieces = Pieces::new(default_piece_len(0));
        let mut scratch = scratch();
        self.files.retain(|found| {
            listed.contains(&found.path) || {
                let opened = root.open_file(&found.path).map(|(fd, _)| File::from(fd));
                let read = opened.map(|file| {
                    pieces.add_file(&found.path, file, found.len, &mut scratch, &mut |_| {})
                });
                !matches!(read, Ok(Err(HashError::Io(..))))
            }
        });
        Some(())
    }

    /// A file that appeared, vanished or changed between two listings.
    fn difference(&self, later: &Listing) -> Option<PathBuf> {
        let same = |(a, b): &(&Found, &Found)| a.path == b.path && a.stamp == b.stamp;
        let both = self.files.iter().zip(&later.files);
        let at = both.take_while(same).count();
        let differs = |source: &Listing| source.files.get(at).map(|file| file.path.clone());
        let first = differs(self).into_iter().chain(differs(later)).min()?;
        Some(self.folder.join(first))
    }
}

/// The error for a skipped file if the options are strict; `None` for reasons that are no error then either.
fn strict_error(path: &Path, why: Skipped) -> Option<MakeError> {
    let path = path.to_owned();
    match why {
        Skipped::NotUtf8 => Some(MakeError::NotUtf8 { path }),
        Skipped::TooLong => Some(MakeError::TooLong { path }),
        Skipped::Unreadable(errno) => {
            let error = io::Error::from_raw_os_error(errno);
            Some(MakeError::Io { path, error })
        }
        _ => None,
    }
}

/// Length of the padding before a file that has to begin with a new piece.
fn padding(offset: u64, len: u64, piece_len: u32, align: bool) -> u64 {
    if !align || len == 0 {
        return 0;
    }
    offset.next_multiple_of(u64::from(piece_len)) - offset
}

/// Each file, and the length of the padding before it.
fn padded(files: &[Found], piece_len: u32, align: bool) -> impl Iterator<Item = (u64, &Found)> {
    let mut offset = 0;
    files.iter().map(move |file| {
        let padding = padding(offset, file.len, piece_len, align);
        offset += padding + file.len;
        (padding, file)
    })
}

/// The torrent's name. For a link that a person named it is the link's name; for `.` the real folder's.
fn name_of(path: &Path, real: &Path) -> Result<String, MakeError> {
    let shown = || path.to_owned();
    let name = path.file_name().or(real.file_name());
    let name = name.ok_or_else(|| MakeError::NoName { path: shown() })?;
    let name = name.to_str();
    let name = name.ok_or_else(|| MakeError::NotUtf8 { path: shown() })?;
    Ok(name.to_owned())
}

/// Writes the torrent file, keys sorted by their bytes (BEP 3). `info` writes that key's value.
fn write<W: io::Write>(
    out: W,
    options: &Options,
    info: impl FnOnce(&mut Writer<Stream<W>>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = Writer::new(Stream(out));
    out.dict()?;
    if let Some(first) = options.trackers.iter().flatten().next() {
        out.key(b"announce")?;
        out.string(first.as_bytes())?;
    }
    if options.trackers.iter().flatten().count() > 1 {
        out.key(b"announce-list")?;
        write_tiers(&mut out, &options.trackers)?;
    }
    if let Some(comment) = &options.comment {
        out.key(b"comment")?;
        out.string(comment.as_bytes())?;
    }
    let created_by = options.created_by.as_deref().unwrap_or(CREATED_BY);
    if !created_by.is_empty() {
        out.key(b"created by")?;
        out.string(created_by.as_bytes())?;
    }
    let mut urls = options.trackers.iter().flatten();
    if let (Some(only), None, true) = (urls.next(), urls.next(), options.roomy)
        && ROOM_FOR.contains(&only.len())
    {
        out.key(b"everseed")?;
        out.string(&vec![b' '; ROOM - only.len()])?;
    }
    out.key(b"info")?;
    info(&mut out)?;
    if !options.webseeds.is_empty() {
        out.key(b"url-list")?;
        write_list(&mut out, &options.webseeds)?;
    }
    out.end()
}

/// Lengths of announce URLs that can replace each other: filled up with padding they are equally long, and the
/// numbers of their lengths have as many digits.
const ROOM_FOR: std::ops::RangeInclusive<usize> = 10..=99;
const ROOM: usize = 200;
pub(crate) fn write_tiers<W: io::Write>(
    out: &mut Writer<Stream<W>>,
    tiers: &[Vec<String>],
) -> io::Result<()> {
    out.list()?;
    tiers.iter().try_for_each(|tier| write_list(out, tier))?;
    out.end()
}

pub(crate) fn write_list<W: io::Write>(
    out: &mut Writer<Stream<W>>,
    texts: &[String],
) -> io::Result<()> {
    out.list()?;
    texts
        .iter()
        .try_for_each(|text| out.string(text.as_bytes()))?;
    out.end()
}

/// The most files, unreadable when the torrent was made, that are tried again before it is made anew.
const LEFT_OUT: usize = 16;

const CREATED_BY: &str = concat!("everseed/", env!("CARGO_PKG_VERSION"));

/// Writes the value of `info`; `pieces` gives `pieces_len` bytes of hashes.
fn write_info<W: io::Write>(
    out: &mut Writer<Stream<W>>,
    source: &Listing,
    piece_len: u32,
    options: &Options,
    pieces_len: u64,
    pieces: &mut dyn io::Read,
) -> io::Result<()> {
    out.dict()?;
    match &source.files[..] {
        [only] if source.single => {
            out.key(b"length")?;
            out.integer(only.len.cast_signed())?;
        }
        files => {
            out.key(b"files")?;
            out.list()?;
            for (padding, file) in padded(files, piece_len, options.align) {
                if padding > 0 {
                    write_padding(out, padding)?;
                }
                write_file(out, file)?;
            }
            out.end()?;
        }
    }
    out.key(b"name")?;
    out.string(source.name.as_bytes())?;
    out.key(b"piece length")?;
    out.integer(piece_len.into())?;
    out.key(b"pieces")?;
    out.string_len(pieces_len)?;
    copy_raw(pieces, out)?;
    if options.private {
        out.key(b"private")?;
        out.integer(1)?;
    }
    if let Some(text) = options.source.as_deref().filter(|text| !text.is_empty()) {
        out.key(b"source")?;
        out.string(text.as_bytes())?;
    }
    out.end()
}

fn write_file<W: io::Write>(out: &mut Writer<Stream<W>>, file: &Found) -> io::Result<()> {
    out.dict()?;
    out.key(b"length")?;
    // At most the longest content that a torrent may have; `Geometry` checked that.
    out.integer(file.len.cast_signed())?;
    out.key(b"path")?;
    out.list()?;
    for component in file.path.iter() {
        // UTF-8; `Choice` checked that.
        out.string(component.as_encoded_bytes())?;
    }
    out.end()?;
    out.end()
}

/// Writes the entry of a padding file (BEP 47), with the name that libtorrent would give it.
fn write_padding<W: io::Write>(out: &mut Writer<Stream<W>>, len: u64) -> io::Result<()> {
    out.dict()?;
    out.key(b"attr")?;
    out.string(b"p")?;
    out.key(b"length")?;
    out.integer(len.cast_signed())?;
    out.key(b"path")?;
    out.list()?;
    out.string(b".pad")?;
    out.string(len.to_string().as_bytes())?;
    out.end()?;
    out.end()
}

fn canonical_output(out: &Path) -> Option<PathBuf> {
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Some(fs::canonicalize(folder).ok()?.join(out.file_name()?))
}

impl fmt::Display for MakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MakeError::Empty { path } => {
                write!(
                    f,
                    "{} has no bytes, so there is nothing to share",
                    Shown(path)
                )
            }
            MakeError::NotUtf8 { path } => write!(
                f,
                "{}: its name is not UTF-8, so others could not read it; rename it",
                Shown(path)
            ),
            MakeError::TooLong { path } => write!(
                f,
                "{}: within the folder its path is longer than {MAX_PATH} bytes; shorten it",
                Shown(path)
            ),
            MakeError::Overwrites { path } => write!(
                f,
                "{} is what is to be shared; write the torrent to another file",
                Shown(path)
            ),
            MakeError::Special { path } => write!(
                f,
                "{} is a device, socket or FIFO; only files and folders can be shared",
                Shown(path)
            ),
            MakeError::NoName { path } => write!(
                f,
                "{} has no name that a torrent could have; share a folder in it",
                Shown(path)
            ),
            MakeError::Changed { path } => write!(
                f,
                "{} was written to while it was read; try again when it is finished",
                Shown(path)
            ),
            MakeError::Geometry(GeometryError::TooManyPieces) => {
                f.write_str("the pieces are too many for a torrent; choose a greater piece length")
            }
            MakeError::Geometry(GeometryError::Total) => f.write_str(
                "the content is larger than a pebibyte, which is more than a torrent holds",
            ),
            MakeError::Geometry(GeometryError::PieceLength) => {
                f.write_str("the piece length is out of range")
            }
            MakeError::Io { path, error } => write!(f, "{}: {error}", Shown(path)),
            MakeError::Read(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MakeError {}

impl From<HashError> for MakeError {
    fn from(error: HashError) -> MakeError {
        match error {
            HashError::Changed(path) => MakeError::Changed { path },
            HashError::Io(path, error) => MakeError::Io { path, error },
        }
    }
}
