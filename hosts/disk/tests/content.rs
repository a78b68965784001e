//! Content on a real file system: spans across files, missing files, links, names, and swapped files.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::io::{ErrorKind, IoSliceMut, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use common::{Listed, Scratch, random, torrent_of};
use everseed_core::bits;
use everseed_core::hash::Sha1;
use everseed_core::rng::Rng;
use everseed_disk::hash::Fast;
use everseed_disk::{Content, FileCache, Links, OpenError, ReadError, check, read_torrent, write};

fn open(torrent: &Path, data: &Path, scratch: &Scratch) -> Result<Content, OpenError> {
    let metainfo = read_torrent(torrent)?;
    Content::open(torrent, &metainfo, data, scratch.path())
}

fn listed(path: &str, len: usize) -> Listed<'_> {
    Listed {
        path,
        len,
        attr: "",
    }
}

/// A torrent of many small files, some of them empty or padding, and its content.
fn tiny_files(scratch: &Scratch, count: usize) -> (PathBuf, Vec<u8>) {
    let mut rng = Rng::new(11);
    let lens: Vec<usize> = (0..count).map(|_| rng.below(40) as usize).collect();
    let names: Vec<String> = (0..count).map(|n| format!("d{}/f{n}", n % 7)).collect();
    let mut content = random(12, lens.iter().sum());
    let mut files = Vec::new();
    let mut offset = 0;
    for (n, (len, name)) in lens.iter().zip(&names).enumerate() {
        let bytes = &mut content[offset..offset + len];
        offset += len;
        let padding = n % 13 == 5;
        if padding {
            bytes.fill(0);
        } else {
            scratch.write(&format!("data/tiny/{name}"), bytes);
        }
        files.push(Listed {
            path: name,
            len: *len,
            attr: if padding { "p" } else { "" },
        });
    }
    let bytes = torrent_of("tiny", 16384, &files, &content);
    (scratch.write("tiny.torrent", &bytes), content)
}

#[test]
fn spans_across_tiny_files() {
    // 10 files are kept in RAM, 500 in an index on disk.
    for count in [10, 500] {
        let scratch = Scratch::new("tiny");
        let (torrent, bytes) = tiny_files(&scratch, count);
        let content = open(&torrent, &scratch.path().join("data"), &scratch).unwrap();
        let files = FileCache::new(16);
        let mut rng = Rng::new(13);
        for round in 0..2000 {
            let len = u32::try_from(bytes.len()).unwrap();
            let start = rng.below(len);
            let end = start + 1 + rng.below((len - start).min(700));
            let expected = &bytes[start as usize..end as usize];
            let mut buf = vec![0xee; expected.len()];
            content.read(&files, u64::from(start), &mut buf).unwrap();
            assert_eq!(buf, expected, "round {round}, {start}..{end}");

            buf.fill(0xee);
            let (front, back) = buf.split_at_mut(expected.len() / 3);
            let mut bufs = [IoSliceMut::new(front), IoSliceMut::new(back)];
            let read = content.read_cached(&files, u64::from(start), &mut bufs);
            assert_eq!(buf[..read], expected[..read], "cached, {start}..{end}");
        }
    }
}

#[test]
fn warm_bytes_are_read_without_waiting() {
    let scratch = Scratch::new("warm");
    let bytes = random(1, 300_000);
    scratch.write("data/folder/a", &bytes[..100_000]);
    scratch.write("data/folder/b", &bytes[100_000..]);
    let list = [listed("a", 100_000), listed("b", 200_000)];
    let torrent = torrent_of("folder", 16384, &list, &bytes);
    let torrent = scratch.write("x.torrent", &torrent);
    let content = open(&torrent, &scratch.path().join("data"), &scratch).unwrap();
    let files = FileCache::new(16);
    let mut buf = vec![0; 150_000];
    let read = content.read_cached(&files, 10, &mut [IoSliceMut::new(&mut buf)]);
    assert_eq!(read, 0, "no file is open yet");
    let mut warm = vec![0; 120_000];
    content.warm(&files, 10, &mut warm, 150_000).unwrap();
    assert_eq!(warm, bytes[10..120_010]);
    content.read(&files, 10, &mut vec![0; 150_000]).unwrap();
    let read = content.read_cached(&files, 10, &mut [IoSliceMut::new(&mut buf)]);
    // On a file system without RWF_NOWAIT the answer is always 0.
    if read > 0 {
        assert_eq!(read, buf.len());
        assert_eq!(buf, bytes[10..150_010]);
        content.close_files(&files);
        let read = content.read_cached(&files, 10, &mut [IoSliceMut::new(&mut buf)]);
        assert_eq!(read, 0);
    }
}

