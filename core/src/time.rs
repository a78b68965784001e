//! Time as the engine sees it: microseconds since an epoch that the host chooses.
//!
//! There is no clock here. A host reads its monotonic clock and passes the result in; a simulator
//! passes whatever it likes.

use core::ops::{Add, Sub};
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment: microseconds since the host's epoch. It never goes backwards within one run.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash, Serialize, Deserialize,
)]
pub struct Instant(u64);

impl Instant {
    /// The host's epoch.
    pub const ZERO: Instant = Instant(0);

    /// The moment `us` microseconds after the epoch.
    pub const fn from_micros(us: u64) -> Instant {
        Instant(us)
    }

    /// The moment `s` seconds after the epoch.
    pub const fn from_secs(s: u64) -> Instant {
        Instant(s.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time since `earlier`, or zero if that is in the future.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at the end of time, some 584,000 years after the epoch.
    fn add(self, after: Duration) -> Instant {
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(us))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let t = Instant::from_secs(2);
        assert_eq!((t + Duration::from_millis(1)).as_micros(), 2_001_000);
        assert_eq!(t - Instant::from_secs(3), Duration::ZERO);
        assert_eq!(t - Instant::from_secs(1), Duration::from_secs(1));
        let end = Instant::from_micros(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(t + Duration::MAX, end);
    }
}
