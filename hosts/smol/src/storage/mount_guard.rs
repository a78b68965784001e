//! The mount guard: remembers the disk of each content, so that an unmounted disk is not taken for an empty one.
//!
//! Invariant: nothing is made or written at a place that was on a mounted disk before and is not now. A place is
//! known by its mount point and the id of its file system. The id alone is not enough: some file systems derive it
//! from the device number, which changes with the slot into which the disk is plugged.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{fstatfs, statvfs};

/// The mount of a path: its mount point and file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MountId {
    /// The mount point.
    pub(crate) mount: PathBuf,
    /// The file system's own id, if it has one.
    pub(crate) id: u64,
}

/// The present state of a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum MountState {
    /// As it should be; this is to be remembered.
    There(MountId),
    /// The file system of this mount point is not mounted.
    NotMounted(PathBuf),
    /// Another file system is mounted at this mount point.
    Another(PathBuf),
}

impl MountId {
    /// The mount of `path` now; `path` need not exist.
    pub(crate) fn of(path: &Path) -> MountId {
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mount = mounted_at(&mounts, &resolve(path));
        let id = statvfs(&mount).map_or(0, |stat| stat.f_fsid);
        MountId { mount, id }
    }

    /// Whether what was at `path` when `before` was remembered can be there now.
    pub(crate) fn look(path: &Path, before: Option<&MountId>) -> MountState {
        let now = MountId::of(path);
        let fstab = std::fs::read("/etc/fstab").unwrap_or_default();
        judge(path, before, now, &fstab)
    }

    /// Whether something is mounted at its mount point. The kernel tells, so nobody waits for a disk that hangs.
    pub(crate) fn is_mounted(&self) -> bool {
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        // Behind a changed root nothing may be mounted there.
        self.mount == Path::new("/") || mount_points(&mounts, 4).any(|point| point == self.mount)
    }

    /// The text for the state: the mount, and the path `path` that lies on it.
    pub(crate) fn encode(&self, path: &Path) -> Vec<u8> {
        let head = format!("{:016x} ", self.id);
        let (mount, path) = (self.mount.as_os_str(), absolute(path));
        let path = path.as_os_str().as_bytes();
        [head.as_bytes(), mount.as_bytes(), b"\0", path].concat()
    }

    /// Whether bytes have the form of [`encode`](Self::encode).
    pub(crate) fn is_whole(bytes: &[u8]) -> bool {
        let id = bytes.split_at_checked(16).map(|(id, _)| id);
        let id = id.and_then(|id| std::str::from_utf8(id).ok());
        id.is_some_and(|id| u64::from_str_radix(id, 16).is_ok()) && bytes.get(16) == Some(&b' ')
    }

    /// Decodes the text. `None` also if it is about a path that is neither `path` nor beneath it: who names another
    /// folder does not want the content of the former one.
    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Option<MountId> {
        let (id, rest) = bytes.split_at_checked(16)?;
        let id = u64::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()?;
        let mut rest = rest.strip_prefix(b" ")?.splitn(2, |byte| *byte == 0);
        let mount = OsStr::from_bytes(rest.next()?);
        let lay = rest.next().map(|lay| Path::new(OsStr::from_bytes(lay)));
        if lay.is_some_and(|lay| !lay.starts_with(absolute(path))) {
            return None;
        }
        Some(MountId {
            mount: PathBuf::from(mount),
            id,
        })
    }
}

fn judge(path: &Path, before: Option<&MountId>, now: MountId, fstab: &[u8]) -> MountState {
    let resolved = resolve(path);
    let expected = covering(mount_points(fstab, 1), &resolved);
    if let Some(expected) = expected
        && expected != now.mount
        && !now.mount.starts_with(&expected)
    {
        return MountState::NotMounted(expected);
    }
    match before {
        Some(before) if before.mount != now.mount && before.mount.starts_with(&now.mount) => {
            MountState::NotMounted(before.mount.clone())
        }
        Some(before) if *before != now && path.symlink_metadata().is_err() => {
            MountState::Another(now.mount)
        }
        _ => MountState::There(now),
    }
}

