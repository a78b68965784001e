//! Errors of opening and reading a torrent's files. Every error names the file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::beneath::OpenFailure;
use crate::entry::TorrentError;
use crate::unique::MOST;

/// Why content could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The file, or a folder on its way, is not there.
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file ends before its length in the torrent.
    Short {
        /// The file.
        path: PathBuf,
    },
    /// The file was changed since it was opened.
    Changed {
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
    /// A piece of the file is bad, and must not be written because the file is the owner's.
    Owners {
        /// The file.
        path: PathBuf,
    },
    /// Another error of the operating system.
    Io {
        /// The file, or the index of the content.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The disk that the content lies on is not mounted, or another one is in its place.
    NotMounted {
        /// Where the content should be.
        path: PathBuf,
        /// Where the disk should be mounted.
        mount: PathBuf,
    },
    /// The torrent file was changed or removed since the content was opened.
    Torrent {
        /// The torrent file.
        path: PathBuf,
        /// The torrent file's error.
        error: TorrentError,
    },
}

impl ReadError {
    /// Whether the data is just not there, as in an unfinished download: no reason to stop.
    pub fn is_absence(&self) -> bool {
        matches!(
            self,
            ReadError::Missing { .. }
                | ReadError::Short { .. }
                | ReadError::NotAFile { .. }
                | ReadError::Leaves { .. }
        )
    }

    /// Whether this process or the system has too few file descriptors at the moment: the data may well be there.
    pub fn is_shortage(&self) -> bool {
        let error = match self {
            ReadError::Io { error, .. } => error,
            ReadError::Torrent {
                error: TorrentError::Io(error),
                ..
            } => error,
            _ => return false,
        };
        let errno = Errno::from_io_error(error);
        matches!(errno, Some(Errno::MFILE | Errno::NFILE))
    }

    /// The path that the error is about.
    pub fn path(&self) -> &Path {
        match self {
            ReadError::Missing { path }
            | ReadError::Short { path }
            | ReadError::Changed { path }
            | ReadError::NotAFile { path }
            | ReadError::Leaves { path }
            | ReadError::Owners { path }
            | ReadError::Io { path, .. }
            | ReadError::NotMounted { path, .. }
            | ReadError::Torrent { path, .. } => path,
        }
    }

    pub(crate) fn open(path: PathBuf, failure: OpenFailure) -> ReadError {
        match failure {
            failure if failure.is_no_such_name() => ReadError::Missing { path },
            OpenFailure::Missing => ReadError::Missing { path },
            OpenFailure::NotAFile => ReadError::NotAFile { path },
            OpenFailure::Leaves => ReadError::Leaves { path },
            OpenFailure::Os(error) => ReadError::Io {
                path,
                error: error.into(),
            },
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Missing { path } => write!(f, "{} is missing", Shown(path)),
            ReadError::Short { path } => {
                write!(f, "{} is shorter than the torrent says", Shown(path))
            }
            ReadError::Changed { path } => write!(f, "{} is being changed", Shown(path)),
            ReadError::NotAFile { path } => write!(
                f,
                "{} is no regular file; put the file itself there",
                Shown(path)
            ),
            ReadError::Leaves { path } => leaves(f, path),
            ReadError::Owners { path } => owners(f, path),
            error if error.is_shortage() => write!(
                f,
                "{}: too few file descriptors are free; raise `ulimit -n` (LimitNOFILE= of a service)",
                Shown(error.path())
            ),
            ReadError::Io { path, error } => write!(f, "{}: {error}", Shown(path)),
            ReadError::NotMounted { path, mount } => write!(
                f,
                "the disk of {} is not mounted at {}",
                Shown(path),
                Shown(mount)
            ),
            ReadError::Torrent { path, error } => write!(f, "{}: {error}", Shown(path)),
        }
    }
}

impl std::error::Error for ReadError {}

/// Writes what to do about a link that is not followed.
pub(crate) fn leaves(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    write!(
        f,
        "{} is, or lies behind, a link that leads out of its folder, and is not followed; put the file \
         itself there, or use --links follow",
        Shown(path)
    )
}

/// Writes what to do about a file that is not written over.
pub(crate) fn owners(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    write!(
        f,
        "{} is not what the torrent says. everseed does not overwrite it, because it did not make it or had \
         completed it; move it away, or use --overwrite",
        Shown(path)
    )
}

/// Why a torrent's files were not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The torrent file cannot be read or used.
    Torrent {
        /// The torrent file.
        path: PathBuf,
        /// The torrent file's error.
        error: TorrentError,
    },
    /// The torrent gives the same path to thousands of files.
    Duplicates {
        /// The torrent file.
        torrent: PathBuf,
    },
    /// A file stands where the torrent has a folder, or is given for the folder of its data.
    NotAFolder {
        /// What stands there.
        path: PathBuf,
    },
    /// A folder or a device stands where the torrent has its only file.
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// The index of the content could not be written.
    Index {
        /// The index.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Torrent { path, error } => write!(f, "{}: {error}", Shown(path)),
            OpenError::Duplicates { torrent } => write!(
                f,
                "{}: more than {MOST} of its files have the path of another one; such a torrent is refused",
                Shown(torrent)
            ),
            OpenError::NotAFolder { path } => write!(
                f,
                "{} is a file, but the torrent's files lie in a folder; name that folder",
                Shown(path)
            ),
            OpenError::NotAFile { path } => write!(
                f,
                "{} is a folder or a device, but the torrent holds a file of that name; name the file itself",
                Shown(path)
            ),
            OpenError::Index { path, error } => {
                write!(
                    f,
                    "{} could not be written: {error}; make room there",
                    Shown(path)
                )
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// A path for display. Names come from strangers, so control characters are escaped.
pub(crate) struct Shown<'a>(pub(crate) &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_encoded_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() {
                    write!(f, "{}", c.escape_unicode())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}
