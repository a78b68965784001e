//! [`Router`]: the state machine for a router that is asked by PCP, or by NAT-PMP if it does not support PCP.
//!
//! One request is sent at a time: for a port that is due, or for the public address. NAT-PMP does not send that
//! with the port. The first request of a round is sent up to [`TRIES`] times, and each wait is a quarter of a second
//! longer: 11 seconds in all.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use everseed_core::portmap::{Epoch, LEASE_S, Transport, natpmp, pcp};
use everseed_core::rng::Rng;
use everseed_core::time::Instant;

use super::gateway::{Protocol, Refusal};
use super::lease::{LONGEST_PAUSE, Lease, Leases, NEVER, pause};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Router {
    /// Our address in its network.
    client: IpAddr,
    /// Its protocol, once it has answered.
    dialect: Option<Protocol>,
    pub(super) leases: Leases,
    nonces: [pcp::Nonce; 2],
    /// Its public address.
    pub(super) outside: Option<IpAddr>,
    /// Whether to ask for the public address, with NAT-PMP.
    asks_outside: bool,
    epoch: Option<Epoch>,
    /// How often this request was sent.
    tries: u32,
    /// The time of the next packet, if there is a request.
    next_at: Instant,
    /// The number of failed rounds in a row.
    rounds: u32,
    /// The reason of its refusal.
    pub(super) refusal: Option<Refusal>,
    /// Whether it should stop forwarding.
    stopping: bool,
}

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Question {
    Outside,
    Map(usize),
    End(usize),
}

