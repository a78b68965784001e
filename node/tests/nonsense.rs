//! A node downloads from peers that send random messages: nothing panics, and no block of memory is lost.

#![allow(clippy::cast_possible_truncation)]

mod heap;

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use everseed_core::geometry::{BLOCK, BlockRef, Geometry, PieceIndex, TorrentId};
use everseed_core::hash::InfoHash;
use everseed_core::pool::BlockId;
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_core::wire::{Decoder, Features, Handshake, Item, Message};
use everseed_node::memory::Sizes;
use everseed_node::{
    Action, Bodies, ConnId, Event, Have, Identity, Limits, Memory, Node, Order, StorageError,
    Wanted,
};

use heap::Heap;

const HASH: InfoHash = InfoHash([7; 20]);
const PIECES: u32 = 11;
const BLOCKS: usize = 10;

struct Peer {
    id: ConnId,
    fast: bool,
    decoder: Decoder,
    hello: usize,
    inbox: VecDeque<u8>,
    asked: Vec<BlockRef>,
}

struct World {
    node: Node<'static>,
    torrent: TorrentId,
    now: Instant,
    rng: Rng,
    peers: Vec<Peer>,
    writing: Vec<(BlockId, &'static mut [u8])>,
    verifying: Vec<(TorrentId, PieceIndex)>,
    number: u32,
    /// Room for the bytes that the node sends.
    sent: Vec<u8>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let sizes = Sizes {
            conns: 8,
            requests: 40,
            blocks: BLOCKS as u32,
            in_progress: 3,
            in_progress_bits: 12,
            // Not enough for all peers.
            peer_bitfields: 2 * 4,
            counts: PIECES,
            registry: 1,
            torrents: 1,
            bits: 2 * 4,
            tiers: 1,
            udp_announces: 0,
            dht: 0,
            candidates: 4,
            scratch: if rng.below(2) == 0 { 600 } else { 40_000 },
        };
        let memory = Memory::lend(&sizes, &mut Heap);
        let identity = Identity {
            peer_id: *b"-ES0000-aaaaaaaaaaaa",
            port: 6881,
            client: "everseed test",
        };
        let limits = Limits {
            slots: if rng.below(2) == 0 { None } else { Some(2) },
            most_slots: 1 + (seed % 8) as u16,
            peers: u16::MAX,
            upload_bps: None,
            download_bps: (rng.below(4) == 0).then_some(200_000),
        };
        let mut node = Node::new(memory, identity, limits, seed);
        let total = u64::from(PIECES) * 2 * u64::from(BLOCK) - 5000;
        let geometry = Geometry::new(total, 2 * u64::from(BLOCK)).unwrap();
        let torrent = node.add(HASH, geometry, Have::Nothing, 0).unwrap();
        let now = Instant::from_secs(1000);
        let order = if rng.below(2) == 0 {
            Order::Rarest
        } else {
            Order::Sequential
        };
        node.download(now, torrent, Wanted::All, order).unwrap();
        World {
            node,
            torrent,
            now,
            rng,
            peers: Vec::new(),
            writing: Vec::new(),
            verifying: Vec::new(),
            number: 0,
            sent: vec![0; 40_000],
        }
    }

    fn step(&mut self) {
        match self.rng.below(13) {
            0 if self.peers.len() < 6 => self.connect(),
            1 => self.written(),
            2 => self.verified(),
            3 => self.time(),
            4 => self.hang_up(),
            5 => self.storage(),
            6 => self.limits(),
            _ => self.speak(),
        }
        self.act();
        for n in 0..self.peers.len() {
            self.deliver(n);
        }
        self.act();
    }

    /// The owner changes the limits.
    fn limits(&mut self) {
        let mut limits = self.node.limits();
        let rng = &mut self.rng;
        limits.slots = (rng.below(3) > 0).then(|| rng.below(4) as u16);
        limits.peers = rng.below(8) as u16;
        limits.upload_bps = (rng.below(2) == 0).then_some(300_000);
        limits.download_bps = (rng.below(2) == 0).then_some(200_000);
        self.node.set_limits(self.now, limits);
        self.node.audit();
    }

