//! The worker's queues, and the order of its tasks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use everseed_core::geometry::TorrentId;
use everseed_disk::Content;
use everseed_disk::check::{Check, OpenFiles};
use everseed_disk::fault::Unread;
use everseed_disk::relocate::Relocation;
use everseed_node::ConnId;

use super::task::{Block, Done, GIVEN_UP, Progress, Task, TorrentNumber};

#[derive(Debug)]
pub(super) struct Queues {
    pub(super) urgent: VecDeque<Task>,
    pub(super) soon: VecDeque<Task>,
    pub(super) writes: VecDeque<Block>,
    /// Checks and moves, in the order in which they were requested.
    pub(super) jobs: Vec<Job>,
    /// The number of checks requested so far.
    pub(super) asked: u64,
    /// The number of steps of checks done so far.
    pub(super) turns: u32,
    /// The number of writes since the last step of a job.
    pub(super) written: u32,
    /// The torrent whose check has its files open.
    pub(super) stepped: Option<TorrentNumber>,
    /// The torrent of which a piece is being hashed; `None` if the result is no longer wanted.
    pub(super) verifying: Option<TorrentId>,
    /// What waits to be synced, with its disk, and the disks that a thread is at.
    pub(super) syncs: Vec<(Option<u64>, Syncing)>,
    pub(super) syncing: Vec<Option<u64>>,
    pub(super) done: VecDeque<Done>,
    /// Contents of dropped tasks, each once.
    pub(super) gone: Vec<Arc<Content>>,
    /// The buffer that the serving thread returned.
    pub(super) returned: Option<Vec<u8>>,
    /// Whether unused files are to be closed.
    pub(super) close_unused: bool,
    /// Whether forgotten files are to be closed.
    pub(super) close_forgotten: bool,
    /// The thread waits for a task and was not notified yet.
    pub(super) idle: bool,
    pub(super) stop: bool,
}

/// Work that is done in steps.
#[derive(Debug)]
pub(super) enum Long {
    /// A check; it begins at its first step.
    Check(Option<Box<Check>>),
    /// A move to another folder.
    Relocate(Box<Relocation>),
}

/// A check or a move, and its progress.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) content: Arc<Content>,
    pub(super) number: TorrentNumber,
    pub(super) progress: Arc<Progress>,
    pub(super) asked_at: u64,
    pub(super) work: Long,
    pub(super) begun: Instant,
    /// When it was last written down how far it came.
    pub(super) kept: Instant,
    pub(super) unread: Vec<Unread>,
}

/// What is synced by a thread of its own.
#[derive(Debug)]
pub(super) enum Syncing {
    /// What there is of a download, with the number of its torrent.
    Part(Arc<Content>, TorrentNumber),
    /// A download that is complete, with the number of its torrent.
    Download(Arc<Content>, TorrentNumber),
    /// A copy of a download on another disk.
    Copy(Job, Box<Relocation>),
}

impl Syncing {
    /// The device of its disk; `None` for all copies, as it is not known where they go.
    pub(super) fn disk(&self) -> Option<u64> {
        match self {
            Syncing::Part(content, _) | Syncing::Download(content, _) => content.device(),
            Syncing::Copy(..) => None,
        }
    }
}

impl Job {
    /// Saves the check's progress, if enough was done since the last time: after a stop, at most an eighth of a check is
    /// done again. The `keeper` is one thread for all checks, as it may wait for a disk.
    pub(super) fn keep(&mut self, check: &Check, keeper: &mut Option<JoinHandle<()>>) {
        let now = Instant::now();
        let pause = ((now - self.begun) / 8).clamp(FIRST_KEPT, LAST_KEPT);
        let busy = keeper.as_ref().is_some_and(|keeper| !keeper.is_finished());
        if busy || now - self.kept < pause {
            return;
        }
        self.kept = now;
        let Some(checkpoint) = check.checkpoint() else {
            return;
        };
        let content = Arc::clone(&self.content);
        let keep = move || {
            if let Err(error) = checkpoint.save(&content) {
                let name = content.name();
                log::debug!("{name}: {error}: the progress of its check is not saved");
            }
        };
        let thread = thread::Builder::new().name("keep".into());
        *keeper = thread.stack_size(STACK).spawn(keep).ok();
    }

