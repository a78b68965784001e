//! Opens and makes torrents for a service beside the thread that serves, as hashing a disk takes hours.
//!
//! The thread ends when there is nothing left to do.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::fetch::{self, Download};
use super::sources::{Source, Sources};
use crate::alarm::Alarm;
use crate::cli::run::Item;
use crate::state::State;

/// What is to be opened.
#[derive(Debug)]
pub(super) struct Order {
    /// Given back with the outcome.
    pub(super) ticket: u64,
    pub(super) item: Item,
    pub(super) trackers: Vec<String>,
    pub(super) own_tracker: String,
}

/// What became of it.
pub(super) struct Loaded {
    pub(super) ticket: u64,
    pub(super) outcome: Result<(Source, Option<Download>), String>,
}

/// The thread, as the service sees it.
pub(super) struct Loader {
    state: Arc<State>,
    alarm: Arc<Alarm>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    orders: VecDeque<Order>,
    loaded: VecDeque<Loaded>,
    running: bool,
}

impl Loader {
    pub(super) fn new(state: Arc<State>, alarm: Arc<Alarm>) -> Loader {
        Loader {
            state,
            alarm,
            shared: Arc::default(),
        }
    }

    /// Has something opened.
    pub(super) fn ask(&self, order: Order) {
        let mut shared = lock(&self.shared);
        shared.orders.push_back(order);
        if shared.running {
            return;
        }
        let (state, alarm) = (Arc::clone(&self.state), Arc::clone(&self.alarm));
        let theirs = Arc::clone(&self.shared);
        let work = move || work(&state, &alarm, &theirs);
        let started = thread::Builder::new().name("load".into()).spawn(work);
        match started {
            Ok(_) => shared.running = true,
            // The next order tries again.
            Err(error) => log::error!("no thread to open torrents: {error}"),
        }
    }

    /// The next outcome, if there is one.
    pub(super) fn next(&self) -> Option<Loaded> {
        lock(&self.shared).loaded.pop_front()
    }
}

fn work(state: &State, alarm: &Alarm, shared: &Mutex<Shared>) {
    loop {
        let order = {
            let mut shared = lock(shared);
            let Some(order) = shared.orders.pop_front() else {
                shared.running = false;
                return;
            };
            order
        };
        let outcome = open(state, &order);
        let ticket = order.ticket;
        lock(shared).loaded.push_back(Loaded { ticket, outcome });
        alarm.ring();
    }
}

fn open(state: &State, order: &Order) -> Result<(Source, Option<Download>), String> {
    let Item { path, data, fetch } = &order.item;
    let (path, data): (PathBuf, Option<&Path>) = match fetch {
        Some(fetch) => {
            let kept = fetch::torrent(state, path).map_err(|(text, _)| text)?;
            (kept, Some(&fetch.out))
        }
        None => (path.clone(), data.as_deref()),
    };
    let sources = Sources {
        state,
        data,
        trackers: &order.trackers,
        own_tracker: &order.own_tracker,
    };
    let source = sources.open(&path)?;
    let download = match fetch {
        Some(fetch) => {
            let mut plan = fetch::plan(&source.content, fetch).map_err(|(text, _)| text)?;
            // It may be a disk that is not mounted.
            plan.make_out = false;
            Some(plan)
        }
        None => None,
    };
    Ok((source, download))
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
