//! Other names for files of a torrent whose path an earlier file has already.
//!
//! The rule is libtorrent's. A file whose path equals that of an earlier file or of any folder gets `.1` before its
//! extension, or the first free number; upper and lower case are equal. Everseed also treats as equal what some disks
//! do: letters of all scripts in both cases or composed differently, and names that differ in dots and spaces at
//! their end.
//!
//! Paths are compared by 64-bit hashes, a limited number at a time. So a torrent of a hundred thousand files takes no
//! more memory than one of some thousands while it is opened; it is read more often instead.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use everseed_core::metainfo::MAX_NAME;
use unicode_normalization::char::{canonical_combining_class, decompose_canonical};

use crate::fitting::cut;

/// The files that need another name than the torrent gives them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Renames(Box<[Rename]>);

/// A file that needs another name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rename {
    /// Offset of its entry in the torrent file, in bytes.
    position: u64,
    number: u32,
    /// Whether its path equals others only by case or composition, so that on some disks it may lie under its own
    /// name.
    pub(crate) differs: bool,
}

/// Why names could not be found.
#[derive(Debug)]
pub(crate) enum UniqueError<E> {
    /// More than [`MOST`] files need another name, or too many rounds would be needed.
    TooMany,
    /// The torrent could not be read.
    Read(E),
}

/// The most files that may need another name. Nobody makes a torrent with more except to do harm.
pub(crate) const MOST: usize = 4096;

/// The most rounds. Each begins anew because a chosen name turned out to be that of a later file.
const ROUNDS: u32 = 16;

impl Renames {
    /// Finds the files that need another name. `each` gives every file's position and path in order, and is called
    /// several times.
    pub(crate) fn find<E>(
        files: u32,
        mut each: impl FnMut(&mut dyn FnMut(u64, &Path)) -> Result<(), E>,
    ) -> Result<Renames, UniqueError<E>> {
        let mut clashes = Clashes::new(files);
        let mut watched = HashSet::new();
        while !clashes.is_done() {
            each(&mut |_, path| clashes.add(path)).map_err(UniqueError::Read)?;
            clashes.find(&mut watched);
            if watched.len() > MOST {
                return Err(UniqueError::TooMany);
            }
        }
        if watched.is_empty() {
            return Ok(Renames::default());
        }
        for _ in 0..ROUNDS {
            let mut round = Round::new(watched);
            each(&mut |_, path| round.note_folders(path)).map_err(UniqueError::Read)?;
            each(&mut |position, path| round.name(position, path)).map_err(UniqueError::Read)?;
            if round.found.len() > MOST {
                return Err(UniqueError::TooMany);
            }
            if !round.again {
                return Ok(Renames(round.found.into()));
            }
            watched = round.watched;
        }
        Err(UniqueError::TooMany)
    }

    /// Whether two of the paths that `each` gives may be the same on some disk.
    pub(crate) fn would_be_needed<E>(
        paths: u32,
        mut each: impl FnMut(&mut dyn FnMut(&Path)) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut clashes = Clashes::new(paths);
        let mut found = HashSet::new();
        while found.is_empty() && !clashes.is_done() {
            each(&mut |path| clashes.add(path))?;
            clashes.find(&mut found);
        }
        Ok(!found.is_empty())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.len()
    }

    /// The other name of the file whose entry stands at `position`, if it needs one.
    pub(crate) fn of(&self, position: u64) -> Option<Rename> {
        let found = self.0.binary_search_by_key(&position, |one| one.position);
        found.ok().and_then(|at| self.0.get(at)).copied()
    }
}

impl Rename {
    pub(crate) fn apply(self, path: &Path) -> PathBuf {
        numbered(path, self.number)
    }
}

/// One round of choosing names. Only paths with the watched hashes are looked at.
struct Round {
    watched: HashSet<u64>,
    folders: HashSet<u64>,
    taken: HashSet<u64>,
    /// Hashes of the exact paths.
    exact: HashSet<u64>,
    found: Vec<Rename>,
    /// Whether a name was chosen that may still turn out to be taken.
    again: bool,
    /// The first number to try for a path, by the path's hash.
    next: HashMap<u64, u32>,
}

impl Round {
    fn new(watched: HashSet<u64>) -> Round {
        Round {
            watched,
            folders: HashSet::new(),
            taken: HashSet::new(),
            exact: HashSet::new(),
            found: Vec::new(),
            again: false,
            next: HashMap::new(),
        }
    }

    fn note_folders(&mut self, path: &Path) {
        let folders = path.ancestors().skip(1).map(hash_of);
        let watched = &self.watched;
        self.folders.extend(folders.filter(|f| watched.contains(f)));
    }

