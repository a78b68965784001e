//! The record of all content that a .torrent describes or ever described.
//!
//! Such content never becomes a torrent of its own, which would be public, unless its owner names it. That holds
//! while its .torrent is awake, asleep, refused or failed, and when the .torrent is gone. So the record outlives the
//! torrents, in `STATE/described`. It has a line for each, which is only appended: the path of the content, the
//! .torrent, and whether that is private. To have everseed forget one, remove its line.
//!
//! A lookup takes 16 bytes of memory for each line; at rest there is none. Paths are compared by 64 bits of a hash,
//! without regard to upper and lower case, because some file systems ignore it.
//!
//! Invariant: a line is written before its torrent is seeded, and is on the disk some seconds later. It can be lost
//! only if both the .torrent is removed and the power fails before then.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use everseed_core::hash::{Sha1, Smol};
use everseed_disk::{RegularError, open_regular};

use crate::storage::aside::set_aside;

/// The description of content in one .torrent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Description {
    /// The content's file or folder; it need not exist.
    pub(crate) root: PathBuf,
    pub(crate) torrent: PathBuf,
    /// Whether the torrent is private, or may be.
    pub(crate) private: bool,
}

/// The record, read from its file when needed.
#[derive(Debug)]
pub(crate) struct Described {
    path: PathBuf,
    known: Mutex<Option<Known>>,
    /// The number of lines added in this run.
    added: AtomicU64,
    /// Whether some lines may not be on the disk yet.
    unsynced: AtomicBool,
}

/// Sorted hashes of the record's lines and paths.
#[derive(Debug, Default)]
struct Known {
    /// Hashes of the lines.
    lines: Vec<u64>,
    /// Hashes of described files and folders.
    roots: Vec<u64>,
    /// Hashes of the folders above them.
    above: Vec<u64>,
    /// Whether anything may be described, because the file was damaged or is full.
    doubtful: bool,
}

impl Described {
    /// The record in the file at `path`, which need not exist.
    pub(crate) fn new(path: PathBuf) -> Described {
        Described {
            path,
            known: Mutex::new(None),
            added: AtomicU64::new(0),
            unsynced: AtomicBool::new(false),
        }
    }

    /// Adds a description. Returns whether it is new.
    pub(crate) fn add(&self, description: &Description) -> io::Result<bool> {
        let (text, hash) = line(description);
        let mut known = self.lock();
        let known = self.loaded(&mut known)?;
        let Err(at) = known.lines.binary_search(&hash) else {
            return Ok(false);
        };
        if known.lines.len() >= LINES_MAX {
            if !known.doubtful {
                log::error!(
                    "{}: there are {LINES_MAX} lines in it, and no room for more: new files and folders in watched \
                     folders are not shared until some are removed",
                    self.path.display()
                );
            }
            known.doubtful = true;
            return Ok(false);
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let mut file = options.open(&self.path)?;
        file.write_all(text.as_bytes())?;
        self.unsynced.store(true, Ordering::Release);
        known.lines.insert(at, hash);
        known.take(&description.root);
        self.added.fetch_add(1, Ordering::AcqRel);
        Ok(true)
    }

    /// Syncs the lines that were added.
    pub(crate) fn sync(&self) {
        if !self.unsynced.swap(false, Ordering::AcqRel) {
            return;
        }
        let synced = File::open(&self.path).and_then(|file| file.sync_data());
        if let Err(error) = synced {
            self.unsynced.store(true, Ordering::Release);
            log::warn!("{}: {error}; tried again", self.path.display());
        }
    }

    /// The number of lines added in this run. A decision that was made at a smaller number has to be made again.
    pub(crate) fn added(&self) -> u64 {
        self.added.load(Ordering::Acquire)
    }

    /// Whether `path` is described, lies in described content, or holds some: by its name or by the target of its
    /// links. If this cannot be found out, it counts as described.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        let real = path.canonicalize().ok();
        real.is_some_and(|real| self.holds_real(&real)) || self.holds_real(path)
    }

