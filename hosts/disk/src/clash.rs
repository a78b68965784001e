//! Whether two files of a torrent want the same place on disk.
//!
//! Paths are compared by 64 bits of hash, so many at a time: a torrent of a hundred thousand files takes
//! no more memory while it is opened than one of some thousands, and is read more often instead.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// The paths of one torrent, as hashes, a part of them at a time.
pub(crate) struct Clashes {
    /// Which hashes are looked at: those with this remainder by the number of passes.
    part: u32,
    passes: u32,
    files: Vec<u64>,
    /// The folders of all files, without most repetitions.
    folders: Vec<u64>,
    /// The folders of the file before, from the outermost on.
    last: Vec<u64>,
}

/// Files whose hashes are held at a time, as far as chance spreads them evenly.
const AT_ONCE: u32 = 16 * 1024;

impl Clashes {
    /// For so many files.
    pub(crate) fn new(files: u32) -> Clashes {
        Clashes {
            part: 0,
            passes: files.div_ceil(AT_ONCE).max(1),
            // A list that grew would leave holes of its former sizes in the heap.
            files: Vec::with_capacity(files.min(AT_ONCE) as usize),
            folders: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Adds the path of a file.
    pub(crate) fn add(&mut self, path: &Path) {
        let is_ours = |hash: u64| hash % u64::from(self.passes) == u64::from(self.part);
        let mut hasher = DefaultHasher::new();
        let mut components = path.iter().enumerate().peekable();
        while let Some((depth, component)) = components.next() {
            component.hash(&mut hasher);
            let hash = hasher.finish();
            if components.peek().is_none() {
                if is_ours(hash) {
                    self.files.push(hash);
                }
            } else if self.last.get(depth) != Some(&hash) {
                self.last.truncate(depth);
                self.last.push(hash);
                if is_ours(hash) {
                    self.folders.push(hash);
                }
            }
        }
    }

    /// The hash of a path that is there twice, or is both a file and a folder, among those that were
    /// added in this pass. Then begins the next pass, in which all paths are to be added again.
    pub(crate) fn find(&mut self) -> Option<u64> {
        self.files.sort_unstable();
        let twice = self.files.windows(2).find(|pair| pair[0] == pair[1]);
        let is_file = |folder: &&u64| self.files.binary_search(folder).is_ok();
        let folder = || self.folders.iter().find(is_file);
        let clash = twice.map(|pair| &pair[0]).or_else(folder).copied();
        self.part += 1;
        self.files.clear();
        self.folders.clear();
        self.last.clear();
        clash
    }

    /// Whether all passes are done.
    pub(crate) fn is_done(&self) -> bool {
        self.part == self.passes
    }
}

/// The hash by which [`Clashes::find`] names a path.
pub(crate) fn hash_of(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.iter()
        .for_each(|component| component.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether some of these paths clash, looked through as many times as `files` would need.
    fn clash(paths: &[String], files: u32) -> bool {
        let mut clashes = Clashes::new(files);
        while !clashes.is_done() {
            paths.iter().for_each(|path| clashes.add(Path::new(path)));
            if clashes.find().is_some() {
                return true;
            }
        }
        false
    }

    #[test]
    fn in_one_pass_or_many() {
        let paths: Vec<_> = (0..1000).map(|n| format!("{}/{n}", n % 7)).collect();
        let with = |extra: &str| [&paths[..], &[extra.to_owned()]].concat();
        for files in [0, 1000, AT_ONCE, AT_ONCE + 1, 1_000_000] {
            assert!(!clash(&paths, files));
            assert!(!clash(&with("0/1"), files));
            assert!(clash(&with("3/500"), files), "{files}");
            assert!(clash(&with("5"), files), "{files}");
            assert!(clash(&with("3/3/x"), files), "{files}");
        }
    }
}
