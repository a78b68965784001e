//! The worker: a thread beside the session's and the serving one, for everything that waits for a disk or takes
//! long.
//!
//! It writes downloaded blocks, reads ahead for peers whose blocks are not in the page cache, hashes pieces and looks
//! at files. Reading ahead comes first, then single pieces and looks, then writes, then checks. Checks are done piece
//! by piece, so a check of terabytes delays nobody for longer than one piece, not even a smaller check. From the
//! first served torrent on the worker has a lower priority than the serving thread.
//!
//! A sync may take minutes. So downloads, and copies of them, are synced by other threads, one for each disk, one after
//! the other; a thread ends when none is left.
//!
//! Invariant: a connection has at most one read-ahead in the queue, which is dropped with the connection. A torrent
//! has at most one task of each other kind. Only writes may be more, at most one for each block. So the queues are
//! bounded, and do not grow while blocks are served.

mod look;
mod queues;
mod scratch;
mod task;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use everseed_core::geometry::{PieceIndex, Span, TorrentId};
use everseed_disk::check::{Check, OpenFiles, PieceStart};
use everseed_disk::fault::{self, Unread};
use everseed_disk::relocate::Relocation;
use everseed_disk::{Content, FileCache, ReadError, WriteError, check, unfinished, write};
use everseed_node::{BodySource, ConnId};

pub(crate) use self::look::{fingerprint, settle};
use self::look::{look, seen, verify_again};
use self::queues::{BATCH, Job, Long, Queues, STACK, Syncing, pop};
use self::scratch::{BEGUN, Scratch};
pub(crate) use self::task::{
    Block, Done, GIVEN_UP, Look, Outcome, Progress, Task, TorrentNumber, Unwritten,
};
use crate::alarm::Alarm;
use crate::descriptors;
use crate::printing::Busy;

/// A handle to the thread.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queues: Mutex<Queues>,
    work: Condvar,
    files: Arc<FileCache>,
    /// Files that are open for writing.
    written: FileCache,
    alarm: Arc<Alarm>,
}

