//! Files under other names than the torrent's, as other clients and people leave them, are found by size and hash.
#![allow(missing_docs)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;

use common::{Listed, Scratch, random, torrent_of};
use everseed_core::bits;
use everseed_disk::{Content, check, find, read_torrent};

const PIECE: usize = 16384;

/// A torrent `d` of `files`, whose data is expected in the folder `data`, and its content.
fn torrent(scratch: &Scratch, files: &[(&str, usize)]) -> (Content, Vec<u8>) {
    let bytes = random(7, files.iter().map(|(_, len)| len).sum());
    let listed: Vec<_> = files
        .iter()
        .map(|&(path, len)| Listed {
            path,
            len,
            attr: "",
        })
        .collect();
    let torrent = torrent_of("d", PIECE, &listed, &bytes);
    scratch.write("t.torrent", &torrent);
    fs::create_dir_all(scratch.path().join("data")).unwrap();
    fs::create_dir_all(scratch.path().join("state")).unwrap();
    (open(scratch), bytes)
}

fn open(scratch: &Scratch) -> Content {
    let path = scratch.path();
    let torrent = path.join("t.torrent");
    let metainfo = read_torrent(&torrent).unwrap();
    Content::open(&torrent, &metainfo, &path.join("data"), &path.join("state")).unwrap()
}

/// The number of missing pieces.
fn missing(content: &Content) -> u32 {
    let good = check::check(content, |_| ControlFlow::Continue(()), |_| {});
    content.geometry().pieces() - bits::count(&good.unwrap().unwrap())
}

