//! How much a read error concerns: one piece, or the disk.
//!
//! A bad sector, or a file that cannot be opened, is a matter of the pieces that lie there. A disk that is
//! gone fails everywhere, so where an error does not say which it is, a few other places are read.

use std::fmt;
use std::io;

use everseed_core::geometry::BLOCK;
use everseed_core::rng::Rng;
use rustix::io::Errno;

use crate::cache::FileCache;
use crate::check::reachable;
use crate::content::Content;
use crate::error::ReadError;

/// How much a read error concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// The piece that was read.
    Piece,
    /// What was verified of a file, as somebody changed it.
    Change,
    /// All of the content: its disk is gone, or fails everywhere.
    Disk,
}

/// A piece that could not be read.
#[derive(Debug)]
pub struct Unread {
    /// Which.
    pub piece: u32,
    /// Why.
    pub error: ReadError,
    /// What it concerns.
    pub extent: Extent,
}

impl Unread {
    /// Finds out what an error concerns; it may wait for the disk.
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

/// What the operating system's error says by itself.
fn of_io(error: &io::Error) -> Option<Extent> {
    match Errno::from_io_error(error)? {
        // Of the name or the file, and not of what it lies on.
        Errno::ACCESS | Errno::PERM | Errno::NAMETOOLONG | Errno::ILSEQ | Errno::OVERFLOW => {
            Some(Extent::Piece)
        }
        // No device, a server that is gone, or too few descriptors here.
        Errno::NODEV | Errno::NXIO | Errno::STALE | Errno::NOTCONN | Errno::SHUTDOWN => {
            Some(Extent::Disk)
        }
        Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            Some(Extent::Disk)
        }
        _ => None,
    }
}

/// Whether at least something of the content can be read from its disk, past what memory holds. `salt`
/// varies where it looks.
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

/// Places that are read before a disk counts as gone.
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
