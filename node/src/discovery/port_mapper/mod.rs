//! The port mapper: it has a router forward our port, or let callers in, by PCP, NAT-PMP or UPnP.
//!
//! A [`PortMapper`] is a function of time and packets like the rest of the engine. It asks the router of one family: in
//! IPv4 for a port at its address, in IPv6 for a pinhole in its firewall.
//!
//! - PCP is asked first, then NAT-PMP, and a router that speaks UPnP is searched for meanwhile. It is called for a port
//!   when the others have not answered within 0.1 s. The first that forwards the port is stayed with.
//! - A lease is asked for an hour, and anew when three quarters have passed; or at once, if the router's epoch shows
//!   that it was restarted.
//! - A router that says nothing gets 9 packets of PCP and NAT-PMP in 11 s, and 6 of SSDP in 6 s. So it goes
//!   again after a minute, and then after twice as long each time, up to two hours.
//!
//! A host makes one for each router that its routes name, and a new one when that or our address has changed.

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

/// How it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nobody has answered yet.
    Asking,
    /// The port is forwarded.
    Mapped {
        /// By what it was asked.
        by: Protocol,
        /// Where callers come in: the address, and the port of TCP.
        outside: SocketAddr,
        /// The port of UDP, if that is forwarded too.
        udp: Option<u16>,
    },
    /// The router does not do it.
    Refused(Protocol, Refusal),
    /// Nobody answers.
    Silent,
}

/// See the module.
///
/// Send what the three polls give, until each gives nothing, after whatever comes and at the
/// [`deadline`](Self::deadline); then look at the [`standing`](Self::standing). What came is handed over by
/// [`router_said`](Self::router_said), [`search_answered`](Self::search_answered) and [`called`](Self::called).
#[derive(Clone, Debug)]
pub struct PortMapper {
    gateway: Gateway,
    router: Router,
    igd: Igd,
    /// When UPnP may be used at the earliest.
    upnp_at: Instant,
    /// Whether the port was forwarded when it was looked last.
    was_mapped: bool,
    stopping: bool,
}

impl PortMapper {
    /// One that begins at once. `tcp` and `udp` are the ports that we listen on, and `seed` is not to be guessed.
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

    /// Where the router hears PCP and NAT-PMP.
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

    /// Takes a packet from [`router`](Self::router), and from nobody else.
    pub fn router_said(&mut self, now: Instant, packet: &[u8]) {
        if !self.igd.is_mapped() {
            self.router.received(now, packet);
            self.begin_if_lost(now);
        }
    }

    /// Notes that nobody listens at [`router`](Self::router).
    pub fn router_is_deaf(&mut self, now: Instant) {
        if !self.router.is_mapped() {
            self.router.give_up(now, None, None);
        }
    }

    /// The next packet in search of a router that speaks UPnP: to whom, and its length in `packet`, likewise.
    pub fn poll_search(&mut self, now: Instant, packet: &mut [u8]) -> Option<(SocketAddr, usize)> {
        match self.router.is_mapped() {
            true => None,
            false => self.igd.poll_search(now, packet),
        }
    }

    /// Whether answers to a search are waited for.
    pub fn is_searching(&self) -> bool {
        !self.router.is_mapped() && self.igd.is_searching()
    }

    /// Takes a packet that came where searches are sent from.
    pub fn search_answered(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        self.igd.search_answered(now, from, packet);
    }

    /// The next request by HTTP: to whom, and its length in `request`, which has room for [`REQUEST_MAX`] bytes. One is
    /// made at a time; its answer goes to [`called`](Self::called).
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

    /// Takes the status and the body of an answer, or `None` if there was none that can be read.
    pub fn called(&mut self, now: Instant, answer: Option<(u16, &[u8])>) {
        self.igd.called(now, answer);
        self.begin_if_lost(now);
    }

    /// When to poll again.
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

    /// How it stands.
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

    /// Whether an answer is waited for, or something is to be asked now.
    pub fn is_busy(&self, now: Instant) -> bool {
        let leases = match self.router.is_mapped() {
            true => &self.router.leases,
            false => &self.igd.leases,
        };
        leases.iter().any(|lease| lease.ask_at <= now)
    }

    /// Has the router forward nothing any more. Go on polling until it [`is_done`](Self::is_done), for a second or so.
    pub fn stop(&mut self, now: Instant) {
        self.stopping = true;
        self.router.stop(now);
        self.igd.stop(now);
    }

    /// Whether the router forwards nothing any more, as far as it answers.
    pub fn is_done(&self) -> bool {
        self.router.is_done() && self.igd.is_done()
    }

    /// When UPnP may be used for ports.
    fn may_map_at(&self, now: Instant) -> Instant {
        match self.router.has_failed() {
            true => now.min(self.upnp_at),
            false => self.upnp_at,
        }
    }

    /// Begins anew if the port is not forwarded any more.
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

/// Room that is enough for every packet.
pub const PACKET_MAX: usize = if pcp::REQUEST_LEN > 256 {
    pcp::REQUEST_LEN
} else {
    256
};

/// Room that is enough for every request.
pub const REQUEST_MAX: usize = upnp::REQUEST_MAX;

/// How long PCP and NAT-PMP have before UPnP is used.
const HEAD_START: Duration = Duration::from_millis(100);
