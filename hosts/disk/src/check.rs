//! Whether the files hold what the torrent says: piece hashes, and fingerprints that save hashing.

use std::fs::File;
use std::ops::ControlFlow;

use everseed_core::bits;
use everseed_core::geometry::PieceIndex;
use everseed_core::hash::{Digest, Sha1};
use everseed_core::metainfo::Kind;

use crate::cache::FileCache;
use crate::content::Content;
use crate::error::ReadError;
use crate::hash::Fast;

/// Bytes to read at a time while checking: long enough that system calls do not show, short enough
/// to stay in a CPU's cache between reading and hashing.
pub const CHUNK: usize = 128 * 1024;

/// Whether a piece has the hash that the torrent says. Data that is missing or too short is `false`,
/// not an error.
///
/// `scratch` must not be empty; [`CHUNK`] bytes serve well.
pub fn verify_piece(
    content: &Content,
    files: &FileCache,
    piece: PieceIndex,
    scratch: &mut [u8],
) -> Result<bool, ReadError> {
    let torrent = content.open_torrent()?;
    verify(content, files, &torrent, piece, Begun::default(), scratch)
}

/// The hash of a piece that is being written, as far as its bytes came one after another from its
/// start on: they need not be read back to verify it.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    sha1: Fast,
    /// Bytes that were hashed.
    len: u64,
}

impl Begun {
    /// Bytes of the piece that were hashed.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was hashed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hashes the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        self.len += bytes.len() as u64;
    }
}

/// As [`verify_piece`], but reads only what was not hashed as it was written.
pub fn finish_piece(
    content: &Content,
    files: &FileCache,
    piece: PieceIndex,
    begun: Begun,
    scratch: &mut [u8],
) -> Result<bool, ReadError> {
    let torrent = content.open_torrent()?;
    verify(content, files, &torrent, piece, begun, scratch)
}

/// Checks every piece and answers with a bit for each (in the order of [`bits`]), or `None` if
/// `progress` broke off.
///
/// `progress` is told after each piece how many bytes were checked so far. The files are opened apart
/// from those that are served. What a download has not written yet is a hole in its file, and is not
/// read: an unfinished download is checked as fast as what is there.
pub fn check(
    content: &Content,
    mut progress: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<Vec<u8>>, ReadError> {
    let geometry = content.geometry();
    let files = FileCache::sequential(2);
    let torrent = content.open_torrent()?;
    let mut scratch = vec![0; CHUNK];
    let mut good = vec![0; geometry.bitfield_len() as usize];
    let mut done = 0;
    let mut zeros = Zeros::default();
    for piece in geometry.all_pieces() {
        let (start, size) = (geometry.piece_offset(piece), geometry.piece_size(piece));
        let is_good = if is_hole(content, &files, start, size.into())? {
            content.piece_hash(&torrent, piece)? == zeros.hash(size, &mut scratch)
        } else {
            let begun = Begun::default();
            verify(content, &files, &torrent, piece, begun, &mut scratch)?
        };
        if is_good {
            bits::set(&mut good, piece.get());
        }
        done += u64::from(size);
        if progress(done).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(good))
}

fn is_hole(content: &Content, files: &FileCache, at: u64, len: u64) -> Result<bool, ReadError> {
    match content.is_hole(files, at, len) {
        Err(error) if error.is_absence() => Ok(false),
        other => other,
    }
}

/// The hash of so many zeros, which a torrent may well have.
#[derive(Default)]
struct Zeros {
    known: Option<(u32, Digest)>,
}

impl Zeros {
    fn hash(&mut self, size: u32, scratch: &mut [u8]) -> Digest {
        if let Some((known, hash)) = self.known
            && known == size
        {
            return hash;
        }
        scratch.fill(0);
        let mut sha1 = Fast::default();
        let mut left = size as usize;
        while left > 0 {
            let len = left.min(scratch.len());
            sha1.update(&scratch[..len]);
            left -= len;
        }
        let hash = sha1.finish();
        self.known = Some((size, hash));
        hash
    }
}

/// Whether at least one of the files is there. If none is, the disk is not mounted or the place is
/// wrong, and the error names it: what was verified before says as much as ever.
pub fn reachable(content: &Content) -> Result<(), ReadError> {
    let path = content.root();
    // Without the folder there is no need to ask for each of many files.
    if path.symlink_metadata().is_err() {
        return Err(ReadError::Missing { path });
    }
    let mut link = None;
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.kind != Kind::Data || entry.len == 0 {
            continue;
        }
        match content.probe(&entry) {
            Ok(()) | Err(ReadError::Short { .. }) => return Ok(()),
            Err(error @ ReadError::Leaves { .. }) => link = link.or(Some(error)),
            Err(_) => {}
        }
    }
    Err(link.unwrap_or(ReadError::Missing { path }))
}

