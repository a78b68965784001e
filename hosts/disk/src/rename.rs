//! A rename that never overwrites.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, RenameFlags, renameat, renameat_with, statat};
use rustix::io::Errno;

/// Gives what is called `old` in the folder `from` the name `new` in the folder `to`, unless something has that:
/// [`Errno::EXIST`].
pub(crate) fn rename_new(
    from: impl AsFd,
    old: &OsStr,
    to: impl AsFd,
    new: &OsStr,
) -> Result<(), Errno> {
    let (from, to) = (from.as_fd(), to.as_fd());
    match renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // NFS, many of FUSE and others do not know that flag.
        Err(Errno::INVAL | Errno::NOSYS) => rename_if_free(from, old, to, new),
        done => done,
    }
}

/// As [`rename_new`], where the kernel cannot check and rename in one step. A file that gets the name in the moment
/// between is overwritten, so that moment is as short as possible.
fn rename_if_free(
    from: BorrowedFd<'_>,
    old: &OsStr,
    to: BorrowedFd<'_>,
    new: &OsStr,
) -> Result<(), Errno> {
    match statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => renameat(from, old, to, new),
        Err(error) => Err(error),
        Ok(_) => Err(Errno::EXIST),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::scratch::Scratch;

    type Rename = fn(BorrowedFd<'_>, &OsStr, BorrowedFd<'_>, &OsStr) -> Result<(), Errno>;

    /// Whatever has the name, and whichever way the kernel knows.
    #[test]
    fn nothing_is_written_over() {
        let ways: [Rename; 2] = [|a, old, b, new| rename_new(a, old, b, new), rename_if_free];
        type Make = fn(&Path);
        let taken: [(&str, Make); 4] = [
            ("file", |path| fs::write(path, "owner's").unwrap()),
            ("folder", |path| fs::create_dir(path).unwrap()),
            ("link", |path| symlink("nowhere", path).unwrap()),
            ("nothing", |_| {}),
        ];
        let ours: [Make; 2] = [
            |path| fs::write(path, "ours").unwrap(),
            |path| fs::create_dir(path).unwrap(),
        ];
        for (way, rename) in ways.into_iter().enumerate() {
            for (name, take) in taken {
                for make in ours {
                    let scratch = Scratch::new("rename");
                    let [from, to] = ["from", "to"].map(|name| scratch.path().join(name));
                    fs::create_dir(&from).unwrap();
                    fs::create_dir(&to).unwrap();
                    make(&from.join("old"));
                    take(&to.join("new"));
                    let before = fs::symlink_metadata(to.join("new")).map(|stat| stat.file_type());
                    let [a, b] = [&from, &to].map(|folder| File::open(folder).unwrap());
                    let done = rename(a.as_fd(), "old".as_ref(), b.as_fd(), "new".as_ref());
                    let is_free = before.is_err();
                    let expected = if is_free { Ok(()) } else { Err(Errno::EXIST) };
                    assert_eq!(done, expected, "{name} {way}");
                    assert_eq!(from.join("old").exists(), !is_free, "{name} {way}");
                    if let Ok(before) = before {
                        let after = fs::symlink_metadata(to.join("new")).unwrap();
                        assert_eq!(after.file_type(), before, "{name} {way}");
                    }
                }
            }
        }
    }
}
