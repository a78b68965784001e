//! A torrent's content: its files as one range of bytes.
//!
//! Invariants: every byte below [`Geometry::total`] belongs to exactly one file; RAM does not grow with the number of
//! files; nothing outside the folder that the owner named is opened. [`check`](crate::check) decides which pieces are
//! good, and the node decides which peers get them.

mod part;
mod places;
mod read;
mod torrent_file;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use everseed_core::geometry::{Geometry, PieceIndex};
use everseed_core::metainfo::{FileKind, Metainfo, Name, Spelling};

use crate::access::Access;
use crate::beneath::Links;
use crate::cache::{ContentId, FileCache, Stamp};
use crate::entry::{Entries, Entry, TorrentError, find_renames, other_spellings, read_names};
use crate::error::{OpenError, ReadError};
use crate::held::Held;
use crate::index::{self, Index, Renamed};
use crate::layout::Layout;
use crate::ours::Ours;
use crate::searched::Searched;
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
    /// The content's folder while it is written to.
    held: Held,
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

    /// The device on which the folder has to be for writing.
    pub fn device(&self) -> Option<u64> {
        self.device.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Closes the content's folder, which is held open while it is written to: its disk may then be unmounted, unless a
    /// sync is running.
    pub fn close_folder(&self) {
        self.held.close();
    }

    /// Whether a sync has failed since the last check began, so that writes may be lost.
    pub fn has_lost_writes(&self) -> bool {
        self.held.has_lost()
    }

    /// The content's folder while it is written to.
    pub(crate) fn held(&self) -> &Held {
        &self.held
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
            held: Held::default(),
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

    /// The folder in which the content lies, and the path of the content in it, which may be empty; without
    /// allocating.
    pub fn place(&self) -> (&Path, &Path) {
        self.layout().place()
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

    pub(crate) fn stat(&self, entry: &Entry) -> Option<rustix::fs::Stat> {
        self.layout().named().stat_file(&self.place_of(entry)).ok()
    }
}

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
