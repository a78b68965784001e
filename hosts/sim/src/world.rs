//! [`World`]: the hosts and their nodes, the clock, and the queue of events.

mod datagrams;
mod disk;
mod host;
mod progress;
mod tracker;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use everseed_core::geometry::{BLOCK, Geometry};
use everseed_core::hash::InfoHash;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_node::discovery::announcer::Job;
use everseed_node::{Action, Bodies, ConnId, Event, Publicity, Reason};

use crate::crowd::{Crowd, Datagram};
use crate::link::{End, Link, Pipe};

use disk::Chore;
use host::{BLOCKS, Host};
pub use host::{Profile, Reached};
use tracker::TIME_OUT;

/// An event.
enum Happening {
    /// The deadline of a host's node.
    Wake(usize),
    /// A host is done with sending a part of the stream.
    Sent(usize),
    /// Bytes arrive at one end of a link.
    Arrive(usize, usize, Pipe),
    /// A host notices that the other end of a link closed it.
    HungUp(usize, usize),
    /// A host has reached the host that it dialled.
    Reach {
        from: usize,
        conn: ConnId,
        to: usize,
    },
    /// The tracker's answer arrives.
    Answer(usize, Job),
    /// A host gives up waiting for the tracker.
    NoAnswer(usize, Job),
    /// A datagram arrives.
    Datagram(Datagram),
    /// The deadline of a member of the crowd.
    Nudge(usize),
    /// The disk of a host has done a job. Ignored if the host was started again since.
    Disk(usize, u32, Chore),
    /// The scenario changes something: see [`cues`](World::cues).
    Cue(u32),
}

/// All hosts and the network between them.
pub struct World {
    /// The seed of all random numbers.
    pub seed: u64,
    rng: Rng,
    now: u64,
    sequence: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: HashMap<u64, Happening>,
    hosts: Vec<Host>,
    sites: HashMap<IpAddr, usize>,
    links: Vec<Option<Link>>,
    free_links: Vec<usize>,
    geometry: Geometry,
    buffer: Vec<u8>,
    bodies: Bodies,
    /// The number of calls of nodes.
    drives: usize,
    /// The numbers of cues whose time has come. The scenario takes them.
    pub cues: Vec<u32>,
    /// Hosts that have become complete. The scenario takes them.
    pub complete: Vec<usize>,
    /// When it is looked next whether downloads go on.
    progress_due: u64,
    /// Hosts below this number cannot reach the others.
    partition: Option<usize>,
    /// How hosts that are added later find peers, besides the tracker.
    pub publicity: Publicity,
    /// Whether hosts know of a tracker.
    pub has_tracker: bool,
    /// Whether the tracker answers.
    pub tracker_runs: bool,
    /// The DHT around the hosts.
    pub crowd: Crowd,
    /// The deadline of each member of the crowd.
    nudges: Vec<Option<u64>>,
    /// One datagram of this many is lost; 0 loses none.
    pub loss: u32,
    /// The host whose DHT queries are recorded, and for each query its time and address.
    pub watched: Option<usize>,
    /// See [`watched`](Self::watched).
    pub queries: Vec<(u64, SocketAddr)>,
}

/// The info-hash of the torrent.
pub const HASH: InfoHash = InfoHash([7; 20]);

/// The size of a socket's send buffer: two blocks.
const SEND_BUFFER: usize = 2 * (BLOCK as usize + 13);

impl World {
    /// A world without hosts, for a torrent with this number of pieces, and of blocks in a piece.
    pub fn new(seed: u64, pieces: u32, blocks: u32) -> World {
        let piece = u64::from(blocks) * u64::from(BLOCK);
        let geometry = Geometry::new(u64::from(pieces) * piece, piece);
        World {
            seed,
            rng: Rng::new(seed),
            now: 1_000_000,
            sequence: 0,
            events: BinaryHeap::new(),
            happenings: HashMap::new(),
            hosts: Vec::new(),
            sites: HashMap::new(),
            links: Vec::new(),
            free_links: Vec::new(),
            geometry: geometry.unwrap_or_else(|e| panic!("{pieces} pieces of {blocks}: {e}")),
            buffer: vec![0; SEND_BUFFER],
            bodies: Bodies::new(),
            drives: 0,
            cues: Vec::new(),
            complete: Vec::new(),
            progress_due: 0,
            partition: None,
            publicity: Publicity::NONE,
            has_tracker: true,
            tracker_runs: true,
            crowd: Crowd::default(),
            nudges: Vec::new(),
            loss: 0,
            watched: None,
            queries: Vec::new(),
        }
    }

