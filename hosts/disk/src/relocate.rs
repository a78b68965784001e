//! Moving a complete download from its temporary folder to its final place.
//!
//! While it is downloaded, the content lies in a folder of its own, see [`apart`]. There nothing else is in the way,
//! and all of it moves with one rename. To another file system it is copied instead, piece by piece and each
//! verified, into a hidden folder beside its final place, made durable, and then renamed.
//!
//! So a crash at each moment is safe: until that rename the first copy is whole and the final place is empty;
//! afterwards what lies in the final place is whole. The other copy is then removed, or later by [`Relocation`] when
//! it is called again.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use everseed_core::bits;
use everseed_core::geometry::PieceIndex;
use everseed_core::hash::{InfoHash, Sha1};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use crate::beneath::{Links, OpenFailure, Root};
use crate::cache::FileCache;
use crate::content::Content;
use crate::error::ReadError;
use crate::hash::Fast;
use crate::ours::Mark;
use crate::rename::rename_new;
use crate::replace::sync_folder;
use crate::write::{self, WriteError};

/// The folder in `dir` that holds the content of this torrent while it is downloaded. It has the name of an
/// unfinished file, so that nobody shares it.
pub fn apart(dir: &Path, info_hash: InfoHash) -> PathBuf {
    dir.join(format!("{info_hash}{APART}"))
}

/// Whether a folder of this name holds content on its way to its final place.
pub(crate) fn is_passing(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let hash = bytes
        .strip_prefix(HIDDEN.as_bytes())
        .or_else(|| bytes.strip_suffix(APART.as_bytes()));
    hash.is_some_and(|hash| InfoHash::from_hex(hash).is_some())
}

/// The prefix and the suffix of such folders' names, beside the info-hash.
const HIDDEN: &str = ".everseed-";
const APART: &str = ".part";

/// A move of one content from its folder to another one.
#[derive(Debug)]
pub struct Relocation {
    /// The present folder.
    from: PathBuf,
    /// The final folder.
    to: PathBuf,
    /// The pieces that are good.
    good: Vec<u8>,
    copy: Option<Box<Copy>>,
}

/// A copy in another file system, and its progress.
#[derive(Debug)]
struct Copy {
    content: Content,
    files: FileCache,
    written: FileCache,
    next: u32,
    done: u64,
    /// Whether all that was to be copied is.
    whole: bool,
}

impl Relocation {
    /// A move of content that lies [`apart`] in `from`, or is in its final place already. `good` are the pieces that
    /// it has.
    pub fn new(from: PathBuf, to: PathBuf, good: Vec<u8>) -> Relocation {
        Relocation {
            from,
            to,
            good,
            copy: None,
        }
    }

    /// The most bytes that are still to be copied; a rename copies none.
    pub fn left(&self, content: &Content) -> u64 {
        let copy = self.copy.as_ref();
        copy.map_or(0, |copy| {
            content.geometry().total().saturating_sub(copy.done)
        })
    }

    /// Bytes that were copied so far.
    pub fn done(&self) -> u64 {
        self.copy.as_ref().map_or(0, |copy| copy.done)
    }

    /// Whether the next step syncs a copy, for which a disk may take minutes.
    pub fn is_sync_next(&self) -> bool {
        self.copy.as_ref().is_some_and(|copy| copy.whole)
    }

    /// Does one step of the move. Returns whether the content lies in its final place; close its files then.
    ///
    /// `scratch` must not be empty. After an error the next step begins anew.
    pub fn step(&mut self, content: &Content, scratch: &mut [u8]) -> Result<bool, WriteError> {
        let done = self.try_step(content, scratch);
        if done.is_err() && self.copy.take().is_some() {
            // A disk that is full gets its room back. What cannot be removed is removed by the next try.
            let _ = remove_all(&self.hidden(content));
        }
        done
    }

