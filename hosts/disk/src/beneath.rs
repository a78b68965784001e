//! Opening files beneath a folder that the owner named, without ever leaving it.
//!
//! Invariant: what is opened here lies beneath the named folder. A symbolic link to another place in the folder is
//! followed; one that leads out of it is [`OpenFailure::Leaves`], unless the owner said [`Links::Follow`]. Only
//! regular files are opened, and each check is made on the opened file, not on its path beforehand. Names were made
//! safe when the torrent was parsed; this module holds even if somebody plants links in the folder while everseed
//! runs.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::access::{self, Access};
use crate::error::ReadError;

/// Which symbolic links are followed beneath a folder that the owner named.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Links {
    /// Links that stay beneath the folder.
    #[default]
    Beneath,
    /// All links, wherever they lead. The owner vouches that nobody else makes links there.
    Follow,
}

/// The link-free path of something in `folder` that has to stay beneath it.
pub fn resolve(folder: &Path, path: &Path, links: Links) -> Result<PathBuf, ReadError> {
    let root = Root { folder, links };
    let relative = path.strip_prefix(folder).unwrap_or(path);
    let failed = |failure| ReadError::open(path.to_owned(), failure);
    let there = root.open(relative, OFlags::PATH);
    let there = there.map_err(|error| failed(error.into()))?;
    // /proc names the file that was opened; without /proc the path is resolved once more.
    let link = format!("/proc/self/fd/{}", there.as_raw_fd());
    let real = std::fs::read_link(link).or_else(|_| std::fs::canonicalize(path));
    real.map_err(|error| ReadError::Io {
        path: path.to_owned(),
        error,
    })
}

/// A folder that the owner named. It may itself be reached through links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Root<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) links: Links,
}

/// Why a file was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpenFailure {
    /// The file, or a folder on its way, does not exist.
    Missing,
    /// A folder or a device stands there, or a folder on the way is not a folder.
    NotAFile,
    /// A link on the way leads out of the folder.
    Leaves,
    /// Another error of the operating system.
    Os(Errno),
}

impl OpenFailure {
    /// Whether the file does not exist, or cannot exist because the file system refuses its name.
    pub(crate) fn is_no_such_name(self) -> bool {
        let refused = [Errno::INVAL, Errno::ILSEQ, Errno::NAMETOOLONG];
        match self {
            OpenFailure::Missing => true,
            OpenFailure::Os(error) => refused.contains(&error),
            OpenFailure::NotAFile | OpenFailure::Leaves => false,
        }
    }
}

impl<'a> Root<'a> {
    /// A folder beneath which only links that stay there are followed.
    #[cfg(test)]
    pub(crate) fn new(folder: &'a Path) -> Root<'a> {
        let links = Links::Beneath;
        Root { folder, links }
    }

    /// Opens `path`, which must be relative, for reading.
    pub(crate) fn open_file(self, path: &Path) -> Result<(OwnedFd, Stat), OpenFailure> {
        // O_NONBLOCK so that a FIFO with the right name does not hang us; it means nothing for files.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        regular(self.open(path, flags)?)
    }

    /// Opens an existing file for reading and writing.
    pub(crate) fn open_to_write(self, path: &Path) -> Result<(OwnedFd, Stat), OpenFailure> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
        regular(self.open(path, flags)?)
    }

    /// The metadata of a regular file, which is not opened for reading.
    pub(crate) fn stat_file(self, path: &Path) -> Result<Stat, OpenFailure> {
        self.find_file(path).map(|(_, stat)| stat)
    }

    /// The metadata of a regular file, and a handle to it (`O_PATH`) for further questions.
    pub(crate) fn find_file(self, path: &Path) -> Result<(OwnedFd, Stat), OpenFailure> {
        regular(self.open(path, OFlags::PATH)?)
    }

    /// Whether an entry has exactly this name. Some file systems also open names that differ in case.
    pub(crate) fn has_name(self, path: &Path) -> bool {
        let folder = path.parent().unwrap_or(Path::new(""));
        let (Ok(folder), Some(name)) = (self.open_folder(folder), path.file_name()) else {
            return false;
        };
        let names = rustix::fs::Dir::read_from(&folder).into_iter().flatten();
        let mut names = names.flatten();
        names.any(|one| one.file_name().to_bytes() == name.as_encoded_bytes())
    }

