//! The loader opens and makes torrents on threads of its own, because hashing a disk may take hours.
//!
//! Each [`Lane`] has threads of its own. So opening waits neither for hashing nor for a server, and a torrent that a
//! peer waits for comes first. Four servers are asked at a time, as each may take long to answer. Hashing is
//! interleaved: in the middle of a long item, an item shorter than the rest of it is made. A thread ends when nothing is
//! left to do.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use everseed_disk::make::{self};

use super::fetch;
use super::index::{is_link, is_torrent, names_torrent};
use super::load::{
    LoadContext, LoadOutcome, LoadRequest, LoadResult, Purpose, Ticket, is_in_doubt, is_there,
    load, open, opener,
};
use super::notice::Notices;
use super::opener::is_given;
use super::trouble::Trouble;
use super::watch::settle_mark;
use crate::alarm::Alarm;
use crate::options::run::Item;
use crate::storage::dormant::Mark;
use crate::storage::state::StateFolder;

/// The outcome of a request.
pub(super) struct Loaded {
    pub(super) ticket: Ticket,
    /// The built-in tracker's URL at the time of the request.
    pub(super) own_tracker: String,
    /// The number of descriptions added in this run when it was begun.
    pub(super) described: u64,
    /// Whether it is a torrent file whose content could not be determined.
    pub(super) in_doubt: bool,
    /// The item's mark, if it is [`Trouble::Bad`].
    pub(super) bad: Option<Mark>,
    /// The mark of the magnet link's file as it was read.
    pub(super) link: Option<Mark>,
    pub(super) result: LoadResult,
}

/// The loader's threads, as the session and the threads themselves see them.
#[derive(Clone)]
pub(super) struct Loader {
    state: Arc<StateFolder>,
    alarm: Arc<Alarm>,
    notices: Notices,
    shared: Arc<Mutex<Shared>>,
    /// Held while a download begins. The same torrent may be named twice, and its files are made once.
    begins: Arc<Mutex<()>>,
}

#[derive(Default)]
struct Shared {
    lanes: [Lane; LANES],
    loaded: VecDeque<Loaded>,
    last_ticket: Ticket,
}

/// A lane: its requests are carried out one after the other. One lane opens, one fetches from servers, one hashes.
#[derive(Default)]
struct Lane {
    requests: VecDeque<Queued>,
    /// The number of its threads.
    running: usize,
    /// The number of interrupted requests that wait for a shorter one.
    depth: usize,
}

struct Queued {
    ticket: Ticket,
    request: LoadRequest,
    /// Bytes to hash for it, once they were counted.
    total: Option<u64>,
}

/// The interval of looks for a shorter request.
const LOOK: Duration = Duration::from_millis(100);

/// The most interrupted requests, each waiting for a shorter one.
const DEEPEST: usize = 4;

const LANES: usize = 3;
const OPENED: usize = 0;
const FETCHED: usize = 1;
const HASHED: usize = 2;

/// The most threads of each lane.
const THREADS: [usize; LANES] = [1, 4, 1];

impl Loader {
    pub(super) fn new(state: Arc<StateFolder>, alarm: Arc<Alarm>, notices: Notices) -> Loader {
        Loader {
            state,
            alarm,
            notices,
            shared: Arc::default(),
            begins: Arc::default(),
        }
    }

    /// Queues a request. Returns its ticket.
    pub(super) fn ask(&self, request: LoadRequest) -> Ticket {
        let lane = match &request.item {
            _ if matches!(request.purpose, Purpose::Probe | Purpose::Renew(_)) => OPENED,
            _ if request.is_wake_up() => OPENED,
            Item {
                fetch: Some(_),
                path,
                ..
            } if fetch::is_remote(path) => FETCHED,
            Item { fetch: Some(_), .. } => OPENED,
            Item { path, .. } if is_torrent(path) => OPENED,
            Item { path, .. } if is_link(path) => FETCHED,
            _ => HASHED,
        };
        let ticket = {
            let mut shared = lock(&self.shared);
            shared.last_ticket = shared.last_ticket.next();
            shared.last_ticket
        };
        self.queue(lane, ticket, request);
        ticket
    }

    /// The next outcome, if there is one.
    pub(super) fn next(&self) -> Option<Loaded> {
        lock(&self.shared).loaded.pop_front()
    }

    fn queue(&self, at: usize, ticket: Ticket, request: LoadRequest) {
        let lane = &mut lock(&self.shared).lanes[at];
        let first = at == OPENED && request.is_wake_up();
        let total = None;
        let queued = Queued {
            ticket,
            request,
            total,
        };
        match first {
            true => {
                let wake_ups = lane.requests.iter();
                let behind = wake_ups.take_while(|q| q.request.is_wake_up()).count();
                lane.requests.insert(behind, queued);
            }
            false => lane.requests.push_back(queued),
        }
        if lane.running >= THREADS[at] {
            return;
        }
        let theirs = self.clone();
        let work = move || theirs.work(at);
        let started = thread::Builder::new().name("load".into()).spawn(work);
        match started {
            Ok(_) => lane.running += 1,
            // The next request tries again.
            Err(error) => log::error!("no thread to open torrents: {error}"),
        }
    }

