//! Torrents good and bad.

extern crate std;

use core::convert::Infallible;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use embedded_io::{ErrorType, Read, Seek, SeekFrom};

use super::*;
use crate::hash::Smol;
use crate::rng::Rng;

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

/// An old encoding of a long name grows when it is replaced byte by byte.
#[test]
fn a_bad_name_does_no_harm_beside_a_better_one() {
    let old = [0xb0; 100];
    let replace = |text: String, mark: &str| {
        let text = text.into_bytes();
        let mark = mark.as_bytes();
        let at = text.windows(mark.len()).position(|w| w == mark).unwrap();
        [&text[..at], b"100:", &old, &text[at + mark.len()..]].concat()
    };
    let file = "d6:lengthi100e4:pathl3:???e10:path.utf-8l2:\u{e4}ee";
    let info = |file: &str| format!("d4:info{}e", multi(file, 100));
    let bytes = replace(info(file), "3:???");
    let metainfo = parse(&bytes).unwrap();
    assert_eq!(list(&metainfo, &bytes)[0].0, "\u{e4}");
    let alone = file.replace("10:path.utf-8", "1:q");
    let bytes = replace(info(&alone), "3:???");
    let metainfo = parse(&bytes).unwrap();
    assert_eq!(list(&metainfo, &bytes)[0].0, "_".repeat(100));

    let both = single().replace("4:name4:file", "4:name3:???10:name.utf-82:\u{e4}");
    let both = format!("d4:info{both}e");
    assert_eq!(name(&replace(both.clone(), "3:???")), "ä");
    let alone = both.replace("10:name.utf-8", "1:q");
    assert_eq!(name(&replace(alone, "3:???")), "_".repeat(100).as_str());
}

/// A key that says nothing does no harm beside one that does, whichever it is and wherever it stands.
#[test]
fn the_name_that_says_something_is_taken() {
    let nothing = ["le", "l0:e", "l1:.2:..e", "li1ee", "i1e", "0:"];
    for odd in nothing {
        for (one, two) in [("path", "path.utf-8"), ("path.utf-8", "path")] {
            for file in [
                format!("d6:lengthi100e{}l1:ae{}{odd}e", string(one), string(two)),
                format!("d6:lengthi100e{}{odd}{}l1:aee", string(two), string(one)),
            ] {
                let bytes = format!("d4:info{}e", multi(&file, 100)).into_bytes();
                let metainfo = parse(&bytes).unwrap();
                assert_eq!(list(&metainfo, &bytes)[0].0, "a", "{file}");
            }
        }
    }
    for (one, two) in [("name", "name.utf-8"), ("name.utf-8", "name")] {
        for odd in ["0:", "1:.", "2:..", "1:/", "i1e"] {
            let [one, two] = [string(one), string(two)];
            for keys in [format!("{one}1:a{two}{odd}"), format!("{two}{odd}{one}1:a")] {
                let text = single().replace("4:name4:file", &keys);
                assert_eq!(name(format!("d4:info{text}e").as_bytes()), "a", "{keys}");
            }
        }
    }
}

