//! [`Igd`]: the state machine for a router that is asked by UPnP.
//!
//! The router is searched for three times within four seconds, each time as another kind of device. Then its
//! description is fetched, and its services are tried until one has a public address. That one is called for each port.
//! The next step is derived from what is known so far, and only one call is made at a time.
//!
//! Only answers of the router in the routing table are believed: see [`Igd::search_answered`].

use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use core::time::Duration;

use everseed_core::portmap::upnp::{self, Action, CallError, Path, Service, ServiceKind};
use everseed_core::portmap::{LEASE, LEASE_S, ssdp};
use everseed_core::rng::Rng;
use everseed_core::time::Instant;

use super::gateway::{Gateway, Refusal};
use super::lease::{LONGEST_PAUSE, Leases, NEVER, pause};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Igd {
    gateway: Gateway,
    pub(super) leases: Leases,
    /// The router's number for the pinhole of each lease.
    pinholes: [u16; 2],
    /// Whether ports are asked for without a lifetime, because the router demands it.
    for_ever: bool,
    /// The number of public ports that were taken, for the current lease.
    taken: u32,
    /// The number of searches in this round.
    searches: u32,
    /// The URL of its description.
    location: Option<(SocketAddr, Path)>,
    services: heapless::Vec<Service, { upnp::SERVICES }>,
    /// The service that is called.
    service: usize,
    /// The public address.
    pub(super) outside: Option<IpAddr>,
    /// Whether to ask for the public address.
    asks_outside: bool,
    /// Whether a call waits for its answer.
    calling: Option<Call>,
    /// The time of the next step.
    next_at: Instant,
    rounds: u32,
    /// The reason why the last round failed, and the one why this round fails so far.
    pub(super) refusal: Option<Refusal>,
    reason: Option<Refusal>,
    stopping: bool,
    rng: Rng,
}

/// A call to the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Describe,
    Outside,
    Map(usize),
    End(usize),
}

impl Igd {
    pub(super) fn new(now: Instant, gateway: Gateway, leases: Leases, rng: Rng) -> Igd {
        Igd {
            gateway,
            leases,
            pinholes: [0; 2],
            for_ever: false,
            taken: 0,
            searches: 0,
            location: None,
            services: heapless::Vec::new(),
            service: 0,
            outside: None,
            asks_outside: gateway.ip.is_ipv4(),
            calling: None,
            next_at: now,
            rounds: 0,
            refusal: None,
            reason: None,
            stopping: false,
            rng,
        }
    }

    /// Whether it forwards the TCP port.
    pub(super) fn is_mapped(&self) -> bool {
        let tcp = self.leases.first();
        tcp.is_some_and(|tcp| tcp.until.is_some()) && self.outside.is_some()
    }

