//! A bounded number of open files, shared by all torrents.
//!
//! Invariant: at most `limit` entries; the least recently used one makes room. An entry knows which range of which
//! torrent its file holds. So a block of an open file is served without a look at the torrent file or the index on
//! disk.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::Stat;

/// A cache of open files of all torrents. The least recently used file is closed first.
///
/// The serving thread, the storage thread and the session share it by reference. Its locks are held while a few entries
/// are searched, never during a system call that may wait. Closing may wait, because a network file system flushes. So
/// looking a file up and forgetting it close nothing, not even a file that another thread takes out meanwhile.
#[derive(Debug)]
pub struct FileCache {
    entries: Mutex<Vec<CachedFile>>,
    /// Files that have no entry any more and are not closed yet.
    forgotten: Mutex<Vec<Arc<Source>>>,
    limit: usize,
    sequential: bool,
    fresh: bool,
    clock: AtomicU64,
    /// The cache's clock when unused files were last closed.
    looked_at: AtomicU64,
}

impl FileCache {
    /// Keeps at most `limit` files, at least one. Forgotten files stay open beside them until they are closed. 16 serve a
    /// small machine well.
    pub fn new(limit: usize) -> FileCache {
        let limit = limit.max(1);
        FileCache {
            entries: Mutex::new(Vec::with_capacity(limit)),
            forgotten: Mutex::default(),
            limit,
            sequential: false,
            fresh: false,
            clock: AtomicU64::new(0),
            looked_at: AtomicU64::new(0),
        }
    }

    /// A cache for reading from start to end: the kernel is told to read further ahead. `fresh` is as in
    /// [`fresh`](Self::fresh).
    pub(crate) fn sequential(limit: usize, fresh: bool) -> FileCache {
        FileCache {
            sequential: true,
            fresh,
            ..FileCache::new(limit)
        }
    }

    /// A cache for reading what is on the disk. When a file is opened, the kernel drops its clean pages of that file.
    pub(crate) fn fresh(limit: usize) -> FileCache {
        FileCache {
            fresh: true,
            ..FileCache::new(limit)
        }
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(crate) fn is_sequential(&self) -> bool {
        self.sequential
    }

    /// The open file that holds the byte at `offset` of this content.
    pub(crate) fn find(&self, content: ContentId, offset: u64) -> Option<Part> {
        let mut entries = self.lock();
        let entry = entries.iter_mut().find(|entry| {
            entry.content == content && (entry.part.start..entry.part.end).contains(&offset)
        })?;
        entry.used = self.clock.fetch_add(1, Ordering::Relaxed);
        Some(entry.part.clone())
    }

    /// Keeps a file open. If there are too many, the least recently used one is closed.
    pub(crate) fn insert(&self, content: ContentId, part: Part) {
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let entry = CachedFile {
            content,
            used,
            part,
        };
        let mut entries = self.lock();
        if entries.len() < self.limit {
            return entries.push(entry);
        }
        let oldest = entries.iter_mut().min_by_key(|entry| entry.used);
        let replaced = oldest.map(|oldest| std::mem::replace(oldest, entry));
        self.forgotten()
            .extend(replaced.map(|entry| entry.part.source));
        drop(entries);
        self.close_forgotten();
    }

    /// Removes the files of one content from the cache; [`close_forgotten`](Self::close_forgotten) closes them.
    pub(crate) fn forget(&self, content: ContentId) {
        let mut entries = self.lock();
        let gone = entries.extract_if(.., |entry| entry.content == content);
        self.forgotten().extend(gone.map(|entry| entry.part.source));
    }

    /// Removes all files from the cache; [`close_forgotten`](Self::close_forgotten) closes them.
    pub fn forget_all(&self) {
        let mut entries = self.lock();
        let gone = entries.drain(..).map(|entry| entry.part.source);
        self.forgotten().extend(gone);
    }

    /// Closes forgotten files that nobody is reading. Closing may wait.
    pub fn close_forgotten(&self) {
        let mut forgotten = self.forgotten();
        // Only this list and present readers hold such a file; without readers it is free.
        let free = |source: &mut Arc<Source>| Arc::strong_count(source) == 1;
        let free: Vec<_> = forgotten.extract_if(.., free).collect();
        drop(forgotten);
        drop(free);
    }

    /// Closes files that were not used since the last call, so that an idle disk can sleep and be ejected. Closing
    /// may wait.
    pub fn close_unused(&self) {
        let mut entries = self.lock();
        let now = self.clock.load(Ordering::Relaxed);
        let before = self.looked_at.swap(now, Ordering::Relaxed);
        let unused = entries.extract_if(.., |entry| entry.used < before);
        self.forgotten()
            .extend(unused.map(|entry| entry.part.source));
        drop(entries);
        self.close_forgotten();
    }

    /// Whether no file is open.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty() && self.forgotten().is_empty()
    }

