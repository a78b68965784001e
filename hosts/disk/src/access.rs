//! Who else may read and write the files and folders that we make.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, fchmod, fchown, fstat};
use rustix::io::Errno;

/// What is made gets this, and nothing that was there before does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Permissions that are taken away; otherwise those of the process.
    pub umask: Option<u32>,
    /// The number of the group; otherwise what the system gives.
    pub group: Option<u32>,
}

/// What a file and a folder have before anything is taken away.
pub(crate) const FILE: u32 = 0o666;
pub(crate) const FOLDER: u32 = 0o777;

impl Access {
    /// Gives it to what was made a moment ago. A file system that knows no owners, like FAT, has its own for all.
    pub(crate) fn give(self, made: &OwnedFd, mode: u32) -> Result<(), Errno> {
        let ignored = |error| match error {
            Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => Ok(()),
            error => Err(error),
        };
        if let Some(group) = self.group {
            fchown(made, None, Some(Gid::from_raw(group))).or_else(ignored)?;
        }
        if let Some(umask) = self.umask {
            // A folder of a group hands its group on by a bit that stays.
            let kept =
                Mode::from_raw_mode(fstat(made)?.st_mode) & (Mode::SUID | Mode::SGID | Mode::SVTX);
            let mode = Mode::from_raw_mode(mode & !umask) | kept;
            fchmod(made, mode).or_else(ignored)?;
        }
        Ok(())
    }

    /// Makes a folder that the owner named, and those on its way.
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
