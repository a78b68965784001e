//! The extent of a read error: one piece, or the whole disk.
//!
//! A bad sector, or a file that cannot be opened, concerns the pieces that lie there. A disk that is gone fails
//! everywhere. Where the error itself does not tell which it is, a few other places of the content are read.

use std::fmt;
use std::io;

use everseed_core::geometry::BLOCK;
use everseed_core::rng::Rng;
use rustix::io::Errno;

use crate::cache::FileCache;
use crate::check::reachable;
use crate::content::Content;
use crate::error::ReadError;

/// The extent of a read error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// Only the piece that was read.
    Piece,
    /// All verified pieces of a file, because somebody changed it.
    Change,
    /// The whole content: its disk is gone, or fails everywhere.
    Disk,
}

/// A piece that could not be read.
#[derive(Debug)]
pub struct Unread {
    /// The piece's number.
    pub piece: u32,
    /// The error of reading it.
    pub error: ReadError,
    /// How much the error concerns.
    pub extent: Extent,
}

impl Unread {
    /// Finds the extent of an error. It may wait for the disk.
    pub fn judge(content: &Content, piece: u32, error: ReadError) -> Unread {
        let extent = match &error {
            ReadError::Changed { .. } => Extent::Change,
            ReadError::Owners { .. } => Extent::Piece,
            error if error.is_absence() => match reachable(content) {
                Ok(()) => Extent::Piece,
                Err(_) => Extent::Disk,
            },
            ReadError::Io { error, .. } => match of_io(error) {
                Some(extent) => extent,
                None => match probe(content, piece) {
                    Ok(()) => Extent::Piece,
                    Err(_) => Extent::Disk,
                },
            },
            _ => Extent::Disk,
        };
        Unread {
            piece,
            error,
            extent,
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, piece {}", self.error, self.piece)
    }
}

/// The extent that the operating system's error tells by itself.
fn of_io(error: &io::Error) -> Option<Extent> {
    match Errno::from_io_error(error)? {
        // These errors are about the name or the file, not about the disk.
        Errno::ACCESS | Errno::PERM | Errno::NAMETOOLONG | Errno::ILSEQ | Errno::OVERFLOW => {
            Some(Extent::Piece)
        }
        // No device, a server that is gone, or too few file descriptors in this process.
        Errno::NODEV | Errno::NXIO | Errno::STALE | Errno::NOTCONN | Errno::SHUTDOWN => {
            Some(Extent::Disk)
        }
        Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            Some(Extent::Disk)
        }
        _ => None,
    }
}

/// Reads a few places of the content from its disk, past the page cache; one success is enough. `salt` varies the
/// places.
pub fn probe(content: &Content, salt: u32) -> Result<(), ReadError> {
    reachable(content)?;
    let geometry = content.geometry();
    let files = FileCache::fresh(1);
    let mut rng = Rng::new(salt.into());
    let mut bytes = vec![0; BLOCK as usize];
    let mut failure = None;
    for _ in 0..PLACES {
        let Some(piece) = geometry.piece(rng.below(geometry.pieces())) else {
            continue;
        };
        let (at, size) = (geometry.piece_offset(piece), geometry.piece_size(piece));
        let len = size.min(BLOCK) as usize;
        match content.read(&files, at, &mut bytes[..len]) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_absence() => {}
            Err(error) => _ = failure.get_or_insert(error),
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Number of places that are read before a disk counts as gone.
const PLACES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_says_by_itself() {
        let table = [
            (Errno::ACCESS, Some(Extent::Piece)),
            (Errno::PERM, Some(Extent::Piece)),
            (Errno::NODEV, Some(Extent::Disk)),
            (Errno::NXIO, Some(Extent::Disk)),
            (Errno::STALE, Some(Extent::Disk)),
            (Errno::NOTCONN, Some(Extent::Disk)),
            (Errno::MFILE, Some(Extent::Disk)),
            // A bad sector, or a disk that is gone.
            (Errno::IO, None),
            (Errno::BADMSG, None),
        ];
        for (errno, extent) in table {
            assert_eq!(of_io(&errno.into()), extent, "{errno:?}");
        }
        assert_eq!(of_io(&io::ErrorKind::Other.into()), None);
    }
}
