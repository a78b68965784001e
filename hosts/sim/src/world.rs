//! [`World`]: the hosts and their nodes, the clock, and the queue of what happens next.

mod datagrams;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use everseed_core::geometry::{BLOCK, Geometry, PieceIndex, Span, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::pool::BlockId;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_core::tracker::{AnnounceEvent, Intervals};
use everseed_heap::Heap;
use everseed_node::discovery::announcer::Job;
use everseed_node::memory::Sizes;
use everseed_node::{
    Action, Bodies, ConnId, Event, Have, Identity, Limits, Memory, Node, Order, PeerSource,
    Publicity, Reason, StorageError, TorrentStats, Wanted,
};

use crate::crowd::{Crowd, Datagram, PLACES, public};
use crate::link::{End, Link, Pipe};
use crate::router::{Nat, Router};
use crate::storage::Storage;

/// How a host is connected and what it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Bytes per second that it can send.
    pub up: u64,
    /// Bytes per second that it can receive.
    pub down: u64,
    /// Peers that it serves at a time.
    pub slots: u16,
    /// The router that it is behind; it can be dialled if that is open.
    pub nat: Nat,
    /// It never uploads.
    pub free_rider: bool,
    /// One of so many times what it sends is wrong; 0 is never.
    pub lies: u32,
    /// Further torrents that it is a seed of, all asleep.
    pub asleep: u32,
}

/// One node and the machine that it runs on.
struct Host {
    node: Node<'static>,
    torrent: TorrentId,
    profile: Profile,
    storage: Storage,
    alive: bool,
    /// How often it was started.
    boots: u32,
    /// When its disk has done what it was asked for.
    disk_free: u64,
    /// Connections by the node's slot: the link, and which end of it.
    links: HashMap<u16, (usize, usize)>,
    /// Ends with something to send, in turns.
    row: VecDeque<(usize, usize)>,
    sending: bool,
    down_free: u64,
    wake: Option<u64>,
    finished: Option<u64>,
    addr: SocketAddr,
    router: Router,
    /// What it has of the metadata, as long as it lacks some.
    metadata: Option<Storage>,
    reached: Reached,
}

/// When a host came how far, in microseconds of the world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reached {
    /// It was started.
    pub started: u64,
    /// It called its first peer.
    pub peer: Option<u64>,
    /// It had the metadata.
    pub metadata: Option<u64>,
    /// It had verified its first piece.
    pub piece: Option<u64>,
}

/// What happens at a time.
enum Happening {
    /// A host's deadline.
    Wake(usize),
    /// A host has sent what it was sending.
    Sent(usize),
    /// Bytes arrive at an end of a link.
    Arrive(usize, usize, Pipe),
    /// A host hears that the other end of a link hung up.
    HungUp(usize, usize),
    /// A dialled host is reached.
    Reach {
        from: usize,
        conn: ConnId,
        to: usize,
    },
    /// A tracker's answer.
    Answer(usize, Job),
    /// A host gives up waiting for the tracker.
    NoAnswer(usize, Job),
    /// A datagram arrives.
    Datagram(Datagram),
    /// A deadline of a member of the crowd.
    Nudge(usize),
    /// The disk of a host has done something, which is of no interest if it was started again since.
    Disk(usize, u32, Chore),
    /// The scenario does something.
    Cue(u32),
}

