//! One node and any number of scripted peers in virtual time. The content is computed from its offset.

#![allow(missing_docs, unreachable_pub, clippy::cast_possible_truncation)]
// Each test file uses a part of this module.
#![allow(dead_code)]

#[path = "../heap/mod.rs"]
mod heap;
mod peer;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use everseed_core::geometry::{BLOCK, Geometry, PieceIndex, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use everseed_core::wire::{Message, PeerId};
use everseed_node::discovery::announcer::Job;
use everseed_node::memory::Sizes;
use everseed_node::{
    Action, Bodies, BodySource, ConnId, Event, Have, Identity, Limits, Memory, Node, Order, Reason,
    StorageError, Wanted,
};

use heap::Heap;
pub use peer::Peer;

pub const HASH: InfoHash = InfoHash([7; 20]);
pub const OURS: PeerId = *b"-ES0000-aaaaaaaaaaaa";
pub const PIECE: u32 = 4 * BLOCK;
pub const PIECES: u32 = 20;

/// The byte of the content at `offset`.
pub fn content(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

pub struct Setup {
    pub conns: usize,
    pub requests: usize,
    /// Blocks of memory for a download; 0 if nothing is downloaded.
    pub blocks: usize,
    pub slots: u16,
    pub upload_bps: Option<u64>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            conns: 32,
            requests: 2048,
            blocks: 0,
            slots: 4,
            upload_bps: None,
        }
    }
}

pub struct World {
    pub node: Node<'static>,
    pub now: Instant,
    pub torrent: TorrentId,
    pub geometry: Geometry,
    /// Pieces that are bad when they are verified.
    pub bad: Vec<u32>,
    /// Pieces that cannot be read.
    pub unread: Vec<u32>,
    /// Pieces that cannot be written.
    pub unwritable: std::ops::Range<u32>,
    /// Pieces that the node wanted to be verified from the disk, not from the page cache.
    pub fresh: Vec<u32>,
    pub verified: Vec<u32>,
    /// Whether peers may send bad blocks.
    pub lies: bool,
    /// Offsets of bad blocks on the disk.
    pub wrong: HashSet<u64>,
    pub dialled: Vec<(ConnId, SocketAddr)>,
    pub announces: Vec<Job>,
    /// Sleeping torrents that the node wants to wake.
    pub asked_for: Vec<TorrentId>,
    pub closed: HashMap<SocketAddr, Reason>,
    /// Whether the disk is full.
    pub full: bool,
    /// The metadata that was written so far.
    pub spool: Vec<u8>,
    /// The right metadata.
    pub info: Vec<u8>,
    /// Whether the node said that the metadata is complete.
    pub fetched: bool,
    pub peers: Vec<Peer>,
    pub slots: u16,
    /// The most bytes that a socket takes at a time.
    pub write_limit: usize,
}

impl World {
    pub fn new(setup: &Setup, have: Have<'_>) -> World {
        let downloads = u32::from(setup.blocks > 0);
        let sizes = Sizes {
            conns: setup.conns as u32,
            requests: setup.requests as u32,
            blocks: setup.blocks as u32,
            in_progress: setup.blocks as u32,
            in_progress_bits: 4 * setup.blocks as u32,
            peer_bitfields: 3 * setup.conns as u32 * downloads,
            counts: PIECES * downloads,
            registry: 8,
            torrents: 4,
            bits: 64,
            tiers: 4,
            udp_announces: 2,
            dht: 1,
            candidates: 16,
            scratch: 4096,
        };
        let memory = Memory::lend(&sizes, &mut Heap);
        let identity = Identity {
            peer_id: OURS,
            port: 6881,
            client: "everseed test",
        };
        let limits = Limits {
            slots: Some(setup.slots),
            most_slots: u16::MAX,
            peers: u16::MAX,
            upload_bps: setup.upload_bps,
            download_bps: None,
        };
        let mut node = Node::new(memory, identity, limits, 1);
        // The last piece is short, and so is its last block.
        let total = u64::from(PIECE) * u64::from(PIECES) - 20_000;
        let geometry = Geometry::new(total, u64::from(PIECE)).unwrap();
        let torrent = node.add(HASH, geometry, have, 0).unwrap();
        World {
            node,
            now: Instant::from_secs(1000),
            torrent,
            geometry,
            bad: Vec::new(),
            unread: Vec::new(),
            unwritable: 0..0,
            fresh: Vec::new(),
            verified: Vec::new(),
            lies: false,
            wrong: HashSet::new(),
            dialled: Vec::new(),
            announces: Vec::new(),
            asked_for: Vec::new(),
            closed: HashMap::new(),
            full: false,
            spool: Vec::new(),
            info: Vec::new(),
            fetched: false,
            peers: Vec::new(),
            slots: setup.slots,
            write_limit: usize::MAX,
        }
    }

