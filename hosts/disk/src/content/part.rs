//! Reading and sending the bytes of one file.

use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use everseed_core::geometry::BLOCK;
use rustix::fs::{Advice, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use crate::cache::{Part, Source};
use crate::hashing::ZEROS;

impl Part {
    /// The number of `wanted` bytes from `offset` on that lie in this part.
    pub(super) fn room(&self, offset: u64, wanted: usize) -> usize {
        usize::try_from(self.end - offset).map_or(wanted, |room| room.min(wanted))
    }

    pub(super) fn is_hole(&self, offset: u64, len: u64) -> bool {
        let Source::File { fd, .. } = &*self.source else {
            return false;
        };
        let (at, end) = (offset - self.start, offset - self.start + len);
        // A file that ends too soon has no hole at that place.
        let size =
            || rustix::fs::fstat(fd).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
        offset + len <= self.end
            && match rustix::fs::seek(fd, SeekFrom::Data(at)) {
                Ok(data) => data >= end,
                Err(Errno::NXIO) => size() >= end,
                Err(_) => false,
            }
    }

    /// Whether the file was removed since it was opened.
    pub(crate) fn has_no_name(&self) -> bool {
        match &*self.source {
            Source::File { fd, .. } => rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_nlink == 0),
            Source::Zeros => false,
        }
    }

    pub(super) fn read_now(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> usize {
        let (fd, waits, stamp) = match &*self.source {
            Source::File { fd, waits, stamp } => (fd, waits, stamp),
            Source::Zeros => {
                bufs.iter_mut().for_each(|buf| buf.fill(0));
                return bufs.iter().map(|buf| buf.len()).sum();
            }
        };
        if waits.load(Ordering::Relaxed) {
            return 0;
        }
        let offset = offset - self.start;
        match rustix::io::preadv2(fd, bufs, offset, ReadWriteFlags::NOWAIT) {
            // The stamp is compared after the read, so the bytes were read before any change that it misses.
            Ok(read) if stamp.is_none_or(|stamp| stamp.is_of(fd)) => read,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                waits.store(true, Ordering::Relaxed);
                0
            }
            // The file was changed, is not in the page cache, or cannot be read. The reader that may wait finds out
            // which.
            _ => 0,
        }
    }

    pub(super) fn cached(&self, offset: u64, len: u64) -> u64 {
        let Source::File { fd, .. } = &*self.source else {
            return len;
        };
        // This read also tells whether the file was changed.
        if self.read_now(offset, &mut [IoSliceMut::new(&mut [0])]) != 1 {
            return 0;
        }
        let there = |at: u64| {
            let mut byte = [0];
            let bufs = &mut [IoSliceMut::new(&mut byte)];
            rustix::io::preadv2(fd, bufs, at - self.start, ReadWriteFlags::NOWAIT) == Ok(1)
        };
        let mut done = 0;
        while done < len {
            let now = (len - done).min(BLOCK.into());
            if !there(offset + done + now - 1) {
                break;
            }
            done += now;
        }
        done
    }

    pub(super) fn send(
        &self,
        socket: BorrowedFd<'_>,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        let sent = match &*self.source {
            Source::Zeros => rustix::io::write(socket, &ZEROS[..len.min(ZEROS.len())]),
            Source::File { fd, .. } => {
                let mut at = offset - self.start;
                rustix::fs::sendfile(socket, fd, Some(&mut at), len)
            }
        };
        Ok(sent?)
    }

    /// Fills `buf`. A file that ends too soon is `UnexpectedEof`; one that was changed since it was opened is
    /// `InvalidData`.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let Source::File { fd, stamp, .. } = &*self.source else {
            buf.fill(0);
            return Ok(());
        };
        let mut done = 0;
        while done < buf.len() {
            let at = offset - self.start + done as u64;
            match rustix::io::pread(fd, &mut buf[done..], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !stamp.is_none_or(|stamp| stamp.is_of(fd)) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    /// Among blocks that could not be read together, the start of the first one that cannot be read alone.
    pub(super) fn first_unread(&self, offset: u64, buf: &mut [u8]) -> Option<u64> {
        let mut at = offset;
        while at < offset + buf.len() as u64 {
            // Blocks are counted from the content's start, so that none lies in two pieces.
            let end = (at + 1).next_multiple_of(BLOCK.into());
            let end = end.min(offset + buf.len() as u64);
            let len = usize::try_from(end - at).unwrap_or(buf.len());
            if self.read(at, &mut buf[..len]).is_err() {
                return Some(at);
            }
            at = end;
        }
        None
    }

    pub(super) fn advise(&self, offset: u64, len: u64, advice: Advice) {
        if let Source::File { fd, .. } = &*self.source {
            // Advice that is not taken costs time and nothing else.
            let _ = rustix::fs::fadvise(
                fd.as_fd(),
                offset - self.start,
                NonZeroU64::new(len),
                advice,
            );
        }
    }
}