    fn connect(&mut self) {
        self.number += 1;
        let [_, b, c, d] = self.number.to_be_bytes();
        let from = SocketAddr::from(([10, b, c, d], 5000));
        let Some(id) = self.node.accept(self.now, from) else {
            return;
        };
        let fast = self.rng.below(2) == 0;
        let mut peer_id = *b"-XX0000-000000000000";
        peer_id[8..12].copy_from_slice(&self.number.to_be_bytes());
        let features = Features {
            fast,
            extended: false,
            dht: false,
        };
        let hello = Handshake {
            features,
            info_hash: HASH,
            peer_id,
        };
        self.peers.push(Peer {
            id,
            fast,
            decoder: Decoder::new(),
            hello: Handshake::LEN,
            inbox: hello.encode().into(),
            asked: Vec::new(),
        });
    }

    /// A random peer sends a random message, mostly a valid one.
    fn speak(&mut self) {
        if self.peers.is_empty() {
            return;
        }
        let n = self.rng.below(self.peers.len() as u32) as usize;
        // Now and then a piece that does not exist.
        let beyond = self.rng.below(40) / 39;
        let piece = self.rng.below(PIECES + beyond);
        let wild = BlockRef {
            index: piece,
            begin: self.rng.below(3) * BLOCK,
            len: BLOCK - self.rng.below(2) * 5000,
        };
        let peer = &mut self.peers[n];
        let asked = match peer.asked.len() as u32 {
            0 => wild,
            len => peer.asked[self.rng.below(len) as usize],
        };
        let forget = |peer: &mut Peer| peer.asked.retain(|block| *block != asked);
        let message = match self.rng.below(18) {
            0 => Message::Choke,
            1 => Message::Bitfield { len: 2 },
            2 => Message::Have(piece),
            3 if peer.fast => Message::HaveAll,
            4 if peer.fast => Message::HaveNone,
            5 if peer.fast => {
                forget(peer);
                Message::Reject(asked)
            }
            6 if peer.fast => Message::Suggest(piece),
            7 if peer.fast => Message::AllowedFast(piece),
            8 => Message::Interested,
            9 => Message::Request(wild),
            10 => Message::Piece(wild),
            11..15 => {
                forget(peer);
                Message::Piece(asked)
            }
            _ => Message::Unchoke,
        };
        peer.inbox.extend(message.encode().bytes());
        match message {
            Message::Bitfield { .. } => {
                let all = self.rng.below(3) == 0;
                let bits = if all {
                    0xffe0
                } else {
                    self.rng.below(0x800) << 5
                };
                peer.inbox.extend((bits as u16).to_be_bytes());
            }
            Message::Piece(block) => {
                let len = peer.inbox.len() + block.len as usize;
                peer.inbox.resize(len, 7);
            }
            _ => {}
        }
    }

    fn deliver(&mut self, n: usize) {
        for _ in 0..1 + self.rng.below(4) {
            let peer = &mut self.peers[n];
            let most = 1 + self.rng.below(30_000) as usize;
            let Some(space) = self.node.recv_space(peer.id) else {
                return;
            };
            let len = space.len().min(peer.inbox.len()).min(most);
            if len == 0 {
                return;
            }
            peer.inbox.read_exact(&mut space[..len]).unwrap();
            self.node.received(self.now, peer.id, len);
            self.node.audit();
        }
    }

    fn written(&mut self) {
        if !self.writing.is_empty() {
            let n = self.rng.below(self.writing.len() as u32) as usize;
            let (block, bytes) = self.writing.swap_remove(n);
            let first = self.rng.below(PIECES);
            let end = first + self.rng.below(4);
            let result = match self.rng.below(30) {
                0 => Err(StorageError::Full),
                1 => Err(StorageError::Pieces { first, end }),
                _ => Ok(()),
            };
            self.node.written(block, bytes, result);
        }
    }

    fn verified(&mut self) {
        if !self.verifying.is_empty() {
            let n = self.rng.below(self.verifying.len() as u32) as usize;
            let (torrent, piece) = self.verifying.swap_remove(n);
            let event = match self.rng.below(30) {
                0 => Event::Unread(torrent, piece),
                n => Event::Verified(torrent, piece, n % 3 > 0),
            };
            self.node.event(self.now, event);
        }
    }