    fn try_step(&mut self, content: &Content, scratch: &mut [u8]) -> Result<bool, WriteError> {
        let Some(copy) = &mut self.copy else {
            return self.begin(content);
        };
        while let Some(piece) = content.geometry().piece(copy.next) {
            copy.next += 1;
            copy.done += u64::from(content.geometry().piece_size(piece));
            if bits::get(&self.good, piece.get()) {
                copy_piece(content, copy, piece, scratch)?;
                return Ok(false);
            }
        }
        if !copy.whole {
            copy.whole = true;
            return Ok(false);
        }
        copy.content.close_files(&copy.written);
        write::sync(&copy.content)?;
        let copied = copy.content.layout().root();
        self.place(content, &copied)?;
        Ok(true)
    }

    /// Renames the content if that is possible, and begins to copy it otherwise.
    fn begin(&mut self, content: &Content) -> Result<bool, WriteError> {
        if content.layout().named().folder != self.from {
            if self.is_anything_left(content) && self.is_durable() {
                self.clear(content);
            }
            return Ok(true);
        }
        // The folder is never made here, because it may lie on a disk that is not mounted.
        if !self.to.is_dir() {
            let path = self.to.clone();
            return Err(WriteError::Place(ReadError::Missing { path }));
        }
        match self.place(content, &content.root()) {
            Ok(()) => return Ok(true),
            Err(WriteError::Io { error, .. }) if is_elsewhere(&error) => {}
            Err(error) => return Err(error),
        }
        let hidden = self.hidden(content);
        remove_all(&hidden)?;
        let (torrent, metainfo) = (content.read_torrent_file(), content.metainfo());
        let opened = Content::open(torrent, metainfo, &hidden, content.records());
        let copy = opened.map_err(|error| io_error(&hidden, io::Error::other(error)))?;
        copy.set_access(content.access());
        write::make_folder(&copy)?;
        write::prepare(&copy, |entry| content.probe(entry).is_ok())?;
        self.copy = Some(Box::new(Copy {
            content: copy,
            files: FileCache::sequential(2, true),
            written: FileCache::new(2),
            next: 0,
            done: 0,
            whole: false,
        }));
        Ok(false)
    }