#[test]
fn a_torrent_cut_short_says_where() {
    let files = [entry(40, &["a", "b"]), entry(60, &["c"])].concat();
    let bytes = torrent(&multi(&files, 100));
    for len in 0..bytes.len() {
        let (kind, offset) = (bencode::ErrorKind::Truncated, len as u64);
        let error = bencode::Error { kind, offset };
        assert_eq!(parse(&bytes[..len]), Err(MetainfoError::Bencode(error)));
    }
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

#[test]
fn what_is_refused() {
    use MetainfoError::*;
    let without = |key: &str| parse(&torrent(&single().replace(key, "1:q"))).unwrap_err();
    assert_eq!(without("4:name"), Missing(Field::Name));
    assert_eq!(without("12:piece length"), Missing(Field::PieceLength));
    assert_eq!(without("6:pieces"), Missing(Field::Pieces));
    assert_eq!(without("6:length"), Missing(Field::Length));
    assert_eq!(parse(b"d4:spam0:e"), Err(Missing(Field::Info)));
    let with = |from: &str, to: &str| parse(&torrent(&single().replace(from, to))).unwrap_err();
    let place = |of: &str| {
        torrent(&single())
            .windows(of.len())
            .position(|w| w == of.as_bytes())
    };
    let offset = place("i100e").unwrap() as u64;
    assert_eq!(with("i100e", "i-1e"), BadLength { offset });
    let wrong_type = |offset, expected| {
        let kind = bencode::ErrorKind::WrongType { expected };
        Bencode(bencode::Error { kind, offset })
    };
    assert_eq!(with("i100e", "3:100"), Missing(Field::Length));
    let offset = place("80:h").unwrap() as u64;
    let text = wrong_type(offset, bencode::Type::String);
    assert_eq!(with(&format!("80:{}", "h".repeat(80)), "le"), text);
    let dict = wrong_type(7, bencode::Type::Dict);
    assert_eq!(parse(b"d4:infolee"), Err(dict));
    assert_eq!(with("i100e", "i0e"), Geometry(GeometryError::Total));
    assert_eq!(with("i32e", "i0e"), Geometry(GeometryError::PieceLength));
    assert_eq!(
        with("i32e", "i536870913e"),
        Geometry(GeometryError::PieceLength)
    );
    let wrong = WrongPieces {
        bytes: 80,
        pieces: 5,
    };
    assert_eq!(with("i100e", "i129e"), wrong);
    assert_eq!(with("4:file", "i4e"), Missing(Field::Name));
    // No file at all, and a list that does not fit the pieces although the length beside it does.
    assert_eq!(with("6:lengthi100e", "5:filesle"), Missing(Field::Length));
    let two = format!("5:filesl{}e4:name", entry(200, &["a"]));
    let wrong = WrongPieces {
        bytes: 80,
        pieces: 7,
    };
    assert_eq!(with("4:name", &two), wrong);
    let v2 = "d9:file treede12:meta versioni2e4:name1:n12:piece lengthi16384ee";
    assert_eq!(parse(&torrent(v2)), Err(Version2));
    let sum = entry(i64::MAX as u64, &["a"]).repeat(3);
    assert!(matches!(
        parse(&torrent(&multi(&sum, 1))),
        Err(BadLength { .. })
    ));
    assert_eq!(
        parse(&torrent(&multi("d4:pathl1:aee", 1))),
        Err(Missing(Field::Length))
    );
    assert_eq!(parse(b"d4:infodee "), Err(Missing(Field::Length)));
}

#[test]
fn trackers_and_web_seeds() {
    let long = format!("http://{}", "x".repeat(MAX_URL));
    let cases: [(&str, &[(u16, &str)]); 9] = [
        ("8:announce1:a", &[(0, "a")]),
        (
            "8:announce1:a13:announce-listll1:b1:cel1:dee",
            &[(0, "b"), (0, "c"), (1, "d")],
        ),
        ("8:announce1:a13:announce-listllelee", &[(0, "a")]),
        ("8:announce1:a13:announce-listllel0:i1eee", &[(0, "a")]),
        ("13:announce-listllel1:bel0:el1:cee", &[(0, "b"), (1, "c")]),
        ("13:announce-listl1:b1:ce", &[(0, "b"), (1, "c")]),
        ("8:announcel1:b1:ce", &[(0, "b"), (1, "c")]),
        ("8:announcel1:be13:announce-listll1:cee", &[(0, "c")]),
        ("8:announcel1:be13:announce-listle", &[(0, "b")]),
    ];
    let collect = |text: &str| {
        let text = format!("d{text}4:info{}e", single());
        let metainfo = parse(text.as_bytes()).unwrap();
        let mut trackers = metainfo.trackers(file(text.as_bytes())).unwrap();
        let mut found = Vec::new();
        while let Some((tier, url)) = trackers.next().unwrap() {
            found.push((tier, url.to_string()));
        }
        let mut seeds = metainfo.web_seeds(file(text.as_bytes())).unwrap();
        let mut urls = Vec::new();
        while let Some(url) = seeds.next().unwrap() {
            urls.push(url.to_string());
        }
        (found, urls)
    };
    for (text, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(n, u)| (*n, u.to_string())).collect();
        assert_eq!(collect(text).0, expected, "{text}");
    }
    let listed = format!("13:announce-listll{}1:bee", string(&long));
    assert_eq!(collect(&listed).0, [(0, "b".to_string())]);
    let around = "13:announce-listll4: b\r\n5:a\r\nbc2:  el1:cee";
    let found = [(0, "b".to_string()), (1, "c".to_string())];
    assert_eq!(collect(around).0, found);
    assert_eq!(collect("8:url-list1:w").1, ["w"]);
    assert_eq!(collect("8:url-listl3:a b5:a\0bcd3: v e").1, ["a b", "v"]);
    assert_eq!(collect("8:url-listl1:v0:1:we").1, ["v", "w"]);
    assert_eq!(collect("8:url-list0:").1, Vec::<String>::new());
    assert_eq!(collect("8:url-listi4e").1, Vec::<String>::new());
}

