//! Nodes that are connected to each other. A connection is a pair of byte queues, and storage knows the right bytes.

#![allow(missing_docs, unreachable_pub, clippy::cast_possible_truncation)]
// Each test file uses a part of this module.
#![allow(dead_code)]

#[path = "../heap/mod.rs"]
mod heap;

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use everseed_core::geometry::{BLOCK, Geometry, PieceIndex, Span, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::pool::BlockId;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_node::memory::Sizes;
use everseed_node::{
    Action, Bodies, BodySource, ConnId, Event, Have, Identity, Limits, Memory, Node, Order,
    PeerSource, Publicity, StorageError, TorrentStats, Wanted,
};

use heap::Heap;

const HASH: InfoHash = InfoHash([7; 20]);
const PIECE: u32 = 3 * BLOCK;
const PIECES: u32 = 20;
const BLOCKS: usize = 24;
/// Bytes of the metadata.
const INFO: u32 = 2 * BLOCK + 1000;

pub struct Swarm {
    pub nodes: Vec<Peer>,
    links: Vec<Link>,
    now: Instant,
    geometry: Geometry,
    rng: Rng,
    /// Room for the bytes that a node sends.
    sent: Vec<u8>,
}

pub struct Peer {
    node: Node<'static>,
    torrent: Option<TorrentId>,
    /// The content that was written.
    data: Vec<u8>,
    /// The metadata that was written.
    info: Vec<u8>,
    /// Blocks that can still be written.
    pub room: Option<usize>,
    /// Whether it sends wrong bytes.
    pub corrupt: bool,
    /// Whether the host keeps blocks for some time before it writes them.
    pub slow_disk: bool,
    writing: VecDeque<(BlockId, &'static mut [u8], Span)>,
    verifying: VecDeque<(TorrentId, PieceIndex)>,
}

/// The two ends of a connection, and the bytes on their way from each of them.
struct Link {
    ends: [(usize, ConnId); 2],
    bytes: [VecDeque<u8>; 2],
    open: [bool; 2],
}

fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n as u8], 6881))
}

fn content(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn memory() -> Memory<'static> {
    let sizes = Sizes {
        conns: 32,
        requests: 500,
        blocks: BLOCKS as u32,
        in_progress: 6,
        in_progress_bits: 24,
        peer_bitfields: 3 * 8,
        counts: PIECES,
        registry: 2,
        torrents: 2,
        bits: 3 * 4,
        tiers: 2,
        udp_announces: 0,
        dht: 0,
        candidates: 8,
        scratch: 512,
    };
    Memory::lend(&sizes, &mut Heap)
}

impl Swarm {
    pub fn new(nodes: usize) -> Swarm {
        Swarm::with_seed(nodes, 1)
    }

    pub fn with_seed(nodes: usize, seed: u64) -> Swarm {
        Swarm::limited(nodes, seed, None)
    }

    /// Every node has the download limit `download_bps`.
    pub fn limited(nodes: usize, seed: u64, download_bps: Option<u64>) -> Swarm {
        let total = u64::from(PIECE) * u64::from(PIECES) - 20_000;
        let peer = |n: usize| {
            let mut peer_id = *b"-ES0000-aaaaaaaaaaaa";
            peer_id[19] = n as u8;
            let identity = Identity {
                peer_id,
                port: 6881,
                client: "everseed test",
            };
            let limits = Limits {
                slots: Some(4),
                most_slots: u16::MAX,
                peers: u16::MAX,
                upload_bps: None,
                download_bps,
            };
            Peer {
                node: Node::new(memory(), identity, limits, seed * 100 + n as u64),
                torrent: None,
                data: vec![0; total as usize],
                info: vec![0; INFO as usize],
                room: None,
                corrupt: false,
                slow_disk: false,
                writing: VecDeque::new(),
                verifying: VecDeque::new(),
            }
        };
        Swarm {
            nodes: (0..nodes).map(peer).collect(),
            links: Vec::new(),
            now: Instant::from_secs(1000),
            geometry: Geometry::new(total, u64::from(PIECE)).unwrap(),
            rng: Rng::new(seed),
            sent: vec![0; 70_000],
        }
    }

