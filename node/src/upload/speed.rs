//! [`Speed`]: how fast blocks go out.

use core::time::Duration;

use everseed_core::time::Instant;

/// The rate at which blocks go out, over the last seconds in which any did.
///
/// Invariant: `sent` bytes went out since `begun`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speed {
    pub(super) bps: u64,
    begun: Instant,
    last: Instant,
    sent: u64,
}

impl Speed {
    pub(crate) const UNKNOWN: Speed = Speed {
        bps: 0,
        begun: Instant::ZERO,
        last: Instant::ZERO,
        sent: 0,
    };

    /// Notes that bytes went out; answers whether the rate was settled anew, which is once a second.
    pub(super) fn add(&mut self, now: Instant, bytes: u64) -> bool {
        // Nobody asked for a while, of which nothing can be learned.
        if now - self.last >= WINDOW {
            (self.begun, self.sent) = (now, 0);
        }
        (self.last, self.sent) = (now, self.sent.saturating_add(bytes));
        let window = now - self.begun;
        if window < WINDOW {
            return false;
        }
        let us = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        let latest = self.sent.saturating_mul(1_000_000) / us.max(1);
        // What fills a new peer's socket is not on its way yet, so that one second alone may tell too much.
        self.bps = match self.bps {
            0 => latest,
            before => before / 2 + latest / 2,
        };
        (self.begun, self.sent) = (now, 0);
        true
    }
}

/// The time over which the rate is settled.
const WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let ms = |ms: u64| Instant::from_micros(ms * 1000);
        let mut speed = Speed::UNKNOWN;
        let mut send = |from: u64, to: u64, bytes_per_ms: u64| {
            for at in from..to {
                speed.add(ms(at), bytes_per_ms);
            }
            speed.bps
        };
        // Before a second is over nothing is known.
        assert_eq!(send(5_000, 5_900, 1000), 0);
        let about = |bps: u64, expected: u64| bps.abs_diff(expected) < expected / 50;
        assert!(about(send(5_900, 8_000, 1000), 1_000_000));
        // Nothing was asked for in a minute, which says nothing.
        assert!(about(send(68_000, 68_500, 1000), 1_000_000));
        assert!(about(send(68_500, 90_000, 100), 100_000));
    }
}
