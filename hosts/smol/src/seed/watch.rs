//! What is in a watched folder, and whether it is still being written.
//!
//! A folder is read again only when its time of change says so, for as long as nothing in it is new,
//! so that a disk that nobody uses stays asleep.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::catalogue::Mark;
use crate::place::{Found, Place};

/// A folder that is watched.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) folder: PathBuf,
    /// On which disk it was.
    place: Option<Place>,
    /// Its time of change when it was read.
    changed: Option<Mark>,
    /// Looks since it changed.
    looks: u32,
    /// How often it was read.
    reads: u32,
    /// What was said about it last.
    pub(super) said: String,
    /// Whether there are torrents in it that were not taken in yet.
    pub(super) has_more_torrents: bool,
    /// How much in it belongs to torrents that are not there, as it was said last.
    pub(super) left_out: usize,
}

impl Watch {
    pub(super) fn new(folder: PathBuf) -> Watch {
        Watch {
            folder,
            place: None,
            changed: None,
            looks: 0,
            reads: 0,
            said: String::new(),
            has_more_torrents: false,
            left_out: 0,
        }
    }

    /// Whether the folder is to be read: it has changed, or `restless` says so.
    ///
    /// # Errors
    /// If it is not there, which says nothing about what is in it.
    pub(super) fn is_due(&mut self, restless: bool) -> Result<bool, String> {
        let shown = self.folder.display();
        match Place::look(&self.folder, self.place.as_ref()) {
            Found::There(place) => self.place = Some(place),
            Found::NotMounted(mount) | Found::Another(mount) => {
                self.changed = None;
                return Err(format!(
                    "{shown}: {} is not mounted; it is waited for",
                    mount.display()
                ));
            }
        }
        let there = self.folder.metadata().map_err(|e| self.failed(&e))?;
        let mark = mark(&there);
        if self.changed != Some(mark) {
            self.changed = Some(mark);
            self.looks = 0;
        }
        // Once more than needed, as a change just after a look may have the time of that look.
        self.looks = self.looks.saturating_add(1);
        Ok(self.looks <= 2 || restless)
    }

    /// Names everything that is in it, in no order. An error of `each` ends it.
    pub(super) fn read(
        &mut self,
        mut each: impl FnMut(PathBuf) -> io::Result<()>,
    ) -> Result<(), String> {
        for entry in fs::read_dir(&self.folder).map_err(|e| self.failed(&e))? {
            let path = entry.map_err(|e| self.failed(&e))?.path();
            if is_wanted(&path) {
                each(path).map_err(|e| self.failed(&e))?;
            }
        }
        self.reads = self.reads.saturating_add(1);
        Ok(())
    }

    /// Whether it was ever read.
    pub(super) fn is_read(&self) -> bool {
        self.reads > 0
    }

    /// Whether it was read before this time.
    pub(super) fn was_read(&self) -> bool {
        self.reads > 1
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("{}: {error}; it is waited for", self.folder.display())
    }
}

/// Whether a name is not that of something unfinished or hidden.
fn is_wanted(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let lower = name.to_ascii_lowercase();
    let unfinished = UNFINISHED.iter().any(|end| lower.ends_with(end));
    !name.starts_with('.') && !unfinished && lower != "lost+found"
}

const UNFINISHED: &[&str] = &[
    ".part",
    ".tmp",
    ".temp",
    "~",
    ".crdownload",
    ".filepart",
    ".!qb",
    ".aria2",
    ".added",
];

/// How something looks now, files in folders included; `None` if it is gone, or `given_up` says so.
pub(super) fn settle_mark(path: &Path, given_up: impl Fn() -> bool) -> Option<Mark> {
    look(path, given_up).map(|(mark, _)| mark)
}

/// How a link looks itself.
pub(super) fn look_at_link(path: &Path) -> Option<Seen> {
    let there = fs::symlink_metadata(path).ok()?;
    Some((mark(&there), (there.ctime(), there.ctime_nsec())))
}

/// How something looks, and when it changed last, in seconds and nanoseconds since 1970.
pub(super) type Seen = (Mark, (i64, i64));

/// The same, and when any of it changed last, in seconds and nanoseconds since 1970: by the time that only the
/// kernel sets, as programs give a file its former time when they have copied it.
pub(super) fn look(path: &Path, given_up: impl Fn() -> bool) -> Option<Seen> {
    let top = fs::metadata(path).ok()?;
    let mut sum = mark(&top);
    let mut changed = (top.ctime(), top.ctime_nsec());
    if !top.is_dir() {
        return Some((sum, changed));
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            if given_up() {
                return None;
            }
            let Ok(there) = entry.metadata() else {
                continue;
            };
            let (len, s, ns, _) = mark(&there);
            sum.0 = sum.0.wrapping_add(len);
            (sum.1, sum.2) = (sum.1, sum.2).max((s, ns));
            sum.3 += 1;
            changed = changed.max((there.ctime(), there.ctime_nsec()));
            if there.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Some((sum, changed))
}

/// The same without what is inside of a folder.
pub(super) fn mark(there: &Metadata) -> Mark {
    (there.len(), there.mtime(), there.mtime_nsec(), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, wanted) in [
            ("film.mkv", true),
            ("x.torrent", true),
            (".hidden", false),
            ("film.mkv.part", false),
            ("FILM.TMP", false),
            ("lost+found", false),
        ] {
            assert_eq!(is_wanted(&Path::new("/a").join(name)), wanted, "{name}");
        }
    }

    #[test]
    fn a_folder_is_read_when_it_changed() {
        let path = std::env::temp_dir().join(format!("everseed-watch-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let mut watch = Watch::new(path.clone());
        assert!(watch.is_due(false).is_err());
        fs::create_dir_all(&path).unwrap();
        for due in [true, true, false] {
            assert_eq!(watch.is_due(false), Ok(due));
        }
        fs::write(path.join("a"), "1").unwrap();
        for (restless, due) in [(false, true), (true, true), (true, true), (false, false)] {
            assert_eq!(watch.is_due(restless), Ok(due));
        }
        let mut found = Vec::new();
        let found_all = watch.read(|path| {
            found.push(path);
            Ok(())
        });
        found_all.unwrap();
        assert_eq!(found, [path.join("a")]);
        let before = settle_mark(&path, || false);
        fs::write(path.join("a"), "12").unwrap();
        assert_ne!(settle_mark(&path, || false), before);
        assert_eq!(settle_mark(&path, || true), None);
        fs::remove_dir_all(&path).unwrap();
        assert!(watch.is_due(false).is_err() && watch.read(|_| Ok(())).is_err());
        assert_eq!(settle_mark(&path, || false), None);
    }
}
