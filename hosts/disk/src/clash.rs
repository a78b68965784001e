//! Whether two files of a torrent want the same place on disk.
//!
//! Paths are compared by 64 bits of hash, so that a torrent of a hundred thousand files takes a
//! megabyte or two while it is opened, and nothing afterwards.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// The paths of one torrent, as hashes.
#[derive(Default)]
pub(crate) struct Clashes {
    files: Vec<u64>,
    /// The folders of all files, without most repetitions.
    folders: Vec<u64>,
    /// The folders of the file before, from the outermost on.
    last: Vec<u64>,
}

impl Clashes {
    /// Adds the path of a file.
    pub(crate) fn add(&mut self, path: &Path) {
        let mut hasher = DefaultHasher::new();
        let mut components = path.iter().enumerate().peekable();
        while let Some((depth, component)) = components.next() {
            component.hash(&mut hasher);
            let hash = hasher.finish();
            if components.peek().is_none() {
                self.files.push(hash);
            } else if self.last.get(depth) != Some(&hash) {
                self.last.truncate(depth);
                self.last.push(hash);
                self.folders.push(hash);
            }
        }
    }

    /// The hash of a path that is there twice, or is both a file and a folder.
    pub(crate) fn find(mut self) -> Option<u64> {
        self.files.sort_unstable();
        if let Some(&[twice, _]) = self.files.windows(2).find(|pair| pair[0] == pair[1]) {
            return Some(twice);
        }
        let is_file = |folder: &&u64| self.files.binary_search(folder).is_ok();
        self.folders.iter().find(is_file).copied()
    }
}

/// The hash by which [`Clashes::find`] names a path.
pub(crate) fn hash_of(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.iter()
        .for_each(|component| component.hash(&mut hasher));
    hasher.finish()
}