/// The first file that is not read because a link leads out of the folder, and how many there are.
pub fn links_out(content: &Content) -> Result<Option<(ReadError, u32)>, ReadError> {
    let mut first = None;
    let mut count = 0;
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if let Err(error @ ReadError::Leaves { .. }) = content.probe(&entry) {
            count += 1;
            first = first.or(Some(error));
        }
    }
    Ok(first.map(|first| (first, count)))
}

/// Pieces whose files reach far enough, without a look at their bytes; `None` is all of them.
pub fn present(content: &Content) -> Result<Option<Vec<u8>>, ReadError> {
    let geometry = content.geometry();
    let mut bitfield: Option<Vec<u8>> = None;
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        match content.probe(&entry) {
            Ok(()) => continue,
            Err(error) if error.is_absence() => {}
            Err(error) => return Err(error),
        }
        let bitfield = bitfield.get_or_insert_with(|| {
            let mut all = vec![0; geometry.bitfield_len() as usize];
            (0..geometry.pieces()).for_each(|index| _ = bits::set(&mut all, index));
            all
        });
        let size = content.stat(&entry).map_or(0, |stat| stat.st_size);
        let size = u64::try_from(size).unwrap_or(0);
        for index in entry.pieces_from(geometry, size) {
            bits::clear(bitfield, index);
        }
    }
    Ok(bitfield)
}

/// A digest of the files' sizes and times of change. As long as it stays the same, pieces that were
/// verified once need no second look.
///
/// Inode numbers are left out, because FAT and many network file systems number anew at each mount.
pub fn fingerprint(content: &Content) -> Result<u64, ReadError> {
    let mut sha1 = Fast::default();
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.kind != Kind::Data {
            continue;
        }
        match content.stat(&entry) {
            Some(stat) => {
                sha1.update(&[1]);
                sha1.update(&stat.st_size.to_le_bytes());
                sha1.update(&stat.st_mtime.to_le_bytes());
                sha1.update(&stat.st_mtime_nsec.to_le_bytes());
            }
            None => sha1.update(&[0]),
        }
    }
    let [a, b, c, d, e, f, g, h, ..] = sha1.finish();
    Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

fn verify(
    content: &Content,
    files: &FileCache,
    torrent: &File,
    piece: PieceIndex,
    mut begun: Begun,
    scratch: &mut [u8],
) -> Result<bool, ReadError> {
    let geometry = content.geometry();
    let expected = content.piece_hash(torrent, piece)?;
    let start = geometry.piece_offset(piece);
    let end = start + u64::from(geometry.piece_size(piece));
    let mut offset = start + begun.len;
    while offset < end {
        let room = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let room = room.min(scratch.len());
        let chunk = &mut scratch[..room];
        match content.read(files, offset, chunk) {
            Ok(()) => {}
            Err(error) if error.is_absence() => return Ok(false),
            Err(error) => return Err(error),
        }
        begun.update(chunk);
        offset += chunk.len() as u64;
    }
    Ok(begun.sha1.finish() == expected)
}
