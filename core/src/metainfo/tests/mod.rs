//! Torrents good and bad.

mod hostile;
mod names;
mod refused;
mod urls;

extern crate std;

use core::convert::Infallible;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use embedded_io::{ErrorType, Read, Seek, SeekFrom};

use super::*;
use crate::hash::Smol;

/// A slice that can be sought in.
#[derive(Clone)]
struct File<'a> {
    bytes: &'a [u8],
    at: usize,
    reads: usize,
}

impl ErrorType for File<'_> {
    type Error = Infallible;
}

impl Read for File<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        self.reads += 1;
        Ok(len)
    }
}

impl Seek for File<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64, Infallible> {
        let SeekFrom::Start(at) = to else { panic!() };
        self.at = at as usize;
        Ok(at)
    }
}

fn file(bytes: &[u8]) -> File<'_> {
    File {
        bytes,
        at: 0,
        reads: 0,
    }
}

fn parse(bytes: &[u8]) -> Result<Metainfo, MetainfoError<Infallible>> {
    Metainfo::read::<Smol, _>(bytes)
}

fn name(bytes: &[u8]) -> Name {
    parse(bytes).unwrap().name(file(bytes)).unwrap()
}

fn string(text: &str) -> String {
    format!("{}:{text}", text.len())
}

/// An `info` for a single file of 100 bytes in pieces of 32.
fn single() -> String {
    format!(
        "d6:lengthi100e4:name4:file12:piece lengthi32e6:pieces80:{}e",
        "h".repeat(80)
    )
}

fn entry(len: u64, path: &[&str]) -> String {
    let path: String = path.iter().map(|part| string(part)).collect();
    format!("d6:lengthi{len}e4:pathl{path}ee")
}

fn multi(files: &str, total: u64) -> String {
    let hashes = "h".repeat(20 * total.div_ceil(32) as usize);
    format!(
        "d5:filesl{files}e4:name6:folder12:piece lengthi32e6:pieces{}e",
        string(&hashes)
    )
}

fn torrent(info: &str) -> Vec<u8> {
    format!("d4:info{info}e").into_bytes()
}

fn list(metainfo: &Metainfo, bytes: &[u8]) -> Vec<(String, u64, u64, FileKind)> {
    let mut files = metainfo.files(file(bytes)).unwrap();
    let mut list = Vec::new();
    while let Some(entry) = files.next().unwrap() {
        list.push((entry.path.to_string(), entry.len, entry.offset, entry.kind));
    }
    list
}

#[test]
fn a_single_file() {
    let info = single();
    let text = format!(
        "d8:announce{}7:comment5:hello13:creation datei7e4:info{info}1:zi1ee",
        string("http://a.test/")
    );
    let metainfo = parse(text.as_bytes()).unwrap();
    // By `sha1sum` over the bytes of `info`.
    let known = "2d1e6e2a905b0cde06187fe0a2eda9e82b08ea95";
    assert_eq!(metainfo.info_hash.to_string(), known);
    assert_eq!(name(text.as_bytes()), "file");
    assert_eq!((metainfo.single, metainfo.private), (true, false));
    assert_eq!(
        (metainfo.geometry.total(), metainfo.geometry.pieces()),
        (100, 4)
    );
    assert_eq!(metainfo.creation_date, Some(7));
    let range = metainfo.info_range();
    assert_eq!(&text[range.start as usize..range.end as usize], info);
    assert_eq!(
        list(&metainfo, text.as_bytes()),
        [("file".to_string(), 100, 0, FileKind::Data)]
    );
    let mut room = [0; 3];
    assert_eq!(
        metainfo.comment(file(text.as_bytes()), &mut room).unwrap(),
        b"hel"
    );
    assert_eq!(
        metainfo
            .created_by(file(text.as_bytes()), &mut room)
            .unwrap(),
        b""
    );
}