    /// As [`holds`](Self::holds), for a path without links. It is not looked up on the disk.
    pub(crate) fn holds_real(&self, path: &Path) -> bool {
        let mut known = self.lock();
        match self.loaded(&mut known) {
            Ok(known) => known.holds(path),
            Err(error) => {
                log::error!("{}: {error}", self.path.display());
                true
            }
        }
    }

    /// The reason why anything may be described: the file was damaged, or is full.
    pub(crate) fn doubt(&self) -> Option<String> {
        let mut known = self.lock();
        let doubtful = self.loaded(&mut known).map_or(true, |known| known.doubtful);
        doubtful.then(|| {
            let aside = damaged(&self.path);
            match aside.exists() {
                true => format!(
                    "it may be the content of a private torrent, as some of {} cannot be read; remove that file if \
                     all that is in the watched folders may be shared",
                    aside.display()
                ),
                false => format!(
                    "it may be the content of a private torrent: see {}",
                    self.path.display()
                ),
            }
        })
    }

    /// A description of `path`, of something above it or of something in it. A private one whose .torrent exists is
    /// preferred, then any private one.
    pub(crate) fn find(&self, path: &Path) -> Option<Description> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !self.holds_real(&path) {
            return None;
        }
        let _held = self.lock();
        find_in(&self.path, &path)
    }

    /// A description of the same file under another of its names (hard links).
    pub(crate) fn find_link(&self, path: &Path) -> Option<Description> {
        let there = path.metadata().ok()?;
        if !there.is_file() || there.nlink() < 2 {
            return None;
        }
        let same = |root: &Path| {
            let root = root.metadata();
            root.is_ok_and(|root| (root.dev(), root.ino()) == (there.dev(), there.ino()))
        };
        let mut found = None;
        let each = |description: Description| {
            if found.is_none() && same(&description.root) {
                found = Some(description);
            }
        };
        let _held = self.lock();
        self.read(each).ok()?;
        found
    }

    /// Frees the memory until the next lookup.
    pub(crate) fn rest(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loaded<'k>(&self, known: &'k mut Option<Known>) -> io::Result<&'k mut Known> {
        if known.is_none() {
            *known = Some(self.load()?);
        }
        known.as_mut().ok_or_else(|| io::ErrorKind::Other.into())
    }

    fn load(&self) -> io::Result<Known> {
        let mut known = Known::default();
        let damage = self.read(|description| {
            known.lines.push(line(&description).1);
            known.roots.push(hash(&description.root));
            let above = description.root.ancestors().skip(1).map(hash);
            known.above.extend(above);
            // Most descriptions have the same folder.
            if known.above.len() > known.roots.len() + 1000 {
                tidy(&mut known.above);
            }
        })?;
        if damage.lines {
            self.mend()?;
        } else if damage.rest > 0 {
            // The incomplete line is cut off, so that the next line does not continue it.
            let file = OpenOptions::new().write(true).open(&self.path)?;
            let end = file.metadata()?.len().saturating_sub(damage.rest);
            file.set_len(end)?;
        }
        for hashes in [&mut known.lines, &mut known.roots, &mut known.above] {
            tidy(hashes);
        }
        known.doubtful = damaged(&self.path).symlink_metadata().is_ok();
        Ok(known)
    }

    fn read(&self, each: impl FnMut(Description)) -> io::Result<Damage> {
        match open_regular(&self.path, FILE_MAX) {
            Ok(file) => read(file, each),
            Err(RegularError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Damage::default())
            }
            Err(RegularError::Io(error)) => Err(error),
            Err(error) => {
                set_aside(&self.path, &error.to_string());
                Ok(Damage::default())
            }
        }
    }

    /// Moves the damaged lines to another file, and keeps the others.
    fn mend(&self) -> io::Result<()> {
        let mut whole = String::new();
        self.read(|description| {
            whole.push_str(&line(&description).0);
        })?;
        set_aside(&self.path, "some of its lines are damaged");
        everseed_disk::replace(&self.path, |out| out.write_all(whole.as_bytes()))
    }
}