    fn forgotten(&self) -> MutexGuard<'_, Vec<Arc<Source>>> {
        self.forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CachedFile>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number for each content of this process, never given twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ContentId(u64);

impl ContentId {
    pub(crate) fn next() -> ContentId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ContentId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One file's range in a torrent's content: `start <= offset < end`.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) source: Arc<Source>,
}

/// The source of a part's bytes.
#[derive(Debug)]
pub(crate) enum Source {
    /// A padding file: zeros that are not on disk (BEP 47).
    Zeros,
    File {
        fd: OwnedFd,
        /// Whether the file system said that it cannot read without waiting.
        waits: AtomicBool,
        /// The file's stamp when it was opened; `None` while we write to it ourselves.
        stamp: Option<Stamp>,
    },
}

impl Source {
    /// A file that is open for writing.
    pub(crate) fn written(fd: OwnedFd) -> Source {
        Source::File {
            fd,
            waits: AtomicBool::new(false),
            stamp: None,
        }
    }
}

/// The metadata that changes with every write: size and times. A writer can set the content's time back, but not the
/// inode's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    size: i64,
    content_s: i64,
    content_ns: u64,
    inode_s: i64,
    inode_ns: u64,
}

impl Stamp {
    // The types of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    pub(crate) fn of(stat: &Stat) -> Stamp {
        Stamp {
            size: stat.st_size as i64,
            content_s: stat.st_mtime as i64,
            content_ns: stat.st_mtime_nsec as u64,
            inode_s: stat.st_ctime as i64,
            inode_ns: stat.st_ctime_nsec as u64,
        }
    }

    /// Whether the file still has this stamp. If its metadata cannot be read, it counts as changed.
    pub(crate) fn is_of(self, fd: &OwnedFd) -> bool {
        rustix::fs::fstat(fd).is_ok_and(|stat| Stamp::of(&stat) == self)
    }
}

#[derive(Debug)]
struct CachedFile {
    content: ContentId,
    used: u64,
    part: Part,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: u64, end: u64) -> Part {
        Part {
            start,
            end,
            source: Arc::new(Source::Zeros),
        }
    }

    #[test]
    fn the_one_used_longest_ago_makes_room() {
        let (a, b) = (ContentId::next(), ContentId::next());
        let files = FileCache::new(2);
        files.insert(a, part(0, 10));
        files.insert(b, part(0, 10));
        assert!(files.find(a, 9).is_some());
        assert!(files.find(a, 10).is_none());
        files.insert(a, part(10, 20));
        assert!(files.find(b, 0).is_none());
        assert!(files.find(a, 0).is_some() && files.find(a, 10).is_some());
        files.forget(a);
        assert!(files.find(a, 0).is_none());
    }

    /// Whoever reads a file that others forget does not close it, which may wait.
    #[test]
    fn a_reader_closes_nothing() {
        let (a, b) = (ContentId::next(), ContentId::next());
        type Forget = fn(&FileCache, ContentId, ContentId);
        let ways: [Forget; 3] = [
            |files, a, _| files.forget(a),
            |files, _, b| files.insert(b, part(0, 10)),
            |files, _, _| (0..2).for_each(|_| files.close_unused()),
        ];
        for (number, way) in ways.into_iter().enumerate() {
            let files = FileCache::new(1);
            files.insert(a, part(0, 10));
            let read = files.find(a, 0).expect("it is open");
            way(&files, a, b);
            files.close_forgotten();
            assert!(files.find(a, 0).is_none(), "{number}");
            assert_eq!(Arc::strong_count(&read.source), 2, "{number}");
            let weak = Arc::downgrade(&read.source);
            drop(read);
            assert!(weak.upgrade().is_some(), "{number}");
            files.close_forgotten();
            assert!(weak.upgrade().is_none(), "{number}");
        }
    }

    #[test]
    fn a_file_that_nobody_uses_is_closed_at_the_second_look() {
        let (a, b) = (ContentId::next(), ContentId::next());
        let files = FileCache::new(4);
        files.insert(a, part(0, 10));
        files.insert(b, part(0, 10));
        files.close_unused();
        assert!(files.find(a, 0).is_some());
        files.close_unused();
        assert!(files.find(b, 0).is_none());
        // Found just now.
        assert!(files.find(a, 0).is_some());
        files.close_unused();
        assert!(!files.is_empty());
        files.close_unused();
        assert!(files.is_empty() && files.find(a, 0).is_none());
    }
}