    pub(super) fn left(&self) -> u64 {
        // Jobs that were given up come first, to be removed.
        if self.progress.load(Ordering::Relaxed) == GIVEN_UP {
            return 0;
        }
        match &self.work {
            Long::Check(Some(check)) => check.left(&self.content),
            Long::Check(None) => self.content.geometry().total(),
            Long::Relocate(relocation) => relocation.left(&self.content),
        }
    }
}

impl Queues {
    /// Queues with their full capacity, apart from rare tasks.
    pub(super) fn new(max_peers: usize, blocks: usize) -> Queues {
        Queues {
            urgent: VecDeque::with_capacity(max_peers),
            soon: VecDeque::with_capacity(SOON),
            writes: VecDeque::with_capacity(blocks),
            jobs: Vec::new(),
            asked: 0,
            turns: 0,
            written: 0,
            stepped: None,
            verifying: None,
            syncs: Vec::new(),
            syncing: Vec::new(),
            done: VecDeque::with_capacity(max_peers + blocks),
            gone: Vec::new(),
            returned: None,
            close_unused: false,
            close_forgotten: false,
            idle: false,
            stop: false,
        }
    }

    pub(super) fn push(&mut self, task: Task) {
        match task {
            Task::Warm(..) | Task::StandBack => self.urgent.push_back(task),
            Task::Verify(..) | Task::VerifyFresh(..) => self.soon.push_back(task),
            Task::Look(..) | Task::Try(..) => self.soon.push_back(task),
            Task::Sync(..) | Task::Settle(..) => self.soon.push_back(task),
            Task::Spool(..) | Task::Finish(..) => self.soon.push_back(task),
            Task::Write(block) => self.writes.push_back(block),
            Task::Check(content, number, progress) => {
                self.push_long(content, number, progress, Long::Check(None));
            }
            Task::Relocate(content, number, progress, relocation) => {
                self.push_long(content, number, progress, Long::Relocate(relocation));
            }
        }
    }

    fn push_long(
        &mut self,
        content: Arc<Content>,
        number: TorrentNumber,
        progress: Arc<Progress>,
        work: Long,
    ) {
        self.asked += 1;
        self.jobs.push(Job {
            content,
            number,
            progress,
            asked_at: self.asked,
            work,
            begun: Instant::now(),
            kept: Instant::now(),
            unread: Vec::new(),
        });
    }

    /// What is synced next of this disk. If that is nothing, its thread has to end.
    pub(super) fn next_sync(&mut self, disk: Option<u64>) -> Option<Syncing> {
        let at = self.syncs.iter().position(|(on, _)| *on == disk);
        let next = at.filter(|_| !self.stop);
        let next = next.map(|at| self.syncs.remove(at).1);
        if next.is_none() {
            self.syncing.retain(|other| *other != disk);
        }
        next
    }

    /// The next task that is not a job.
    pub(super) fn pop_short(&mut self) -> Option<Task> {
        let task = pop(&mut self.urgent).or_else(|| pop(&mut self.soon));
        let task = task.or_else(|| pop(&mut self.writes).map(Task::Write))?;
        if let Task::Write(_) = task {
            self.written = self.written.saturating_add(1);
        }
        if let Some(torrent) = task.verifies() {
            self.verifying = Some(torrent);
        }
        Some(task)
    }

    /// Whether a step of a job comes before the next write, so that a download that never pauses, or whose file grows for
    /// minutes, does not keep others from being checked.
    pub(super) fn owes_step(&self) -> bool {
        self.written >= WRITES_IN_A_ROW && self.urgent.is_empty() && !self.jobs.is_empty()
    }

    /// Puts blocks back whose file is not long enough yet. Others come first.
    pub(super) fn put_off(&mut self, blocks: impl Iterator<Item = Block>) {
        self.writes.extend(blocks);
        self.written = WRITES_IN_A_ROW;
    }