#[test]
fn piece_hashes_are_read_on_demand() {
    let hashes: String = (0..80u8).map(|n| char::from(b'0' + n % 10)).collect();
    let info = single().replace(&"h".repeat(80), &hashes);
    let bytes = torrent(&info);
    let metainfo = parse(&bytes).unwrap();
    for piece in metainfo.geometry.all_pieces() {
        let at = piece.get() as usize * 20;
        let hash = metainfo.piece_hash(file(&bytes), piece).unwrap();
        assert_eq!(hash, hashes.as_bytes()[at..at + 20]);
    }
    let short = file(&bytes[..bytes.len() - 30]);
    let last = metainfo.geometry.piece(3).unwrap();
    assert_eq!(metainfo.piece_hash(short, last), Err(RereadError::Changed));
}

#[test]
fn many_files() {
    let files = [
        entry(10, &["a"]),
        entry(0, &["empty"]),
        "d4:attr1:p6:lengthi22e4:pathl4:.pad2:22ee".to_string(),
        "d4:attr2:xh6:lengthi5e4:pathl1:x1:yee".to_string(),
        "d4:attr1:l4:pathl4:linke12:symlink pathl1:aee".to_string(),
        "d6:lengthi63e4:pathl1:\u{ff}e10:path.utf-8l2:\u{e4}ee".replace("1:\u{ff}", "2:\u{ff}"),
    ];
    let bytes = torrent(&multi(&files.concat(), 100));
    let metainfo = parse(&bytes).unwrap();
    assert_eq!((metainfo.file_count, metainfo.single), (6, false));
    assert_eq!(name(&bytes), "folder");
    let expected = [
        ("a", 10, 0, FileKind::Data),
        ("empty", 0, 10, FileKind::Data),
        (".pad/22", 22, 10, FileKind::Padding),
        ("x/y", 5, 32, FileKind::Data),
        ("link", 0, 37, FileKind::Symlink),
        ("ä", 63, 37, FileKind::Data),
    ];
    let expected = expected.map(|(path, len, at, kind)| (path.to_string(), len, at, kind));
    assert_eq!(list(&metainfo, &bytes), expected);

    // Every entry can be found again by its position.
    let mut files = metainfo.files(file(&bytes)).unwrap();
    let mut number = 0;
    while let Some(entry) = files.next().unwrap() {
        let (position, offset) = (entry.position, entry.offset);
        assert_eq!(entry.executable, number == 3);
        let mut again = metainfo
            .files_from(file(&bytes), position, offset, Spelling::Fixed)
            .unwrap();
        for expected in &expected[number..] {
            let found = again.next().unwrap().unwrap();
            assert_eq!((found.path, found.len), (expected.0.as_str(), expected.1));
        }
        assert_eq!(again.next(), Ok(None));
        number += 1;
    }
}

#[test]
fn what_others_accept() {
    // Unsorted keys, `pieces` before what it depends on, `info` first.
    let hashes = "h".repeat(20);
    let info = format!("d6:pieces20:{hashes}12:piece lengthi32e4:name1:n6:lengthi9ee");
    let text = format!("d4:info{info}8:announce{}e", string("udp://t.test:1"));
    let metainfo = parse(text.as_bytes()).unwrap();
    assert_eq!(metainfo.geometry.total(), 9);
    // The first of two keys counts, and the better encoding of two names.
    let twice = single().replace("4:name4:file", "4:name4:file4:name1:x10:name.utf-82:\u{e4}");
    assert_eq!(name(&torrent(&twice)), "ä");
    for (value, is_private) in [("i1e", true), ("i2e", true), ("i0e", false), ("1:1", false)] {
        let info = single().replace("6:pieces", &format!("7:private{value}6:pieces"));
        assert_eq!(
            parse(&torrent(&info)).unwrap().private,
            is_private,
            "{value}"
        );
    }
    // A date that no clock shows.
    let text = format!("d13:creation datei{}e4:info{}e", "9".repeat(30), single());
    assert_eq!(parse(text.as_bytes()).unwrap().creation_date, None);
    // A hybrid's version 1 half.
    let hybrid = single().replace("4:name", "9:file treede12:meta versioni2e4:name");
    assert_eq!(parse(&torrent(&hybrid)).unwrap().geometry.pieces(), 4);
    // What has a wrong type and is not needed.
    let text = format!(
        "d8:announcei1e13:announce-listi1e7:commentle4:info{}e",
        single()
    );
    let metainfo = parse(text.as_bytes()).unwrap();
    assert_eq!(
        metainfo.trackers(file(text.as_bytes())).unwrap().next(),
        Ok(None)
    );
}