impl Router {
    pub(super) fn new(now: Instant, client: IpAddr, leases: Leases, rng: &mut Rng) -> Router {
        let mut nonces = [pcp::Nonce::default(); 2];
        nonces.iter_mut().for_each(|nonce| rng.fill(nonce));
        Router {
            client,
            dialect: None,
            leases,
            nonces,
            outside: None,
            asks_outside: true,
            epoch: None,
            tries: 0,
            next_at: now,
            rounds: 0,
            refusal: None,
            stopping: false,
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

    /// The protocol by which it is asked.
    pub(super) fn protocol(&self) -> Protocol {
        match self.dialect {
            Some(dialect) => dialect,
            None if self.client.is_ipv4() && self.tries >= PCP_TRIES => Protocol::NatPmp,
            None => Protocol::Pcp,
        }
    }

    /// Begins again at once, as if nothing had been asked.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.tries, self.rounds, self.next_at) = (0, 0, now);
        (self.refusal, self.asks_outside) = (None, true);
        self.leases.iter_mut().for_each(|lease| lease.ask_at = now);
    }

    /// Makes it stop forwarding.
    pub(super) fn stop(&mut self, now: Instant) {
        (self.stopping, self.tries, self.next_at) = (true, 0, now);
    }

    /// Whether everything is done after [`stop`](Self::stop).
    pub(super) fn is_done(&self) -> bool {
        self.stopping && self.leases.iter().all(|lease| lease.until.is_none())
    }

    fn question(&self, now: Instant) -> Option<Question> {
        if self.stopping {
            let at = self.leases.iter().position(|lease| lease.until.is_some());
            return at.map(Question::End);
        }
        let at = self.leases.iter().position(|lease| lease.ask_at <= now)?;
        Some(match self.protocol() {
            Protocol::NatPmp if self.asks_outside => Question::Outside,
            _ => Question::Map(at),
        })
    }

    /// The time to poll again.
    pub(super) fn deadline(&self) -> Instant {
        if self.stopping {
            return if self.is_done() { NEVER } else { self.next_at };
        }
        let asks = self.leases.iter().map(|lease| lease.ask_at);
        let ask_at = asks.min().unwrap_or(NEVER).max(self.next_at);
        let ends = self.leases.iter().filter_map(|lease| lease.until);
        ends.fold(ask_at, Instant::min)
    }

    /// The next packet to the router, if one is due: its length in `out`.
    pub(super) fn poll(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if !self.stopping {
            self.leases.iter_mut().for_each(|lease| lease.expire(now));
        }
        let question = self.question(now)?;
        if now < self.next_at {
            return None;
        }
        if self.tries == TRIES {
            self.give_up(now, None, None);
            return None;
        }
        let protocol = self.protocol();
        self.tries += 1;
        self.next_at = now + STEP * self.tries;
        match protocol {
            Protocol::Pcp => self.pcp(question)?.encode(out),
            _ => self.natpmp(question)?.encode(out),
        }
    }

    fn pcp(&self, question: Question) -> Option<pcp::Request> {
        let (at, lifetime_s) = match question {
            Question::End(at) => (at, 0),
            Question::Map(at) => (at, LEASE_S),
            Question::Outside => (0, LEASE_S),
        };
        let lease = self.leases.get(at)?;
        let any: IpAddr = match self.client {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Some(pcp::Request {
            lifetime_s,
            client: self.client,
            nonce: *self.nonces.get(at)?,
            transport: lease.transport,
            internal: lease.internal,
            external: lease.external,
            outside: self.outside.unwrap_or(any),
        })
    }

    fn natpmp(&self, question: Question) -> Option<natpmp::Request> {
        let (at, ends) = match question {
            Question::Outside => return Some(natpmp::Request::Address),
            Question::Map(at) => (at, false),
            Question::End(at) => (at, true),
        };
        let lease = self.leases.get(at)?;
        Some(natpmp::Request::Map {
            transport: lease.transport,
            internal: lease.internal,
            external: if ends { 0 } else { lease.external },
            lifetime_s: if ends { 0 } else { LEASE_S },
        })
    }

    /// Takes a packet from the router.
    pub(super) fn received(&mut self, now: Instant, packet: &[u8]) {
        // No request waits for an answer.
        if self.tries == 0 {
            return;
        }
        match natpmp::Response::decode(packet) {
            Some(response) if self.protocol() == Protocol::NatPmp => {
                self.heard_natpmp(now, response);
            }
            _ => {
                if let Some(response) = pcp::Response::decode(packet) {
                    self.heard_pcp(now, response);
                }
            }
        }
    }

    fn heard_natpmp(&mut self, now: Instant, response: natpmp::Response) {
        match response.answer {
            natpmp::Answer::Address(ip) => {
                self.dialect = Some(Protocol::NatPmp);
                self.compare(now, response.epoch_s);
                self.outside = Some(IpAddr::V4(ip)).filter(|ip| !ip.is_unspecified());
                self.asks_outside = false;
                match self.outside {
                    Some(_) => self.ask_next(now),
                    None => self.give_up(now, Some(Refusal::NoNetwork), None),
                }
            }
            natpmp::Answer::Mapped {
                transport,
                internal,
                external,
                lifetime_s,
            } => {
                let is_it =
                    |lease: &Lease| lease.transport == transport && lease.internal == internal;
                let Some(at) = self.leases.iter().position(is_it) else {
                    return;
                };
                self.dialect = Some(Protocol::NatPmp);
                self.compare(now, response.epoch_s);
                self.granted(now, at, external, lifetime_s);
            }
            natpmp::Answer::Refused(refusal) => {
                self.dialect = Some(Protocol::NatPmp);
                let refusal = match refusal {
                    natpmp::Refusal::NotAllowed => Refusal::NotAllowed,
                    natpmp::Refusal::NoNetwork => Refusal::NoNetwork,
                    natpmp::Refusal::Full => Refusal::Full,
                    natpmp::Refusal::Version => Refusal::Other(1),
                    natpmp::Refusal::Other(code) => Refusal::Other(code),
                };
                self.refused(now, refusal, None);
            }
        }
    }

    fn heard_pcp(&mut self, now: Instant, response: pcp::Response) {
        match response.answer {
            pcp::Answer::Mapped {
                nonce,
                transport,
                internal,
                external,
                outside,
                lifetime_s,
            } => {
                let is_it = |(lease, its): (&Lease, &pcp::Nonce)| {
                    *its == nonce
                        && lease.transport.number() == transport
                        && lease.internal == internal
                };
                let known = self.leases.iter().zip(&self.nonces).position(is_it);
                let Some(at) = known.filter(|_| outside.is_ipv4() == self.client.is_ipv4()) else {
                    return;
                };
                self.dialect = Some(Protocol::Pcp);
                self.compare(now, response.epoch_s);
                if lifetime_s > 0 {
                    self.outside = Some(outside).filter(|ip| !ip.is_unspecified());
                }
                self.granted(now, at, external, lifetime_s);
            }
            pcp::Answer::Refused { nonce, .. }
                if nonce.is_some_and(|nonce| !self.nonces.contains(&nonce)) => {}
            pcp::Answer::Refused {
                refusal: pcp::Refusal::Version,
                ..
            } => match self.dialect {
                None if self.client.is_ipv4() => {
                    self.dialect = Some(Protocol::NatPmp);
                    self.ask_next(now);
                }
                _ => self.refused(now, Refusal::Other(1), None),
            },
            pcp::Answer::Refused {
                refusal,
                lifetime_s,
                ..
            } => {
                self.dialect = Some(Protocol::Pcp);
                let refusal = match refusal {
                    pcp::Refusal::NotAllowed => Refusal::NotAllowed,
                    pcp::Refusal::NoNetwork => Refusal::NoNetwork,
                    pcp::Refusal::Full => Refusal::Full,
                    pcp::Refusal::Taken => Refusal::Taken,
                    pcp::Refusal::OtherAddress => Refusal::OtherAddress,
                    pcp::Refusal::Version => Refusal::Other(1),
                    pcp::Refusal::Other(code) => Refusal::Other(code.into()),
                };
                self.refused(now, refusal, Some(Duration::from_secs(lifetime_s.into())));
            }
        }
    }

    /// Asks for every port again if the router was restarted since its last answer.
    fn compare(&mut self, now: Instant, epoch_s: u32) {
        let epoch = Epoch::new(epoch_s, now);
        let before = self.epoch.replace(epoch);
        if before.is_some_and(|before| before.is_lost_by(epoch)) {
            self.leases.iter_mut().for_each(|lease| lease.ask_at = now);
            self.asks_outside = true;
        }
    }

    fn granted(&mut self, now: Instant, at: usize, external: u16, lifetime_s: u32) {
        let (stopping, tcp) = (self.stopping, self.leases.first().map(|tcp| tcp.external));
        let Some(lease) = self.leases.get_mut(at) else {
            return;
        };
        if stopping || lifetime_s == 0 || external == 0 {
            lease.until = None;
            return match stopping {
                true => self.ask_next(now),
                false => self.refused(now, Refusal::Other(0), None),
            };
        }
        let had = lease.external;
        lease.grant(now, external, Duration::from_secs(lifetime_s.into()));
        // UDP should get the same public port as TCP.
        if lease.transport == Transport::Tcp && Some(had) == tcp {
            for other in self.leases.iter_mut().filter(|l| l.until.is_none()) {
                other.external = external;
            }
        }
        (self.refusal, self.rounds) = (None, 0);
        self.ask_next(now);
        if !self.leases.iter().any(|lease| lease.ask_at <= now) {
            // At the renewal, its public address may have changed.
            self.asks_outside = true;
        }
    }

    fn ask_next(&mut self, now: Instant) {
        (self.tries, self.next_at) = (0, now);
    }

    fn refused(&mut self, now: Instant, refusal: Refusal, wait: Option<Duration>) {
        match self.question(now) {
            // Only UDP fails.
            Some(Question::Map(at)) if at > 0 => {
                if let Some(lease) = self.leases.get_mut(at) {
                    lease.until = None;
                    lease.ask_at = now + LONGEST_PAUSE;
                }
                self.ask_next(now);
            }
            Some(Question::End(at)) => {
                if let Some(lease) = self.leases.get_mut(at) {
                    lease.until = None;
                }
                self.ask_next(now);
            }
            _ => {
                if let Some(tcp) = self.leases.first_mut() {
                    tcp.until = None;
                }
                self.give_up(now, Some(refusal), wait);
            }
        }
    }

    /// Ends a failed round, with the reason, or with `None` if the router is silent.
    pub(super) fn give_up(
        &mut self,
        now: Instant,
        refusal: Option<Refusal>,
        wait: Option<Duration>,
    ) {
        if self.stopping {
            self.leases.iter_mut().for_each(|lease| lease.until = None);
            return;
        }
        self.refusal = refusal;
        self.rounds = self.rounds.saturating_add(1);
        let least = wait.unwrap_or_default().min(DAY);
        let pause = pause(self.rounds).max(least);
        self.leases
            .iter_mut()
            .for_each(|lease| lease.wait(now, pause));
        (self.tries, self.next_at) = (0, now);
        self.asks_outside = true;
        // There may be another router by now.
        self.dialect = self.dialect.filter(|_| refusal.is_some());
    }
}

/// How often a request is sent.
pub(super) const TRIES: u32 = 9;

/// How many packets of the first round are PCP. The others are NAT-PMP, for routers that ignore unknown versions.
const PCP_TRIES: u32 = 4;

/// The time by which each wait for an answer is longer than the one before.
const STEP: Duration = Duration::from_millis(250);

const DAY: Duration = Duration::from_secs(24 * 3600);
