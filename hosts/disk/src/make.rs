//! Making a torrent of a file or folder (BEP 3, 12, 19, 27).
//!
//! The same files, names and options give the same bytes: files are listed in the order of their
//! names' bytes, and no time of creation is written unless asked for. A folder's files are those that
//! are regular; hidden ones count, and links to files that lie in the folder.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use everseed_core::bencode::Writer;
use everseed_core::geometry::{Geometry, GeometryError};
use everseed_core::hash::Digest;
use everseed_core::metainfo::{MAX_PATH, Metainfo};

use crate::beneath::{Links, Root};
use crate::cache::Stamp;
use crate::content::Content;
use crate::entry::Entry;
use crate::error::{ReadError, Shown};
use crate::hashing::{HashError, Pieces, scratch};
use crate::regular::open_regular;
use crate::replace::{replace, replace_for_all};
use crate::stream::Stream;
use crate::walk::{self, Found, Skipped};

/// What a torrent says beside its files.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Options {
    /// Announce URLs, each a tier of its own: the first is asked first (BEP 12).
    pub trackers: Vec<String>,
    /// Whether to leave room so that another announce URL can take the place of the only one while the torrent
    /// is used, see [`stays_put`].
    pub roomy: bool,
    /// HTTP addresses of the same files (BEP 19).
    pub webseeds: Vec<String>,
    /// Text for people.
    pub comment: Option<String>,
    /// Only the trackers may tell of peers (BEP 27).
    pub private: bool,
    /// Bytes of a piece, a power of two from 16 KiB; `None` is [`default_piece_len`].
    pub piece_len: Option<u32>,
    /// Which links count as files.
    pub links: Links,
}

/// What is told while a torrent is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report<'a> {
    /// This is not part of the torrent.
    Skipped(&'a Path, Skipped),
    /// So many bytes of so many are hashed.
    Hashed {
        /// Bytes.
        done: u64,
        /// Bytes.
        total: u64,
    },
}

/// Why no torrent was made.
#[derive(Debug)]
#[non_exhaustive]
pub enum MakeError {
    /// There is no file in it, or all are empty.
    Empty {
        /// What was to be shared.
        path: PathBuf,
    },
    /// A name that other systems could not read.
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// A path within the folder that is longer than clients accept.
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The torrent would be written over the file that it is of.
    Overwrites {
        /// The file.
        path: PathBuf,
    },
    /// A device, socket or FIFO.
    Special {
        /// What was to be shared.
        path: PathBuf,
    },
    /// It has no name that could be the torrent's.
    NoName {
        /// What was to be shared.
        path: PathBuf,
    },
    /// A file was written to while it was hashed.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The content does not fit into a torrent of this piece length.
    Geometry(GeometryError),
    /// A file could not be read, or the torrent not be written.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What was to be read as a file is none any more.
    Read(ReadError),
}

