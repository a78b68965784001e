//! A torrent's content: its files as one range of bytes.
//!
//! Invariants: every byte below [`Geometry::total`] belongs to exactly one file; RAM does not grow with the number of
//! files; nothing outside the folder that the owner named is opened. [`check`](crate::check) decides which pieces are
//! good, and the node decides which peers get them.

mod part;
mod places;

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use everseed_core::geometry::{Geometry, PieceIndex};
use everseed_core::hash::{Digest, Sha1};
use everseed_core::metainfo::{FileKind, Metainfo, Name, Spelling};
use rustix::fs::Advice;

use crate::access::Access;
use crate::beneath::Links;
use crate::cache::{ContentId, FileCache, Part, Source, Stamp};
use crate::entry::{
    Entries, Entry, TorrentError, find_renames, other_spellings, read_names, reopen_torrent,
};
use crate::error::{OpenError, ReadError};
use crate::hash::Fast;
use crate::index::{self, Index, Renamed};
use crate::layout::Layout;
use crate::ours::Ours;
use crate::searched::Searched;
use crate::stream::Stream;
use crate::unique::Renames;

/// A torrent's files on disk.
///
/// Reading has two halves. The serving thread calls [`read_cached`](Content::read_cached), which never waits for a
/// disk and allocates nothing. What that could not read, another thread reads with [`read`](Content::read) or
/// [`warm`](Content::warm). Both leave the file open in the shared [`FileCache`], so that the next `read_cached`
/// finds it.
///
/// Files are opened when they are first read, and not looked at before: some or all of them may be missing.
#[derive(Debug)]
pub struct Content {
    id: ContentId,
    torrent: Box<Path>,
    /// The torrent file as the owner knows it, if `torrent_file` is a copy of it.
    original: Option<Box<Path>>,
    /// Device, inode and stamp of the torrent file whose `info` was found to have the info-hash.
    known: Mutex<Option<(u64, u64, Stamp)>>,
    name: Box<str>,
    metainfo: Metainfo,
    /// The layout with which the content was found, or is to be written.
    layout: Layout,
    /// The layout after the content was moved.
    moved: OnceLock<Layout>,
    index: Index,
    renames: Arc<Renames>,
    renamed: Renamed,
    /// Other spellings of the torrent's names, under which its files are looked for.
    spellings: Vec<Spelling>,
    /// The number of files that were made under another name because the file system refused theirs, and the first of
    /// them.
    refused: Mutex<(u64, Option<Refused>)>,
    /// Whether we write to the files ourselves.
    grows: AtomicBool,
    /// The device number, plus one, on which the folder has to be for writing; 0 means any device.
    device: AtomicU64,
    /// The content's folder, opened before the first write. The kernel reports a failed later write once to each
    /// handle that was open then, and never to handles that are opened afterwards.
    held: Mutex<Option<File>>,
    /// The record of files that lie elsewhere than the torrent says.
    places: Box<Path>,
    /// The last search for missing files.
    searched: Mutex<Searched>,
    /// The record of files that may be written; without it all may be.
    ours: Mutex<Option<Arc<Ours>>>,
    /// Permissions and group of what is made.
    access: Mutex<Access>,
}

/// A path that a file system refused, and the path that was made instead.
type Refused = (PathBuf, PathBuf);

impl Content {
    /// Opens the content of `torrent_file`, which was parsed as `metainfo`, and looks for its files in `data`.
    ///
    /// `data` is the folder that holds the torrent's file or folder, as in other clients. If that is not there,
    /// `data` may be the file or folder itself: a file for a torrent of one file, or a folder that has the torrent's
    /// name or holds the torrent's first file. If nothing is there at all, the files are expected in `data` and count
    /// as missing.
    ///
    /// A torrent of more than a few files gets an index, `<info-hash>.index` in `index_dir`. That folder must exist
    /// and belong to this process alone.
    pub fn open(
        torrent_file: &Path,
        metainfo: &Metainfo,
        data: &Path,
        index_dir: &Path,
    ) -> Result<Content, OpenError> {
        let names = read_names(torrent_file, metainfo)?;
        let first = || first_file(torrent_file, metainfo);
        let layout = Layout::find(metainfo, &names, data, first)?;
        Content::with(torrent_file, metainfo, &names, layout, index_dir)
    }

