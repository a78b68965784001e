//! The torrent file on disk, and the files that it lists, read one at a time.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use everseed_core::bencode::ErrorKind;
use everseed_core::geometry::{Geometry, PieceIndex};
use everseed_core::metainfo::{
    FileEntry, FileKind, Files, Metainfo, MetainfoError, Name, RereadError, Spelling,
};

use crate::error::OpenError;
use crate::hash::Fast;
use crate::regular::{RegularError, open_in_place, open_regular};
use crate::stream::Stream;
use crate::unique::{Renames, UniqueError};
use crate::unpack::{Packing, Unpacked};

/// Parses a torrent file.
pub fn read_torrent(path: &Path) -> Result<Metainfo, OpenError> {
    let parse = || {
        // The file may grow while it is read.
        let file = open_torrent(path)?.take(TORRENT_MAX);
        let file = BufReader::new(file);
        let read = Metainfo::read::<Fast, _>(Stream(file));
        read.map_err(|error| match is_packed(path) {
            true => TorrentError::Packed,
            false => TorrentError::Bad(error),
        })
    };
    parse().map_err(|error| OpenError::Torrent {
        path: path.to_owned(),
        error,
    })
}

/// Parses a torrent file that may be compressed, to know what it is. Its bytes cannot be found again by the offsets in
/// it: what is to be read by them has to be unpacked first.
pub fn identify_torrent(path: &Path) -> Result<Metainfo, OpenError> {
    let parse = || {
        let bytes = unpacked(open_torrent(path)?)?;
        Metainfo::read::<Fast, _>(Stream(BufReader::new(bytes))).map_err(TorrentError::Bad)
    };
    parse().map_err(|error| OpenError::Torrent {
        path: path.to_owned(),
        error,
    })
}

/// The bytes of a torrent file, unpacked if they are compressed; at most [`TORRENT_MAX`] of them.
pub fn unpacked(file: File) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::new(file);
    let packing = Packing::shown_by(file.fill_buf()?);
    Ok(match packing {
        None => Box::new(file.take(TORRENT_MAX)),
        Some(packing) => {
            let bytes = Unpacked::new(packing, file).map_err(io::Error::from)?;
            Box::new(bytes.take(TORRENT_MAX))
        }
    })
}

fn is_packed(path: &Path) -> bool {
    let mut start = [0; 2];
    let read = open_torrent(path).map(|mut file| file.read_exact(&mut start));
    matches!(read, Ok(Ok(()))) && Packing::shown_by(&start).is_some()
}

/// Opens a torrent file: a regular file of at most [`TORRENT_MAX`] bytes.
pub fn open_torrent(path: &Path) -> Result<File, TorrentError> {
    Ok(open_regular(path, TORRENT_MAX)?)
}

/// Opens a torrent file again. It was no link at the first time, and is refused if it is one now.
pub fn reopen_torrent(path: &Path) -> Result<File, TorrentError> {
    Ok(open_in_place(path, TORRENT_MAX)?)
}

impl From<RegularError> for TorrentError {
    fn from(error: RegularError) -> TorrentError {
        match error {
            RegularError::Io(error) => TorrentError::Io(error),
            RegularError::NotAFile => TorrentError::NotAFile,
            RegularError::TooLong { len, .. } => TorrentError::TooLong { len },
        }
    }
}

/// The longest torrent file, in bytes: 64 MiB hold the hashes of 3.3 million pieces, and the names of
/// some hundred thousand files beside. The longest that are seen are of some 10 MB.
pub const TORRENT_MAX: u64 = 64 << 20;

/// One file as the torrent lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The path within the torrent's folder, safe to use there; for a single file its name.
    pub path: PathBuf,
    /// Whether the path is the torrent's, byte for byte.
    pub exact: bool,
    /// Offset in the content at which the file begins, in bytes.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Ordinary data, padding, or a link.
    pub kind: FileKind,
    /// Offset of the file's entry in the torrent file, in bytes.
    pub(crate) position: u64,
}

