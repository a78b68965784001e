//! Files to seed, and comparison of what was downloaded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::dir::Dir;

/// A file or folder to be seeded.
#[derive(Debug)]
pub struct Content {
    path: PathBuf,
    /// Kept so that the files stay.
    _dir: Dir,
}

impl Content {
    /// One file of `len` bytes; another seed gives other bytes.
    pub fn file(name: &str, len: u64, seed: u64) -> Content {
        let dir = Dir::new("content");
        let path = dir.join(name);
        write(&path, len, seed);
        Content { path, _dir: dir }
    }

    /// A folder with these files: path and length of each.
    pub fn folder(name: &str, files: &[(&str, u64)]) -> Content {
        let dir = Dir::new("content");
        let path = dir.join(name);
        for (seed, (file, len)) in (1..).zip(files) {
            write(&path.join(file), *len, seed);
        }
        Content { path, _dir: dir }
    }

    /// A folder with difficult files: empty ones, many smaller than a piece, one of many pieces, deep paths, long and
    /// non-ASCII names.
    pub fn odd_folder() -> Content {
        let deep = "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z/deep.bin";
        let long = format!("{}/{}", "long ".repeat(30).trim(), "n".repeat(200));
        let small: Vec<String> = (0..150).map(|n| format!("small/{n:03}.txt")).collect();
        let mut files = vec![
            ("empty", 0),
            ("empty too", 0),
            ("sub/empty", 0),
            ("one byte", 1),
            ("größe & maß.txt", 3_000),
            ("日本語/世界.bin", 70_000),
            ("emoji 🌱/seed 🌍.dat", 16_384),
            ("русский/файл", 16_385),
            ("big.bin", 9_000_001),
            ("zz last, empty", 0),
            (deep, 123_456),
            (&long, 40_000),
        ];
        files.extend(
            small
                .iter()
                .zip(1..)
                .map(|(name, n)| (name.as_str(), n * 97)),
        );
        Content::folder("odd 文 folder", &files)
    }

    /// The file of 1 GiB, which all tests that run at the same time share.
    pub fn one_gib() -> Arc<Content> {
        static SHARED: Mutex<Weak<Content>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let content = Arc::new(Content::file("one-gib.bin", 1 << 30, 1));
            *shared = Arc::downgrade(&content);
            content
        })
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that holds it.
    pub fn parent(&self) -> &Path {
        self.path.parent().expect("content lies in a folder")
    }

    /// The name of a torrent of it.
    pub fn name(&self) -> &str {
        let name = self.path.file_name().and_then(|n| n.to_str());
        name.expect("content has a name")
    }

    /// Compares it byte by byte with the download in `dir`, and panics at a difference. Empty files must be there if
    /// `empty_files`.
    pub fn assert_same_in(&self, dir: &Path, empty_files: bool) {
        let copy = dir.join(self.name());
        let (mut ours, theirs) = (tree(&self.path), tree(&copy));
        ours.retain(|name, len| empty_files || *len > 0 || theirs.contains_key(name));
        let missing: Vec<_> = ours.keys().filter(|n| !theirs.contains_key(*n)).collect();
        let extra: Vec<_> = theirs.keys().filter(|n| !ours.contains_key(*n)).collect();
        let shown = copy.display();
        assert!(missing.is_empty(), "{shown}: {missing:?} did not arrive");
        assert!(extra.is_empty(), "{shown}: {extra:?} were not asked for");
        for name in ours.keys() {
            assert_same(&join(&self.path, name), &join(&copy, name));
        }
    }

    /// Whether the file or folder at `copy` has the same files with the same bytes now. Empty files do not count,
    /// because not every client makes them.
    pub fn is_same_as(&self, copy: &Path) -> bool {
        let ours = tree(&self.path);
        ours.iter().filter(|(_, len)| **len > 0).all(|(name, _)| {
            let read = |path: PathBuf| fs::read(path).ok();
            read(join(copy, name)) == read(join(&self.path, name))
        })
    }

    /// Copies it into `dir`, where a test may damage it.
    pub fn copy_to(&self, dir: &Path) -> PathBuf {
        let copy = dir.join(self.name());
        for name in tree(&self.path).keys() {
            let to = join(&copy, name);
            fs::create_dir_all(to.parent().expect("a folder")).expect("making a folder");
            fs::copy(join(&self.path, name), to).expect("copying");
        }
        copy
    }
}

/// Bytes that are allocated below `path`: roughly the part of a download that is there.
pub fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::symlink_metadata(path) else {
        return 0;
    };
    let inner = fs::read_dir(path).into_iter().flatten().flatten();
    meta.blocks() * 512 + inner.map(|e| allocated(&e.path())).sum::<u64>()
}

/// Files below `path` with their lengths; a file itself has an empty name.
fn tree(path: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(name) = todo.pop() {
        let here = join(path, &name);
        let meta = fs::metadata(&here).unwrap_or_else(|e| panic!("{}: {e}", here.display()));
        if !meta.is_dir() {
            files.insert(name, meta.len());
            continue;
        }
        for entry in fs::read_dir(&here).expect("reading a folder") {
            todo.push(name.join(entry.expect("reading a folder").file_name()));
        }
    }
    files
}

/// `Path::join` would append a slash for an empty name, which a file may not have.
fn join(path: &Path, name: &Path) -> PathBuf {
    if name.as_os_str().is_empty() {
        path.to_path_buf()
    } else {
        path.join(name)
    }
}

fn assert_same(ours: &Path, theirs: &Path) {
    let open = |p: &Path| File::open(p).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
    let (a, b) = (open(ours), open(theirs));
    let len = |f: &File| f.metadata().expect("a file's length").len();
    assert_eq!(len(&a), len(&b), "length of {}", theirs.display());
    let (mut a, mut b) = (BufReader::new(a), BufReader::new(b));
    let (mut x, mut y) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    loop {
        let n = a.read(&mut x).expect("reading");
        if n == 0 {
            return;
        }
        b.read_exact(&mut y[..n]).expect("reading");
        if x[..n] != y[..n] {
            let differs = x.iter().zip(&y).position(|(x, y)| x != y).unwrap_or(0);
            panic!("{}: byte {} differs", theirs.display(), at + differs);
        }
        at += n;
    }
}

fn write(path: &Path, len: u64, seed: u64) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("making a folder");
    let mut file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // xorshift64*: every block is different, and no two files share one.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut chunk = vec![0; CHUNK];
    let mut left = len;
    while left > 0 {
        for word in chunk.chunks_exact_mut(8) {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let value = state.wrapping_mul(0x2545_F491_4F6C_DD1D);
            word.copy_from_slice(&value.to_le_bytes());
        }
        let n = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        let written = file.write_all(&chunk[..n]);
        written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        left -= n as u64;
    }
}

const CHUNK: usize = 1 << 20;
