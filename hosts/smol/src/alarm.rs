//! How other threads wake the one that drives the peers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd that is written once, however often it is rung before somebody looks.
#[derive(Debug)]
pub(crate) struct Alarm {
    fd: OwnedFd,
    rung: AtomicBool,
}

impl Alarm {
    /// An alarm that nobody has rung.
    pub(crate) fn new() -> io::Result<Arc<Alarm>> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Alarm {
            fd,
            rung: AtomicBool::new(false),
        }))
    }

    /// Makes the descriptor readable.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // It can only fail when the counter is full, and then it is readable anyway.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor quiet; to be called before looking at what the alarm was rung for.
    pub(crate) fn silence(&self) {
        if self.rung.load(Ordering::Acquire) {
            // In this order: who rings in between is seen by the look that follows, and who rings
            // later writes anew.
            let _ = rustix::io::read(&self.fd, &mut [0; 8]);
            self.rung.store(false, Ordering::Release);
        }
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Alarm>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Alarm>) {
        self.ring();
    }
}
