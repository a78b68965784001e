//! The protocols by which a router is asked to forward a port to us: PCP, NAT-PMP and UPnP.
//!
//! | module | what it is | source |
//! |---|---|---|
//! | [`pcp`] | packets of the Port Control Protocol | RFC 6887 |
//! | [`natpmp`] | packets of NAT-PMP, which PCP replaced | RFC 6886 |
//! | [`ssdp`] | the search for a UPnP router | UPnP Device Architecture, section 1 |
//! | [`upnp`] | the description of a UPnP router, and the calls to it | UPnP WANIPConnection 1 and 2, WANIPv6FirewallControl 1 |
//!
//! Anybody in the same network can forge an answer, so its bytes are not trusted.
//! The `port_mapper` of the node decides when to ask, and which answers to believe.

pub mod natpmp;
pub mod pcp;
pub mod ssdp;
pub mod upnp;
mod xml;

use core::time::Duration;

use crate::time::Instant;

/// The port of a router for PCP and NAT-PMP.
pub const ROUTER_PORT: u16 = 5351;

/// The transport protocol of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// The protocol by which peers call.
    Tcp,
    /// The protocol of the DHT and of uTP.
    Udp,
}

impl Transport {
    /// The number of the protocol in IP.
    pub const fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    /// The name of the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        }
    }
}

/// The age of a router's table of forwarded ports, from the router's last answer.
///
/// A restarted router forwards nothing any more. The age in its answers shows that it was restarted (RFC 6887, section
/// 8.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch {
    router_s: u32,
    at: Instant,
}

impl Epoch {
    /// The age of `router_s` seconds that a router says `now`.
    pub const fn new(router_s: u32, now: Instant) -> Epoch {
        Epoch { router_s, at: now }
    }

    /// Whether a router lost its table between the answers `self` and `next`.
    pub fn is_lost_by(self, next: Epoch) -> bool {
        let (before, after) = (u64::from(self.router_s), u64::from(next.router_s));
        if after.saturating_add(1) < before {
            return true;
        }
        let router = after.saturating_sub(before);
        let ours = next.at.since(self.at).as_secs();
        let slack = |s: u64| s.saturating_sub(s / 16);
        ours.saturating_add(2) < slack(router) || router.saturating_add(2) < slack(ours)
    }
}

/// How long the router is asked to forward a port, in seconds.
pub const LEASE_S: u32 = 3600;

/// [`LEASE_S`] as a [`Duration`].
pub const LEASE: Duration = Duration::from_secs(LEASE_S as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_that_began_anew() {
        for (before, after, lost) in [
            ((100, 0), (2800, 2700), false),
            ((100, 0), (100, 0), false),
            // A second late or early, and a clock that is a little wrong.
            ((100, 0), (99, 0), false),
            ((100, 0), (2700, 2700), false),
            ((100, 0), (10, 2700), true),
            ((100, 0), (97, 0), true),
            // The age grew, but by less than the time that passed.
            ((100, 0), (500, 2700), true),
            ((100, 0), (9000, 10), true),
            ((u32::MAX, 0), (0, 10), true),
            ((0, 0), (u32::MAX, u64::from(u32::MAX)), false),
        ] {
            let epoch = |(s, at)| Epoch::new(s, Instant::from_secs(at));
            assert_eq!(
                epoch(before).is_lost_by(epoch(after)),
                lost,
                "{before:?} {after:?}"
            );
        }
    }
}
