//! [`World`]: nodes of the DHT, and hosts that lie or are silent, in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;

use everseed_core::hash::InfoHash;
use everseed_core::krpc::{Body, Message, NodeId};
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_heap::Heap;
use everseed_node::discovery::dht::memory::{Memory, Sizes};
use everseed_node::discovery::dht::{Announce, Dht, Finished, Mode, PACKET_MAX, Search};
use everseed_sim::crowd::{lie, near};

use super::HASH;

/// The host at an address.
pub(super) enum Host {
    Node(Box<Dht<'static>>),
    /// Answers nothing.
    Silent,
    /// Answers every query with nodes and peers that do not exist.
    Liar(NodeId),
    /// One of a group whose ids are close to the target, and that names only others of the group.
    Attacker(NodeId),
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) hosts: Vec<(SocketAddr, Host)>,
    pub(super) by_addr: HashMap<SocketAddr, usize>,
    pub(super) packets: BinaryHeap<Reverse<(u64, u64)>>,
    pub(super) contents: HashMap<u64, (usize, SocketAddr, Vec<u8>)>,
    pub(super) sequence: u64,
    pub(super) rng: Rng,
    /// Peers that a host was told of, with the time.
    pub(super) found: Vec<(usize, u64, InfoHash, SocketAddr)>,
    pub(super) finished: Vec<(usize, Finished)>,
    /// The host whose queries and wake-ups are noted.
    pub(super) watched: Option<usize>,
    /// Its queries: time and destination.
    pub(super) queries: Vec<(u64, SocketAddr)>,
    /// Times of its wake-ups: for its own deadlines, for answers, and for queries of others.
    pub(super) wakes: [Vec<u64>; 3],
}

pub(super) const LATENCY: u64 = 20_000;

pub(super) fn public(n: usize) -> SocketAddr {
    let n = u32::try_from(n).unwrap();
    // Hosts of different /16 networks, as far as there are enough.
    SocketAddr::from((
        [
            20 + (n / 250 % 150) as u8,
            (n % 250) as u8,
            (n / 7 % 250) as u8,
            9,
        ],
        6881,
    ))
}

