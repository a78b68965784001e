//! Torrent files (BEP 3, 5, 12, 19, 27, 47), read as a stream and never held.
//!
//! [`Metainfo::read`] goes through the file once, hashes the raw bytes of `info`, and checks that everything fits
//! together. It keeps a few numbers, such as where the piece hashes and the file list are.
//! [`piece_hash`](Metainfo::piece_hash), [`name`](Metainfo::name), [`files`](Metainfo::files) and
//! [`trackers`](Metainfo::trackers) go back to the file for the rest. So a torrent of a million pieces or files takes
//! no more memory than a small one.
//!
//! Faults in what is not needed are ignored: optional keys of a wrong type, numbers that are too large, bytes before
//! and after the dictionary. A torrent is refused if something needed is missing or does not fit the rest. It is
//! never refused for a name: one that cannot be a file's name is spelled so that it can.
//!
//! Of a torrent that is version 1 and 2 at once (BEP 52) the version 1 half is used.
//!
//! Left to the host: whether two files have the same path, because that takes room to sort in.

mod files;
mod names;
mod nodes;
mod parse;
#[cfg(test)]
mod tests;
mod urls;

use core::fmt;
use core::num::NonZeroU64;
use core::ops::Range;

use embedded_io::{Read, ReadExactError, Seek, SeekFrom};

use crate::bencode;
use crate::geometry::{Geometry, GeometryError, PieceIndex};
use crate::hash::{Digest, InfoHash, Sha1};

pub use files::{FileEntry, FileKind, Files};
pub use names::{MAX_NAME, MAX_PATH, Name, Spelling};
pub use nodes::DhtNodes;
pub use urls::{MAX_URL, Trackers, WebSeeds};

/// The parsed head of a torrent file: a few numbers, and the offsets of the rest in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metainfo {
    /// The hash by which peers and trackers know the torrent.
    pub info_hash: InfoHash,
    /// The lengths of the content and its pieces.
    pub geometry: Geometry,
    /// Whether peers may come from its trackers only (BEP 27): `private` is any number but 0.
    pub private: bool,
    /// Whether it is one file without a folder.
    pub single: bool,
    /// The number of files, with empty ones and padding.
    pub file_count: u32,
    /// The time at which it was made, in seconds since 1970.
    pub creation_date: Option<i64>,
    /// The range of `info` in the torrent file.
    info: Range<u64>,
    /// The offset of the name.
    name_at: u64,
    /// The offset of the piece hashes.
    pieces_at: u64,
    /// The offset of the list of files; unused for a single file.
    files_at: u64,
    announce_at: Option<Position>,
    announce_list_at: Option<Position>,
    url_list_at: Option<Position>,
    nodes_at: Option<Position>,
    comment_at: Option<Position>,
    created_by_at: Option<Position>,
}

/// The offset of a value in the outer dictionary. Never 0, because there is the `d` of the dictionary.
type Position = NonZeroU64;

/// A key that a torrent must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// `info`
    Info,
    /// `name`
    Name,
    /// `piece length`
    PieceLength,
    /// `pieces`
    Pieces,
    /// `length` or `files`
    Length,
    /// `path`
    Path,
}

/// The reason why a file cannot be used as a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetainfoError<E> {
    /// The file is not bencoded as it should be, or could not be read.
    Bencode(bencode::Error<E>),
    /// This key is missing.
    Missing(Field),
    /// A length is negative, or the sum of all lengths is too large.
    BadLength {
        /// Bytes from the start of the torrent file.
        offset: u64,
    },
    /// The content cannot have pieces of this length.
    Geometry(GeometryError),
    /// The length of `pieces` is not 20 bytes for each piece.
    WrongPieces {
        /// The length of `pieces`.
        bytes: u64,
        /// The number of pieces that there should be.
        pieces: u32,
    },
    /// More than 2^32 files.
    TooManyFiles,
    /// The torrent is of version 2 only (BEP 52).
    Version2,
}

/// The reason why something could not be read from a torrent file that was parsed before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RereadError<E> {
    /// The file could not be read.
    Io(E),
    /// The file has changed since it was parsed.
    Changed,
}

impl Metainfo {
    /// Reads a torrent file from its start to its end.
    pub fn read<H: Sha1, R: Read>(reader: R) -> Result<Metainfo, MetainfoError<R::Error>> {
        parse::read::<H, R>(reader)
    }

    /// The range of the raw bytes of `info` in the torrent file.
    pub fn info_range(&self) -> Range<u64> {
        self.info.clone()
    }

    /// The offset of the piece hashes in the torrent file.
    pub fn pieces_at(&self) -> u64 {
        self.pieces_at
    }

    /// Reads the hash of a piece from the torrent file.
    pub fn piece_hash<R: Read + Seek>(
        &self,
        mut torrent: R,
        piece: PieceIndex,
    ) -> Result<Digest, RereadError<R::Error>> {
        let at = u64::from(piece.get())
            .saturating_mul(20)
            .saturating_add(self.pieces_at);
        torrent.seek(SeekFrom::Start(at)).map_err(RereadError::Io)?;
        let mut digest = [0; 20];
        match torrent.read_exact(&mut digest) {
            Ok(()) => Ok(digest),
            Err(ReadExactError::UnexpectedEof) => Err(RereadError::Changed),
            Err(ReadExactError::Other(error)) => Err(RereadError::Io(error)),
        }
    }

    /// The name of its file, or of the folder of its files. Safe to use in a path.
    pub fn name<R: Read + Seek>(&self, torrent: R) -> Result<Name, RereadError<R::Error>> {
        let (name, _) = self.whole(torrent, Spelling::Fixed)?;
        name.ok_or(RereadError::Changed)
    }

