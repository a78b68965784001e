//! Changing a torrent file's trackers, comment and other fields beside its files.
//!
//! Everything else stays byte for byte: unknown keys, the order of keys, how numbers are written, what stands before
//! and after. So the info-hash stays the same too, unless `source` is changed, which is part of what is hashed.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use everseed_core::bencode::{self, Reader, Type, Writer};
use everseed_core::metainfo::Metainfo;

use crate::hash::Fast;
use crate::make::{MakeError, copy_raw, write_list, write_tiers};
use crate::replace::replace_for_all;
use crate::stream::Stream;

/// The fields to change: `None` leaves a field as it is, an empty value removes it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    /// Announce URLs in tiers (BEP 12).
    pub trackers: Option<Vec<Vec<String>>>,
    /// HTTP addresses of the same files (BEP 19).
    pub webseeds: Option<Vec<String>>,
    /// A comment for people.
    pub comment: Option<String>,
    /// The site that the torrent is for; the info-hash changes with it.
    pub source: Option<String>,
}

/// Writes `torrent` with the changes to `out`, which may be the same file.
pub fn edit(torrent: &Path, out: &Path, changes: &Changes) -> Result<(), MakeError> {
    let failed = |path: &Path, error| {
        let path = path.to_owned();
        MakeError::Io { path, error }
    };
    let file = File::open(torrent).map_err(|error| failed(torrent, error))?;
    let outer = changes.outer().map_err(|error| failed(out, error))?;
    let info = changes.info().map_err(|error| failed(out, error))?;
    let written = replace_for_all(out, |to| {
        let mut to = Writer::new(Stream(to));
        let end = rewrite(&file, 0, &outer, &info, &mut to)?;
        copy(&file, end..u64::MAX, &mut to)
    });
    written.map_err(|error| failed(out, error))
}

/// The site that a torrent is for (`source`), if it names one.
pub fn source_of(torrent: &Path, metainfo: &Metainfo) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(torrent)?;
    let mut reader = reader(&file, metainfo.info_range().start);
    let mut room = [0; KEY];
    reader.dict().map_err(into_io)?;
    while let Some(key) = reader.key(&mut room).map_err(into_io)? {
        if key == b"source" && reader.peek().map_err(into_io)? == Type::String {
            let mut room = [0; 256];
            let text = reader.string_start(&mut room).map_err(into_io)?;
            return Ok(Some(text.to_vec()));
        }
    }
    Ok(None)
}

/// A key and its new value, bencoded; an empty value removes the key.
type Change = (&'static [u8], Vec<u8>);

impl Changes {
    /// Changes of the outer dictionary, sorted by key.
    fn outer(&self) -> io::Result<Vec<Change>> {
        let mut outer: Vec<Change> = Vec::new();
        if let Some(tiers) = &self.trackers {
            let all = tiers.iter().flatten();
            let first = all.clone().next();
            let first = first.map_or(Ok(Vec::new()), |url| string(url))?;
            outer.push((b"announce", first));
            let list = match all.count() {
                0 | 1 => Vec::new(),
                _ => encoded(|out| write_tiers(out, tiers))?,
            };
            outer.push((b"announce-list", list));
        }
        if let Some(comment) = &self.comment {
            outer.push((b"comment", string(comment)?));
            // Clients show that one, if it is there.
            outer.push((b"comment.utf-8", Vec::new()));
        }
        if let Some(urls) = &self.webseeds {
            let list = match urls.is_empty() {
                true => Vec::new(),
                false => encoded(|out| write_list(out, urls))?,
            };
            outer.push((b"url-list", list));
        }
        Ok(outer)
    }

    /// Changes of `info`.
    fn info(&self) -> io::Result<Vec<Change>> {
        let source = self.source.iter();
        let change = |text: &String| Ok((&b"source"[..], string(text)?));
        source.map(change).collect()
    }
}

/// A bencoded string; an empty text gives nothing.
fn string(text: &str) -> io::Result<Vec<u8>> {
    match text {
        "" => Ok(Vec::new()),
        text => encoded(|out| out.string(text.as_bytes())),
    }
}

fn encoded(
    write: impl FnOnce(&mut Writer<Stream<Vec<u8>>>) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let mut out = Writer::new(Stream(Vec::new()));
    write(&mut out)?;
    Ok(out.into_inner().0)
}

/// Writes the dictionary that begins at `at`, and returns where it ends; if `at` is 0, what stands before it in the
/// file is written too. Keys of `changes`, which are sorted, get their new values, at their place in the order.
/// `info` holds the changes of the first value of that name.
fn rewrite<W: io::Write>(
    file: &File,
    at: u64,
    changes: &[Change],
    info: &[Change],
    to: &mut Writer<Stream<W>>,
) -> io::Result<u64> {
    let mut reader = reader(file, at);
    let mut room = [0; KEY];
    let mut changes = changes.iter().peekable();
    let all: Vec<&[u8]> = changes.clone().map(|(key, _)| *key).collect();
    let mut info = Some(info).filter(|info| !info.is_empty());
    reader.pass_preamble().map_err(into_io)?;
    reader.dict().map_err(into_io)?;
    copy(file, at..reader.offset(), to)?;
    loop {
        let start = reader.offset();
        let key = reader.key(&mut room).map_err(into_io)?;
        while let Some((new, value)) = changes.next_if(|(new, _)| key.is_none_or(|key| *new < key))
        {
            if !value.is_empty() {
                to.string(new)?;
                to.raw(value)?;
            }
        }
        let Some(key) = key else {
            to.raw(b"e")?;
            return Ok(reader.offset());
        };
        let value_at = reader.offset();
        reader.skip().map_err(into_io)?;
        let now = changes.next_if(|(new, _)| *new == key);
        if let Some((new, value)) = now.filter(|(_, value)| !value.is_empty()) {
            to.string(new)?;
            to.raw(value)?;
        } else if let (b"info", Some(changes)) = (key, info.take_if(|_| key == b"info")) {
            copy(file, start..value_at, to)?;
            rewrite(file, value_at, changes, &[], to)?;
        } else if !all.contains(&key) {
            copy(file, start..reader.offset(), to)?;
        }
    }
}

/// Copies bytes of the file as they are, up to its end if the range reaches beyond.
fn copy<W: io::Write>(
    file: &File,
    range: Range<u64>,
    to: &mut Writer<Stream<W>>,
) -> io::Result<()> {
    let from = At(file, range.start);
    copy_raw(&mut from.take(range.end - range.start), to)
}

fn reader(file: &File, at: u64) -> Reader<Stream<BufReader<At<'_>>>, Fast> {
    Reader::resumed(Stream(BufReader::new(At(file, at))), at)
}

