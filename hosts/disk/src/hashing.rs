//! Hashing files into piece hashes.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use everseed_core::hash::{Digest, Sha1};
use rustix::fs::Advice;

use crate::check::CHUNK;
use crate::hash::Fast;

/// What padding files are made of (BEP 47): some at a time, as it takes room in the program.
pub(crate) static ZEROS: [u8; 1024] = [0; 1024];

/// Cuts bytes into pieces and hashes each.
pub(crate) struct Pieces {
    piece_len: u32,
    /// Bytes that the current piece still lacks; at least 1.
    room: u32,
    running: Fast,
    done: Vec<Digest>,
}

/// A state of [`Pieces`] to return to.
pub(crate) struct HashState {
    room: u32,
    running: Fast,
    done: usize,
}

/// Why a file did not become part of a torrent.
#[derive(Debug)]
pub(crate) enum HashError {
    /// The file changed since the folder was listed, or since its first byte was read.
    Changed(PathBuf),
    Io(PathBuf, io::Error),
}

impl Pieces {
    pub(crate) fn new(piece_len: u32) -> Pieces {
        Pieces {
            piece_len,
            room: piece_len,
            running: Fast::default(),
            done: Vec::new(),
        }
    }

    /// Adds a whole file that was `len` bytes long when it was listed. `path` is for errors; `progress` is called
    /// every few bytes with the number that was hashed.
    pub(crate) fn add_file(
        &mut self,
        path: &Path,
        mut file: File,
        len: u64,
        scratch: &mut [u8],
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), HashError> {
        let failed = |error| HashError::Io(path.to_owned(), error);
        let changed = || HashError::Changed(path.to_owned());
        let before = file.metadata().map_err(failed)?;
        if before.len() != len {
            return Err(changed());
        }
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        let mut rest = len;
        loop {
            let read = read_some(&mut file, scratch).map_err(failed)?;
            if read == 0 {
                break;
            }
            rest = rest.checked_sub(read as u64).ok_or_else(changed)?;
            self.add(&scratch[..read]);
            progress(read as u64);
        }
        let after = file.metadata().map_err(failed)?;
        if rest != 0 || !same(&before, &after) {
            return Err(changed());
        }
        Ok(())
    }

    /// Adds zeros of a padding file (BEP 47).
    pub(crate) fn add_zeros(&mut self, mut len: u64) {
        while len > 0 {
            let now = usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS.len());
            self.add(&ZEROS[..now]);
            len -= now as u64;
        }
    }

    /// The present state, to return to later.
    pub(crate) fn mark(&self) -> HashState {
        HashState {
            room: self.room,
            running: self.running.clone(),
            done: self.done.len(),
        }
    }

    /// Forgets everything that was added since `mark`.
    pub(crate) fn back_to(&mut self, mark: HashState) {
        self.room = mark.room;
        self.running = mark.running;
        self.done.truncate(mark.done);
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.room).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.running.update(now);
            // At most `room`, which is a u32.
            self.room -= u32::try_from(now.len()).unwrap_or(self.room);
            if self.room == 0 {
                self.room = self.piece_len;
                self.done.push(std::mem::take(&mut self.running).finish());
            }
            bytes = rest;
        }
    }

    /// The hashes of all pieces; the last piece may be shorter.
    pub(crate) fn finish(mut self) -> Vec<Digest> {
        if self.room < self.piece_len {
            self.done.push(self.running.finish());
        }
        self.done
    }
}

/// A buffer of the right size for [`Pieces::add_file`].
pub(crate) fn scratch() -> Vec<u8> {
    vec![0; CHUNK]
}

fn read_some(file: &mut File, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buf) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn same(before: &Metadata, after: &Metadata) -> bool {
    let times = |of: &Metadata| (of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
    before.len() == after.len() && times(before) == times(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use everseed_core::rng::Rng;
    use std::fs;

    fn digest(bytes: &[u8]) -> Digest {
        let mut sha1 = Fast::default();
        sha1.update(bytes);
        sha1.finish()
    }

    #[test]
    fn pieces_run_across_files() {
        let scratch = Scratch::new("hashing");
        let mut rng = Rng::new(3);
        let mut all = vec![0; 5 * 1000 + 123];
        rng.fill(&mut all);
        for piece_len in [1, 7, 1000, 4096, 5123, 100_000] {
            let mut pieces = Pieces::new(piece_len);
            let mut buf = vec![0; 64];
            let mut hashed = 0;
            let mut rest = &all[..];
            for len in [0, 1, 999, 0, 3000, 1123, 0] {
                let (now, later) = rest.split_at(len);
                let path = scratch.path().join("part");
                fs::write(&path, now).unwrap();
                let mut progress = |bytes| hashed += bytes;
                let file = File::open(&path).unwrap();
                let added = pieces.add_file(&path, file, len as u64, &mut buf, &mut progress);
                added.unwrap();
                rest = later;
            }
            assert_eq!(hashed, all.len() as u64);
            let expected: Vec<Digest> = all.chunks(piece_len as usize).map(digest).collect();
            assert_eq!(pieces.finish(), expected, "{piece_len}");
        }
    }

    #[test]
    fn what_was_added_can_be_taken_back() {
        let mut rng = Rng::new(4);
        let mut all = vec![0; 1000];
        rng.fill(&mut all);
        for (at, len) in [
            (0, 10),
            (100, 0),
            (100, 28),
            (100, 300),
            (512, 512),
            (999, 1),
        ] {
            let mut pieces = Pieces::new(128);
            pieces.add(&all[..at]);
            let mark = pieces.mark();
            pieces.add_zeros(len);
            pieces.back_to(mark);
            pieces.add(&all[at..]);
            let expected: Vec<Digest> = all.chunks(128).map(digest).collect();
            assert_eq!(pieces.finish(), expected, "{at} {len}");
        }
        let mut pieces = Pieces::new(4096);
        pieces.add_zeros(10_000);
        let expected: Vec<Digest> = [0; 10_000].chunks(4096).map(digest).collect();
        assert_eq!(pieces.finish(), expected);
    }

    #[test]
    fn a_file_that_changes_is_named() {
        let scratch = Scratch::new("hashing-changed");
        let path = scratch.path().join("file");
        fs::write(&path, [1; 1000]).unwrap();
        let add = |len, touch: bool| {
            let mut progress = |_| {
                if touch {
                    let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
                    file.set_len(1000).unwrap();
                    file.set_modified(std::time::UNIX_EPOCH).unwrap();
                }
            };
            let file = File::open(&path).unwrap();
            Pieces::new(16).add_file(&path, file, len, &mut [0; 100], &mut progress)
        };
        assert!(add(1000, false).is_ok());
        for (len, touch) in [(999, false), (1001, false), (1000, true)] {
            match add(len, touch) {
                Err(HashError::Changed(named)) => assert_eq!(named, path),
                other => panic!("{len}: {other:?}"),
            }
        }
    }
}
