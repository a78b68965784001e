//! The files of a torrent, one at a time.

use embedded_io::{Read, Seek};

use super::names::{LAST, ROOM, SafePath, Spelling};
use super::{Field, Metainfo, MetainfoError, RereadError, value_at};
use crate::bencode::{self, ErrorKind, Reader, Type};
use crate::hash::Sha1;

/// A file in a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileEntry<'a> {
    /// The path within the torrent's folder, components joined by `/`; for a single file its name. It is safe, but
    /// not unique. Empty if the file has no path in this [`Spelling`].
    pub path: &'a str,
    /// Whether the path has the same bytes as in the torrent.
    pub exact: bool,
    /// Its length in bytes.
    pub len: u64,
    /// The offset of its first byte in the content.
    pub offset: u64,
    /// The kind of the file.
    pub kind: FileKind,
    /// Whether it is meant to be executable (BEP 47).
    pub executable: bool,
    /// Whether it is meant to be hidden (BEP 47).
    pub hidden: bool,
    /// The offset of its entry in the torrent file; see
    /// [`files_from`](Metainfo::files_from).
    pub position: u64,
}

/// The kind of a file (BEP 47).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// Content that is kept on disk.
    Data,
    /// Padding: zeros, so that the next file begins with a new piece. Not kept on disk.
    Padding,
    /// A symbolic link, without content. It is never made, and never followed.
    Symlink,
}

/// A cursor over the files of a torrent.
#[derive(Debug)]
pub struct Files<R> {
    /// `None` for a single file.
    reader: Option<Reader<R>>,
    /// The single file, until it was returned.
    single: bool,
    /// Whether the list was entered at its start, and not at an entry in the middle.
    in_list: bool,
    left: u32,
    offset: u64,
    end: u64,
    spelling: Spelling,
    entry: ParsedFile,
}

/// An entry while it is parsed.
#[derive(Debug)]
pub(super) struct ParsedFile {
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
    pub(super) fn new(
        metainfo: &Metainfo,
        torrent: R,
        spelling: Spelling,
    ) -> Result<Files<R>, RereadError<R::Error>> {
        let mut files = Files::from(metainfo, torrent, metainfo.files_at, 0, spelling)?;
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
        spelling: Spelling,
    ) -> Result<Files<R>, RereadError<R::Error>> {
        let mut entry = ParsedFile::new(spelling);
        let reader = if metainfo.single {
            let (name, exact) = metainfo.whole(torrent, spelling)?;
            entry.path = SafePath::of(name, exact, spelling);
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
            spelling,
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
                self.entry
                    .parse(reader, self.spelling)
                    .map_err(|error| match error {
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
        let path = &self.entry.path;
        Ok(Some(FileEntry {
            path: path.as_str(),
            exact: path.is_exact(),
            len: self.entry.len,
            offset,
            kind: match attributes.kind() {
                FileKind::Data if self.reader.is_some() && is_padding(path.as_str()) => {
                    FileKind::Padding
                }
                kind => kind,
            },
            executable: attributes.executable,
            hidden: attributes.hidden,
            position,
        }))
    }
}

/// Whether the name alone marks a file as padding. BitComet did so before BEP 47.
fn is_padding(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with("_____padding_file_")
}

/// Whether another entry follows. A cursor that began in the middle of the list did not enter it, so the reader takes
/// the end of the list for an error.
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

impl ParsedFile {
    pub(super) fn new(spelling: Spelling) -> ParsedFile {
        ParsedFile {
            path: SafePath::new(spelling),
            len: 0,
            attributes: Attributes::default(),
        }
    }

    /// Parses one dictionary of `files`.
    pub(super) fn parse<R: Read, H: Sha1>(
        &mut self,
        reader: &mut Reader<R, H>,
        spelling: Spelling,
    ) -> Result<(), MetainfoError<R::Error>> {
        *self = ParsedFile::new(spelling);
        let (mut len, mut path, mut utf8) = (None, false, false);
        let mut room = [0; 16];
        reader.dict()?;
        while let Some(key) = reader.key(&mut room)? {
            match key {
                b"length" if len.is_none() => len = Some(length(reader)?),
                b"path.utf-8" if !utf8 && reader.peek()? == Type::List => {
                    utf8 = true;
                    self.parse_path(reader, !path || !self.path.says(), true)?;
                    path = true;
                }
                b"path" if !(path && self.path.says()) && reader.peek()? == Type::List => {
                    self.parse_path(reader, !path, false)?;
                    path = true;
                }
                b"attr" if reader.peek()? == Type::String => self.attributes.parse(reader)?,
                _ => {}
            }
        }
        self.len = match len {
            // The content belongs to the file that the link leads to.
            _ if self.attributes.symlink => 0,
            Some(len) => len,
            None => return Err(MetainfoError::Missing(Field::Length)),
        };
        if !path && self.attributes.padding {
            self.path = SafePath::of_padding(self.len, spelling);
        } else if !path {
            return Err(MetainfoError::Missing(Field::Path));
        }
        Ok(())
    }

    /// Parses a list of components. Keeps the path if it has a name, or if there is no path yet, because another key
    /// may have a better one. With `prefer` it also replaces a path that has a name.
    fn parse_path<R: Read, H: Sha1>(
        &mut self,
        reader: &mut Reader<R, H>,
        is_first: bool,
        prefer: bool,
    ) -> Result<(), bencode::Error<R::Error>> {
        let mut path = SafePath::new(self.path.spelling());
        reader.list()?;
        while reader.more()? {
            if reader.peek()? != Type::String {
                reader.skip()?;
                continue;
            }
            let mut room = [0; ROOM];
            path.push(reader.string_ends(&mut room, LAST)?);
        }
        path.finish();
        if is_first || path.says() && (prefer || !self.path.says()) {
            self.path = path;
        }
        Ok(())
    }
}

/// Reads a length. A negative one is an error.
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

    fn kind(self) -> FileKind {
        match self {
            Attributes { symlink: true, .. } => FileKind::Symlink,
            Attributes { padding: true, .. } => FileKind::Padding,
            _ => FileKind::Data,
        }
    }
}
