//! Writing a torrent file: its keys, sorted by their bytes (BEP 3).

use std::io;

use everseed_core::bencode::Writer;

use crate::make::listing::{Listing, padded};
use crate::make::options::Options;
use crate::stream::Stream;
use crate::walk::Found;

/// Writes the torrent file, keys sorted by their bytes (BEP 3). `info` writes that key's value.
pub(super) fn write<W: io::Write>(
    out: W,
    options: &Options,
    info: impl FnOnce(&mut Writer<Stream<W>>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = Writer::new(Stream(out));
    out.dict()?;
    if let Some(first) = options.trackers.iter().flatten().next() {
        out.key(b"announce")?;
        out.string(first.as_bytes())?;
    }
    if options.trackers.iter().flatten().count() > 1 {
        out.key(b"announce-list")?;
        write_tiers(&mut out, &options.trackers)?;
    }
    if let Some(comment) = &options.comment {
        out.key(b"comment")?;
        out.string(comment.as_bytes())?;
    }
    let created_by = options.created_by.as_deref().unwrap_or(CREATED_BY);
    if !created_by.is_empty() {
        out.key(b"created by")?;
        out.string(created_by.as_bytes())?;
    }
    let mut urls = options.trackers.iter().flatten();
    if let (Some(only), None, true) = (urls.next(), urls.next(), options.roomy)
        && ROOM_FOR.contains(&only.len())
    {
        out.key(b"everseed")?;
        out.string(&vec![b' '; ROOM - only.len()])?;
    }
    out.key(b"info")?;
    info(&mut out)?;
    if !options.webseeds.is_empty() {
        out.key(b"url-list")?;
        write_list(&mut out, &options.webseeds)?;
    }
    out.end()
}

/// Lengths of announce URLs that can replace each other: filled up with padding they are equally long, and the
/// numbers of their lengths have as many digits.
const ROOM_FOR: std::ops::RangeInclusive<usize> = 10..=99;

const ROOM: usize = 200;

pub(crate) fn write_tiers<W: io::Write>(
    out: &mut Writer<Stream<W>>,
    tiers: &[Vec<String>],
) -> io::Result<()> {
    out.list()?;
    tiers.iter().try_for_each(|tier| write_list(out, tier))?;
    out.end()
}

pub(crate) fn write_list<W: io::Write>(
    out: &mut Writer<Stream<W>>,
    texts: &[String],
) -> io::Result<()> {
    out.list()?;
    texts
        .iter()
        .try_for_each(|text| out.string(text.as_bytes()))?;
    out.end()
}

const CREATED_BY: &str = concat!("everseed/", env!("CARGO_PKG_VERSION"));

/// Writes the value of `info`; `pieces` gives `pieces_len` bytes of hashes.
pub(super) fn write_info<W: io::Write>(
    out: &mut Writer<Stream<W>>,
    source: &Listing,
    piece_len: u32,
    options: &Options,
    pieces_len: u64,
    pieces: &mut dyn io::Read,
) -> io::Result<()> {
    out.dict()?;
    match &source.files[..] {
        [only] if source.single => {
            out.key(b"length")?;
            out.integer(only.len.cast_signed())?;
        }
        files => {
            out.key(b"files")?;
            out.list()?;
            for (padding, file) in padded(files, piece_len, options.align) {
                if padding > 0 {
                    write_padding(out, padding)?;
                }
                write_file(out, file)?;
            }
            out.end()?;
        }
    }
    out.key(b"name")?;
    out.string(source.name.as_bytes())?;
    out.key(b"piece length")?;
    out.integer(piece_len.into())?;
    out.key(b"pieces")?;
    out.string_len(pieces_len)?;
    copy_raw(pieces, out)?;
    if options.private {
        out.key(b"private")?;
        out.integer(1)?;
    }
    if let Some(text) = options.source.as_deref().filter(|text| !text.is_empty()) {
        out.key(b"source")?;
        out.string(text.as_bytes())?;
    }
    out.end()
}

fn write_file<W: io::Write>(out: &mut Writer<Stream<W>>, file: &Found) -> io::Result<()> {
    out.dict()?;
    out.key(b"length")?;
    // At most the longest content that a torrent may have; `Geometry` checked that.
    out.integer(file.len.cast_signed())?;
    out.key(b"path")?;
    out.list()?;
    for component in file.path.iter() {
        // UTF-8; `Choice` checked that.
        out.string(component.as_encoded_bytes())?;
    }
    out.end()?;
    out.end()
}

/// Writes the entry of a padding file (BEP 47), with the name that libtorrent would give it.
fn write_padding<W: io::Write>(out: &mut Writer<Stream<W>>, len: u64) -> io::Result<()> {
    out.dict()?;
    out.key(b"attr")?;
    out.string(b"p")?;
    out.key(b"length")?;
    out.integer(len.cast_signed())?;
    out.key(b"path")?;
    out.list()?;
    out.string(b".pad")?;
    out.string(len.to_string().as_bytes())?;
    out.end()?;
    out.end()
}

pub(crate) fn copy_raw<W: io::Write>(
    from: &mut (impl io::Read + ?Sized),
    to: &mut Writer<Stream<W>>,
) -> io::Result<()> {
    let mut buffer = [0; 8 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            len => to.raw(&buffer[..len])?,
        }
    }
}
