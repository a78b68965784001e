//! [`Lease`]: a port that a router forwards or should forward.

use core::time::Duration;

use everseed_core::portmap::{LEASE, Transport};
use everseed_core::time::Instant;

/// See the module. Invariant: while `until` is set, the router forwards `external`.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) transport: Transport,
    /// Our port.
    pub(super) internal: u16,
    /// The public port: the one that is forwarded, or the one that we want.
    pub(super) external: u16,
    /// The time until which the router forwards it.
    pub(super) until: Option<Instant>,
    /// The time of the next request.
    pub(super) ask_at: Instant,
}

/// The lease for TCP, and the one for UDP if that is wanted.
pub(super) type Leases = heapless::Vec<Lease, 2>;

impl Lease {
    pub(super) fn all(now: Instant, tcp: u16, udp: Option<u16>) -> Leases {
        let lease = |transport, internal| Lease {
            transport,
            internal,
            external: internal,
            until: None,
            ask_at: now,
        };
        let udp = udp.map(|port| lease(Transport::Udp, port));
        core::iter::once(lease(Transport::Tcp, tcp))
            .chain(udp)
            .collect()
    }

    /// The router forwards the port for this long.
    pub(super) fn grant(&mut self, now: Instant, external: u16, lifetime: Duration) {
        let lifetime = lifetime.clamp(SHORTEST, LONGEST);
        self.external = external;
        self.until = Some(now + lifetime);
        self.ask_at = now + lifetime / 4 * 3;
    }

    /// The router forwards the port without an end. It is asked again anyway, because a restarted router has forgotten
    /// it.
    pub(super) fn grant_for_ever(&mut self, now: Instant, external: u16) {
        self.external = external;
        self.until = Some(NEVER);
        self.ask_at = now + LEASE / 4 * 3;
    }

    /// Notes that the lease has ended.
    pub(super) fn expire(&mut self, now: Instant) {
        self.until = self.until.filter(|until| *until > now);
    }

    /// Sets the next request after one without an answer: after half of the time that is left. If none is left,
    /// after `pause`.
    pub(super) fn wait(&mut self, now: Instant, pause: Duration) {
        let left = self.until.map(|until| until.since(now) / 2);
        self.ask_at = now + left.map_or(pause, |left| left.clamp(SHORTEST_WAIT, pause));
    }
}

/// The pause after this many failed rounds: a minute, then twice as
/// long each time, two hours at most.
pub(super) fn pause(rounds: u32) -> Duration {
    (FIRST_PAUSE * 2u32.saturating_pow(rounds.saturating_sub(1).min(7))).min(LONGEST_PAUSE)
}

pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(60);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(7200);

/// The shortest lease: a router that grants only seconds is not asked all the time.
const SHORTEST: Duration = Duration::from_secs(120);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The least time between two requests for a port.
const SHORTEST_WAIT: Duration = Duration::from_secs(60);

/// A time that never comes.
pub(super) const NEVER: Instant = Instant::from_micros(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_secs(1000);

    fn after(seconds: u64) -> Instant {
        NOW + Duration::from_secs(seconds)
    }

    fn lease() -> Lease {
        Lease::all(NOW, 6881, None).remove(0)
    }

    #[test]
    fn it_is_asked_for_again_in_time() {
        // The lifetime that the router grants, the end of the lease, and the next request.
        for (granted, until, ask) in [
            (3600, 3600, 2700),
            (10, 120, 90),
            (1_000_000, 86_400, 64_800),
        ] {
            let mut lease = lease();
            lease.grant(NOW, 7000, Duration::from_secs(granted));
            let is = (lease.external, lease.until, lease.ask_at);
            assert_eq!(is, (7000, Some(after(until)), after(ask)), "{granted} s");
            lease.expire(after(until - 1));
            assert!(lease.until.is_some());
            lease.expire(after(until));
            assert!(lease.until.is_none());
        }
        let mut lease = lease();
        lease.grant_for_ever(NOW, 7000);
        lease.expire(after(1_000_000));
        assert_eq!((lease.until, lease.ask_at), (Some(NEVER), after(2700)));
    }

    #[test]
    fn a_router_that_is_silent_is_left_alone() {
        // Seconds until the lease ends, the pause, and the next request.
        for (left, pause, ask) in [
            (None, 300, 300),
            (Some(400), 300, 200),
            (Some(4000), 300, 300),
            (Some(10), 300, 60),
        ] {
            let mut lease = lease();
            lease.until = left.map(after);
            lease.wait(NOW, Duration::from_secs(pause));
            assert_eq!(lease.ask_at, after(ask), "{left:?} {pause}");
        }
        for (rounds, seconds) in [
            (0, 60),
            (1, 60),
            (2, 120),
            (3, 240),
            (8, 7200),
            (u32::MAX, 7200),
        ] {
            assert_eq!(
                pause(rounds),
                Duration::from_secs(seconds),
                "{rounds} rounds"
            );
        }
    }
}