/// Makes a torrent of `path`, a file or a folder, and writes it to `out`, replacing it as a whole.
///
/// `out` may lie in the folder that is shared; it is not part of the torrent then.
pub fn make(
    path: &Path,
    out: &Path,
    options: &Options,
    report: &mut dyn FnMut(Report<'_>),
) -> Result<(), MakeError> {
    let source = Source::find(path, out, options.links, report)?;
    let total = source.files.iter().map(|file| file.len).sum();
    let piece_len = options.piece_len.unwrap_or(default_piece_len(total));
    match Geometry::new(total, u64::from(piece_len)) {
        Ok(_) => {}
        Err(GeometryError::Total) if total == 0 => {
            let path = path.to_owned();
            return Err(MakeError::Empty { path });
        }
        Err(error) => return Err(MakeError::Geometry(error)),
    }
    let hashes = source.hash(piece_len, total, report)?;
    replace_for_all(out, |file| {
        let info =
            |out: &mut Writer<_>| write_info(out, &source, piece_len, &hashes, options.private);
        write(file, options, info)
    })
    .map_err(|error| {
        let path = out.to_owned();
        MakeError::Io { path, error }
    })
}

/// Whether a torrent made of `path` now would list the same files as `content` does, by name and
/// size; their bytes are not looked at.
pub fn lists_same(path: &Path, content: &Content) -> bool {
    let nowhere = Path::new("");
    let (Ok(source), Ok(entries)) = (
        Source::find(path, nowhere, content.layout().named().links, &mut |_| {}),
        content.entries(),
    ) else {
        return false;
    };
    let mut found = source.files.iter();
    let listed = |entry: Result<Entry, _>| {
        let entry = entry.ok()?;
        let found = found.next()?;
        (found.path == entry.path && found.len == entry.len).then_some(())
    };
    entries.map(listed).all(|same| same.is_some()) && found.next().is_none()
}

/// Replaces what a torrent file says beside its files by what `options` say: the info-hash stays.
pub fn retrack(torrent: &Path, metainfo: &Metainfo, options: &Options) -> Result<(), MakeError> {
    let failed = |error| MakeError::Io {
        path: torrent.to_owned(),
        error,
    };
    let file = open_regular(torrent, u64::MAX);
    let mut file = file.map_err(|error| failed(io::Error::other(error)))?;
    let range = metainfo.info_range();
    file.seek(io::SeekFrom::Start(range.start))
        .map_err(failed)?;
    let mut info = file.take(range.end - range.start);
    replace(torrent, |out| {
        write(out, options, |out| copy_raw(&mut info, out))
    })
    .map_err(failed)
}

/// Whether [`retrack`] with these options would leave the info where it is in the file, so that whoever reads
/// pieces' hashes and files' names from it need not know.
pub fn stays_put(metainfo: &Metainfo, options: &Options) -> bool {
    let mut file = Vec::new();
    let head = Options {
        webseeds: Vec::new(),
        ..options.clone()
    };
    // What follows the key is the end of the outer dictionary.
    let written = write(&mut file, &head, |_| Ok(()));
    written.is_ok() && metainfo.info_range().start + 1 == file.len() as u64
}

fn copy_raw<W: io::Write>(from: &mut impl io::Read, to: &mut Writer<Stream<W>>) -> io::Result<()> {
    let mut buffer = [0; 8 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            len => to.raw(&buffer[..len])?,
        }
    }
}