    /// Whether a round has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.rounds > 0 && !self.is_mapped()
    }

    /// Begins again at once.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.refusal, self.rounds) = (None, 0);
        self.leases.iter_mut().for_each(|lease| lease.ask_at = now);
        self.search_anew(now);
    }

    pub(super) fn stop(&mut self, now: Instant) {
        (self.stopping, self.next_at) = (true, now);
        if self.services.get(self.service).is_none() {
            // The router is gone.
            self.leases.iter_mut().for_each(|lease| lease.until = None);
        }
    }

    /// Whether everything is done after [`stop`](Self::stop).
    pub(super) fn is_done(&self) -> bool {
        self.stopping && self.leases.iter().all(|lease| lease.until.is_none())
    }

    fn search_anew(&mut self, now: Instant) {
        (self.searches, self.service, self.next_at) = (0, 0, now);
        (self.reason, self.asks_outside) = (None, self.gateway.ip.is_ipv4());
        if self.leases.iter().all(|lease| lease.until.is_none()) {
            (self.location, self.outside) = (None, None);
            self.services.clear();
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.leases.iter().any(|lease| lease.ask_at <= now)
    }

    /// Whether a search waits for answers.
    pub(super) fn is_searching(&self) -> bool {
        !self.stopping && self.location.is_none() && self.searches > 0
    }

    /// The next search packet, if one is due: its destination, and its length in `out`. Each packet is
    /// sent twice, to the group and to the router itself, because some routers answer only one of them.
    pub(super) fn poll_search(
        &mut self,
        now: Instant,
        out: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        let due = !self.stopping && self.is_due(now) && now >= self.next_at;
        if !due || self.location.is_some() {
            return None;
        }
        if self.searches == 2 * SEARCHES {
            self.give_up(now, self.reason);
            return None;
        }
        let (round, alone) = (self.searches / 2, self.searches % 2 == 1);
        let target = match (round, self.gateway.ip) {
            // Only version 2 has pinholes.
            (0, IpAddr::V6(_)) | (1, IpAddr::V4(_)) => ssdp::Target::Gateway(2),
            (0, IpAddr::V4(_)) | (1, IpAddr::V6(_)) => ssdp::Target::Gateway(1),
            _ => ssdp::Target::Root,
        };
        let to = match alone {
            true => self.gateway.at(ssdp::PORT),
            false => self.gateway.group(),
        };
        self.searches += 1;
        if alone {
            self.next_at = now + SEARCH_STEP * (round + 1);
        }
        Some((to, ssdp::search(target, to, out)?))
    }

    /// Takes an answer to a search. It has to come from the router, and its URL has to be at the router. In IPv6 a
    /// router has many addresses, so every address of the same network is accepted.
    pub(super) fn search_answered(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        if !self.is_searching() || !self.gateway.may_be(from.ip()) {
            return;
        }
        let Some((ip, port, path)) = ssdp::location(packet).and_then(upnp::parse_url) else {
            return;
        };
        let Ok(path) = Path::try_from(path) else {
            return;
        };
        if ip != from.ip() && ip != self.gateway.ip {
            return;
        }
        let addr = match (ip, from) {
            (IpAddr::V6(ip), SocketAddr::V6(from)) if ip == *from.ip() => {
                SocketAddrV6::new(ip, port, 0, from.scope_id()).into()
            }
            _ if ip == self.gateway.ip => self.gateway.at(port),
            _ => SocketAddr::new(ip, port),
        };
        self.location = Some((addr, path));
        self.next_at = now;
    }

    /// The next call.
    fn next_call(&self, now: Instant) -> Option<Call> {
        let mut leases = self.leases.iter();
        if self.stopping {
            let at = leases.position(|lease| lease.until.is_some())?;
            return self.services.get(self.service).map(|_| Call::End(at));
        }
        self.location.as_ref()?;
        let at = leases.position(|lease| lease.ask_at <= now)?;
        Some(match self.services.get(self.service) {
            None => Call::Describe,
            Some(_) if self.asks_outside => Call::Outside,
            Some(_) => Call::Map(at),
        })
    }

    /// The next call, if one is due: its destination, and the length of the request in `out`. Ports are asked for only
    /// if `may_map` is set.
    pub(super) fn poll_call(
        &mut self,
        now: Instant,
        may_map: bool,
        out: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        self.leases.iter_mut().for_each(|lease| lease.expire(now));
        if self.calling.is_some() || now < self.next_at {
            return None;
        }
        let call = self.next_call(now)?;
        if matches!(call, Call::Map(_)) && !may_map {
            return None;
        }
        let (addr, path) = self.location.as_ref()?;
        let request = match call {
            Call::Describe => upnp::describe(*addr, path, out).map(|len| (*addr, len)),
            _ => {
                let service = self.services.get(self.service)?;
                let mut addr = *addr;
                addr.set_port(service.port.unwrap_or(addr.port()));
                let action = self.action(call)?;
                upnp::call(addr, service, &action, out).map(|len| (addr, len))
            }
        };
        self.calling = request.map(|_| call);
        request
    }

    fn action(&self, call: Call) -> Option<Action> {
        let (Call::Map(at) | Call::End(at)) = call else {
            return Some(Action::ExternalAddress);
        };
        let lease = self.leases.get(at)?;
        let lease_s = if self.for_ever { 0 } else { LEASE_S };
        Some(match (call, self.gateway.client) {
            (Call::Map(_), IpAddr::V4(client)) => Action::AddMapping {
                transport: lease.transport,
                external: lease.external,
                client,
                internal: lease.internal,
                lease_s,
            },
            (Call::Map(_), IpAddr::V6(client)) => Action::AddPinhole {
                transport: lease.transport,
                client,
                internal: lease.internal,
                lease_s: LEASE_S,
            },
            (_, IpAddr::V4(_)) => Action::DeleteMapping {
                transport: lease.transport,
                external: lease.external,
            },
            (_, IpAddr::V6(_)) => Action::DeletePinhole {
                id: *self.pinholes.get(at)?,
            },
        })
    }

    /// Takes the answer to a call: its status and body, or `None` if there is none.
    pub(super) fn called(&mut self, now: Instant, answer: Option<(u16, &[u8])>) {
        let Some(call) = self.calling.take() else {
            return;
        };
        self.next_at = now;
        if let Call::End(at) = call {
            if let Some(lease) = self.leases.get_mut(at) {
                lease.until = None;
            }
            return;
        }
        let Some((status, body)) = answer else {
            return self.go_on_searching(now, Refusal::Malformed);
        };
        match call {
            Call::Describe => self.described(now, status, body),
            Call::Outside => match upnp::answer(&Action::ExternalAddress, status, body) {
                Ok(upnp::Answer::Address(ip)) if ip != Ipv4Addr::UNSPECIFIED => {
                    (self.outside, self.asks_outside) = (Some(ip.into()), false);
                }
                // Another service may have a public address.
                _ => {
                    self.service += 1;
                    if self.service >= self.services.len() {
                        self.give_up(now, Some(Refusal::NoNetwork));
                    }
                }
            },
            Call::Map(at) => {
                let Some(action) = self.action(call) else {
                    return;
                };
                match upnp::answer(&action, status, body) {
                    Ok(answer) => self.granted(now, at, answer),
                    Err(error) => self.failed(now, at, error),
                }
            }
            Call::End(_) => {}
        }
    }

    fn described(&mut self, now: Instant, status: u16, body: &[u8]) {
        let (v6, from) = (
            self.gateway.ip.is_ipv6(),
            self.location.as_ref().map(|l| l.0.ip()),
        );
        if let Some(from) = from.filter(|_| status == 200) {
            self.services = upnp::services(body, from);
            let fits = |service: &Service| (service.kind == ServiceKind::Firewall) == v6;
            self.services.retain(fits);
        }
        self.service = 0;
        if self.services.is_empty() {
            self.go_on_searching(now, Refusal::NoService);
        }
    }

    /// The device that was found is of no use. Another one may answer the next search.
    fn go_on_searching(&mut self, now: Instant, reason: Refusal) {
        (self.location, self.reason, self.next_at) = (None, Some(reason), now);
        self.services.clear();
    }

    fn granted(&mut self, now: Instant, at: usize, answer: upnp::Answer) {
        if let (upnp::Answer::Pinhole(id), Some(pinhole)) = (answer, self.pinholes.get_mut(at)) {
            *pinhole = id;
        }
        if self.gateway.client.is_ipv6() {
            self.outside = Some(self.gateway.client);
        }
        let for_ever = self.for_ever;
        let Some(lease) = self.leases.get_mut(at) else {
            return;
        };
        let external = lease.external;
        match for_ever {
            true => lease.grant_for_ever(now, external),
            false => lease.grant(now, external, LEASE),
        }
        if at == 0 {
            // UDP should get the same public port as TCP.
            for other in self.leases.iter_mut().filter(|l| l.until.is_none()) {
                other.external = external;
            }
        }
        (self.taken, self.rounds, self.refusal) = (0, 0, None);
        if !self.is_due(now) {
            // At the renewal, its public address and the URL of its description may have changed.
            (self.searches, self.reason) = (0, None);
            self.asks_outside = self.gateway.ip.is_ipv4();
        }
    }

    fn failed(&mut self, now: Instant, at: usize, error: CallError) {
        let (v4, rng) = (self.gateway.client.is_ipv4(), &mut self.rng);
        let Some(lease) = self.leases.get_mut(at) else {
            return;
        };
        let refusal = match error {
            CallError::Code(ONLY_FOR_EVER | INVALID_ARGS) if v4 && !self.for_ever => {
                self.for_ever = true;
                return;
            }
            CallError::Code(code @ (TAKEN | FAILED | TAKEN_OTHERWISE)) if v4 => {
                self.taken += 1;
                if self.taken < PORTS {
                    lease.until = None;
                    let more = u16::try_from(rng.below(RANGE)).unwrap_or(0);
                    lease.external = FIRST_PORT + more;
                    return;
                }
                match code {
                    FAILED => Refusal::Other(code),
                    _ => Refusal::Taken,
                }
            }
            CallError::Code(NOT_AUTHORIZED | NO_PINHOLES) => Refusal::NotAllowed,
            // The router lets callers in without a pinhole.
            CallError::Code(NO_FIREWALL) => return self.granted(now, at, upnp::Answer::Done),
            CallError::Code(code) => Refusal::Other(code),
            CallError::Malformed => Refusal::Malformed,
        };
        lease.external = lease.internal;
        lease.until = None;
        self.taken = 0;
        if at > 0 {
            // Only UDP fails.
            lease.ask_at = now + LONGEST_PAUSE;
            return;
        }
        self.give_up(now, Some(refusal));
    }

    fn give_up(&mut self, now: Instant, refusal: Option<Refusal>) {
        self.rounds = self.rounds.saturating_add(1);
        self.refusal = refusal;
        self.search_anew(now);
        let pause = pause(self.rounds);
        self.leases
            .iter_mut()
            .for_each(|lease| lease.wait(now, pause));
    }

    /// The time to poll again, if ports may be asked for from `may_map_at` on.
    pub(super) fn deadline(&self, may_map_at: Instant) -> Instant {
        if self.calling.is_some() || self.is_done() {
            return NEVER;
        }
        if self.stopping {
            let call = self.next_call(self.next_at);
            return call.map_or(NEVER, |_| self.next_at);
        }
        let asks = self.leases.iter().map(|lease| lease.ask_at);
        let due = asks.min().unwrap_or(NEVER).max(self.next_at);
        let due = match self.next_call(due) {
            Some(Call::Map(_)) => due.max(may_map_at),
            _ => due,
        };
        let ends = self.leases.iter().filter_map(|lease| lease.until);
        ends.fold(due, Instant::min)
    }
}

/// The number of searches in a round.
pub(super) const SEARCHES: u32 = 3;

/// The time by which each wait for an answer is longer than the one before.
const SEARCH_STEP: Duration = Duration::from_millis(1000);

/// The number of public ports that are tried if some are taken, and the first of them.
const PORTS: u32 = 8;
const FIRST_PORT: u16 = 10_000;
const RANGE: u32 = 50_000;

/// Error numbers of UPnP, of WANIPConnection, and of WANIPv6FirewallControl.
const INVALID_ARGS: u16 = 402;
const FAILED: u16 = 501;
const NOT_AUTHORIZED: u16 = 606;
const TAKEN: u16 = 718;
const ONLY_FOR_EVER: u16 = 725;
const TAKEN_OTHERWISE: u16 = 729;
const NO_FIREWALL: u16 = 702;
const NO_PINHOLES: u16 = 703;
