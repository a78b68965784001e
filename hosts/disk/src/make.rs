//! Making a torrent of a file or folder (BEP 3, 12, 19, 27, 47).
//!
//! The same files, names and options give the same bytes: files are sorted by the bytes of their names, and no
//! creation date is written. A folder's files are the regular ones that its [`Choice`](crate::Choice) takes: hidden
//! files too, and links to files in the folder. A file that cannot be read, or whose name others could not read, is left
//! out and reported; with strict options it is an error.

mod encode;
mod error;
mod listing;
mod options;
mod retrack;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use everseed_core::bencode::Writer;
use everseed_core::hash::Sha1 as _;

use crate::content::Content;
use crate::hash::Fast;
use crate::replace::replace_for_all;
use crate::stream::Stream;

pub(crate) use encode::{copy_raw, write_list, write_tiers};
use encode::{write, write_info};
pub use error::MakeError;
use listing::Listing;
pub use options::{Options, Report, default_piece_len};
pub use retrack::{retrack, stays_put};

/// Makes a torrent of `path`, a file or a folder, and writes it to `out`, replacing it as a whole.
///
/// `out` may lie in the shared folder; it is then not part of the torrent.
pub fn make(
    path: &Path,
    out: &Path,
    options: &Options,
    report: &mut dyn FnMut(Report<'_>),
) -> Result<(), MakeError> {
    let mut source = Listing::find(path, out, options, report)?;
    let piece_len = source.piece_len(options);
    source.geometry(path, piece_len, options.align)?;
    let hashes = source.hash(piece_len, options, report)?;
    if let Some(path) = source.difference(&Listing::find(path, out, options, &mut |_| {})?) {
        return Err(MakeError::Changed { path });
    }
    source.files.retain(|file| !file.unreadable);
    source.geometry(path, piece_len, options.align)?;
    let bytes = hashes.as_flattened();
    replace_for_all(out, |file| {
        let info = |out: &mut Writer<_>| {
            let (len, mut pieces) = (bytes.len() as u64, bytes);
            write_info(out, &source, piece_len, options, len, &mut pieces)
        };
        write(file, options, info)
    })
    .map_err(|error| {
        let path = out.to_owned();
        MakeError::Io { path, error }
    })
}

/// The number of bytes that [`make`] would hash, if the files can be listed.
pub fn total(path: &Path, options: &Options) -> Option<u64> {
    let source = Listing::find(path, Path::new(""), options, &mut |_| {});
    source.ok().map(|source| source.total())
}

/// Whether a torrent made of `path` now would have the same info-hash as `content`, if the files' bytes are
/// unchanged. These are not read. Only a few files that `content` does not list are read: what cannot be read was
/// left out, and would be again.
pub fn would_be_same(path: &Path, content: &Content, options: &Options) -> bool {
    let same = || -> Option<bool> {
        let mut source = Listing::find(path, Path::new(""), options, &mut |_| {}).ok()?;
        let metainfo = content.metainfo();
        let piece_len = source.piece_len(options);
        source.leave_out_unreadable(content)?;
        if metainfo.geometry != source.geometry(path, piece_len, options.align).ok()? {
            return Some(false);
        }
        let mut torrent = File::open(content.torrent_file()).ok()?;
        let at = io::SeekFrom::Start(metainfo.pieces_at());
        torrent.seek(at).ok()?;
        let len = u64::from(metainfo.geometry.pieces()) * 20;
        let mut pieces = torrent.take(len);
        let mut out = Writer::new(Stream(Hashed::default()));
        write_info(&mut out, &source, piece_len, options, len, &mut pieces).ok()?;
        Some(out.into_inner().0.0.finish() == metainfo.info_hash.0)
    };
    same().unwrap_or(false)
}

/// A sink that computes the SHA-1 of what is written to it.
#[derive(Default)]
struct Hashed(Fast);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