    /// Sets the ways in which peers of a node's torrent may be found.
    pub fn publish(&mut self, n: usize, publicity: Publicity) {
        let id = self.nodes[n].torrent.unwrap();
        self.nodes[n].node.publish(self.now, id, publicity);
    }

    /// A node's torrent gets other trackers.
    pub fn forget_trackers(&mut self, n: usize) {
        let id = self.nodes[n].torrent.unwrap();
        self.nodes[n].node.forget_trackers(self.now, id);
    }

    /// The number of open connections that `from` made to `to`.
    pub fn called(&self, from: usize, to: usize) -> usize {
        let its =
            |link: &&Link| link.open == [true; 2] && link.ends[0].0 == from && link.ends[1].0 == to;
        self.links.iter().filter(its).count()
    }

    /// The number of open connections between two nodes.
    pub fn links(&self, a: usize, b: usize) -> usize {
        let between = |link: &&Link| {
            let ends = [link.ends[0].0, link.ends[1].0];
            link.open == [true; 2] && (ends == [a, b] || ends == [b, a])
        };
        self.links.iter().filter(between).count()
    }

    pub fn seed(&mut self, n: usize) {
        let peer = &mut self.nodes[n];
        for (byte, at) in peer.data.iter_mut().zip(0..) {
            *byte = content(at);
        }
        let id = peer.node.add(HASH, self.geometry, Have::All, 0).unwrap();
        peer.node.offer_metadata(id, INFO);
        peer.torrent = Some(id);
    }

    /// A node downloads the metadata, then the content.
    pub fn magnet(&mut self, n: usize) {
        let peer = &mut self.nodes[n];
        peer.torrent = Some(peer.node.add_unknown(self.now, HASH).unwrap());
    }

    pub fn knows(&self, n: usize) -> bool {
        let id = self.nodes[n].torrent.unwrap();
        self.nodes[n].node.metadata(id).is_none()
    }

    /// The metadata is complete.
    fn fetched(&mut self, n: usize, id: TorrentId, len: u32) {
        assert_eq!(len, INFO);
        let node = &mut self.nodes[n].node;
        node.begin_content(self.now, id, self.geometry, Have::Nothing, 0)
            .unwrap();
        node.offer_metadata(id, len);
        node.download(self.now, id, Wanted::All, Order::Rarest)
            .unwrap();
    }

    pub fn download(&mut self, n: usize, have: Have<'_>, wanted: Wanted<'_>, order: Order) {
        let peer = &mut self.nodes[n];
        if let Have::Some(bits) = have {
            for (byte, at) in peer.data.iter_mut().zip(0..) {
                let piece = at / u64::from(PIECE);
                if bits[piece as usize / 8] & (0x80 >> (piece % 8)) != 0 {
                    *byte = content(at);
                }
            }
        }
        let id = peer.node.add(HASH, self.geometry, have, 0).unwrap();
        peer.torrent = Some(id);
        peer.node.download(self.now, id, wanted, order).unwrap();
    }

    /// A tracker names `to` to `from`, which may call it.
    pub fn connect(&mut self, from: usize, to: usize) {
        if let Some(id) = self.nodes[from].torrent {
            let event = Event::Peer(id, address(to), PeerSource::Tracker);
            self.nodes[from].node.event(self.now, event);
        }
    }

    fn dialled(&mut self, from: usize, conn: ConnId, addr: SocketAddr) {
        let to = (0..self.nodes.len()).find(|&n| address(n) == addr).unwrap();
        let answer = self.nodes[to].node.accept(self.now, address(from));
        let node = &mut self.nodes[from].node;
        let Some(accepted) = answer else {
            return node.event(self.now, Event::Closed(conn));
        };
        node.event(self.now, Event::Connected(conn));
        self.links.push(Link {
            ends: [(from, conn), (to, accepted)],
            bytes: Default::default(),
            open: [true; 2],
        });
    }

