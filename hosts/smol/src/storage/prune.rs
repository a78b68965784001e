//! Removal of the state of torrents that are gone.
//!
//! Invariant: files stay that were written within [`KEPT`], that belong to a known torrent, or that record a
//! download; and `described` stays. Everything else can be found out again by verifying files once more.

use std::collections::HashMap;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use everseed_core::hash::InfoHash;
use everseed_disk::read_torrent;

use crate::storage::closed::KINDS;
use crate::storage::state::StateFolder;

/// The time for which state of an unknown torrent is kept after its last write.
pub(crate) const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// The most torrents that one run looks at; others follow a day later.
const AT_A_TIME: usize = 10_000;

/// The state of a torrent that nobody knows.
struct StaleState {
    written: SystemTime,
    downloaded: bool,
}

impl StateFolder {
    /// Removes the state of torrents that are not in `known`, which is sorted. Returns the number of removed files.
    pub(crate) fn prune(&self, known: &[InfoHash], now: SystemTime) -> io::Result<usize> {
        let is_known = |hash: InfoHash| known.binary_search(&hash).is_ok();
        let is_old = |written| now.duration_since(written).is_ok_and(|age| age > KEPT);
        let mut unknown: HashMap<InfoHash, StaleState> = HashMap::new();
        for entry in fs::read_dir(self.folder())?.flatten() {
            let Some((hash, kind)) = split(&entry).filter(|(hash, _)| !is_known(*hash)) else {
                continue;
            };
            if unknown.len() >= AT_A_TIME && !unknown.contains_key(&hash) {
                continue;
            }
            let written = written(&entry)?;
            let its = unknown.entry(hash).or_insert(StaleState {
                written,
                downloaded: false,
            });
            its.written = its.written.max(written);
            its.downloaded |= kind == b".download";
        }
        unknown.retain(|_, its| !its.downloaded && is_old(its.written));
        let mut removed = 0;
        for entry in fs::read_dir(self.folder())?.flatten() {
            let its = split(&entry).is_some_and(|(hash, _)| unknown.contains_key(&hash));
            let name = entry.file_name();
            let name = name.as_bytes();
            let aside = name.ends_with(b".damaged") || name.starts_with(b".everseed-");
            // The torrent may have come back meanwhile.
            if (its || aside) && is_old(written(&entry)?) {
                removed += usize::from(fs::remove_file(entry.path()).is_ok());
            }
        }
        let given = fs::read_dir(self.folder().join("given"))?;
        for entry in given.flatten().take(AT_A_TIME) {
            if is_old(written(&entry)?) && !self.is_wanted(&entry, is_known) {
                removed += usize::from(fs::remove_file(entry.path()).is_ok());
            }
        }
        for entry in fs::read_dir(self.folder().join("made"))?.flatten() {
            if is_old(written(&entry)?) && !self.is_of_some_torrent(&entry) {
                removed += usize::from(fs::remove_file(entry.path()).is_ok());
            }
        }
        Ok(removed)
    }

    /// Whether the copy of a .torrent belongs to a known torrent or to a download.
    fn is_wanted(&self, given: &DirEntry, is_known: impl Fn(InfoHash) -> bool) -> bool {
        // A copy that was being made when the process ended.
        let unfinished = given
            .path()
            .extension()
            .is_some_and(|extension| extension.as_encoded_bytes().starts_with(b"new"));
        let hash = read_torrent(&given.path()).map(|metainfo| metainfo.info_hash);
        !unfinished && hash.is_ok_and(|hash| is_known(hash) || self.download_file(hash).exists())
    }

    /// Whether the torrent that was made of a path still exists.
    fn is_of_some_torrent(&self, made: &DirEntry) -> bool {
        let text = fs::read(made.path()).unwrap_or_default();
        let hash = InfoHash::from_hex(text.trim_ascii());
        hash.is_some_and(|hash| self.torrent_file(hash).exists())
    }
}

/// The torrent and the kind of one of its state files.
fn split(entry: &DirEntry) -> Option<(InfoHash, Vec<u8>)> {
    let name = entry.file_name();
    let (hash, kind) = name.as_bytes().split_at_checked(40)?;
    let hash = InfoHash::from_hex(hash)?;
    let is_ours = KINDS.iter().any(|known| known.as_bytes() == kind);
    is_ours.then(|| (hash, kind.to_vec()))
}

fn written(entry: &DirEntry) -> io::Result<SystemTime> {
    entry.metadata()?.modified()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::path::Path;

    #[test]
    fn what_is_gone_for_long_is_removed() {
        let name = format!("everseed-prune-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        let state = StateFolder::open(&folder).unwrap();
        let now = crate::clock::file_time();
        let hash = |n| InfoHash([n; 20]);
        let put = |path: &Path, text: &str, days: u64| {
            fs::write(path, text).unwrap();
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(now - Duration::from_secs(days * 86_400))
                .unwrap();
        };
        let of = |n, kind: &str| folder.join(format!("{}.{kind}", hash(n)));
        // Known; gone lately; gone for long; gone, but for a file that was written lately; a download.
        for (n, days) in [(1, 99), (2, 29), (3, 31), (4, 31), (5, 99)] {
            for kind in ["torrent", "resume", "place", "index"] {
                put(&of(n, kind), "", days);
            }
            let made = folder.join("made").join(format!("of-{n}"));
            put(&made, &format!("{}\n", hash(n)), 99);
        }
        put(&of(4, "resume"), "", 1);
        put(&of(5, "download"), "", 99);
        for name in ["described", "catalogue", "letters.txt", "x.torrent"] {
            put(&folder.join(name), "", 99);
        }
        let given = |name: &str| folder.join("given").join(name);
        let torrents = ["one", "two"].map(|name| {
            let text = format!(
                "d4:infod6:lengthi1e4:name3:{name}12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee"
            );
            put(&given(name), &text, 99);
            read_torrent(&given(name)).unwrap().info_hash
        });
        put(&given("half"), "d4:info", 99);
        let one = fs::read_to_string(given("one")).unwrap();
        put(&given("one.new3"), &one, 99);
        put(&given("lately"), "", 29);
        put(&folder.join("catalogue.damaged"), "", 31);
        put(&folder.join("described.damaged"), "", 29);
        put(&folder.join(".everseed-1-2"), "", 31);
        let mut known = [hash(1), torrents[0]];
        known.sort_unstable();
        let removed = state.prune(&known, now).unwrap();
        assert_eq!(removed, 4 + 1 + 3 + 2);
        assert!(given("one").exists() && given("lately").exists() && !given("two").exists());
        assert!(!of(3, "torrent").exists() && !folder.join("made/of-3").exists());
        for n in [1, 2, 4, 5] {
            assert!(of(n, "torrent").exists() && of(n, "index").exists(), "{n}");
            assert!(folder.join(format!("made/of-{n}")).exists(), "{n}");
        }
        assert!(folder.join("described").exists() && folder.join("letters.txt").exists());
        // A clock that was set back makes nothing old.
        assert_eq!(state.prune(&[], SystemTime::UNIX_EPOCH).unwrap(), 0);
        assert_eq!(state.prune(&known, now).unwrap(), 0);
        drop(state);
        fs::remove_dir_all(&folder).unwrap();
    }
}
