//! An index of the catalogue by path, made for one scan of the watched folders. So paths need not stay in memory.
//!
//! A path is represented by 48 bits of its hash. Among ten thousand paths two share these bits in one of millions of
//! folders; then the newer one is not seeded.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use everseed_core::hash::{InfoHash, Sha1, Smol};

use super::watch::{mark, settle_mark};
use crate::storage::catalogue::Catalogue;

/// The paths of all torrents in the catalogue.
#[derive(Debug)]
pub(super) struct PathIndex {
    /// The hash of each path with its slot in the node's registry, sorted.
    torrents: Vec<u64>,
    /// Hashes of the paths of their contents, sorted.
    contents: Vec<u64>,
    /// Whether each slot was seen in a folder.
    seen: Vec<bool>,
}

impl PathIndex {
    /// An index of the catalogue. `go_on` is called for each torrent; an error of it ends this.
    pub(super) fn new(
        catalogue: &Catalogue,
        go_on: impl Fn() -> io::Result<()>,
    ) -> io::Result<PathIndex> {
        let count = catalogue.count();
        let mut index = PathIndex {
            torrents: Vec::with_capacity(count),
            contents: Vec::with_capacity(count),
            seen: vec![false; catalogue.slots()],
        };
        catalogue.each(|slot, sleeper| {
            index.torrents.push(hash(&sleeper.path()) | u64::from(slot));
            index.contents.push(hash(&sleeper.root()));
            go_on()
        })?;
        index.torrents.sort_unstable();
        index.contents.sort_unstable();
        Ok(index)
    }

    /// Notes that a path exists. Returns whether it is in the catalogue.
    pub(super) fn see(&mut self, path: &Path) -> bool {
        let hash = hash(path);
        let at = self.torrents.partition_point(|&entry| entry < hash);
        let Some(entry) = self.torrents.get(at).filter(|&&e| e & HASH == hash) else {
            return false;
        };
        let slot = usize::try_from(entry & !HASH).unwrap_or(usize::MAX);
        if let Some(seen) = self.seen.get_mut(slot) {
            *seen = true;
        }
        true
    }

    /// Whether a path is the content of a torrent in the catalogue.
    pub(super) fn is_content(&self, path: &Path) -> bool {
        self.contents.binary_search(&hash(path)).is_ok()
    }

    /// Slots and info-hashes of torrents in `folder` that were not seen. With `closely`, also of torrent files and
    /// other files that have changed, and of content that a torrent `describes`. `go_on` is called for each.
    pub(super) fn missing(
        &self,
        catalogue: &Catalogue,
        describes: impl Fn(&Path) -> bool,
        folder: &Path,
        closely: bool,
        go_on: impl Fn() -> io::Result<()>,
    ) -> io::Result<Vec<(u16, InfoHash)>> {
        let mut missing = Vec::new();
        catalogue.each(|slot, sleeper| {
            let path = sleeper.path();
            if path.parent() != Some(folder) {
                return Ok(());
            }
            let seen = self.seen.get(usize::from(slot)) == Some(&true);
            let changed = || match is_torrent(&path) {
                true => settle_mark(&path, || false) != Some(sleeper.mark),
                // A folder, which may hold very many files, is checked when it is woken.
                false => fs::metadata(&path)
                    .is_ok_and(|there| there.is_file() && mark(&there) != sleeper.mark),
            };
            let described = || !names_torrent(&path) && describes(&sleeper.root());
            if !seen || closely && changed() || described() {
                missing.push((slot, sleeper.info_hash()));
            }
            go_on()
        })?;
        Ok(missing)
    }
}

/// Whether a path has the name of a torrent file, which may be compressed.
pub(super) fn is_torrent(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut ends = [&b".torrent"[..], b".torrent.gz"].into_iter();
    ends.any(|end| match name.len().checked_sub(end.len()) {
        None | Some(0) => false,
        Some(start) => name[start..].eq_ignore_ascii_case(end),
    })
}

/// Whether a path has the name of a file with a magnet link.
pub(super) fn is_link(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    extension.eq_ignore_ascii_case("magnet")
}

