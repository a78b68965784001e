//! The files of a torrent, one at a time.

use embedded_io::{Read, Seek};

use super::names::{SafePath, push_component};
use super::{Field, Metainfo, MetainfoError, RereadError, value_at};
use crate::bencode::{self, ErrorKind, Reader, Type};
use crate::hash::Sha1;

/// A file of a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileEntry<'a> {
    /// Within the torrent's folder, components joined by `/`; for a single file its name. Safe, see
    /// [`NameError`](super::NameError) for what is refused.
    pub path: &'a str,
    /// Bytes.
    pub len: u64,
    /// Where in the content it begins.
    pub offset: u64,
    /// What it is.
    pub kind: Kind,
    /// Whether it is meant to be executable (BEP 47).
    pub executable: bool,
    /// Whether it is meant to be hidden (BEP 47).
    pub hidden: bool,
    /// Where its entry is, in bytes from the start of the torrent file; see
    /// [`files_from`](Metainfo::files_from).
    pub position: u64,
}

/// What a file is (BEP 47).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Content that is kept on disk.
    Data,
    /// Zeros that bring the next file to the start of a piece; not kept on disk.
    Padding,
    /// A symbolic link, which is never made nor followed. It has no content.
    Symlink,
}

/// A cursor over the files of a torrent.
#[derive(Debug)]
pub struct Files<R> {
    /// `None` for a single file.
    reader: Option<Reader<R>>,
    /// The single file, until it was given out.
    single: bool,
    /// Whether the list has been entered, and not at the entry it was begun at.
    in_list: bool,
    left: u32,
    offset: u64,
    end: u64,
    entry: Entry,
}

/// An entry as it is parsed.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) path: SafePath,
    pub(super) len: u64,
    pub(super) attributes: Attributes,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes {
    padding: bool,
    symlink: bool,
    executable: bool,
    hidden: bool,
}

impl<R: Read + Seek> Files<R> {
    pub(super) fn new(metainfo: &Metainfo, torrent: R) -> Result<Files<R>, RereadError<R::Error>> {
        let mut files = Files::from(metainfo, torrent, metainfo.files_at, 0)?;
        if let Some(reader) = &mut files.reader {
            reader.list()?;
            files.in_list = true;
        }
        files.left = metainfo.file_count;
        Ok(files)
    }

    pub(super) fn from(
        metainfo: &Metainfo,
        torrent: R,
        position: u64,
        offset: u64,
    ) -> Result<Files<R>, RereadError<R::Error>> {
        let mut entry = Entry::default();
        let reader = if metainfo.single {
            // A name is shorter than a path.
            let _ = entry.path.push_str(&metainfo.name(torrent)?);
            entry.len = metainfo.geometry.total();
            None
        } else {
            Some(value_at(torrent, position)?)
        };
        Ok(Files {
            reader,
            single: metainfo.single,
            in_list: false,
            left: u32::MAX,
            offset,
            end: metainfo.geometry.total(),
            entry,
        })
    }

    /// The next file, or `None` after the last.
    #[allow(clippy::should_implement_trait)] // It lends its path, which `Iterator` cannot.
    pub fn next(&mut self) -> Result<Option<FileEntry<'_>>, RereadError<R::Error>> {
        let position = match &mut self.reader {
            None if !core::mem::take(&mut self.single) => return Ok(None),
            None => 0,
            Some(reader) => {
                if self.left == 0 || !at_entry(reader, self.in_list)? {
                    return Ok(None);
                }
                let position = reader.offset();
                self.entry.parse(reader).map_err(|error| match error {
                    MetainfoError::Bencode(error) => error.into(),
                    _ => RereadError::Changed,
                })?;
                position
            }
        };
        self.left = self.left.saturating_sub(1);
        let offset = self.offset;
        self.offset = offset.saturating_add(self.entry.len);
        if self.offset > self.end {
            return Err(RereadError::Changed);
        }
        let attributes = self.entry.attributes;
        Ok(Some(FileEntry {
            path: &self.entry.path,
            len: self.entry.len,
            offset,
            kind: attributes.kind(),
            executable: attributes.executable,
            hidden: attributes.hidden,
            position,
        }))
    }
}

