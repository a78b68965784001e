//! The disk space that a download needs, measured before its first byte arrives.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use everseed_core::bits;
use everseed_core::metainfo::FileKind;
use rustix::fs::{AtFlags, Stat, StatVfs, fstatvfs, unlinkat};

use crate::beneath::Root;
use crate::content::Content;
use crate::entry::Entry;
use crate::error::ReadError;
use crate::lengthen;
use crate::write::WriteError;

/// The disk space that a download needs, and the space that there is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes of disk space that it will still take; what its files have already and holes of other files are not
    /// counted.
    pub needed: u64,
    /// Bytes that this user may still take.
    pub free: u64,
    /// The shortest file, and its length, if even that one is longer than any file can be there.
    pub too_long: Option<(PathBuf, u64)>,
}

/// Measures the files for which `wanted` holds, in the content's folder, which has to exist. `good` are the pieces
/// that are there.
pub fn measure(
    content: &Content,
    good: &[u8],
    mut wanted: impl FnMut(&Entry) -> bool,
) -> Result<Room, WriteError> {
    let (layout, geometry) = (content.layout(), content.geometry());
    let named = layout.named();
    let (mut needed, mut shortest) = (0_u64, None::<(PathBuf, u64)>);
    let is_bare = content.is_bare();
    for entry in content.entries().map_err(WriteError::Place)? {
        let entry = entry.map_err(|e| WriteError::Place(content.torrent_error(e)))?;
        if !wanted(&entry) || entry.kind != FileKind::Data || entry.len == 0 {
            continue;
        }
        let end = entry.start + entry.len;
        let lacking = entry.pieces(geometry).filter(|&p| !bits::get(good, p));
        let missing: u64 = lacking
            .filter_map(|piece| geometry.piece(piece))
            .map(|piece| {
                let at = geometry.piece_offset(piece);
                let until = (at + u64::from(geometry.piece_size(piece))).min(end);
                until.saturating_sub(at.max(entry.start))
            })
            .sum();
        if missing == 0 {
            continue;
        }
        let there = (!is_bare).then(|| content.stat(&entry)).flatten();
        let taken = there.as_ref().map_or(0, taken);
        needed += missing.min(entry.len.saturating_sub(taken));
        if shortest.as_ref().is_none_or(|(_, len)| *len > entry.len) {
            shortest = Some((content.path_of(&entry), entry.len));
        }
    }
    let failed = |failure| {
        let path = content.folder();
        WriteError::Place(ReadError::open(path, failure))
    };
    let folder = named.open_folder(layout.base()).map_err(failed)?;
    let free = fstatvfs(&folder).map_or(u64::MAX, free);
    let too_long = shortest.filter(|(_, len)| !holds(&folder, *len));
    Ok(Room {
        needed,
        free,
        too_long,
    })
}

/// Bytes of the files for which `wanted` holds, and the bytes that this user may take in `folder`, if it is on
/// another file system than the content.
pub fn elsewhere(
    content: &Content,
    folder: &Path,
    mut wanted: impl FnMut(&Entry) -> bool,
) -> Result<Option<(u64, u64)>, WriteError> {
    let device = |path: &Path| rustix::fs::stat(path).ok().map(|there| there.st_dev);
    if device(folder) == device(&content.folder()) {
        return Ok(None);
    }
    let mut needed = 0_u64;
    for entry in content.entries().map_err(WriteError::Place)? {
        let entry = entry.map_err(|e| WriteError::Place(content.torrent_error(e)))?;
        if wanted(&entry) && entry.kind == FileKind::Data {
            needed = needed.saturating_add(entry.len);
        }
    }
    let free = rustix::fs::statvfs(folder).map_or(u64::MAX, free);
    Ok(Some((needed, free)))
}

/// Bytes that this user may take.
fn free(stat: StatVfs) -> u64 {
    match stat.f_blocks {
        // The file system does not count its blocks.
        0 => u64::MAX,
        _ => stat.f_bavail.saturating_mul(stat.f_frsize),
    }
}

/// Bytes of disk space that a file takes.
fn taken(stat: &Stat) -> u64 {
    // The type of the field differs between architectures.
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
    let blocks = stat.st_blocks as u64;
    blocks.saturating_mul(512)
}

/// Whether a file in the folder can be this long; an empty file is made to find out. If none can be made, that is
/// reported when the download needs it.
fn holds(folder: &OwnedFd, len: u64) -> bool {
    if !lengthen::is_allowed(len) {
        return false;
    }
    if len <= EVERYWHERE {
        return true;
    }
    let name = format!(".everseed-{}", std::process::id());
    let Ok((file, _)) = Root::make_file(folder, name.as_ref()) else {
        return true;
    };
    let _ = unlinkat(folder, &name, AtFlags::empty());
    lengthen::fits(&file, len).is_ok()
}

/// The longest file that every file system in use allows.
const EVERYWHERE: u64 = (2 << 30) - 1;