#[test]
fn dht_nodes() {
    let long = format!("l{}i1ee", string(&"x".repeat(256)));
    let cases: [(&str, &[(&str, u16)]); 8] = [
        ("", &[]),
        ("5:nodesi4e", &[]),
        ("5:nodesle", &[]),
        (
            "5:nodesll9:127.0.0.1i6881eel9:a.examplei1eee",
            &[("127.0.0.1", 6881), ("a.example", 1)],
        ),
        (
            "5:nodesll1:ai0eel1:bi65536eel1:ci-1eel1:di99999999999999999999eee",
            &[],
        ),
        (
            "5:nodesli4e1:ad1:b1:ce4:lessllel1:ael1:a1:beli1e1:aeel1:bi2e1:xeee",
            &[("b", 2)],
        ),
        ("5:nodesll0:i1eel3:a\0bi1eel3: a i1eee", &[("a", 1)]),
        (&format!("5:nodesl{long}l1:bi2eee"), &[("b", 2)]),
    ];
    for (text, expected) in cases {
        let text = format!("d4:info{}{text}e", single());
        let metainfo = parse(text.as_bytes()).unwrap();
        let mut nodes = metainfo.dht_nodes(file(text.as_bytes())).unwrap();
        let mut found = Vec::new();
        while let Some((host, port)) = nodes.next().unwrap() {
            found.push((host.to_string(), port));
        }
        let expected: Vec<_> = expected.iter().map(|(h, p)| (h.to_string(), *p)).collect();
        assert_eq!(found, expected, "{text}");
    }
}

/// A torrent of a million pieces that exists nowhere as a whole.
struct Million {
    head: Vec<u8>,
    left: usize,
    read: u64,
}

impl ErrorType for Million {
    type Error = Infallible;
}

impl Read for Million {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let mut len = self.head.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(self.head.drain(..len)) {
            *to = from;
        }
        if len == 0 {
            len = self.left.min(buf.len());
            buf[..len].fill(b'h');
            self.left -= len;
            if len == 0 {
                (self.head, self.left) = (Vec::new(), 0);
            } else if self.left == 0 {
                self.head = b"ee".to_vec();
            }
        }
        self.read += len as u64;
        Ok(len)
    }
}

#[test]
fn a_million_pieces() {
    let head = "d4:infod6:lengthi549755813888000e4:name1:n12:piece lengthi536870912e\
        6:pieces20480000:";
    assert_eq!(549_755_813_888_000u64 / 536_870_912, 1_024_000);
    let mut torrent = Million {
        head: head.as_bytes().to_vec(),
        left: 20_480_000,
        read: 0,
    };
    let metainfo = Metainfo::read::<Smol, _>(&mut torrent).unwrap();
    assert_eq!(metainfo.geometry.pieces(), 1_024_000);
    assert_eq!(metainfo.pieces_at(), head.len() as u64);
    assert_eq!(torrent.read, head.len() as u64 + 20_480_000 + 2);
    assert!(size_of::<Metainfo>() <= 512);
}

#[test]
fn mutations_never_panic() {
    let files = [entry(40, &["a", "b"]), entry(60, &["c"])].concat();
    let text = format!(
        "d8:announce1:a13:announce-listll1:b1:cee4:info{}8:url-listl1:wee",
        multi(&files, 100)
    );
    assert!(parse(text.as_bytes()).is_ok());
    let mut rng = Rng::new(3);
    let mut good = 0;
    for _ in 0..20_000 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len() as u32) as usize;
            match rng.below(4) {
                0 => bytes[at] = b"0123456789ilde:-"[rng.below(16) as usize],
                1 => bytes.truncate(at.max(1)),
                2 if bytes.len() > 1 => _ = bytes.remove(at),
                _ => bytes[at] = rng.bits32() as u8,
            }
        }
        let mut input = file(&bytes);
        let parsed = Metainfo::read::<Smol, _>(&mut input);
        // Once through and no more, in reads of the reader's buffer.
        let reads = bytes.len() / 512 + 3;
        assert!(input.reads <= reads, "{} reads", input.reads);
        let Ok(metainfo) = parsed else {
            continue;
        };
        good += 1;
        input.reads = 0;
        let mut files = metainfo.files(&mut input).unwrap();
        while files.next().unwrap().is_some() {}
        assert!(input.reads <= reads, "{} reads", input.reads);
        let found = list(&metainfo, &bytes);
        assert_eq!(found.len(), metainfo.file_count as usize);
        assert_eq!(
            found.iter().map(|f| f.1).sum::<u64>(),
            metainfo.geometry.total()
        );
        for (path, ..) in &found {
            let bad = |part: &str| matches!(part, "" | "." | "..") || part.len() > MAX_NAME;
            assert!(!path.split('/').any(bad), "{path}");
        }
        let mut trackers = metainfo.trackers(file(&bytes)).unwrap();
        while trackers.next().unwrap().is_some() {}
        let mut seeds = metainfo.web_seeds(file(&bytes)).unwrap();
        while seeds.next().unwrap().is_some() {}
        let mut nodes = metainfo.dht_nodes(file(&bytes)).unwrap();
        while nodes.next().unwrap().is_some() {}
    }
    assert!(good > 500, "{good} mutants live");
    // A file that is replaced while it is used is an error, not a panic.
    let metainfo = parse(text.as_bytes()).unwrap();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = b'!';
        let cut = vec![file(&bytes), file(&text.as_bytes()[..at])];
        for torrent in cut {
            if let Ok(mut files) = metainfo.files(torrent) {
                while let Ok(Some(_)) = files.next() {}
            }
        }
    }
}
