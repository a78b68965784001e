//! Fingerprints of a torrent's files: whether they may have changed since they were checked.

use everseed_core::hash::Sha1;
use everseed_core::metainfo::FileKind;
use rustix::fs::Stat;
use rustix::time::{ClockId, clock_gettime};

use crate::content::Content;
use crate::error::ReadError;
use crate::hash::Fast;

/// A digest of the files' sizes, times and inodes. As long as it stays the same, verified pieces need no second
/// check.
///
/// The inode's time is the last change of any kind, and nobody can set it back. Inode numbers count only where they
/// last: FAT and some network file systems number anew at each mount.
///
/// While a change may not show in them, see `Marker::is_too_new`, they have another fingerprint than later. So what was
/// checked then is checked again.
pub fn fingerprint(content: &Content) -> Result<u64, ReadError> {
    let marker = Marker::of(content);
    digest(content, |sha1, stat| marker.add(sha1, stat))
}

/// The digest as version 0.1.0 made it, of sizes and content times alone. The pieces were verified then, but may have
/// been changed since with the time set back.
pub fn first_fingerprint(content: &Content) -> Result<u64, ReadError> {
    digest(content, add_content)
}

/// What it takes to add files to a digest.
pub(crate) struct Marker {
    /// Whether the file system gives a file the same inode number after the next mount.
    numbered: bool,
    /// The time of day in seconds, unless it is everseed that writes.
    now_s: Option<i64>,
}

impl Marker {
    pub(crate) fn of(content: &Content) -> Marker {
        // The type of the field differs between architectures.
        #[allow(clippy::useless_conversion)]
        let now = || clock_gettime(ClockId::Realtime).tv_sec.into();
        Marker {
            numbered: keeps_numbers(content),
            now_s: (!content.is_growing()).then(now),
        }
    }

    /// Adds a file's size and times, and its inode's number if that lasts.
    pub(crate) fn add(&self, sha1: &mut Fast, stat: Option<&Stat>) {
        add_content(sha1, stat);
        let Some(stat) = stat else {
            return;
        };
        sha1.update(&[2]);
        sha1.update(&stat.st_ctime.to_le_bytes());
        sha1.update(&stat.st_ctime_nsec.to_le_bytes());
        if self.numbered {
            sha1.update(&stat.st_ino.to_le_bytes());
        }
        if self.is_too_new(stat) {
            sha1.update(&[3]);
        }
    }

    /// Whether a change may leave the file's times as they are: they are whole seconds, as FAT keeps every other one,
    /// and those are not over.
    // The type of the fields differs between architectures.
    #[allow(clippy::useless_conversion)]
    fn is_too_new(&self, stat: &Stat) -> bool {
        let is_whole = stat.st_mtime_nsec == 0 && stat.st_ctime_nsec == 0;
        let times: [i64; 2] = [stat.st_mtime.into(), stat.st_ctime.into()];
        let is_now = |now: i64| times.iter().any(|time| time.abs_diff(now) <= WHOLE_S);
        is_whole && self.now_s.is_some_and(is_now)
    }
}

/// The longest time in seconds in which file systems see no second change.
const WHOLE_S: u64 = 2;

fn keeps_numbers(content: &Content) -> bool {
    // The type of the field differs between architectures.
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation
    )]
    let kind = rustix::fs::statfs(content.folder()).map_or(0, |stat| stat.f_type as u32);
    NUMBERED.contains(&kind)
}

/// The magic numbers of ext2 to ext4, XFS, Btrfs, F2FS, ZFS, UBIFS, JFFS2, tmpfs and NFS.
const NUMBERED: [u32; 9] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0x2405_1905,
    0x72b6,
    0x0102_1994,
    0x6969,
];

fn digest(content: &Content, add: impl Fn(&mut Fast, Option<&Stat>)) -> Result<u64, ReadError> {
    let mut sha1 = Fast::default();
    let is_bare = content.is_bare();
    for entry in content.entries()? {
        let entry = entry.map_err(|error| content.torrent_error(error))?;
        if entry.kind == FileKind::Data {
            let there = (!is_bare).then(|| content.stat(&entry)).flatten();
            add(&mut sha1, there.as_ref());
        }
    }
    Ok(short(sha1))
}

/// Of a file its content's size and time, or that it is not there.
fn add_content(sha1: &mut Fast, stat: Option<&Stat>) {
    match stat {
        Some(stat) => {
            sha1.update(&[1]);
            sha1.update(&stat.st_size.to_le_bytes());
            sha1.update(&stat.st_mtime.to_le_bytes());
            sha1.update(&stat.st_mtime_nsec.to_le_bytes());
        }
        None => sha1.update(&[0]),
    }
}

/// The first eight bytes of a hash.
pub(crate) fn short(sha1: Fast) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = sha1.finish();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where times are whole seconds, a file that was changed just now looks otherwise when those are over.
    #[test]
    fn what_changed_in_this_second_looks_otherwise_later() {
        // The types of the fields differ between architectures.
        #[allow(clippy::useless_conversion)]
        let looks_otherwise = |(changed_s, ns): (i64, u64), now_s| {
            let mut stat = rustix::fs::stat("/").unwrap();
            (stat.st_mtime, stat.st_mtime_nsec) = (0, 0);
            stat.st_ctime = changed_s.try_into().unwrap();
            stat.st_ctime_nsec = ns.try_into().unwrap();
            let mark = |now_s| {
                let (mut sha1, numbered) = (Fast::default(), true);
                Marker { numbered, now_s }.add(&mut sha1, Some(&stat));
                short(sha1)
            };
            mark(now_s) != mark(Some(5000))
        };
        assert!(looks_otherwise((1000, 0), Some(1000)));
        assert!(looks_otherwise((1000, 0), Some(1002)));
        assert!(!looks_otherwise((1000, 0), Some(1003)));
        // Times that are finer; everseed's own writing; a clock that was set since.
        assert!(!looks_otherwise((1000, 4_000_000), Some(1000)));
        assert!(!looks_otherwise((1000, 0), None));
        assert!(!looks_otherwise((1000, 0), Some(7)));
    }
}
