//! [`Reach`] finds out whether strangers can reach us, and so whether others may keep us in their tables (BEP 43).
//!
//! A node that cannot be reached says so in its queries (`ro`), and nobody wastes a packet on it. But nobody ever calls
//! a node that says so, and a DHT of a few new nodes would never grow. So a node does not say so at first. It is
//! reachable when somebody calls to whom it has not sent for two minutes, or when the host says so. If nobody calls
//! within [`TRIAL`], it sets `ro`, but for another trial every [`TRIAL_EVERY`].

use core::time::Duration;

use everseed_core::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Reach {
    since: Instant,
    reachable: bool,
}

impl Reach {
    pub(crate) const fn new(now: Instant) -> Reach {
        Reach {
            since: now,
            reachable: false,
        }
    }

    /// A stranger called, or the host knows that one could.
    pub(crate) fn reached(&mut self) {
        self.reachable = true;
    }

    pub(crate) fn is_known(&self) -> bool {
        self.reachable
    }

    /// Whether our queries say that we only read.
    pub(crate) fn only_reads(&self, now: Instant) -> bool {
        let into = (now - self.since).as_secs() % TRIAL_EVERY.as_secs();
        !self.reachable && into >= TRIAL.as_secs()
    }
}

/// For so long strangers may show that they can reach us.
pub(crate) const TRIAL: Duration = Duration::from_secs(600);

/// And again after this time.
pub(crate) const TRIAL_EVERY: Duration = Duration::from_secs(2 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials() {
        let start = Instant::from_secs(100);
        for (secs, only_reads) in [
            (0, false),
            (599, false),
            (600, true),
            (7199, true),
            (7200, false),
            (7900, true),
        ] {
            let now = start + Duration::from_secs(secs);
            let mut reach = Reach::new(start);
            assert_eq!(reach.only_reads(now), only_reads, "{secs}");
            reach.reached();
            assert!(!reach.only_reads(now) && reach.is_known());
        }
    }
}