    fn name(&mut self, position: u64, path: &Path) {
        let hash = hash_of(path);
        // If there are too many, their exact number does not matter.
        if !self.watched.contains(&hash) || self.found.len() > MOST {
            return;
        }
        let differs = self.exact.insert(exact_hash_of(path)) && !self.folders.contains(&hash);
        if !self.folders.contains(&hash) && self.taken.insert(hash) {
            return;
        }
        let next = self.next.entry(hash).or_insert(1);
        for number in *next.. {
            let path = numbered(path, number);
            let hash = hash_of(&path);
            if self.folders.contains(&hash) || self.taken.contains(&hash) {
                continue;
            }
            *next = number + 1;
            self.again |= self.watched.insert(hash);
            self.taken.insert(hash);
            self.exact.insert(exact_hash_of(&path));
            self.found.push(Rename {
                position,
                number,
                differs,
            });
            return;
        }
    }
}

/// The path with a number before the extension of its last component, which is cut if it becomes too long. Number and
/// extension are cut too, where libtorrent cuts them.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, extension) = name
        .rfind('.')
        .map_or((&*name, ""), |dot| name.split_at(dot));
    let end = format!(".{number}{extension}");
    let end = cut(&end, NUMBERED_END);
    let stem = cut(stem, MAX_NAME.saturating_sub(end.len()));
    path.with_file_name(OsString::from(format!("{stem}{end}")))
}

/// The most that libtorrent puts behind a name that it numbers, in bytes.
const NUMBERED_END: usize = 49;

/// A hash that is equal for paths that some disk treats as the same.
fn hash_of(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.iter().for_each(|component| {
        write_folded(&mut hasher, component.as_encoded_bytes());
    });
    hasher.finish()
}

fn exact_hash_of(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(path.as_os_str().as_encoded_bytes());
    hasher.finish()
}

fn write_folded(hasher: &mut DefaultHasher, component: &[u8]) {
    let is_silent = |byte: &u8| matches!(byte, b'.' | b' ');
    let end = component.iter().rposition(|byte| !is_silent(byte));
    let component = end.map_or(component, |last| &component[..=last]);
    if component.is_ascii() {
        component
            .iter()
            .for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
    } else {
        let mut bytes = [0; 4];
        let text = String::from_utf8_lossy(component);
        let small = decomposed(text.chars()).into_iter();
        for c in decomposed(small.flat_map(char::to_lowercase)) {
            let bytes = c.encode_utf8(&mut bytes).as_bytes();
            bytes.iter().for_each(|&byte| hasher.write_u8(byte));
        }
    }
    hasher.write_u8(b'/');
}

/// Unicode's form NFD: letters without their marks, and then the marks in one order. The crate's own iterator brings
/// the tables of all other forms into the program, which are larger.
fn decomposed(text: impl Iterator<Item = char>) -> Vec<char> {
    let mut chars = Vec::new();
    text.for_each(|c| decompose_canonical(c, |part| chars.push(part)));
    let is_mark = |c: &char| canonical_combining_class(*c) != 0;
    for letter in chars.chunk_by_mut(|_, next| is_mark(next)) {
        letter.sort_by_key(|c| canonical_combining_class(*c));
    }
    chars
}

/// Hashes of one torrent's paths, a part of them at a time.
struct Clashes {
    /// The part of this pass: hashes with this remainder by the number of passes.
    part: u32,
    passes: u32,
    files: Vec<u64>,
    /// Hashes of all files' folders, without most repetitions.
    folders: Vec<u64>,
    /// Folders of the previous file, the outermost first.
    last: Vec<u64>,
}

/// Files whose hashes are held at a time, if chance spreads them evenly.
const AT_ONCE: u32 = 16 * 1024;

