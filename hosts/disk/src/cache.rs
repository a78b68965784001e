//! A bounded number of open files, shared by all torrents.
//!
//! Invariant: at most `limit` entries; the one that was used longest ago makes room. An entry knows
//! which range of which torrent its file holds, so that serving a block from an open file asks
//! neither the torrent file nor the index on disk.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::Stat;

/// Open files of all torrents, the least recently used ones closed first.
///
/// Shared by reference between the thread that serves and the one that reads cold disks. Its locks are
/// held for a search among a few entries, never during a system call that may wait. Closing may wait, as a network file
/// system flushes: who only looks for a file, or forgets it, closes none, not even one that another thread
/// takes out meanwhile.
#[derive(Debug)]
pub struct FileCache {
    entries: Mutex<Vec<Entry>>,
    /// Files that are no entries any more and not closed yet.
    forgotten: Mutex<Vec<Arc<Source>>>,
    limit: usize,
    sequential: bool,
    fresh: bool,
    clock: AtomicU64,
    /// What the clock was when files that nobody uses were looked for.
    looked_at: AtomicU64,
}

impl FileCache {
    /// At most `limit` files open at a time, at least one. 16 serve a small machine well.
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

    /// For reading from start to end: the kernel is told to read further ahead.
    /// With `fresh`, as [`fresh`](Self::fresh) does.
    pub(crate) fn sequential(limit: usize, fresh: bool) -> FileCache {
        FileCache {
            sequential: true,
            fresh,
            ..FileCache::new(limit)
        }
    }

    /// For reading what is on the disk: what the kernel holds in memory of a file is dropped when it is
    /// opened, apart from what is still to be written.
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

    /// Keeps a file open, closing the one that was used longest ago if there are too many.
    pub(crate) fn insert(&self, content: ContentId, part: Part) {
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
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

    /// Finds the files of one content no longer; [`close_forgotten`](Self::close_forgotten) closes them.
    pub(crate) fn forget(&self, content: ContentId) {
        let mut entries = self.lock();
        let gone = entries.extract_if(.., |entry| entry.content == content);
        self.forgotten().extend(gone.map(|entry| entry.part.source));
    }

    /// Closes what was forgotten and nobody is reading at the moment. Closing may wait.
    pub fn close_forgotten(&self) {
        let mut forgotten = self.forgotten();
        // Nobody finds it any more, so nobody else will have it once nobody has.
        let free = |source: &mut Arc<Source>| Arc::strong_count(source) == 1;
        let free: Vec<_> = forgotten.extract_if(.., free).collect();
        drop(forgotten);
        drop(free);
    }

    /// Closes files that were not used since the last call, so that an idle disk can sleep and be ejected.
    /// Closing may wait.
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

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the contents of one process apart. Never given twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ContentId(u64);

impl ContentId {
    pub(crate) fn next() -> ContentId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ContentId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A file's place in a torrent's content: `start <= offset < end`.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) source: Arc<Source>,
}

/// Where the bytes of a part come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A padding file, which is not on disk (BEP 47).
    Zeros,
    File {
        fd: OwnedFd,
        /// Whether the file system answered that it cannot read without waiting.
        waits: AtomicBool,
        /// When it was opened; `None` while we write to it ourselves.
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

/// What changes when a file is written to: its size and times. Whoever writes may set the time of its
/// content back afterwards, but not that of its inode.
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

    /// Whether the file is still as it was. One that cannot be asked is not.
    pub(crate) fn is_of(self, fd: &OwnedFd) -> bool {
        rustix::fs::fstat(fd).is_ok_and(|stat| Stamp::of(&stat) == self)
    }
}

#[derive(Debug)]
struct Entry {
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
