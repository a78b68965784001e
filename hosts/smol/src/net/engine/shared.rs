//! What the reactor's thread and the session have in common.
//!
//! Invariant: nobody waits for anything while he holds the reactor, above all for no disk.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant as Moment};

use super::reactor::Reactor;
use crate::alarm::Alarm;
use crate::net::epoll::Waiter;

/// See the module.
pub(super) struct Shared {
    pub(super) reactor: Mutex<Reactor>,
    /// Held while the reactor is waited for, so that its thread does not take it again and again before somebody who
    /// waits.
    pub(super) next: Mutex<()>,
    /// Rung when the reactor has something to do.
    pub(super) alarm: Arc<Alarm>,
    /// Rung when there is news.
    pub(super) bell: Arc<Alarm>,
    pub(super) ends: AtomicBool,
    pub(super) failed: Mutex<Option<io::Error>>,
}

impl Shared {
    /// Asks the reactor something.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Reactor) -> T) -> T {
        question(&self.lock())
    }

    /// Has the reactor do something, and carry out what follows from it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Reactor) -> T) -> T {
        let answer = {
            let mut reactor = self.lock();
            reactor.busy = true;
            change(&mut reactor)
        };
        self.alarm.ring();
        answer
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Reactor> {
        let _next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        self.reactor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does.
    pub(super) fn serve(&self, mut waiter: Waiter) {
        let _end = EndsAll;
        let (mut patience, mut told) = (Some(Duration::ZERO), Moment::now());
        loop {
            let ready = waiter.wait(patience);
            if self.ends.load(Ordering::Acquire) {
                return;
            }
            let ready = match ready {
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
            // While something moves the session looks at it now and then.
            if news || ready > 0 && told.elapsed() >= OFTEN {
                told = Moment::now();
                self.bell.ring();
            }
        }
    }
}

/// If the thread panics nobody is served any more, and the process ends.
struct EndsAll;

impl Drop for EndsAll {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// How often the session is told while something moves that there may be something to look after.
const OFTEN: Duration = Duration::from_secs(1);