/// The piece length for content of `total` bytes: a power of two from 16 KiB to 16 MiB that makes
/// 1000 to 2000 pieces, if there is one. More pieces make the torrent file large, fewer make peers
/// wait longer before they can share what they have.
pub fn default_piece_len(total: u64) -> u32 {
    const LEAST: u64 = 16 << 10;
    const MOST: u64 = 16 << 20;
    let len = total.div_ceil(2000).clamp(LEAST, MOST).next_power_of_two();
    // At most `MOST`.
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// What is to be shared, listed but not read yet.
struct Source {
    /// The torrent's name.
    name: String,
    /// What `files` are relative to.
    folder: PathBuf,
    links: Links,
    files: Vec<Found>,
    single: bool,
}

impl Source {
    fn find(
        path: &Path,
        out: &Path,
        links: Links,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<Source, MakeError> {
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
            };
            return Ok(Source {
                name,
                folder: folder.to_owned(),
                links,
                files: vec![only],
                single: true,
            });
        }
        let mut skip = |path: &Path, why| report(Report::Skipped(path, why));
        let folder = &*real;
        let files = walk::walk(Root { folder, links }, out.as_deref(), &mut skip)
            .map_err(|(path, error)| MakeError::Io { path, error })?;
        for file in &files {
            let path = || path.join(&file.path);
            if file.path.to_str().is_none() {
                return Err(MakeError::NotUtf8 { path: path() });
            }
            if file.path.as_os_str().len() > MAX_PATH {
                return Err(MakeError::TooLong { path: path() });
            }
        }
        Ok(Source {
            name,
            folder: real,
            links,
            files,
            single: false,
        })
    }

    fn hash(
        &self,
        piece_len: u32,
        total: u64,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<Vec<Digest>, MakeError> {
        let mut pieces = Pieces::new(piece_len);
        let mut scratch = scratch();
        let mut done = 0;
        let mut progress = |bytes| {
            done += bytes;
            report(Report::Hashed { done, total });
        };
        let (folder, links) = (&*self.folder, self.links);
        let root = Root { folder, links };
        for found in &self.files {
            let path = self.folder.join(&found.path);
            let (fd, _) = root
                .open_file(&found.path)
                .map_err(|failure| MakeError::Read(ReadError::open(path.clone(), failure)))?;
            pieces
                .add_file(
                    &path,
                    File::from(fd),
                    found.len,
                    &mut scratch,
                    &mut progress,
                )
                .map_err(MakeError::from)?;
        }
        // A file that was hashed first may have changed while the last one was read.
        for found in &self.files {
            let path = self.folder.join(&found.path);
            let now = root.stat_file(&found.path);
            if !now.is_ok_and(|now| Stamp::of(&now) == found.stamp) {
                return Err(MakeError::Changed { path });
            }
        }
        Ok(pieces.finish())
    }
}

/// The torrent's name. A link that a person named gives it its own; `.` has only its real one.
fn name_of(path: &Path, real: &Path) -> Result<String, MakeError> {
    let shown = || path.to_owned();
    let name = path.file_name().or(real.file_name());
    let name = name.ok_or_else(|| MakeError::NoName { path: shown() })?;
    let name = name.to_str();
    let name = name.ok_or_else(|| MakeError::NotUtf8 { path: shown() })?;
    Ok(name.to_owned())
}

/// The torrent file, its keys in the order of their bytes (BEP 3). `info` writes that key's value.
fn write<W: io::Write>(
    out: W,
    options: &Options,
    info: impl FnOnce(&mut Writer<Stream<W>>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = Writer::new(Stream(out));
    out.dict()?;
    if let Some(first) = options.trackers.first() {
        out.key(b"announce")?;
        out.string(first.as_bytes())?;
    }
    if options.trackers.len() > 1 {
        out.key(b"announce-list")?;
        out.list()?;
        for tracker in &options.trackers {
            out.list()?;
            out.string(tracker.as_bytes())?;
            out.end()?;
        }
        out.end()?;
    }
    if let Some(comment) = &options.comment {
        out.key(b"comment")?;
        out.string(comment.as_bytes())?;
    }
    out.key(b"created by")?;
    out.string(CREATED_BY.as_bytes())?;
    if let ([only], true) = (&options.trackers[..], options.roomy)
        && ROOM_FOR.contains(&only.len())
    {
        out.key(b"everseed")?;
        out.string(&vec![b' '; ROOM - only.len()])?;
    }
    out.key(b"info")?;
    info(&mut out)?;
    if !options.webseeds.is_empty() {
        out.key(b"url-list")?;
        out.list()?;
        for url in &options.webseeds {
            out.string(url.as_bytes())?;
        }
        out.end()?;
    }
    out.end()
}

/// Lengths of announce URLs that can take each other's place: with what fills the room up they are so long, and
/// their lengths have the same number of digits.
const ROOM_FOR: std::ops::RangeInclusive<usize> = 10..=99;
const ROOM: usize = 200;

const CREATED_BY: &str = concat!("everseed/", env!("CARGO_PKG_VERSION"));

fn write_info<W: io::Write>(
    out: &mut Writer<Stream<W>>,
    source: &Source,
    piece_len: u32,
    hashes: &[Digest],
    private: bool,
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
            files.iter().try_for_each(|file| write_file(out, file))?;
            out.end()?;
        }
    }
    out.key(b"name")?;
    out.string(source.name.as_bytes())?;
    out.key(b"piece length")?;
    out.integer(piece_len.into())?;
    out.key(b"pieces")?;
    let bytes = hashes.as_flattened();
    out.string(bytes)?;
    if private {
        out.key(b"private")?;
        out.integer(1)?;
    }
    out.end()
}

fn write_file<W: io::Write>(out: &mut Writer<Stream<W>>, file: &Found) -> io::Result<()> {
    out.dict()?;
    out.key(b"length")?;
    // No longer than a torrent may be, which `Geometry` saw to.
    out.integer(file.len.cast_signed())?;
    out.key(b"path")?;
    out.list()?;
    for component in file.path.iter() {
        // UTF-8, as `Source::find` saw to.
        out.string(component.as_encoded_bytes())?;
    }
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