    /// The metadata of whatever is at `path`.
    pub(crate) fn stat(self, path: &Path) -> Result<Stat, OpenFailure> {
        Ok(rustix::fs::fstat(self.open(path, OFlags::PATH)?)?)
    }

    /// Opens a folder to list it; an empty `path` opens the root folder itself.
    pub(crate) fn open_folder(self, path: &Path) -> Result<OwnedFd, OpenFailure> {
        Ok(self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    /// Makes the folder `path` and its missing parents. The folder that the owner named has to be there already.
    pub(crate) fn make_folder(self, path: &Path, access: Access) -> Result<OwnedFd, OpenFailure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, flags) {
            Err(error) if OpenFailure::from(error).is_no_such_name() => {}
            done => return Ok(done?),
        }
        let mut here = self.open(Path::new(""), flags)?;
        let mut way = PathBuf::new();
        for component in path.components() {
            way.push(component);
            let Component::Normal(name) = component else {
                return Err(OpenFailure::Leaves);
            };
            here = match self.open(&way, flags) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) => {
                            let look = OFlags::RDONLY | OFlags::DIRECTORY;
                            access.give(&self.open(&way, look)?, access::FOLDER)?;
                            self.open(&way, flags)?
                        }
                        // Either a dangling link has this name, or somebody else made the folder first.
                        Err(Errno::EXIST) => self.open(&way, flags)?,
                        Err(error) => return Err(error.into()),
                    }
                }
                done => done?,
            };
        }
        Ok(here)
    }

    /// Makes the file `name` in the open `folder`. Nothing may have that name yet, not even a link.
    pub(crate) fn make_file(folder: &OwnedFd, name: &OsStr) -> Result<(OwnedFd, Stat), Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o666);
        let file = rustix::fs::openat(folder, name, flags | OFlags::CLOEXEC, mode)?;
        let stat = rustix::fs::fstat(&file)?;
        Ok((file, stat))
    }

    fn open(self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, self.folder, directory, Mode::empty())?;
        if path.as_os_str().is_empty() {
            return rustix::fs::openat(&folder, ".", flags, Mode::empty());
        }
        let is_plain = |c| matches!(c, Component::Normal(_));
        if !path.components().all(is_plain) {
            return Err(Errno::XDEV);
        }
        if self.links == Links::Follow {
            return rustix::fs::openat(&folder, path, flags, Mode::empty());
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&folder, path, flags, Mode::empty(), resolve) {
            // Kernels before 5.6 lack `openat2`, and some sandboxes refuse unknown calls. It also refuses every link
            // that begins with `/`, and gives up when something is renamed meanwhile.
            Err(Errno::NOSYS | Errno::PERM | Errno::XDEV | Errno::AGAIN) => {
                self.open_by_hand(folder.as_fd(), path, flags)
            }
            done => done,
        }
    }

    /// The same without `openat2`: opens one name after another and never follows a link. The names in a link are
    /// taken in turn; `..` goes back to an open folder, and never above the root.
    fn open_by_hand(
        self,
        folder: BorrowedFd<'_>,
        path: &Path,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let mut names: Vec<OsString> = Vec::new();
        push_names(&mut names, path);
        let mut folders: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(name) = names.pop() {
            if name == ".." {
                folders.pop().ok_or(Errno::XDEV)?;
                continue;
            }
            let at = folders.last().map_or(folder, AsFd::as_fd);
            let is_last = names.is_empty();
            let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let there = rustix::fs::openat(at, &name, look, Mode::empty())?;
            match FileType::from_raw_mode(rustix::fs::fstat(&there)?.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(&there, "", Vec::new())?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        push_names(&mut names, self.within(&target).ok_or(Errno::XDEV)?);
                        folders.clear();
                    } else {
                        push_names(&mut names, &target);
                    }
                }
                // If the name became a link meanwhile, it is not followed.
                _ if is_last => {
                    return rustix::fs::openat(at, &name, flags | OFlags::NOFOLLOW, Mode::empty());
                }
                FileType::Directory => folders.push(there),
                _ => return Err(Errno::NOTDIR),
            }
        }
        let at = folders.last().map_or(folder, AsFd::as_fd);
        rustix::fs::openat(at, ".", flags, Mode::empty())
    }

    /// The part of an absolute path that lies beneath the folder, judged by its text alone.
    fn within(self, target: &Path) -> Option<&Path> {
        let named = std::path::absolute(self.folder).ok();
        let real = || std::fs::canonicalize(self.folder).ok();
        let strip = |folder: PathBuf| target.strip_prefix(folder).ok();
        named.and_then(strip).or_else(|| real().and_then(strip))
    }
}

