//! Torrent files for everybody, if the owner allows it.
//!
//! Invariant: the file that is sent is the one that was checked, and it is neither private nor holds a secret.

use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::path::Path;

use everseed_core::hash::{InfoHash, Smol};
use everseed_core::metainfo::Metainfo;
use everseed_disk::{Stream, reopen_torrent};

use crate::secrets::has_secret;

/// Opens the torrent file and returns its length. `None` if it is not this torrent (any more), or not for everybody.
/// The time grows with the file's length.
pub(super) fn open(path: &Path, info_hash: InfoHash) -> Option<(File, u64)> {
    let file = reopen_torrent(path).ok()?;
    let len = file.metadata().ok()?.len();
    let again = || -> io::Result<Stream<BufReader<File>>> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        Ok(Stream(BufReader::new(file)))
    };
    let metainfo = Metainfo::read::<Smol, _>(again().ok()?).ok()?;
    if metainfo.private || metainfo.info_hash != info_hash {
        return None;
    }
    let mut trackers = metainfo.trackers(again().ok()?).ok()?;
    while let Some((_, url)) = trackers.next().ok()? {
        if has_secret(url) {
            return None;
        }
    }
    let mut seeds = metainfo.web_seeds(again().ok()?).ok()?;
    while let Some(url) = seeds.next().ok()? {
        if has_secret(url) {
            return None;
        }
    }
    Some((file, len))
}
