//! The spool: a file that receives a torrent's metadata, of which only the info-hash is known (BEP 9).
//!
//! Metadata is written as it comes. When its hash is right, a torrent file is made of it, with the trackers and web
//! seeds of the magnet link around it. After a crash it is fetched again, because it is small.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use everseed_core::hash::{InfoHash, Sha1};
use everseed_disk::hash::Fast;
use everseed_disk::replace;

use crate::storage::closed::close_to_others;

/// The file, and the torrent file that will be made of it.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    path: PathBuf,
    info_hash: InfoHash,
    /// The torrent file to make, and the bytes to put before and after the metadata.
    torrent: PathBuf,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Spool {
    /// An empty spool, for a torrent file with these web seeds and trackers, each of which is a tier.
    pub(crate) fn create(
        info_hash: InfoHash,
        torrent: PathBuf,
        trackers: &[String],
        web_seeds: &[String],
    ) -> io::Result<Spool> {
        let path = torrent.with_extension("metadata");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.mode(0o600).open(&path)?;
        Ok(Spool {
            file,
            path,
            info_hash,
            torrent,
            before: before(trackers),
            after: after(web_seeds),
        })
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Makes the torrent file if the first `len` bytes have the right hash. Returns whether they have.
    pub(crate) fn finish(&self, len: u64) -> io::Result<bool> {
        let mut hash = Fast::default();
        self.each(len, |bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        if hash.finish() != self.info_hash.0 {
            return Ok(false);
        }
        replace(&self.torrent, |out| {
            out.write_all(&self.before)?;
            self.each(len, |bytes| out.write_all(bytes))?;
            out.write_all(&self.after)
        })?;
        close_to_others(&self.torrent)?;
        Ok(true)
    }

    fn each(&self, len: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut room = vec![0; CHUNK];
        let mut at = 0;
        while at < len {
            let most = usize::try_from(len - at).unwrap_or(CHUNK).min(CHUNK);
            self.file.read_exact_at(&mut room[..most], at)?;
            take(&room[..most])?;
            at += most as u64;
        }
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Bytes of one read.
const CHUNK: usize = 64 * 1024;

fn string(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{}:{text}", text.len());
}

fn before(trackers: &[String]) -> Vec<u8> {
    let mut out = b"d".to_vec();
    if let Some(first) = trackers.first() {
        string(&mut out, "announce");
        string(&mut out, first);
    }
    if trackers.len() > 1 {
        string(&mut out, "announce-list");
        out.push(b'l');
        for url in trackers {
            out.push(b'l');
            string(&mut out, url);
            out.push(b'e');
        }
        out.push(b'e');
    }
    string(&mut out, "info");
    out
}

fn after(web_seeds: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    if !web_seeds.is_empty() {
        string(&mut out, "url-list");
        out.push(b'l');
        web_seeds.iter().for_each(|url| string(&mut out, url));
        out.push(b'e');
    }
    out.push(b'e');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_is_made_around_it() {
        let folder = std::env::temp_dir().join(format!("everseed-spool-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let info = b"d6:lengthi4e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae";
        let mut hash = Fast::default();
        hash.update(info);
        let info_hash = InfoHash(hash.finish());
        let torrent = folder.join("x.torrent");
        let urls = |urls: &[&str]| urls.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>();
        let (trackers, seeds) = (urls(&["http://a/", "udp://b:1"]), urls(&["http://w/"]));
        for (trackers, seeds) in [
            (&trackers[..], &seeds[..]),
            (&trackers[..1], &[]),
            (&[], &[]),
        ] {
            let spool = Spool::create(info_hash, torrent.clone(), trackers, seeds).unwrap();
            let len = info.len() as u64;
            spool.write(10, &info[10..]).unwrap();
            assert!(!spool.finish(len).unwrap() && !torrent.exists());
            spool.write(0, &info[..10]).unwrap();
            assert!(spool.finish(len + 1).is_err());
            assert!(spool.finish(len).unwrap());
            let metainfo = everseed_disk::read_torrent(&torrent).unwrap();
            assert_eq!(metainfo.info_hash, info_hash);
            let text = std::fs::read(&torrent).unwrap();
            let holds = |url: &str| text.windows(url.len()).any(|w| w == url.as_bytes());
            assert!(trackers.iter().chain(seeds).all(|url| holds(url)));
            std::fs::remove_file(&torrent).unwrap();
            drop(spool);
            assert!(!folder.join("x.metadata").exists());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