    /// Refuses a folder where the torrent's file belongs, and a file where its folder does. [`open`](Content::open) lets
    /// them pass, because the data may be in that folder, or elsewhere: see [`find::search`](crate::find::search).
    pub fn fits(&self) -> Result<(), OpenError> {
        self.layout().fits()
    }

    /// Opens content in a known place: `content` is the file or folder itself, whatever its name.
    pub fn open_at(
        torrent_file: &Path,
        metainfo: &Metainfo,
        content: &Path,
        index_dir: &Path,
    ) -> Result<Content, OpenError> {
        let names = read_names(torrent_file, metainfo)?;
        let layout = Layout::at(metainfo, content)?;
        Content::with(torrent_file, metainfo, &names, layout, index_dir)
    }

    /// Sets which links are followed; otherwise only those that stay beneath the folder that `open` was given.
    #[must_use]
    pub fn follow(mut self, links: Links) -> Content {
        self.layout.follow(links);
        self
    }

    /// Also follows links to other places of this folder, if the content lies in it.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Content {
        self.layout.keep_within(folder);
        self
    }

    /// Names the `original` of the torrent file, which was opened as a copy. Messages name the original.
    #[must_use]
    pub fn copied_from(mut self, original: &Path) -> Content {
        self.original = Some(original.into());
        self
    }

    /// The content's length and how it is cut into pieces.
    pub fn geometry(&self) -> Geometry {
        self.metainfo.geometry
    }

    /// The torrent file as its owner knows it. The file of that name may have been replaced since.
    pub fn torrent_file(&self) -> &Path {
        self.original.as_deref().unwrap_or(&self.torrent)
    }

    /// The torrent file that is read: the owner's own, or our copy of it.
    pub fn read_torrent_file(&self) -> &Path {
        &self.torrent
    }

    /// The torrent's name for its file or folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parsed torrent file.
    pub fn metainfo(&self) -> &Metainfo {
        &self.metainfo
    }

    /// The path of the content's file or folder.
    pub fn root(&self) -> PathBuf {
        self.layout().root()
    }

    /// The files in the torrent's order, read from the torrent file one at a time.
    pub fn entries(&self) -> Result<Entries, ReadError> {
        let torrent = self.open_torrent()?;
        Entries::of(torrent, &self.metainfo, Arc::clone(&self.renames))
            .map_err(|error| self.torrent_error(error))
    }

    /// The number of files that cannot have the name that the torrent gives them and got another, and the first of
    /// these.
    pub fn renamed(&self) -> Option<(u64, &Path)> {
        let (count, first) = self.renamed.as_ref()?;
        Some((*count, first))
    }

    /// The path of a file on disk.
    pub fn path_of(&self, entry: &Entry) -> PathBuf {
        self.layout().whole(&self.place_of(entry))
    }

    /// Checks that a file exists and is long enough; its bytes are not read.
    pub fn probe(&self, entry: &Entry) -> Result<(), ReadError> {
        if entry.kind != FileKind::Data {
            return Ok(());
        }
        let stat = self.layout().named().stat_file(&self.place_of(entry));
        let stat = stat.map_err(|failure| ReadError::open(self.path_of(entry), failure))?;
        if u64::try_from(stat.st_size).is_ok_and(|size| size >= entry.len) {
            Ok(())
        } else {
            Err(ReadError::Short {
                path: self.path_of(entry),
            })
        }
    }

    /// Reads into `bufs`, one after another from `offset` on, what can be read without waiting. Returns the number of
    /// bytes. If `bufs` are not full, the rest is cold (not in the page cache, or in a file that is not open) or
    /// missing: [`read`](Content::read) tells which.
    ///
    /// On a file system that cannot read without waiting the answer is always 0. So a caller makes progress only if
    /// it also serves what the other thread has read.
    pub fn read_cached(
        &self,
        files: &FileCache,
        offset: u64,
        bufs: &mut [IoSliceMut<'_>],
    ) -> usize {
        let Some(part) = files.find(self.id, offset) else {
            return 0;
        };
        let wanted = bufs.iter().fold(0_u64, |sum, buf| sum + buf.len() as u64);
        if wanted <= part.end - offset {
            return part.read_now(offset, bufs);
        }
        self.read_cached_across(files, offset, bufs)
    }

    /// The number of bytes from `offset` on, at most `len`, that [`send`](Content::send) can send without waiting.
    /// Only the end of each 16 KiB is tried. 0 if the file is not open or was changed.
    pub fn cached(&self, files: &FileCache, offset: u64, len: u64) -> u64 {
        let mut done = 0;
        while done < len
            && let Some(part) = files.find(self.id, offset + done)
        {
            let now = (len - done).min(part.end - offset - done);
            let cached = part.cached(offset + done, now);
            done += cached;
            if cached < now {
                break;
            }
        }
        done
    }

    /// Has the kernel send `len` bytes from `offset` on past our memory. Returns how many bytes `socket` took and
    /// what stopped it: `UnexpectedEof` if the file is not what [`cached`](Content::cached) saw a moment ago. Without
    /// a call of `cached` before, it waits for the disk.
    pub fn send(
        &self,
        files: &FileCache,
        socket: impl AsFd,
        offset: u64,
        len: u32,
    ) -> (usize, io::Result<()>) {
        let mut done = 0;
        while done < len as usize {
            let at = offset + done as u64;
            let sent = match files.find(self.id, at) {
                Some(part) => part.send(socket.as_fd(), at, part.room(at, len as usize - done)),
                None => Ok(0),
            };
            match sent {
                Ok(0) => return (done, Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => done += sent,
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    /// Fills `buf` from `offset` on, and waits for the disk if need be. A file that was changed since it was opened
    /// is an error until [`close_files`](Content::close_files), because what was verified may be gone.
    pub fn read(
        &self,
        files: &FileCache,
        mut offset: u64,
        mut buf: &mut [u8],
    ) -> Result<(), ReadError> {
        while !buf.is_empty() {
            let part = self.part(files, offset)?;
            let (now, rest) = buf.split_at_mut(part.room(offset, buf.len()));
            part.read(offset, now)
                .map_err(|error| self.read_error(offset, error))?;
            offset += now.len() as u64;
            buf = rest;
        }
        Ok(())
    }

    /// Whether these bytes are a hole of one file: zeros that were never written. `false` if that is not known.
    pub(crate) fn is_hole(
        &self,
        files: &FileCache,
        offset: u64,
        len: u64,
    ) -> Result<bool, ReadError> {
        let part = self.part(files, offset)?;
        Ok(part.is_hole(offset, len))
    }

    /// Fills `buf` from the torrent file's raw `info`, from `offset` of it on, and waits for the disk if need be (BEP
    /// 9).
    pub fn read_info(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let torrent = self.open_torrent()?;
        let at = self.metainfo.info_range().start.saturating_add(offset);
        torrent
            .read_exact_at(buf, at)
            .map_err(|error| self.torrent_error(TorrentError::Io(error)))
    }

    /// Fills `buf` from `offset` on as [`read`](Content::read) does, and has the kernel read ahead up to `ahead`
    /// bytes from `offset`. An error comes with the start of the first block that could not be read.
    pub fn warm(
        &self,
        files: &FileCache,
        mut offset: u64,
        mut buf: &mut [u8],
        ahead: u64,
    ) -> Result<(), (u64, ReadError)> {
        let end = offset.saturating_add(ahead.max(buf.len() as u64));
        while !buf.is_empty() {
            let part = self.part(files, offset).map_err(|error| (offset, error))?;
            part.advise(offset, end.min(part.end) - offset, Advice::WillNeed);
            let (now, rest) = buf.split_at_mut(part.room(offset, buf.len()));
            if let Err(error) = part.read(offset, now) {
                let bad = part.first_unread(offset, now).unwrap_or(offset);
                return Err((bad, self.read_error(bad, error)));
            }
            offset += now.len() as u64;
            buf = rest;
        }
        Ok(())
    }

    /// Makes the next read of these bytes come from the disk: the kernel drops its clean pages of them.
    pub fn cool(&self, files: &FileCache, mut offset: u64, len: u64) -> Result<(), ReadError> {
        let end = offset + len;
        while offset < end {
            let part = self.part(files, offset)?;
            // The kernel drops whole stretches only, and some are long.
            let from = (offset - part.start) / STRETCH * STRETCH;
            let to = (end.min(part.end) - part.start).next_multiple_of(STRETCH);
            part.advise(part.start + from, to - from, Advice::DontNeed);
            offset = part.end;
        }
        Ok(())
    }

    /// Says whether we write to the content's files ourselves; then a changed file is no error. Close the content's
    /// files whenever that changes.
    pub fn set_growing(&self, grows: bool) {
        self.grows.store(grows, Ordering::Relaxed);
        if !grows {
            self.close_folder();
        }
    }

    /// Whether we write to the content's files ourselves.
    pub fn is_growing(&self) -> bool {
        self.grows.load(Ordering::Relaxed)
    }

    /// Writes only while the content's folder is on this device (`st_dev`). Beneath the mount point of an absent disk
    /// there may be a folder of the same name.
    pub fn stay_on_device(&self, device: u64) {
        self.device
            .store(device.saturating_add(1), Ordering::Relaxed);
    }

    /// Writes only into incomplete files that everseed made: now, or earlier according to the record at `path`.
    /// `good` are the pieces that are there.
    pub fn write_only_own(&self, path: &Path, good: Vec<u8>) -> io::Result<()> {
        let (hash, files) = (self.metainfo.info_hash, self.index.count());
        let ours = Ours::open(path, hash, &self.folder(), files, good)?;
        // Closed when others can look again.
        let before = self.lock_ours().replace(Arc::new(ours));
        drop(before);
        Ok(())
    }

    /// The record of the files that may be written.
    pub fn ours(&self) -> Option<Arc<Ours>> {
        self.lock_ours().clone()
    }

    fn lock_ours(&self) -> MutexGuard<'_, Option<Arc<Ours>>> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the group and permissions of what is made from now on.
    pub fn set_access(&self, access: Access) {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = access;
    }

    pub(crate) fn access(&self) -> Access {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn device(&self) -> Option<u64> {
        self.device.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Closes the content's folder, which is held open while it is written to: its disk may then be unmounted.
    pub fn close_folder(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = held.take();
        drop(held);
        drop(folder);
    }

    /// Calls `act` with the content's folder, which is held open from now on.
    pub(crate) fn with_folder<T>(&self, act: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = match held.take() {
            Some(folder) => folder,
            None => File::open(self.folder())?,
        };
        act(held.insert(folder))
    }

    /// The pieces that hold at least one byte of the file that holds the byte at `offset`.
    pub(crate) fn pieces_around(&self, offset: u64) -> Option<Range<u32>> {
        let record = self.record(offset).ok()?;
        let last = record.start.checked_add(record.len)?.checked_sub(1)?;
        let number = |at| self.geometry().piece_at(at).map(PieceIndex::get);
        Some(number(record.start)?..number(last)? + 1)
    }

    /// Closes this content's files, so that the next read sees what is on disk now.
    pub fn close_files(&self, files: &FileCache) {
        self.forget_files(files);
        files.close_forgotten();
    }

    /// As [`close_files`](Content::close_files), but without waiting: the next
    /// [`close_forgotten`](FileCache::close_forgotten) closes them.
    pub fn forget_files(&self, files: &FileCache) {
        files.forget(self.id);
    }

    fn with(
        torrent_file: &Path,
        metainfo: &Metainfo,
        names: &[Name],
        layout: Layout,
        index_dir: &Path,
    ) -> Result<Content, OpenError> {
        let renames = Arc::new(find_renames(torrent_file, metainfo)?);
        let (index, renamed) = index::build(torrent_file, metainfo, index_dir, &renames)?;
        let spellings = match renamed {
            Some(_) => other_spellings(torrent_file, metainfo, &renames)?,
            None => Vec::new(),
        };
        // A link that a person named is followed now, but not if it takes the file's place later.
        let is_link = std::fs::read_link(torrent_file).is_ok();
        let real = is_link.then(|| std::fs::canonicalize(torrent_file).ok());
        let mut content = Content {
            id: ContentId::next(),
            torrent: (real.flatten().as_deref()).unwrap_or(torrent_file).into(),
            original: None,
            known: Mutex::new(None),
            access: Mutex::default(),
            name: names.first().map_or("_", Name::as_str).into(),
            metainfo: metainfo.clone(),
            layout,
            moved: OnceLock::new(),
            index,
            renames,
            renamed,
            spellings,
            refused: Mutex::default(),
            grows: AtomicBool::new(false),
            device: AtomicU64::new(0),
            held: Mutex::new(None),
            places: index_dir
                .join(format!("{}.files", metainfo.info_hash))
                .into(),
            searched: Mutex::default(),
            ours: Mutex::new(None),
        };
        let opened = content.open_torrent();
        opened.map_err(|error| match error {
            ReadError::Torrent { path, error } => OpenError::Torrent { path, error },
            error => OpenError::Torrent {
                path: torrent_file.to_owned(),
                error: TorrentError::Io(io::Error::other(error)),
            },
        })?;
        content.recall_places();
        Ok(content)
    }

    fn read_cached_across(
        &self,
        files: &FileCache,
        offset: u64,
        bufs: &mut [IoSliceMut<'_>],
    ) -> usize {
        let mut done = 0;
        for buf in bufs {
            let mut rest = &mut buf[..];
            while !rest.is_empty() {
                let offset = offset + done as u64;
                let Some(part) = files.find(self.id, offset) else {
                    return done;
                };
                let (now, later) = rest.split_at_mut(part.room(offset, rest.len()));
                let read = part.read_now(offset, &mut [IoSliceMut::new(now)]);
                done += read;
                if read < now.len() {
                    return done;
                }
                rest = later;
            }
        }
        done
    }

    /// The open file that holds the byte at `offset`, opened if need be.
    fn part(&self, files: &FileCache, offset: u64) -> Result<Part, ReadError> {
        if let Some(part) = files.find(self.id, offset) {
            return Ok(part);
        }
        let record = self.record(offset)?;
        let source = if record.zeros {
            Source::Zeros
        } else {
            let place = self.place_at(&record)?;
            let opened = self.layout().named().open_file(&place);
            let (fd, stat) =
                opened.map_err(|failure| ReadError::open(self.layout().whole(&place), failure))?;
            if files.is_sequential() {
                let _ = rustix::fs::fadvise(&fd, 0, None, Advice::Sequential);
            }
            if files.is_fresh() {
                let _ = rustix::fs::fadvise(&fd, 0, None, Advice::DontNeed);
            }
            let waits = AtomicBool::new(false);
            let stamp = (!self.grows.load(Ordering::Relaxed)).then(|| Stamp::of(&stat));
            Source::File { fd, waits, stamp }
        };
        let part = Part {
            start: record.start,
            end: record.start.saturating_add(record.len),
            source: Arc::new(source),
        };
        files.insert(self.id, part.clone());
        Ok(part)
    }

    /// The file that holds the byte at `offset`, as the index knows it.
    pub(crate) fn record(&self, offset: u64) -> Result<index::Record, ReadError> {
        let found = self.index.find(offset).and_then(|record| {
            // The node requests nothing past the end, so the index is at fault.
            record.ok_or_else(|| io::ErrorKind::InvalidData.into())
        });
        found.map_err(|error| ReadError::Io {
            path: self.index.path().unwrap_or(&self.torrent).to_owned(),
            error,
        })
    }

    pub(crate) fn id(&self) -> ContentId {
        self.id
    }

    /// The folder that holds all its files.
    pub fn folder(&self) -> PathBuf {
        self.layout().folder()
    }

    /// The layout that is valid now.
    pub(crate) fn layout(&self) -> &Layout {
        self.moved.get().unwrap_or(&self.layout)
    }

    /// Sets the content's new layout. It can be moved once; close its files afterwards.
    pub(crate) fn set_layout(&self, layout: Layout) {
        let _ = self.moved.set(layout);
        self.device.store(0, Ordering::Relaxed);
        self.close_folder();
        self.remember_places();
    }

    /// The path of the file that holds the byte at `offset`, or the content's root if that is not known.
    pub(crate) fn path_holding(&self, offset: u64) -> PathBuf {
        match self.record(offset).map(|record| self.place_at(&record)) {
            Ok(Ok(place)) => self.layout().whole(&place),
            _ => self.layout().root(),
        }
    }

    /// The path of a record's file beneath the named folder.
    pub(crate) fn place_at(&self, record: &index::Record) -> Result<PathBuf, ReadError> {
        let torrent = self.open_torrent()?;
        let (position, start) = (record.position, record.start);
        let entry = Entry::at(torrent, &self.metainfo, position, start, &self.renames);
        let entry = entry.map_err(|error| self.torrent_error(error))?;
        Ok(self.place_of(&entry))
    }

    fn read_error(&self, offset: u64, error: io::Error) -> ReadError {
        let path = match self.index.find(offset) {
            Ok(Some(record)) => match self.place_at(&record) {
                Ok(place) => self.layout().whole(&place),
                Err(error) => return error,
            },
            _ => self.layout().root(),
        };
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::Short { path },
            io::ErrorKind::InvalidData => ReadError::Changed { path },
            _ => ReadError::Io { path, error },
        }
    }

    pub(crate) fn torrent_error(&self, error: TorrentError) -> ReadError {
        let path = self.torrent.to_path_buf();
        ReadError::Torrent { path, error }
    }

    pub(crate) fn piece_hash(
        &self,
        torrent: &File,
        piece: PieceIndex,
    ) -> Result<Digest, ReadError> {
        self.metainfo
            .piece_hash(Stream(torrent), piece)
            .map_err(|error| self.torrent_error(error.into()))
    }

    /// Opens the torrent file. It may have been replaced: it is an error unless its `info` is the same as before.
    pub(crate) fn open_torrent(&self) -> Result<File, ReadError> {
        let open = || {
            let file = reopen_torrent(&self.torrent)?;
            let stat = rustix::fs::fstat(&file).map_err(|e| TorrentError::Io(e.into()))?;
            // The types of these fields differ between architectures.
            #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
            let now = (stat.st_dev as u64, stat.st_ino as u64, Stamp::of(&stat));
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if *known != Some(now) {
                if !self.is_info_of(&file).map_err(TorrentError::Io)? {
                    return Err(TorrentError::Changed);
                }
                *known = Some(now);
            }
            Ok(file)
        };
        open().map_err(|error| self.torrent_error(error))
    }

    /// Whether this file has the torrent's `info`, by its info-hash, at the same offset as before.
    fn is_info_of(&self, file: &File) -> io::Result<bool> {
        let range = self.metainfo.info_range();
        let (mut at, mut sha1) = (range.start, Fast::default());
        let mut buffer = [0; 16 * 1024];
        while at < range.end {
            let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let buffer = &mut buffer[..left.min(16 * 1024)];
            match file.read_exact_at(buffer, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read?,
            }
            sha1.update(buffer);
            at += buffer.len() as u64;
        }
        Ok(sha1.finish() == self.metainfo.info_hash.0)
    }

    pub(crate) fn stat(&self, entry: &Entry) -> Option<rustix::fs::Stat> {
        self.layout().named().stat_file(&self.place_of(entry)).ok()
    }
}

/// The longest stretch of a file that the kernel may keep as one unit.
const STRETCH: u64 = 2 << 20;

/// The first of the torrent's files that has to be on disk.
fn first_file(torrent_file: &Path, metainfo: &Metainfo) -> Option<PathBuf> {
    let mut entries = Entries::open(torrent_file, metainfo).ok()?;
    let on_disk = entries.find(|entry| {
        entry
            .as_ref()
            .is_ok_and(|entry| entry.kind == FileKind::Data && entry.len > 0)
    });
    Some(on_disk?.ok()?.path)
}
