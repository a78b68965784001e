//! Content is moved to its final place: by one rename, or by a copy to another file system.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{Listed, Scratch, random, torrent_of};
use everseed_core::bits;
use everseed_disk::relocate::{Relocation, apart};
use everseed_disk::{Content, ReadError, WriteError, check, read_torrent};

const PIECE: usize = 16384;

/// A torrent with strange names, whose content lies in `made/HASH.part`. It is to be moved to a folder that may be on
/// another file system.
struct Case {
    scratch: Scratch,
    out: PathBuf,
    torrent: PathBuf,
    dir: PathBuf,
}

const NAMES: [&str; 6] = ["a/one", "a/ONE", "a:b?", "empty", ".pad/9", "deep/er/last"];
const LENS: [usize; 6] = [40_000, 3, PIECE, 0, 9, 100_000];

impl Case {
    fn new(out: Option<&Path>) -> Case {
        let scratch = Scratch::new("relocate");
        let mut bytes = random(7, LENS.iter().sum());
        let mut at = 0;
        let mut files = Vec::new();
        for (path, len) in NAMES.into_iter().zip(LENS) {
            let attr = if path.starts_with(".pad") { "p" } else { "" };
            if attr == "p" {
                bytes[at..at + len].fill(0);
            }
            at += len;
            files.push(Listed { path, len, attr });
        }
        let torrent = scratch.write("x.torrent", &torrent_of("x", PIECE, &files, &bytes));
        let hash = read_torrent(&torrent).unwrap().info_hash;
        let dir = scratch.path().join("made");
        let mut at = 0;
        for (path, len) in NAMES.into_iter().zip(LENS) {
            if !path.starts_with(".pad") {
                let place = format!("made/{hash}.part/x/{path}");
                scratch.write(&place, &bytes[at..at + len]);
            }
            at += len;
        }
        let out = out.map_or(scratch.path().join("out"), |out| {
            out.join(format!(
                "everseed-relocate-{}-{}",
                std::process::id(),
                hash_of(scratch.path())
            ))
        });
        fs::create_dir_all(&out).unwrap();
        Case {
            scratch,
            out,
            torrent,
            dir,
        }
    }

    fn from(&self) -> PathBuf {
        apart(&self.dir, read_torrent(&self.torrent).unwrap().info_hash)
    }

    fn open(&self, folder: &Path) -> Content {
        let metainfo = read_torrent(&self.torrent).unwrap();
        Content::open(&self.torrent, &metainfo, folder, self.scratch.path()).unwrap()
    }

    fn is_whole(&self, content: &Content) -> bool {
        let mut scratch = vec![0; check::CHUNK];
        let mut check = check::Check::new(content);
        while check.left(content) > 0 {
            if check.step(content, &mut scratch).is_err() {
                return false;
            }
        }
        let found = check.finish(content, &mut || true).unwrap().unwrap();
        bits::count(&found) == content.geometry().pieces()
    }

    fn relocation(&self, content: &Content) -> Relocation {
        let all = vec![0xff; content.geometry().bitfield_len() as usize];
        Relocation::new(self.from(), self.out.clone(), all)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.out);
    }
}

fn hash_of(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte))
}

/// A folder on another file system than that of the scratch folders, if there is one.
fn elsewhere() -> Option<&'static Path> {
    let memory = Path::new("/dev/shm");
    let device = |path: &Path| fs::metadata(path).map(|there| there.dev()).ok();
    (device(memory)? != device(&std::env::temp_dir())?).then_some(memory)
}

fn targets() -> Vec<Option<&'static Path>> {
    let mut all = vec![None];
    all.extend(elsewhere().map(Some));
    all
}

fn finish(mut relocation: Relocation, content: &Content) {
    let mut scratch = vec![0; check::CHUNK];
    while !relocation.step(content, &mut scratch).unwrap() {}
}

#[test]
fn it_lies_in_its_place_and_nowhere_else() {
    for target in targets() {
        let case = Case::new(target);
        let content = case.open(&case.from());
        assert!(case.is_whole(&content));
        finish(case.relocation(&content), &content);
        assert_eq!(content.root(), case.out.join("x"));
        assert!(case.is_whole(&content), "{target:?}");
        assert!(case.is_whole(&case.open(&case.out)));
        assert_eq!(fs::read(case.out.join("x/empty")).unwrap(), b"");
        assert!(!case.from().exists() && case.dir.exists());
        let left = fs::read_dir(&case.out).unwrap().count();
        assert_eq!(left, 1, "{target:?}");
        // A second relocation has nothing to do.
        let again = case.open(&case.out);
        finish(case.relocation(&again), &again);
        assert!(case.is_whole(&again));
    }
}

