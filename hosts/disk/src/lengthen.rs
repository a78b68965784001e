//! Giving a file its full length, step by step.
//!
//! On file systems with sparse files that takes no time. FAT and exFAT write zeros instead, for minutes on a USB
//! stick. So there each step is short, and other users of the disk are served between two steps. A later run goes on
//! where an earlier one stopped.

use std::os::fd::OwnedFd;

use rustix::fs::{FallocateFlags, SeekFrom, Stat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Bytes of one step: half a second on a slow stick.
pub(crate) const STEP: u64 = 4 << 20;

/// Refuses a length that the file system or this process's limit does not allow for one file. Nothing is written to
/// find out.
pub(crate) fn fits(file: &OwnedFd, len: u64) -> Result<(), Errno> {
    if !is_allowed(len) {
        return Err(Errno::FBIG);
    }
    match rustix::fs::seek(file, SeekFrom::Start(len)) {
        Ok(_) => Ok(()),
        Err(Errno::INVAL | Errno::OVERFLOW) => Err(Errno::FBIG),
        Err(error) => Err(error),
    }
}

/// Whether this process may write a file of this length (`ulimit -f`).
pub(crate) fn is_allowed(len: u64) -> bool {
    let limit = getrlimit(Resource::Fsize).current;
    limit.is_none_or(|limit| len <= limit)
}

/// Makes an empty file a byte long.
pub(crate) fn begin(file: &OwnedFd) -> Result<(), Errno> {
    lengthen(file, 0, 1).map(drop)
}

/// Makes a file of `size` bytes longer, up to `len`; by one step only where that takes long. Returns its new length.
pub(crate) fn lengthen(file: &OwnedFd, size: u64, len: u64) -> Result<u64, Errno> {
    let truncate = |file: &OwnedFd, len| rustix::fs::ftruncate(file, len);
    lengthen_by(file, size, len, truncate)
}

fn lengthen_by(
    file: &OwnedFd,
    size: u64,
    len: u64,
    truncate: impl Fn(&OwnedFd, u64) -> Result<(), Errno>,
) -> Result<u64, Errno> {
    if size >= len {
        return Ok(size);
    }
    fits(file, len)?;
    let next = len.min(size.max(1) + STEP);
    match truncate(file, next) {
        // A file system that makes no file longer this way (ftruncate(2)), such as FAT over FUSE.
        Err(Errno::PERM) => return dense(file, next),
        done => done?,
    }
    if next == len {
        return Ok(len);
    }
    // The first step shows whether the file system writes the zeros.
    match is_dense(&rustix::fs::fstat(file)?) {
        // Some file systems note the length now and write the zeros later.
        true => dense(file, next),
        false => truncate(file, len).map(|()| len),
    }
}

/// Reserves the disk space of a whole file where the file system can do that at once; elsewhere does nothing.
pub(crate) fn take(file: &OwnedFd, len: u64) -> Result<(), Errno> {
    fits(file, len)?;
    // vfat would write zeros up to there.
    let how = match kind(file) {
        MSDOS => FallocateFlags::KEEP_SIZE,
        _ => FallocateFlags::empty(),
    };
    match rustix::fs::fallocate(file, how, 0, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        done => done,
    }
}

/// The magic number of the file's file system; 0 if it is unknown.
fn kind(file: &OwnedFd) -> u32 {
    // The type of the field differs between architectures.
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation
    )]
    rustix::fs::fstatfs(file).map_or(0, |stat| stat.f_type as u32)
}

const MSDOS: u32 = 0x4d44;

