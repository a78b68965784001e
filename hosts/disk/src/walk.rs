//! The list of a folder's files, in the order of a torrent's.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Dir, FileType, Stat, accessat};
use rustix::io::Errno;

use crate::beneath::{Links, OpenFailure, Root};
use crate::cache::Stamp;
use crate::choice::Choice;
use crate::state::ALWAYS_THERE;

/// A regular file found beneath the folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// Path relative to the folder.
    pub(crate) path: PathBuf,
    /// Length in bytes.
    pub(crate) len: u64,
    /// Its size and times when it was found.
    pub(crate) stamp: Stamp,
    /// Whether its bytes turned out to be unreadable.
    pub(crate) unreadable: bool,
}

/// Why something in the folder is not part of the torrent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Skipped {
    /// A link that leads out of the folder, or to nothing that could be found.
    Symlink,
    /// A link to a folder: the files are listed under their own names, or the folder contains the link.
    FolderLink,
    /// A device, socket or FIFO.
    Special,
    /// The torrent file that is being written.
    Output,
    /// A folder where everseed keeps its state, in which passkeys are.
    State,
    /// The configuration that everseed uses, in which passkeys may be.
    Configuration,
    /// A pattern of the owner excludes it.
    Excluded,
    /// It matches none of the patterns that include.
    NotIncluded,
    /// Nobody wants such files: see [`is_unwanted`](crate::is_unwanted).
    Unwanted,
    /// Its name is not UTF-8, so others could not read it.
    NotUtf8,
    /// Its path within the folder is longer than clients accept.
    TooLong,
    /// It cannot be read; the number of the system's error.
    Unreadable(i32),
}

impl Skipped {
    pub(crate) fn unreadable(error: &io::Error) -> Skipped {
        Skipped::Unreadable(error.raw_os_error().unwrap_or(0))
    }
}

/// Every regular file beneath `root`, hidden ones too. They are sorted component by component by their bytes, so the
/// same folder gives the same list on every machine. Links to files count as files. Links to folders are followed
/// only if the owner wants all links followed; each folder then counts where it is met first.
///
/// `skip` gets the full path of each file that is left out: one that `choice` does not take, one that cannot be read,
/// and `output` and the file `secret` if they lie in the folder.
pub(crate) fn walk(
    root: Root<'_>,
    output: Option<&Path>,
    secret: Option<FileId>,
    choice: &Choice,
    skip: &mut dyn FnMut(&Path, Skipped),
) -> Result<Vec<Found>, (PathBuf, io::Error)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    let mut linked = Vec::new();
    let mut seen = HashSet::new();
    while let Some(relative) = folders.pop().or_else(|| linked.pop()) {
        let here = root.folder.join(&relative);
        let failed = |error: io::Error| (here.clone(), error);
        let folder = match root.open_folder(&relative) {
            Ok(folder) => folder,
            Err(failure) if relative.as_os_str().is_empty() => {
                return Err(failed(io_error(failure)));
            }
            // It was removed while we listed the folder.
            Err(OpenFailure::Missing) => continue,
            Err(failure) => {
                skip(&here, Skipped::unreadable(&io_error(failure)));
                continue;
            }
        };
        if is_state(&folder) {
            skip(&here, Skipped::State);
            continue;
        }
        if root.links == Links::Follow {
            let there = rustix::fs::fstat(&folder).map_err(|e| failed(e.into()))?;
            if !seen.insert((there.st_dev, there.st_ino)) {
                skip(&here, Skipped::FolderLink);
                continue;
            }
        }
        for entry in Dir::read_from(&folder).map_err(|e| failed(e.into()))? {
            let entry = entry.map_err(|e| failed(e.into()))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = relative.join(name);
            let full = root.folder.join(&path);
            let there = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) => there,
                Err(Errno::NOENT) => continue,
                Err(errno) => {
                    skip(&full, Skipped::Unreadable(errno.raw_os_error()));
                    continue;
                }
            };
            let is_folder = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
            if let Some(why) = choice.leaves_out(&path, is_folder) {
                skip(&full, why);
                continue;
            }
            match look(root, &path, there) {
                Ok(There::File(_)) if output == Some(&full) => skip(&full, Skipped::Output),
                Ok(There::File(stat)) if secret == Some(FileId::of(&stat)) => {
                    skip(&full, Skipped::Configuration);
                }
                Ok(There::File(stat)) => match accessat(&folder, name, Access::READ_OK, EACCESS) {
                    Ok(()) => found.push(Found {
                        path,
                        len: u64::try_from(stat.st_size).unwrap_or(0),
                        stamp: Stamp::of(&stat),
                        unreadable: false,
                    }),
                    Err(errno) => skip(&full, Skipped::Unreadable(errno.raw_os_error())),
                },
                Ok(There::Folder) => folders.push(path),
                Ok(There::LinkedFolder) => linked.push(path),
                Err(why) => skip(&full, why),
            }
        }
    }
    // `Path` compares component by component, and each by its bytes.
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Whether a folder is a state of everseed, whichever process uses it.
fn is_state(folder: &OwnedFd) -> bool {
    let has = |name| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    ALWAYS_THERE.into_iter().all(has)
}

