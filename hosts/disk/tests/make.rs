//! A torrent is made of files, read again and checked, and damage is found in the right pieces.
#![allow(missing_docs)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{Scratch, random};
use everseed_core::bits;
use everseed_core::metainfo::FileKind;
use everseed_disk::check::{CHUNK, check, fingerprint, first_fingerprint, verify_piece};
use everseed_disk::edit::source_of;
use everseed_disk::make::{
    MakeError, Options, Report, default_piece_len, make, retrack, stays_put, would_be_same,
};
use everseed_disk::{Choice, Content, FileCache, Links, Skipped, read_name, read_torrent};

fn folder(scratch: &Scratch) -> Vec<u8> {
    let all = random(21, 200_000);
    let mut rest = &all[..];
    // The files in the torrent's order.
    for (path, len) in [
        (".hidden", 1),
        ("a/deep/er/file", 70_000),
        ("a/empty", 0),
        ("b", 16_384),
        ("c/x", 9),
        ("c!", 100_000),
        ("ö/日本", 13_606),
    ] {
        let (now, later) = rest.split_at(len);
        scratch.write(&format!("share/{path}"), now);
        rest = later;
    }
    assert!(rest.is_empty());
    all
}

fn options() -> Options {
    Options {
        trackers: vec![
            vec!["http://one/announce".into()],
            vec!["udp://two:80".into()],
        ],
        webseeds: vec!["http://web/".into()],
        comment: Some("für alle".into()),
        private: true,
        piece_len: Some(16 << 10),
        links: Links::Beneath,
        ..Options::default()
    }
}

fn open(torrent: &Path, content: &Path, scratch: &Scratch) -> Content {
    let metainfo = read_torrent(torrent).unwrap();
    Content::open_at(torrent, &metainfo, content, scratch.path()).unwrap()
}

fn good(content: &Content) -> Vec<bool> {
    let bitfield = check(content, |_| ControlFlow::Continue(()), |_| {});
    let bitfield = bitfield.unwrap().unwrap();
    let pieces = 0..content.geometry().pieces();
    pieces.map(|index| bits::get(&bitfield, index)).collect()
}

#[test]
fn made_read_checked_damaged() {
    let scratch = Scratch::new("make");
    let all = folder(&scratch);
    let share = scratch.path().join("share");
    let torrent = scratch.path().join("share.torrent");
    let mut hashed = 0;
    make(&share, &torrent, &options(), &mut |report| match report {
        Report::Hashed { done, total } => {
            assert_eq!(total, 200_000);
            hashed = done;
        }
        Report::Skipped(path, why) => panic!("{path:?} {why:?}"),
    })
    .unwrap();
    assert_eq!(hashed, 200_000);
    let content = open(&torrent, &share, &scratch);
    assert_eq!(content.geometry().total(), 200_000);
    let mut read = vec![0; all.len()];
    let files = FileCache::new(2);
    content.read(&files, 0, &mut read).unwrap();
    assert!(read == all, "the files are in the torrent's order");
    assert_eq!(good(&content), [true; 13]);

    let before = fingerprint(&content).unwrap();
    assert_eq!(before, fingerprint(&content).unwrap());
    // Setting the time back hides a change only from version 0.1.0.
    let first = first_fingerprint(&content).unwrap();
    let path = share.join("c!");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let touched = fs::File::options().write(true).open(&path).unwrap();
    touched.set_modified(time).unwrap();
    drop(touched);
    assert_ne!(before, fingerprint(&content).unwrap());
    assert_eq!(first, first_fingerprint(&content).unwrap());
    let before = fingerprint(&content).unwrap();
    // One byte of piece 5, in the file that starts at 86394.
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut expected = [true; 13];
    expected[5] = false;
    assert_eq!(good(&content), expected);
    assert_ne!(before, fingerprint(&content).unwrap());

    // The file is cut, then removed. Only the pieces that touch it are bad, and the check does not fail.
    fs::write(&path, &bytes[..50_000]).unwrap();
    let cut = good(&content);
    fs::remove_file(&path).unwrap();
    let gone = good(&content);
    for index in 0..13 {
        assert_eq!(gone[index], !(5..=11).contains(&index), "{index}");
        // The file is cut in piece 8, and piece 5 still has its wrong byte.
        let bad = index == 5 || (8..=11).contains(&index);
        assert_eq!(cut[index], !bad, "{index}");
    }
    let mut scratch = vec![0; CHUNK];
    let piece = |index| content.geometry().piece(index).unwrap();
    assert!(!verify_piece(&content, &FileCache::new(1), piece(7), &mut scratch).unwrap());
    assert!(verify_piece(&content, &files, piece(12), &mut scratch[..100]).unwrap());
}