#[test]
fn what_is_cached_is_sent_past_us() {
    let scratch = Scratch::new("send");
    let mut bytes = random(3, 300_000);
    bytes[100_000..150_000].fill(0);
    scratch.write("data/folder/a", &bytes[..100_000]);
    let b = scratch.write("data/folder/b", &bytes[150_000..]);
    let padding = Listed {
        attr: "p",
        ..listed("pad", 50_000)
    };
    let list = [listed("a", 100_000), padding, listed("b", 150_000)];
    let torrent = torrent_of("folder", 16384, &list, &bytes);
    let torrent = scratch.write("x.torrent", &torrent);
    let content = open(&torrent, &scratch.path().join("data"), &scratch).unwrap();
    let files = FileCache::new(16);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    assert_eq!(content.cached(&files, 10, 1), 0, "no file is open yet");
    let (sent, stop) = content.send(&files, &ours, 10, 100);
    assert_eq!(sent, 0);
    assert_eq!(stop.unwrap_err().kind(), ErrorKind::UnexpectedEof);

    content
        .warm(&files, 10, &mut vec![0; 299_000], 299_000)
        .unwrap();
    let cached = content.cached(&files, 10, 299_000);
    // On a file system without RWF_NOWAIT the answer is always 0.
    assert!(cached == 299_000 || cached == 0, "{cached}");
    let reader = thread::spawn(move || {
        let mut got = vec![0; 299_000];
        theirs.read_exact(&mut got).map(|()| got)
    });
    let (sent, stop) = content.send(&files, &ours, 10, 299_000);
    stop.unwrap();
    assert_eq!(sent, 299_000);
    assert!(reader.join().unwrap().unwrap() == bytes[10..299_010]);

    // The file becomes shorter while it is open.
    fs::write(&b, &bytes[150_000..150_100]).unwrap();
    assert_eq!(content.cached(&files, 150_000, 100), 0);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let (sent, stop) = content.send(&files, &ours, 150_000, 200);
    assert_eq!(sent, 100);
    assert_eq!(stop.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

/// A file that somebody writes to is not read, because its verified pieces may have changed.
#[test]
fn what_changes_is_not_read() {
    let scratch = Scratch::new("changes");
    let bytes = random(5, 50_000);
    let file = scratch.write("data/folder/file", &bytes);
    let torrent = torrent_of("folder", 16384, &[listed("file", 50_000)], &bytes);
    let torrent = scratch.write("x.torrent", &torrent);
    let content = open(&torrent, &scratch.path().join("data"), &scratch).unwrap();
    let files = FileCache::new(16);
    let mut buf = vec![0; 1000];
    content.read(&files, 0, &mut buf).unwrap();
    // The pause is longer than a tick of the file system's clock, so that the time of change differs.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&file, random(6, 50_000)).unwrap();
    let read = content.read_cached(&files, 0, &mut [IoSliceMut::new(&mut buf)]);
    assert_eq!(read, 0);
    for _ in 0..2 {
        let error = content.read(&files, 0, &mut buf).unwrap_err();
        assert!(matches!(&error, ReadError::Changed { path } if *path == file));
    }
    content.close_files(&files);
    content.read(&files, 0, &mut buf).unwrap();
}

#[test]
fn what_is_missing_is_named() {
    let scratch = Scratch::new("missing");
    let bytes = random(2, 3000);
    let list = [
        listed("here", 1000),
        listed("short", 1000),
        listed("sub/gone", 1000),
    ];
    let torrent = torrent_of("folder", 16384, &list, &bytes);
    let torrent = scratch.write("x.torrent", &torrent);
    scratch.write("folder/here", &bytes[..1000]);
    scratch.write("folder/short", &bytes[1000..1500]);
    let content = open(&torrent, scratch.path(), &scratch).unwrap();
    let files = FileCache::new(2);
    let mut buf = [0; 100];
    content.read(&files, 1400, &mut buf).unwrap();
    assert_eq!(buf, bytes[1400..1500]);
    match content.read(&files, 1450, &mut buf) {
        Err(ReadError::Short { path }) => assert_eq!(path, scratch.path().join("folder/short")),
        other => panic!("{other:?}"),
    }
    match content.read(&files, 1950, &mut [0; 50]) {
        Err(ReadError::Short { .. }) => {}
        other => panic!("{other:?}"),
    }
    match content.read(&files, 2999, &mut [0]) {
        Err(ReadError::Missing { path }) => {
            assert_eq!(path, scratch.path().join("folder/sub/gone"));
        }
        other => panic!("{other:?}"),
    }
    let probes: Vec<bool> = content
        .entries()
        .unwrap()
        .map(|entry| content.probe(&entry.unwrap()).is_ok())
        .collect();
    assert_eq!(probes, [true, false, false]);
    // A file that comes back is read without a restart.
    scratch.write("folder/sub/gone", &bytes[2000..]);
    content.read(&files, 2900, &mut buf).unwrap();
    assert_eq!(buf, bytes[2900..]);
}

#[test]
fn links_are_followed_while_they_stay() {
    let scratch = Scratch::new("links");
    let bytes = random(3, 300);
    let list = [
        listed("link", 50),
        listed("annexed", 50),
        listed("sub/file", 100),
        Listed {
            path: "target",
            len: 0,
            attr: "l",
        },
        listed("z", 100),
    ];
    let torrent = torrent_of("folder", 16384, &list, &bytes);
    let torrent = scratch.write("x.torrent", &torrent);
    scratch.write("outside/file", &bytes);
    scratch.write("data/annex/x", &bytes[50..100]);
    scratch.write("data/folder/z", &bytes[200..]);
    let data = scratch.path().join("data");
    symlink("../../outside/file", data.join("folder/link")).unwrap();
    symlink("../annex/x", data.join("folder/annexed")).unwrap();
    symlink("../../outside", data.join("folder/sub")).unwrap();
    let content = open(&torrent, &data, &scratch).unwrap();
    let files = FileCache::new(2);
    for (offset, name) in [(0, "folder/link"), (100, "folder/sub/file")] {
        match content.read(&files, offset, &mut [0; 10]) {
            Err(ReadError::Leaves { path }) => assert_eq!(path, data.join(name)),
            other => panic!("{name}: {other:?}"),
        }
    }
    let mut read = [0; 50];
    content.read(&files, 50, &mut read).unwrap();
    assert_eq!(read, bytes[50..100]);
    content.read(&files, 200, &mut [0; 100]).unwrap();
    let follows = content.follow(Links::Follow);
    follows.read(&FileCache::new(2), 0, &mut read).unwrap();
    assert_eq!(read, bytes[..50]);
}

/// The paths of a torrent's files beneath its folder.
fn laid(content: &Content) -> Vec<String> {
    let entries = content.entries().unwrap().map(Result::unwrap);
    let within = |path: PathBuf| {
        let within = path.strip_prefix(content.folder()).unwrap();
        within.to_str().unwrap().to_owned()
    };
    entries
        .map(|entry| within(content.path_of(&entry)))
        .collect()
}

#[test]
fn duplicates_get_names_of_their_own() {
    let cases: [(&[&str], &[&str]); 4] = [
        (&["a", "b", "a"], &["a", "b", "a.1"]),
        (
            &["d/a", "e/d/a", "d/a", "D/A"],
            &["d/a", "e/d/a", "d/a.1", "D/A.2"],
        ),
        (&["a", "a/b"], &["a.1", "a/b"]),
        (&["a/b", "ab", "b/a"], &["a/b", "ab", "b/a"]),
    ];
    for (paths, expected) in cases {
        let scratch = Scratch::new("duplicates");
        let list: Vec<Listed<'_>> = paths.iter().map(|path| listed(path, 1)).collect();
        let bytes = random(1, paths.len());
        let torrent = torrent_of("folder", 16384, &list, &bytes);
        let torrent = scratch.write("x.torrent", &torrent);
        let data = scratch.path().join("data");
        for _ in 0..2 {
            let content = open(&torrent, &data, &scratch).unwrap();
            assert_eq!(laid(&content), expected);
            write::make_folder(&content).unwrap();
            let files = FileCache::new(2);
            write::write(&content, &files, 0, &[&bytes]).unwrap();
            let mut read = vec![0; bytes.len()];
            content.read(&FileCache::new(2), 0, &mut read).unwrap();
            assert_eq!(read, bytes);
        }
        for (path, byte) in expected.iter().zip(&bytes) {
            assert_eq!(fs::read(data.join("folder").join(path)).unwrap(), [*byte]);
        }
    }
}

/// Files are found under names of earlier versions, and under names for file systems that refuse the usual one.
#[test]
fn other_spellings_are_found() {
    let hash = "c6b0e06f";
    let cases: [(&str, &[&str]); 6] = [
        ("a\\b", &["ab", "a\\b"]),
        ("a\nb", &["a_b", "a\nb"]),
        ("a\0b", &["ab", "a_b"]),
        ("\u{202e}x", &["x", "\u{202e}x"]),
        ("../x", &["_/x", "x"]),
        ("a?.txt", &["a?.txt", "a_.HASH.txt"]),
    ];
    for (path, places) in cases {
        for place in places {
            let scratch = Scratch::new("spellings");
            let bytes = random(1, 10);
            let torrent = torrent_of("folder", 16384, &[listed(path, 10)], &bytes);
            let torrent = scratch.write("x.torrent", &torrent);
            let place = format!("data/folder/{}", place.replace("HASH", hash));
            let there = scratch.path().join(&place);
            fs::create_dir_all(there.parent().unwrap()).unwrap();
            fs::write(&there, &bytes).unwrap();
            let content = open(&torrent, &scratch.path().join("data"), &scratch).unwrap();
            let entry = content.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(content.path_of(&entry), there);
            let mut read = [0; 10];
            content.read(&FileCache::new(1), 0, &mut read).unwrap();
            assert_eq!(read, bytes[..]);
        }
    }
}

/// Earlier versions laid files whose names differ only in case beside each other. Such files are still found.
#[test]
fn names_that_differ_in_case_are_found() {
    let scratch = Scratch::new("case");
    let bytes = random(1, 20);
    let list = [listed("A.txt", 10), listed("a.txt", 10)];
    let torrent = torrent_of("folder", 16384, &list, &bytes);
    let torrent = scratch.write("x.torrent", &torrent);
    let data = scratch.path().join("data");
    let content = open(&torrent, &data, &scratch).unwrap();
    assert_eq!(laid(&content), ["A.txt", "a.1.txt"]);
    scratch.write("data/folder/A.txt", &bytes[..10]);
    scratch.write("data/folder/a.txt", &bytes[10..]);
    assert_eq!(laid(&content), ["A.txt", "a.txt"]);
    scratch.write("data/folder/a.1.txt", &bytes[10..]);
    assert_eq!(laid(&content), ["A.txt", "a.1.txt"]);
}

/// The name of the torrent's folder, and another name under which it is found.
#[test]
fn the_folder_has_a_name() {
    let list = [listed("a", 10)];
    for (name, laid, also) in [
        ("", "HASH", "_"),
        ("..", "HASH", "HASH"),
        ("a/b", "a_b", "ab"),
    ] {
        let scratch = Scratch::new("whole");
        let torrent = torrent_of(name, 16384, &list, &random(1, 10));
        let torrent = scratch.write("x.torrent", &torrent);
        let hash = read_torrent(&torrent).unwrap().info_hash.to_string();
        let data = scratch.path().join("data");
        let root = || open(&torrent, &data, &scratch).unwrap().root();
        assert_eq!(root(), data.join(laid.replace("HASH", &hash)));
        let also = data.join(also.replace("HASH", &hash));
        fs::create_dir_all(&also).unwrap();
        assert_eq!(root(), also);
    }
}

#[test]
fn data_may_be_the_content_itself() {
    let scratch = Scratch::new("place");
    let bytes = random(4, 100);
    let multi = torrent_of("folder", 16384, &[listed("a", 100)], &bytes);
    let multi = scratch.write("multi.torrent", &multi);
    let read = |data: &str| {
        let content = open(&multi, &scratch.path().join(data), &scratch).unwrap();
        let mut buf = [0; 100];
        let read = content.read(&FileCache::new(1), 0, &mut buf);
        read.is_ok() && buf == bytes[..]
    };
    scratch.write("in/folder/a", &bytes);
    scratch.write("renamed/a", &bytes);
    scratch.write("folder/folder/a", &bytes);
    scratch.write("empty/b", &bytes);
    fs::create_dir(scratch.path().join("folder/sub")).unwrap();
    assert!(read("in"));
    assert!(read("in/folder"));
    assert!(read("renamed"));
    assert!(read("folder"));
    assert!(!read("empty"));
    assert!(!read("not-mounted"));
    scratch.write("file/folder", &bytes);
    let wrong = open(&multi, &scratch.path().join("file"), &scratch);
    assert!(matches!(
        wrong.unwrap().fits(),
        Err(OpenError::NotAFolder { .. })
    ));
}

#[test]
fn what_is_there_and_what_is_not() {
    let scratch = Scratch::new("present");
    let bytes = random(5, 5 * 16_384);
    let files = [listed("a", 40_000), listed("b", 5 * 16_384 - 40_000)];
    let torrent = torrent_of("t", 16_384, &files, &bytes);
    let torrent = scratch.write("t.torrent", &torrent);
    let content = open(&torrent, &scratch.path().join("data"), &scratch).unwrap();
    let gone = |content: &Content| check::reachable(content).unwrap_err().to_string();
    assert!(gone(&content).ends_with("data/t is missing"));
    fs::create_dir_all(scratch.path().join("data/t")).unwrap();
    assert!(gone(&content).ends_with("data/t is missing"));

    // Half a file counts with its complete pieces, as in an unfinished download.
    scratch.write("data/t/a", &bytes[..20_000]);
    check::reachable(&content).unwrap();
    let present = |content: &Content| {
        let bits = check::present(content).unwrap()?;
        Some(
            (0..5)
                .map(|piece| bits::get(&bits, piece))
                .collect::<Vec<_>>(),
        )
    };
    let only_first = [true, false, false, false, false];
    assert_eq!(present(&content).unwrap(), only_first);
    scratch.write("data/t/a", &bytes[..40_000]);
    assert_eq!(
        present(&content).unwrap(),
        [true, true, false, false, false]
    );
    scratch.write("data/t/b", &bytes[40_000..]);
    assert_eq!(present(&content), None);
    fs::remove_file(scratch.path().join("data/t/a")).unwrap();
    check::reachable(&content).unwrap();
    assert_eq!(
        present(&content).unwrap(),
        [false, false, false, true, true]
    );
}

/// Offsets above 32 bits work on 32-bit machines too.
#[test]
fn beyond_four_gib() {
    let scratch = Scratch::new("large");
    let (len, piece_len) = (9_u64 << 29, 1_u64 << 28);
    let hashes = [7; 20].repeat(usize::try_from(len / piece_len).unwrap());
    let mut bytes =
        format!("d4:infod6:lengthi{len}e4:name5:large12:piece lengthi{piece_len}e6:pieces");
    bytes.push_str(&format!("{}:", hashes.len()));
    let bytes = [bytes.as_bytes(), &hashes, b"ee"].concat();
    let torrent = scratch.write("large.torrent", &bytes);
    let data = scratch.path().join("data");
    let content = open(&torrent, &data, &scratch).unwrap();
    content.set_growing(true);
    write::prepare(&content, |_| true).unwrap();
    let files = FileCache::new(4);
    let written = FileCache::new(4);
    let block = random(31, 16384);
    for offset in [
        0,
        (1 << 31) - 100,
        (1 << 32) - 16384,
        (1 << 32) - 100,
        len - 16384,
    ] {
        write::write(&content, &written, offset, &[&block]).unwrap();
        let mut back = vec![0; block.len()];
        content.read(&files, offset, &mut back).unwrap();
        assert_eq!(back, block, "{offset}");
    }
    assert_eq!(fs::metadata(data.join("large")).unwrap().len(), len);
    // The first block was not overwritten by one whose offset lost its upper half.
    let mut back = vec![0; block.len()];
    content.read(&files, 0, &mut back).unwrap();
    assert_eq!(back, block);
}

/// A check does not read a hole of 64 GiB, and counts a piece of zeros in it as good.
#[test]
fn holes_are_not_read() {
    let scratch = Scratch::new("holes");
    let (piece_len, pieces) = (1_u64 << 24, 4096_u64);
    let len = piece_len * pieces + 5;
    let zeros = |len: u64| {
        let mut sha1 = Fast::default();
        sha1.update(&vec![0; usize::try_from(len).unwrap()]);
        sha1.finish()
    };
    let mut hashes = [9; 20].repeat(usize::try_from(pieces + 1).unwrap());
    for (piece, len) in [(7, piece_len), (9, piece_len), (pieces, 5)] {
        let at = usize::try_from(piece).unwrap() * 20;
        hashes[at..at + 20].copy_from_slice(&zeros(len));
    }
    let head = format!("d4:infod6:lengthi{len}e4:name5:holes12:piece lengthi{piece_len}e6:pieces");
    let size = format!("{}:", hashes.len());
    let torrent = [head.as_bytes(), size.as_bytes(), &hashes, b"ee"].concat();
    let torrent = scratch.write("holes.torrent", &torrent);
    let data = scratch.path().join("data");
    let content = open(&torrent, &data, &scratch).unwrap();
    write::prepare(&content, |_| true).unwrap();
    // A block in the middle of a piece that should be zeros, and one beside it.
    let written = FileCache::new(4);
    for offset in [9 * piece_len + 100_000, 10 * piece_len] {
        write::write(&content, &written, offset, &[&[1; 100]]).unwrap();
    }
    let good = |content: &Content| -> Vec<u32> {
        let bits = check::check(content, |_| ControlFlow::Continue(()), |_| {}).unwrap();
        let bits = bits.unwrap();
        (0..=4096)
            .filter(|&piece| bits::get(&bits, piece))
            .collect()
    };
    assert_eq!(good(&content), [7, 4096]);
    // The missing end of a file is no hole.
    let file = fs::File::options().write(true).open(data.join("holes"));
    file.unwrap().set_len(len - 1).unwrap();
    assert_eq!(good(&content), [7]);
}

/// A .torrent that becomes a link or another torrent while it is used is not read any more. A copy of the same .torrent
/// is.
#[test]
fn a_torrent_file_that_is_swapped() {
    let scratch = Scratch::new("swapped-torrent");
    let bytes = random(9, 300);
    let torrent = |name: &str| torrent_of(name, 16384, &[listed("file", 300)], &bytes);
    let path = scratch.write("watch/x.torrent", &torrent("folder"));
    let secret = scratch.write(
        "secret",
        &[b"d4:infod6:secret".repeat(20), vec![7; 1000]].concat(),
    );
    let same = scratch.write("same", &torrent("folder"));
    let other = scratch.write("other", &torrent("f0lder"));
    let content = open(&path, &scratch.path().join("watch"), &scratch).unwrap();
    let mut info = vec![0; 20];
    content.read_info(0, &mut info).unwrap();
    for (swap, reads) in [(&secret, false), (&other, false), (&same, false)] {
        std::fs::remove_file(&path).unwrap();
        symlink(swap, &path).unwrap();
        assert_eq!(
            content.read_info(0, &mut info).is_ok(),
            reads,
            "link to {swap:?}"
        );
        assert_eq!(content.entries().is_ok(), reads, "link to {swap:?}");
    }
    for (swap, reads) in [(&secret, false), (&other, false), (&same, true)] {
        let _ = std::fs::remove_file(&path);
        std::fs::copy(swap, &path).unwrap();
        assert_eq!(content.read_info(0, &mut info).is_ok(), reads, "{swap:?}");
        assert_eq!(content.entries().is_ok(), reads, "{swap:?}");
    }
    // A link that a person names is followed.
    let link = scratch.path().join("link.torrent");
    symlink(&same, &link).unwrap();
    let content = open(&link, &scratch.path().join("watch"), &scratch).unwrap();
    content.read_info(0, &mut info).unwrap();
}