/// A description of `path`, of something above it or of something in it, from the file of a state that may be in use.
/// `path` must be without links.
pub(crate) fn find_in(file: &Path, path: &Path) -> Option<Description> {
    let path = folded(path);
    let mut best: Option<(u8, Description)> = None;
    let each = |found: Description| {
        let root = folded(&found.root);
        if !root.starts_with(&path) && !path.starts_with(&root) {
            return;
        }
        let rank = u8::from(found.private) * (1 + u8::from(found.is_there()));
        if best.as_ref().is_none_or(|(other, _)| rank > *other) {
            best = Some((rank, found));
        }
    };
    read(open_regular(file, FILE_MAX).ok()?, each).ok()?;
    best.map(|(_, found)| found)
}

impl Known {
    fn take(&mut self, root: &Path) {
        insert(&mut self.roots, hash(root));
        for folder in root.ancestors().skip(1) {
            insert(&mut self.above, hash(folder));
        }
    }

    fn holds(&self, path: &Path) -> bool {
        let within = |path: &Path| self.roots.binary_search(&hash(path)).is_ok();
        path.ancestors().any(within) || self.above.binary_search(&hash(path)).is_ok()
    }
}

impl Description {
    /// Whether its .torrent exists, or may exist on a disk that is away.
    pub(crate) fn is_there(&self) -> bool {
        let folder = self.torrent.parent().unwrap_or(Path::new("/"));
        match self.torrent.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => !folder.is_dir(),
            _ => true,
        }
    }
}

/// The damage of a file.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Damage {
    /// Whether there are damaged lines.
    lines: bool,
    /// Bytes of a last line that a power cut left incomplete. It counts for nothing, because nobody has acted on it.
    rest: u64,
}

/// Reads all undamaged lines.
fn read(file: File, mut each: impl FnMut(Description)) -> io::Result<Damage> {
    let mut damage = Damage::default();
    let mut reader = BufReader::with_capacity(16 * 1024, file);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let line = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut bytes)?;
        if line == 0 {
            return Ok(damage);
        }
        match parse(&bytes) {
            Some(description) => each(description),
            None if reader.fill_buf()?.is_empty() && bytes.last() != Some(&b'\n') => {
                damage.rest = line as u64;
            }
            None => damage.lines = true,
        }
    }
}

/// A description as a line, and the line's hash.
fn line(description: &Description) -> (String, u64) {
    let mut said = String::new();
    let private = if description.private {
        "private"
    } else {
        "public"
    };
    let _ = write!(said, " {private} ");
    write_path(&mut said, &description.root);
    said.push(' ');
    write_path(&mut said, &description.torrent);
    let hash = hash_of(said.as_bytes());
    (format!("{hash:016x}{said}\n"), hash)
}

fn parse(bytes: &[u8]) -> Option<Description> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (check, said) = text.split_at_checked(16)?;
    if u64::from_str_radix(check, 16).ok()? != hash_of(said.as_bytes()) {
        return None;
    }
    let mut words = said.split(' ').skip(1);
    let private = words.next()? == "private";
    let root = read_path(words.next()?)?;
    let torrent = read_path(words.next()?)?;
    Some(Description {
        root,
        torrent,
        private,
    })
}

/// Writes a path without blanks: every byte that is not plain becomes `%` and two digits.
fn write_path(text: &mut String, path: &Path) {
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
    }
}

fn read_path(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(first);
        }
    }
    Some(PathBuf::from(OsStr::from_bytes(&bytes)))
}

fn damaged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    PathBuf::from(name)
}

fn tidy(hashes: &mut Vec<u64>) {
    hashes.sort_unstable();
    hashes.dedup();
}

fn insert(hashes: &mut Vec<u64>, hash: u64) {
    if let Err(at) = hashes.binary_search(&hash) {
        hashes.insert(at, hash);
    }
}

/// The path with upper and lower case made equal.
fn folded(path: &Path) -> PathBuf {
    match path.to_str() {
        Some(text) => PathBuf::from(text.to_lowercase()),
        None => path.to_owned(),
    }
}

