//! The alarm by which other threads wake the thread that drives the peers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd that is written once, however often the alarm is rung before somebody looks.
#[derive(Debug)]
pub(crate) struct Alarm {
    fd: OwnedFd,
    rung: AtomicBool,
}

impl Alarm {
    /// An alarm that was not rung yet.
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

    /// Lets the alarm ring again. Call it before looking at what it was rung for. The descriptor is watched for
    /// edges, so nothing need be read from it.
    pub(crate) fn silence(&self) {
        self.rung.swap(false, Ordering::AcqRel);
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