/// The id of the device that holds `folder`; it stays while the device is mounted.
pub(crate) fn device(folder: &Path) -> Option<u64> {
    // The type of the field differs between architectures.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    rustix::fs::stat(folder)
        .ok()
        .map(|there| there.st_dev as u64)
}

/// Whether a folder lies in memory, and so is gone after a reboot.
pub(crate) fn is_in_ram(folder: &std::fs::File) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    // The type of the field differs between architectures.
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
    let kind = fstatfs(folder).map_or(0, |stat| stat.f_type as u64 & 0xffff_ffff);
    kind == TMPFS || kind == RAMFS
}

/// The absolute path. Links stay in it, because they may lead to a disk that is absent.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The path without links, as far as it exists.
fn resolve(path: &Path) -> PathBuf {
    let mut missing: Vec<OsString> = Vec::new();
    let mut here = path.to_owned();
    loop {
        if let Ok(real) = here.canonicalize() {
            return missing
                .iter()
                .rev()
                .fold(real, |path, name| path.join(name));
        }
        match (here.file_name().map(OsStr::to_owned), here.parent()) {
            (Some(name), Some(parent)) => {
                missing.push(name);
                here = parent.to_owned();
            }
            _ => return path.to_owned(),
        }
    }
}

/// The mount point of the file system that holds `path`. A service manager that protects a service mounts folders
/// onto themselves; such a mount cannot be missing and does not count.
fn mounted_at(mountinfo: &[u8], path: &Path) -> PathBuf {
    let mut here = path;
    loop {
        let Some(mount) = deepest(mountinfo, here) else {
            return PathBuf::from("/");
        };
        let above = mount.point.parent();
        let outer = above.and_then(|above| deepest(mountinfo, above));
        match (&outer, above) {
            (Some(outer), Some(above)) if mount.is_onto_itself(outer) => {
                here = path
                    .ancestors()
                    .find(|part| *part == above)
                    .unwrap_or(Path::new("/"));
            }
            _ => return mount.point,
        }
    }
}

/// A line of /proc/self/mountinfo.
struct Mount {
    device: Vec<u8>,
    /// The folder of the file system that is mounted there.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    fn is_onto_itself(&self, outer: &Mount) -> bool {
        let beneath = self.point.strip_prefix(&outer.point);
        self.device == outer.device
            && beneath.is_ok_and(|beneath| outer.root.join(beneath) == self.root)
    }
}

