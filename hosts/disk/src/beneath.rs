//! Opening a file of a torrent without ever leaving the torrent's folder.
//!
//! Invariant: what [`open_file`] answers is a regular file that lies beneath the given folder, and
//! no symbolic link was followed on the way from that folder to it. Names were already made safe when
//! the torrent was parsed; this holds even if somebody plants links in the folder while we run.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Why a file was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpenFailure {
    /// It or a folder on its way does not exist.
    Missing,
    /// It is a folder, a device or a symbolic link, or a folder on its way is no folder.
    NotAFile,
    /// The folder is on another disk than it should be.
    Elsewhere,
    /// The operating system said something else.
    Os(Errno),
}

/// Opens `path`, which must be relative, for reading. `folder` itself may be reached through links.
pub(crate) fn open_file(folder: &Path, path: &Path) -> Result<(OwnedFd, Stat), OpenFailure> {
    // O_NONBLOCK so that a FIFO with the right name does not hang us; it means nothing for files.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(folder, path, flags | OFlags::NOFOLLOW).map_err(OpenFailure::from)?;
    regular(file)
}

/// Opens `path` for reading and writing, and makes it and the folders on its way if they are missing.
/// `folder` itself is not made, and has to be on `device` if that is given.
pub(crate) fn create_file(
    folder: &Path,
    path: &Path,
    device: Option<u64>,
) -> Result<(OwnedFd, Stat), OpenFailure> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(CWD, folder, directory, Mode::empty())?;
    if let Some(device) = device {
        // The type of the field differs between architectures.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        let now = rustix::fs::fstat(&here)?.st_dev as u64;
        if now != device {
            return Err(OpenFailure::Elsewhere);
        }
    }
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Err(OpenFailure::NotAFile);
        };
        if components.peek().is_none() {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o666);
            return regular(rustix::fs::openat(&here, name, flags, mode)?);
        }
        match rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        here = step(here.as_fd(), name)?;
    }
    Err(OpenFailure::NotAFile)
}

/// What `path` is, without opening it for reading.
pub(crate) fn stat_file(folder: &Path, path: &Path) -> Result<Stat, OpenFailure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = open(folder, path, flags).map_err(OpenFailure::from)?;
    regular(file).map(|(_, stat)| stat)
}

fn regular(file: OwnedFd) -> Result<(OwnedFd, Stat), OpenFailure> {
    let stat = rustix::fs::fstat(&file).map_err(OpenFailure::from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(OpenFailure::NotAFile);
    }
    Ok((file, stat))
}

fn open(folder: &Path, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, folder, directory, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&folder, path, flags, Mode::empty(), resolve) {
        // Kernels before 5.6 lack the call, and some sandboxes refuse what they do not know.
        Err(Errno::NOSYS | Errno::PERM) => open_stepwise(folder.as_fd(), path, flags),
        done => done,
    }
}

/// The same by hand: one folder at a time, none of them a link.
fn open_stepwise(folder: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut components = path.components().peekable();
    let mut here: Option<OwnedFd> = None;
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Err(Errno::XDEV);
        };
        let at = here.as_ref().map_or(folder, AsFd::as_fd);
        if components.peek().is_none() {
            return rustix::fs::openat(at, name, flags, Mode::empty());
        }
        here = Some(step(at, name)?);
    }
    Err(Errno::INVAL)
}

fn step(at: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

impl From<Errno> for OpenFailure {
    fn from(error: Errno) -> OpenFailure {
        match error {
            Errno::NOENT => OpenFailure::Missing,
            // NXIO: a FIFO or socket; XDEV: a path that leaves the folder.
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO | Errno::XDEV => {
                OpenFailure::NotAFile
            }
            other => OpenFailure::Os(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_outside_the_folder_opens() {
        let scratch = Scratch::new("beneath");
        let folder = scratch.path().join("torrent");
        fs::create_dir_all(folder.join("deep/er")).unwrap();
        fs::write(folder.join("deep/er/file"), b"inside").unwrap();
        fs::write(scratch.path().join("secret"), b"outside").unwrap();
        symlink(scratch.path(), folder.join("up")).unwrap();
        symlink(scratch.path().join("secret"), folder.join("link")).unwrap();
        symlink("file", folder.join("deep/er/neighbour")).unwrap();
        symlink(&folder, scratch.path().join("door")).unwrap();
        let cases: [(&str, Result<(), OpenFailure>); 10] = [
            ("deep/er/file", Ok(())),
            ("nothing", Err(OpenFailure::Missing)),
            ("nothing/file", Err(OpenFailure::Missing)),
            ("deep/er/file/file", Err(OpenFailure::NotAFile)),
            ("deep", Err(OpenFailure::NotAFile)),
            ("up/secret", Err(OpenFailure::NotAFile)),
            ("link", Err(OpenFailure::NotAFile)),
            ("deep/er/neighbour", Err(OpenFailure::NotAFile)),
            ("../secret", Err(OpenFailure::NotAFile)),
            ("/etc/passwd", Err(OpenFailure::NotAFile)),
        ];
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        for (path, expected) in cases {
            for root in [&folder, &scratch.path().join("door")] {
                let path = Path::new(path);
                assert_eq!(open_file(root, path).map(drop), expected, "{path:?}");
                assert_eq!(stat_file(root, path).map(drop), expected, "{path:?}");
                let directory = fs::File::open(root).unwrap();
                let stepwise = open_stepwise(directory.as_fd(), path, flags);
                let stepwise = stepwise.map_err(OpenFailure::from).and_then(regular);
                assert_eq!(stepwise.map(drop), expected, "{path:?} by hand");
            }
        }
    }

    #[test]
    fn a_fifo_does_not_hang() {
        let scratch = Scratch::new("fifo");
        let fifo = scratch.path().join("pipe");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let opened = open_file(scratch.path(), Path::new("pipe"));
        assert_eq!(opened.map(drop), Err(OpenFailure::NotAFile));
    }
}