/// A file's device and inode number, whatever its name is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    /// That of the file at `path`.
    pub(crate) fn at(path: &Path) -> Option<FileId> {
        Some(FileId::of(&rustix::fs::stat(path).ok()?))
    }

    // The types of these fields differ between architectures.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    fn of(there: &Stat) -> FileId {
        FileId(there.st_dev as u64, there.st_ino as u64)
    }
}

/// Access is asked for the effective user, not for the one who started the process.
const EACCESS: AtFlags = AtFlags::EACCESS;

enum There {
    File(Stat),
    Folder,
    /// Reached through a link.
    LinkedFolder,
}

/// The kind of the entry at `path`, at the end of the links that are followed.
fn look(root: Root<'_>, path: &Path, there: Stat) -> Result<There, Skipped> {
    let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
    match kind(&there) {
        FileType::RegularFile => return Ok(There::File(there)),
        FileType::Directory => return Ok(There::Folder),
        FileType::Symlink => {}
        _ => return Err(Skipped::Special),
    }
    let stat = root.stat(path).map_err(|_| Skipped::Symlink)?;
    match kind(&stat) {
        FileType::RegularFile => Ok(There::File(stat)),
        FileType::Directory if root.links == Links::Follow => Ok(There::LinkedFolder),
        FileType::Directory => Err(Skipped::FolderLink),
        _ => Err(Skipped::Special),
    }
}

fn io_error(failure: OpenFailure) -> io::Error {
    match failure {
        OpenFailure::Missing => io::ErrorKind::NotFound.into(),
        OpenFailure::NotAFile => io::ErrorKind::NotADirectory.into(),
        OpenFailure::Leaves => rustix::io::Errno::XDEV.into(),
        OpenFailure::Os(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn sorted_and_without_links_that_leave() {
        let scratch = Scratch::new("walk");
        let (root, outside) = (&scratch.path().join("root"), scratch.path().join("out"));
        for (path, len) in [
            ("root/b/x", 1),
            ("root/b!", 2),
            ("root/b/.hidden", 3),
            ("root/a/z/deep", 4),
            ("root/a/empty", 0),
            ("root/B", 5),
            ("root/é", 6),
            ("root/out.torrent", 7),
            ("root/b/node.toml", 1),
            ("root/b/everseed/lock", 0),
            ("root/b/everseed/made/0", 1),
            ("root/b/everseed/given/0.torrent", 1),
            ("root/b/everseed/0.resume", 1),
            ("out/secret", 8),
            ("out/sub/secret", 9),
        ] {
            let path = scratch.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; len]).unwrap();
        }
        for (target, link) in [
            ("/", "b/everything"),
            ("b/x", "link"),
            ("../a/z/deep", "b/annexed"),
            ("../out/secret", "secret"),
            ("a", "folder"),
            ("..", "a/up"),
            ("nowhere", "nowhere"),
            ("out.torrent", "z"),
            ("b/node.toml", "node"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let output = root.join("out.torrent");
        let config = root.join("b/node.toml");
        fs::hard_link(&config, root.join("b/hard")).unwrap();
        let listed = |root: Root<'_>| {
            let mut skipped = Vec::new();
            let secret = FileId::at(&config);
            let found = walk(
                root,
                Some(&output),
                secret,
                &Choice::default(),
                &mut |path, why| {
                    skipped.push((path.to_owned(), why));
                },
            );
            let names = found.unwrap().into_iter().map(|f| (f.path, f.len));
            let names: Vec<_> = names.collect();
            skipped.sort();
            (names, skipped)
        };
        let (found, skipped) = listed(Root::new(root));
        // A folder's files stand together: "b/x" before "b!", although '!' is less than '/'.
        let sorted = [
            ("B", 5),
            ("a/empty", 0),
            ("a/z/deep", 4),
            ("b/.hidden", 3),
            ("b/annexed", 4),
            ("b/x", 1),
            ("b!", 2),
            ("link", 1),
            ("z", 7),
            ("é", 6),
        ];
        assert_eq!(found, sorted.map(|(path, len)| (PathBuf::from(path), len)));
        let expected = [
            ("a/up", Skipped::FolderLink),
            ("b/everseed", Skipped::State),
            ("b/everything", Skipped::Symlink),
            ("b/hard", Skipped::Configuration),
            ("b/node.toml", Skipped::Configuration),
            ("node", Skipped::Configuration),
            ("folder", Skipped::FolderLink),
            ("nowhere", Skipped::Symlink),
            ("out.torrent", Skipped::Output),
            ("secret", Skipped::Symlink),
        ];
        let mut expected = expected.map(|(path, why)| (root.join(path), why));
        expected.sort();
        assert_eq!(skipped, expected);
        // All of them: once each folder, however links lead round and round.
        symlink(root, outside.join("round")).unwrap();
        fs::remove_file(root.join("b/everything")).unwrap();
        let links = Links::Follow;
        let (found, _) = listed(Root {
            folder: root,
            links,
        });
        assert!(found.iter().any(|(path, _)| path == Path::new("secret")));
        let deep = found.iter().filter(|(path, _)| path.ends_with("deep"));
        assert_eq!(deep.count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let scratch = Scratch::new("walk-missing");
        let missing = scratch.path().join("missing");
        let (path, error) = walk(
            Root::new(&missing),
            None,
            None,
            &Choice::default(),
            &mut |_, _| {},
        )
        .unwrap_err();
        assert_eq!((path, error.kind()), (missing, io::ErrorKind::NotFound));
    }
}
