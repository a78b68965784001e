//! Datagrams between hosts through their routers, and to and from the crowd.

use std::net::SocketAddr;

use everseed_core::hash::InfoHash;
use everseed_core::krpc::{Body, Message};
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_node::Node;
use everseed_node::discovery::dht::{Mode, PACKET_MAX};

use super::host::ENOUGH;
use super::{Happening, JITTER, LATENCY, Profile, World};
use crate::crowd::{Conduct, Datagram};
use crate::router::Nat;

impl World {
    /// Adds a node to the crowd.
    pub fn add_member(&mut self, conduct: Conduct) -> usize {
        let member = self.crowd.join(self.now, conduct, &mut self.rng);
        self.nudges.push(None);
        self.look_after(member);
        member
    }

    /// Gives a member of the crowd the address of another.
    pub fn introduce(&mut self, member: usize, to: usize) {
        let at = self.crowd.address(member);
        self.crowd.hint(self.now, to, at);
        self.look_after(to);
    }

    /// At the start of a host: gives its node some addresses of the crowd, at least one of an honest member, and its
    /// own torrents.
    pub(super) fn join(&mut self, node: &mut Node<'static>, profile: Profile) {
        let now = Instant::from_micros(self.now);
        node.join_dht(now, Mode::On, [true, false], &[]);
        if profile.nat == Nat::Open {
            node.dht_reachable();
        }
        let count = u32::try_from(self.crowd.len()).unwrap_or(0);
        for n in 0..KNOWN.min(count) {
            let mut member = self.rng.below(count) as usize;
            while n == 0 && !self.crowd.is_honest(member) {
                member = self.rng.below(count) as usize;
            }
            node.dht_node(now, self.crowd.address(member));
        }
        for n in 0..profile.asleep {
            let mut hash = [0; 20];
            Rng::new(n.into()).fill(&mut hash);
            let id = node.know(InfoHash(hash)).expect(ENOUGH);
            node.publish(now, id, self.publicity);
        }
    }

    /// Sends the datagrams of a host's node.
    pub(super) fn send_datagrams(&mut self, host: usize) {
        let now = Instant::from_micros(self.now);
        let mut packet = [0; PACKET_MAX];
        let this = &mut self.hosts[host];
        let mut sent = Vec::new();
        while let Some((to, len)) = this.node.poll_datagram(now, &mut packet) {
            let seen = this.router.out(self.now, to);
            let bytes = packet[..len].to_vec();
            if self.watched == Some(host) && asks(&bytes) {
                self.queries.push((self.now, to));
            }
            sent.push((seen, to, bytes));
        }
        self.post(sent);
    }

    /// The most flows that a host's router had at one time.
    pub fn flows(&self, host: usize) -> usize {
        self.hosts[host].router.most
    }

    fn post(&mut self, sent: Vec<Datagram>) {
        for datagram in sent {
            if self.loss == 0 || self.rng.below(self.loss) != 0 {
                let at = self.now + LATENCY + u64::from(self.rng.below(JITTER));
                self.at(at, Happening::Datagram(datagram));
            }
        }
    }

    /// Delivers a datagram, if there is a node at its address and the router lets it in.
    pub(super) fn datagram(&mut self, datagram: &Datagram) {
        let (from, to, bytes) = datagram;
        if let Some(member) = self.crowd.at(*to) {
            let mut sent = Vec::new();
            let (crowd, rng) = (&mut self.crowd, &mut self.rng);
            crowd.hand(self.now, member, datagram, &mut sent, rng);
            self.post(sent);
            self.look_after(member);
            return;
        }
        let Some(host) = self.host_at(*to) else {
            return;
        };
        let this = &mut self.hosts[host];
        if this.alive && this.router.lets_in(self.now, *from, to.port()) {
            this.node
                .datagram(Instant::from_micros(self.now), *from, bytes);
            self.drive(host);
        }
    }

    /// Carries out the deadline of a member.
    pub(super) fn nudge(&mut self, member: usize) {
        if self.nudges[member].is_some_and(|at| at <= self.now) {
            self.nudges[member] = None;
            let mut sent = Vec::new();
            self.crowd.poll(self.now, member, &mut sent);
            self.post(sent);
            self.look_after(member);
        }
    }

    /// Notes the next deadline of a member.
    fn look_after(&mut self, member: usize) {
        let Some(at) = self.crowd.deadline(member) else {
            return;
        };
        let at = at.max(self.now + 1);
        if self.nudges[member].is_none_or(|known| at < known) {
            self.nudges[member] = Some(at);
            self.at(at, Happening::Nudge(member));
        }
    }

    /// Counts the queries of the watched host since a time: their number, the most in a second, and the most
    /// destinations in two minutes.
    pub fn query_numbers(&self, since: u64) -> (usize, usize, usize) {
        let queries: Vec<(u64, SocketAddr)> = self
            .queries
            .iter()
            .copied()
            .filter(|q| q.0 >= since)
            .collect();
        let (mut second, mut busiest) = (0, 0);
        let (mut window, mut widest) = (0, 0);
        let mut within = std::collections::HashMap::<SocketAddr, u32>::new();
        for (n, &(at, to)) in queries.iter().enumerate() {
            *within.entry(to).or_default() += 1;
            while at - queries[second].0 >= 1_000_000 {
                second += 1;
            }
            while at - queries[window].0 >= 119_000_000 {
                let old = queries[window].1;
                if let Some(count) = within.get_mut(&old) {
                    *count -= 1;
                    if *count == 0 {
                        within.remove(&old);
                    }
                }
                window += 1;
            }
            busiest = busiest.max(n + 1 - second);
            widest = widest.max(within.len());
        }
        (queries.len(), busiest, widest)
    }
}

/// Whether a datagram is a DHT query.
fn asks(bytes: &[u8]) -> bool {
    Message::decode(bytes).is_ok_and(|m| matches!(m.body, Body::Query(..)))
}

/// The number of members of the crowd that a new host learns of.
const KNOWN: u32 = 3;
