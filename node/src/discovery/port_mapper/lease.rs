//! A port that a router forwards, or is to forward.

use core::time::Duration;

use everseed_core::portmap::{LEASE, Transport};
use everseed_core::time::Instant;

/// See the module. Invariant: while `until` is set, the router forwards `external`.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) transport: Transport,
    /// Our port.
    pub(super) internal: u16,
    /// The port outside: which it is, or which we would like.
    pub(super) external: u16,
    /// Until when the router forwards it.
    pub(super) until: Option<Instant>,
    /// When the router is asked next.
    pub(super) ask_at: Instant,
}

/// TCP first, which counts; UDP as well if that is wanted.
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

    /// The router forwards the port for so long.
    pub(super) fn grant(&mut self, now: Instant, external: u16, lifetime: Duration) {
        let lifetime = lifetime.clamp(SHORTEST, LONGEST);
        self.external = external;
        self.until = Some(now + lifetime);
        self.ask_at = now + lifetime / 4 * 3;
    }

    /// The same until it is told otherwise. It is asked all the same: it forgets when it is restarted.
    pub(super) fn grant_for_ever(&mut self, now: Instant, external: u16) {
        self.external = external;
        self.until = Some(NEVER);
        self.ask_at = now + LEASE / 4 * 3;
    }

    /// Notes that the time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.until = self.until.filter(|until| *until > now);
    }

    /// How long it is left alone if the router said nothing when it was asked: until half of the time that is left
    /// has passed, and if none is left as long as `pause`.
    pub(super) fn wait(&mut self, now: Instant, pause: Duration) {
        let left = self.until.map(|until| until.since(now) / 2);
        self.ask_at = now + left.map_or(pause, |left| left.clamp(SHORTEST_WAIT, pause));
    }
}

/// How long a router is left alone after so many rounds of questions that came to nothing: a minute, then twice as
/// long each time, two hours at most.
pub(super) fn pause(rounds: u32) -> Duration {
    (FIRST_PAUSE * 2u32.saturating_pow(rounds.saturating_sub(1).min(7))).min(LONGEST_PAUSE)
}

pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(60);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(7200);

/// How long a lease is, whatever a router says: one that grants seconds is not asked all the time.
const SHORTEST: Duration = Duration::from_secs(120);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A port is asked for no sooner again than this.
const SHORTEST_WAIT: Duration = Duration::from_secs(60);

/// The end of time.
pub(super) const NEVER: Instant = Instant::from_micros(u64::MAX);