fn put(scratch: &Scratch, name: impl AsRef<[u8]>, bytes: &[u8]) {
    let path = scratch
        .path()
        .join("data")
        .join(OsStr::from_bytes(name.as_ref()));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn whatever_it_is_called() {
    let russian = b"d/\xcf\xf0\xe8\xe2\xe5\xf2.txt".to_vec();
    let names: [&[u8]; 8] = [
        &russian,
        "d/Привет.txt".as_bytes(),
        b"d/___t",
        b"d/%CF%F0.txt",
        b"d/deep/er/moved.txt",
        b"beside.txt",
        b"another/torrent/x",
        b"d/a\nb",
    ];
    for name in names {
        let scratch = Scratch::new("called");
        let (content, bytes) =
            torrent(&scratch, &[("\u{fffd}\u{fffd}.txt", 20_000), ("c", 20_000)]);
        put(&scratch, name, &bytes[..20_000]);
        put(&scratch, "d/c", &bytes[20_000..]);
        assert_eq!(missing(&content), 0, "{name:?}");
        // The place is remembered, so that the next start searches for nothing.
        let again = open(&scratch);
        let first = again.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(again.found_at(&first).unwrap().as_os_str().as_bytes(), name);
        assert_eq!(missing(&again), 0, "{name:?}");
    }
}

/// Some clients lay a single file into a folder of its name, or the only file of a folder without that folder.
#[test]
fn in_a_folder_of_its_name_or_without_its_folder() {
    for (path, name) in [("", "d/d"), ("d", "d"), ("a", "d"), ("sub/a", "d")] {
        let scratch = Scratch::new("own-name");
        let bytes = random(7, 30_000);
        let len = bytes.len();
        let made = torrent_of(
            "d",
            PIECE,
            &[Listed {
                path,
                len,
                attr: "",
            }],
            &bytes,
        );
        let made = match path {
            // An empty path stands for a torrent of a single file.
            "" => {
                let end = format!("4:name1:d12:piece lengthi{PIECE}e");
                let tail = made.windows(end.len()).position(|at| at == end.as_bytes());
                let head = format!("d4:infod6:lengthi{len}e").into_bytes();
                [&head, &made[tail.unwrap()..]].concat()
            }
            _ => made,
        };
        scratch.write("t.torrent", &made);
        fs::create_dir(scratch.path().join("state")).unwrap();
        put(&scratch, name, &bytes);
        let content = open(&scratch);
        assert!(content.fits().is_err(), "{name}");
        assert_eq!(missing(&content), 0, "{path} as {name}");
        assert_eq!(missing(&open(&scratch)), 0, "{path} as {name} again");
    }
}

#[test]
fn composed_otherwise() {
    for (said, there) in [
        ("delfi\u{301}n.mkv", "delf\u{ed}n.mkv"),
        ("delf\u{ed}n.mkv", "delfi\u{301}n.mkv"),
    ] {
        let scratch = Scratch::new("composed");
        let (content, bytes) = torrent(&scratch, &[(said, 5_000), ("c", 30_000)]);
        put(&scratch, format!("d/{there}"), &bytes[..5_000]);
        put(&scratch, "d/c", &bytes[5_000..]);
        assert_eq!(missing(&content), 0, "{said:?}");
    }
}

#[test]
fn the_whole_folder_is_called_otherwise() {
    let scratch = Scratch::new("whole");
    let (content, bytes) = torrent(&scratch, &[("a", 20_000), ("b", 3_000), ("c", 20_000)]);
    put(&scratch, "e/x", &bytes[..20_000]);
    put(&scratch, "e/y", &bytes[20_000..23_000]);
    put(&scratch, "e/z", &bytes[23_000..]);
    assert!(check::reachable(&content).is_err());
    let found = find::search(&content, None, &mut || true).unwrap();
    assert_eq!(found.len(), 3);
    assert!(check::reachable(&content).is_ok() && check::reachable(&open(&scratch)).is_ok());
    assert_eq!(missing(&content), 0);
}

/// Many files share one piece, some have the same size, and their names are composed differently.
#[test]
fn many_in_one_piece() {
    let scratch = Scratch::new("small");
    let names: Vec<String> = (0..40).map(|n| format!("fi\u{301}le {n:02}.txt")).collect();
    let lens = |n: usize| {
        if n.is_multiple_of(4) {
            500
        } else {
            300 + n * 11
        }
    };
    let files: Vec<_> = (0..40).map(|n| (names[n].as_str(), lens(n))).collect();
    let (content, bytes) = torrent(&scratch, &files);
    let mut at = 0;
    for (name, len) in files {
        let name = name.replace("i\u{301}", "\u{ed}");
        put(&scratch, format!("d/{name}"), &bytes[at..at + len]);
        at += len;
    }
    assert_eq!(missing(&content), 0);
}

#[test]
fn the_wrong_one_is_in_its_place() {
    for len in [20_000, 19_999, 20_001, 100] {
        let scratch = Scratch::new("wrong");
        let (content, bytes) = torrent(&scratch, &[("a", 20_000), ("c", 20_000)]);
        put(&scratch, "d/a", &random(99, len));
        // Two files of the right size: the first is wrong, the second is right.
        put(&scratch, "d/a (1)", &random(98, 20_000));
        put(&scratch, "d/a (2)", &bytes[..20_000]);
        put(&scratch, "d/c", &bytes[20_000..]);
        assert_eq!(missing(&content), 0, "{len}");
        assert_eq!(
            fs::read(scratch.path().join("data/d/a")).unwrap(),
            random(99, len)
        );
    }
}

#[test]
fn what_is_no_file_is_not_taken() {
    let scratch = Scratch::new("no-file");
    let (content, bytes) = torrent(&scratch, &[("a", 20_000), ("c", 20_000)]);
    put(&scratch, "d/c", &bytes[20_000..]);
    let data = scratch.path().join("data");
    scratch.write("outside", &bytes[..20_000]);
    std::os::unix::fs::symlink(scratch.path().join("outside"), data.join("d/link")).unwrap();
    let fifo = data.join("d/fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_ne!(missing(&content), 0);
    // A link that stays beneath the folder is followed.
    put(&scratch, "store/a", &bytes[..20_000]);
    std::os::unix::fs::symlink("../store/a", data.join("d/a")).unwrap();
    assert_eq!(missing(&content), 0);
    assert!(
        content
            .entries()
            .unwrap()
            .flatten()
            .all(|entry| content.found_at(&entry).is_none())
    );
}

#[test]
fn renamed_again_and_back() {
    let scratch = Scratch::new("renamed");
    let (content, bytes) = torrent(&scratch, &[("a", 20_000), ("c", 20_000)]);
    put(&scratch, "d/c", &bytes[20_000..]);
    put(&scratch, "d/a", &bytes[..20_000]);
    let data = scratch.path().join("data/d");
    for (from, to) in [("a", "b"), ("b", "x"), ("x", "a")] {
        fs::rename(data.join(from), data.join(to)).unwrap();
        assert_eq!(
            find::search(&content, None, &mut || true).unwrap().len(),
            1,
            "{to}"
        );
        assert_eq!(missing(&content), 0, "{to}");
        assert_eq!(missing(&open(&scratch)), 0, "{to}");
    }
    assert_eq!(
        fs::read_dir(scratch.path().join("state")).unwrap().count(),
        0
    );
    // A file that is away keeps its remembered place.
    fs::rename(data.join("a"), data.join("y")).unwrap();
    assert_eq!(missing(&content), 0);
    fs::rename(data.join("y"), scratch.path().join("away")).unwrap();
    assert_ne!(missing(&content), 0);
    fs::rename(scratch.path().join("away"), data.join("y")).unwrap();
    assert_eq!(missing(&open(&scratch)), 0);
}

#[test]
fn as_the_owner_says() {
    let scratch = Scratch::new("says");
    let (mut content, bytes) = torrent(&scratch, &[("a", 20_000), ("c", 20_000)]);
    put(&scratch, "d/c", &bytes[20_000..]);
    put(&scratch, "x/y", &bytes[..20_000]);
    assert_eq!(content.place_files(&[(3, "x/y".into())]), Err(3));
    assert_eq!(
        content.place_files(&[(1, "d/c".into()), (1, "x/y".into())]),
        Ok(())
    );
    assert_eq!(missing(&content), 0);
    assert_eq!(missing(&open(&scratch)), 0);
    // If the owner names the wrong file, everseed does not search for another one.
    assert_eq!(content.place_files(&[(1, "d/c".into())]), Ok(()));
    assert_ne!(missing(&content), 0);
    assert_eq!(content.place_files(&[(1, "../outside".into())]), Ok(()));
    assert_ne!(missing(&content), 0);
}

#[test]
fn a_search_ends() {
    let scratch = Scratch::new("ends");
    let (content, bytes) = torrent(&scratch, &[("a", 20_000), ("c", 20_000)]);
    put(&scratch, "d/c", &bytes[20_000..]);
    put(&scratch, "d/moved", &bytes[..20_000]);
    for turns in 0..3 {
        let mut left = turns;
        let mut go_on = || {
            let go_on = left > 0;
            left -= i32::from(go_on);
            go_on
        };
        let found = find::search(&content, None, &mut go_on).unwrap();
        assert!(found.is_empty(), "{turns}");
    }
    assert_eq!(missing(&content), 0);
}

/// A file in the torrent's own folder is found though many other folders lie beside it.
#[test]
fn the_own_folder_comes_first() {
    let scratch = Scratch::new("first");
    let (content, bytes) = torrent(&scratch, &[("a", 20_000), ("c", 20_000)]);
    put(&scratch, "d/c", &bytes[20_000..]);
    for n in 0..300 {
        put(&scratch, format!("{n}/x"), b"");
    }
    put(&scratch, "d/deep/er/moved", &bytes[..20_000]);
    let mut looks = 0;
    let mut go_on = || {
        looks += 1;
        looks < 20
    };
    let found = find::search(&content, None, &mut go_on).unwrap();
    assert_eq!(found.len(), 0, "the folder was not left before the limit");
    assert_eq!(missing(&content), 0);
}

/// BitComet's padding has no attribute, and no client lays it on the disk.
#[test]
fn bitcomet_padding() {
    let name = "_____padding_file_0_if you see this file, please update____";
    let scratch = Scratch::new("padding");
    let files: [(&str, usize, &str); 5] = [
        ("a", 20_000, ""),
        (name, 12_768, ""),
        ("b", 20_000, ""),
        (&format!("sub/{name}"), 12_768, ""),
        ("no_____padding_file_0", 20_000, ""),
    ];
    let mut bytes = random(7, files.iter().map(|(_, len, _)| len).sum());
    bytes[20_000..32_768].fill(0);
    bytes[52_768..65_536].fill(0);
    let listed: Vec<_> = files
        .iter()
        .map(|&(path, len, attr)| Listed { path, len, attr })
        .collect();
    scratch.write("t.torrent", &torrent_of("d", PIECE, &listed, &bytes));
    fs::create_dir_all(scratch.path().join("state")).unwrap();
    put(&scratch, "d/a", &bytes[..20_000]);
    put(&scratch, "d/b", &bytes[32_768..52_768]);
    put(&scratch, "d/no_____padding_file_0", &bytes[65_536..]);
    assert_eq!(missing(&open(&scratch)), 0);
}

/// Another client's unfinished file beside one of the right name, or one of its size anywhere: the one with more good
/// pieces counts.
#[test]
fn a_better_one_than_the_one_in_its_place() {
    let (len, whole) = (100_000, 7);
    let cut = |bytes: &[u8], good: usize, to: usize| {
        let mut bytes = bytes[..to].to_vec();
        bytes[good..].fill(0);
        bytes
    };
    for (name, good, there, unfinished, to, found) in [
        ("d/a.part", 0, len, len, len, whole),
        ("d/a.!qB", 20_000, len, len, len, whole),
        ("d/a.!ut", 20_000, len, 60_000, len, 3),
        ("d/a.bc!", 0, 0, 40_000, 50_000, 2),
        ("d/a.az!", 0, 50, len, len, whole),
        ("d/a.!bt", 60_000, len, 20_000, len, 3),
        ("d/a.part", 60_000, len, 60_000, len, 3),
        ("d/a.other", 60_000, len, 90_000, 90_000, 3),
        ("old/x", 60_000, len, len, len, whole),
        ("old/x", 60_000, len, 90_000, len, 5),
        ("old/x", 90_000, len, 60_000, len, 5),
    ] {
        let scratch = Scratch::new("beside");
        let (content, bytes) = torrent(&scratch, &[("a", len)]);
        put(&scratch, "d/a", &cut(&bytes, good, there));
        put(&scratch, name, &cut(&bytes, unfinished, to));
        everseed_disk::unfinished::find(&content).unwrap();
        assert_eq!(whole - missing(&content), found, "{name}");
        let again = open(&scratch);
        assert_eq!(whole - missing(&again), found, "{name} again");
        let entry = again.entries().unwrap().next().unwrap().unwrap();
        let elsewhere = again.found_at(&entry).is_some();
        assert_eq!(
            elsewhere,
            unfinished > good && name != "d/a.other",
            "{name}"
        );
        // It was completed under its own name, and the other one stays.
        put(&scratch, "d/a", &bytes);
        assert_eq!(missing(&open(&scratch)), 0, "{name} at last");
    }
}

/// What only a piece of two files shows, and what two clients laid in part.
#[test]
fn parts_of_files_in_several_places() {
    let scratch = Scratch::new("parts");
    let (content, bytes) = torrent(&scratch, &[("a", 50_000), ("b", 70_000)]);
    let mut bad = bytes[..50_000].to_vec();
    bad[49_990..].fill(0);
    put(&scratch, "d/a", &bad);
    put(&scratch, "d/b", &bytes[50_000..]);
    assert_eq!(missing(&content), 1);
    // It lacks a piece that the one in its place has.
    let mut other = bytes[..50_000].to_vec();
    other[0] ^= 1;
    put(&scratch, "other", &other);
    assert_eq!(missing(&open(&scratch)), 1);
    fs::hard_link(
        scratch.path().join("data/d/a"),
        scratch.path().join("data/linked"),
    )
    .unwrap();
    assert_eq!(missing(&open(&scratch)), 1);
    put(&scratch, "copy", &bytes[..50_000]);
    assert_eq!(missing(&open(&scratch)), 0);
}

/// A missing folder and an empty one give the same result as a folder in which each file was looked for.
#[test]
fn nothing_is_there() {
    let mut seen = Vec::new();
    for folder in [None, Some("data/d"), Some("data/d/other")] {
        let scratch = Scratch::new("nothing");
        let (content, _) = torrent(&scratch, &[("a", 20_000), ("sub/b", 0), ("c", 20_000)]);
        if let Some(folder) = folder {
            fs::create_dir_all(scratch.path().join(folder)).unwrap();
        }
        assert!(check::is_nothing_there(&content) && check::reachable(&content).is_err());
        let present = check::present(&content).unwrap();
        assert_eq!(present, Some(vec![0]), "{folder:?}");
        let unfinished = everseed_disk::unfinished::find(&content).unwrap();
        seen.push((check::fingerprint(&content).unwrap(), unfinished));
        put(&scratch, "d/c.part", &[1; 100]);
        assert_eq!(everseed_disk::unfinished::find(&content).unwrap().len(), 1);
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:?}");
}