    /// A node that has the first `have` pieces and downloads the others.
    pub fn downloading(setup: &Setup, have: u32) -> World {
        let mut bits = [0; 3];
        (0..have).for_each(|piece| bits[piece as usize / 8] |= 0x80 >> (piece % 8));
        let mut world = World::new(setup, Have::Some(&bits));
        let (id, all) = (world.torrent, Wanted::All);
        let download = world.node.download(world.now, id, all, Order::Rarest);
        download.expect("room for a download");
        world
    }

    /// A node that knows only the info-hash of the torrent. Its metadata has `len` bytes.
    pub fn magnet(setup: &Setup, len: u32) -> World {
        let mut world = World::new(setup, Have::Nothing);
        world.node.remove(world.now, world.torrent);
        world.torrent = world.node.add_unknown(world.now, HASH).unwrap();
        world.info = (0..u64::from(len)).map(|at| !content(at)).collect();
        world
    }

    /// A peer that names `size` as the length of its metadata.
    pub fn metadata_peer(&mut self, fast: bool, size: u32) -> usize {
        let peer = self.connect().expect("a free connection");
        self.peers[peer].greet(HASH, fast);
        let hello = format!("d1:md11:ut_metadatai3ee13:metadata_sizei{size}ee");
        self.peers[peer].extended(0, hello.as_bytes());
        self.settle();
        peer
    }

    /// A peer sends the requested metadata until no request is left.
    pub fn give_info(&mut self, peer: usize) {
        while let Some(piece) = self.peers[peer].info_request() {
            let info = std::mem::take(&mut self.info);
            self.peers[peer].send_info(piece, info.len() as u32, &info);
            self.info = info;
            self.settle();
        }
    }

    /// Adds the content after its metadata was fetched, and starts its download.
    pub fn begin_content(&mut self, have: Have<'_>) {
        self.add_content(have);
        self.download_content();
    }

    /// Adds the content after its metadata was fetched.
    pub fn add_content(&mut self, have: Have<'_>) {
        let (now, id) = (self.now, self.torrent);
        let begun = self.node.begin_content(now, id, self.geometry, have, 0);
        begun.expect("room for the content");
        self.node.offer_metadata(id, self.info.len() as u32);
    }

    /// Starts the download of the content.
    pub fn download_content(&mut self) {
        let (now, id) = (self.now, self.torrent);
        let download = self.node.download(now, id, Wanted::All, Order::Rarest);
        download.expect("room for a download");
        self.settle();
    }

    /// A peer that has all pieces and unchokes us at once. It is interested too.
    pub fn seed_peer(&mut self, fast: bool) -> usize {
        let peer = self.leecher(fast);
        self.peers[peer].say(&[Message::Bitfield { len: 3 }]);
        self.peers[peer].inbox.extend([0xff, 0xff, 0xf0]);
        self.peers[peer].say(&[Message::Unchoke]);
        self.settle();
        peer
    }