#[test]
fn one_file() {
    let scratch = Scratch::new("make-one");
    let path = scratch.write("data/film.mkv", &random(5, 100_001));
    let torrent = scratch.path().join("film.torrent");
    make(&path, &torrent, &Options::default(), &mut |_| {}).unwrap();
    for content in [open(&torrent, &path, &scratch), {
        let metainfo = read_torrent(&torrent).unwrap();
        let data = scratch.path().join("data");
        Content::open(&torrent, &metainfo, &data, scratch.path()).unwrap()
    }] {
        assert_eq!(good(&content), [true; 7]);
        assert_eq!(content.root(), path);
    }
    // Through a link, the torrent has the link's name.
    let link = scratch.path().join("link.mkv");
    symlink(&path, &link).unwrap();
    make(&link, &torrent, &Options::default(), &mut |_| {}).unwrap();
    let metainfo = read_torrent(&torrent).unwrap();
    assert_eq!(read_name(&torrent, &metainfo).unwrap(), "link.mkv");
    assert_eq!(good(&open(&torrent, &link, &scratch)), [true; 7]);
}

#[test]
fn same_files_same_bytes() {
    let (one, two) = (Scratch::new("same"), Scratch::new("same"));
    folder(&one);
    folder(&two);
    symlink("/", two.path().join("share/link")).unwrap();
    let torrent = |scratch: &Scratch, out: &str| {
        let out = scratch.path().join(out);
        let mut skipped = Vec::new();
        make(
            &scratch.path().join("share"),
            &out,
            &options(),
            &mut |report| {
                if let Report::Skipped(path, why) = report {
                    skipped.push((path.file_name().unwrap().to_owned(), why));
                }
            },
        )
        .unwrap();
        (fs::read(out).unwrap(), skipped)
    };
    let (first, skipped) = torrent(&one, "out.torrent");
    assert!(skipped.is_empty());
    let (second, skipped) = torrent(&two, "share/out.torrent");
    assert_eq!(skipped, [("link".into(), Skipped::Symlink)]);
    assert!(first == second);
    // The .torrent lies in the folder now, and is left out of the next one.
    let (third, skipped) = torrent(&two, "share/out.torrent");
    assert_eq!(skipped.len(), 2);
    assert!(first == third);
}

#[test]
fn what_cannot_be_shared_is_named() {
    let scratch = Scratch::new("make-refused");
    let out = scratch.path().join("out.torrent");
    let try_make = |path: &Path| {
        let made = make(path, &out, &Options::default(), &mut |_| {});
        assert!(!out.exists() || made.is_ok());
        made
    };
    let empty = scratch.write("empty/file", b"");
    for path in [empty.as_path(), empty.parent().unwrap()] {
        assert!(matches!(try_make(path), Err(MakeError::Empty { .. })));
    }
    let full = scratch.write("full", b"x");
    let over = make(&full, &full, &Options::default(), &mut |_| {});
    assert!(matches!(over, Err(MakeError::Overwrites { .. })));
    assert_eq!(fs::read(&full).unwrap(), b"x");
    match try_make(&scratch.path().join("missing")) {
        Err(MakeError::Io { path, .. }) => assert!(path.ends_with("missing")),
        other => panic!("{other:?}"),
    }
    let folder = scratch.path().join("names");
    fs::create_dir(&folder).unwrap();
    let bad = folder.join(OsStr::from_bytes(b"caf\xe9"));
    fs::write(&bad, b"x").unwrap();
    // The only file is left out, so the folder counts as empty.
    assert!(matches!(try_make(&folder), Err(MakeError::Empty { .. })));
    let options = Options {
        strict: true,
        ..Options::default()
    };
    match make(&folder, &out, &options, &mut |_| {}) {
        Err(MakeError::NotUtf8 { path }) => assert_eq!(path, bad),
        other => panic!("{other:?}"),
    }
    assert!(matches!(try_make(&bad), Err(MakeError::NotUtf8 { .. })));
}