    /// The length of the content in bytes.
    pub fn total(&self) -> u64 {
        self.geometry.total()
    }

    /// Seconds since the world began.
    pub fn seconds(&self) -> f64 {
        (self.now - 1_000_000) as f64 / 1e6
    }

    /// A random number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.rng.below(end)
    }

    /// Breaks a random connection of a host, if it has any.
    pub fn break_one(&mut self, host: usize) {
        let mut slots: Vec<_> = self.hosts[host].links.keys().copied().collect();
        slots.sort_unstable();
        let count = u32::try_from(slots.len()).unwrap_or(0);
        let Some(slot) = slots.get(self.rng.below(count) as usize) else {
            return;
        };
        let (link, side) = self.hosts[host].links[slot];
        for side in [side, 1 - side] {
            self.hang_up(link, side);
        }
    }

    /// Separates hosts below this number from the others; `None` ends it.
    pub fn part(&mut self, at: Option<usize>) {
        self.partition = at;
        let apart: Vec<_> = (0..self.links.len())
            .filter(|&link| {
                let ends = self.links[link]
                    .as_ref()
                    .map(|l| [l.ends[0].host, l.ends[1].host]);
                ends.is_some_and(|[a, b]| self.apart(a, b))
            })
            .collect();
        for link in apart {
            self.hang_up(link, 0);
            self.hang_up(link, 1);
        }
    }

    fn apart(&self, a: usize, b: usize) -> bool {
        self.partition.is_some_and(|at| (a < at) != (b < at))
    }

    /// Puts this number into [`cues`](Self::cues) after this many seconds.
    pub fn cue(&mut self, seconds: f64, number: u32) {
        let at = self.now + (seconds * 1e6) as u64;
        self.at(at, Happening::Cue(number));
    }

    fn host_at(&self, addr: SocketAddr) -> Option<usize> {
        self.sites.get(&addr.ip()).copied()
    }

    /// Carries out the next event. Returns false if there is none before `limit` seconds.
    pub fn step(&mut self, limit: f64) -> bool {
        let Some(&Reverse((at, sequence))) = self.events.peek() else {
            return false;
        };
        if (at - 1_000_000) as f64 / 1e6 > limit {
            return false;
        }
        self.events.pop();
        self.now = at;
        if let Some(happening) = self.happenings.remove(&sequence) {
            self.happen(happening);
        }
        self.assert_progress();
        true
    }

    /// Asserts at the end that nothing is on its way any more and that no block was lost.
    pub fn assert_rest(&self) {
        for (n, host) in self.hosts.iter().enumerate().filter(|(_, h)| h.alive) {
            if self.finished(n).is_some() {
                let free = host.node.blocks_free();
                assert_eq!(
                    free, BLOCKS as usize,
                    "seed {}: host {n} lost blocks",
                    self.seed
                );
            }
        }
    }

    fn at(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake(host) => {
                if self.hosts[host].wake.is_some_and(|at| at <= self.now) {
                    self.hosts[host].wake = None;
                    if self.hosts[host].alive {
                        let now = Instant::from_micros(self.now);
                        self.hosts[host].node.tick(now);
                        self.drive(host);
                    }
                }
            }
            Happening::Sent(host) => {
                self.hosts[host].sending = false;
                self.send_next(host);
            }
            Happening::Arrive(link, side, mut bytes) => {
                let Some(link_of) = self.links[link].as_mut() else {
                    return;
                };
                let len = bytes.len();
                bytes.pass(&mut link_of.ends[side].into, len);
                self.read(link, side);
            }
            Happening::HungUp(link, side) => self.hang_up(link, side),
            Happening::Reach { from, conn, to } => self.reach(from, conn, to),
            Happening::Answer(host, job) => self.answer(host, job),
            Happening::NoAnswer(host, job) => {
                if self.hosts[host].alive {
                    self.tell(host, Event::AnnounceFailed(job.id, None));
                }
            }
            Happening::Datagram(datagram) => self.datagram(&datagram),
            Happening::Nudge(member) => self.nudge(member),
            Happening::Disk(host, boots, chore) => {
                if self.hosts[host].alive && self.hosts[host].boots == boots {
                    self.done(host, chore);
                    self.drive(host);
                }
            }
            Happening::Cue(number) => self.cues.push(number),
        }
    }

    fn tell(&mut self, host: usize, event: Event<'_>) {
        let now = Instant::from_micros(self.now);
        self.hosts[host].node.event(now, event);
        self.drive(host);
    }

    /// Carries out the outputs of a node, and notes its next deadline.
    fn drive(&mut self, host: usize) {
        let now = Instant::from_micros(self.now);
        while let Some(action) = self.hosts[host].node.poll(now) {
            self.act(host, action);
        }
        self.send_datagrams(host);
        self.drives += 1;
        if self.drives.is_multiple_of(self.hosts.len().max(8)) {
            self.audit(host);
        }
        let deadline = self.hosts[host].node.deadline().map(Instant::as_micros);
        if let Some(at) = deadline {
            // A deadline that has passed is moved a little later, so that time goes on.
            let at = at.max(self.now + 1);
            if self.hosts[host].wake.is_none_or(|wake| at < wake) {
                self.hosts[host].wake = Some(at);
                self.at(at, Happening::Wake(host));
            }
        }
    }

    /// Checks that a node's numbers add up, and prints the seed if they do not.
    fn audit(&self, host: usize) {
        struct Blame(u64, usize);
        impl Drop for Blame {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    eprintln!("seed {}: the books of host {} are wrong", self.0, self.1);
                }
            }
        }
        let blame = Blame(self.seed, host);
        self.hosts[host].node.audit();
        drop(blame);
    }

    fn act(&mut self, host: usize, action: Action) {
        match action {
            Action::Connect { conn, addr } => {
                let to = self.host_at(addr).unwrap_or(usize::MAX);
                let at = self.now + LATENCY;
                self.at(
                    at,
                    Happening::Reach {
                        from: host,
                        conn,
                        to,
                    },
                );
            }
            Action::Transmit { conn } => {
                if let Some(&(link, side)) = self.hosts[host].links.get(&conn.slot) {
                    self.transmit(link, side);
                }
            }
            Action::Receive { conn } => {
                if let Some(&(link, side)) = self.hosts[host].links.get(&conn.slot) {
                    self.read_into(link, side);
                }
            }
            Action::Close { conn, addr, reason } => {
                if reason == Reason::BadPieces {
                    self.assert_guilty(host, addr);
                }
                let known = self.hosts[host].links.get(&conn.slot).copied();
                if let Some((link, side)) = known.filter(|&at| self.end(at).conn == conn) {
                    self.hosts[host].links.remove(&conn.slot);
                    self.cut(link, side);
                }
            }
            Action::Write { block, span } => {
                let bytes = self.hosts[host].node.take_block(block);
                let bytes = bytes.expect("a block to write");
                self.ask_disk(host, Chore::Write(block, span, bytes));
            }
            Action::Verify { torrent, piece, .. } => {
                self.ask_disk(host, Chore::Verify(torrent, piece));
            }
            // There is always a tracker that can be asked.
            Action::SendLsd => {}
            Action::Announce(job) if self.tracker_runs => {
                self.at(self.now + 2 * LATENCY, Happening::Answer(host, job));
            }
            Action::Announce(job) => self.at(self.now + TIME_OUT, Happening::NoAnswer(host, job)),
            // Torrents do not sleep here, and the tracker does not use UDP.
            Action::Wake { .. } | Action::UdpAnnounced { .. } | Action::FindDhtNodes => {}
            Action::Fetched { .. } => self.fetched(host),
        }
    }

    /// Asserts that a node bans only hosts that lie, unless its disk writes wrong bytes.
    fn assert_guilty(&self, by: usize, addr: SocketAddr) {
        let lies = self
            .host_at(addr)
            .is_some_and(|host| self.hosts[host].profile.lies > 0);
        let spoilt = self.hosts[by].storage.spoilt;
        let seed = self.seed;
        assert!(
            lies || spoilt,
            "seed {seed}: host {by} bans {addr} for nothing"
        );
    }

    fn end(&self, (link, side): (usize, usize)) -> &End {
        &self.links[link].as_ref().expect("a link that is held").ends[side]
    }

    /// Removes, now and then, links that no host holds any more.
    pub fn tidy(&mut self) {
        let waiting: std::collections::HashSet<usize> = self
            .happenings
            .values()
            .filter_map(|h| match h {
                Happening::Arrive(link, ..) | Happening::HungUp(link, _) => Some(*link),
                _ => None,
            })
            .collect();
        for at in 0..self.links.len() {
            let dead = self.links[at]
                .as_ref()
                .is_some_and(|l| !l.ends.iter().any(|e| e.open));
            if dead && !waiting.contains(&at) {
                self.links[at] = None;
                self.free_links.push(at);
            }
        }
    }

    /// The time that nodes are called with, for tests of the world itself.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now)
    }
}

/// The least latency between two hosts in microseconds, and the most that is added to it.
const LATENCY: u64 = 20_000;
const JITTER: u32 = 40_000;