/// Longer than every key that this module knows.
const KEY: usize = 24;

/// The bytes of a file from an offset on.
struct At<'a>(&'a File, u64);

impl Read for At<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let len = self.0.read_at(room, self.1)?;
        self.1 += len as u64;
        Ok(len)
    }
}

fn into_io(error: bencode::Error<io::Error>) -> io::Error {
    match error.kind {
        bencode::ErrorKind::Io(error) => error,
        _ => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::read_torrent;
    use crate::scratch::Scratch;
    use std::fs;

    const INFO: &str = "d6:lengthi05e4:name1:n12:piece lengthi32e6:pieces20:hhhhhhhhhhhhhhhhhhhh\
        7:unknownli1eee";

    fn edited(before: &str, changes: &Changes) -> String {
        let scratch = Scratch::new("edit");
        let path = scratch.path().join("x.torrent");
        fs::write(&path, before).unwrap();
        edit(&path, &path, changes).unwrap();
        read_torrent(&path).unwrap();
        fs::read_to_string(&path).unwrap()
    }

    fn list(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|&url| url.to_owned()).collect()
    }

    #[test]
    fn the_rest_stays_byte_for_byte() {
        let trackers = |tiers: &[&[&str]]| Changes {
            trackers: Some(tiers.iter().map(|urls| list(urls)).collect()),
            ..Changes::default()
        };
        let webseeds = |urls: &[&str]| Changes {
            webseeds: Some(list(urls)),
            ..Changes::default()
        };
        let comment = |text: &str| Changes {
            comment: Some(text.to_owned()),
            ..Changes::default()
        };
        let source = |text: &str| Changes {
            source: Some(text.to_owned()),
            ..Changes::default()
        };
        let odd = "1:zi007e13:creation datei5e";
        let tiers = "13:announce-listll2:u12:u2el2:u3ee";
        let table = [
            (
                Changes::default(),
                "8:announce2:u0I1:z0:",
                "8:announce2:u0I1:z0:",
            ),
            (trackers(&[&["u1"]]), "I", "8:announce2:u1I"),
            (
                trackers(&[&["u1", "u2"], &["u3"]]),
                "I",
                &format!("8:announce2:u1{tiers}I"),
            ),
            (
                trackers(&[&["u1"]]),
                &format!("8:announce2:u9{tiers}I"),
                "8:announce2:u1I",
            ),
            (trackers(&[]), &format!("8:announce2:u9{tiers}I"), "I"),
            // Not sorted, and twice: whoever wrote it, the rest stays where it is.
            (
                trackers(&[&["u1"]]),
                "I8:announce2:u98:announce2:u8",
                "8:announce2:u1I",
            ),
            (
                comment("c"),
                &format!("{odd}I"),
                &format!("7:comment1:c{odd}I"),
            ),
            (
                comment("c"),
                &format!("I{odd}7:commentle"),
                &format!("7:comment1:cI{odd}"),
            ),
            (comment(""), "7:comment1:xI", "I"),
            (
                comment("c"),
                "7:comment1:x13:comment.utf-81:yI",
                "7:comment1:cI",
            ),
            (comment(""), "I13:comment.utf-81:y", "I"),
            (webseeds(&["w"]), "I1:z0:", "I8:url-listl1:we1:z0:"),
            (webseeds(&[]), "I8:url-list1:w1:z0:", "I1:z0:"),
            (source("TRK"), "1:a0:I1:z0:", "1:a0:S1:z0:"),
            (source("TRK"), "II", "SI"),
            (source(""), "S", "I"),
        ];
        let sourced = INFO.replace("7:unknown", "6:source3:TRK7:unknown");
        let whole = |text: &str| {
            let text = text.replace('I', &format!("4:info{INFO}"));
            let text = text.replace('S', &format!("4:info{sourced}"));
            format!("\u{feff}\nd{text}e\r\n\0")
        };
        for (changes, before, after) in table {
            let edited = edited(&whole(before), &changes);
            assert_eq!(edited, whole(after), "{changes:?} {before}");
        }
    }

    #[test]
    fn what_it_is_for() {
        let scratch = Scratch::new("edit-source");
        let path = scratch.path().join("x.torrent");
        for (info, expected) in [
            (INFO.to_owned(), None),
            (
                INFO.replace("7:unknown", "6:source3:TRK7:unknown"),
                Some(b"TRK".to_vec()),
            ),
            (INFO.replace("7:unknown", "6:sourcei1e7:unknown"), None),
        ] {
            fs::write(&path, format!("d4:info{info}e")).unwrap();
            let metainfo = read_torrent(&path).unwrap();
            assert_eq!(source_of(&path, &metainfo).unwrap(), expected);
        }
    }
}
