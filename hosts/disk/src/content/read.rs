//! Reading and sending the bytes of the content, across its files.

use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Advice;

use crate::cache::{FileCache, Part, Source, Stamp};
use crate::content::Content;
use crate::error::ReadError;

impl Content {
    /// Reads into `bufs`, one after another from `offset` on, what can be read without waiting. Returns the number of
    /// bytes. If `bufs` are not full, the rest is cold (not in the page cache, or in a file that is not open) or
    /// missing: [`read`](Content::read) tells which.
    ///
    /// On a file system that cannot read without waiting the answer is always 0. So a caller makes progress only if
    /// it also serves what the other thread has read.
    pub fn read_cached(
        &self,
        files: &FileCache,
        offset: u64,
        bufs: &mut [IoSliceMut<'_>],
    ) -> usize {
        let Some(part) = files.find(self.id, offset) else {
            return 0;
        };
        let wanted = bufs.iter().fold(0_u64, |sum, buf| sum + buf.len() as u64);
        if wanted <= part.end - offset {
            return part.read_now(offset, bufs);
        }
        self.read_cached_across(files, offset, bufs)
    }

    /// The number of bytes from `offset` on, at most `len`, that [`send`](Content::send) can send without waiting.
    /// Only the end of each 16 KiB is tried. 0 if the file is not open or was changed.
    pub fn cached(&self, files: &FileCache, offset: u64, len: u64) -> u64 {
        let mut done = 0;
        while done < len
            && let Some(part) = files.find(self.id, offset + done)
        {
            let now = (len - done).min(part.end - offset - done);
            let cached = part.cached(offset + done, now);
            done += cached;
            if cached < now {
                break;
            }
        }
        done
    }

    /// Has the kernel send `len` bytes from `offset` on past our memory. Returns how many bytes `socket` took and
    /// what stopped it: `UnexpectedEof` if the file is not what [`cached`](Content::cached) saw a moment ago. Without
    /// a call of `cached` before, it waits for the disk.
    pub fn send(
        &self,
        files: &FileCache,
        socket: impl AsFd,
        offset: u64,
        len: u32,
    ) -> (usize, io::Result<()>) {
        let mut done = 0;
        while done < len as usize {
            let at = offset + done as u64;
            let sent = match files.find(self.id, at) {
                Some(part) => part.send(socket.as_fd(), at, part.room(at, len as usize - done)),
                None => Ok(0),
            };
            match sent {
                Ok(0) => return (done, Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => done += sent,
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    /// Fills `buf` from `offset` on, and waits for the disk if need be. A file that was changed since it was opened
    /// is an error until [`close_files`](Content::close_files), because what was verified may be gone.
    pub fn read(
        &self,
        files: &FileCache,
        mut offset: u64,
        mut buf: &mut [u8],
    ) -> Result<(), ReadError> {
        while !buf.is_empty() {
            let part = self.part(files, offset)?;
            let (now, rest) = buf.split_at_mut(part.room(offset, buf.len()));
            part.read(offset, now)
                .map_err(|error| self.read_error(offset, error))?;
            offset += now.len() as u64;
            buf = rest;
        }
        Ok(())
    }

    /// Whether these bytes are a hole of one file: zeros that were never written. `false` if that is not known.
    pub(crate) fn is_hole(
        &self,
        files: &FileCache,
        offset: u64,
        len: u64,
    ) -> Result<bool, ReadError> {
        let part = self.part(files, offset)?;
        Ok(part.is_hole(offset, len))
    }

    /// Fills `buf` from `offset` on as [`read`](Content::read) does, and has the kernel read ahead up to `ahead`
    /// bytes from `offset`. An error comes with the start of the first block that could not be read.
    pub fn warm(
        &self,
        files: &FileCache,
        mut offset: u64,
        mut buf: &mut [u8],
        ahead: u64,
    ) -> Result<(), (u64, ReadError)> {
        let end = offset.saturating_add(ahead.max(buf.len() as u64));
        while !buf.is_empty() {
            let part = self.part(files, offset).map_err(|error| (offset, error))?;
            part.advise(offset, end.min(part.end) - offset, Advice::WillNeed);
            let (now, rest) = buf.split_at_mut(part.room(offset, buf.len()));
            if let Err(error) = part.read(offset, now) {
                let bad = part.first_unread(offset, now).unwrap_or(offset);
                return Err((bad, self.read_error(bad, error)));
            }
            offset += now.len() as u64;
            buf = rest;
        }
        Ok(())
    }

    /// Makes the next read of these bytes come from the disk: the kernel drops its clean pages of them.
    pub fn cool(&self, files: &FileCache, mut offset: u64, len: u64) -> Result<(), ReadError> {
        let end = offset + len;
        while offset < end {
            let part = self.part(files, offset)?;
            // The kernel drops whole stretches only, and some are long.
            let from = (offset - part.start) / STRETCH * STRETCH;
            let to = (end.min(part.end) - part.start).next_multiple_of(STRETCH);
            part.advise(part.start + from, to - from, Advice::DontNeed);
            offset = part.end;
        }
        Ok(())
    }

    fn read_cached_across(
        &self,
        files: &FileCache,
        offset: u64,
        bufs: &mut [IoSliceMut<'_>],
    ) -> usize {
        let mut done = 0;
        for buf in bufs {
            let mut rest = &mut buf[..];
            while !rest.is_empty() {
                let offset = offset + done as u64;
                let Some(part) = files.find(self.id, offset) else {
                    return done;
                };
                let (now, later) = rest.split_at_mut(part.room(offset, rest.len()));
                let read = part.read_now(offset, &mut [IoSliceMut::new(now)]);
                done += read;
                if read < now.len() {
                    return done;
                }
                rest = later;
            }
        }
        done
    }

    /// The open file that holds the byte at `offset`, opened if need be.
    fn part(&self, files: &FileCache, offset: u64) -> Result<Part, ReadError> {
        if let Some(part) = files.find(self.id, offset) {
            return Ok(part);
        }
        let record = self.record(offset)?;
        let source = if record.zeros {
            Source::Zeros
        } else {
            let place = self.place_at(&record)?;
            let opened = self.layout().named().open_file(&place);
            let (fd, stat) =
                opened.map_err(|failure| ReadError::open(self.layout().whole(&place), failure))?;
            if files.is_sequential() {
                let _ = rustix::fs::fadvise(&fd, 0, None, Advice::Sequential);
            }
            if files.is_fresh() {
                let _ = rustix::fs::fadvise(&fd, 0, None, Advice::DontNeed);
            }
            let waits = AtomicBool::new(false);
            let stamp = (!self.grows.load(Ordering::Relaxed)).then(|| Stamp::of(&stat));
            Source::File { fd, waits, stamp }
        };
        let part = Part {
            start: record.start,
            end: record.start.saturating_add(record.len),
            source: Arc::new(source),
        };
        files.insert(self.id, part.clone());
        Ok(part)
    }

    fn read_error(&self, offset: u64, error: io::Error) -> ReadError {
        let path = match self.index.find(offset) {
            Ok(Some(record)) => match self.place_at(&record) {
                Ok(place) => self.layout().whole(&place),
                Err(error) => return error,
            },
            _ => self.layout().root(),
        };
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::Short { path },
            io::ErrorKind::InvalidData => ReadError::Changed { path },
            _ => ReadError::Io { path, error },
        }
    }
}

/// The longest stretch of a file that the kernel may keep as one unit.
const STRETCH: u64 = 2 << 20;