/// Names that the torrent's file or folder may have on disk, in the order in which they are looked for.
pub(crate) fn read_names(torrent: &Path, metainfo: &Metainfo) -> Result<Vec<Name>, OpenError> {
    let mut names = Vec::new();
    for spelling in Spelling::ALL {
        let name = open_torrent(torrent).and_then(|file| {
            let file = Stream(BufReader::new(file));
            Ok(metainfo.name_spelled(file, spelling)?)
        });
        let name = name.map_err(|error| OpenError::Torrent {
            path: torrent.to_owned(),
            error,
        })?;
        names.extend(name.filter(|name| !names.contains(name)));
    }
    Ok(names)
}

/// The name of the torrent's file or folder.
pub fn read_name(torrent: &Path, metainfo: &Metainfo) -> Result<Name, OpenError> {
    let name =
        open_torrent(torrent).and_then(|file| Ok(metainfo.name(Stream(BufReader::new(file)))?));
    name.map_err(|error| OpenError::Torrent {
        path: torrent.to_owned(),
        error,
    })
}

impl Entry {
    /// The numbers of the pieces that hold at least one byte of the file.
    pub fn pieces(&self, geometry: Geometry) -> Range<u32> {
        self.pieces_from(geometry, 0)
    }

    /// The pieces that hold at least one byte of the file from its byte `from` on.
    pub(crate) fn pieces_from(&self, geometry: Geometry, from: u64) -> Range<u32> {
        let number = |offset| geometry.piece_at(offset).map(PieceIndex::get);
        let end = self.start.checked_add(self.len);
        let last = end.and_then(|end| end.checked_sub(1)).and_then(number);
        let first = self.start.checked_add(from).and_then(number);
        match (self.len.checked_sub(from), first, last) {
            (Some(1..), Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        }
    }

    /// The file whose entry stands at `position` in the torrent file, and that begins at `offset` in the content.
    pub(crate) fn at(
        torrent: File,
        metainfo: &Metainfo,
        position: u64,
        offset: u64,
        renames: &Renames,
    ) -> Result<Entry, TorrentError> {
        let spelling = Spelling::Fixed;
        let mut files = metainfo.files_from(Stream(torrent), position, offset, spelling)?;
        let entry = files.next()?.ok_or(TorrentError::Changed)?;
        Ok(Entry::from(entry).renamed(renames))
    }

    /// The path of this file in another spelling, if it has one.
    pub(crate) fn spelled(
        &self,
        torrent: File,
        metainfo: &Metainfo,
        spelling: Spelling,
    ) -> Option<PathBuf> {
        let files = metainfo.files_from(Stream(torrent), self.position, self.start, spelling);
        let mut files = files.ok()?;
        let entry = files.next().ok()??;
        (!entry.path.is_empty()).then(|| PathBuf::from(entry.path))
    }

    fn renamed(mut self, renames: &Renames) -> Entry {
        if let Some(rename) = renames.of(self.position) {
            self.path = rename.apply(&self.path);
            self.exact = false;
        }
        self
    }
}

impl From<FileEntry<'_>> for Entry {
    fn from(entry: FileEntry<'_>) -> Entry {
        Entry {
            path: PathBuf::from(entry.path),
            exact: entry.exact,
            start: entry.offset,
            len: entry.len,
            kind: entry.kind,
            position: entry.position,
        }
    }
}

/// The files of a torrent in its order, read from the torrent file as they are asked for.
#[derive(Debug)]
pub struct Entries {
    files: Files<Stream<BufReader<File>>>,
    renames: Arc<Renames>,
}

impl Entries {
    /// Opens the list with the torrent's own paths, of which several may be the same.
    pub(crate) fn open(torrent: &Path, metainfo: &Metainfo) -> Result<Entries, TorrentError> {
        Entries::of(open_torrent(torrent)?, metainfo, Arc::default())
    }

    /// The list of a torrent file that is open already.
    pub(crate) fn of(
        file: File,
        metainfo: &Metainfo,
        renames: Arc<Renames>,
    ) -> Result<Entries, TorrentError> {
        let files = metainfo.files(Stream(BufReader::new(file)))?;
        Ok(Entries { files, renames })
    }
}

/// The files of a torrent, each with the path that it has on disk.
pub fn read_entries(torrent: &Path, metainfo: &Metainfo) -> Result<Entries, OpenError> {
    let renames = Arc::new(find_renames(torrent, metainfo)?);
    let entries = open_torrent(torrent).and_then(|file| Entries::of(file, metainfo, renames));
    entries.map_err(|error| OpenError::Torrent {
        path: torrent.to_owned(),
        error,
    })
}

