//! Permissions and group of the files and folders that everseed makes.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, fchmod, fchown, fstat};
use rustix::io::Errno;

/// Permissions and group for what everseed makes. Files and folders that were there before keep theirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Permissions that are taken away (a umask). `None`: the umask of the process.
    pub umask: Option<u32>,
    /// The number of the group. `None`: the group that the system gives.
    pub group: Option<u32>,
}

/// Permissions of a file and of a folder before the umask is taken away.
pub(crate) const FILE: u32 = 0o666;
pub(crate) const FOLDER: u32 = 0o777;

impl Access {
    /// Sets permissions and group of a file or folder that was just made. FAT and other file systems without owners
    /// have one owner for all files: there this does nothing.
    pub(crate) fn give(self, made: &OwnedFd, mode: u32) -> Result<(), Errno> {
        let ignored = |error| match error {
            Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => Ok(()),
            error => Err(error),
        };
        if let Some(group) = self.group {
            fchown(made, None, Some(Gid::from_raw(group))).or_else(ignored)?;
        }
        if let Some(umask) = self.umask {
            // The set-group-ID bit makes what is created in the folder belong to the folder's group.
            let kept =
                Mode::from_raw_mode(fstat(made)?.st_mode) & (Mode::SUID | Mode::SGID | Mode::SVTX);
            let mode = Mode::from_raw_mode(mode & !umask) | kept;
            fchmod(made, mode).or_else(ignored)?;
        }
        Ok(())
    }

    /// Makes a folder that the owner named, and its missing parents.
    pub(crate) fn make_folder(self, folder: &Path) -> std::io::Result<()> {
        let missing = folder.ancestors();
        let missing = missing.take_while(|f| !f.as_os_str().is_empty() && !f.exists());
        let missing: Vec<&Path> = missing.collect();
        std::fs::create_dir_all(folder)?;
        for folder in missing {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            self.give(&rustix::fs::open(folder, flags, Mode::empty())?, FOLDER)?;
        }
        Ok(())
    }
}
