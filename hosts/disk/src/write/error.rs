//! [`WriteError`]: why content could not be written, and what a person is told of it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::beneath::OpenFailure;
use crate::error::{ReadError, Shown, leaves, owners};
use crate::lengthen;
use crate::ours::Ours;

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

    pub(super) fn record(ours: &Ours, error: io::Error) -> WriteError {
        let path = ours.path().to_owned();
        WriteError::Record { path, error }
    }

    pub(super) fn open(path: PathBuf, failure: OpenFailure) -> WriteError {
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