/// Pushes the names of a path in reverse order, so that the first one is popped first.
fn push_names(names: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.extend(parts);
}

fn regular(file: OwnedFd) -> Result<(OwnedFd, Stat), OpenFailure> {
    let stat = rustix::fs::fstat(&file).map_err(OpenFailure::from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(OpenFailure::NotAFile);
    }
    Ok((file, stat))
}

/// The number of links on the way to one file at which Linux gives up.
const MOST_LINKS: u32 = 40;

impl From<Errno> for OpenFailure {
    fn from(error: Errno) -> OpenFailure {
        match error {
            Errno::NOENT => OpenFailure::Missing,
            Errno::XDEV => OpenFailure::Leaves,
            // ENXIO: a FIFO or socket.
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => OpenFailure::NotAFile,
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

    /// The three ways to open a file: by the kernel's call, by hand, and for its metadata.
    fn opened(root: Root<'_>, path: &Path) -> [Result<(), OpenFailure>; 3] {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let folder = fs::File::open(root.folder).unwrap();
        let is_plain = |c| matches!(c, Component::Normal(_));
        let by_hand = match path.components().all(is_plain) {
            true => root.open_by_hand(folder.as_fd(), path, flags),
            false => Err(Errno::XDEV),
        };
        let by_hand = by_hand.map_err(OpenFailure::from).and_then(regular);
        [
            root.open_file(path).map(drop),
            by_hand.map(drop),
            root.stat_file(path).map(drop),
        ]
    }

    #[test]
    fn nothing_outside_the_folder_opens() {
        let scratch = Scratch::new("beneath");
        let folder = scratch.path().join("torrent");
        fs::create_dir_all(folder.join("deep/er")).unwrap();
        fs::write(folder.join("deep/er/file"), b"inside").unwrap();
        fs::write(scratch.path().join("secret"), b"outside").unwrap();
        for (target, link) in [
            (scratch.path().to_owned(), "up"),
            (scratch.path().join("secret"), "link"),
            ("../secret".into(), "out"),
            ("..".into(), "above"),
            ("deep/../../torrent/deep/er/file".into(), "out and in"),
            ("file".into(), "deep/er/neighbour"),
            ("../../deep".into(), "deep/er/deep"),
            (folder.join("deep/er/file"), "whole path"),
            (folder.join("deep/../../secret"), "whole path out"),
            ("loop".into(), "loop"),
            ("nowhere".into(), "leads nowhere"),
            ("/proc/self/root".into(), "magic"),
        ] {
            symlink(target, folder.join(link)).unwrap();
        }
        symlink(&folder, scratch.path().join("door")).unwrap();
        use OpenFailure::{Leaves, Missing, NotAFile};
        let cases: [(&str, Result<(), OpenFailure>); 20] = [
            ("deep/er/file", Ok(())),
            ("nothing", Err(Missing)),
            ("nothing/file", Err(Missing)),
            ("deep/er/file/file", Err(NotAFile)),
            ("deep", Err(NotAFile)),
            ("up/secret", Err(Leaves)),
            ("link", Err(Leaves)),
            ("out", Err(Leaves)),
            ("above", Err(Leaves)),
            ("above/torrent/deep/er/file", Err(Leaves)),
            ("out and in", Err(Leaves)),
            ("deep/er/neighbour", Ok(())),
            ("deep/er/deep/er/deep/er/file", Ok(())),
            ("whole path", Ok(())),
            ("whole path out", Err(Leaves)),
            ("loop", Err(NotAFile)),
            ("leads nowhere", Err(Missing)),
            ("magic/etc/passwd", Err(Leaves)),
            ("../secret", Err(Leaves)),
            ("/etc/passwd", Err(Leaves)),
        ];
        for (path, expected) in cases {
            for folder in [&folder, &scratch.path().join("door")] {
                let found = opened(Root::new(folder), Path::new(path));
                assert_eq!(found, [expected; 3], "{path:?} in {folder:?}");
            }
        }
        let links = Links::Follow;
        let follow = Root {
            folder: &folder,
            links,
        };
        for path in ["up/secret", "link", "out", "whole path out"] {
            assert!(follow.open_file(Path::new(path)).is_ok(), "{path}");
        }
        let outside = follow.open_file(Path::new("../secret"));
        assert_eq!(outside.map(drop), Err(Leaves));
    }

    /// Folders swapped for links and back while they are walked: nothing but what is beneath is ever opened.
    #[test]
    fn swapped_while_it_is_opened() {
        let scratch = Scratch::new("swapped");
        let folder = scratch.path().join("torrent");
        fs::create_dir_all(folder.join("real/a")).unwrap();
        fs::create_dir_all(scratch.path().join("outside/a")).unwrap();
        fs::write(folder.join("real/a/file"), b"inside").unwrap();
        fs::write(scratch.path().join("outside/a/file"), b"secret").unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let ordering = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let turn = ["../outside", "real"];
                for n in 0.. {
                    let part = folder.join("part");
                    symlink(turn[n % 2], &part).unwrap();
                    fs::rename(&part, folder.join("way")).unwrap();
                    if stop.load(ordering) {
                        return;
                    }
                }
            });
            let path = Path::new("way/a/file");
            let root = Root::new(&folder);
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            for _ in 0..1000 {
                let at = fs::File::open(&folder).unwrap();
                let by_hand = root.open_by_hand(at.as_fd(), path, flags).ok();
                let by_call = root.open_file(path).ok().map(|(file, _)| file);
                for file in by_hand.into_iter().chain(by_call) {
                    let mut bytes = Vec::new();
                    std::io::Read::read_to_end(&mut fs::File::from(file), &mut bytes).unwrap();
                    assert_eq!(bytes, b"inside");
                }
            }
            stop.store(true, ordering);
        });
    }

    #[test]
    fn a_fifo_does_not_hang() {
        let scratch = Scratch::new("fifo");
        let fifo = scratch.path().join("pipe");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let root = Root::new(scratch.path());
        for opened in [
            root.open_file(Path::new("pipe")),
            root.open_to_write(Path::new("pipe")),
        ] {
            assert_eq!(opened.map(drop), Err(OpenFailure::NotAFile));
        }
    }

    #[test]
    fn folders_are_made_beneath() {
        let scratch = Scratch::new("made-beneath");
        let folder = scratch.path().join("out");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(scratch.path().join("elsewhere")).unwrap();
        symlink("../elsewhere", folder.join("leaves")).unwrap();
        symlink("../elsewhere/new", folder.join("leads out to nothing")).unwrap();
        fs::create_dir(folder.join("other")).unwrap();
        symlink("other", folder.join("stays")).unwrap();
        let root = Root::new(&folder);
        let make = |path: &str| {
            root.make_folder(Path::new(path), Access::default())
                .map(drop)
        };
        for path in ["a/b/c", "a/b/c", "a/b/d", "stays/sub"] {
            assert_eq!(make(path), Ok(()), "{path}");
        }
        for path in ["leaves/x", "leaves", "leads out to nothing/x", "../x"] {
            assert_eq!(make(path), Err(OpenFailure::Leaves), "{path}");
        }
        assert!(folder.join("other/sub").is_dir() && folder.join("a/b/d").is_dir());
        let outside = scratch.path().join("elsewhere");
        assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    }
}