/// The power goes after each step. One copy is always whole, and the next start completes the move.
#[test]
fn one_copy_is_whole_at_each_moment() {
    for target in targets() {
        for cut in 0.. {
            let case = Case::new(target);
            let content = case.open(&case.from());
            let mut relocation = case.relocation(&content);
            let mut scratch = vec![0; check::CHUNK];
            let mut ended = false;
            for _ in 0..cut {
                ended = relocation.step(&content, &mut scratch).unwrap();
                if ended {
                    break;
                }
            }
            drop((relocation, content));
            let before = case.open(&case.from());
            let after = case.open(&case.out);
            assert_eq!(case.is_whole(&before), !ended, "{target:?} {cut}");
            assert_eq!(case.is_whole(&after), ended);
            // The final place never holds a partial copy.
            assert_eq!(case.out.join("x").exists(), ended);
            let content = if ended { after } else { before };
            finish(case.relocation(&content), &content);
            assert!(case.is_whole(&case.open(&case.out)));
            assert!(!case.from().exists());
            assert_eq!(fs::read_dir(&case.out).unwrap().count(), 1);
            if ended {
                break;
            }
        }
    }
}

/// The power went between the rename and the removal of the original. The next start removes it.
#[test]
fn what_is_left_of_the_first_copy_goes_at_the_next_start() {
    let case = Case::new(None);
    let content = case.open(&case.from());
    let copy = case.from().join("x");
    let name = |n: &str| copy.join(n);
    let kept = NAMES.map(|n| (n, fs::read(name(n)).ok()));
    finish(case.relocation(&content), &content);
    for (n, bytes) in kept {
        if let Some(bytes) = bytes {
            fs::create_dir_all(name(n).parent().unwrap()).unwrap();
            fs::write(name(n), bytes).unwrap();
        }
    }
    // Another file in the same folder stays.
    fs::write(case.from().join("letters.txt"), b"dear").unwrap();
    let content = case.open(&case.out);
    finish(case.relocation(&content), &content);
    assert!(case.is_whole(&content));
    assert!(!copy.exists());
    assert_eq!(fs::read(case.from().join("letters.txt")).unwrap(), b"dear");
}

#[test]
fn what_is_in_the_way_stays() {
    for target in targets() {
        let case = Case::new(target);
        let content = case.open(&case.from());
        for is_folder in [true, false] {
            let theirs = case.out.join("x");
            match is_folder {
                true => fs::create_dir(&theirs).unwrap(),
                false => fs::write(&theirs, b"theirs").unwrap(),
            }
            let mut scratch = vec![0; check::CHUNK];
            let mut relocation = case.relocation(&content);
            let error = relocation.step(&content, &mut scratch).unwrap_err();
            assert!(matches!(error, WriteError::Taken { .. }), "{error}");
            assert!(error.to_string().contains("move that away"), "{error}");
            assert!(case.is_whole(&content));
            match is_folder {
                true => fs::remove_dir(&theirs).unwrap(),
                false => {
                    assert_eq!(fs::read(&theirs).unwrap(), b"theirs");
                    fs::remove_file(&theirs).unwrap();
                }
            }
        }
        finish(case.relocation(&content), &content);
        assert!(case.is_whole(&content));
    }
}

/// A missing final folder is not made, because it may be on a disk that is not mounted.
#[test]
fn the_folder_that_it_goes_to_is_not_made() {
    let case = Case::new(None);
    let content = case.open(&case.from());
    fs::remove_dir(&case.out).unwrap();
    let mut scratch = vec![0; check::CHUNK];
    let error = case.relocation(&content).step(&content, &mut scratch);
    let error = error.unwrap_err();
    assert!(
        matches!(&error, WriteError::Place(ReadError::Missing { path }) if *path == case.out),
        "{error}"
    );
    assert!(!case.out.exists() && case.is_whole(&content));
}

/// A piece that changed after its verification is not copied.
#[test]
fn what_is_copied_is_verified() {
    let Some(target) = elsewhere() else { return };
    let case = Case::new(Some(target));
    let content = case.open(&case.from());
    fs::write(case.from().join("x/deep/er/last"), vec![1; LENS[5]]).unwrap();
    let mut scratch = vec![0; check::CHUNK];
    let mut relocation = case.relocation(&content);
    let error = loop {
        match relocation.step(&content, &mut scratch) {
            Ok(ended) => assert!(!ended),
            Err(error) => break error,
        }
    };
    assert!(matches!(
        error,
        WriteError::Place(ReadError::Changed { .. })
    ));
    assert!(!case.out.join("x").exists());
    // The partial copy is removed, so that it takes no room until the next try.
    assert_eq!(fs::read_dir(&case.out).unwrap().count(), 0);
}