    /// The name in a [`Spelling`]; `None` if it has no name in that.
    pub fn name_spelled<R: Read + Seek>(
        &self,
        torrent: R,
        spelling: Spelling,
    ) -> Result<Option<Name>, RereadError<R::Error>> {
        Ok(self.whole(torrent, spelling)?.0)
    }

    /// The name in a spelling, and whether it has the same bytes as in the torrent.
    fn whole<R: Read + Seek>(
        &self,
        torrent: R,
        spelling: Spelling,
    ) -> Result<(Option<Name>, bool), RereadError<R::Error>> {
        let mut room = [0; names::ROOM];
        let raw = value_at(torrent, self.name_at)?.string_ends(&mut room, names::LAST)?;
        let name = names::whole(raw, spelling, self.info_hash);
        let exact = (name.as_ref()).is_some_and(|name| name.as_bytes() == raw);
        Ok((name, exact))
    }

    /// The files, in the torrent's order.
    pub fn files<R: Read + Seek>(&self, torrent: R) -> Result<Files<R>, RereadError<R::Error>> {
        Files::new(self, torrent, Spelling::Fixed)
    }

    /// The files, in the torrent's order, with paths in this spelling.
    pub fn files_spelled<R: Read + Seek>(
        &self,
        torrent: R,
        spelling: Spelling,
    ) -> Result<Files<R>, RereadError<R::Error>> {
        Files::new(self, torrent, spelling)
    }

    /// The file whose [`position`](FileEntry::position) and offset in the content are these, and
    /// those after it, in a spelling.
    pub fn files_from<R: Read + Seek>(
        &self,
        torrent: R,
        position: u64,
        offset: u64,
        spelling: Spelling,
    ) -> Result<Files<R>, RereadError<R::Error>> {
        Files::from(self, torrent, position, offset, spelling)
    }

    /// The trackers by tiers (BEP 12), or the one tracker of a torrent without tiers.
    pub fn trackers<R: Read + Seek>(
        &self,
        torrent: R,
    ) -> Result<Trackers<R>, RereadError<R::Error>> {
        Trackers::new(self, torrent)
    }

    /// Web seeds (BEP 19).
    pub fn web_seeds<R: Read + Seek>(
        &self,
        torrent: R,
    ) -> Result<WebSeeds<R>, RereadError<R::Error>> {
        WebSeeds::new(self, torrent)
    }

    /// Nodes of the distributed hash table that the torrent names (BEP 5).
    pub fn dht_nodes<R: Read + Seek>(
        &self,
        torrent: R,
    ) -> Result<DhtNodes<R>, RereadError<R::Error>> {
        DhtNodes::new(self, torrent)
    }

    /// The comment, as much of it as there is room for; empty if there is none.
    pub fn comment<'b, R: Read + Seek>(
        &self,
        torrent: R,
        room: &'b mut [u8],
    ) -> Result<&'b [u8], RereadError<R::Error>> {
        string_at(torrent, self.comment_at, room)
    }

    /// The program that made it, as much of its name as there is room for; empty if it does not say.
    pub fn created_by<'b, R: Read + Seek>(
        &self,
        torrent: R,
        room: &'b mut [u8],
    ) -> Result<&'b [u8], RereadError<R::Error>> {
        string_at(torrent, self.created_by_at, room)
    }
}

/// A reader of the value at an offset of a torrent file.
fn value_at<R: Read + Seek>(
    mut torrent: R,
    at: u64,
) -> Result<bencode::Reader<R>, RereadError<R::Error>> {
    torrent.seek(SeekFrom::Start(at)).map_err(RereadError::Io)?;
    Ok(bencode::Reader::resumed(torrent, at))
}

fn string_at<R: Read + Seek>(
    torrent: R,
    at: Option<Position>,
    room: &mut [u8],
) -> Result<&[u8], RereadError<R::Error>> {
    match at {
        Some(at) => Ok(value_at(torrent, at.get())?.string_start(room)?),
        None => Ok(&[]),
    }
}

impl<E> From<bencode::Error<E>> for MetainfoError<E> {
    fn from(error: bencode::Error<E>) -> MetainfoError<E> {
        MetainfoError::Bencode(error)
    }
}

impl<E> From<bencode::Error<E>> for RereadError<E> {
    fn from(error: bencode::Error<E>) -> RereadError<E> {
        match error.kind {
            bencode::ErrorKind::Io(error) => RereadError::Io(error),
            _ => RereadError::Changed,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Info => "info",
            Field::Name => "name",
            Field::PieceLength => "piece length",
            Field::Pieces => "pieces",
            Field::Length => "length or files",
            Field::Path => "path",
        })
    }
}

impl<E: fmt::Display> fmt::Display for MetainfoError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetainfoError::Bencode(error) => write!(f, "not a torrent: {error}"),
            MetainfoError::Missing(field) => write!(f, "not a torrent: it has no {field}"),
            MetainfoError::BadLength { offset } => {
                write!(f, "it has an impossible length (at byte {offset})")
            }
            MetainfoError::Geometry(error) => write!(f, "{error}"),
            MetainfoError::WrongPieces { bytes, pieces } => write!(
                f,
                "{bytes} bytes of piece hashes do not belong to {pieces} pieces"
            ),
            MetainfoError::TooManyFiles => f.write_str("it has too many files"),
            MetainfoError::Version2 => f.write_str(
                "it is a torrent of version 2 only, which is not supported; \
                 a hybrid of version 1 and 2 would be",
            ),
        }
    }
}

impl<E: fmt::Display> fmt::Display for RereadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RereadError::Io(error) => error.fmt(f),
            RereadError::Changed => f.write_str("the torrent file was changed while it was used"),
        }
    }
}
