//! The state that the reactor's thread and the session share.
//!
//! Invariant: nobody who holds the reactor waits for anything, least of all a disk or a reader of the log.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant as Moment};

use super::reactor::Reactor;
use crate::alarm::Alarm;
use crate::net::epoll::Waiter;
use crate::printing::Busy;

/// The state of the module's description.
pub(super) struct Shared {
    pub(super) reactor: Mutex<Reactor>,
    /// Held by whoever waits for the reactor, so that its thread cannot take the reactor again and again before them.
    pub(super) next: Mutex<()>,
    /// Rung when the reactor has something to do.
    pub(super) alarm: Arc<Alarm>,
    /// Rung when there are reports for the session.
    pub(super) bell: Arc<Alarm>,
    pub(super) ends: AtomicBool,
    pub(super) failed: Mutex<Option<io::Error>>,
}

impl Shared {
    /// Reads something from the reactor.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Reactor) -> T) -> T {
        question(&self.lock())
    }

    /// Changes the reactor, and has its thread carry out the consequences.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Reactor) -> T) -> T {
        let answer = {
            let mut reactor = self.lock();
            reactor.busy = true;
            change(&mut reactor)
        };
        self.alarm.ring();
        answer
    }

    /// Makes a change that may be none, which `change` returns.
    pub(super) fn perhaps_change(&self, change: impl FnOnce(&mut Reactor) -> bool) {
        let mut reactor = self.lock();
        if change(&mut reactor) {
            reactor.busy = true;
            drop(reactor);
            self.alarm.ring();
        }
    }

    pub(super) fn lock(&self) -> HeldReactor<'_> {
        let _next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let reactor = self.reactor.lock().unwrap_or_else(PoisonError::into_inner);
        HeldReactor {
            reactor,
            _busy: Busy::begin(),
        }
    }

    /// The thread's loop.
    pub(super) fn serve(&self, mut waiter: Waiter) {
        let (_end, _busy) = (EndsAll, Busy::begin());
        let (mut patience, mut told) = (Some(Duration::ZERO), Moment::now());
        // The end is looked for between the turn, which silences the alarm, and the next wait. If the turn silenced the ring
        // that came with the end, the end is seen here; otherwise that ring ends the wait.
        while !self.ends.load(Ordering::Acquire) {
            let ready = match waiter.wait(patience) {
                Ok(ready) => ready,
                Err(error) => {
                    let failed = self.failed.lock();
                    *failed.unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return self.bell.ring();
                }
            };
            let mut reactor = self.lock();
            reactor.turn(&waiter, ready);
            patience = reactor.patience();
            let news = reactor.has_news();
            drop(reactor);
            // While there is traffic the session is woken now and then.
            if news || ready > 0 && told.elapsed() >= OFTEN {
                told = Moment::now();
                self.bell.ring();
            }
        }
    }
}

/// The locked reactor. Lines that are logged meanwhile are written after it is free.
pub(super) struct HeldReactor<'a> {
    reactor: MutexGuard<'a, Reactor>,
    /// The last field, because fields are dropped in their order.
    _busy: Busy,
}

impl Deref for HeldReactor<'_> {
    type Target = Reactor;

    fn deref(&self) -> &Reactor {
        &self.reactor
    }
}

impl DerefMut for HeldReactor<'_> {
    fn deref_mut(&mut self) -> &mut Reactor {
        &mut self.reactor
    }
}

/// Ends the process if the thread panics, because nobody would be served any more.
struct EndsAll;

impl Drop for EndsAll {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// The interval at which the session is woken while there is traffic.
const OFTEN: Duration = Duration::from_secs(1);