    fn work(&self, at: usize) {
        loop {
            let Queued {
                ticket, request, ..
            } = {
                let lane = &mut lock(&self.shared).lanes[at];
                let Some(queued) = lane.requests.pop_front() else {
                    lane.running -= 1;
                    return;
                };
                queued
            };
            let Item { path, fetch, .. } = &request.item;
            if at == OPENED && !request.is_probe() && fetch.is_none() && !is_given(path) {
                // A folder with the name of a torrent file, or a sleeping item that has to be made anew.
                let known = match request.purpose {
                    Purpose::Wake(mark) => self.is_still_known(&request, mark),
                    _ => false,
                };
                if !known {
                    self.queue(HASHED, ticket, request);
                    continue;
                }
            }
            self.carry_out(ticket, request);
        }
    }

    fn carry_out(&self, ticket: Ticket, request: LoadRequest) {
        let loaded = self.load(ticket, request);
        lock(&self.shared).loaded.push_back(loaded);
        self.alarm.ring();
    }

    /// Whether a sleeping item can be opened without hashing, or need not be opened at all.
    fn is_still_known(&self, request: &LoadRequest, before: Mark) -> bool {
        let path = &request.item.path;
        Some(before) != settle_mark(path, || false)
            || is_there(&request.item, &self.state).is_err()
            || self.with(|loading| opener(loading, request, None).known(path).is_some())
    }

    /// Called in the middle of hashing, with `left` bytes still to hash: makes a shorter waiting item, if that is
    /// due. Afterwards the long one goes on for at least an eighth of the time that took.
    fn between(&self, left: u64, next: &Cell<Instant>) {
        let begin = Instant::now();
        if begin < next.get() {
            return;
        }
        next.set(begin + LOOK);
        let Some(Queued {
            ticket, request, ..
        }) = self.shorter(left)
        else {
            return;
        };
        self.carry_out(ticket, request);
        lock(&self.shared).lanes[HASHED].depth -= 1;
        let now = Instant::now();
        next.set(now + (now - begin) / 8);
    }

    /// The shortest item that waits to be hashed, if it is shorter than `left`.
    fn shorter(&self, left: u64) -> Option<Queued> {
        loop {
            let unknown = {
                let mut shared = lock(&self.shared);
                let lane = &mut shared.lanes[HASHED];
                if lane.depth == DEEPEST {
                    return None;
                }
                let unknown = lane.requests.iter().find(|queued| queued.total.is_none());
                match unknown {
                    Some(queued) => {
                        let request = &queued.request;
                        let options = request.settings.make.clone();
                        (queued.ticket, request.item.path.clone(), options)
                    }
                    None => {
                        let totals = lane.requests.iter().enumerate();
                        let shortest = totals.min_by_key(|(_, queued)| queued.total)?;
                        let (at, Queued { total, .. }) = shortest;
                        if total.is_none_or(|total| total >= left) {
                            return None;
                        }
                        lane.depth += 1;
                        return lane.requests.remove(at);
                    }
                }
            };
            // The lock is not held while a disk is read.
            let (ticket, path, options) = unknown;
            let total = make::total(&path, &options).unwrap_or(u64::MAX);
            let lane = &mut lock(&self.shared).lanes[HASHED];
            let known = lane.requests.iter_mut().find(|q| q.ticket == ticket);
            if let Some(queued) = known {
                queued.total = Some(total);
            }
        }
    }

    /// Calls `load` with what it takes to open an item.
    fn with<T>(&self, with: impl FnOnce(&LoadContext<'_>) -> T) -> T {
        with(&LoadContext {
            state: &self.state,
            notices: &self.notices,
            begins: &self.begins,
            between: &|left, next| self.between(left, next),
        })
    }

    /// Opens an item at once; on a thread, because the main thread would keep the stack that this takes.
    pub(super) fn open_now(&self, request: &LoadRequest) -> LoadOutcome {
        let open = || self.with(|loading| open(loading, request));
        let opened = thread::scope(|scope| {
            let thread = thread::Builder::new().name("load".into());
            thread.spawn_scoped(scope, open).map(|opened| opened.join())
        });
        match opened {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => open(),
        }
    }

    fn load(&self, ticket: Ticket, request: LoadRequest) -> Loaded {
        let described = self.state.described().added();
        let path = &request.item.path;
        let mark = names_torrent(path)
            .then(|| settle_mark(path, || false))
            .flatten();
        let result = self.with(|loading| load(loading, &request, mark));
        let is_bad = matches!(result, LoadResult::Opened(Err(Trouble::Bad(_))));
        Loaded {
            ticket,
            described,
            in_doubt: self.with(|loading| is_in_doubt(loading, &request, &result)),
            link: mark.filter(|_| is_link(path)),
            bad: mark.filter(|_| is_bad),
            own_tracker: request.settings.own_tracker,
            result,
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
