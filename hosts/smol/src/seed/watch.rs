//! What is in a watched folder, and whether it is still being written.
//!
//! A folder is read again only when its time of change says so, for as long as nothing in it is new,
//! so that a disk that nobody uses stays asleep.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::place::{Found, Place};

/// A folder that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) folder: PathBuf,
    /// On which disk it was.
    place: Option<Place>,
    /// Its time of change when it was read.
    changed: Option<Mark>,
    /// Looks since it changed.
    looks: u32,
    /// What was said about it last.
    pub(super) said: String,
}

/// What tells whether something was changed: its length, time of change and number of files.
pub(super) type Mark = (u64, i64, i64, u64);

impl Watch {
    pub(super) fn new(folder: PathBuf) -> Watch {
        Watch {
            folder,
            place: None,
            changed: None,
            looks: 0,
            said: String::new(),
        }
    }

    /// What is in the folder; `None` if that is as it was. `restless` reads it in any case.
    ///
    /// # Errors
    /// If it is not there, which says nothing about what is in it.
    pub(super) fn look(&mut self, restless: bool) -> Result<Option<Vec<PathBuf>>, String> {
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
        let failed = |error| format!("{shown}: {error}; it is waited for");
        let mark = mark(&self.folder.metadata().map_err(failed)?);
        if self.changed != Some(mark) {
            self.changed = Some(mark);
            self.looks = 0;
        }
        // Once more than needed, as a change just after a look may have the time of that look.
        self.looks = self.looks.saturating_add(1);
        if self.looks > 2 && !restless {
            return Ok(None);
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if is_wanted(&path) {
                found.push(path);
            }
        }
        found.sort();
        Ok(Some(found))
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

/// How something looks now, files in folders included; `None` if it is gone.
pub(super) fn settle_mark(path: &Path) -> Option<Mark> {
    let top = fs::metadata(path).ok()?;
    let mut sum = mark(&top);
    if !top.is_dir() {
        return Some(sum);
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let Ok(there) = entry.metadata() else {
                continue;
            };
            let (len, s, ns, _) = mark(&there);
            sum.0 = sum.0.wrapping_add(len);
            (sum.1, sum.2) = (sum.1, sum.2).max((s, ns));
            sum.3 += 1;
            if there.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Some(sum)
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
        assert!(watch.look(false).is_err());
        fs::create_dir_all(&path).unwrap();
        assert_eq!(watch.look(false), Ok(Some(vec![])));
        assert_eq!(watch.look(false), Ok(Some(vec![])));
        assert_eq!(watch.look(false), Ok(None));
        fs::write(path.join("a"), "1").unwrap();
        let all = Some(vec![path.join("a")]);
        assert_eq!(watch.look(false), Ok(all.clone()));
        assert_eq!(watch.look(true), Ok(all.clone()));
        assert_eq!(watch.look(false), Ok(None));
        let before = settle_mark(&path);
        fs::write(path.join("a"), "12").unwrap();
        assert_ne!(settle_mark(&path), before);
        fs::remove_dir_all(&path).unwrap();
        assert!(watch.look(false).is_err());
        assert_eq!(settle_mark(&path), None);
    }
}
