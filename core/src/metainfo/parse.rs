//! The parser of [`Metainfo::read`]: one pass over a torrent file.

use embedded_io::Read;

use super::files::{ParsedFile, length};
use super::names::{LAST, ROOM, Spelling, is_usable};
use super::urls::usable;
use super::{Field, Metainfo, MetainfoError, Position};
use crate::bencode::{ErrorKind, Reader, Type};
use crate::geometry::Geometry;
use crate::hash::{InfoHash, Sha1};

type Result<T, R> = core::result::Result<T, MetainfoError<<R as embedded_io::ErrorType>::Error>>;

/// The values outside of `info`.
#[derive(Default)]
struct Outer {
    announce_at: Option<Position>,
    /// A list where one URL should be.
    announced_list_at: Option<Position>,
    announce_list_at: Option<Position>,
    url_list_at: Option<Position>,
    nodes_at: Option<Position>,
    comment_at: Option<Position>,
    created_by_at: Option<Position>,
    creation_date: Option<i64>,
}

/// The values in `info`.
#[derive(Default)]
struct Info {
    name: Option<FoundName>,
    piece_length: Option<u64>,
    /// The offset of the hashes, and their length in bytes.
    pieces: Option<(u64, u64)>,
    /// The offset of `length`, and its value.
    length: Option<(u64, i64)>,
    /// The offset of the list, the number of files, and the sum of their lengths.
    files: Option<(u64, u32, u64)>,
    private: bool,
    version2: bool,
}

/// The best of the names so far.
struct FoundName {
    /// Its offset.
    at: u64,
    /// Whether a file can have this name, or one made of it.
    usable: bool,
    /// Whether it is `name.utf-8`.
    utf8: bool,
}

/// The length of a buffer for keys: longer than every known key.
const KEY: usize = 24;

pub(super) fn read<H: Sha1, R: Read>(input: R) -> Result<Metainfo, R> {
    let mut reader = Reader::<R, H>::hashing(input);
    let mut outer = Outer::default();
    let mut found = None;
    let mut room = [0; KEY];
    reader.pass_preamble()?;
    reader.dict()?;
    while let Some(key) = reader.key(&mut room)? {
        if key == b"info" && found.is_none() {
            let start = reader.offset();
            reader.start_hash();
            let info = Info::parse(&mut reader)?;
            let digest = reader.finish_hash().unwrap_or_default();
            found = Some((info, InfoHash(digest), start..reader.offset()));
        } else {
            outer.take(key, &mut reader)?;
        }
    }
    // Bytes after the dictionary are neither hashed nor used: a line end, zeros of a disk's block,
    // a page's HTML.
    let (info, info_hash, range) = found.ok_or(MetainfoError::Missing(Field::Info))?;
    let shape = info.shape::<R>()?;
    let name = info.name.ok_or(MetainfoError::Missing(Field::Name))?;
    Ok(Metainfo {
        info_hash,
        name_at: name.at,
        geometry: shape.geometry,
        private: info.private,
        single: shape.single,
        file_count: shape.file_count,
        creation_date: outer.creation_date,
        info: range,
        pieces_at: shape.pieces_at,
        files_at: shape.files_at,
        announce_at: outer.announce_at,
        announce_list_at: outer.announce_list_at.or(outer.announced_list_at),
        url_list_at: outer.url_list_at,
        nodes_at: outer.nodes_at,
        comment_at: outer.comment_at,
        created_by_at: outer.created_by_at,
    })
}

