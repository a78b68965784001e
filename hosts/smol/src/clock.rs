//! The engine's time: microseconds since the daemon started, by the monotonic clock.

use everseed_core::time::Instant;

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