    pub fn chance(&mut self, of: u32) -> bool {
        self.rng.below(of) == 0
    }

    pub fn break_some(&mut self) {
        for link in 0..self.links.len() {
            if self.chance(3) {
                self.hang_up(link, 0);
                self.hang_up(link, 1);
            }
        }
    }

    fn hang_up(&mut self, link: usize, side: usize) {
        if std::mem::take(&mut self.links[link].open[side]) {
            let (n, conn) = self.links[link].ends[side];
            self.nodes[n].node.event(self.now, Event::Closed(conn));
        }
    }

    pub fn writable(&mut self, n: usize) {
        let id = self.nodes[n].torrent.unwrap();
        self.nodes[n].node.event(self.now, Event::Writable(id));
    }

    pub fn remove(&mut self, n: usize) {
        let id = self.nodes[n].torrent.take().unwrap();
        self.nodes[n].node.remove(self.now, id);
    }

    /// Runs for `time`, or until no node has a deadline in it.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let mut idle = 0;
            while idle < 2 {
                idle = if self.step() { 0 } else { idle + 1 };
            }
            let next = self.nodes.iter().filter_map(|p| p.node.deadline()).min();
            let Some(next) = next.filter(|&at| at <= end) else {
                return;
            };
            self.now = self.now.max(next);
            for peer in &mut self.nodes {
                peer.node.tick(self.now);
            }
        }
    }

    pub fn steps(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    /// Every node does one thing, if it has anything to do. False if no node had.
    fn step(&mut self) -> bool {
        let mut moved = false;
        for n in 0..self.nodes.len() {
            if let Some(action) = self.nodes[n].node.poll(self.now) {
                self.act(n, action);
                moved = true;
            }
            let slow = self.nodes[n].slow_disk && self.chance(3);
            if !slow {
                moved |= self.write(n);
            }
        }
        for link in 0..self.links.len() {
            for side in 0..2 {
                moved |= self.deliver(link, side);
            }
        }
        // Verification comes last, because hashing takes longest.
        for n in 0..self.nodes.len() {
            if !moved && let Some((torrent, piece)) = self.nodes[n].verifying.pop_front() {
                self.verify(n, torrent, piece);
                moved = true;
            }
            self.nodes[n].node.audit();
        }
        moved
    }

    /// Moves bytes from one side of a link to the other.
    fn deliver(&mut self, link: usize, side: usize) -> bool {
        let link = &mut self.links[link];
        let (n, conn) = link.ends[1 - side];
        if !link.open[1 - side] || link.bytes[side].is_empty() {
            return false;
        }
        let node = &mut self.nodes[n].node;
        let Some(space) = node.recv_space(conn) else {
            return false;
        };
        let most = 1 + self.rng.below(20_000) as usize;
        let len = space.len().min(link.bytes[side].len()).min(most);
        link.bytes[side].read_exact(&mut space[..len]).unwrap();
        node.received(self.now, conn, len);
        true
    }

    fn act(&mut self, n: usize, action: Action) {
        match action {
            Action::Transmit { conn } => self.transmit(n, conn),
            Action::Close { conn, .. } => {
                for link in 0..self.links.len() {
                    for side in 0..2 {
                        if self.links[link].ends[side] == (n, conn) {
                            self.links[link].open[side] = false;
                            self.hang_up(link, 1 - side);
                        }
                    }
                }
            }
            Action::Connect { conn, addr } => self.dialled(n, conn, addr),
            Action::Write { block, span } => {
                let bytes = self.nodes[n]
                    .node
                    .take_block(block)
                    .expect("a block to write");
                self.nodes[n].writing.push_back((block, bytes, span));
            }
            Action::Verify { torrent, piece, .. } => {
                self.nodes[n].verifying.push_back((torrent, piece));
            }
            // `deliver` moves bytes whenever there is room.
            Action::Receive { .. } | Action::Wake { .. } => {}
            Action::Announce(_) | Action::SendLsd => {}
            Action::UdpAnnounced { .. } | Action::FindDhtNodes => {}
            Action::Fetched { torrent, len } => self.fetched(n, torrent, len),
        }
    }

    fn write(&mut self, n: usize) -> bool {
        let peer = &mut self.nodes[n];
        let Some((block, bytes, span)) = peer.writing.pop_front() else {
            return false;
        };
        let full = peer.room == Some(0);
        if !full {
            peer.room = peer.room.map(|room| room - 1);
            let start = span.offset as usize;
            let len = span.len as usize;
            let disk = match peer.node.metadata(span.torrent) {
                Some(_) => &mut peer.info,
                None => &mut peer.data,
            };
            disk[start..start + len].copy_from_slice(&bytes[..len]);
        }
        let result = if full {
            Err(StorageError::Full)
        } else {
            Ok(())
        };
        peer.node.written(block, bytes, result);
        true
    }

    fn verify(&mut self, n: usize, torrent: TorrentId, piece: PieceIndex) {
        let start = self.geometry.piece_offset(piece);
        let end = start + u64::from(self.geometry.piece_size(piece));
        let peer = &mut self.nodes[n];
        let good = match peer.node.metadata(torrent) {
            Some(_) => (peer.info.iter().zip(0..)).all(|(&b, at)| b == !content(at)),
            None => (start..end).all(|at| peer.data[at as usize] == content(at)),
        };
        peer.node
            .event(self.now, Event::Verified(torrent, piece, good));
    }

    fn transmit(&mut self, n: usize, conn: ConnId) {
        let find = |l: &Link| (0..2).find(|&side| l.ends[side] == (n, conn) && l.open[side]);
        let found = self
            .links
            .iter()
            .enumerate()
            .find_map(|(i, l)| Some((i, find(l)?)));
        let Some((link, side)) = found else { return };
        let (buf, mut bodies) = (&mut self.sent[..], Bodies::new());
        let peer = &mut self.nodes[n];
        let len = peer.node.transmit(self.now, conn, buf, &mut bodies);
        for body in &bodies {
            let (start, len) = (body.span.offset as usize, body.span.len as usize);
            let gap = &mut buf[body.at..body.at + len];
            if body.source == BodySource::Info {
                let bytes = (body.span.offset..).map(|at| !content(at));
                gap.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
                if peer.corrupt {
                    gap.fill(0);
                }
                continue;
            }
            gap.copy_from_slice(&peer.data[start..start + len]);
            assert!(
                gap.iter()
                    .zip(body.span.offset..)
                    .all(|(&b, at)| b == content(at)),
                "what is sent was not verified"
            );
            if peer.corrupt {
                gap.fill(0);
            }
        }
        let sent = len.min(1 + self.rng.below(60_000) as usize);
        self.links[link].bytes[side].extend(&buf[..sent]);
        self.nodes[n].node.transmitted(self.now, conn, sent);
    }

    pub fn stats(&self, n: usize) -> TorrentStats {
        self.nodes[n]
            .node
            .torrent(self.nodes[n].torrent.unwrap())
            .unwrap()
    }

    pub fn pieces(&self, n: usize) -> Vec<u32> {
        let Have::Some(bits) = self.nodes[n].node.good(self.nodes[n].torrent.unwrap()) else {
            return Vec::new();
        };
        let set = |p: &u32| bits[*p as usize / 8] & (0x80 >> (p % 8)) != 0;
        (0..PIECES).filter(set).collect()
    }

    pub fn assert_complete(&self, n: usize) {
        let stats = self.stats(n);
        assert_eq!((stats.good, stats.left), (PIECES, 0), "node {n}: {stats:?}");
        let good = |(&b, at): (&u8, u64)| b == content(at);
        assert!(self.nodes[n].data.iter().zip(0..).all(good));
    }

    /// Asserts that no block of memory is in use any more.
    pub fn assert_rest(&self) {
        for (n, peer) in self.nodes.iter().enumerate() {
            assert_eq!(peer.node.blocks_free(), BLOCKS, "node {n} lost blocks");
        }
    }
}