fn deepest(mountinfo: &[u8], path: &Path) -> Option<Mount> {
    let mut best: Option<Mount> = None;
    for line in mountinfo.split(|b| *b == b'\n') {
        let mut fields = line.split(|b| *b == b' ').skip(2);
        let (Some(device), Some(root), Some(point)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let point = unescape(point);
        // Of two mounts at the same point the later one covers the earlier.
        let deeper = |best: &Mount| point.starts_with(&best.point);
        if path.starts_with(&point) && best.as_ref().is_none_or(deeper) {
            best = Some(Mount {
                device: device.to_owned(),
                root: unescape(root),
                point,
            });
        }
    }
    best
}

/// The mount points in this column of a table such as /etc/fstab.
fn mount_points(table: &[u8], column: usize) -> impl Iterator<Item = PathBuf> {
    let lines = table.split(|b| *b == b'\n');
    let lines = lines.filter(|line| !line.trim_ascii().starts_with(b"#"));
    lines.filter_map(move |line| {
        let mut fields = line
            .split(|b| b.is_ascii_whitespace())
            .filter(|field| !field.is_empty());
        let field = fields.nth(column)?;
        field.starts_with(b"/").then(|| unescape(field))
    })
}

/// The deepest mount point above `path`.
fn covering(mounts: impl Iterator<Item = PathBuf>, path: &Path) -> Option<PathBuf> {
    let over = mounts.filter(|mount| path.starts_with(mount));
    over.max_by_key(|mount| mount.components().count())
}

/// Decodes a field of these tables, where blanks and some other bytes are octal numbers: `\040`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_point() {
        let mounts = b"22 1 0:21 / / rw - ext4 /dev/a rw\n\
            23 22 0:22 / /mnt rw - ext4 /dev/b rw\n\
            24 23 0:23 / /mnt/my\\040disk rw - vfat /dev/c rw\n";
        let of = |path: &str| mounted_at(mounts, Path::new(path));
        assert_eq!(of("/srv/x"), Path::new("/"));
        assert_eq!(of("/mnt/x"), Path::new("/mnt"));
        assert_eq!(of("/mntx"), Path::new("/"));
        assert_eq!(of("/mnt/my disk/film"), Path::new("/mnt/my disk"));
        // A folder that is mounted onto itself, another folder, and a disk onto itself.
        let mounts = b"22 1 0:21 / / rw - ext4 /dev/a rw\n\
            23 22 0:21 /srv/share /srv/share rw - ext4 /dev/a rw\n\
            24 22 0:21 /other /srv/more rw - ext4 /dev/a rw\n\
            25 22 0:22 / /mnt rw - ext4 /dev/b rw\n\
            26 25 0:22 / /mnt rw - ext4 /dev/b rw\n";
        let of = |path: &str| mounted_at(mounts, Path::new(path));
        assert_eq!(of("/srv/share/x"), Path::new("/"));
        assert_eq!(of("/srv/more/x"), Path::new("/srv/more"));
        assert_eq!(of("/mnt/x"), Path::new("/mnt"));
        let fstab = b"# comment /x\nUUID=1 /nowhere/usb ext4 noauto 0 2\nswap none swap\n";
        let of = |path: &str| covering(mount_points(fstab, 1), Path::new(path));
        assert_eq!(of("/nowhere/usb/a"), Some("/nowhere/usb".into()));
        assert_eq!(of("/srv"), None);
    }

    #[test]
    fn judgements() {
        let place = |mount: &str, id| MountId {
            mount: mount.into(),
            id,
        };
        let gone = Path::new("/nowhere/usb/film");
        let there = Path::new("/");
        let table = [
            // Never seen before, and nothing says where it should be.
            (
                gone,
                None,
                place("/", 1),
                "",
                MountState::There(place("/", 1)),
            ),
            // The table of disks says so.
            (
                gone,
                None,
                place("/", 1),
                "x /nowhere/usb ext4",
                MountState::NotMounted("/nowhere/usb".into()),
            ),
            (
                gone,
                None,
                place("/nowhere/usb", 2),
                "x /nowhere/usb ext4",
                MountState::There(place("/nowhere/usb", 2)),
            ),
            // It was on a disk.
            (
                gone,
                Some(place("/nowhere/usb", 2)),
                place("/", 1),
                "",
                MountState::NotMounted("/nowhere/usb".into()),
            ),
            // Another disk without it.
            (
                gone,
                Some(place("/nowhere/usb", 2)),
                place("/nowhere/usb", 3),
                "",
                MountState::Another("/nowhere/usb".into()),
            ),
            // Another id, but it is there.
            (
                there,
                Some(place("/", 2)),
                place("/", 3),
                "",
                MountState::There(place("/", 3)),
            ),
        ];
        for (path, before, now, fstab, found) in table {
            assert_eq!(judge(path, before.as_ref(), now, fstab.as_bytes()), found);
        }
    }

    #[test]
    fn what_is_mounted() {
        for (mount, mounted) in [("/", true), ("/proc", true), ("/nowhere/usb", false)] {
            let (mount, id) = (mount.into(), 1);
            assert_eq!(MountId { mount, id }.is_mounted(), mounted);
        }
    }

    #[test]
    fn kept_as_text() {
        let place = MountId {
            mount: "/mnt/my disk".into(),
            id: 7,
        };
        let path = Path::new("/mnt/my disk/films/film");
        let text = place.encode(path);
        for (at, known) in [
            ("/mnt/my disk/films/film", true),
            ("/mnt/my disk/films", true),
            ("/mnt/my disk/film", false),
            ("/srv/film", false),
        ] {
            let place = known.then(|| place.clone());
            assert_eq!(MountId::decode(&text, Path::new(at)), place, "{at}");
        }
        let before = b"0000000000000007 /mnt/my disk";
        assert_eq!(MountId::decode(before, path), Some(place));
        assert_eq!(MountId::decode(b"xyz", path), None);
    }
}
