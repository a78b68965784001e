//! The port mapper asks a router to forward our port, or to let callers in, by PCP, NAT-PMP or UPnP.
//!
//! A [`PortMapper`] is a function of time and packets like the rest of the engine. It asks the router of one family: in
//! IPv4 for a port at its address, in IPv6 for a pinhole in its firewall.
//!
//! - The router is asked by PCP first, then by NAT-PMP. Meanwhile a UPnP router is searched for. It is asked for a port
//!   if there is no answer by the others within 0.1 s. The first protocol that works is used from then on.
//! - A port is asked for an hour, and again after three quarters of it; or at once, if the router's epoch shows
//!   that it was restarted.
//! - A silent router gets 9 packets of PCP and NAT-PMP in 11 s, and 6 of SSDP in 6 s. This is done
//!   again after a minute, then after twice as long each time, up to two hours.
//!
//! A host makes a port mapper for each router in its routing table, and a new one when the router or our address
//! changes.

mod gateway;
mod igd;
mod lease;
mod router;
#[cfg(test)]
mod tests;

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::portmap::{ROUTER_PORT, pcp, upnp};
use everseed_core::rng::Rng;
use everseed_core::time::Instant;

pub use self::gateway::{Gateway, Protocol, Refusal};
use self::igd::Igd;
use self::lease::{Lease, NEVER};
use self::router::Router;

/// The state of the port mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// There is no answer yet.
    Asking,
    /// The port is forwarded.
    Mapped {
        /// The protocol that worked.
        by: Protocol,
        /// The public address, with the port of TCP.
        outside: SocketAddr,
        /// The public port of UDP, if that is forwarded too.
        udp: Option<u16>,
    },
    /// The router refuses.
    Refused(Protocol, Refusal),
    /// The router does not answer.
    Silent,
}

/// See the module.
///
/// After each packet and answer, and at the deadline, call the three poll functions until each returns `None`, and send
/// what they return: see [`deadline`](Self::deadline). Then read the [`standing`](Self::standing). Pass answers to
/// [`router_said`](Self::router_said), [`search_answered`](Self::search_answered) and [`called`](Self::called).
#[derive(Clone, Debug)]
pub struct PortMapper {
    gateway: Gateway,
    router: Router,
    igd: Igd,
    /// The time from which UPnP may be used.
    upnp_at: Instant,
    /// Whether the port was forwarded at the last look.
    was_mapped: bool,
    stopping: bool,
}

impl PortMapper {
    /// A port mapper that begins at once. `tcp` and `udp` are the ports that we listen on. Nobody may guess `seed`.
    pub fn new(
        now: Instant,
        gateway: Gateway,
        tcp: u16,
        udp: Option<u16>,
        seed: u64,
    ) -> PortMapper {
        let mut rng = Rng::new(seed);
        let leases = Lease::all(now, tcp, udp);
        PortMapper {
            gateway,
            router: Router::new(now, gateway.client, leases.clone(), &mut rng),
            igd: Igd::new(now, gateway, leases, rng),
            upnp_at: now + HEAD_START,
            was_mapped: false,
            stopping: false,
        }
    }

    /// The router's address for PCP and NAT-PMP.
    pub fn router(&self) -> SocketAddr {
        self.gateway.at(ROUTER_PORT)
    }

    /// The next packet to [`router`](Self::router), if one is due: its length in `packet`, which has room for
    /// [`PACKET_MAX`] bytes.
    pub fn poll_router(&mut self, now: Instant, packet: &mut [u8]) -> Option<usize> {
        if self.igd.is_mapped() {
            return None;
        }
        let len = self.router.poll(now, packet);
        self.begin_if_lost(now);
        len
    }

    /// Takes a packet from [`router`](Self::router). Packets of others must not be passed.
    pub fn router_said(&mut self, now: Instant, packet: &[u8]) {
        if !self.igd.is_mapped() {
            self.router.received(now, packet);
            self.begin_if_lost(now);
        }
    }

    /// Notes that [`router`](Self::router) has the port closed.
    pub fn router_is_deaf(&mut self, now: Instant) {
        if !self.router.is_mapped() {
            self.router.give_up(now, None, None);
        }
    }

    /// The next packet to search for a UPnP router: its destination, and its length in `packet`, as above.
    pub fn poll_search(&mut self, now: Instant, packet: &mut [u8]) -> Option<(SocketAddr, usize)> {
        match self.router.is_mapped() {
            true => None,
            false => self.igd.poll_search(now, packet),
        }
    }