/// What a disk does.
enum Chore {
    Write(BlockId, Span, &'static mut [u8]),
    Verify(TorrentId, PieceIndex),
}

/// Everything.
pub struct World {
    /// The seed that decides everything.
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
    /// How often a node was driven.
    drives: usize,
    /// Cues that have come.
    pub cues: Vec<u32>,
    /// The one end of the world that cannot talk to the other: hosts below this number.
    partition: Option<usize>,
    /// By what hosts that are added may find each other besides the tracker.
    pub publicity: Publicity,
    /// Whether hosts know of a tracker.
    pub has_tracker: bool,
    /// Whether the tracker answers.
    pub tracker_runs: bool,
    /// The DHT around the hosts.
    pub crowd: Crowd,
    /// When members of the crowd are to be woken.
    nudges: Vec<Option<u64>>,
    /// One of so many datagrams is lost; 0 is none.
    pub loss: u32,
    /// The host whose queries are noted, and these: when, and to whom.
    pub watched: Option<usize>,
    /// See [`watched`](Self::watched).
    pub queries: Vec<(u64, SocketAddr)>,
}

/// The torrent's.
pub const HASH: InfoHash = InfoHash([7; 20]);

/// Bytes of its metadata.
const METADATA: u32 = 40_000;

/// Bytes in a socket's send buffer: two blocks.
const SEND_BUFFER: usize = 2 * (BLOCK as usize + 13);

/// Peers that the tracker names.
const NAMED: usize = 50;

const CONNS: u32 = 80;
const BLOCKS: u32 = 64;

/// The address of a host in one network, in which it means nothing where each is; there is one for each number.
fn local(host: usize) -> SocketAddr {
    let [_, b, c, d] = u32::try_from(host + 1).unwrap_or(0).to_be_bytes();
    SocketAddr::from(([10, b, c, d], 6881))
}

fn memory(geometry: &Geometry, torrents: u32, dht: bool) -> Memory<'static> {
    let bitfield = geometry.bitfield_len();
    let sizes = Sizes {
        conns: CONNS,
        requests: 1000,
        blocks: BLOCKS,
        in_progress: 32,
        in_progress_bits: 32 * 4 * geometry.piece_len().div_ceil(8 * BLOCK),
        peer_bitfields: CONNS * bitfield,
        counts: geometry.pieces(),
        registry: torrents,
        torrents: 1,
        bits: 4 * bitfield,
        tiers: 1,
        udp_announces: 0,
        dht: dht.into(),
        candidates: 120,
        scratch: 2 * BLOCK,
    };
    Memory::lend(&sizes, &mut Heap)
}

impl World {
    /// A world without hosts, for a torrent of so many pieces of so many blocks.
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

    /// Bytes of content.
    pub fn total(&self) -> u64 {
        self.geometry.total()
    }

    /// Seconds since the world began.
    pub fn seconds(&self) -> f64 {
        (self.now - 1_000_000) as f64 / 1e6
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.rng.below(end)
    }

    /// A new host that has all or nothing, and its number.
    pub fn add(&mut self, profile: Profile, complete: bool) -> usize {
        let storage = Storage::new(self.geometry, complete);
        self.start(profile, storage, None)
    }

    /// A new host that knows nothing but the info-hash, and its number.
    pub fn add_magnet(&mut self, profile: Profile) -> usize {
        let storage = Storage::new(self.geometry, false);
        let piece = u64::from(METADATA.next_multiple_of(BLOCK));
        let metadata = Geometry::new(METADATA.into(), piece).expect("metadata of one piece");
        self.start(profile, storage, Some(Storage::new(metadata, false)))
    }

    fn start(&mut self, profile: Profile, storage: Storage, metadata: Option<Storage>) -> usize {
        let host = self.hosts.len();
        // Where the internet is around them, they are in it.
        let addr = match self.publicity == Publicity::NONE {
            true => local(host),
            false => public(PLACES + host),
        };
        self.sites.insert(addr.ip(), host);
        let (node, torrent) = self.boot(addr, profile, &storage, metadata.is_some());
        let started = self.now;
        self.hosts.push(Host {
            addr,
            router: Router::new(profile.nat, addr),
            metadata,
            reached: Reached {
                started,
                ..Reached::default()
            },
            node,
            torrent,
            profile,
            storage,
            alive: true,
            boots: 0,
            disk_free: 0,
            links: HashMap::new(),
            row: VecDeque::new(),
            sending: false,
            down_free: 0,
            wake: None,
            finished: None,
        });
        self.drive(host);
        host
    }

    fn boot(
        &mut self,
        addr: SocketAddr,
        profile: Profile,
        storage: &Storage,
        magnet: bool,
    ) -> (Node<'static>, TorrentId) {
        let mut peer_id = *b"-EV0100-000000000000";
        peer_id[12..20].copy_from_slice(&self.rng.bits().to_be_bytes());
        let identity = Identity {
            peer_id,
            port: addr.port(),
            client: "everseed-sim",
        };
        let limits = Limits {
            slots: Some(profile.slots),
            most_slots: profile.slots,
            peers: u16::MAX,
            // As little as can be said.
            upload_bps: profile.free_rider.then_some(1),
            download_bps: None,
        };
        let memory = memory(&self.geometry, 1 + profile.asleep, self.publicity.dht());
        let mut node = Node::new(memory, identity, limits, self.rng.bits());
        let bits = storage.check();
        let count = everseed_core::bits::count(&bits);
        let have = match count {
            0 => Have::Nothing,
            n if n == self.geometry.pieces() => Have::All,
            _ => Have::Some(&bits),
        };
        let now = Instant::from_micros(self.now);
        if self.publicity.dht() {
            self.join(&mut node, profile);
        }
        let torrent = match magnet {
            true => node.add_unknown(now, HASH).expect(ENOUGH),
            false => node.add(HASH, self.geometry, have, 0).expect(ENOUGH),
        };
        if !magnet {
            let order = Order::Rarest;
            node.download(now, torrent, Wanted::All, order)
                .expect(ENOUGH);
        }
        if !magnet && self.publicity != Publicity::NONE {
            node.offer_metadata(torrent, METADATA);
        }
        if self.has_tracker {
            node.announce(now, torrent, 0, 1).expect(ENOUGH);
        }
        node.publish(now, torrent, self.publicity);
        (node, torrent)
    }

