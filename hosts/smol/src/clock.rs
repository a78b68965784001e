//! The engine's time: microseconds of the monotonic clock since the daemon started. Also the time of day, which few
//! parts need.

use std::time::{Duration, SystemTime};

use everseed_core::time::Instant;
use rustix::time::{ClockId, clock_gettime};

/// The engine's clock.
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

/// The system's monotonic clock, which all processes share.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let (s, ns) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(s.unwrap_or(0), ns.unwrap_or(0))
}

/// The time of day, in the type of file times.
pub(crate) fn file_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + time_of_day()
}

/// The time of day since 1970. std's clock panics after January 2038 on 32-bit machines with musl, and a clock
/// without a battery may show such a date.
pub(crate) fn time_of_day() -> Duration {
    let now = clock_gettime(ClockId::Realtime);
    let (s, ns) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    // A time before 1970 means that the clock was never set.
    Duration::new(s.unwrap_or(0), ns.unwrap_or(0))
}
