//! The one other thread: whatever waits for a disk or takes long.
//!
//! It writes what was downloaded, reads ahead for peers whose blocks are not in the page cache, hashes pieces and looks after
//! files. Reading ahead comes first, then single pieces and looks, then writes, then checks, which are done piece by
//! piece: a check of terabytes delays nobody for longer than one piece, smaller checks neither. It stands back
//! behind the thread that serves, from the first torrent that is served on.
//!
//! Invariant: a connection has at most one read-ahead in the queue, which leaves with it, and a
//! torrent at most one task of each other kind, but for writes, of which there are no more than blocks, so that the queues have a bound and do not grow while
//! blocks are served.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use everseed_core::geometry::{PieceIndex, Span, TorrentId};
use everseed_core::pool::BlockId;
use everseed_disk::check::{Begun, Check};
use everseed_disk::fault::{self, Unread};
use everseed_disk::{Content, FileCache, ReadError, WriteError, check, find, unfinished, write};
use everseed_node::{ConnId, Source};

use crate::alarm::Alarm;
use crate::storage::spool::Spool;

/// Something to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Read this into the page cache, for a connection.
    Warm(Arc<Content>, ConnId, Source, Span),
    /// Hash a piece.
    Verify(Arc<Content>, TorrentId, PieceIndex),
    /// The same, as it is on the disk, past what memory holds.
    VerifyFresh(Arc<Content>, TorrentId, PieceIndex),
    /// Hash all pieces of the torrent of this number.
    Check(Arc<Content>, usize, Arc<Progress>),
    /// Look whether the files of the torrent of this number are as they were, and if so asked, whether
    /// anything can be read.
    Look(Arc<Content>, usize, bool),
    /// Write a block.
    Write(Block),
    /// Make durable what was written for the torrent of this number.
    Sync(Arc<Content>, usize),
    /// Try whether some of the files that hold these bytes take writes again.
    Try(Arc<Content>, usize, Vec<u64>),
    /// Write a block of metadata.
    Spool(Arc<Spool>, BlockId, Span, &'static mut [u8]),
    /// Hash metadata of so many bytes, and make a torrent file of it if it is right.
    Finish(Arc<Spool>, TorrentId, PieceIndex, u32),
    /// Stand back behind the thread that serves, for good.
    StandBack,
}

impl Task {
    /// The torrent of which it hashes one piece.
    fn verifies(&self) -> Option<TorrentId> {
        match self {
            Task::Verify(_, torrent, _) | Task::VerifyFresh(_, torrent, _) => Some(*torrent),
            _ => None,
        }
    }
}

/// A block that is to be written, or was.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) content: Arc<Content>,
    pub(crate) id: BlockId,
    pub(crate) span: Span,
    pub(crate) bytes: &'static mut [u8],
}

impl Block {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.span.len as usize).unwrap_or(&[])
    }
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Done {
    Warmed(ConnId, Source, u64, Result<(), (TorrentId, Unread)>),
    Verified(TorrentId, PieceIndex, Result<bool, Unread>),
    Checked(usize, Result<Found, ReadError>),
    Looked(usize, Result<Look, ReadError>),
    Wrote(
        BlockId,
        &'static mut [u8],
        Result<(), (TorrentId, Unwritten)>,
    ),
    /// A block of metadata was written.
    Spooled(TorrentId, BlockId, &'static mut [u8], io::Result<()>),
    /// Whether metadata has the right hash.
    Finished(TorrentId, PieceIndex, io::Result<bool>),
    Synced(usize, Result<u64, WriteError>),
    Tried(usize, bool),
}

/// What a check finds: the pieces that are good, and some of those that could not be read.
pub(crate) type Found = (Vec<u8>, Vec<Unread>);

/// Why a block was not written.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) error: WriteError,
    /// The pieces that it concerns, if it is a matter of one file.
    pub(crate) pieces: Option<Range<u32>>,
}

/// How a torrent's files look, without their bytes being read.
#[derive(Debug)]
pub(crate) struct Look {
    /// Of sizes and times of change.
    pub(crate) fingerprint: u64,
    /// Pieces whose files reach far enough; `None` is all.
    pub(crate) present: Option<Vec<u8>>,
}