    /// A host has the metadata: it goes on with the content.
    fn fetched(&mut self, host: usize) {
        let now = Instant::from_micros(self.now);
        let this = &mut self.hosts[host];
        (this.metadata, this.reached.metadata) = (None, Some(self.now));
        let (node, torrent) = (&mut this.node, this.torrent);
        node.begin_content(now, torrent, self.geometry, Have::Nothing, 0)
            .expect(ENOUGH);
        node.offer_metadata(torrent, METADATA);
        node.download(now, torrent, Wanted::All, Order::Rarest)
            .expect(ENOUGH);
    }

    /// The host is gone from one moment to the next; its peers hear of it.
    pub fn stop(&mut self, host: usize) {
        self.hosts[host].alive = false;
        let links: Vec<_> = self.hosts[host].links.drain().map(|(_, at)| at).collect();
        for (link, side) in links {
            self.cut(link, side);
        }
        self.hosts[host].row.clear();
    }

    /// The host's power goes and comes back: what was not synced is lost or spoiled.
    pub fn crash(&mut self, host: usize) {
        self.stop(host);
        let mut rng = Rng::new(self.rng.bits());
        self.hosts[host].storage.crash(|| rng.below(2) == 0);
        let (profile, storage) = (self.hosts[host].profile, self.hosts[host].storage.clone());
        let (addr, magnet) = (self.hosts[host].addr, self.hosts[host].metadata.is_some());
        let (node, torrent) = self.boot(addr, profile, &storage, magnet);
        let fresh = &mut self.hosts[host];
        (fresh.node, fresh.torrent) = (node, torrent);
        (fresh.alive, fresh.sending, fresh.wake) = (true, false, None);
        (fresh.boots, fresh.disk_free) = (fresh.boots + 1, self.now);
        let complete = fresh.node.is_complete(torrent);
        fresh.finished = complete.then_some(self.now);
        self.drive(host);
    }

    /// The host's storage, for faults.
    pub fn storage(&mut self, host: usize) -> &mut Storage {
        &mut self.hosts[host].storage
    }

    /// A host's disk takes writes again.
    pub fn writable(&mut self, host: usize) {
        let event = Event::Writable(self.hosts[host].torrent);
        self.tell(host, event);
    }

    /// Breaks a connection of a host, if it has any.
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

    /// Hosts below this number cannot reach the others, and the reverse; `None` ends it.
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

    /// Has [`cues`](Self::cues) hold this number after so many seconds.
    pub fn cue(&mut self, seconds: f64, number: u32) {
        let at = self.now + (seconds * 1e6) as u64;
        self.at(at, Happening::Cue(number));
    }

    /// When a host had everything, in seconds.
    pub fn finished(&self, host: usize) -> Option<f64> {
        let at = self.hosts[host].finished?;
        Some((at - 1_000_000) as f64 / 1e6)
    }

    /// When a host came how far.
    pub fn reached(&self, host: usize) -> Reached {
        self.hosts[host].reached
    }

    /// Whether a host runs.
    pub fn is_alive(&self, host: usize) -> bool {
        self.hosts[host].alive
    }

    /// Numbers of a host's torrent.
    pub fn stats(&self, host: usize) -> TorrentStats {
        let host = &self.hosts[host];
        host.node
            .torrent(host.torrent)
            .expect("no torrent is removed")
    }

    fn host_at(&self, addr: SocketAddr) -> Option<usize> {
        self.sites.get(&addr.ip()).copied()
    }