/// Whether another entry follows. A cursor that began in the middle of the list never entered it, so
/// the list's end is no value to it.
fn at_entry<R: Read>(reader: &mut Reader<R>, in_list: bool) -> Result<bool, RereadError<R::Error>> {
    if in_list {
        return Ok(reader.more()?);
    }
    match reader.peek() {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind, ErrorKind::UnexpectedByte(b'e')) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Entry {
    /// Parses one dictionary of `files`.
    pub(super) fn parse<R: Read, H: Sha1>(
        &mut self,
        reader: &mut Reader<R, H>,
    ) -> Result<(), MetainfoError<R::Error>> {
        *self = Entry::default();
        let (mut len, mut path, mut utf8) = (None, None, false);
        let mut room = [0; 16];
        reader.dict()?;
        while let Some(key) = reader.key(&mut room)? {
            match key {
                b"length" if len.is_none() => len = Some(length(reader)?),
                b"path.utf-8" if !utf8 && reader.peek()? == Type::List => {
                    path = Some(self.parse_path(reader)?);
                    utf8 = true;
                }
                b"path" if path.is_none() && reader.peek()? == Type::List => {
                    path = Some(self.parse_path(reader)?);
                }
                b"attr" if reader.peek()? == Type::String => self.attributes.parse(reader)?,
                _ => {}
            }
        }
        path.ok_or(MetainfoError::Missing(Field::Path))?
            .map_err(BadName::into_error)?;
        self.len = match len {
            // The content of a link is at its other end.
            _ if self.attributes.symlink => 0,
            Some(len) => len,
            None => return Err(MetainfoError::Missing(Field::Length)),
        };
        Ok(())
    }

    /// Parses a list of components. Whether they make a path is told apart from what is wrong with
    /// the document, because another key may have a better one.
    fn parse_path<R: Read, H: Sha1>(
        &mut self,
        reader: &mut Reader<R, H>,
    ) -> Result<Result<(), BadName>, bencode::Error<R::Error>> {
        self.path.clear();
        let mut bad = None;
        let start = reader.offset();
        reader.list()?;
        while reader.more()? {
            let offset = reader.offset();
            if reader.peek()? != Type::String {
                reader.skip()?;
                continue;
            }
            // One byte more than a name may have tells that it is too long.
            let mut room = [0; super::MAX_NAME + 1];
            let component = reader.string_start(&mut room)?;
            if bad.is_none() {
                bad = push_component(&mut self.path, component)
                    .err()
                    .map(|error| BadName { offset, error });
            }
        }
        if bad.is_none() && self.path.is_empty() {
            let (offset, error) = (start, super::NameError::Unsafe);
            bad = Some(BadName { offset, error });
        }
        Ok(bad.map_or(Ok(()), Err))
    }
}

/// A name that is refused, unless another key has a better one.
#[derive(Clone, Copy)]
pub(super) struct BadName {
    pub(super) offset: u64,
    pub(super) error: super::NameError,
}

impl BadName {
    pub(super) fn into_error<E>(self) -> MetainfoError<E> {
        let BadName { offset, error } = self;
        MetainfoError::BadName { offset, error }
    }
}

/// Reads a length, which is not negative.
pub(super) fn length<R: Read, H: Sha1>(
    reader: &mut Reader<R, H>,
) -> Result<u64, MetainfoError<R::Error>> {
    let offset = reader.offset();
    u64::try_from(reader.integer()?).map_err(|_| MetainfoError::BadLength { offset })
}

impl Attributes {
    fn parse<R: Read, H: Sha1>(
        &mut self,
        reader: &mut Reader<R, H>,
    ) -> Result<(), MetainfoError<R::Error>> {
        let mut room = [0; 8];
        for letter in reader.string_start(&mut room)? {
            match letter {
                b'p' => self.padding = true,
                b'l' => self.symlink = true,
                b'x' => self.executable = true,
                b'h' => self.hidden = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn kind(self) -> Kind {
        match self {
            Attributes { symlink: true, .. } => Kind::Symlink,
            Attributes { padding: true, .. } => Kind::Padding,
            _ => Kind::Data,
        }
    }
}