impl Outer {
    /// Takes the value of a key, if the key is known. A value of a wrong type counts as missing: the content can
    /// be served without it.
    fn take<R: Read, H: Sha1>(&mut self, key: &[u8], reader: &mut Reader<R, H>) -> Result<(), R> {
        let kind = reader.peek()?;
        let at = Position::new(reader.offset());
        match (key, kind) {
            (b"announce", Type::String) if self.announce_at.is_none() => self.announce_at = at,
            // Some programs write the list of all trackers under this key.
            (b"announce", Type::List) if self.announced_list_at.is_none() => {
                let usable = has_tracker(reader)?;
                self.announced_list_at = at.filter(|_| usable);
            }
            // Some write a single one there.
            (b"announce-list", Type::List | Type::String) if self.announce_list_at.is_none() => {
                let usable = has_tracker(reader)?;
                self.announce_list_at = at.filter(|_| usable);
            }
            (b"url-list", Type::String | Type::List) if self.url_list_at.is_none() => {
                self.url_list_at = at;
            }
            (b"nodes", Type::List) => self.nodes_at = self.nodes_at.or(at),
            (b"comment", Type::String) => self.comment_at = self.comment_at.or(at),
            (b"created by", Type::String) => self.created_by_at = self.created_by_at.or(at),
            (b"creation date", Type::Integer) if self.creation_date.is_none() => {
                self.creation_date = match reader.integer() {
                    Err(error) if matches!(error.kind, ErrorKind::NumberTooLarge) => None,
                    other => Some(other?),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads an announce list, or a single URL in its place. Returns whether there is a URL that can be used.
fn has_tracker<R: Read, H: Sha1>(reader: &mut Reader<R, H>) -> Result<bool, R> {
    let mut room = [0; super::MAX_URL];
    if reader.peek()? == Type::String {
        return Ok(usable(reader, &mut room)?.is_some());
    }
    let mut any = false;
    let mut depth = 1u8;
    reader.list()?;
    while depth > 0 {
        if !reader.more()? {
            depth = depth.saturating_sub(1);
        } else if reader.peek()? == Type::List && depth < u8::MAX {
            reader.list()?;
            depth = depth.saturating_add(1);
        } else {
            any |= usable(reader, &mut room)?.is_some();
        }
    }
    Ok(any)
}

impl Info {
    fn parse<R: Read, H: Sha1>(reader: &mut Reader<R, H>) -> Result<Info, R> {
        let mut info = Info::default();
        let mut room = [0; KEY];
        reader.dict()?;
        while let Some(key) = reader.key(&mut room)? {
            match key {
                b"name" if reader.peek()? == Type::String => info.take_name(reader, false)?,
                b"name.utf-8" if reader.peek()? == Type::String => info.take_name(reader, true)?,
                b"piece length" if info.piece_length.is_none() => {
                    info.piece_length = Some(length(reader)?);
                }
                b"pieces" if info.pieces.is_none() => {
                    let len = reader.string_len()?;
                    info.pieces = Some((reader.offset(), len));
                }
                b"length" if info.length.is_none() && reader.peek()? == Type::Integer => {
                    info.length = Some((reader.offset(), reader.integer_clamped()?));
                }
                b"files" if info.files.is_none() && reader.peek()? == Type::List => {
                    info.files = Some(files(reader)?);
                }
                b"private" if reader.peek()? == Type::Integer => {
                    // BEP 27 says 1. Other programs accept any number but 0. So do we: private is the safe choice.
                    info.private |= reader.integer_clamped()? != 0;
                }
                b"meta version" if reader.peek()? == Type::Integer => {
                    info.version2 = reader.integer_clamped()? == 2;
                }
                _ => {}
            }
        }
        // The `e` that ends the dictionary was read: the hashed part ends here.
        Ok(info)
    }

    fn take_name<R: Read, H: Sha1>(
        &mut self,
        reader: &mut Reader<R, H>,
        utf8: bool,
    ) -> Result<(), R> {
        let at = reader.offset();
        let mut room = [0; ROOM];
        let usable = is_usable(reader.string_ends(&mut room, LAST)?);
        // An unusable name never replaces a usable one.
        let rank = |usable, utf8| (usable, usable && utf8);
        let before = self.name.as_ref();
        if before.is_none_or(|before| rank(usable, utf8) > rank(before.usable, before.utf8)) {
            self.name = Some(FoundName { at, usable, utf8 });
        }
        Ok(())
    }

    /// Checks that the values fit together.
    fn shape<R: Read>(&self) -> Result<Shape, R> {
        if self.version2 && self.pieces.is_none() {
            return Err(MetainfoError::Version2);
        }
        // A list of files wins over a `length` beside it, as in libtorrent and Transmission.
        let (total, single, file_count, files_at) = match (self.length, self.files) {
            (_, Some((at, count, total))) if count > 0 => (total, false, count, at),
            (Some((offset, length)), _) => {
                let bad = |_| MetainfoError::BadLength { offset };
                (u64::try_from(length).map_err(bad)?, true, 1, 0)
            }
            (None, _) => return Err(MetainfoError::Missing(Field::Length)),
        };
        let missing = MetainfoError::Missing;
        let piece_length = self.piece_length.ok_or(missing(Field::PieceLength))?;
        let (pieces_at, bytes) = self.pieces.ok_or(missing(Field::Pieces))?;
        let geometry = Geometry::new(total, piece_length).map_err(MetainfoError::Geometry)?;
        let pieces = geometry.pieces();
        if bytes != u64::from(pieces).saturating_mul(20) {
            return Err(MetainfoError::WrongPieces { bytes, pieces });
        }
        Ok(Shape {
            geometry,
            single,
            file_count,
            files_at,
            pieces_at,
        })
    }
}

struct Shape {
    geometry: Geometry,
    single: bool,
    file_count: u32,
    files_at: u64,
    pieces_at: u64,
}

/// Reads the list of files. Returns its offset, the number of files, and the sum of their lengths.
fn files<R: Read, H: Sha1>(reader: &mut Reader<R, H>) -> Result<(u64, u32, u64), R> {
    reader.peek()?;
    let at = reader.offset();
    let (mut count, mut total) = (0u32, 0u64);
    let mut entry = ParsedFile::new(Spelling::Fixed);
    reader.list()?;
    while reader.more()? {
        let offset = reader.offset();
        entry.parse(reader, Spelling::Fixed)?;
        count = count.checked_add(1).ok_or(MetainfoError::TooManyFiles)?;
        total = total
            .checked_add(entry.len)
            .ok_or(MetainfoError::BadLength { offset })?;
    }
    Ok((at, count, total))
}
