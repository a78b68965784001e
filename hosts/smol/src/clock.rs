//! The engine's time: microseconds since the daemon started, by the monotonic clock; and the time of
//! day, for the few that want it.

use std::time::{Duration, SystemTime};

use everseed_core::time::Instant;
use rustix::time::{ClockId, clock_gettime};

/// Reads the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    /// A clock that starts now.
    pub(crate) fn new() -> Clock {
        Clock(std::time::Instant::now())
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Instant {
        let us = self.0.elapsed().as_micros();
        Instant::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }
}

/// The time of the system's monotonic clock, by which other processes tell what came before.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let (s, ns) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(s.unwrap_or(0), ns.unwrap_or(0))
}

/// The time of day as times of files are given.
pub(crate) fn file_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + time_of_day()
}

/// The time of day, since 1970. Not from std, which panics after January 2038 on machines of
/// 32 bits where the C library is musl; a clock without a battery may well say so.
pub(crate) fn time_of_day() -> Duration {
    let now = clock_gettime(ClockId::Realtime);
    let (s, ns) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    // Before 1970 is a clock that was never set.
    Duration::new(s.unwrap_or(0), ns.unwrap_or(0))
}