/// Bytes that a check has behind it, or [`GIVEN_UP`].
pub(crate) type Progress = AtomicU64;

/// Nobody wants to know any more what a check finds out.
pub(crate) const GIVEN_UP: u64 = u64::MAX;

/// The thread, as the engine sees it.
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

#[derive(Debug)]
struct Queues {
    urgent: VecDeque<Task>,
    soon: VecDeque<Task>,
    writes: VecDeque<Block>,
    /// Checks, in the order in which they were asked for.
    jobs: Vec<Job>,
    /// Checks that were asked for.
    asked: u64,
    /// Steps of checks that were done.
    turns: u32,
    /// The torrent whose check has its files open.
    stepped: Option<usize>,
    /// The torrent of which a piece is being hashed for somebody who still wants to know.
    verifying: Option<TorrentId>,
    done: VecDeque<Done>,
    /// Whether files that nobody uses are to be closed.
    close_unused: bool,
    /// The thread waits for a task, and nobody has woken it.
    idle: bool,
    stop: bool,
}

impl Worker {
    /// Starts the thread; `alarm` is rung when something is done.
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
            written: FileCache::new(OPEN_FOR_WRITING),
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

    /// Has files closed that were not used since the last call. Nobody is woken if none are open.
    pub(crate) fn close_unused(&self) {
        if self.has_open_files() {
            self.change(|queues| queues.close_unused = true);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Queues)) {
        let mut queues = self.shared.lock();
        change(&mut queues);
        let idle = std::mem::take(&mut queues.idle);
        drop(queues);
        // A system call that is only worth it if somebody waits.
        if idle {
            self.shared.work.notify_one();
        }
    }

    /// Drops what was queued for a connection that is gone: it would keep others waiting for reads
    /// that nobody needs.
    pub(crate) fn forget(&self, conn: ConnId) {
        self.shared.lock().forget(conn);
    }

    /// No piece of this torrent is reported that was asked for until now: its files have changed, so
    /// what the pieces were found to be says nothing.
    pub(crate) fn forget_pieces(&self, torrent: TorrentId) {
        self.shared.lock().forget_pieces(torrent);
    }

    /// The next outcome, if there is one.
    pub(crate) fn done(&self) -> Option<Done> {
        pop(&mut self.shared.lock().done)
    }
}

