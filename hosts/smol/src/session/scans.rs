//! The scans of the watched folders: which one is running, and what the last one left for the next.

use std::time::{Duration, Instant};

/// The scans of a session.
#[derive(Default)]
pub(super) struct Scans {
    /// The number of the present set of watched folders; it changes with them.
    set: u64,
    running: Option<RunningScan>,
    /// The number of scans begun, and of those whose report has arrived.
    begun: u64,
    reported: u64,
    /// Whether the folders hold more than was added so far.
    pub(super) more: bool,
    /// The logged reason why no more is added.
    pub(super) full: String,
}

struct RunningScan {
    since: Instant,
    /// Whether it was logged that it takes long.
    is_logged: bool,
    /// Whether the folders held more before it.
    more_before: bool,
}

impl Scans {
    /// The present set of watched folders.
    pub(super) fn set(&self) -> u64 {
        self.set
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The number of scans begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// The number of scans whose report has arrived.
    pub(super) fn reported(&self) -> u64 {
        self.reported
    }

    /// A scan begins.
    pub(super) fn begin(&mut self, more_before: bool) {
        self.begun += 1;
        self.running = Some(RunningScan {
            since: Instant::now(),
            is_logged: false,
            more_before,
        });
    }

    /// The scan of this set of folders has ended. Returns whether they held more before it; `None` if the set has changed
    /// since.
    pub(super) fn end(&mut self, set: u64) -> Option<bool> {
        if set != self.set {
            return None;
        }
        self.reported = self.begun;
        Some(self.running.take()?.more_before)
    }

    /// The set of watched folders has changed: a scan that is running no longer counts.
    pub(super) fn begin_anew(&mut self) {
        self.set += 1;
        self.running = None;
    }

    /// Logs once that the scan that is running takes long.
    pub(super) fn say_if_long(&mut self) {
        if let Some(scan) = &mut self.running
            && scan.since.elapsed() >= LONG
            && !std::mem::replace(&mut scan.is_logged, true)
        {
            log::warn!(
                "the watched folders are being looked at for {} s: one of their disks may not answer; what is \
                 new is not seen until it does",
                LONG.as_secs()
            );
        }
    }
}

/// The duration of a scan after which it is logged.
const LONG: Duration = Duration::from_secs(120);
