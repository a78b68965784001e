//! [`MakeError`]: why no torrent was made.

use std::fmt;
use std::io;
use std::path::PathBuf;

use everseed_core::geometry::GeometryError;
use everseed_core::metainfo::MAX_PATH;

use crate::error::{ReadError, Shown};
use crate::hashing::HashError;

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
    /// The path belongs to a state of everseed, or is the configuration in use.
    Secret {
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
            MakeError::Secret { path } => write!(
                f,
                "{} belongs to the state or the configuration of everseed, where passkeys are; it is shared with nobody",
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