/// Finds the files that need another path than the torrent's, because another file has that path.
pub(crate) fn find_renames(torrent: &Path, metainfo: &Metainfo) -> Result<Renames, OpenError> {
    if metainfo.single {
        return Ok(Renames::default());
    }
    let found = Renames::find(metainfo.file_count, |act| {
        for entry in Entries::open(torrent, metainfo)? {
            let entry = entry?;
            act(entry.position, &entry.path);
        }
        Ok(())
    });
    let path = torrent.to_owned();
    found.map_err(|error| match error {
        UniqueError::TooMany => OpenError::Duplicates { torrent: path },
        UniqueError::Read(error) => OpenError::Torrent { path, error },
    })
}

/// The spellings in which no file gets the path that another file has on disk.
pub(crate) fn other_spellings(
    torrent: &Path,
    metainfo: &Metainfo,
    renames: &Arc<Renames>,
) -> Result<Vec<Spelling>, OpenError> {
    let mut found = Vec::new();
    for spelling in Spelling::ALL.into_iter().skip(1) {
        let clash = Renames::would_be_needed(metainfo.file_count, |act| {
            let laid = Entries::of(open_torrent(torrent)?, metainfo, Arc::clone(renames))?;
            let file = Stream(BufReader::new(open_torrent(torrent)?));
            let mut others = metainfo.files_spelled(file, spelling)?;
            for entry in laid {
                let entry = entry?;
                let other = others.next()?.ok_or(TorrentError::Changed)?;
                act(&entry.path);
                if !entry.exact && !other.path.is_empty() && Path::new(other.path) != entry.path {
                    act(Path::new(other.path));
                }
            }
            Ok(())
        });
        let path = torrent.to_owned();
        if !clash.map_err(|error| OpenError::Torrent { path, error })? {
            found.push(spelling);
        }
    }
    Ok(found)
}

impl Iterator for Entries {
    type Item = Result<Entry, TorrentError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.files.next().map(|entry| entry.map(Entry::from));
        let entry = entry.map(|entry| entry.map(|entry| entry.renamed(&self.renames)));
        entry.map_err(TorrentError::from).transpose()
    }
}

/// Why a torrent file cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum TorrentError {
    /// It cannot be read.
    Io(io::Error),
    /// A folder, pipe or device.
    NotAFile,
    /// Longer than [`TORRENT_MAX`].
    TooLong {
        /// Its length in bytes.
        len: u64,
    },
    /// Compressed by gzip: it cannot be read at offsets as it stands.
    Packed,
    /// Not a torrent that everseed can use.
    Bad(MetainfoError<io::Error>),
    /// Changed since it was parsed.
    Changed,
}

impl TorrentError {
    /// Whether the disk is at fault, so that a later try may succeed.
    pub fn is_of_the_disk(&self) -> bool {
        match self {
            TorrentError::Io(_) => true,
            TorrentError::Bad(MetainfoError::Bencode(error)) => {
                matches!(error.kind, ErrorKind::Io(_))
            }
            _ => false,
        }
    }
}

impl From<io::Error> for TorrentError {
    fn from(error: io::Error) -> TorrentError {
        TorrentError::Io(error)
    }
}

impl From<RereadError<io::Error>> for TorrentError {
    fn from(error: RereadError<io::Error>) -> TorrentError {
        match error {
            RereadError::Io(error) => TorrentError::Io(error),
            RereadError::Changed => TorrentError::Changed,
        }
    }
}

impl fmt::Display for TorrentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TorrentError::Io(error) => error.fmt(f),
            TorrentError::NotAFile => {
                f.write_str("it is a folder, pipe or device; a .torrent has to be a file")
            }
            TorrentError::TooLong { len } => write!(
                f,
                "it has {len} bytes, and a .torrent may have 64 MiB; make it with longer pieces"
            ),
            TorrentError::Packed => {
                f.write_str("it is compressed by gzip; unpack it first (gunzip)")
            }
            TorrentError::Bad(error) => error.fmt(f),
            TorrentError::Changed => {
                f.write_str("it was changed while it was in use; start again with it")
            }
        }
    }
}

impl std::error::Error for TorrentError {}
