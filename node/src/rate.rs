//! [`Bucket`]: the token bucket of a rate limit, one for uploads and one for downloads. Reading it does not change it.

use core::time::Duration;

use everseed_core::time::Instant;

/// A token bucket.
///
/// Invariant: `level <= burst` at `filled_at`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate_bps: Option<u64>,
    level: u64,
    filled_at: Instant,
}

impl Bucket {
    /// A bucket for `rate_bps` bytes per second, full; `None` is no limit.
    pub(crate) fn new(rate_bps: Option<u64>) -> Bucket {
        let mut bucket = Bucket {
            rate_bps: rate_bps.map(|rate| rate.min(MAX_RATE)),
            level: 0,
            filled_at: Instant::ZERO,
        };
        bucket.level = bucket.burst();
        bucket
    }

    /// Goes on at another rate, with what there is, as far as that has room.
    pub(crate) fn set_rate(&mut self, now: Instant, rate_bps: Option<u64>) {
        let level = self.level(now);
        *self = Bucket::new(rate_bps);
        self.level = level.min(self.level);
        self.filled_at = now;
    }

    /// Bytes that may be sent, or asked for, at `now`.
    pub(crate) fn level(&self, now: Instant) -> u64 {
        let Some(rate_bps) = self.rate_bps else {
            return u64::MAX;
        };
        // Where the product saturates, what is left of it is still more than any burst.
        let idle = now.since(self.filled_at);
        let us = u64::try_from(idle.as_micros()).unwrap_or(0);
        let fresh = us.saturating_mul(rate_bps) / 1_000_000;
        self.level.saturating_add(fresh).min(self.burst())
    }

    /// Takes the `bytes` that were sent or requested at `now`.
    pub(crate) fn take(&mut self, now: Instant, bytes: u64) {
        if self.rate_bps.is_some() {
            self.level = self.level(now).saturating_sub(bytes);
            self.filled_at = now;
        }
    }

    /// When the level was last settled.
    pub(crate) fn filled_at(&self) -> Instant {
        self.filled_at
    }

    /// When [`QUANTUM`] bytes may be sent again, no earlier than `now`; `None` without a limit.
    pub(crate) fn ready_at(&self, now: Instant) -> Option<Instant> {
        let rate_bps = self.rate_bps?.max(1);
        let missing = QUANTUM.saturating_sub(self.level(now));
        let us = missing.saturating_mul(1_000_000).div_ceil(rate_bps);
        Some(now + Duration::from_micros(us))
    }

    /// Bytes of an eighth of a second, at least two blocks. With less, time would be lost while the host sends the first.
    fn burst(&self) -> u64 {
        self.rate_bps
            .map_or(u64::MAX, |rate| (rate / 8).max(2 * QUANTUM))
    }
}

/// The least for which it is worth waking up: one block.
pub(crate) const QUANTUM: u64 = 16 * 1024;

/// Rates above 1 TB/s are no limit to anything.
const MAX_RATE: u64 = 1_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_rate() {
        let second = |s: u64| Instant::from_micros(s * 1_000_000);
        let mut bucket = Bucket::new(Some(100_000));
        bucket.take(second(0), bucket.level(second(0)));
        bucket.set_rate(second(0), Some(1_000_000));
        assert_eq!(bucket.level(second(0)), 0);
        assert_eq!(bucket.level(second(1)), 125_000);
        bucket.set_rate(second(1), Some(100_000));
        assert_eq!(bucket.level(second(1)), 2 * QUANTUM);
        bucket.set_rate(second(1), None);
        assert_eq!(bucket.level(second(1)), u64::MAX);
        bucket.set_rate(second(2), Some(8_000_000));
        assert_eq!(bucket.level(second(2)), 1_000_000);
    }

    #[test]
    fn sends_at_its_rate() {
        let mut bucket = Bucket::new(Some(100_000));
        let mut sent = 0;
        for ms in 0..10_000 {
            let now = Instant::from_micros(ms * 1000);
            let n = bucket.level(now);
            if n >= QUANTUM {
                bucket.take(now, n);
                sent += n;
            }
        }
        assert!((1_000_000..1_040_000).contains(&sent), "{sent}");
    }

    #[test]
    fn says_when_to_come_back() {
        let mut bucket = Bucket::new(Some(16 * 1024));
        let now = Instant::from_secs(5);
        assert_eq!(bucket.ready_at(now), Some(now));
        bucket.take(now, 2 * QUANTUM);
        assert_eq!(bucket.level(now), 0);
        let ready = bucket.ready_at(now).unwrap();
        assert_eq!(ready, now + Duration::from_secs(1));
        assert_eq!(bucket.level(ready), QUANTUM);
    }

    /// At one byte per second a block takes hours; its time must come all the same, or the host
    /// would wake up for it again and again.
    #[test]
    fn the_slowest_rate_comes_back_too() {
        for rate_bps in [1, 3, 999, MAX_RATE, u64::MAX] {
            let mut bucket = Bucket::new(Some(rate_bps));
            let now = Instant::from_secs(5);
            bucket.take(now, bucket.level(now));
            let ready = bucket.ready_at(now).unwrap();
            assert!(bucket.level(ready) >= QUANTUM, "{rate_bps}");
            let end = Instant::from_micros(u64::MAX);
            assert_eq!(bucket.level(end), bucket.burst(), "{rate_bps}");
        }
    }

    #[test]
    fn without_a_limit() {
        let mut bucket = Bucket::new(None);
        bucket.take(Instant::ZERO, u64::MAX);
        assert_eq!(bucket.level(Instant::ZERO), u64::MAX);
        assert_eq!(bucket.ready_at(Instant::ZERO), None);
    }
}
