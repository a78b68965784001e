//! Reading the torrent file again: the raw `info`, and the hashes of pieces. It may have been replaced since.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::PoisonError;

use everseed_core::geometry::PieceIndex;
use everseed_core::hash::{Digest, Sha1};

use crate::cache::Stamp;
use crate::content::Content;
use crate::entry::{TorrentError, reopen_torrent};
use crate::error::ReadError;
use crate::hash::Fast;
use crate::stream::Stream;

impl Content {
    /// Fills `buf` from the torrent file's raw `info`, from `offset` of it on, and waits for the disk if need be (BEP
    /// 9).
    pub fn read_info(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let torrent = self.open_torrent()?;
        let at = self.metainfo.info_range().start.saturating_add(offset);
        torrent
            .read_exact_at(buf, at)
            .map_err(|error| self.torrent_error(TorrentError::Io(error)))
    }

    pub(crate) fn torrent_error(&self, error: TorrentError) -> ReadError {
        let path = self.torrent.to_path_buf();
        ReadError::Torrent { path, error }
    }

    pub(crate) fn piece_hash(
        &self,
        torrent: &File,
        piece: PieceIndex,
    ) -> Result<Digest, ReadError> {
        self.metainfo
            .piece_hash(Stream(torrent), piece)
            .map_err(|error| self.torrent_error(error.into()))
    }

    /// Opens the torrent file. It may have been replaced: it is an error unless its `info` is the same as before.
    pub(crate) fn open_torrent(&self) -> Result<File, ReadError> {
        let open = || {
            let file = reopen_torrent(&self.torrent)?;
            let stat = rustix::fs::fstat(&file).map_err(|e| TorrentError::Io(e.into()))?;
            // The types of these fields differ between architectures.
            #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
            let now = (stat.st_dev as u64, stat.st_ino as u64, Stamp::of(&stat));
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if *known != Some(now) {
                if !self.is_info_of(&file).map_err(TorrentError::Io)? {
                    return Err(TorrentError::Changed);
                }
                *known = Some(now);
            }
            Ok(file)
        };
        open().map_err(|error| self.torrent_error(error))
    }

    /// Whether this file has the torrent's `info`, by its info-hash, at the same offset as before.
    #[inline(never)] // Its buffer is on the stack of those threads only that have found the file changed.
    fn is_info_of(&self, file: &File) -> io::Result<bool> {
        let range = self.metainfo.info_range();
        let (mut at, mut sha1) = (range.start, Fast::default());
        let mut buffer = [0; 16 * 1024];
        while at < range.end {
            let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let buffer = &mut buffer[..left.min(16 * 1024)];
            match file.read_exact_at(buffer, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read?,
            }
            sha1.update(buffer);
            at += buffer.len() as u64;
        }
        Ok(sha1.finish() == self.metainfo.info_hash.0)
    }
}