    fn time(&mut self) {
        let ms = self.rng.below(20_000);
        self.now = self.now + Duration::from_millis(u64::from(ms));
        self.node.tick(self.now);
    }

    fn hang_up(&mut self) {
        if self.rng.below(4) == 0 && !self.peers.is_empty() {
            let n = self.rng.below(self.peers.len() as u32) as usize;
            let peer = self.peers.swap_remove(n);
            self.node.event(self.now, Event::Closed(peer.id));
        }
    }

    fn storage(&mut self) {
        let bits = (self.rng.below(0x800) << 5) as u16;
        let event = match self.rng.below(40) {
            0 => Event::Unreadable(self.torrent),
            1 => Event::Restored(self.torrent, Have::Nothing),
            2 => Event::Restored(self.torrent, Have::Some(&bits.to_be_bytes())),
            3 => Event::Changed(self.torrent, Have::Unverified),
            4 => Event::Changed(self.torrent, Have::Presumed(&bits.to_be_bytes())),
            5 => Event::Recheck(self.torrent),
            6 => return self.want_all(),
            7..14 => Event::Readable(self.torrent),
            _ => Event::Writable(self.torrent),
        };
        self.node.event(self.now, event);
    }

    /// Pieces that were left out are wanted again.
    fn want_all(&mut self) {
        let (id, all) = (self.torrent, Wanted::All);
        // If there is no memory, nothing changes.
        let _ = self.node.download(self.now, id, all, Order::Rarest);
    }

    fn act(&mut self) {
        while let Some(action) = self.node.poll(self.now) {
            match action {
                Action::Write { block, .. } => {
                    let bytes = self.node.take_block(block).unwrap();
                    self.writing.push((block, bytes));
                }
                Action::Verify { torrent, piece, .. } => self.verifying.push((torrent, piece)),
                Action::Transmit { conn } => self.transmit(conn),
                Action::Close { conn, .. } => self.peers.retain(|peer| peer.id != conn),
                Action::Connect { conn, .. } => self.node.event(self.now, Event::Closed(conn)),
                Action::Receive { .. } | Action::Wake { .. } => {}
                Action::Announce(_) | Action::SendLsd => {}
                Action::UdpAnnounced { .. } | Action::FindDhtNodes => {}
                Action::Fetched { .. } => unreachable!("no metadata is fetched"),
            }
        }
    }

    /// Reads the bytes that the node sends, and notes its requests.
    fn transmit(&mut self, conn: ConnId) {
        let (buf, mut bodies) = (&mut self.sent[..], Bodies::new());
        let len = self.node.transmit(self.now, conn, buf, &mut bodies);
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == conn) else {
            return;
        };
        let skip = peer.hello.min(len);
        peer.hello -= skip;
        let mut bytes = &buf[skip..len];
        while let Some(item) = peer.decoder.next(&mut bytes).expect("well-formed") {
            match item {
                Item::Message(Message::Request(block)) => peer.asked.push(block),
                Item::Message(Message::Cancel(block)) => peer.asked.retain(|b| *b != block),
                _ => {}
            }
        }
        self.node.transmitted(self.now, conn, len);
    }

    /// Stops the node, or removes the torrent. All blocks of memory are free at the end.
    fn end(mut self, removed: bool) {
        if removed {
            self.node.remove(self.now, self.torrent);
        } else {
            self.node.stop(self.now);
        }
        for _ in 0..3 {
            self.act();
            while !self.writing.is_empty() {
                self.written();
            }
        }
        assert_eq!(self.node.blocks_free(), BLOCKS);
    }
}

#[test]
fn nobody_is_believed() {
    let (mut good, mut bad, mut whole) = (0, 0, 0);
    for seed in 0..600 {
        let mut world = World::new(seed);
        let steps = 200 + world.rng.below(1500);
        for _ in 0..steps {
            world.step();
        }
        let stats = world.node.torrent(world.torrent).unwrap();
        (good, bad) = (good + stats.good, bad + stats.bad_pieces);
        whole += u32::from(stats.left == 0);
        world.end(seed % 2 == 0);
    }
    // The downloads make progress all the same.
    println!("{good} good pieces, {bad} bad ones, {whole} times all of them");
    assert!(good > 500 && bad > 100 && whole > 0);
}
