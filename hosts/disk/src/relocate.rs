//! Content that lies apart while it is downloaded, and is moved to its place when it is complete.
//!
//! Apart means in a folder of its own, see [`apart`], so that nothing else is in the way and all of it can be moved with
//! one rename. To another file system it is copied, piece by piece and each verified, into a hidden folder beside its
//! place, made durable, and then renamed. So each moment is safe to die in: until that rename the first copy is whole
//! and the place is empty, and from then on what lies in the place is whole. What is left of the other one is
//! removed then, or by [`Relocation`] when it is asked again.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use everseed_core::bits;
use everseed_core::geometry::PieceIndex;
use everseed_core::hash::{InfoHash, Sha1};
use rustix::fs::{AtFlags, RenameFlags, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::beneath::{Links, OpenFailure, Root};
use crate::cache::FileCache;
use crate::content::Content;
use crate::error::ReadError;
use crate::hash::Fast;
use crate::ours::Mark;
use crate::write::{self, WriteError};

/// The folder in `dir` in which the content of this torrent lies while it is downloaded. Its name is that of an
/// unfinished file, so that nobody shares it.
pub fn apart(dir: &Path, info_hash: InfoHash) -> PathBuf {
    dir.join(format!("{info_hash}{APART}"))
}

/// Whether a folder of this name holds content that is not in its place yet.
pub(crate) fn is_passing(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let hash = bytes
        .strip_prefix(HIDDEN.as_bytes())
        .or_else(|| bytes.strip_suffix(APART.as_bytes()));
    hash.is_some_and(|hash| InfoHash::from_hex(hash).is_some())
}

/// What the names of such folders begin or end with, beside the info-hash.
const HIDDEN: &str = ".everseed-";
const APART: &str = ".part";

/// A move from the folder of a content to another one.
#[derive(Debug)]
pub struct Relocation {
    /// The folder that it comes from.
    from: PathBuf,
    /// The folder that it goes to.
    to: PathBuf,
    /// The pieces that are there.
    good: Vec<u8>,
    copy: Option<Box<Copy>>,
}

/// A copy in another file system, as far as it came.
#[derive(Debug)]
struct Copy {
    content: Content,
    files: FileCache,
    written: FileCache,
    next: u32,
    done: u64,
}

impl Relocation {
    /// Of content that lies [`apart`] in `from`, or is in its place already. `good` are the pieces that it has.
    pub fn new(from: PathBuf, to: PathBuf, good: Vec<u8>) -> Relocation {
        Relocation {
            from,
            to,
            good,
            copy: None,
        }
    }

    /// Bytes that are still to be copied at most; a rename has nothing to copy.
    pub fn left(&self, content: &Content) -> u64 {
        let copy = self.copy.as_ref();
        copy.map_or(0, |copy| {
            content.geometry().total().saturating_sub(copy.done)
        })
    }

    /// Bytes that were copied.
    pub fn done(&self) -> u64 {
        self.copy.as_ref().map_or(0, |copy| copy.done)
    }

    /// Does one piece of it; answers whether the content lies in its place. Its files have to be closed then.
    ///
    /// `scratch` must not be empty. After an error it begins anew.
    pub fn step(&mut self, content: &Content, scratch: &mut [u8]) -> Result<bool, WriteError> {
        let done = self.try_step(content, scratch);
        if done.is_err() {
            self.copy = None;
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
        copy.content.close_files(&copy.written);
        write::sync(&copy.content)?;
        let copied = copy.content.layout().root();
        self.place(content, &copied)?;
        Ok(true)
    }

    /// Renames it if that does, and begins to copy it otherwise.
    fn begin(&mut self, content: &Content) -> Result<bool, WriteError> {
        if content.layout().named().folder != self.from {
            self.clear(content);
            return Ok(true);
        }
        // It may be a disk that is not mounted, so it is never made here.
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
        copy.give(content.access());
        write::make_folder(&copy)?;
        write::prepare(&copy, |entry| content.probe(entry).is_ok())?;
        self.copy = Some(Box::new(Copy {
            content: copy,
            files: FileCache::sequential(2, true),
            written: FileCache::new(2),
            next: 0,
            done: 0,
        }));
        Ok(false)
    }

    /// Gives what lies at `whole` its place, where nothing may be; the content lies there from then on.
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
        // What is in the way is found first: between disks it would be copied for nothing.
        if target.symlink_metadata().is_ok() {
            return Err(failed(Errno::EXIST));
        }
        match renameat_with(&from, top, &to, top, RenameFlags::NOREPLACE) {
            // FAT and others do not know that flag.
            Err(Errno::INVAL | Errno::NOSYS) => renameat(&from, top, &to, top).map_err(failed)?,
            done => done.map_err(failed)?,
        }
        // Before anything of the other copy goes.
        rustix::fs::fsync(&to).map_err(failed)?;
        let layout = content.layout().in_folder(&self.to, top);
        content.lies_in(layout);
        if let Some(ours) = content.ours()
            && let Err(error) = ours.moved(&content.folder(), |number| mark(content, number))
        {
            log::warn!(
                "{}: {error}: files that are not complete are taken for the owner's",
                ours.path().display()
            );
        }
        self.clear(content);
        Ok(())
    }

    /// Removes what is left of copies elsewhere, now that it is in its place.
    fn clear(&self, content: &Content) {
        if let Err(error) = self
            .clear_from(content)
            .and_then(|()| remove_all(&self.hidden(content)))
        {
            log::warn!("{error}; its content is in its place, so remove that by hand");
        }
    }

    /// Removes the files of the content, and no others, and then the folders that are empty.
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
        // Folders of unwanted files, and itself. What somebody else put there stays.
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

/// The mark of the file of this number, where it lies now.
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

/// Whether a rename failed as the other folder is on another file system.
fn is_elsewhere(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::XDEV)
}

/// Removes a folder of ours with all that is in it, if it is there.
fn remove_all(folder: &Path) -> Result<(), WriteError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(folder, error)),
        _ => Ok(()),
    }
}

fn io_error(path: &Path, error: io::Error) -> WriteError {
    WriteError::of(path.to_owned(), error)
}