impl Clashes {
    /// A table for this many files.
    fn new(files: u32) -> Clashes {
        Clashes {
            part: 0,
            passes: files.div_ceil(AT_ONCE).max(1),
            // A list that grows would leave holes of its former sizes in the heap.
            files: Vec::with_capacity(files.min(AT_ONCE) as usize),
            folders: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Adds the path of a file.
    fn add(&mut self, path: &Path) {
        let is_ours = |hash: u64| hash % u64::from(self.passes) == u64::from(self.part);
        let mut hasher = DefaultHasher::new();
        let mut components = path.iter().enumerate().peekable();
        while let Some((depth, component)) = components.next() {
            write_folded(&mut hasher, component.as_encoded_bytes());
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

    /// Collects, among the paths of this pass, the hashes of those that occur twice or are both a file and a folder.
    /// Then the next pass begins, in which all paths have to be added again.
    fn find(&mut self, found: &mut HashSet<u64>) {
        self.files.sort_unstable();
        let pairs = self.files.windows(2).filter(|pair| pair[0] == pair[1]);
        let twice = pairs.map(|pair| pair[0]);
        let is_file = |folder: &&u64| self.files.binary_search(folder).is_ok();
        let both = self.folders.iter().filter(is_file).copied();
        // One more than allowed is enough to know.
        for hash in twice.chain(both) {
            if found.len() <= MOST {
                found.insert(hash);
            }
        }
        self.part += 1;
        self.files.clear();
        self.folders.clear();
        self.last.clear();
    }

    /// Whether all passes are done.
    fn is_done(&self) -> bool {
        self.part == self.passes
    }
}

#[cfg(test)]
mod tests {
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    /// Each letter that has parts, and marks in any order behind letters and alone.
    #[test]
    fn decomposed_is_nfd() {
        let all: Vec<char> = (0..0x0002_fa20).filter_map(char::from_u32).collect();
        assert!(
            decomposed(all.iter().copied())
                .into_iter()
                .eq(all.iter().copied().nfd())
        );
        let is_mark = |c: &&char| canonical_combining_class(**c) != 0;
        let marks: Vec<char> = all.iter().filter(is_mark).copied().collect();
        let mut chance = 1_u64;
        let mut below = |end: usize| {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (chance >> 33) as usize % end
        };
        for _ in 0..2000 {
            let mut letter = |_| match below(3) {
                0 => all[below(all.len())],
                _ => marks[below(marks.len())],
            };
            let text: String = (0..12).map(&mut letter).collect();
            assert!(
                decomposed(text.chars()).into_iter().eq(text.nfd()),
                "{text:?}"
            );
        }
    }

    /// The paths that these get, looked through as many times as `files` would need.
    fn named(paths: &[&str], files: u32) -> Vec<String> {
        let renames = Renames::find(files, |act| {
            (0..)
                .zip(paths)
                .for_each(|(n, path)| act(n, Path::new(path)));
            Ok::<(), ()>(())
        });
        let renames = renames.unwrap();
        let name = |(n, path): (u64, &&str)| match renames.of(n) {
            Some(rename) => rename.apply(Path::new(path)).display().to_string(),
            None => (*path).to_owned(),
        };
        (0..).zip(paths).map(name).collect()
    }

    /// What libtorrent 2.0.8 does was looked up by running it.
    #[test]
    fn the_second_gets_a_number() {
        let dots = format!(".{}", "n".repeat(60));
        let cut = format!(".1.{}", "n".repeat(46));
        let cases: [(&[&str], &[&str]); 16] = [
            (&[&dots, &dots], &[&dots, &cut]),
            (&["a", "b"], &["a", "b"]),
            (&["a/b", "ab", "b/a"], &["a/b", "ab", "b/a"]),
            (&["a.txt"; 3], &["a.txt", "a.1.txt", "a.2.txt"]),
            (&["A.txt", "a.txt"], &["A.txt", "a.1.txt"]),
            (&["a", "a/b"], &["a.1", "a/b"]),
            (&["a/b", "A"], &["a/b", "A.1"]),
            (&["a/b/c", "x", "a/b"], &["a/b/c", "x", "a/b.1"]),
            (&[".h", ".h"], &[".h", ".1.h"]),
            (&["a.tar.gz"; 2], &["a.tar.gz", "a.tar.1.gz"]),
            (&["x.d/f"; 2], &["x.d/f", "x.d/f.1"]),
            (
                &["a.txt", "a.txt", "a.1.txt"],
                &["a.txt", "a.1.txt", "a.1.1.txt"],
            ),
            (&["a.1", "a", "a"], &["a.1", "a", "a.2"]),
            // Not libtorrent's: it lets them be.
            (&["É.txt", "é.txt"], &["É.txt", "é.1.txt"]),
            (&["a", "a.", "..."], &["a", "a.1.", "..."]),
            (&["e\u{301}/x", "\u{e9}/x"], &["e\u{301}/x", "\u{e9}/x.1"]),
        ];
        for (paths, expected) in cases {
            for files in [3, AT_ONCE, 1_000_000] {
                assert_eq!(named(paths, files), expected, "{paths:?}");
            }
        }
    }

    #[test]
    fn a_number_does_not_make_it_too_long() {
        let long = format!("{}.mkv", "é".repeat(125));
        let names = named(&[&*long; 3], 3);
        assert_eq!(names[0], long);
        assert!(
            names
                .iter()
                .all(|name| name.len() <= 255 && name.ends_with(".mkv"))
        );
        assert!(names[1] != names[2]);
    }

    #[test]
    fn many_are_found_and_too_many_refused() {
        let find = |count: u64, same: u64| {
            Renames::find(u32::try_from(count).unwrap(), |act| {
                (0..count).for_each(|n| act(n, Path::new(&format!("d{}/f{}", n % 7, n % same))));
                Ok::<(), ()>(())
            })
        };
        assert_eq!(find(100_000, 100_000).unwrap().len(), 0);
        assert_eq!(find(100_000, 98_000).unwrap().len(), 2000);
        assert!(matches!(find(100_000, 11), Err(UniqueError::TooMany)));
        assert!(matches!(find(5_000, 1), Err(UniqueError::TooMany)));
    }
}
