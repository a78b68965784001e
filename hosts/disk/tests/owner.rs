//! A file is everseed's own or its owner's, and only everseed's own files are written.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::path::Path;

use common::{Listed, Scratch, random, torrent_of};
use everseed_core::bits;
use everseed_disk::{Content, FileCache, WriteError, check, owner, read_torrent, write};

const PIECE: usize = 16384;

/// A torrent, its content, and the folder for its data.
struct Stage {
    scratch: Scratch,
    bytes: Vec<u8>,
    files: Vec<(&'static str, usize)>,
}

impl Stage {
    fn new(files: &[(&'static str, usize)]) -> Stage {
        let scratch = Scratch::new("owner");
        let bytes = random(5, files.iter().map(|(_, len)| len).sum());
        let list: Vec<_> = files
            .iter()
            .map(|&(path, len)| Listed {
                path,
                len,
                attr: "",
            })
            .collect();
        scratch.write("x.torrent", &torrent_of("T", PIECE, &list, &bytes));
        fs::create_dir(scratch.path().join("data")).unwrap();
        let files = files.to_vec();
        Stage {
            scratch,
            bytes,
            files,
        }
    }

    /// The right content of a file.
    fn of(&self, name: &str) -> &[u8] {
        let mut start = 0;
        for &(path, len) in &self.files {
            if path == name {
                return &self.bytes[start..start + len];
            }
            start += len;
        }
        panic!("{name}");
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        self.scratch.write(&format!("data/T/{name}"), bytes);
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.scratch.path().join("data/T").join(name)).unwrap()
    }

    /// Opens the content for a download, as a start does.
    fn open(&self) -> (Content, Vec<u8>) {
        let torrent = self.scratch.path().join("x.torrent");
        let metainfo = read_torrent(&torrent).unwrap();
        let data = self.scratch.path().join("data");
        let content = Content::open(&torrent, &metainfo, &data, self.scratch.path()).unwrap();
        let go_on = |_| std::ops::ControlFlow::Continue(());
        let good = check::check(&content, go_on, |_| {}).unwrap().unwrap();
        write::make_folder(&content).unwrap();
        let record = self.scratch.path().join("x.download");
        content.write_only_own(&record, good.clone()).unwrap();
        (content, good)
    }

    /// The names of files that differ from the torrent, and the pieces that cannot be written.
    fn differing(&self) -> (Vec<String>, Vec<u32>) {
        let (content, good) = self.open();
        let Some(found) = owner::differing(&content, &good, |_| true).unwrap() else {
            return (Vec::new(), Vec::new());
        };
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files: Vec<_> = found.files.iter().map(|path| name(path)).collect();
        assert_eq!(files.len(), found.count);
        let pieces = (0..content.geometry().pieces()).filter(|&p| bits::get(&found.pieces, p));
        (files, pieces.collect())
    }

    /// Writes the wanted pieces, and returns those that are good afterwards.
    fn download(&self, content: &Content, wanted: &[u32]) -> Vec<u32> {
        let files = FileCache::new(4);
        let mut good = Vec::new();
        for &index in wanted {
            let piece = content.geometry().piece(index).unwrap();
            let start = usize::try_from(content.geometry().piece_offset(piece)).unwrap();
            let len = content.geometry().piece_size(piece) as usize;
            let written = write::write(
                content,
                &files,
                start as u64,
                &[&self.bytes[start..start + len]],
            );
            if let Err(error) = &written {
                assert!(matches!(error, WriteError::Owners { .. }), "{error}");
            }
            let reads = FileCache::new(4);
            if check::verify_piece(content, &reads, piece, &mut [0; PIECE]).unwrap_or(false) {
                content.completed(piece);
                good.push(index);
            }
        }
        good
    }
}

/// Three files of two pieces and a half each: pieces 2 and 7 lie in two files, 5 in one.
const FILES: [(&str, usize); 3] = [("a", 40960), ("b", 40960), ("c", 40960)];

#[test]
fn what_was_there_is_kept() {
    let stage = Stage::new(&FILES);
    assert_eq!(stage.differing().0, [""; 0]);
    // A good file, but for its last piece, which it shares with a missing one.
    stage.put("a", stage.of("a"));
    assert_eq!(stage.differing().0, [""; 0]);
    // Another file of the same name differs, and so does one that is too short. A longer one does not.
    stage.put("a", &[7; 40960]);
    assert_eq!(stage.differing(), (vec!["a".into()], vec![0, 1]));
    stage.put("a", &stage.of("a")[..100]);
    assert_eq!(stage.differing(), (vec!["a".into()], vec![0, 1]));
    stage.put("a", &[stage.of("a"), b"more"].concat());
    assert_eq!(stage.differing().0, [""; 0]);
    // Only the piece that the file shares with the next one is bad. While that file is missing, it may be the reason.
    let mut edited = stage.of("a").to_vec();
    edited[40959] ^= 1;
    stage.put("a", &edited);
    assert_eq!(stage.differing().0, [""; 0]);
    stage.put("b", stage.of("b"));
    assert_eq!(stage.differing(), (vec!["a".into(), "b".into()], vec![2]));
    // An empty file holds nothing that could be lost.
    stage.put("c", b"");
    assert_eq!(stage.differing().0.len(), 2);
    // The first file has another bad piece, so it is the one that differs.
    edited[5] ^= 1;
    stage.put("a", &edited);
    assert_eq!(stage.differing(), (vec!["a".into()], vec![0, 2]));
}

#[test]
fn only_our_own_files_are_written() {
    let stage = Stage::new(&FILES);
    stage.put("a", stage.of("a"));
    let (content, _) = stage.open();
    write::prepare(&content, |_| true).unwrap();
    // A piece that lies partly in the owner's good file is completed from there.
    assert_eq!(
        stage.download(&content, &[2, 3, 4, 5, 6, 7]),
        [2, 3, 4, 5, 6, 7]
    );
    for (name, _) in FILES {
        assert!(stage.read(name) == stage.of(name), "{name}");
    }
    // All files are complete, so all are the owner's, before the record is settled and after.
    for settled in [false, true] {
        if settled {
            let ours = content.ours().unwrap();
            ours.begin_sync().and_then(|()| ours.synced()).unwrap();
            fs::remove_file(stage.scratch.path().join("x.download")).unwrap();
        }
        let mut edited = stage.of("b").to_vec();
        edited[20_000] ^= 1;
        stage.put("b", &edited);
        assert_eq!(stage.differing(), (vec!["b".into()], vec![3]));
        let (content, good) = stage.open();
        // Until then the known pieces may be older than the file.
        let found = owner::differing(&content, &good, |_| true).unwrap();
        assert_eq!(found.unwrap().contradicts, !settled);
        write::prepare(&content, |_| true).unwrap();
        assert!(!content.writes_all_of(content.geometry().piece(3).unwrap()));
        assert_eq!(stage.download(&content, &[3]), [0; 0]);
        assert!(stage.read("b") == edited);
        stage.put("b", stage.of("b"));
    }
}

/// At each moment at which a download may be cut off, complete files are the owner's and the others are ours.
#[test]
fn cut_off_and_begun_again() {
    let stage = Stage::new(&FILES);
    // Before the first block.
    let (content, _) = stage.open();
    write::prepare(&content, |_| true).unwrap();
    drop(content);
    assert_eq!(stage.differing().0, [""; 0]);
    // In the middle: a is complete, b has begun.
    let (content, _) = stage.open();
    write::prepare(&content, |_| true).unwrap();
    assert_eq!(stage.download(&content, &[0, 1, 2, 3]), [0, 1, 2, 3]);
    drop(content);
    assert_eq!(stage.differing().0, [""; 0]);
    // Unfinished files of ours stay ours, whatever their content.
    let mut edited = stage.read("b");
    edited[20_000] ^= 1;
    fs::write(stage.scratch.path().join("data/T/b"), &edited).unwrap();
    assert_eq!(stage.differing().0, [""; 0]);
    // A complete file does not.
    let mut edited = stage.of("a").to_vec();
    edited[20_000] ^= 1;
    stage.put("a", &edited);
    assert_eq!(stage.differing(), (vec!["a".into()], vec![1]));
    let (content, _) = stage.open();
    write::prepare(&content, |_| true).unwrap();
    assert_eq!(stage.download(&content, &[1]), [0; 0]);
    assert!(stage.read("a") == edited);
    assert_eq!(stage.download(&content, &[3, 4, 5, 6, 7]), [3, 4, 5, 6, 7]);
    stage.put("a", stage.of("a"));
    // Another file in the place of our file is the owner's.
    stage.put("c.new", &[9; 40960]);
    let at = |name: &str| stage.scratch.path().join("data/T").join(name);
    let (content, _) = stage.open();
    fs::remove_file(at("c")).unwrap();
    write::prepare(&content, |_| true).unwrap();
    assert_eq!(stage.differing().0, [""; 0]);
    fs::rename(at("c.new"), at("c")).unwrap();
    assert_eq!(stage.differing(), (vec!["c".into()], vec![5, 6, 7]));
    assert_eq!(stage.download(&content, &[6]), [0; 0]);
    assert_eq!(stage.read("c"), [9; 40960]);
    // Without the record all files are the owner's.
    fs::remove_file(at("c")).unwrap();
    let (content, _) = stage.open();
    write::prepare(&content, |_| true).unwrap();
    assert_eq!(stage.download(&content, &[6]), [6]);
    fs::remove_file(stage.scratch.path().join("x.download")).unwrap();
    assert_eq!(stage.differing(), (vec!["c".into()], vec![5, 7]));
}

#[test]
fn written_over_if_the_owner_says_so() {
    let stage = Stage::new(&FILES);
    stage.put("a", &[7; 40960]);
    stage.put("b", stage.of("b"));
    let (content, good) = stage.open();
    let found = owner::differing(&content, &good, |_| true)
        .unwrap()
        .unwrap();
    // Overwriting would change the file under all its names.
    let (a, other) = (
        stage.scratch.path().join("data/T/a"),
        stage.scratch.path().join("other"),
    );
    fs::hard_link(&a, &other).unwrap();
    match owner::overwrite(&content, &found) {
        Err(WriteError::Linked { path }) => assert_eq!(path, a),
        done => panic!("{done:?}"),
    }
    fs::remove_file(other).unwrap();
    owner::overwrite(&content, &found).unwrap();
    write::prepare(&content, |_| true).unwrap();
    assert_eq!(stage.download(&content, &[0, 1, 2]), [0, 1, 2]);
    assert!(stage.read("a") == stage.of("a"));
    assert_eq!(stage.differing().0, [""; 0]);
}

/// A copy elsewhere that has more good pieces is used, but not written.
#[test]
fn copies_elsewhere_are_not_written_over() {
    // The name of the better file, whether the owner names it, and whether it is a copy that is left.
    for (name, named, leaves) in [
        ("backup/a", false, true),
        ("T/b (1)", false, true),
        ("T/a.part", false, false),
        ("backup/a", true, false),
    ] {
        let stage = Stage::new(&FILES);
        let [mut bad, mut better] = [(); 2].map(|()| stage.of("a").to_vec());
        bad[..2 * PIECE].fill(0);
        better[..PIECE].fill(0);
        stage.put("a", &bad);
        stage.scratch.write(&format!("data/{name}"), &better);
        stage.put("b", stage.of("b"));
        stage.put("c", stage.of("c"));
        if named {
            let torrent = stage.scratch.path().join("x.torrent");
            let (metainfo, path) = (read_torrent(&torrent).unwrap(), stage.scratch.path());
            let content = Content::open(&torrent, &metainfo, &path.join("data"), path);
            content.unwrap().place_files(&[(1, name.into())]).unwrap();
        }
        let (content, good) = stage.open();
        let look = |good: &[u8]| owner::differing(&content, good, |_| true).unwrap().unwrap();
        let place = stage.scratch.path().join("data").join(name);
        assert!(look(&good).files.iter().eq([&place]), "{name}");
        let left = owner::leave_copies(&content, &look(&good)).unwrap();
        assert_eq!(left, leaves, "{name}");
        // A download is checked again without a search.
        content.set_growing(true);
        let go_on = |_| std::ops::ControlFlow::Continue(());
        let good = check::check(&content, go_on, |_| {}).unwrap().unwrap();
        assert!(!owner::leave_copies(&content, &look(&good)).unwrap());
        owner::overwrite(&content, &look(&good)).unwrap();
        write::prepare(&content, |_| true).unwrap();
        stage.download(&content, &[0, 1, 2]);
        let (written, kept) = match leaves {
            true => (stage.scratch.path().join("data/T/a"), (place, better)),
            false => (place, (stage.scratch.path().join("data/T/a"), bad)),
        };
        assert!(fs::read(written).unwrap() == stage.of("a"), "{name}");
        assert!(fs::read(kept.0).unwrap() == kept.1, "{name}");
    }
}

/// Two files of a torrent are one file on the disk, because of a link or because the disk takes their names for the
/// same. The second one is not written.
#[test]
fn one_file_is_written_by_one() {
    let stage = Stage::new(&[("ReadMe", 40000), ("twin", 40000)]);
    let (content, _) = stage.open();
    write::prepare(&content, |_| true).unwrap();
    let at = |name: &str| stage.scratch.path().join("data/T").join(name);
    // As such a file system would show the two files.
    fs::remove_file(at("twin")).unwrap();
    fs::hard_link(at("ReadMe"), at("twin")).unwrap();
    assert_eq!(stage.download(&content, &[0, 1, 3, 4]), [0, 1]);
    let (content, good) = stage.open();
    let found = owner::differing(&content, &good, |_| true)
        .unwrap()
        .unwrap();
    assert_eq!((found.count, found.twins), (0, vec![at("twin")]));
}

/// Two torrents have a file at the same path. The first one keeps it.
#[test]
fn the_first_one_keeps_its_file() {
    let (stage, other) = (Stage::new(&FILES), Stage::new(&[("a", 50000), ("z", 10)]));
    let (content, _) = stage.open();
    write::prepare(&content, |_| true).unwrap();
    // Both torrents are downloaded to the same folder at once. The first one has prepared its files.
    let torrent = other.scratch.path().join("x.torrent");
    let metainfo = read_torrent(&torrent).unwrap();
    let data = stage.scratch.path().join("data");
    let second = Content::open(&torrent, &metainfo, &data, other.scratch.path()).unwrap();
    let record = other.scratch.path().join("x.download");
    second.write_only_own(&record, vec![0; 1]).unwrap();
    write::prepare(&second, |_| true).unwrap();
    assert_eq!(other.download(&second, &[0, 1, 2]), [0; 0]);
    assert_eq!(stage.download(&content, &[0, 1, 2, 3, 4]), [0, 1, 2, 3, 4]);
    assert!(stage.read("a") == stage.of("a"));
    let found = owner::differing(&second, &[0], |_| true).unwrap().unwrap();
    assert_eq!(found.files, [data.join("T/a")]);
}

/// Downloads are cut off, files are edited and replaced, at random. No byte of the owner's is ever changed, and in the
/// end all other pieces can be written.
#[test]
fn nothing_of_the_owners_is_lost_by_chance() {
    for seed in 0..40 {
        let mut rng = everseed_core::rng::Rng::new(seed);
        let stage = Stage::new(&[
            ("a", 30_000),
            ("b", 500),
            ("c", 50_000),
            ("d", 700),
            ("e", 20_000),
        ]);
        let folder = stage.scratch.path().join("data/T");
        // The content of files that the owner changed.
        let mut owners: std::collections::HashMap<&str, Vec<u8>> = Default::default();
        let (mut content, mut good) = stage.open();
        write::prepare(&content, |_| true).unwrap();
        for _ in 0..30 {
            let at = rng.below(5) as usize;
            let (name, len) = stage.files[at];
            let path = folder.join(name);
            match rng.below(6) {
                0 => {
                    // The download is cut off and begun again.
                    (content, good) = stage.open();
                    write::prepare(&content, |_| true).unwrap();
                }
                1 => {
                    // The owner replaces the file, as an editor does when it saves.
                    let new = stage.scratch.write("new", &random(rng.bits(), 1 + len / 2));
                    owners.insert(name, fs::read(&new).unwrap());
                    fs::rename(new, &path).unwrap();
                }
                2 if !owners.contains_key(name) && fs::read(&path).unwrap() == stage.of(name) => {
                    // The owner edits a complete file in place, if everseed knows that it is complete.
                    let start: usize = stage.files[..at].iter().map(|(_, len)| len).sum();
                    let pieces = start / PIECE..=(start + len - 1) / PIECE;
                    let is_known = |p| bits::get(&good, u32::try_from(p).unwrap());
                    if pieces.clone().all(is_known) {
                        let mut bytes = stage.of(name).to_vec();
                        bytes[len / 2] ^= 1;
                        fs::write(&path, &bytes).unwrap();
                        owners.insert(name, bytes);
                    }
                }
                3 if owners.contains_key(name) => {
                    // The owner removes the file.
                    owners.remove(name);
                    fs::remove_file(&path).unwrap();
                    (content, good) = stage.open();
                    write::prepare(&content, |_| true).unwrap();
                }
                _ => {
                    let piece = rng.below(content.geometry().pieces());
                    for piece in stage.download(&content, &[piece]) {
                        bits::set(&mut good, piece);
                    }
                }
            }
            for (name, bytes) in &owners {
                assert!(
                    fs::read(folder.join(name)).unwrap() == *bytes,
                    "{seed}: {name}"
                );
            }
        }
        for name in owners.keys() {
            fs::remove_file(folder.join(name)).unwrap();
        }
        let (content, good) = stage.open();
        assert!(
            owner::differing(&content, &good, |_| true)
                .unwrap()
                .is_none(),
            "{seed}"
        );
        write::prepare(&content, |_| true).unwrap();
        let all: Vec<u32> = (0..content.geometry().pieces()).collect();
        assert_eq!(stage.download(&content, &all), all, "{seed}");
    }
}

/// New files and folders get the permissions of `Access`, and existing ones keep theirs. Existing files need no room.
#[test]
fn what_is_made_is_for_others_too() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::new(&[("deep/a", 40960), ("b", 40960)]);
    stage.put("b", &stage.bytes[40960..]);
    let at = |name: &str| stage.scratch.path().join("data/T").join(name);
    let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
    fs::set_permissions(at("b"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(at(""), PermissionsExt::from_mode(0o700)).unwrap();
    let (content, good) = stage.open();
    let room = everseed_disk::room::measure(&content, &good, |_| true).unwrap();
    // The last piece of the first file is half in the other file, which exists.
    assert_eq!((room.needed, room.too_long), (40960, None));
    let (umask, group) = (Some(0o007), None);
    content.set_access(everseed_disk::Access { umask, group });
    write::prepare(&content, |_| true).unwrap();
    let modes = ["deep", "deep/a", "b", ""].map(mode);
    assert_eq!(modes, [0o770, 0o660, 0o600, 0o700]);
}

/// A file of ours is gone, perhaps with its disk. A late block does not make it again, because it would lie below the
/// mount point. The next start makes it.
#[test]
fn what_is_gone_is_not_made_by_a_late_block() {
    let stage = Stage::new(&[("a", 2 * PIECE), ("b", 2 * PIECE)]);
    let (content, _) = stage.open();
    write::prepare(&content, |_| true).unwrap();
    assert_eq!(stage.download(&content, &[0, 2]), [0, 2]);
    let path = stage.scratch.path().join("data/T/a");
    fs::remove_file(&path).unwrap();
    let files = FileCache::new(4);
    let late = write::write(&content, &files, 16384, &[&stage.bytes[PIECE..2 * PIECE]]);
    let late = late.unwrap_err();
    assert!(late.is_away(), "{late}");
    assert!(!path.exists());
    // The other file is written all the same.
    assert_eq!(stage.download(&content, &[3]), [3]);
    let (content, good) = stage.open();
    write::prepare(&content, |_| true).unwrap();
    let left: Vec<u32> = (0..4).filter(|&piece| !bits::get(&good, piece)).collect();
    assert_eq!(left, [0, 1]);
    assert_eq!(stage.download(&content, &left), [0, 1]);
}
