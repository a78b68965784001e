//! [`Listing`]: the files of which a torrent is made, and their pieces.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use everseed_core::geometry::{Geometry, GeometryError};
use everseed_core::hash::Digest;

use crate::beneath::{Links, Root};
use crate::cache::Stamp;
use crate::content::Content;
use crate::error::ReadError;
use crate::hashing::{HashError, Pieces, scratch};
use crate::make::error::MakeError;
use crate::make::options::{Options, Report, default_piece_len};
use crate::state::state_of;
use crate::walk::{self, FileId, Found, Skipped};

/// The files to share, listed but not read yet.
pub(super) struct Listing {
    /// The torrent's name.
    pub(super) name: String,
    /// The folder to which the paths of `files` are relative.
    folder: PathBuf,
    links: Links,
    pub(super) files: Vec<Found>,
    pub(super) single: bool,
}

impl Listing {
    pub(super) fn find(
        path: &Path,
        out: &Path,
        options: &Options,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<Listing, MakeError> {
        let links = options.links;
        let failed = |path: &Path, error| {
            let path = path.to_owned();
            MakeError::Io { path, error }
        };
        let real = fs::canonicalize(path).map_err(|error| failed(path, error))?;
        let metadata = fs::metadata(&real).map_err(|error| failed(path, error))?;
        if !metadata.is_file() && !metadata.is_dir() {
            let path = path.to_owned();
            return Err(MakeError::Special { path });
        }
        let secret = options.configuration.as_deref().and_then(FileId::at);
        if state_of(&real).is_some() || secret.is_some() && secret == FileId::at(&real) {
            let path = path.to_owned();
            return Err(MakeError::Secret { path });
        }
        let name = name_of(path, &real)?;
        let out = canonical_output(out);
        if out.as_ref() == Some(&real) {
            let path = path.to_owned();
            return Err(MakeError::Overwrites { path });
        }
        if let (true, Some(folder), Some(file)) =
            (metadata.is_file(), real.parent(), real.file_name())
        {
            let file = PathBuf::from(file);
            let there = Root { folder, links }.stat_file(&file);
            let stat = there.map_err(|e| MakeError::Read(ReadError::open(real.clone(), e)))?;
            let only = Found {
                path: file,
                len: u64::try_from(stat.st_size).unwrap_or(0),
                stamp: Stamp::of(&stat),
                unreadable: false,
            };
            return Ok(Listing {
                name,
                folder: folder.to_owned(),
                links,
                files: vec![only],
                single: true,
            });
        }
        let mut trouble = None;
        let mut skip = |path: &Path, why| {
            report(Report::Skipped(path, why));
            if options.strict && trouble.is_none() {
                trouble = strict_error(path, why);
            }
        };
        let (folder, choice) = (&*real, &options.choice);
        let root = Root { folder, links };
        let files = walk::walk(root, out.as_deref(), secret, choice, &mut skip)
            .map_err(|(path, error)| MakeError::Io { path, error })?;
        match trouble {
            Some(error) => Err(error),
            None => Ok(Listing {
                name,
                folder: real,
                links,
                files,
                single: false,
            }),
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    pub(super) fn piece_len(&self, options: &Options) -> u32 {
        let default = || default_piece_len(self.total());
        options.piece_len.unwrap_or_else(default)
    }

    /// Length and pieces of the content, padding included.
    pub(super) fn geometry(
        &self,
        path: &Path,
        piece_len: u32,
        align: bool,
    ) -> Result<Geometry, MakeError> {
        let padded = padded(&self.files, piece_len, align);
        let total = padded.map(|(padding, file)| padding + file.len).sum();
        match Geometry::new(total, u64::from(piece_len)) {
            Ok(geometry) => Ok(geometry),
            Err(GeometryError::Total) if total == 0 => {
                let path = path.to_owned();
                Err(MakeError::Empty { path })
            }
            Err(error) => Err(MakeError::Geometry(error)),
        }
    }

    /// Hashes all files. A file that could not be read is marked, and its bytes are not part of the pieces.
    pub(super) fn hash(
        &mut self,
        piece_len: u32,
        options: &Options,
        report: &mut dyn FnMut(Report<'_>),
    ) -> Result<Vec<Digest>, MakeError> {
        let mut pieces = Pieces::new(piece_len);
        let mut scratch = scratch();
        let (mut done, total) = (0, self.total());
        let mut progress = |report: &mut dyn FnMut(Report<'_>), bytes| {
            done += bytes;
            report(Report::Hashed { done, total });
        };
        let (folder, links) = (&*self.folder, self.links);
        let root = Root { folder, links };
        let mut offset = 0;
        for found in &mut self.files {
            let path = folder.join(&found.path);
            let opened = root.open_file(&found.path);
            let opened = opened.map_err(|failure| match ReadError::open(path.clone(), failure) {
                ReadError::Io { path, error } => HashError::Io(path, error),
                _ => HashError::Changed(path.clone()),
            });
            let mark = pieces.mark();
            let padding = padding(offset, found.len, piece_len, options.align);
            pieces.add_zeros(padding);
            let mut progress = |bytes| progress(report, bytes);
            let added = opened.and_then(|(fd, _)| {
                let file = File::from(fd);
                pieces.add_file(&path, file, found.len, &mut scratch, &mut progress)
            });
            match added {
                Ok(()) => offset += padding + found.len,
                Err(HashError::Io(path, error)) if !self.single && !options.strict => {
                    pieces.back_to(mark);
                    found.unreadable = true;
                    report(Report::Skipped(&path, Skipped::unreadable(&error)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(pieces.finish())
    }

    /// Leaves out files that `content` does not list and that cannot be read to their end. If there are very many,
    /// none is tried. `None` if the torrent cannot be read.
    pub(super) fn leave_out_unreadable(&mut self, content: &Content) -> Option<()> {
        let (folder, links) = (&*self.folder, self.links);
        let root = Root { folder, links };
        let entries = content.entries().ok()?;
        let listed: HashSet<PathBuf> =
            entries.map(|e| Some(e.ok()?.path)).collect::<Option<_>>()?;
        let others = self
            .files
            .iter()
            .filter(|file| !listed.contains(&file.path));
        if self.single || others.count() > LEFT_OUT {
            return Some(());
        }
        let mut pieces = Pieces::new(default_piece_len(0));
        let mut scratch = scratch();
        self.files.retain(|found| {
            listed.contains(&found.path) || {
                let opened = root.open_file(&found.path).map(|(fd, _)| File::from(fd));
                let read = opened.map(|file| {
                    pieces.add_file(&found.path, file, found.len, &mut scratch, &mut |_| {})
                });
                !matches!(read, Ok(Err(HashError::Io(..))))
            }
        });
        Some(())
    }

    /// A file that appeared, vanished or changed between two listings.
    pub(super) fn difference(&self, later: &Listing) -> Option<PathBuf> {
        let same = |(a, b): &(&Found, &Found)| a.path == b.path && a.stamp == b.stamp;
        let both = self.files.iter().zip(&later.files);
        let at = both.take_while(same).count();
        let differs = |source: &Listing| source.files.get(at).map(|file| file.path.clone());
        let first = differs(self).into_iter().chain(differs(later)).min()?;
        Some(self.folder.join(first))
    }
}

/// The error for a skipped file if the options are strict; `None` for reasons that are no error then either.
fn strict_error(path: &Path, why: Skipped) -> Option<MakeError> {
    let path = path.to_owned();
    match why {
        Skipped::NotUtf8 => Some(MakeError::NotUtf8 { path }),
        Skipped::TooLong => Some(MakeError::TooLong { path }),
        Skipped::Unreadable(errno) => {
            let error = io::Error::from_raw_os_error(errno);
            Some(MakeError::Io { path, error })
        }
        _ => None,
    }
}

/// Length of the padding before a file that has to begin with a new piece.
fn padding(offset: u64, len: u64, piece_len: u32, align: bool) -> u64 {
    if !align || len == 0 {
        return 0;
    }
    offset.next_multiple_of(u64::from(piece_len)) - offset
}

/// Each file, and the length of the padding before it.
pub(super) fn padded(
    files: &[Found],
    piece_len: u32,
    align: bool,
) -> impl Iterator<Item = (u64, &Found)> {
    let mut offset = 0;
    files.iter().map(move |file| {
        let padding = padding(offset, file.len, piece_len, align);
        offset += padding + file.len;
        (padding, file)
    })
}

/// The torrent's name. For a link that a person named it is the link's name; for `.` the real folder's.
fn name_of(path: &Path, real: &Path) -> Result<String, MakeError> {
    let shown = || path.to_owned();
    let name = path.file_name().or(real.file_name());
    let name = name.ok_or_else(|| MakeError::NoName { path: shown() })?;
    let name = name.to_str();
    let name = name.ok_or_else(|| MakeError::NotUtf8 { path: shown() })?;
    Ok(name.to_owned())
}

fn canonical_output(out: &Path) -> Option<PathBuf> {
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Some(fs::canonicalize(folder).ok()?.join(out.file_name()?))
}

/// The most files, unreadable when the torrent was made, that are tried again before it is made anew.
const LEFT_OUT: usize = 16;
