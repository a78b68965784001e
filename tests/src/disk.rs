//! A disk that can lose power and fail: an ext4 file system in a file, mounted through a loop device.
//!
//! It needs root, loop devices and the programs of ext4.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::Advice;

use crate::dir::Dir;
use crate::process::program;
use crate::slow::SlowDisk;

/// A mounted disk, unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
    /// The file system of its image, if it has one of its own.
    store: Option<PathBuf>,
    _dir: Dir,
}

impl Disk {
    /// An empty disk of this many bytes.
    pub fn new(bytes: u64) -> Disk {
        Disk::made(Dir::new("disk"), bytes, None)
    }

    /// A disk that claims to have `bytes`, but keeps at most `room`. Writes beyond that fail later, when the kernel
    /// carries them out.
    pub fn of_little_room(bytes: u64, room: u64) -> Disk {
        let dir = Dir::new("disk");
        let store = dir.sub("store");
        let mut mount = Command::new("mount");
        let size = format!("size={room}");
        run(mount
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&store));
        Disk::made(dir, bytes, Some(store))
    }

    fn made(dir: Dir, bytes: u64, store: Option<PathBuf>) -> Disk {
        let image = match &store {
            Some(store) => store.join("image"),
            None => dir.join("image"),
        };
        let journal = store.is_none();
        Disk::at_image(image, dir, bytes, store, journal)
    }

    fn at_image(
        image: PathBuf,
        dir: Dir,
        bytes: u64,
        store: Option<PathBuf>,
        journal: bool,
    ) -> Disk {
        let at = dir.sub("mounted");
        let file = File::create(&image).and_then(|file| file.set_len(bytes));
        file.unwrap_or_else(|e| panic!("{}: {e}", image.display()));
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F"]);
        if !journal {
            // A failed write must not stop the file system.
            make.args(["-O", "^has_journal"]);
        }
        run(make.arg(&image));
        let disk = Disk {
            image,
            at,
            store,
            _dir: dir,
        };
        disk.mount();
        disk
    }

    /// A disk that does what it is told only when the disk that its image is on does: see [`SlowDisk`].
    pub fn behind(slow: &SlowDisk, bytes: u64) -> Disk {
        let dir = Dir::new("disk");
        Disk::at_image(slow.at().join("image"), dir, bytes, None, false)
    }

    /// Its mount point.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Writes everything that waits to be written, as the kernel does by itself after a while.
    pub fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(&self.at));
    }

    /// Gives a disk of little room this many bytes.
    pub fn make_room(&self, room: u64) {
        let store = self.store.as_ref().expect("a disk of little room");
        let size = format!("remount,size={room}");
        run(Command::new("mount").args(["-o", &size]).arg(store));
    }

    /// Makes reads fail from byte `from` of a file on, and for everything behind it on the disk.
    pub fn lose(&self, file: &Path, from: u64) {
        self.sync();
        let listed = Command::new("filefrag")
            .args(["-v", "-b1024"])
            .arg(file)
            .output();
        let listed = listed.unwrap_or_else(|e| panic!("filefrag: {e}"));
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let block = 1024;
        let extents = text.lines().filter_map(extent);
        let at = extents.filter_map(|(logical, physical, len)| {
            let within = (from / block).checked_sub(logical)?;
            (within < len).then_some((physical + within) * block)
        });
        let at = at.min().unwrap_or_else(|| panic!("where it is: {text}"));
        let image = File::options().write(true).open(&self.image);
        let cut = image.and_then(|image| image.set_len(at));
        cut.unwrap_or_else(|e| panic!("{}: {e}", self.image.display()));
        forget(file);
    }

    /// Cuts the power and restores it: what was not written is lost, even from the journal. Nobody may have a file
    /// open there.
    pub fn cut(&self) {
        self.shut_down();
        run(Command::new("umount").arg(&self.at));
        self.mount();
    }

    fn shut_down(&self) {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
        let shutdown = "import fcntl, os, struct, sys\n\
                        fd = os.open(sys.argv[1], os.O_RDONLY)\n\
                        fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))";
        run(Command::new("python3").args(["-c", shutdown]).arg(&self.at));
    }

    /// Unmounts it, as a person does who wants to take it away; whether that works.
    pub fn eject(&self) -> bool {
        let tried = Command::new("umount").arg(&self.at).output();
        tried.is_ok_and(|done| done.status.success())
    }

    /// Pulls its plug, whoever uses it.
    pub fn unplug(&self) {
        self.shut_down();
        run(Command::new("umount").arg("-l").arg(&self.at));
    }

    /// Mounts it again, as another device.
    pub fn plug_in(&self) {
        self.mount();
    }

    /// Fills it, and answers with the file that takes the room.
    pub fn fill(&self) -> PathBuf {
        let path = self.at.join("fill");
        let mut file = File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for len in [1 << 16, 1 << 10, 1] {
            while std::io::Write::write_all(&mut file, &vec![1; len]).is_ok() {}
        }
        path
    }

    fn mount(&self) {
        // Not `mount -o loop`, which takes the former device again while anybody has something of it open.
        let device = attach(&self.image);
        run(Command::new("mount").arg(&device).arg(&self.at));
        // It goes with the last who uses it.
        run(Command::new(program("losetup", "mount"))
            .arg("-d")
            .arg(&device));
    }
}