    /// Lets the next thing happen; false when nothing will, before `limit` seconds.
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
        true
    }

    /// After everything: whatever was on its way came to an end, and nothing was lost on the way.
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

    /// Carries out what a node wants, and notes when it wants to be woken.
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
            // A deadline that has passed is for a little later, so that time goes on.
            let at = at.max(self.now + 1);
            if self.hosts[host].wake.is_none_or(|wake| at < wake) {
                self.hosts[host].wake = Some(at);
                self.at(at, Happening::Wake(host));
            }
        }
    }

    /// Adds up a node's books, and names the seed if they are wrong.
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
            // There is no network that has no tracker.
            Action::SendLsd => {}
            Action::Announce(job) if self.tracker_runs => {
                self.at(self.now + 2 * LATENCY, Happening::Answer(host, job));
            }
            Action::Announce(job) => self.at(self.now + TIME_OUT, Happening::NoAnswer(host, job)),
            // No torrent is put to sleep here, and no tracker speaks UDP.
            Action::Wake { .. } | Action::UdpAnnounced { .. } | Action::FindDhtNodes => {}
            Action::Fetched { .. } => self.fetched(host),
        }
    }

    /// Only who lied is banned for it, unless a disk spoils things.
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

    /// Has the disk do something, now or when it comes to it.
    fn ask_disk(&mut self, host: usize, chore: Chore) {
        let this = &mut self.hosts[host];
        let free = this.disk_free.max(self.now);
        if this.storage.slow == 0 && free == self.now {
            return self.done(host, chore);
        }
        this.disk_free = free + this.storage.slow;
        let (at, boots) = (this.disk_free, this.boots);
        self.at(at, Happening::Disk(host, boots, chore));
    }

    /// The disk has done it.
    fn done(&mut self, host: usize, chore: Chore) {
        let now = Instant::from_micros(self.now);
        let (seed, this) = (self.seed, &mut self.hosts[host]);
        match chore {
            Chore::Write(block, span, bytes) => {
                let storage = this.metadata.as_mut().unwrap_or(&mut this.storage);
                let result = match storage.write(span, bytes) {
                    true => Ok(()),
                    false => Err(StorageError::Full),
                };
                this.node.written(block, bytes, result);
            }
            Chore::Verify(torrent, piece) => {
                let good = this
                    .metadata
                    .as_ref()
                    .unwrap_or(&this.storage)
                    .verify(piece);
                this.node.event(now, Event::Verified(torrent, piece, good));
                if this.metadata.is_none() && good {
                    this.reached.piece.get_or_insert(self.now);
                }
                let done = this.node.is_complete(torrent);
                if done && this.finished.is_none() {
                    this.finished = Some(self.now);
                    let whole = self.geometry.all_pieces().all(|p| this.storage.verify(p));
                    assert!(whole, "seed {seed}: host {host} is complete and is not");
                }
            }
        }
    }

    fn end(&self, (link, side): (usize, usize)) -> &End {
        &self.links[link].as_ref().expect("a link that is held").ends[side]
    }

    /// The tracker names some hosts.
    fn answer(&mut self, host: usize, job: Job) {
        if !self.hosts[host].alive {
            return;
        }
        let torrent = self.hosts[host].torrent;
        if job.event != AnnounceEvent::Stopped {
            let count = self.hosts.len();
            for n in 0..NAMED.min(count) {
                // Of few all, of many some.
                let other = match count <= NAMED {
                    true => n,
                    false => self.rng.below(u32::try_from(count).unwrap_or(0)) as usize,
                };
                let named = &self.hosts[other];
                if other != host && named.alive && named.profile.nat == Nat::Open {
                    let now = Instant::from_micros(self.now);
                    let event = Event::Peer(torrent, self.hosts[other].addr, PeerSource::Tracker);
                    self.hosts[host].node.event(now, event);
                }
            }
        }
        let interval = Intervals::told(Some(120), None);
        self.tell(host, Event::Announced(job.id, interval));
    }

    /// Makes room of links that nobody holds, now and then.
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

    /// The time as the nodes see it, for tests of the world itself.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now)
    }
}

/// Microseconds from one host to another, at least, and how many more there may be.
const LATENCY: u64 = 20_000;
const JITTER: u32 = 40_000;

/// Microseconds after which a tracker that is gone is not waited for any more.
const TIME_OUT: u64 = 15_000_000;

/// What is expected of [`memory`].
const ENOUGH: &str = "a world is made with enough memory";