pub(super) fn node(seed: u64, now: u64) -> Host {
    let memory = Memory::lend(&Sizes::FULL, &mut Heap);
    let now = Instant::from_micros(now);
    Host::Node(Box::new(Dht::new(
        now,
        memory,
        Mode::On,
        [true, true],
        seed,
    )))
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World {
            now: 1_000_000,
            hosts: Vec::new(),
            by_addr: HashMap::new(),
            packets: BinaryHeap::new(),
            contents: HashMap::new(),
            sequence: 0,
            rng: Rng::new(seed),
            found: Vec::new(),
            finished: Vec::new(),
            watched: None,
            queries: Vec::new(),
            wakes: Default::default(),
        }
    }

    pub(super) fn add(&mut self, addr: SocketAddr, host: Host) -> usize {
        self.by_addr.insert(addr, self.hosts.len());
        self.hosts.push((addr, host));
        self.hosts.len() - 1
    }

    pub(super) fn at(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    pub(super) fn dht(&mut self, host: usize) -> &mut Dht<'static> {
        match &mut self.hosts[host].1 {
            Host::Node(dht) => dht,
            _ => panic!("no node"),
        }
    }

    /// Adds a node that knows the first one.
    pub(super) fn join(&mut self) -> usize {
        let n = self.hosts.len();
        let seed = self.rng.bits();
        let host = self.add(public(n), node(seed, self.now));
        let (now, first) = (self.at(), self.hosts[0].0);
        self.dht(host).hint(now, first);
        host
    }

    pub(super) fn search(
        &mut self,
        host: usize,
        hash: InfoHash,
        announce: bool,
        urgent: bool,
    ) -> bool {
        let now = self.at();
        let announce = announce.then_some(Announce {
            ports: [7000; 2],
            seed: true,
        });
        self.dht(host).search(
            now,
            &Search {
                info_hash: hash,
                announce,
                urgent,
                noseed: false,
            },
        )
    }

    pub(super) fn post(&mut self, at: u64, to: usize, from: SocketAddr, packet: Vec<u8>) {
        self.sequence += 1;
        self.packets.push(Reverse((at, self.sequence)));
        self.contents.insert(self.sequence, (to, from, packet));
    }

    /// Delivers the packets that a node wants to send, and notes its finished searches.
    pub(super) fn drive(&mut self, host: usize) {
        let (now, from) = (self.at(), self.hosts[host].0);
        // A node without contacts gets the first node again, as a host gives it the nodes that the user named.
        if self.dht(host).poll_names(now) {
            let first = self.hosts[0].0;
            self.dht(host).hint(now, first);
        }
        let mut packet = [0; PACKET_MAX];
        while let Some((to, len)) = self.dht(host).poll_datagram(now, &mut packet) {
            let bytes = packet[..len].to_vec();
            let asks = matches!(Message::decode(&bytes).unwrap().body, Body::Query(..));
            if self.watched == Some(host) && asks {
                self.queries.push((self.now, to));
            }
            if let Some(&to) = self.by_addr.get(&to) {
                self.post(self.now + LATENCY, to, from, bytes);
            }
        }
        while let Some(finished) = self.dht(host).poll_finished() {
            self.finished.push((host, finished));
        }
    }

    pub(super) fn arrive(&mut self, to: usize, from: SocketAddr, packet: &[u8]) {
        let now = self.at();
        if self.watched == Some(to) {
            let answers = matches!(Message::decode(packet).unwrap().body, Body::Response(..));
            self.wakes[if answers { 1 } else { 2 }].push(self.now);
        }
        let mut peers = Vec::new();
        let answer = match &mut self.hosts[to].1 {
            Host::Node(dht) => {
                dht.datagram(now, from, packet, &mut |hash, peer| {
                    peers.push((hash, peer))
                });
                None
            }
            Host::Silent => None,
            Host::Liar(id) => {
                let rng = &mut self.rng;
                lie(*id, packet, || {
                    (NodeId::random(rng), public(rng.below(60_000) as usize))
                })
            }
            Host::Attacker(id) => {
                let rng = &mut self.rng;
                lie(*id, packet, || {
                    let n = rng.below(100) as u8;
                    (near(HASH, n), SocketAddr::from(([66, 6, 6, n], 6881)))
                })
            }
        };
        for (hash, peer) in peers {
            self.found.push((to, self.now, hash, peer));
        }
        match answer {
            Some(bytes) => {
                let (me, back) = (self.hosts[to].0, self.by_addr[&from]);
                self.post(self.now + LATENCY, back, me, bytes);
            }
            None if matches!(self.hosts[to].1, Host::Node(_)) => self.drive(to),
            None => {}
        }
    }

    /// Runs for `secs` seconds.
    pub(super) fn run(&mut self, secs: f64) {
        let end = self.now + (secs * 1e6) as u64;
        for host in 0..self.hosts.len() {
            if matches!(self.hosts[host].1, Host::Node(_)) {
                self.drive(host);
            }
        }
        // Packets arrive at their microsecond. Deadlines are looked at every ten milliseconds.
        while self.now < end {
            let step = (self.now + 10_000).min(end);
            while let Some(&Reverse((at, sequence))) = self.packets.peek() {
                if at > step {
                    break;
                }
                self.packets.pop();
                self.now = self.now.max(at);
                if let Some((to, from, bytes)) = self.contents.remove(&sequence) {
                    self.arrive(to, from, &bytes);
                }
            }
            self.now = step;
            for host in 0..self.hosts.len() {
                let due = match &self.hosts[host].1 {
                    Host::Node(dht) => dht.deadline().is_some_and(|at| at <= self.at()),
                    _ => false,
                };
                if due {
                    if self.watched == Some(host) {
                        self.wakes[0].push(self.now);
                    }
                    self.drive(host);
                }
            }
        }
    }

    /// A network of nodes that know each other, with silent hosts and liars among them.
    pub(super) fn grown(seed: u64, nodes: usize, silent: usize, liars: usize) -> World {
        let mut world = World::new(seed);
        world.add(public(0), node(seed, 1_000_000));
        for n in 1..nodes {
            world.join();
            if n % 20 == 0 {
                world.run(2.0);
            }
        }
        world.run(120.0);
        for n in 0..silent + liars {
            let at = public(world.hosts.len());
            let host = match n < silent {
                true => Host::Silent,
                false => Host::Liar(NodeId::random(&mut world.rng)),
            };
            world.add(at, host);
        }
        world
    }
}