#[test]
fn piece_lengths_by_default() {
    let (kib, mib, gib) = (1_u64 << 10, 1_u64 << 20, 1_u64 << 30);
    for (total, expected) in [
        (1, 16 * kib),
        (30 * mib, 16 * kib),
        (40 * mib, 32 * kib),
        (gib, mib),
        (4 * gib, 4 * mib),
        (30 * gib, 16 * mib),
        (1 << 50, 16 * mib),
    ] {
        assert_eq!(u64::from(default_piece_len(total)), expected, "{total}");
    }
}

#[test]
fn a_file_that_changes_after_it_was_hashed_is_named() {
    let scratch = Scratch::new("make-changed-behind");
    folder(&scratch);
    let share = scratch.path().join("share");
    let first = share.join(".hidden");
    let torrent = scratch.path().join("t");
    let mut changed = false;
    let mut report = |report: Report<'_>| {
        if let Report::Hashed { done, .. } = report
            && done > 1
            && !std::mem::replace(&mut changed, true)
        {
            fs::write(&first, b"x").unwrap();
        }
    };
    match make(&share, &torrent, &options(), &mut report) {
        Err(MakeError::Changed { path }) => assert_eq!(path, first),
        other => panic!("{other:?}"),
    }
    assert!(!torrent.exists());
}

/// The tracker of a used .torrent is replaced in place, and nothing else in the file moves.
#[test]
fn another_tracker_in_its_place() {
    let scratch = Scratch::new("retrack");
    let data = random(3, 50_000);
    scratch.write("film.mkv", &data);
    let torrent = scratch.path().join("film.torrent");
    let options = |url: &str, roomy| Options {
        trackers: vec![vec![url.to_owned()]],
        roomy,
        ..Options::default()
    };
    let film = scratch.path().join("film.mkv");
    let urls = [
        "http://10.0.0.1:1/announce",
        "http://[2001:db8:1111:2222:3333:4444:5555:6666]:65535/announce",
        "http://192.168.100.200:16881/announce",
    ];
    make(&film, &torrent, &options(urls[0], true), &mut |_| ()).unwrap();
    let content = open(&torrent, &film, &scratch);
    let metainfo = content.metainfo();
    for url in urls {
        assert!(stays_put(metainfo, &options(url, true)), "{url}");
        retrack(&torrent, metainfo, &options(url, true)).unwrap();
        let now = read_torrent(&torrent).unwrap();
        assert_eq!(now.info_hash, metainfo.info_hash);
        assert_eq!(now.info_range(), metainfo.info_range());
        assert_eq!(good(&content), vec![true; 4]);
        let file = fs::File::open(&torrent).unwrap();
        // A reader that parsed the .torrent before finds the new tracker too.
        let mut trackers = metainfo.trackers(everseed_disk::Stream(file)).unwrap();
        assert_eq!(trackers.next().unwrap(), Some((0, url)));
    }
    assert!(!stays_put(metainfo, &options(urls[0], false)));
    let long = format!("http://{}/announce", "a".repeat(90));
    assert!(!stays_put(metainfo, &options(&long, true)));
}