/// The same torrent, however much stands around what is hashed.
#[test]
fn what_stands_around_it_is_passed_over() {
    let files = [entry(40, &["a", "b"]), entry(60, &["c"])].concat();
    let bytes = torrent(&multi(&files, 100));
    let good = parse(&bytes).unwrap();
    let zeros = [0; 512];
    let after: [&[u8]; 6] = [b"\n", b"\r\n", &zeros, b"<!-- page -->", &bytes, b"\x1f"];
    for tail in after {
        assert_eq!(parse(&[&bytes, tail].concat()).as_ref(), Ok(&good));
    }
    for head in ["\u{feff}", "\n", "\u{feff}\r\n\r\n "] {
        let bytes = [head.as_bytes(), &bytes].concat();
        let moved = parse(&bytes).unwrap();
        assert_eq!(moved.info_hash, good.info_hash);
        assert_eq!(list(&moved, &bytes)[1].0, "c");
    }
}

/// Keys that nobody needs, with whatever a program wrote there.
#[test]
fn odd_values_that_are_not_needed() {
    let huge = format!("i{}e", "9".repeat(20));
    let files = entry(100, &["a"]);
    let odd_deep = format!("{}{}", "l".repeat(99), "e".repeat(99));
    for value in [huge.as_str(), "i-0e", "i007e", "le", "de", "0:", &odd_deep] {
        for key in ["1:q", "7:private", "12:meta version", "6:source", "5:files"] {
            if (key, value) == ("5:files", odd_deep.as_str()) {
                continue;
            }
            let info = single().replace("4:name", &format!("{key}{value}4:name"));
            let parsed = parse(&torrent(&info)).map(|metainfo| metainfo.single);
            assert_eq!(parsed, Ok(true), "{key} {value}");
        }
        // A length beside files, whatever it says.
        for key in ["6:length", "6:md5sum", "10:name.utf-8"] {
            let info = multi(&files, 100).replace("4:name", &format!("{key}{value}4:name"));
            let parsed = parse(&torrent(&info)).map(|metainfo| metainfo.single);
            assert_eq!(parsed, Ok(false), "{key} {value}");
        }
        for key in ["4:attr", "4:sha1", "5:mtime", "10:path.utf-8"] {
            if (key, value) == ("10:path.utf-8", "le") || value == odd_deep {
                continue;
            }
            let file = format!("d{key}{value}6:lengthi100e4:pathl1:aee");
            let bytes = torrent(&multi(&file, 100));
            let parsed = parse(&bytes).unwrap_or_else(|e| panic!("{key} {value}: {e}"));
            assert_eq!(list(&parsed, &bytes)[0].0, "a", "{key} {value}");
        }
        for key in ["5:nodes", "8:encoding", "13:creation date", "8:url-list"] {
            let text = format!("d{key}{value}4:info{}e", single());
            assert!(parse(text.as_bytes()).is_ok(), "{key} {value}");
        }
    }
    let file = "d6:lengthi100e4:pathl1:ai5ele1:bee";
    let bytes = torrent(&multi(file, 100));
    assert_eq!(list(&parse(&bytes).unwrap(), &bytes)[0].0, "a/b");
    let file = "d6:lengthi100e4:path3:x/y10:path.utf-8l1:aee";
    let bytes = torrent(&multi(file, 100));
    assert_eq!(list(&parse(&bytes).unwrap(), &bytes)[0].0, "a");
    let info = single().replace("4:name4:file", "4:namei7e10:name.utf-81:b");
    assert_eq!(name(&torrent(&info)), "b");
    for (names, expected) in [
        ("4:name1:a10:name.utf-80:", "a"),
        ("10:name.utf-82:..4:name1:a", "a"),
        ("10:name.utf-81:b4:name1:a", "b"),
        ("4:name0:10:name.utf-81:b", "b"),
    ] {
        let info = single().replace("4:name4:file", names);
        assert_eq!(name(&torrent(&info)), expected, "{names}");
    }
}