impl Drop for Worker {
    /// The thread ends after what it does at the moment; nobody waits for it, as a disk may hang.
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut scratch = Scratch {
            bytes: vec![0; check::CHUNK],
            begun: Vec::with_capacity(BEGUN),
            batch: Vec::with_capacity(BATCH),
        };
        while let Some(work) = self.next() {
            match work {
                Work::Short(task) => self.short(task, &mut scratch),
                Work::CloseUnused => {
                    self.files.close_unused();
                    self.written.close_unused();
                }
                Work::Long(job) => self.step(job, &mut scratch),
            }
        }
    }

    /// Everything but a check.
    fn short(&self, task: Task, scratch: &mut Scratch) {
        match task {
            Task::Warm(content, conn, source, span) => {
                let warmed = self.warm(&content, source, span, &mut scratch.bytes);
                let warmed = warmed.map_err(|(at, error)| {
                    let piece = content.geometry().piece_at(at);
                    let piece = piece.map_or(0, PieceIndex::get);
                    (span.torrent, Unread::judge(&content, piece, error))
                });
                self.tell(Done::Warmed(conn, source, span.offset, warmed));
            }
            Task::Verify(content, torrent, piece) => {
                let mut begun = scratch.take(torrent, piece);
                // What lies in files of the owner's was not written.
                let owners = content.owners_piece(piece);
                if owners.is_some() {
                    begun = Begun::default();
                }
                let bytes = &mut scratch.bytes;
                let good = check::finish_piece(&content, &self.files, piece, begun, bytes);
                let good = match (good, owners) {
                    // Nobody who sent it is to blame.
                    (Ok(false), Some(error)) if content.is_growing() => Err(error),
                    (good, _) => good,
                };
                self.found(&content, torrent, piece, good);
            }
            Task::VerifyFresh(content, torrent, piece) => {
                let geometry = content.geometry();
                let (at, len) = (geometry.piece_offset(piece), geometry.piece_size(piece));
                let good = content.cool(&self.files, at, len.into());
                let bytes = &mut scratch.bytes;
                let good =
                    good.and_then(|()| check::verify_piece(&content, &self.files, piece, bytes));
                self.found(&content, torrent, piece, good);
            }
            Task::Look(content, number, deep) => {
                // A look may find what was moved.
                let looked = look(&content).and_then(|look| match deep {
                    true => fault::probe(&content, 0).map(|()| look),
                    false => Ok(look),
                });
                self.tell(Done::Looked(number, looked));
            }
            Task::Write(block) => self.write(block, scratch),
            Task::Sync(content, number) => {
                let synced = write::sync(&content)
                    .and_then(|()| unfinished::finish(&content).map_err(WriteError::Place))
                    .and_then(|()| check::fingerprint(&content).map_err(WriteError::Place));
                self.tell(Done::Synced(number, synced));
            }
            Task::Try(content, number, offsets) => {
                let writable = |&at: &u64| write::is_writable(&content, at);
                let any = offsets.iter().any(writable);
                self.tell(Done::Tried(number, any));
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
                // On Linux that is this thread alone. Where the CPU is short, hashing then has a quarter of
                // it and peers the rest; the disk heeds it too if its scheduler knows priorities.
                let _ = rustix::process::setpriority_process(None, NICE);
            }
            Task::Check(..) => {}
        }
    }

    fn found(
        &self,
        content: &Content,
        torrent: TorrentId,
        piece: PieceIndex,
        good: Result<bool, ReadError>,
    ) {
        if matches!(good, Ok(true)) && content.completed(piece) {
            content.close_files(&self.written);
        }
        let good = good.and_then(|good| still_there(content, good));
        let good = good.map_err(|error| Unread::judge(content, piece.get(), error));
        self.tell(Done::Verified(torrent, piece, good));
    }

    /// Checks one piece, and tells what was found if it was the last.
    fn step(&self, mut job: Job, scratch: &mut Scratch) {
        let content = &job.content;
        let mut check = job.check.take().unwrap_or_else(|| Check::resume(content));
        let stepped = check.step(content, &mut scratch.bytes);
        let before = job.progress.swap(check.done(), Ordering::Relaxed);
        if before == GIVEN_UP {
            return;
        }
        match stepped {
            Err(error) => return self.tell(Done::Checked(job.number, Err(error))),
            // Each file is named once.
            Ok(Some(fault)) => {
                let known = |u: &Unread| u.error.path() == fault.error.path();
                if job.unread.len() < UNREAD && !job.unread.iter().any(known) {
                    job.unread.push(fault);
                }
            }
            Ok(None) => {}
        }
        if check.left(content) > 0 {
            job.keep(&check);
            job.check = Some(check);
            self.lock().put_back(job);
        } else {
            let go_on =
                &mut || job.progress.load(Ordering::Relaxed) != GIVEN_UP && self.between(scratch);
            let found = check.finish(content, go_on).transpose();
            if let Some(found) = found {
                let found = found.map(|bits| (bits, job.unread));
                self.tell(Done::Checked(job.number, found));
            }
        }
    }

    /// Does what is short in the middle of a search; false when that should be given up.
    fn between(&self, scratch: &mut Scratch) -> bool {
        loop {
            let mut queues = self.lock();
            if queues.stop {
                return false;
            }
            let Some(task) = queues.pop_short() else {
                return true;
            };
            // A block that has to wait for its file is back in the queue, and another turn is due.
            let again = matches!(task, Task::Write(_));
            drop(queues);
            self.short(task, scratch);
            if again {
                return true;
            }
        }
    }

    /// What to do next; `None` when the thread should end.
    fn next(&self) -> Option<Work> {
        let mut queues = self.lock();
        loop {
            if queues.stop {
                return None;
            }
            if let Some(task) = queues.pop_short() {
                return Some(Work::Short(task));
            }
            if std::mem::take(&mut queues.close_unused) {
                return Some(Work::CloseUnused);
            }
            if let Some(job) = queues.pop_job() {
                return Some(Work::Long(job));
            }
            // Many are checked at the start, and few ever after.
            queues.jobs = Vec::new();
            queues.idle = true;
            queues = self
                .work
                .wait(queues)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn tell(&self, done: Done) {
        self.lock().report(done);
        self.alarm.ring();
    }

    fn warm(
        &self,
        content: &Content,
        source: Source,
        span: Span,
        scratch: &mut [u8],
    ) -> Result<(), (u64, ReadError)> {
        match source {
            Source::Content => content.warm(&self.files, span.offset, span.len.into(), scratch),
            Source::Info => {
                let len = scratch.len().min(span.len as usize);
                let read = content.read_info(span.offset, &mut scratch[..len]);
                read.map_err(|error| (0, error))
            }
        }
    }

    /// Writes a block, and those that wait and follow it, with one call.
    fn write(&self, first: Block, scratch: &mut Scratch) {
        let mut batch = std::mem::take(&mut scratch.batch);
        batch.push(first);
        let content = Arc::clone(&batch[0].content);
        // A file that grows for minutes keeps nobody else waiting.
        if !write::lengthen(&content, &self.written, batch[0].span.offset) {
            self.lock().writes.extend(batch.drain(..));
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

    /// Writes blocks that could not be written together: one of them is at fault, or the disk.
    fn write_singly(&self, content: &Content, batch: &mut Vec<Block>, scratch: &mut Scratch) {
        // What was opened may be of a disk that is gone.
        content.close_files(&self.written);
        let mut refused = false;
        for block in batch.drain(..) {
            let at = block.span.offset;
            let written = match refused {
                false => write::write(content, &self.written, at, &[block.bytes()]),
                true => Err(WriteError::Again),
            };
            let written = written.map_err(|error| {
                // A file's fault is no reason not to write others.
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

/// A piece is bad only while at least something can be read: a disk that is gone says nothing.
fn still_there(content: &Content, good: bool) -> Result<bool, ReadError> {
    if !good {
        check::reachable(content)?;
    }
    Ok(good)
}

/// What the thread does next.
enum Work {
    Short(Task),
    /// Close files that nobody uses.
    CloseUnused,
    Long(Job),
}

/// A check, as far as it came.
#[derive(Debug)]
struct Job {
    content: Arc<Content>,
    number: usize,
    progress: Arc<Progress>,
    asked_at: u64,
    /// Begun at its first turn.
    check: Option<Check>,
    /// When it was written down how far it came.
    kept: Instant,
    unread: Vec<Unread>,
}

impl Job {
    /// Writes down how far it came, if that is worth it by now.
    fn keep(&mut self, check: &Check) {
        if self.kept.elapsed() < KEEP {
            return;
        }
        self.kept = Instant::now();
        if let Err(error) = check.keep(&self.content) {
            let name = self.content.name();
            log::debug!("{name}: {error}: how far its check came is not kept");
        }
    }

    fn left(&self) -> u64 {
        // What was given up is out of the way first.
        if self.progress.load(Ordering::Relaxed) == GIVEN_UP {
            return 0;
        }
        match &self.check {
            Some(check) => check.left(&self.content),
            None => self.content.geometry().total(),
        }
    }
}

impl Queues {
    /// As long as they can become, but for tasks that are rare.
    fn new(max_peers: usize, blocks: usize) -> Queues {
        Queues {
            urgent: VecDeque::with_capacity(max_peers),
            soon: VecDeque::with_capacity(SOON),
            writes: VecDeque::with_capacity(blocks),
            jobs: Vec::new(),
            asked: 0,
            turns: 0,
            stepped: None,
            verifying: None,
            done: VecDeque::with_capacity(max_peers + blocks),
            close_unused: false,
            idle: false,
            stop: false,
        }
    }

    fn push(&mut self, task: Task) {
        match task {
            Task::Warm(..) | Task::StandBack => self.urgent.push_back(task),
            Task::Verify(..) | Task::VerifyFresh(..) => self.soon.push_back(task),
            Task::Look(..) | Task::Sync(..) | Task::Try(..) => self.soon.push_back(task),
            Task::Spool(..) | Task::Finish(..) => self.soon.push_back(task),
            Task::Write(block) => self.writes.push_back(block),
            Task::Check(content, number, progress) => {
                self.asked += 1;
                let asked_at = self.asked;
                self.jobs.push(Job {
                    content,
                    number,
                    progress,
                    asked_at,
                    check: None,
                    kept: Instant::now(),
                    unread: Vec::new(),
                });
            }
        }
    }

    /// The next task that is no check.
    fn pop_short(&mut self) -> Option<Task> {
        let task = pop(&mut self.urgent).or_else(|| pop(&mut self.soon));
        let task = task.or_else(|| pop(&mut self.writes).map(Task::Write))?;
        if let Some(torrent) = task.verifies() {
            self.verifying = Some(torrent);
        }
        Some(task)
    }

    /// The check whose turn it is: the one with the least to do, so that what is small need not wait for what is
    /// long, and now and then the oldest, so that it comes to its end however many small ones follow.
    fn pop_job(&mut self) -> Option<Job> {
        self.turns = self.turns.wrapping_add(1);
        let indices = 0..self.jobs.len();
        let at = match self.turns.is_multiple_of(TURN_OF_OLDEST) {
            true => indices.min_by_key(|&at| self.jobs[at].asked_at),
            false => indices.min_by_key(|&at| (self.jobs[at].left(), self.jobs[at].asked_at)),
        };
        let job = self.jobs.swap_remove(at?);
        if self.stepped.replace(job.number) != Some(job.number) {
            // Those that wait keep no files open.
            let checks = self.jobs.iter_mut().filter_map(|job| job.check.as_mut());
            checks.for_each(Check::pause);
        }
        Some(job)
    }

    fn put_back(&mut self, job: Job) {
        self.jobs.push(job);
    }

    fn report(&mut self, done: Done) {
        if let Done::Verified(torrent, ..) = done
            && self.verifying.take() != Some(torrent)
        {
            return;
        }
        self.done.push_back(done);
    }

    /// Adds the blocks that wait and follow the batch without a gap.
    fn neighbours(&mut self, batch: &mut Vec<Block>) {
        while batch.len() < BATCH
            && let (Some(last), Some(next)) = (batch.last(), self.writes.front())
            && next.span.torrent == last.span.torrent
            && next.span.offset == last.span.offset + u64::from(last.span.len)
        {
            batch.extend(self.writes.pop_front());
        }
    }

    fn forget(&mut self, gone: ConnId) {
        self.urgent
            .retain(|task| !matches!(task, Task::Warm(_, conn, ..) if *conn == gone));
    }

    fn forget_pieces(&mut self, of: TorrentId) {
        self.soon.retain(|task| task.verifies() != Some(of));
        self.done
            .retain(|done| !matches!(done, Done::Verified(torrent, ..) if *torrent == of));
        self.verifying = self.verifying.filter(|torrent| *torrent != of);
    }
}

/// The next of a queue, which begins anew in front when it is empty: as a ring it would go through all of its
/// memory, however few there are at a time.
fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let next = queue.pop_front();
    if queue.is_empty() {
        queue.clear();
    }
    next
}

fn look(content: &Content) -> Result<Look, ReadError> {
    let reached = check::reachable(content);
    let mut present = match reached {
        Ok(()) => check::present(content)?,
        Err(_) => None,
    };
    let missing = reached.is_err() || present.is_some();
    if !content.is_growing() && content.is_search_due(missing) {
        let until = Instant::now() + SEARCH;
        find::search(content, None, &mut || Instant::now() < until)?;
        check::reachable(content)?;
        present = check::present(content)?;
    } else {
        reached?;
    }
    Ok(Look {
        fingerprint: check::fingerprint(content)?,
        present,
    })
}

/// A search for files that were moved takes so long at most: others wait for it.
const SEARCH: Duration = Duration::from_secs(5);

/// How much of a check is done again at most after a stop: what is written is a bit for each piece.
const KEEP: Duration = Duration::from_secs(10);

/// Of so many steps of checks one is for the oldest.
const TURN_OF_OLDEST: u32 = 8;

/// Files that cannot be read that a check names.
const UNREAD: usize = 16;

/// Pieces and looks that wait, as a rule.
const SOON: usize = 64;

/// What the thread needs again and again.
struct Scratch {
    bytes: Vec<u8>,
    /// Pieces of which the first blocks were hashed as they were written, the latest last.
    begun: Vec<(TorrentId, PieceIndex, Begun)>,
    batch: Vec<Block>,
}

impl Scratch {
    /// Hashes a block that was written, if those before it in its piece were hashed too.
    fn hash(&mut self, block: &Block) {
        let geometry = block.content.geometry();
        let Some(piece) = geometry.piece_at(block.span.offset) else {
            return;
        };
        let at = block.span.offset - geometry.piece_offset(piece);
        let same = |(torrent, other, _): &&mut (TorrentId, PieceIndex, Begun)| {
            *torrent == block.span.torrent && *other == piece
        };
        let known = self.begun.iter_mut().find(same);
        match known {
            // From its start again: it was bad, or given up.
            Some((_, _, begun)) if at == 0 => *begun = Begun::default(),
            Some((_, _, begun)) if begun.len() == at => {}
            None if at == 0 => {
                if self.begun.len() == BEGUN {
                    self.begun.remove(0);
                }
                self.begun
                    .push((block.span.torrent, piece, Begun::default()));
            }
            _ => return,
        }
        let known = self.begun.iter_mut().find(same);
        if let Some((_, _, begun)) = known {
            begun.update(block.bytes());
        }
    }

    /// What was hashed of a piece.
    fn take(&mut self, torrent: TorrentId, piece: PieceIndex) -> Begun {
        let same = |(t, p, _): &(TorrentId, PieceIndex, Begun)| *t == torrent && *p == piece;
        match self.begun.iter().position(same) {
            Some(index) => self.begun.remove(index).2,
            None => Begun::default(),
        }
    }
}

/// Pieces that are hashed as they are written; of others the bytes are read back.
const BEGUN: usize = 32;

/// Blocks that are written with one call.
const BATCH: usize = 16;

/// Files that are open for writing.
const OPEN_FOR_WRITING: usize = 8;

/// How far the thread stands back: a third of the weight of one that does not.
const NICE: i32 = 5;

/// Enough for reading and hashing, with room to spare.
const STACK: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_disk::{make, read_torrent};

    const T: TorrentId = TorrentId {
        slot: 0,
        tenancy: 0,
    };

    fn conn(slot: u16) -> ConnId {
        ConnId { slot, tenancy: 1 }
    }

    /// The torrent of a small file; the folder is gone afterwards, as nothing here reads it.
    fn content(name: &str) -> Arc<Content> {
        let folder = std::env::temp_dir().join(format!("everseed-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, torrent) = (folder.join("file"), folder.join("torrent"));
        std::fs::write(&file, [7; 100]).unwrap();
        make::make(&file, &torrent, &make::Options::default(), &mut |_| {}).unwrap();
        let metainfo = read_torrent(&torrent).unwrap();
        let content = Content::open_at(&torrent, &metainfo, &file, &folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        Arc::new(content)
    }

    fn warm(content: &Arc<Content>, slot: u16) -> Task {
        let span = Span {
            torrent: T,
            offset: 0,
            len: 1,
        };
        Task::Warm(Arc::clone(content), conn(slot), Source::Content, span)
    }

    #[test]
    fn a_check_keeps_nobody_waiting() {
        let content = content("worker-order");
        let piece = content.geometry().piece(0).unwrap();
        let mut queues = Queues::new(4, 4);
        queues.push(Task::Check(content.clone(), 0, Arc::default()));
        queues.push(Task::Look(content.clone(), 1, false));
        queues.push(Task::Verify(content.clone(), T, piece));
        queues.push(warm(&content, 0));
        queues.push(Task::StandBack);
        assert!(matches!(queues.pop_short(), Some(Task::Warm(..))));
        assert!(matches!(queues.pop_short(), Some(Task::StandBack)));
        assert!(matches!(queues.pop_short(), Some(Task::Look(..))));
        assert!(matches!(queues.pop_short(), Some(Task::Verify(..))));
        assert!(queues.pop_short().is_none());
    }

    /// A torrent of `len` zeros in pieces of 16 KiB, whose file is there.
    fn zeros(folder: &std::path::Path, name: &str, len: usize) -> Arc<Content> {
        let (file, torrent) = (folder.join(name), folder.join(format!("{name}.torrent")));
        std::fs::write(&file, vec![0; len]).unwrap();
        let options = make::Options {
            piece_len: Some(16384),
            ..make::Options::default()
        };
        make::make(&file, &torrent, &options, &mut |_| {}).unwrap();
        let metainfo = read_torrent(&torrent).unwrap();
        Arc::new(Content::open_at(&torrent, &metainfo, &file, folder).unwrap())
    }

    #[test]
    fn a_small_check_does_not_wait_for_a_long_one_nor_a_long_one_for_ever() {
        let folder = std::env::temp_dir().join(format!("everseed-turns-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let long = zeros(&folder, "long", 40 * 16384);
        let small = zeros(&folder, "small", 16384);
        let shared = Shared {
            queues: Mutex::new(Queues::new(4, 4)),
            work: Condvar::new(),
            files: Arc::new(FileCache::new(1)),
            written: FileCache::new(1),
            alarm: Alarm::new().unwrap(),
        };
        let mut scratch = Scratch {
            bytes: vec![0; check::CHUNK],
            begun: Vec::new(),
            batch: Vec::new(),
        };
        shared.lock().push(Task::Check(long, 0, Arc::default()));
        let mut smalls = 0;
        let mut ended = false;
        for step in 0..400 {
            // A small one more at each step: it is done in this step or the next.
            let task = Task::Check(Arc::clone(&small), 1 + step, Arc::default());
            shared.lock().push(task);
            let job = shared.lock().pop_job().unwrap();
            shared.step(job, &mut scratch);
            let done = pop(&mut shared.lock().done);
            if let Some(Done::Checked(number, found)) = done {
                assert!(bits_are_set(&found.unwrap().0), "{number}");
                smalls += usize::from(number > 0);
                ended |= number == 0;
            }
            assert!(
                smalls + 1 + step / TURN_OF_OLDEST as usize >= step,
                "{step}"
            );
        }
        assert!(ended);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    fn bits_are_set(bits: &[u8]) -> bool {
        !bits.is_empty() && bits.iter().all(|&byte| byte == 0xff || byte == 0x80)
    }

    #[test]
    fn who_is_gone_needs_no_reads() {
        let content = content("worker-gone");
        let mut queues = Queues::new(4, 4);
        for slot in [1, 2, 1] {
            queues.push(warm(&content, slot));
        }
        queues.forget(conn(1));
        assert!(matches!(queues.pop_short(), Some(Task::Warm(_, id, ..)) if id == conn(2)));
        assert!(queues.pop_short().is_none());
    }

    #[test]
    fn what_was_found_before_a_change_is_not_told() {
        let content = content("worker-change");
        let piece = content.geometry().piece(0).unwrap();
        let other = TorrentId { slot: 1, ..T };
        let mut queues = Queues::new(4, 4);
        let ask = |queues: &mut Queues, of| queues.push(Task::Verify(content.clone(), of, piece));
        // One is found and not told yet, one is being hashed, one waits.
        for _ in 0..3 {
            ask(&mut queues, T);
        }
        queues.pop_short();
        queues.report(Done::Verified(T, piece, Ok(true)));
        queues.pop_short();
        queues.forget_pieces(other);
        assert_eq!((queues.done.len(), queues.soon.len()), (1, 1));
        queues.forget_pieces(T);
        queues.report(Done::Verified(T, piece, Ok(true)));
        assert!(queues.done.is_empty() && queues.pop_short().is_none());
        ask(&mut queues, T);
        queues.pop_short();
        queues.report(Done::Verified(T, piece, Ok(true)));
        assert_eq!(queues.done.len(), 1);
    }
}
