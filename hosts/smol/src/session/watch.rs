//! A watched folder: when it has to be read, and what is still being written in it.
//!
//! A folder is read again when its time of change differs, and as long as something in it is new. Not every file
//! system keeps that time. So the names are read at every third look anyway, and at each look once they told
//! something that the time did not. Files that cannot be used are looked at then, too, as a file that is mended in place
//! changes neither. Folders that are read so often stay in the kernel's memory, so the disk may sleep.

use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use everseed_disk::{is_state, is_unwanted, state_of};

use crate::storage::dormant::Mark;
use crate::storage::mount_guard::{MountId, MountState};

/// A watched folder.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) folder: PathBuf,
    /// The state and the configuration, which are shared with nobody.
    secret: Vec<PathBuf>,
    /// The mount of the folder.
    place: Option<MountId>,
    /// Its mark when it was last read.
    changed: Option<Mark>,
    /// Number of looks since it changed.
    looks: u32,
    /// Number of times that it was read.
    reads: u32,
    /// The names in it at the last read.
    names: Option<Names>,
    /// Whether names changed while its time of change stayed.
    is_without_times: bool,
    /// The last message about it.
    pub(super) last_message: String,
    /// Whether it holds torrents that were not added yet.
    pub(super) has_more_torrents: bool,
    /// The logged number of paths that belong to absent torrents.
    pub(super) left_out: usize,
}

impl Watch {
    /// A watch of `folder`, where the state and the configuration may lie too.
    pub(super) fn new(folder: PathBuf, secret: Vec<PathBuf>) -> Watch {
        Watch {
            folder,
            secret,
            place: None,
            changed: None,
            looks: 0,
            reads: 0,
            names: None,
            is_without_times: false,
            last_message: String::new(),
            has_more_torrents: false,
            left_out: 0,
        }
    }

    /// Whether the folder has to be read: it has changed, or `restless` asks for it, or a file was `mended` in place.
    ///
    /// # Errors
    /// If the folder is not there. That says nothing about its contents.
    pub(super) fn is_due(
        &mut self,
        restless: bool,
        mended: impl FnOnce() -> bool,
    ) -> Result<bool, String> {
        let shown = self.folder.display();
        match MountId::look(&self.folder, self.place.as_ref()) {
            MountState::There(place) => self.place = Some(place),
            MountState::NotMounted(mount) | MountState::Another(mount) => {
                self.changed = None;
                return Err(format!(
                    "{shown}: {} is not mounted; it is waited for",
                    mount.display()
                ));
            }
        }
        if state_of(&self.folder).is_some() {
            return Err(format!("{shown}: {IS_SECRET}"));
        }
        let there = self.folder.metadata().map_err(|e| self.failed(&e))?;
        let mark = mark(&there);
        if self.changed != Some(mark) {
            self.changed = Some(mark);
            self.looks = 0;
        }
        // Once more than needed, because a change just after a look may have the time of that look.
        self.looks = self.looks.saturating_add(1);
        if self.looks <= 2 || restless {
            return Ok(true);
        }
        if !self.is_without_times && !self.looks.is_multiple_of(NAMES_EVERY) {
            return Ok(false);
        }
        let names = self.list(|_| Ok(()))?;
        let differ = self.names.is_some_and(|before| before != names);
        if differ && !self.is_without_times {
            log::info!(
                "{shown}: its time of change does not tell what comes and goes, so it is read every time"
            );
            self.is_without_times = true;
        }
        Ok(differ || mended())
    }

    /// Calls `each` with everything in the folder, in no order. An error of `each` ends it.
    pub(super) fn read(
        &mut self,
        each: impl FnMut(PathBuf) -> io::Result<()>,
    ) -> Result<(), String> {
        self.names = Some(self.list(each)?);
        self.reads = self.reads.saturating_add(1);
        Ok(())
    }