/// Writes the last byte of the step, so that the file system fills in the zeros before it; nothing was written there
/// yet. Syncs them, because zeros that pile up in memory would delay a stop.
fn dense(file: &OwnedFd, next: u64) -> Result<u64, Errno> {
    loop {
        match rustix::io::pwrite(file, &[0], next - 1) {
            Ok(1) => break,
            Ok(_) => return Err(Errno::IO),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    rustix::fs::fdatasync(file).map(|()| next)
}

/// Whether the file system has allocated all of a file, though most of it was not written.
fn is_dense(stat: &Stat) -> bool {
    // The type of the field differs between architectures.
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
    let taken = (stat.st_blocks as u64).saturating_mul(512);
    u64::try_from(stat.st_size).is_ok_and(|size| taken >= size)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::scratch::Scratch;

    fn file(scratch: &Scratch, name: &str) -> File {
        let mut options = File::options();
        options.read(true).write(true).create(true);
        options.open(scratch.path().join(name)).unwrap()
    }

    #[test]
    fn sparse_at_once() {
        let scratch = Scratch::new("lengthen");
        for (written, len) in [
            (0, 1),
            (1, STEP),
            (1, STEP + 2),
            (1, 1 << 33),
            (5 << 20, 1 << 33),
        ] {
            let file = file(&scratch, &format!("{written}-{len}"));
            let mut size = written;
            file.write_all_at(&vec![7; usize::try_from(written).unwrap()], 0)
                .unwrap();
            let fd: OwnedFd = file.try_clone().unwrap().into();
            let mut steps = 0;
            while size < len {
                size = lengthen(&fd, size, len).unwrap();
                assert_eq!(file.metadata().unwrap().len(), size);
                steps += 1;
            }
            assert!(steps <= 2, "{steps} of {len}");
            let mut first = [0; 1];
            file.read_exact_at(&mut first, 0).unwrap();
            assert_eq!(first[0], if written > 0 { 7 } else { 0 });
        }
    }

    /// Space that was taken beforehand looks like that of a file system without sparse files.
    #[test]
    fn step_by_step_where_nothing_is_sparse() {
        let scratch = Scratch::new("lengthen-dense");
        let file = file(&scratch, "file");
        let fd: OwnedFd = file.try_clone().unwrap().into();
        let len = 5 * STEP + 7;
        match rustix::fs::fallocate(&fd, FallocateFlags::KEEP_SIZE, 0, len) {
            Err(Errno::OPNOTSUPP) => return,
            done => done.unwrap(),
        }
        file.write_all_at(&[7; 100], 0).unwrap();
        let (mut size, mut steps) = (100, 0);
        while size < len {
            let next = lengthen(&fd, size, len).unwrap();
            assert!(next > size && next <= size + STEP);
            (size, steps) = (next, steps + 1);
        }
        assert_eq!((steps, file.metadata().unwrap().len()), (5, len));
        let mut start = [0; 101];
        file.read_exact_at(&mut start, 0).unwrap();
        assert_eq!((&start[..100], start[100]), (&[7; 100][..], 0));
    }

    /// Where only writing makes a file longer.
    #[test]
    fn by_writing() {
        let scratch = Scratch::new("lengthen-written");
        let file = file(&scratch, "file");
        let fd: OwnedFd = file.try_clone().unwrap().into();
        let len = 2 * STEP;
        let refuse = |_: &OwnedFd, _| Err(Errno::PERM);
        file.write_all_at(&[7; 100], 0).unwrap();
        let (mut size, mut steps) = (100, 0);
        while size < len {
            let next = lengthen_by(&fd, size, len, refuse).unwrap();
            assert!(next > size && next <= size + STEP);
            assert_eq!(file.metadata().unwrap().len(), next);
            (size, steps) = (next, steps + 1);
        }
        assert_eq!(steps, 2);
        let mut start = [0; 101];
        file.read_exact_at(&mut start, 0).unwrap();
        assert_eq!((&start[..100], start[100]), (&[7; 100][..], 0));
    }

    #[test]
    fn what_no_file_can_be() {
        let scratch = Scratch::new("lengthen-long");
        let fd: OwnedFd = file(&scratch, "file").into();
        assert_eq!(fits(&fd, 1 << 30), Ok(()));
        assert_eq!(fits(&fd, u64::MAX >> 1), Err(Errno::FBIG));
        assert_eq!(lengthen(&fd, 0, u64::MAX >> 1), Err(Errno::FBIG));
        assert_eq!(rustix::fs::fstat(&fd).unwrap().st_size, 0);
    }
}