/// Whether a path has the name of a file that names a torrent, and so is not content to share.
pub(super) fn names_torrent(path: &Path) -> bool {
    is_torrent(path) || is_link(path)
}

fn hash(path: &Path) -> u64 {
    let mut sha1 = Smol::default();
    sha1.update(path.as_os_str().as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = sha1.finish();
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) & HASH
}

/// The bits of a hash; the other bits are the slot.
const HASH: u64 = !0xffff;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::dormant::DormantTorrent;
    use everseed_core::geometry::TorrentId;

    #[test]
    fn names_of_torrents() {
        for (name, is) in [
            ("x.torrent", true),
            ("x.y.TORRENT", true),
            ("x.torrent.gz", true),
            ("x.Torrent.GZ", true),
            (".torrent", false),
            (".torrent.gz", false),
            ("torrent.gz", false),
            ("x.gz", false),
            ("x.torrent.zip", false),
            ("x.torrent/y", false),
        ] {
            assert_eq!(is_torrent(&Path::new("/a").join(name)), is, "{name}");
        }
    }

    #[test]
    fn what_is_missing_and_what_is_new() {
        let name = format!("everseed-index-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let mut catalogue = Catalogue::new(folder.join("catalogue"), 10);
        let other = Path::new("/elsewhere");
        for n in 0..4_u8 {
            let path = match n {
                3 => other.join("3.torrent"),
                n => folder.join(format!("{n}.torrent")),
            };
            fs::write(folder.join(format!("{n}.torrent")), [n]).unwrap();
            let mark = settle_mark(&path, || false).unwrap_or_default();
            let root = folder.join(format!("{n}.iso"));
            let hash = InfoHash([n; 20]);
            let sleeper = DormantTorrent::new(hash, &path, None, &root, mark, Vec::new(), false);
            let id = TorrentId {
                slot: u16::from(n),
                tenancy: 7,
            };
            catalogue.add(id, &sleeper).unwrap();
        }
        let mut index = PathIndex::new(&catalogue, || Ok(())).unwrap();
        for n in [0, 2] {
            assert!(index.see(&folder.join(format!("{n}.torrent"))));
        }
        assert!(!index.see(&folder.join("new.torrent")));
        assert!(!index.see(&folder.join("0.iso")));
        assert!(index.is_content(&folder.join("0.iso")));
        assert!(!index.is_content(&folder.join("9.iso")));
        let missing = |folder: &Path, closely| {
            let made = |_: &Path| panic!("all are torrents");
            let missing = index.missing(&catalogue, made, folder, closely, || Ok(()));
            let slot = |(slot, hash): (u16, InfoHash)| {
                assert_eq!(u16::from(hash.0[0]), slot);
                slot
            };
            missing.unwrap().into_iter().map(slot).collect::<Vec<u16>>()
        };
        assert_eq!(missing(&folder, false), [1]);
        fs::write(folder.join("2.torrent"), "longer").unwrap();
        assert_eq!(missing(&folder, false), [1]);
        assert_eq!(missing(&folder, true), [1, 2]);
        assert_eq!(missing(other, false), [3]);
        // Other files are looked at too.
        let (hash, film) = (InfoHash([9; 20]), folder.join("film.mkv"));
        fs::write(&film, "film").unwrap();
        let mark = settle_mark(&film, || false).unwrap();
        let sleeper = DormantTorrent::new(hash, &film, None, &film, mark, Vec::new(), false);
        let id = TorrentId {
            slot: 5,
            tenancy: 7,
        };
        catalogue.add(id, &sleeper).unwrap();
        let films = |closely| {
            let mut index = PathIndex::new(&catalogue, || Ok(())).unwrap();
            assert!(index.see(&film));
            let missing = index.missing(&catalogue, |_| false, &folder, closely, || Ok(()));
            missing.unwrap().contains(&(5, hash))
        };
        assert!(!films(true));
        fs::write(&film, "a longer film").unwrap();
        assert!(!films(false) && films(true));
        let given_up = || Err(io::ErrorKind::Interrupted.into());
        assert!(PathIndex::new(&catalogue, given_up).is_err());
        let missing = index.missing(&catalogue, |_| false, &folder, true, given_up);
        assert!(missing.is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