    fn list(&self, mut each: impl FnMut(PathBuf) -> io::Result<()>) -> Result<Names, String> {
        let mut names = Names::default();
        for entry in fs::read_dir(&self.folder).map_err(|e| self.failed(&e))? {
            let path = entry.map_err(|e| self.failed(&e))?.path();
            if is_wanted(&path) && !self.secret.contains(&path) {
                names.add(&path);
                each(path).map_err(|e| self.failed(&e))?;
            }
        }
        Ok(names)
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

/// The set of names in a folder: their number, and the sum of their hashes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Names(usize, u64);

impl Names {
    fn add(&mut self, path: &Path) {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        self.0 += 1;
        self.1 = self.1.wrapping_add(hasher.finish());
    }
}

/// Why a state is not watched.
pub(super) const IS_SECRET: &str =
    "it belongs to the state of everseed, where passkeys are, so nothing in it is shared";

/// The names are read at one in this many looks, which come every ten seconds.
pub(super) const NAMES_EVERY: u32 = 3;

/// Whether a name does not look unfinished, hidden, or like what nobody wants to share: a recycle bin, say, or the
/// configuration, where passkeys may be.
fn is_wanted(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let lower = name.to_string_lossy().to_ascii_lowercase();
    let left_over = LEFT_OVER.iter().any(|end| lower.ends_with(end));
    let unwanted = is_unwanted(name, false) || is_unwanted(name, true) || lower == "everseed.toml";
    !lower.starts_with('.') && !left_over && !unwanted
}

/// Ends of names of temporary files, and of torrent files that another program has taken or refused.
const LEFT_OVER: &[&str] = &[
    ".tmp",
    ".temp",
    "~",
    ".added",
    ".torrent.loaded",
    ".torrent.imported",
    ".torrent.invalid",
    ".torrent.qbt_rejected",
    ".torrent.bak",
];

/// The mark of a path, including the files of a folder; `None` if it is gone, or `given_up` returns true.
pub(super) fn settle_mark(path: &Path, given_up: impl Fn() -> bool) -> Option<Mark> {
    look(path, given_up).map(|(mark, _)| mark)
}

/// The state of a link itself.
pub(super) fn look_at_link(path: &Path) -> Option<Seen> {
    let there = fs::symlink_metadata(path).ok()?;
    Some((mark(&there), (there.ctime(), there.ctime_nsec())))
}

/// A mark, and the time of the last change in seconds and nanoseconds since 1970.
pub(super) type Seen = (Mark, (i64, i64));

/// The state of a path, including the files of a folder, but without states of everseed, which are not shared. The time of change is the one that only the kernel sets,
/// because programs give a copied file its former time.
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
            if there.is_dir() && is_state(&entry.path()) {
                continue;
            }
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

/// The mark of a path, without the contents of a folder.
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
            ("film.mkv.!ut", false),
            ("film.mkv.BC!", false),
            ("film.mkv.az!", false),
            ("film.opdownload", false),
            ("x.torrent.loaded", false),
            ("x.torrent.imported", false),
            ("x.torrent.invalid", false),
            ("lost+found", false),
            ("$RECYCLE.BIN", false),
            ("System Volume Information", false),
            ("@eaDir", false),
            ("#recycle", false),
            ("Thumbs.db", false),
            ("desktop.ini", false),
            ("x.torrent:Zone.Identifier", false),
            ("everseed.toml", false),
        ] {
            assert_eq!(is_wanted(&Path::new("/a").join(name)), wanted, "{name}");
        }
    }

    /// Where the folder's time stays what comes and goes is seen at every third look, and then at each.
    #[test]
    fn a_folder_without_times() {
        let name = format!("everseed-timeless-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let change = |change: &dyn Fn(&Path)| {
            change(&path.join("a"));
            let folder = fs::File::open(&path).unwrap();
            folder.set_modified(time).unwrap();
        };
        let mut watch = Watch::new(path.clone(), Vec::new());
        let mut look = || {
            // On some file systems its size tells.
            watch.changed = watch.changed.map(|_| mark(&path.metadata().unwrap()));
            let due = watch.is_due(false, || false).unwrap();
            if due {
                watch.read(|_| Ok(())).unwrap();
            }
            due
        };
        assert_eq!([look(), look(), look(), look()], [true, true, false, false]);
        change(&|a| fs::write(a, "1").unwrap());
        assert_eq!(
            [look(), look(), look(), look()],
            [false, true, false, false]
        );
        change(&|a| fs::remove_file(a).unwrap());
        assert_eq!([look(), look()], [true, false]);
        // What is not wanted says nothing.
        change(&|a| fs::write(a.with_extension("part"), "1").unwrap());
        assert_eq!([look(), look(), look()], [false, false, false]);
        fs::remove_dir_all(&path).unwrap();
    }

    /// A state in shared content is no part of it, so what is written there does not change the content. A folder of a
    /// state is not watched at all.
    #[test]
    fn a_state_is_not_looked_at() {
        let path = std::env::temp_dir().join(format!("everseed-secret-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let (album, state) = (path.join("album"), path.join("album/node/state"));
        for folder in ["made", "given"] {
            fs::create_dir_all(state.join(folder)).unwrap();
        }
        let config = path.join("node.toml");
        for file in [&config, &album.join("a"), &state.join("lock")] {
            fs::write(file, "1").unwrap();
        }
        let before = settle_mark(&album, || false);
        fs::write(state.join("0.resume"), "12").unwrap();
        fs::write(state.join("given/0.torrent"), "12").unwrap();
        assert_eq!(settle_mark(&album, || false), before);
        fs::write(album.join("node/b"), "12").unwrap();
        assert_ne!(settle_mark(&album, || false), before);
        for folder in [&state, &state.join("given")] {
            let mut watch = Watch::new(folder.clone(), Vec::new());
            assert!(
                watch
                    .is_due(true, || false)
                    .unwrap_err()
                    .ends_with(IS_SECRET)
            );
        }
        let mut found = Vec::new();
        let mut watch = Watch::new(path.clone(), vec![config]);
        watch
            .read(|path| {
                found.push(path);
                Ok(())
            })
            .unwrap();
        assert_eq!(found, [album]);
        fs::remove_dir_all(&path).unwrap();
    }

    /// The folder's time and names stay: it is read when the names are looked at.
    #[test]
    fn a_file_is_mended_in_place() {
        let path = std::env::temp_dir().join(format!("everseed-mended-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let mut watch = Watch::new(path.clone(), Vec::new());
        let due = [(); 6].map(|()| watch.is_due(false, || true).unwrap());
        assert_eq!(due, [true, true, true, false, false, true]);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_folder_is_read_when_it_changed() {
        let path = std::env::temp_dir().join(format!("everseed-watch-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let mut watch = Watch::new(path.clone(), Vec::new());
        assert!(watch.is_due(false, || false).is_err());
        fs::create_dir_all(&path).unwrap();
        for due in [true, true, false] {
            assert_eq!(watch.is_due(false, || false), Ok(due));
        }
        fs::write(path.join("a"), "1").unwrap();
        for (restless, due) in [(false, true), (true, true), (true, true), (false, false)] {
            assert_eq!(watch.is_due(restless, || false), Ok(due));
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
        assert!(watch.is_due(false, || false).is_err() && watch.read(|_| Ok(())).is_err());
        assert_eq!(settle_mark(&path, || false), None);
    }
}