    /// The job whose turn it is. Usually that is the shortest one, so that small ones need not wait for long ones. Now
    /// and then it is the oldest, so that it ends however many small ones follow. With it come the open files of the
    /// job before, which waits: they are closed when the queues are unlocked.
    pub(super) fn pop_job(&mut self) -> Option<(Job, Vec<OpenFiles>)> {
        self.turns = self.turns.wrapping_add(1);
        self.written = 0;
        let indices = 0..self.jobs.len();
        let at = match self.turns.is_multiple_of(TURN_OF_OLDEST) {
            true => indices.min_by_key(|&at| self.jobs[at].asked_at),
            false => indices.min_by_key(|&at| (self.jobs[at].left(), self.jobs[at].asked_at)),
        };
        let job = self.jobs.swap_remove(at?);
        let mut open = Vec::new();
        if self.stepped.replace(job.number) != Some(job.number) {
            for job in &mut self.jobs {
                if let Long::Check(Some(check)) = &mut job.work {
                    open.extend(check.pause());
                }
            }
        }
        Some((job, open))
    }

    pub(super) fn put_back(&mut self, job: Job) {
        self.jobs.push(job);
    }

    pub(super) fn report(&mut self, done: Done) {
        if let Done::Verified(torrent, ..) = done
            && self.verifying.take() != Some(torrent)
        {
            return;
        }
        self.done.push_back(done);
    }

    /// Adds the queued blocks that follow the batch without a gap.
    pub(super) fn neighbours(&mut self, batch: &mut Vec<Block>) {
        while batch.len() < BATCH
            && let (Some(last), Some(next)) = (batch.last(), self.writes.front())
            && next.span.torrent == last.span.torrent
            && next.span.offset == last.span.offset + u64::from(last.span.len)
        {
            batch.extend(self.writes.pop_front());
        }
    }

    pub(super) fn forget(&mut self, gone: ConnId) {
        let gone = |task: &mut Task| matches!(task, Task::Warm(_, conn, ..) if *conn == gone);
        let gone = drop_tasks(&mut self.urgent, gone);
        self.let_go_of(gone);
    }

    /// Leaves dropping these contents to the worker, because whoever drops a content last closes its files.
    fn let_go_of(&mut self, contents: Vec<Arc<Content>>) {
        for content in contents {
            if !self.gone.iter().any(|known| Arc::ptr_eq(known, &content)) {
                self.gone.push(content);
            }
        }
    }

    pub(super) fn forget_pieces(&mut self, of: TorrentId) {
        let gone = drop_tasks(&mut self.soon, |task| task.verifies() == Some(of));
        self.let_go_of(gone);
        self.done
            .retain(|done| !matches!(done, Done::Verified(torrent, ..) if *torrent == of));
        self.verifying = self.verifying.filter(|torrent| *torrent != of);
    }
}

/// Drops the tasks that match and returns their contents.
fn drop_tasks(queue: &mut VecDeque<Task>, gone: impl Fn(&mut Task) -> bool) -> Vec<Arc<Content>> {
    let mut contents = Vec::new();
    queue.retain_mut(|task| {
        if !gone(task) {
            return true;
        }
        if let Task::Warm(content, ..)
        | Task::Verify(content, ..)
        | Task::VerifyFresh(content, ..) = task
        {
            contents.push(Arc::clone(content));
        }
        false
    });
    contents
}

/// Takes the first entry of a queue. An empty queue begins again at its start; as a ring it would go through all of
/// its memory, however few entries it holds.
pub(super) fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let next = queue.pop_front();
    if queue.is_empty() {
        queue.clear();
    }
    next
}

/// How long after its begin it is written down first how far a check came, and how long at most after the last time:
/// two bits for each piece are written, and 8 KiB at most of marks.
const FIRST_KEPT: Duration = Duration::from_secs(1);
const LAST_KEPT: Duration = Duration::from_secs(60);

/// The usual number of pieces and looks that wait.
const SOON: usize = 64;

/// One in this many steps is the oldest job's.
pub(super) const TURN_OF_OLDEST: u32 = 8;

/// The most writes between two steps of jobs.
pub(super) const WRITES_IN_A_ROW: u32 = 64;

/// The most blocks that one call writes.
pub(super) const BATCH: usize = 16;

/// Stack of the thread in bytes, enough for reading and hashing.
pub(super) const STACK: usize = 256 * 1024;