#[test]
fn a_file_that_comes_while_others_are_hashed_is_named() {
    let scratch = Scratch::new("make-grown");
    folder(&scratch);
    let share = scratch.path().join("share");
    let torrent = scratch.path().join("t");
    for (change, named) in [("come", "a/new"), ("go", "a/empty"), ("junk", "")] {
        let mut changed = false;
        let mut report = |report: Report<'_>| {
            if matches!(report, Report::Hashed { .. }) && !std::mem::replace(&mut changed, true) {
                match change {
                    "come" => fs::write(share.join("a/new"), b"x").unwrap(),
                    "go" => fs::remove_file(share.join("a/empty")).unwrap(),
                    // Files that are left out may come and go.
                    _ => fs::write(share.join("a/.DS_Store"), b"x").unwrap(),
                }
            }
        };
        match make(&share, &torrent, &options(), &mut report) {
            Err(MakeError::Changed { path }) => assert_eq!(path, share.join(named)),
            Ok(()) => assert_eq!(named, ""),
            other => panic!("{other:?}"),
        }
    }
}

/// In a folder as on a NAS, unwanted and unreadable files are left out and named.
#[test]
fn what_is_left_out_is_named() {
    let scratch = Scratch::new("make-left-out");
    let share = scratch.path().join("share");
    for path in [
        "film.mkv",
        "film.nfo",
        ".DS_Store",
        "Thumbs.db",
        "@eaDir/film.mkv/x",
        ".film.mkv.part",
        "extra/clip.mkv",
        "extra/._clip.mkv",
        "extra/lost+found/x",
    ] {
        scratch.write(&format!("share/{path}"), b"x");
    }
    let latin1 = OsStr::from_bytes(b"caf\xe9");
    fs::create_dir(share.join(latin1)).unwrap();
    fs::write(share.join(latin1).join("menu"), b"x").unwrap();
    let torrent = scratch.path().join("t");
    let list = |choice: Choice| {
        let options = Options {
            choice,
            ..Options::default()
        };
        let mut skipped = Vec::new();
        make(&share, &torrent, &options, &mut |report| {
            if let Report::Skipped(path, why) = report {
                skipped.push((path.strip_prefix(&share).unwrap().to_owned(), why));
            }
        })
        .unwrap();
        skipped.sort();
        let content = open(&torrent, &share, &scratch);
        assert!(would_be_same(&share, &content, &options));
        let entries = content.entries().unwrap();
        let paths = entries.map(|entry| entry.unwrap().path.into_os_string().into_string());
        (paths.collect::<Result<Vec<_>, _>>().unwrap(), skipped)
    };
    let (files, skipped) = list(Choice::default());
    assert_eq!(files, ["extra/clip.mkv", "film.mkv", "film.nfo"]);
    use Skipped::{Excluded, NotIncluded, NotUtf8, Unwanted};
    let mut named = [
        (".DS_Store".into(), Unwanted),
        (".film.mkv.part".into(), Unwanted),
        ("@eaDir".into(), Unwanted),
        ("Thumbs.db".into(), Unwanted),
        (Path::new(latin1).to_owned(), NotUtf8),
        ("extra/._clip.mkv".into(), Unwanted),
        ("extra/lost+found".into(), Unwanted),
    ];
    named.sort();
    assert_eq!(skipped, named);
    let (files, _) = list(Choice {
        all: true,
        ..Choice::default()
    });
    assert_eq!(files.len(), 9);
    let (files, skipped) = list(Choice {
        include: vec!["*.mkv".into(), "*.nfo".into()],
        exclude: vec!["extra".into()],
        all: true,
    });
    assert_eq!(files, ["@eaDir/film.mkv/x", "film.mkv", "film.nfo"]);
    assert!(skipped.contains(&("extra".into(), Excluded)));
    assert!(skipped.contains(&("Thumbs.db".into(), NotIncluded)));
}

