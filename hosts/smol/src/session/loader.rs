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
    LoadOutcome, LoadRequest, Loading, is_in_doubt, is_there, open, open_any, opener, renew,
};
use super::notice::Notices;
use super::opener::{Renewed, is_given};
use super::trouble::Trouble;
use super::watch::settle_mark;
use crate::alarm::Alarm;
use crate::options::run::Item;
use crate::storage::dormant::Mark;
use crate::storage::state::StateFolder;

/// The outcome of a request.
pub(super) struct Loaded {
    pub(super) ticket: u64,
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
    /// The new contents, if the file was overwritten with the same torrent.
    pub(super) renewed: Option<Renewed>,
    /// `None` if only a known torrent was requested and it is not known, or if it is `renewed`.
    pub(super) outcome: Option<LoadOutcome>,
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
}

/// A lane: its requests are carried out one after the other. One lane opens, one fetches from servers, one hashes.
#[derive(Default)]
struct Lane {
    orders: VecDeque<Queued>,
    /// The number of its threads.
    running: usize,
    /// The number of interrupted requests that wait for a shorter one.
    depth: usize,
}

struct Queued {
    order: LoadRequest,
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

    /// Queues a request.
    pub(super) fn ask(&self, order: LoadRequest) {
        let lane = match &order.item {
            _ if order.known || order.running.is_some() || order.is_wake_up() => OPENED,
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
        self.queue(lane, order);
    }

    /// The next outcome, if there is one.
    pub(super) fn next(&self) -> Option<Loaded> {
        lock(&self.shared).loaded.pop_front()
    }

    fn queue(&self, at: usize, order: LoadRequest) {
        let lane = &mut lock(&self.shared).lanes[at];
        let first = at == OPENED && order.is_wake_up();
        let queued = Queued { order, total: None };
        match first {
            true => {
                let wake_ups = lane.orders.iter();
                let behind = wake_ups.take_while(|q| q.order.is_wake_up()).count();
                lane.orders.insert(behind, queued);
            }
            false => lane.orders.push_back(queued),
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
            let order = {
                let lane = &mut lock(&self.shared).lanes[at];
                let Some(queued) = lane.orders.pop_front() else {
                    lane.running -= 1;
                    return;
                };
                queued.order
            };
            let Item { path, fetch, .. } = &order.item;
            if at == OPENED && !order.known && fetch.is_none() && !is_given(path) {
                // A folder with the name of a torrent file, or a sleeping item that has to be made anew.
                if !order.is_wake_up() || !self.is_still_known(&order) {
                    self.queue(HASHED, order);
                    continue;
                }
            }
            self.carry_out(order);
        }
    }

    fn carry_out(&self, order: LoadRequest) {
        let loaded = self.load(order);
        lock(&self.shared).loaded.push_back(loaded);
        self.alarm.ring();
    }

    /// Whether a sleeping item can be opened without hashing, or need not be opened at all.
    fn is_still_known(&self, order: &LoadRequest) -> bool {
        let path = &order.item.path;
        order.mark != settle_mark(path, || false)
            || is_there(&order.item, &self.state).is_err()
            || self.with(|loading| opener(loading, order, None).known(path).is_some())
    }

    /// Called in the middle of hashing, with `left` bytes still to hash: makes a shorter waiting item, if that is
    /// due. Afterwards the long one goes on for at least an eighth of the time that took.
    fn between(&self, left: u64, next: &Cell<Instant>) {
        let begin = Instant::now();
        if begin < next.get() {
            return;
        }
        next.set(begin + LOOK);
        let Some(order) = self.shorter(left) else {
            return;
        };
        self.carry_out(order);
        lock(&self.shared).lanes[HASHED].depth -= 1;
        let now = Instant::now();
        next.set(now + (now - begin) / 8);
    }

    /// The shortest item that waits to be hashed, if it is shorter than `left`.
    fn shorter(&self, left: u64) -> Option<LoadRequest> {
        loop {
            let unknown = {
                let mut shared = lock(&self.shared);
                let lane = &mut shared.lanes[HASHED];
                if lane.depth == DEEPEST {
                    return None;
                }
                let unknown = lane.orders.iter().find(|queued| queued.total.is_none());
                match unknown {
                    Some(queued) => {
                        let order = &queued.order;
                        (order.ticket, order.item.path.clone(), order.make.clone())
                    }
                    None => {
                        let totals = lane.orders.iter().enumerate();
                        let shortest = totals.min_by_key(|(_, queued)| queued.total)?;
                        let (at, Queued { total, .. }) = shortest;
                        if total.is_none_or(|total| total >= left) {
                            return None;
                        }
                        lane.depth += 1;
                        return lane.orders.remove(at).map(|queued| queued.order);
                    }
                }
            };
            // The lock is not held while a disk is read.
            let (ticket, path, options) = unknown;
            let total = make::total(&path, &options).unwrap_or(u64::MAX);
            let lane = &mut lock(&self.shared).lanes[HASHED];
            let known = lane.orders.iter_mut().find(|q| q.order.ticket == ticket);
            if let Some(queued) = known {
                queued.total = Some(total);
            }
        }
    }

    /// Calls `load` with what it takes to open an item.
    fn with<T>(&self, load: impl FnOnce(&Loading<'_>) -> T) -> T {
        load(&Loading {
            state: &self.state,
            notices: &self.notices,
            begins: &self.begins,
            between: &|left, next| self.between(left, next),
        })
    }

    /// Opens an item at once.
    pub(super) fn open_now(&self, order: &LoadRequest) -> LoadOutcome {
        self.with(|loading| open_any(loading, order))
    }

    fn load(&self, order: LoadRequest) -> Loaded {
        let state = &*self.state;
        let described = state.described().added();
        let path = &order.item.path;
        let bad = names_torrent(path)
            .then(|| settle_mark(path, || false))
            .flatten();
        let mut renewed = None;
        let outcome = match order.bad.is_some() && order.bad == bad {
            // The earlier message about it still holds.
            true => Some(Err(Trouble::Bad(String::new()))),
            false => self.with(|loading| match renew(loading, &order) {
                Ok(None) => open(loading, &order),
                Ok(same) => {
                    renewed = same;
                    None
                }
                Err(trouble) => Some(Err(trouble)),
            }),
        };
        Loaded {
            ticket: order.ticket,
            described,
            in_doubt: self.with(|loading| is_in_doubt(loading, &order, outcome.as_ref())),
            link: bad.filter(|_| is_link(path)),
            bad: bad.filter(|_| matches!(outcome, Some(Err(Trouble::Bad(_))))),
            own_tracker: order.own_tracker,
            renewed,
            outcome,
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
