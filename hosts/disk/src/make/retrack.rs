//! Changing what a torrent file says beside `info`, so that the info-hash stays.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::Path;

use everseed_core::metainfo::Metainfo;

use crate::entry::read_torrent;
use crate::make::encode::{copy_raw, write};
use crate::make::error::MakeError;
use crate::make::options::Options;
use crate::regular::open_regular;
use crate::replace::replace;
use crate::stream::Stream;

/// Replaces the fields of a torrent file outside `info` by those of `options`, unless they are the same already; the
/// info-hash stays. If `options` name no program, the torrent keeps the one that made it.
pub fn retrack(torrent: &Path, metainfo: &Metainfo, options: &Options) -> Result<(), MakeError> {
    let failed = |error| MakeError::Io {
        path: torrent.to_owned(),
        error,
    };
    let file = open_regular(torrent, u64::MAX);
    let mut file = file.map_err(|error| failed(io::Error::other(error)))?;
    let mut options = options.clone();
    if options.created_by.is_none() {
        let changed = |error: &dyn fmt::Display| failed(io::Error::other(error.to_string()));
        // The file's `info` may have moved since `metainfo` was read.
        let now = read_torrent(torrent).map_err(|error| changed(&error))?;
        let mut room = [0; 256];
        let text = now.created_by(Stream(&file), &mut room);
        let text = text.map_err(|error| changed(&error))?;
        options.created_by = Some(String::from_utf8_lossy(text).into_owned());
    }
    let range = metainfo.info_range();
    if says_so(&file, &range, &options).map_err(failed)? {
        return Ok(());
    }
    file.seek(io::SeekFrom::Start(range.start))
        .map_err(failed)?;
    let mut info = file.take(range.end - range.start);
    replace(torrent, |out| {
        write(out, &options, |out| copy_raw(&mut info, out))
    })
    .map_err(failed)
}

/// Whether [`retrack`] with these options leaves `info` at its offset in the file. Then readers of piece hashes and
/// file names in it need not be told.
pub fn stays_put(metainfo: &Metainfo, options: &Options) -> bool {
    let mut file = Vec::new();
    let head = Options {
        webseeds: Vec::new(),
        ..options.clone()
    };
    // After the key there is only the end of the outer dictionary.
    let written = write(&mut file, &head, |_| Ok(()));
    written.is_ok() && metainfo.info_range().start + 1 == file.len() as u64
}

/// Whether the bytes before and after `info` are those that these options would make.
fn says_so(mut file: &File, info: &Range<u64>, options: &Options) -> io::Result<bool> {
    let mut wanted = Vec::new();
    let mut before = 0;
    write(&mut wanted, options, |out| {
        before = out.inner().0.len() as u64;
        Ok(())
    })?;
    file.rewind()?;
    let len = file.metadata()?.len();
    if info.start != before || len - info.end != wanted.len() as u64 - before {
        return Ok(false);
    }
    let mut there = Vec::with_capacity(wanted.len());
    file.take(before).read_to_end(&mut there)?;
    file.seek(io::SeekFrom::Start(info.end))?;
    file.read_to_end(&mut there)?;
    Ok(there == wanted)
}