    /// Whether a search waits for answers.
    pub fn is_searching(&self) -> bool {
        !self.router.is_mapped() && self.igd.is_searching()
    }

    /// Takes a packet that came to the socket from which searches are sent.
    pub fn search_answered(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        self.igd.search_answered(now, from, packet);
    }

    /// The next HTTP request: its destination, and its length in `request`, which has room for [`REQUEST_MAX`] bytes.
    /// One is made at a time; its answer goes to [`called`](Self::called).
    pub fn poll_call(&mut self, now: Instant, request: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let call = match self.router.is_mapped() {
            true => None,
            false => self
                .igd
                .poll_call(now, now >= self.may_map_at(now), request),
        };
        self.begin_if_lost(now);
        call
    }

    /// Takes the status and the body of an HTTP answer, or `None` if there was none or it could not be read.
    pub fn called(&mut self, now: Instant, answer: Option<(u16, &[u8])>) {
        self.igd.called(now, answer);
        self.begin_if_lost(now);
    }

    /// The time to poll again.
    pub fn deadline(&self, now: Instant) -> Instant {
        let upnp = match self.router.is_mapped() {
            true => NEVER,
            false => self.igd.deadline(self.may_map_at(now)),
        };
        let router = match self.igd.is_mapped() {
            true => NEVER,
            false => self.router.deadline(),
        };
        upnp.min(router)
    }

    /// The state of the port mapping.
    pub fn standing(&self) -> Standing {
        let (router, igd) = (&self.router, &self.igd);
        let (by, leases, outside) = match router.is_mapped() {
            true => (router.protocol(), &router.leases, router.outside),
            false => (Protocol::Upnp, &igd.leases, igd.outside),
        };
        let mut forwarded = leases.iter().map(|l| l.until.map(|_| l.external));
        let (tcp, udp) = (forwarded.next().flatten(), forwarded.next().flatten());
        if let (Some(ip), Some(port)) = (outside, tcp) {
            let outside = SocketAddr::new(ip, port);
            return Standing::Mapped { by, outside, udp };
        }
        match (router.refusal, igd.refusal) {
            _ if !router.has_failed() || !igd.has_failed() => Standing::Asking,
            // It is what was meant for it, and is not just something that speaks UPnP.
            (Some(refusal), _) => Standing::Refused(router.protocol(), refusal),
            (None, Some(refusal)) => Standing::Refused(Protocol::Upnp, refusal),
            (None, None) => Standing::Silent,
        }
    }

    /// Whether a request waits for its answer, or one is due.
    pub fn is_busy(&self, now: Instant) -> bool {
        let leases = match self.router.is_mapped() {
            true => &self.router.leases,
            false => &self.igd.leases,
        };
        leases.iter().any(|lease| lease.ask_at <= now)
    }

    /// Asks the router to stop forwarding. Go on polling until it [`is_done`](Self::is_done), for a second or so.
    pub fn stop(&mut self, now: Instant) {
        self.stopping = true;
        self.router.stop(now);
        self.igd.stop(now);
    }

    /// Whether the router has stopped forwarding, or does not answer.
    pub fn is_done(&self) -> bool {
        self.router.is_done() && self.igd.is_done()
    }

    /// The time from which UPnP may be used for ports.
    fn may_map_at(&self, now: Instant) -> Instant {
        match self.router.has_failed() {
            true => now.min(self.upnp_at),
            false => self.upnp_at,
        }
    }

    /// Begins again if the port is not forwarded any more.
    fn begin_if_lost(&mut self, now: Instant) {
        let mapped = self.router.is_mapped() || self.igd.is_mapped();
        if self.was_mapped && !mapped && !self.stopping {
            self.router.begin(now);
            self.igd.begin(now);
            self.upnp_at = now + HEAD_START;
        }
        self.was_mapped = mapped;
    }
}

/// The length of the longest packet.
pub const PACKET_MAX: usize = if pcp::REQUEST_LEN > 256 {
    pcp::REQUEST_LEN
} else {
    256
};

/// The length of the longest request.
pub const REQUEST_MAX: usize = upnp::REQUEST_MAX;

/// The time that PCP and NAT-PMP have before UPnP is used.
const HEAD_START: Duration = Duration::from_millis(100);