/// A file with a bad sector is left out of the torrent, and its hashed part is taken back.
#[test]
fn a_file_that_breaks_while_it_is_read_is_left_out() {
    let scratch = Scratch::new("make-broken");
    let all = folder(&scratch);
    let share = scratch.path().join("share");
    let torrent = scratch.path().join("t");
    // This file can be opened, and its first read fails.
    symlink("/proc/self/mem", share.join("bad")).unwrap();
    for align in [false, true] {
        let options = Options {
            links: Links::Follow,
            align,
            ..options()
        };
        let mut skipped = Vec::new();
        make(&share, &torrent, &options, &mut |report| {
            if let Report::Skipped(path, why) = report {
                skipped.push((path.to_owned(), why));
            }
        })
        .unwrap();
        assert_eq!(skipped, [(share.join("bad"), Skipped::Unreadable(5))]);
        let content = open(&torrent, &share, &scratch);
        let entries = content.entries().unwrap().map(Result::unwrap);
        let data = entries.filter(|entry| entry.kind == FileKind::Data);
        assert_eq!(data.map(|entry| entry.len).sum::<u64>(), all.len() as u64);
        assert!(good(&content).iter().all(|good| *good));
        // The next start does not make the torrent again because of that file. Another new file makes it change.
        assert!(would_be_same(&share, &content, &options));
        fs::write(share.join("more"), b"x").unwrap();
        assert!(!would_be_same(&share, &content, &options));
        fs::remove_file(share.join("more")).unwrap();
        let strict = Options {
            strict: true,
            ..options
        };
        let made = make(&share, &torrent, &strict, &mut |_| {});
        assert!(matches!(made, Err(MakeError::Io { path, .. }) if path == share.join("bad")));
    }
}

/// With `align` every file begins with a piece. The padding between files is not on the disk.
#[test]
fn files_are_aligned_by_padding() {
    let scratch = Scratch::new("make-align");
    let all = folder(&scratch);
    let share = scratch.path().join("share");
    let torrent = scratch.path().join("t");
    let options = Options {
        align: true,
        ..options()
    };
    make(&share, &torrent, &options, &mut |_| {}).unwrap();
    let content = open(&torrent, &share, &scratch);
    assert!(would_be_same(&share, &content, &options));
    let entries: Vec<_> = content.entries().unwrap().map(Result::unwrap).collect();
    let data = entries.iter().filter(|entry| entry.kind == FileKind::Data);
    assert!(
        data.clone()
            .all(|entry| entry.len == 0 || entry.start % (16 << 10) == 0)
    );
    assert_eq!(data.map(|entry| entry.len).sum::<u64>(), all.len() as u64);
    assert_eq!(
        entries.len(),
        7 + 4,
        "no padding where a file ends with a piece, nor at the end"
    );
    assert!(good(&content).iter().all(|good| *good));
    let plain = Options {
        align: false,
        ..options
    };
    assert!(!would_be_same(&share, &content, &plain));
}

#[test]
fn what_is_hashed_makes_another_torrent() {
    let scratch = Scratch::new("make-source");
    folder(&scratch);
    let share = scratch.path().join("share");
    let torrent = scratch.path().join("t");
    let plain = options();
    make(&share, &torrent, &plain, &mut |_| {}).unwrap();
    let content = open(&torrent, &share, &scratch);
    let source = Options {
        source: Some("TRK".into()),
        ..plain.clone()
    };
    let public = Options {
        private: false,
        ..plain.clone()
    };
    let coarse = Options {
        piece_len: Some(32 << 10),
        ..plain.clone()
    };
    for other in [&source, &public, &coarse] {
        assert!(!would_be_same(&share, &content, other), "{other:?}");
    }
    let outer = Options {
        trackers: Vec::new(),
        comment: None,
        created_by: Some("else".into()),
        ..plain
    };
    assert!(would_be_same(&share, &content, &outer));
    make(&share, &torrent, &source, &mut |_| {}).unwrap();
    let text = fs::read(&torrent).unwrap();
    assert!(text.windows(13).any(|w| w == b"6:source3:TRK"));
    let metainfo = read_torrent(&torrent).unwrap();
    assert_ne!(metainfo.info_hash, content.metainfo().info_hash);
    assert_eq!(
        source_of(&torrent, &metainfo).unwrap().as_deref(),
        Some(&b"TRK"[..])
    );
}
