//! UDP: announces to trackers, the DHT, and local service discovery.

use std::net::SocketAddr;

use everseed_core::lsd;
use everseed_core::time::Instant;
use everseed_core::tracker::Family;
use everseed_node::discovery::dht::Mode;
use everseed_node::input::{Input, Output};
use everseed_node::{Event, Job, PACKET_MAX};

use super::{ACTIONS_PER_TURN, Reactor};
use crate::net::epoll::Watched;
use crate::net::listen::Listen;
use crate::net::lsd::{Link, Nearby};
use crate::net::udp::Received;
use crate::net::way::Way;

impl Reactor {
    /// Uses local service discovery on those of the present interfaces, `links`, that `wanted` listens on. Peers reach
    /// us there on `port`. Returns whether that succeeded on all of them.
    pub(crate) fn follow_nearby(&mut self, links: Vec<Link>, wanted: &[Listen], port: u16) -> bool {
        if self.nearby.is_none() {
            let nearby = Nearby::new();
            for socket in nearby.sockets() {
                if let Err(error) = self.epoll.add(socket, Watched::Nearby) {
                    log::info!("LSD does not hear the local networks: {error}");
                }
            }
            self.nearby = Some(nearby);
        }
        let nearby = self.nearby.as_mut();
        if nearby.is_some_and(|nearby| nearby.follow(links, wanted, port)) {
            self.node.renew_lsd(self.clock.now());
            self.busy = true;
        }
        self.nearby.as_ref().is_none_or(Nearby::is_complete)
    }

    pub(super) fn hear_nearby(&mut self, now: Instant) {
        let mut packet = [0; 2 * lsd::PACKET_MAX];
        for _ in 0..ACTIONS_PER_TURN {
            let heard = self.nearby.as_ref().and_then(|n| n.receive(&mut packet));
            let Some((from, len)) = heard else { return };
            self.node.lsd_received(now, from, &packet[..len]);
        }
    }

    /// Calls others by this way from now on. `port` gives, for each family, the port where peers connect; datagrams
    /// leave from the same one. Returns whether that is a change.
    pub(crate) fn go_by(&mut self, way: Way, port: impl Fn(Family) -> u16) -> bool {
        let before = self.udp.families();
        let new = self.udp.follow(&way, port);
        let same = new.is_empty() && before == self.udp.families() && self.way_out == way;
        for family in new {
            let socket = self.udp.socket(family);
            let watched = socket.map(|s| self.epoll.add(s, Watched::Datagrams(family)));
            if let Some(Err(error)) = watched {
                log::warn!("the UDP socket cannot be watched: {error}");
            }
        }
        self.way_out = way;
        if !same && self.dht != Mode::Off {
            self.join_dht(self.dht, &[]);
        }
        !same
    }

    /// Joins the DHT for the families that have a UDP socket, or for none. `kept` are the nodes known in the last
    /// run.
    pub(crate) fn join_dht(&mut self, mode: Mode, kept: &[u8]) {
        self.dht = mode;
        self.udp.talk_to_many();
        let families = self.udp.families();
        let now = if families == [false; 2] {
            Mode::Off
        } else {
            mode
        };
        let input = Input::JoinDht(now, families, kept);
        self.node.input(self.clock.now(), input);
        self.busy = true;
    }

    /// Starts an announce by UDP in the node. Returns whether it could.
    pub(crate) fn announce_by_udp(
        &mut self,
        job: Job,
        addrs: [Option<SocketAddr>; 2],
        url_data: &str,
        seed: u64,
    ) -> bool {
        self.busy = true;
        let input = Input::AnnounceByUdp {
            job,
            addrs,
            url_data,
            seed,
        };
        self.node.input(self.clock.now(), input) == Output::Accepted(true)
    }

    pub(super) fn receive_datagrams(&mut self, now: Instant, family: Family) {
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.udp.receive(family) {
                None => return,
                Some(Received::From(from, packet)) => self.node.datagram(now, from, packet),
                Some(Received::Unreachable(addr)) => {
                    self.node.event(now, Event::Unreachable(addr));
                }
            }
        }
    }

    pub(super) fn send_datagrams(&mut self, now: Instant) {
        let mut packet = [0; PACKET_MAX];
        while let Some((to, len)) = self.node.poll_datagram(now, &mut packet) {
            if let Err(error) = self.udp.send(to, &packet[..len]) {
                log::debug!("{to}: {error}");
                self.node.event(now, Event::Unreachable(to));
                self.busy = true;
            }
        }
    }
}

/// The most datagrams of one socket that one turn reads.
const DATAGRAMS_PER_TURN: usize = 64;
