//! The catalogue's file, line by line: each begins with its length and a checksum.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use everseed_core::hash::{Sha1, Smol};

use crate::storage::dormant::{DormantTorrent, Line};

/// The lines of a file, up to the first damaged one.
pub(super) struct LineReader {
    reader: BufReader<FromStart>,
    /// The offset of the next line.
    pub(super) at: u64,
}

impl LineReader {
    pub(super) fn new(file: Arc<File>) -> LineReader {
        let file = FromStart { file, at: 0 };
        LineReader {
            reader: BufReader::with_capacity(16 * 1024, file),
            at: 0,
        }
    }

    pub(super) fn next(&mut self) -> Option<(u32, Line)> {
        let mut head = [0; HEAD];
        self.reader.read_exact(&mut head).ok()?;
        let (len, check) = split(head);
        let mut bytes = vec![0; Some(len).filter(|&len| len <= LONGEST)?];
        self.reader.read_exact(&mut bytes).ok()?;
        let line = decode(&bytes, check)?;
        let at = u32::try_from(self.at).ok()?;
        self.at += (HEAD + len) as u64;
        Some((at, line))
    }
}

/// The line of a sleeping torrent, to be read on any thread. It stays in the file whatever becomes of the torrent.
#[derive(Clone, Debug)]
pub(crate) struct SleeperLine {
    pub(super) file: Arc<File>,
    pub(super) at: u32,
}

impl SleeperLine {
    pub(crate) fn read(&self) -> Option<DormantTorrent> {
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, self.at.into()).ok()?;
        let (len, check) = split(head);
        let mut bytes = vec![0; len.min(LONGEST)];
        let begin = u64::from(self.at) + HEAD as u64;
        self.file.read_exact_at(&mut bytes, begin).ok()?;
        decode(&bytes, check)?.sleeper().ok()
    }
}

/// A file that is read from its start with its own position, although others have it open too.
struct FromStart {
    file: Arc<File>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

pub(super) fn encode(line: &Line) -> io::Result<Vec<u8>> {
    let size = postcard::ser_flavors::Size::default();
    let len = postcard::serialize_with_flavor(line, size).map_err(io::Error::other)?;
    if len > LONGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; HEAD + len];
    let (head, said) = bytes.split_at_mut(HEAD);
    postcard::to_slice(line, said).map_err(io::Error::other)?;
    let (len_there, check) = head.split_at_mut(HEAD / 2);
    len_there.copy_from_slice(&u32::try_from(len).unwrap_or(0).to_le_bytes());
    check.copy_from_slice(&check_of(said));
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8], check: [u8; 4]) -> Option<Line> {
    if check_of(bytes) != check {
        return None;
    }
    postcard::from_bytes(bytes).ok()
}

pub(super) fn split(head: [u8; HEAD]) -> (usize, [u8; 4]) {
    let [a, b, c, d, check @ ..] = head;
    (u32::from_le_bytes([a, b, c, d]) as usize, check)
}

fn check_of(bytes: &[u8]) -> [u8; 4] {
    let mut sha1 = Smol::default();
    sha1.update(bytes);
    let [a, b, c, d, ..] = sha1.finish();
    [a, b, c, d]
}

/// Bytes of a line's length and checksum.
pub(super) const HEAD: usize = 8;

/// The longest line in bytes: some paths, and hundreds of trackers.
pub(super) const LONGEST: usize = 64 * 1024;
