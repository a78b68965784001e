//! [`Host`]: one node and the machine that it runs on, from start to end.

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
use crate::world::progress::Progress;
use crate::world::{HASH, World};

/// The settings of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profile {
    /// The upload capacity in bytes per second.
    pub up: u64,
    /// The download capacity in bytes per second.
    pub down: u64,
    /// How many peers it serves at a time.
    pub slots: u16,
    /// The kind of its router. Others can dial it only if that is open.
    pub nat: Nat,
    /// Whether it never uploads.
    pub free_rider: bool,
    /// One output of this many has wrong blocks; 0: none has.
    pub lies: u32,
    /// The number of other torrents that it seeds, all asleep.
    pub asleep: u32,
}

/// One node and the machine that it runs on.
pub(super) struct Host {
    pub(super) node: Node<'static>,
    pub(super) torrent: TorrentId,
    pub(super) profile: Profile,
    pub(super) storage: Storage,
    pub(super) alive: bool,
    /// The number of its starts.
    pub(super) boots: u32,
    /// The time at which its disk has done all its jobs.
    pub(super) disk_free: u64,
    /// The link of each slot of the node, and which end of the link is this host's.
    pub(super) links: HashMap<u16, (usize, usize)>,
    /// Its ends that have bytes to send. They take turns.
    pub(super) row: VecDeque<(usize, usize)>,
    pub(super) sending: bool,
    pub(super) down_free: u64,
    pub(super) wake: Option<u64>,
    pub(super) finished: Option<u64>,
    pub(super) addr: SocketAddr,
    pub(super) router: Router,
    /// The parts of the metadata that it has, until it has all of them.
    pub(super) metadata: Option<Storage>,
    pub(super) reached: Reached,
    pub(super) progress: Progress,
}

/// The times of the steps of a download, in microseconds since the world began.
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

/// The length of the metadata in bytes.
const METADATA: u32 = 40_000;

const CONNS: u32 = 80;
pub(super) const BLOCKS: u32 = 64;

impl World {
    /// Adds a host that has the whole content or nothing of it. Returns its number.
    pub fn add(&mut self, profile: Profile, complete: bool) -> usize {
        let storage = Storage::new(self.geometry, complete);
        self.start(profile, storage, None)
    }

    /// Adds a host that has only the info-hash. Returns its number.
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
        // With a crowd, hosts have public addresses.
        let addr = match self.publicity == Publicity::NONE {
            true => local(host),
            false => public(PLACES + host),
        };
        self.sites.insert(addr.ip(), host);
        let (node, torrent) = self.boot(addr, profile, &storage, metadata.is_some());
        let started = self.now;
        let complete = node.is_complete(torrent);
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
            finished: complete.then_some(started),
            progress: Progress::new(started),
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
            // The smallest limit that can be set.
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

    /// A host has the metadata, and begins to download the content.
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

    /// Ends a host at once. Its peers notice that their connections broke.
    pub fn stop(&mut self, host: usize) {
        self.hosts[host].alive = false;
        let links: Vec<_> = self.hosts[host].links.drain().map(|(_, at)| at).collect();
        for (link, side) in links {
            self.cut(link, side);
        }
        self.hosts[host].row.clear();
    }

    /// Restarts a host after a power failure: blocks that were not synced are lost or wrong.
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

    /// The storage of a host, to make it fail.
    pub fn storage(&mut self, host: usize) -> &mut Storage {
        &mut self.hosts[host].storage
    }

    /// The time at which a host was complete, in seconds.
    pub fn finished(&self, host: usize) -> Option<f64> {
        let at = self.hosts[host].finished?;
        Some((at - 1_000_000) as f64 / 1e6)
    }

    /// The times of the steps of a host's download.
    pub fn reached(&self, host: usize) -> Reached {
        self.hosts[host].reached
    }

    /// Whether a host runs now.
    pub fn is_alive(&self, host: usize) -> bool {
        self.hosts[host].alive
    }

    /// The statistics of a host's torrent.
    pub fn stats(&self, host: usize) -> TorrentStats {
        let host = &self.hosts[host];
        host.node
            .torrent(host.torrent)
            .expect("no torrent is removed")
    }
}

/// An address in a local network for each number. All hosts there are equally far from each other.
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

/// The message if [`memory`] is too small.
pub(super) const ENOUGH: &str = "a world is made with enough memory";