/// A disk of exFAT, which refuses names and has no sparse files, gone when dropped.
#[derive(Debug)]
pub struct Exfat {
    at: PathBuf,
    device: String,
    _dir: Dir,
}

impl Exfat {
    /// An empty one of so many bytes.
    pub fn new(bytes: u64) -> Exfat {
        let dir = Dir::new("exfat");
        let (image, at) = (dir.join("image"), dir.sub("mounted"));
        let file = File::create(&image).and_then(|file| file.set_len(bytes));
        file.unwrap_or_else(|e| panic!("{}: {e}", image.display()));
        run(Command::new(program("mkfs.exfat", "exfatprogs"))
            .arg(&image)
            .stdout(Stdio::null()));
        // It mounts block devices only.
        let device = attach(&image);
        let disk = Exfat {
            at,
            device,
            _dir: dir,
        };
        run(Command::new(program("mount.exfat-fuse", "exfat-fuse"))
            .arg(&disk.device)
            .arg(&disk.at)
            .stdout(Stdio::null())
            .stderr(Stdio::null()));
        disk
    }

    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }
}

impl Drop for Exfat {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A lazy unmount, because a failed test may still have files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        if let Some(store) = &self.store {
            let _ = Command::new("umount").arg("-l").arg(store).status();
        }
    }
}

/// Makes a device of an image.
fn attach(image: &Path) -> String {
    let mut setup = Command::new(program("losetup", "mount"));
    let device = setup.args(["-f", "--show"]).arg(image).output();
    let device = device.unwrap_or_else(|e| panic!("losetup: {e}"));
    let name = String::from_utf8_lossy(&device.stdout).trim().to_owned();
    assert!(device.status.success(), "losetup: {device:?}");
    name
}

/// Makes the kernel drop its pages of a file, so that it is read from the disk.
pub fn forget(file: &Path) {
    let open = File::open(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    // An error of an earlier write does not matter here.
    let _ = rustix::fs::fdatasync(&open);
    let forgotten = rustix::fs::fadvise(&open, 0, None, Advice::DontNeed);
    forgotten.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

/// The extent in a line of `filefrag -v`: offset in the file, offset on the disk, length in blocks.
fn extent(line: &str) -> Option<(u64, u64, u64)> {
    let mut columns = line.split(':').map(str::trim);
    let _number: u64 = columns.next()?.parse().ok()?;
    let first = |range: &str| range.split("..").next()?.trim().parse().ok();
    let (logical, physical) = (first(columns.next()?)?, first(columns.next()?)?);
    Some((logical, physical, columns.next()?.parse().ok()?))
}

fn run(command: &mut Command) {
    let status = command.status();
    let status = status.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}