    /// Renames what lies at `whole` to the final place, where nothing may be, and sets the content's layout.
    fn place(&self, content: &Content, whole: &Path) -> Result<(), WriteError> {
        let top = whole.file_name().unwrap_or_default();
        let target = self.to.join(top);
        let failed = |error: Errno| match error {
            Errno::EXIST | Errno::NOTEMPTY => WriteError::Taken {
                path: target.clone(),
            },
            error => io_error(&target, error.into()),
        };
        let open = |folder: &Path| {
            let (links, path) = (Links::Follow, Path::new(""));
            let opened = Root { folder, links }.open_folder(path);
            opened.map_err(|failure| match failure {
                OpenFailure::Os(error) => error,
                _ => Errno::NOENT,
            })
        };
        let from = open(whole.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        let to = open(&self.to).map_err(failed)?;
        // An obstacle is found first: between two disks everything would be copied for nothing.
        if target.symlink_metadata().is_ok() {
            return Err(failed(Errno::EXIST));
        }
        rename_new(&from, top, &to, top).map_err(failed)?;
        let durable = self.is_durable();
        // From here on it lies in the new place, whether or not that could be made durable.
        let layout = content.layout().in_folder(&self.to, top);
        content.set_layout(layout);
        if let Some(ours) = content.ours()
            && let Err(error) = ours.moved(&content.folder(), |number| mark(content, number))
        {
            log::warn!(
                "{}: {error}: files that are not complete are taken for the owner's",
                ours.path().display()
            );
        }
        if durable {
            self.clear(content);
        }
        Ok(())
    }

    /// Makes the content's new place durable. If that fails, a power cut may undo the move, so the other copy has to stay.
    fn is_durable(&self) -> bool {
        let Err(error) = sync_folder(&self.to) else {
            return true;
        };
        // Some file systems cannot sync folders.
        if let Some(Errno::INVAL | Errno::NOSYS) = Errno::from_io_error(&error) {
            return true;
        }
        log::warn!(
            "{}: {error}: the move there may be undone by a power cut, so what is left in {} stays until the next start",
            self.to.display(),
            self.from.display()
        );
        false
    }

    fn is_anything_left(&self, content: &Content) -> bool {
        let left = [&self.from, &self.hidden(content)];
        left.iter().any(|path| path.symlink_metadata().is_ok())
    }

    /// Removes leftover copies elsewhere, now that the content is in its final place.
    fn clear(&self, content: &Content) {
        if let Err(error) = self
            .clear_from(content)
            .and_then(|()| remove_all(&self.hidden(content)))
        {
            log::warn!("{error}; its content is in its place, so remove that by hand");
        }
    }

    /// Removes the files of the content and no others, and then the folders that are empty.
    fn clear_from(&self, content: &Content) -> Result<(), WriteError> {
        if self.from.symlink_metadata().is_err() {
            return Ok(());
        }
        let (torrent, metainfo) = (content.read_torrent_file(), content.metainfo());
        if let Ok(before) = Content::open(torrent, metainfo, &self.from, content.records()) {
            let named = before.layout().named();
            for entry in before.entries().into_iter().flatten().flatten() {
                let place = before.place_of(&entry);
                let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else {
                    continue;
                };
                if named.stat_file(&place).is_err() {
                    continue;
                }
                let removed = named.open_folder(folder).map_err(|_| Errno::NOENT);
                let removed = removed.and_then(|f| unlinkat(&f, name, AtFlags::empty()));
                removed.map_err(|error| io_error(&before.path_of(&entry), error.into()))?;
                for folder in before.path_of(&entry).ancestors().skip(1) {
                    if !folder.starts_with(&self.from) || fs::remove_dir(folder).is_err() {
                        break;
                    }
                }
            }
        }
        // Folders of unwanted files, and the folder itself. Files that somebody else put there stay.
        for folder in [
            self.from
                .join(content.root().file_name().unwrap_or_default()),
            self.from.clone(),
        ] {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }

    fn hidden(&self, content: &Content) -> PathBuf {
        let info_hash = content.metainfo().info_hash;
        self.to.join(format!("{HIDDEN}{info_hash}"))
    }
}

fn copy_piece(
    content: &Content,
    copy: &Copy,
    piece: PieceIndex,
    scratch: &mut [u8],
) -> Result<(), WriteError> {
    let geometry = content.geometry();
    let hash = content.open_torrent();
    let hash = hash.and_then(|torrent| content.piece_hash(&torrent, piece));
    let hash = hash.map_err(WriteError::Place)?;
    let mut sha1 = Fast::default();
    let mut at = geometry.piece_offset(piece);
    let end = at + u64::from(geometry.piece_size(piece));
    while at < end {
        let len = usize::try_from(end - at).map_or(scratch.len(), |left| left.min(scratch.len()));
        let bytes = &mut scratch[..len];
        let read = content.read(&copy.files, at, bytes);
        read.map_err(WriteError::Place)?;
        sha1.update(bytes);
        write::write(&copy.content, &copy.written, at, &[bytes])?;
        at += len as u64;
    }
    match sha1.finish() == hash {
        true => Ok(()),
        false => Err(WriteError::Place(ReadError::Changed {
            path: content.path_holding(geometry.piece_offset(piece)),
        })),
    }
}

/// The mark of the file of this number, at its present place.
fn mark(content: &Content, number: u64) -> Option<Mark> {
    let entries = content.entries().ok()?.flatten();
    let entry = entries
        .filter(|entry| entry.len > 0)
        .nth(usize::try_from(number).ok()?)?;
    let found = content
        .layout()
        .named()
        .find_file(&content.place_of(&entry));
    found.ok().map(|(file, _)| Mark::of(&file))
}

/// Whether a rename failed because the other folder is on another file system.
fn is_elsewhere(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::XDEV)
}

/// Removes one of our folders with all that is in it, if it exists.
fn remove_all(folder: &Path) -> Result<(), WriteError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(folder, error)),
        _ => Ok(()),
    }
}

fn io_error(path: &Path, error: io::Error) -> WriteError {
    WriteError::of(path.to_owned(), error)
}
