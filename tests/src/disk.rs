//! A disk whose power can be cut: an ext4 file system in a file, through a loop device.
//!
//! Making one needs root, loop devices and `mkfs.ext4`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dir::Dir;

/// A mounted disk, gone when dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
    _dir: Dir,
}

impl Disk {
    /// An empty disk of so many bytes.
    pub fn new(bytes: u64) -> Disk {
        let dir = Dir::new("disk");
        let (image, at) = (dir.join("image"), dir.sub("mounted"));
        let file = File::create(&image).and_then(|file| file.set_len(bytes));
        file.unwrap_or_else(|e| panic!("{}: {e}", image.display()));
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        let disk = Disk {
            image,
            at,
            _dir: dir,
        };
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Has everything written that waits for it, as the kernel does by itself after a while.
    pub fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(&self.at));
    }

    /// Cuts the power, and gives it back: what was not written is lost, even from the journal. Nobody
    /// may have a file open there.
    pub fn cut(&self) {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
        let shutdown = "import fcntl, os, struct, sys\n\
                        fd = os.open(sys.argv[1], os.O_RDONLY)\n\
                        fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))";
        run(Command::new("python3").args(["-c", shutdown]).arg(&self.at));
        run(Command::new("umount").arg(&self.at));
        self.mount();
    }

    fn mount(&self) {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop"]).arg(&self.image).arg(&self.at));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, as a test that failed may still have somebody there.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn run(command: &mut Command) {
    let status = command.status();
    let status = status.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}
