//! Our copies, in the state, of all seeded .torrent files. What was parsed of a file holds only for these bytes, and
//! the owner may overwrite or remove the file at any time.
//!
//! Invariant: a copy is replaced only by a complete torrent, and only while no torrent reads it. If a .torrent is
//! overwritten while it is seeded, the new one is copied to another file, for its trackers.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use everseed_core::metainfo::Metainfo;
use everseed_disk::unpack::{Packing, UnpackError, unpack};
use everseed_disk::{
    OpenError, TORRENT_MAX, TorrentError, open_torrent, read_torrent, replace, replace_soon,
};

use super::trouble::Trouble;
use crate::storage::state::StateFolder;

/// Copies `original`, whose own path is `named`, unless the copy is the same already. Returns the copy, or the file
/// itself if it cannot be copied.
pub(super) fn keep(
    state: &StateFolder,
    named: &Path,
    original: &Path,
) -> Result<(PathBuf, Metainfo), Trouble> {
    let _ = fs::remove_file(state.renewed_file(named));
    copy(state, original, state.given_file(named))
}

/// As [`keep`], into a file beside the copy in use.
pub(super) fn keep_beside(
    state: &StateFolder,
    named: &Path,
    original: &Path,
) -> Result<(PathBuf, Metainfo), Trouble> {
    copy(state, original, state.renewed_file(named))
}

/// The existing copy, whatever became of the file.
pub(super) fn kept(state: &StateFolder, named: &Path) -> Option<(PathBuf, Metainfo)> {
    let copy = state.given_file(named);
    let metainfo = read_torrent(&copy).ok()?;
    Some((copy, metainfo))
}

/// Removes the copy of a file that is gone.
pub(super) fn forget(state: &StateFolder, named: &Path) {
    for copy in [state.given_file(named), state.renewed_file(named)] {
        let _ = fs::remove_file(copy);
    }
}

fn copy(state: &StateFolder, original: &Path, to: PathBuf) -> Result<(PathBuf, Metainfo), Trouble> {
    let packing = packing_of(original);
    if packing.is_none() && is_same(original, &to).unwrap_or(false) {
        let metainfo = read_torrent(&to).map_err(trouble)?;
        return Ok((to, metainfo));
    }
    // The same file may be opened by two threads at once, which then both copy it.
    static COPIES: AtomicU32 = AtomicU32::new(0);
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let fresh = to.with_extension(format!("new{number}"));
    let written = match packing {
        Some(packing) => unpack_file(packing, original, &fresh).map_err(|error| match error {
            UnpackError::Unkept(error) => Trouble::Failed(unkept(state, &error)),
            error => Trouble::Bad(format!("{}: {error}", original.display())),
        }),
        None => {
            let metainfo = read_torrent(original).map_err(trouble)?;
            let mut file = open_torrent(original)
                .map_err(|error| format!("{}: {error}", original.display()))?;
            match replace_soon(&fresh, |out| io::copy(&mut file, out).map(|_| ())) {
                Ok(()) => Ok(()),
                Err(error) => {
                    // A missing copy is no reason not to seed it.
                    log::warn!("{}", unkept(state, &error));
                    return Ok((original.to_owned(), metainfo));
                }
            }
        }
    };
    let parsed = written.and_then(|()| {
        // The file may have been overwritten meanwhile.
        let parsed = read_torrent(&fresh).map_err(|error| match error {
            OpenError::Torrent { error, .. } => trouble(OpenError::Torrent {
                path: original.to_owned(),
                error,
            }),
            error => trouble(error),
        })?;
        fs::rename(&fresh, &to).map_err(|error| unkept(state, &error))?;
        Ok(parsed)
    });
    match parsed {
        Ok(metainfo) => Ok((to, metainfo)),
        Err(trouble) => {
            let _ = fs::remove_file(&fresh);
            Err(trouble)
        }
    }
}

fn unkept(state: &StateFolder, error: &dyn std::fmt::Display) -> String {
    let folder = state.folder().display();
    format!("{folder}: {error}: no copy of a .torrent can be kept; make room there")
}

/// The compression of a file, if it has one.
pub(super) fn packing_of(file: &Path) -> Option<Packing> {
    let mut start = [0; 2];
    open_torrent(file).ok()?.read_exact(&mut start).ok()?;
    Packing::shown_by(&start)
}

/// Unpacks a file into another one, or into itself.
pub(super) fn unpack_file(packing: Packing, from: &Path, to: &Path) -> Result<(), UnpackError> {
    let mut outcome = Ok(());
    let file = open_torrent(from).map_err(|error| UnpackError::Read(io::Error::other(error)))?;
    let kept = replace(to, |out| {
        outcome = unpack(packing, file, TORRENT_MAX, &mut |bytes| {
            out.write_all(bytes)
        });
        match &outcome {
            Ok(()) => Ok(()),
            Err(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    });
    outcome?;
    kept.map_err(UnpackError::Unkept)
}

fn trouble(error: OpenError) -> Trouble {
    match &error {
        OpenError::Torrent { error: fault, .. } if !TorrentError::is_of_the_disk(fault) => {
            Trouble::Bad(error.to_string())
        }
        _ => Trouble::Failed(error.to_string()),
    }
}

/// Whether two files hold the same bytes.
fn is_same(a: &Path, b: &Path) -> io::Result<bool> {
    let open = |path| open_torrent(path).map_err(io::Error::other);
    let (a, b) = (open(a)?, open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let read = |file: File| BufReader::new(file).bytes();
    let (mut a, mut b) = (read(a), read(b));
    loop {
        match (a.next().transpose()?, b.next().transpose()?) {
            (None, None) => return Ok(true),
            (one, other) if one == other => {}
            _ => return Ok(false),
        }
    }
}