impl Worker {
    /// Starts the thread; `alarm` is rung when a task is done.
    pub(crate) fn start(
        alarm: Arc<Alarm>,
        files: Arc<FileCache>,
        max_peers: usize,
        blocks: usize,
    ) -> io::Result<Worker> {
        let shared = Arc::new(Shared {
            queues: Mutex::new(Queues::new(max_peers, blocks)),
            work: Condvar::new(),
            files,
            written: FileCache::new(descriptors::open_files().1),
            alarm,
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("disk".into())
            .stack_size(STACK)
            .spawn(move || theirs.work())?;
        Ok(Worker { shared })
    }

    /// Queues a task.
    pub(crate) fn ask(&self, task: Task) {
        self.change(|queues| queues.push(task));
    }

    /// Whether files are open, for reading or writing.
    pub(crate) fn has_open_files(&self) -> bool {
        !(self.shared.files.is_empty() && self.shared.written.is_empty())
    }

    /// Has files closed that were not used since the last call. The thread is not woken if none are open.
    pub(crate) fn close_unused(&self) {
        if self.has_open_files() {
            self.change(|queues| queues.close_unused = true);
        }
    }

    /// Has forgotten files closed before any other task.
    pub(crate) fn close_forgotten(&self) {
        self.change(|queues| queues.close_forgotten = true);
    }

    fn change(&self, change: impl FnOnce(&mut Queues)) {
        let mut queues = self.shared.lock();
        change(&mut queues);
        let idle = std::mem::take(&mut queues.idle);
        drop(queues);
        // Notifying is a system call, made only if the thread waits.
        if idle {
            self.shared.work.notify_one();
        }
    }

    /// Returns the buffer that came with [`Done::Warmed`].
    pub(crate) fn give_back(&self, bytes: Vec<u8>) {
        self.shared.lock().returned = Some(bytes);
        // The thread may wait for a task or for this buffer.
        self.shared.work.notify_one();
    }

    /// Drops the queued tasks of a closed connection, whose reads would delay others.
    pub(crate) fn forget(&self, conn: ConnId) {
        self.shared.lock().forget(conn);
    }

    /// Drops the queued and unreported pieces of this torrent. Its files have changed, so what was found about them
    /// is no longer true.
    pub(crate) fn forget_pieces(&self, torrent: TorrentId) {
        self.shared.lock().forget_pieces(torrent);
    }

    /// The next finished task, if there is one.
    pub(crate) fn done(&self) -> Option<Done> {
        pop(&mut self.shared.lock().done)
    }
}

impl Drop for Worker {
    /// The thread ends after its present task. It is not joined, because a disk may hang.
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(self: &Arc<Shared>) {
        // Peers wait for what it reads.
        let _busy = Busy::begin();
        let mut scratch = Scratch {
            bytes: vec![0; check::CHUNK],
            begun: Vec::with_capacity(BEGUN),
            batch: Vec::with_capacity(BATCH),
            keeper: None,
        };
        let few = descriptors::are_few();
        while let Some(work) = self.next() {
            if few {
                descriptors::wait_for_some(|| self.close_all());
            }
            match work {
                Work::Short(task) => self.short(task, &mut scratch),
                Work::CloseUnused => {
                    self.files.close_unused();
                    self.written.close_unused();
                }
                Work::Close(gone) => {
                    drop(gone);
                    self.files.close_forgotten();
                }
                Work::Long(job, open) => {
                    drop(open);
                    self.step(job, &mut scratch);
                }
            }
        }
    }

    /// Closes all files that nobody is reading.
    fn close_all(&self) {
        for files in [&*self.files, &self.written] {
            files.forget_all();
            files.close_forgotten();
        }
    }

    /// Carries out any task but a check or a move.
    fn short(self: &Arc<Shared>, task: Task, scratch: &mut Scratch) {
        match task {
            Task::Warm(content, conn, source, span) => {
                let mut bytes = std::mem::take(&mut scratch.bytes);
                bytes.truncate(span.len as usize);
                let warmed = match self.warm(&content, source, span, &mut bytes) {
                    Ok(()) => Ok(bytes),
                    Err((at, error)) => {
                        self.lock().returned = Some(bytes);
                        let piece = content.geometry().piece_at(at);
                        let piece = piece.map_or(0, PieceIndex::get);
                        Err((span.torrent, Unread::judge(&content, piece, error)))
                    }
                };
                self.tell(Done::Warmed(conn, source, span.offset, warmed));
                scratch.bytes = self.take_back();
            }
            Task::Verify(content, torrent, piece) => {
                let mut begun = scratch.take(torrent, piece);
                // Bytes that belong to the owner's files were not written.
                let owners = content.owners_piece(piece);
                if owners.is_some() {
                    begun = PieceStart::default();
                }
                let bytes = &mut scratch.bytes;
                let good = check::finish_piece(&content, &self.files, piece, begun, bytes);
                let good = match (good, owners) {
                    // The peers that sent the piece are not to blame.
                    (Ok(false), Some(error)) if content.is_growing() => Err(error),
                    (good, _) => good,
                };
                self.found(&content, torrent, piece, good, bytes);
            }
            Task::VerifyFresh(content, torrent, piece) => {
                let geometry = content.geometry();
                let (at, len) = (geometry.piece_offset(piece), geometry.piece_size(piece));
                let good = content.cool(&self.files, at, len.into());
                let bytes = &mut scratch.bytes;
                let good =
                    good.and_then(|()| check::verify_piece(&content, &self.files, piece, bytes));
                self.found(&content, torrent, piece, good, bytes);
            }
            Task::Look(content, number, deep) => {
                // A look may find files that were moved.
                let looked = look(&content).and_then(|look| match deep {
                    true => fault::probe(&content, 0).map(|()| look),
                    false => Ok(look),
                });
                self.tell(Done::Torrent(number, Outcome::Looked(looked)));
            }
            Task::Write(block) => self.write(block, scratch),
            Task::Settle(content, number) => self.sync(Syncing::Part(content, number)),
            Task::Sync(content, number) => self.sync(Syncing::Download(content, number)),
            Task::Try(content, number, offsets) => {
                let writable = |&at: &u64| write::is_writable(&content, at);
                let any = offsets.iter().any(writable);
                self.tell(Done::Torrent(number, Outcome::Tried(any)));
            }
            Task::Spool(spool, id, span, bytes) => {
                let block = bytes.get(..span.len as usize).unwrap_or(&[]);
                let written = spool.write(span.offset, block);
                self.tell(Done::Spooled(span.torrent, id, bytes, written));
            }
            Task::Finish(spool, torrent, piece, len) => {
                let good = spool.finish(len.into());
                self.tell(Done::Finished(torrent, piece, good));
            }
            Task::StandBack => {
                // On Linux this sets the priority of this thread alone. If the CPU is busy, hashing gets a quarter of
                // it and peers the rest. The disk's scheduler heeds it too if it has priorities.
                let _ = rustix::process::setpriority_process(None, NICE);
            }
            Task::Check(..) | Task::Relocate(..) => {}
        }
    }

    /// Has something synced by a thread of its own: a disk may take minutes to write what waits, and whoever is served
    /// from another one does not wait for that. Later syncs of the same disk wait for their turn on the same thread.
    fn sync(self: &Arc<Shared>, what: Syncing) {
        let disk = what.disk();
        let mut queues = self.lock();
        queues.syncs.push((disk, what));
        if queues.syncing.contains(&disk) {
            return;
        }
        queues.syncing.push(disk);
        drop(queues);
        let theirs = Arc::clone(self);
        let thread = thread::Builder::new().name("sync".into()).stack_size(STACK);
        if let Err(error) = thread.spawn(move || theirs.sync_all(disk)) {
            log::debug!("no thread to sync by: {error}");
            self.sync_all(disk);
        }
    }

    /// Syncs what is on one disk, one after the other, until none waits.
    fn sync_all(&self, disk: Option<u64>) {
        let next = || self.lock().next_sync(disk);
        while let Some(what) = next() {
            match what {
                Syncing::Part(content, number) => {
                    let settled = settle(&content);
                    drop(content);
                    self.tell(Done::Torrent(number, Outcome::Settled(settled)));
                }
                Syncing::Download(content, number) => {
                    let synced = write::sync(&content)
                        .and_then(|()| unfinished::finish(&content).map_err(WriteError::Place))
                        .and_then(|()| seen(&content).map_err(WriteError::Place));
                    drop(content);
                    self.tell(Done::Torrent(number, Outcome::Synced(synced)));
                }
                Syncing::Copy(job, relocation) => self.take_step(job, relocation, &mut [0]),
            }
        }
    }

    /// Tells whether a piece is good. A bad one is read once more.
    fn found(
        &self,
        content: &Content,
        torrent: TorrentId,
        piece: PieceIndex,
        good: Result<bool, ReadError>,
        scratch: &mut [u8],
    ) {
        let good = match good {
            Ok(false) => verify_again(content, &self.files, piece, scratch),
            good => good,
        };
        if matches!(good, Ok(true)) && content.completed(piece) {
            content.close_files(&self.written);
        }
        let at = content.geometry().piece_offset(piece);
        let good = good.and_then(|good| {
            write::keeps_name(content, &self.written, at)?;
            Ok(good)
        });
        let good = good.map_err(|error| Unread::judge(content, piece.get(), error));
        self.tell(Done::Verified(torrent, piece, good));
    }

    /// Checks or copies one piece, and reports the result after the last one.
    fn step(self: &Arc<Shared>, mut job: Job, scratch: &mut Scratch) {
        match std::mem::replace(&mut job.work, Long::Check(None)) {
            Long::Check(check) => self.check(job, check, scratch),
            Long::Relocate(relocation) => self.relocate(job, relocation, scratch),
        }
    }

    fn relocate(self: &Arc<Shared>, job: Job, relocation: Box<Relocation>, scratch: &mut Scratch) {
        match relocation.is_sync_next() {
            true => self.sync(Syncing::Copy(job, relocation)),
            false => self.take_step(job, relocation, &mut scratch.bytes),
        }
    }

    fn take_step(&self, mut job: Job, mut relocation: Box<Relocation>, scratch: &mut [u8]) {
        if job.progress.load(Ordering::Relaxed) == GIVEN_UP {
            return;
        }
        let content = &job.content;
        let stepped = relocation.step(content, scratch);
        let before = job.progress.swap(relocation.done(), Ordering::Relaxed);
        if before == GIVEN_UP {
            return;
        }
        if let Ok(false) = stepped {
            job.work = Long::Relocate(relocation);
            return self.lock().put_back(job);
        }
        // Open files are at the former place.
        content.close_files(&self.files);
        content.close_files(&self.written);
        let place = |_| check::fingerprint(content).map_err(WriteError::Place);
        let relocated = stepped.and_then(place);
        self.tell(Done::Torrent(job.number, Outcome::Relocated(relocated)));
    }

    fn check(self: &Arc<Shared>, mut job: Job, check: Option<Box<Check>>, scratch: &mut Scratch) {
        if check.is_none() {
            (job.begun, job.kept) = (Instant::now(), Instant::now());
            // Files that are gone may still be open for writing.
            job.content.close_files(&self.written);
        }
        let content = &job.content;
        let mut check = check.unwrap_or_else(|| Box::new(Check::resume(content)));
        let stepped = check.step(content, &mut scratch.bytes);
        let before = job.progress.swap(check.done(), Ordering::Relaxed);
        if before == GIVEN_UP {
            return check.give_up();
        }
        match stepped {
            Err(error) => {
                let checked = Outcome::Checked(Err(error));
                return self.tell(Done::Torrent(job.number, checked));
            }
            // Each file is reported once.
            Ok(Some(fault)) => {
                let known = |u: &Unread| u.error.path() == fault.error.path();
                if job.unread.len() < UNREAD && !job.unread.iter().any(known) {
                    job.unread.push(fault);
                }
            }
            Ok(None) => {}
        }
        if check.left(content) > 0 {
            job.keep(&check, &mut scratch.keeper);
            job.work = Long::Check(Some(check));
            self.lock().put_back(job);
        } else {
            let done = check.done();
            let go_on = &mut || {
                // It is called during a search alone, which shows as more than all bytes.
                let (all, order) = (done + 1, Ordering::Relaxed);
                let _ = job.progress.compare_exchange(done, all, order, order);
                job.progress.load(order) != GIVEN_UP && self.between(scratch)
            };
            let found = check.finish(content, go_on).transpose();
            if let Some(found) = found {
                let found = found.map(|bits| (bits, job.unread));
                self.tell(Done::Torrent(job.number, Outcome::Checked(found)));
            }
        }
    }

    /// Carries out short tasks in the middle of a search. False if the search has to stop.
    fn between(self: &Arc<Shared>, scratch: &mut Scratch) -> bool {
        loop {
            let mut queues = self.lock();
            if queues.stop {
                return false;
            }
            let Some(task) = queues.pop_short() else {
                return true;
            };
            // A block whose file is still growing goes back into the queue, and waits for the next call.
            let again = matches!(task, Task::Write(_));
            drop(queues);
            self.short(task, scratch);
            if again {
                return true;
            }
        }
    }

    /// The next work; `None` when the thread has to end.
    fn next(&self) -> Option<Work> {
        let mut queues = self.lock();
        loop {
            if queues.stop {
                return None;
            }
            let forgotten = std::mem::take(&mut queues.close_forgotten);
            if forgotten || !queues.gone.is_empty() {
                return Some(Work::Close(std::mem::take(&mut queues.gone)));
            }
            if queues.owes_step()
                && let Some((job, open)) = queues.pop_job()
            {
                return Some(Work::Long(job, open));
            }
            if let Some(task) = queues.pop_short() {
                return Some(Work::Short(task));
            }
            if std::mem::take(&mut queues.close_unused) {
                return Some(Work::CloseUnused);
            }
            if let Some((job, open)) = queues.pop_job() {
                return Some(Work::Long(job, open));
            }
            // Many torrents are checked at the start, and few afterwards.
            queues.jobs = Vec::new();
            queues.idle = true;
            queues = self.wait(queues);
        }
    }

    fn tell(&self, done: Done) {
        self.lock().report(done);
        self.alarm.ring();
    }

    /// Takes back the buffer that the serving thread was given, which will return it in a moment.
    fn take_back(&self) -> Vec<u8> {
        let mut queues = self.lock();
        let mut bytes = loop {
            if let Some(bytes) = queues.returned.take() {
                break bytes;
            }
            if queues.stop {
                break Vec::new();
            }
            queues = self.wait(queues);
        };
        drop(queues);
        bytes.resize(check::CHUNK, 0);
        bytes
    }

    fn wait<'a>(&self, queues: MutexGuard<'a, Queues>) -> MutexGuard<'a, Queues> {
        let waited = self.work.wait(queues);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn warm(
        &self,
        content: &Content,
        source: BodySource,
        span: Span,
        bytes: &mut [u8],
    ) -> Result<(), (u64, ReadError)> {
        match source {
            BodySource::Content => content.warm(&self.files, span.offset, bytes, span.len.into()),
            BodySource::Info => {
                let read = content.read_info(span.offset, bytes);
                read.map_err(|error| (0, error))
            }
        }
    }

    /// Writes a block, and those in the queue that follow it, with one call.
    fn write(&self, first: Block, scratch: &mut Scratch) {
        let mut batch = std::mem::take(&mut scratch.batch);
        batch.push(first);
        let content = Arc::clone(&batch[0].content);
        // A file that grows for minutes must not delay others.
        if !write::lengthen(&content, &self.written, batch[0].span.offset) {
            self.lock().put_off(batch.drain(..));
            scratch.batch = batch;
            return;
        }
        self.lock().neighbours(&mut batch);
        let mut slices: [&[u8]; BATCH] = [&[]; BATCH];
        for (slice, block) in slices.iter_mut().zip(&batch) {
            *slice = block.bytes();
        }
        let (offset, slices) = (batch[0].span.offset, &slices[..batch.len()]);
        let written = write::write(&content, &self.written, offset, slices);
        match written {
            Ok(()) => {
                batch.iter().for_each(|block| scratch.hash(block));
                let mut queues = self.lock();
                for block in batch.drain(..) {
                    queues.report(Done::Wrote(block.id, block.bytes, Ok(())));
                }
            }
            Err(_) => self.write_singly(&content, &mut batch, scratch),
        }
        scratch.batch = batch;
        self.alarm.ring();
    }

    /// Writes blocks one by one after writing them together failed: one of them is at fault, or the disk.
    fn write_singly(&self, content: &Content, batch: &mut Vec<Block>, scratch: &mut Scratch) {
        // The open files may be on a disk that is gone.
        content.close_files(&self.written);
        let mut refused = false;
        for block in batch.drain(..) {
            let at = block.span.offset;
            let written = match refused {
                false => write::write(content, &self.written, at, &[block.bytes()]),
                true => Err(WriteError::Again),
            };
            let written = written.map_err(|error| {
                // A fault of one file does not stop writes to others.
                let pieces = error.is_of_file();
                let pieces = pieces.then(|| write::pieces_of_file(content, at)).flatten();
                refused |= pieces.is_none();
                (block.span.torrent, Unwritten { error, pieces })
            });
            if written.is_ok() {
                scratch.hash(&block);
            }
            let mut queues = self.lock();
            queues.report(Done::Wrote(block.id, block.bytes, written));
        }
    }
}

/// The next work of the thread.
#[allow(clippy::large_enum_variant)] // There is one at a time.
enum Work {
    Short(Task),
    /// Close files that nobody uses.
    CloseUnused,
    /// Drop these contents, and close forgotten files.
    Close(Vec<Arc<Content>>),
    /// Take a step, and close the files of the one before.
    Long(Job, Vec<OpenFiles>),
}

/// The most unreadable files that a check reports.
const UNREAD: usize = 16;

/// The nice value of the thread, which has a third of the weight of one without it.
const NICE: i32 = 5;