fn hash(path: &Path) -> u64 {
    hash_of(folded(path).as_os_str().as_bytes())
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut sha1 = Smol::default();
    sha1.update(bytes);
    let [a, b, c, d, e, f, g, h, ..] = sha1.finish();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The most lines: 1.5 MB of memory during a lookup.
const LINES_MAX: usize = 100_000;

/// The longest line in bytes: two paths.
const LINE_MAX: u64 = 32 * 1024;

/// The longest file in bytes.
const FILE_MAX: u64 = 128 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("everseed-described-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Folder(path.canonicalize().unwrap())
        }

        fn described(&self) -> Described {
            Described::new(self.0.join("described"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn description(root: &str, private: bool) -> Description {
        Description {
            root: root.into(),
            torrent: format!("/w/{private}.torrent").into(),
            private,
        }
    }

    #[test]
    fn what_is_described_lies_in_it_or_holds_it() {
        let folder = Folder::new("holds");
        let described = folder.described();
        assert!(!described.holds(Path::new("/a/b/c")));
        for root in ["/a/b/c d", "/a/b/c d", "/x/Ü%\n", "/a/e"] {
            described.add(&description(root, true)).unwrap();
        }
        assert_eq!(described.added(), 3);
        for _ in 0..2 {
            for (path, held) in [
                ("/a/b/c d", true),
                ("/a/b/C D", true),
                ("/a/b/c d/e/f", true),
                ("/a/b", true),
                ("/a", true),
                ("/a/b/c", false),
                ("/a/b/other", false),
                ("/x/Ü%\n", true),
                ("/x/ü%\n", true),
                ("/x/y", false),
            ] {
                assert_eq!(described.holds(Path::new(path)), held, "{path}");
            }
            described.rest();
        }
        // A link to it is it.
        let (content, link) = (folder.0.join("content"), folder.0.join("link"));
        fs::write(&content, "x").unwrap();
        std::os::unix::fs::symlink(&content, &link).unwrap();
        assert!(!described.holds(&link));
        let of_content = description(content.to_str().unwrap(), false);
        described.add(&of_content).unwrap();
        assert!(described.holds(&link));
        assert_eq!(described.find(&link), Some(of_content));
        assert_eq!(described.find(Path::new("/a/b/other")), None);
        // So is another name of it.
        let (twin, other) = (folder.0.join("twin"), folder.0.join("other"));
        fs::write(&other, "x").unwrap();
        fs::hard_link(&other, folder.0.join("other twin")).unwrap();
        fs::hard_link(&content, &twin).unwrap();
        let found = described.find_link(&twin);
        assert_eq!(found.map(|found| found.root), Some(content.clone()));
        assert_eq!(described.find_link(&other), None);
        described.add(&description("/a/b/c d", false)).unwrap();
        let found = described.find(Path::new("/a/b"));
        assert_eq!(found, Some(description("/a/b/c d", true)), "a private one");
    }

    #[test]
    fn damage_leads_to_doubt() {
        let folder = Folder::new("damage");
        let path = folder.0.join("described");
        let roots = ["/a/1", "/a/2", "/a/3"];
        for root in roots {
            folder.described().add(&description(root, true)).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        let held = |described: &Described| {
            let held = roots.map(|root| described.holds(Path::new(root)));
            (held, described.doubt().is_some())
        };
        // A power cut: the last line is as if it had not been written.
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let described = folder.described();
            let lines = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
            let expected = [lines > 0, lines > 1, false];
            assert_eq!(held(&described), (expected, false), "{cut}");
            described.add(&description("/a/3", true)).unwrap();
            let again = held(&folder.described());
            assert_eq!(again, ([lines > 0, lines > 1, true], false), "{cut}");
        }
        // Anything else: the other lines hold, and there is doubt until the owner says that there is none.
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap();
        for at in 0..first {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            for _ in 0..2 {
                let described = folder.described();
                let (held, doubt) = held(&described);
                assert!(held[2] && doubt, "{at}");
            }
            fs::remove_file(damaged(&path)).unwrap();
            assert_eq!(folder.described().doubt(), None);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let described = folder.described();
        assert!(described.doubt().is_some());
        described.add(&description("/a/3", true)).unwrap();
        assert!(folder.described().holds(Path::new("/a/3")));
    }
}