    /// A peer that has connected and sent nothing.
    pub fn connect(&mut self) -> Option<usize> {
        let n = self.peers.len() as u16;
        self.connect_from(SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 50_000)))
    }

    /// The same from `addr`.
    pub fn connect_from(&mut self, addr: SocketAddr) -> Option<usize> {
        let id = self.node.accept(self.now, addr)?;
        self.peers.push(Peer::new(id, addr));
        Some(self.peers.len() - 1)
    }

    /// A peer that has finished its handshake and is interested.
    pub fn leecher(&mut self, fast: bool) -> usize {
        let peer = self.connect().expect("a free connection");
        self.peers[peer].greet(HASH, fast);
        self.peers[peer].say(&[Message::Interested]);
        self.settle();
        peer
    }

    /// Moves bytes and carries out actions until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let mut moved = false;
            for peer in 0..self.peers.len() {
                moved |= self.deliver(peer);
            }
            while let Some(action) = self.node.poll(self.now) {
                self.act(action);
                moved = true;
            }
            let stats = self.node.stats();
            assert!(stats.unchoked <= self.slots, "{stats:?}");
            self.node.audit();
            if !moved {
                return;
            }
        }
        panic!("the node never comes to rest");
    }

    /// Lets time pass in steps of the node's own deadlines.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(at) = self.node.deadline().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.node.tick(self.now);
            self.settle();
            steps += 1;
            assert!(steps < 100_000, "a deadline that never passes");
        }
        self.now = end;
        self.node.tick(self.now);
        self.settle();
    }

    fn deliver(&mut self, peer: usize) -> bool {
        let peer = &mut self.peers[peer];
        if !peer.open || peer.inbox.is_empty() || peer.held_back {
            return false;
        }
        let Some(space) = self.node.recv_space(peer.id) else {
            peer.held_back = true;
            return false;
        };
        let len = space.len().min(peer.inbox.len());
        space[..len].copy_from_slice(&peer.inbox[..len]);
        peer.inbox.drain(..len);
        self.node.received(self.now, peer.id, len);
        true
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Transmit { conn } => self.transmit(conn),
            Action::Close { conn, addr, reason } => {
                self.closed.insert(addr, reason);
                for peer in self.peers.iter_mut().filter(|p| p.id == conn && p.open) {
                    peer.open = false;
                }
            }
            Action::Connect { conn, addr } => self.dialled.push((conn, addr)),
            Action::Verify {
                torrent,
                piece,
                fresh,
            } => {
                self.fresh.extend(fresh.then_some(piece.get()));
                self.verify(torrent, piece);
            }
            Action::Fetched { torrent, len } => {
                assert_eq!((torrent, len as usize), (self.torrent, self.info.len()));
                self.fetched = true;
            }
            Action::Write { block, span } if self.node.metadata(span.torrent).is_some() => {
                let bytes = self.node.take_block(block).expect("a block to write");
                let (at, len) = (span.offset as usize, span.len as usize);
                self.spool.resize(self.spool.len().max(at + len), 0);
                self.spool[at..at + len].copy_from_slice(&bytes[..len]);
                self.node.written(block, bytes, Ok(()));
            }
            Action::Write { block, span } => {
                let bytes = self.node.take_block(block).expect("a block to write");
                let len = span.len as usize;
                let same = |(&b, at): (&u8, u64)| b == content(at);
                let right = bytes[..len].iter().zip(span.offset..).all(same);
                assert!(right || self.lies);
                match right {
                    true => self.wrong.remove(&span.offset),
                    false => self.wrong.insert(span.offset),
                };
                let piece = (span.offset / u64::from(PIECE)) as u32;
                let (first, end) = (self.unwritable.start, self.unwritable.end);
                let result = match self.full {
                    true => Err(StorageError::Full),
                    false if (first..end).contains(&piece) => {
                        Err(StorageError::Pieces { first, end })
                    }
                    false => Ok(()),
                };
                self.node.written(block, bytes, result);
            }
            Action::Announce(job) => self.announces.push(job),
            Action::UdpAnnounced { .. } => {}
            Action::SendLsd | Action::FindDhtNodes => {}
            Action::Wake { torrent } => self.asked_for.push(torrent),
            Action::Receive { conn } => {
                for peer in self.peers.iter_mut().filter(|p| p.id == conn) {
                    peer.held_back = false;
                }
            }
        }
    }

    fn verify(&mut self, torrent: TorrentId, piece: PieceIndex) {
        self.verified.push(piece.get());
        if let Some(stats) = self.node.metadata(torrent) {
            let good = self.spool[..stats.size as usize] == self.info;
            let event = Event::Verified(torrent, piece, good);
            return self.node.event(self.now, event);
        }
        let its = |at: &u64| self.geometry.piece_at(*at) == Some(piece);
        let good = !self.bad.contains(&piece.get()) && !self.wrong.iter().any(its);
        let event = match self.unread.contains(&piece.get()) {
            true => Event::Unread(torrent, piece),
            false => Event::Verified(torrent, piece, good),
        };
        self.node.event(self.now, event);
    }

    pub fn transmit(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.iter_mut().find(|p| p.id == conn && p.open) else {
            return;
        };
        if !peer.reads {
            return;
        }
        let (mut buf, mut bodies) = (vec![0; 70_000], Bodies::new());
        let len = self.node.transmit(self.now, conn, &mut buf, &mut bodies);
        let again = {
            let (mut other, mut others) = (vec![0; 70_000], Bodies::new());
            let again = self.node.transmit(self.now, conn, &mut other, &mut others);
            (again, others)
        };
        assert_eq!(
            (len, &bodies),
            (again.0, &again.1),
            "asking changed the answer"
        );
        for body in &bodies {
            let gap = &mut buf[body.at..body.at + body.span.len as usize];
            for (byte, offset) in gap.iter_mut().zip(body.span.offset..) {
                *byte = match body.source {
                    BodySource::Content => content(offset),
                    BodySource::Info => !content(offset),
                };
            }
        }
        let sent = len.min(self.write_limit);
        peer.take(&buf[..sent], &self.geometry);
        self.node.transmitted(self.now, conn, sent);
    }
}
