//! [`Host`]: one node and the machine that it runs on, from its start to its end.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use everseed_core::geometry::{BLOCK, Geometry, TorrentId};
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_heap::Heap;
use everseed_node::memory::Sizes;
use everseed_node::{Have, Identity, Limits, Memory, Node, Order, Publicity, TorrentStats, Wanted};

use crate::crowd::{PLACES, public};
use crate::router::{Nat, Router};
use crate::storage::Storage;
use crate::world::{HASH, World};

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
pub(super) struct Host {
    pub(super) node: Node<'static>,
    pub(super) torrent: TorrentId,
    pub(super) profile: Profile,
    pub(super) storage: Storage,
    pub(super) alive: bool,
    /// How often it was started.
    pub(super) boots: u32,
    /// When its disk has done what it was asked for.
    pub(super) disk_free: u64,
    /// Connections by the node's slot: the link, and which end of it.
    pub(super) links: HashMap<u16, (usize, usize)>,
    /// Ends with something to send, in turns.
    pub(super) row: VecDeque<(usize, usize)>,
    pub(super) sending: bool,
    pub(super) down_free: u64,
    pub(super) wake: Option<u64>,
    pub(super) finished: Option<u64>,
    pub(super) addr: SocketAddr,
    pub(super) router: Router,
    /// What it has of the metadata, as long as it lacks some.
    pub(super) metadata: Option<Storage>,
    pub(super) reached: Reached,
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

/// Bytes of its metadata.
const METADATA: u32 = 40_000;

const CONNS: u32 = 80;
pub(super) const BLOCKS: u32 = 64;

impl World {
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

    pub(super) fn start(
        &mut self,
        profile: Profile,
        storage: Storage,
        metadata: Option<Storage>,
    ) -> usize {
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

    pub(super) fn boot(
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
    pub(super) fn fetched(&mut self, host: usize) {
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
}

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

/// What is expected of [`memory`].
pub(super) const ENOUGH: &str = "a world is made with enough memory";
