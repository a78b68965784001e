//! The memory budget, `--memory`: its parts, and the node's part, which is allocated once and lent for the rest of
//! the process.
//!
//! Fixed parts are taken off first, and the rest is shared out. So the size of every part is known at the start:
//!
//! | part | bytes | when it does not fit |
//! |---|---|---|
//! | the program: stacks, the built-in tracker, memory of its libraries | [`PROGRAM`] | refuse to start |
//! | UDP: running announces, and what the kernel holds for two sockets | [`UDP_ANNOUNCES`], [`udp::held`] | refuse to start |
//! | the DHT, if it is on | its tables, larger sockets, [`TURN`] for each torrent | refuse to start |
//! | local service discovery, if it is on | [`lsd::HELD`] | refuse to start |
//! | torrents that are awake | [`TORRENT`] each, a [`Slot`](announcer::Slot) a tier, 2 bits a piece | refuse to start |
//! | torrents that are asleep | [`ASLEEP`] each, at most an eighth of the rest | fewer of them; one beyond that is refused |
//! | of them, those that wait to be woken | [`WANTED`] each for one in [`WANTED_PART`], at most [`MOST_WANTED`], with [`WANTED_PEERS`] peers each on average | another one stays asleep until it is wanted again; further peers have to be told of again |
//! | downloads | 2 bits and a count of 16 bits more a piece, [`PIECES_IN_PROGRESS`] pieces in progress, the scratch | refuse to start |
//! | a download that is added where none was named | as above, and a [`MODEST`]th of the rest for blocks and as much in the kernel | it is refused, and what would do is said |
//! | blocks on their way | half of the rest, at most [`BLOCKS`] of 16 KiB | refuse below [`LEAST_BLOCKS`] |
//! | bitfields of peers | an eighth of the rest, a bit a piece, at most for [`PEERS_WITH_BITS`] peers | nothing is requested of further peers unless they are complete |
//! | peers | 76 of 100 parts of the rest then, so that 2 MB do for 200, [`peer`] each | fewer peers; refuse below [`LEAST_PEERS`] |
//! | callers that wait to be accepted | an eighth of the rest then, [`WAITING_PEER`] each | the kernel ignores a caller, who calls again |
//! | what the kernel holds for peers that are not served, and for HTTP clients | a quarter of the rest then, at most a [`PLACE`] for each | one who does not take what it was sent is disconnected |
//! | what the kernel holds of incoming blocks, in a download | half of the rest then | smaller windows |
//! | the send buffer | an eighth of the rest then, at most [`WRITTEN`](socket::WRITTEN) blocks | shorter writes |
//! | what the kernel holds for peers that are served | the rest | less for each, then fewer served |
//!
//! The kernel holds bytes that TCP has taken and nobody has acknowledged, and bytes that have come and were not read:
//! see [`Held`]. `net::engine::reactor::shares` says which peers get a share of that memory and which wait. A peer that
//! is served alone may have nearly all of the part for served peers.
//!
//! Peers that are not served have 4 KiB each in the kernel for what they send. That is read as soon as it comes, so
//! it is not counted for each: only all of them at the same moment could fill it.
//!
//! Not in the budget: the program's own pages, which the kernel reads from its file and drops at will, and the page
//! cache. The parts were measured with glibc and musl on x86-64; a 32-bit machine needs less.

use std::fmt;
use std::net::SocketAddr;

use everseed_core::geometry::{BLOCK, Geometry};
use everseed_heap::Heap;
use everseed_node::Memory;
use everseed_node::memory::{BITS_PER_BLOCK, Sizes};

use crate::net::socket::{self, Held};
use crate::net::{lsd, udp};
use crate::text::size;

/// The sizes of all parts: how many peers, blocks, torrents and so on there is room for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    /// The most connections.
    pub(crate) peers: usize,
    /// The most peers that are served at a time while all are connected; the fewer are, the more may be served.
    pub(crate) slots: usize,
    /// Whether there is memory for fewer of them than are wanted while all are connected.
    pub(crate) few_slots: bool,
    /// Bytes that the kernel may hold for all served peers together.
    pub(crate) lent: usize,
    /// The most bytes of one write.
    pub(crate) buffer: usize,
    /// The most callers that wait to be accepted, at all addresses together.
    pub(crate) waiting: usize,
    /// The most unserved peers for which the kernel holds something at a time.
    pub(crate) places: usize,
    /// The most HTTP clients at a time.
    pub(crate) web: usize,
    /// Bytes that the kernel may hold of incoming blocks, of all peers together.
    pub(crate) received: usize,
    /// The most blocks on their way.
    pub(crate) blocks: usize,
    /// The most requests of peers that wait.
    pub(crate) requests: usize,
    /// The most torrents that are awake.
    pub(crate) torrents: usize,
    /// The most torrents that are asleep; fewer if they would take more than an eighth of the rest.
    pub(crate) asleep: usize,
    /// Tiers of trackers, of all torrents together.
    pub(crate) tiers: usize,
    /// Bytes of bitfields.
    pub(crate) bits: usize,
    /// Bytes of the bits of pieces in progress.
    pub(crate) in_progress_bits: usize,
    /// Bytes of the longest bitfield of a download.
    pub(crate) bitfield: usize,
    /// Bytes of peers' bitfields.
    pub(crate) peer_bitfields: usize,
    /// Pieces of all downloads.
    pub(crate) counts: usize,
    /// Whether downloads may only be added later, so that they get little beside what is seeded.
    pub(crate) modest: bool,
    /// Whether the DHT is on.
    pub(crate) dht: bool,
    /// Whether local service discovery is on.
    pub(crate) lsd: bool,
}

impl Plan {
    /// Adds a torrent with this many tiers of trackers. It takes two bits a piece, because a piece of an incompletely
    /// verified torrent may turn out to be bad.
    pub(crate) fn add(&mut self, geometry: &Geometry, tiers: usize) {
        self.torrents += 1;
        self.tiers += tiers;
        self.bits += 2 * geometry.bitfield_len() as usize;
    }

    /// Adds what a download takes beyond that: two bits and a count a piece, a bit a piece for each peer, and the
    /// bits of blocks of the pieces in progress.
    pub(crate) fn add_download(&mut self, geometry: &Geometry) {
        let bitfield = geometry.bitfield_len() as usize;
        self.bits += 2 * bitfield;
        self.counts += geometry.pieces() as usize;
        self.bitfield = self.bitfield.max(bitfield);
        let blocks = geometry.piece_len().div_ceil(BLOCK);
        let each = (BITS_PER_BLOCK * blocks.div_ceil(8)) as usize;
        let pieces = (PIECES_IN_PROGRESS as usize)
            .min(MAX_IN_PROGRESS_BITS / each)
            .max(2);
        self.in_progress_bits = self.in_progress_bits.max(each * pieces);
    }

    /// Whether this plan has room for all torrents of `other`.
    pub(crate) fn has_room_for(&self, other: &Plan) -> bool {
        let needs = |plan: &Plan| {
            [
                plan.torrents,
                plan.tiers,
                plan.bits,
                plan.counts,
                plan.bitfield,
                plan.in_progress_bits,
            ]
        };
        needs(self)
            .into_iter()
            .zip(needs(other))
            .all(|(has, needs)| has >= needs)
    }

    fn downloads(&self) -> bool {
        self.counts > 0
    }

    /// Shares out `budget` bytes. The plan's own numbers of peers and slots are the most that are wanted.
    pub(crate) fn fit(mut self, budget: u64) -> Result<Plan, TooSmall> {
        let budget = usize::try_from(budget).unwrap_or(usize::MAX);
        let served = self.slots.min(self.peers);
        let most = (budget / REQUESTS_PART / REQUEST).clamp(ENOUGH_REQUESTS, MAX_REQUESTS);
        self.requests = (served * REQUESTS_PER_PEER).clamp(MIN_REQUESTS, most);
        let fixed = self.fixed();
        let least_blocks = if self.downloads() { LEAST_BLOCKS } else { 0 };
        let callers = LEAST_WAITING * WAITING_PEER + LEAST_PLACES * PLACE;
        // Each part takes its share of the rest: in a download half of it are blocks, and half of what the kernel
        // holds is received.
        let (least_kernel, factor) = match self.downloads() {
            true => (callers + 4 * LEAST_HELD, 4),
            false => (callers + socket::BLOCK + LEAST_HELD, 2),
        };
        let needed = least_blocks * BLOCK_COST + least_kernel + LEAST_PEERS * peer();
        let least = fixed + factor * needed;
        let Some(left) = budget.checked_sub(fixed).filter(|_| budget >= least) else {
            return Err(TooSmall { budget, least });
        };
        let asleep = ASLEEP + self.turns(9) / 8;
        self.asleep = self.asleep.min(left / 8 / asleep);
        let mut rest = left - self.asleep * asleep;
        let part = if self.modest { MODEST } else { 2 };
        if self.downloads() {
            self.blocks = (left / part / BLOCK_COST).clamp(LEAST_BLOCKS, BLOCKS);
            let known = (left / part / 4 / self.bitfield.max(1)).min(PEERS_WITH_BITS);
            self.peer_bitfields = self.bitfield * known.min(self.peers);
            rest -= self.blocks * BLOCK_COST + self.peer_bitfields;
        }
        let theirs = (rest / 100 * 76).min(rest - least_kernel);
        self.peers = self.peers.min((theirs / peer()).max(LEAST_PEERS));
        rest -= self.peers * peer();
        let waiting = (rest / 8 / WAITING_PEER).clamp(LEAST_WAITING, WAITING);
        self.waiting = waiting;
        rest -= waiting * WAITING_PEER;
        let places = (rest / 4 / PLACE).clamp(LEAST_PLACES, PLACES);
        rest -= places * PLACE;
        self.web = (places / 2).min(WEB);
        self.places = places - self.web;
        if self.downloads() {
            self.received = (rest / part).max(2 * LEAST_HELD).min(rest / 2);
            rest -= self.received;
        }
        self.buffer = (rest / 8).clamp(socket::BLOCK, socket::WRITTEN * socket::BLOCK);
        rest -= self.buffer;
        let wanted = self.slots.min(self.peers);
        self.slots = wanted.clamp(1, (rest / LEAST_HELD).max(1));
        self.few_slots = self.slots < wanted;
        self.lent = rest.min(self.slots * MOST_HELD);
        Ok(self)
    }

    /// Bytes of the fixed parts.
    fn fixed(&self) -> usize {
        let tiers = self.tiers * TIER;
        let requests = self.requests * REQUEST;
        let torrents = self.torrents * TORRENT + self.bits + tiers;
        let downloads = match self.downloads() {
            // The last summand is a bit for each good piece, beside the record of our own files.
            true => {
                let in_progress = IN_PROGRESS + self.in_progress_bits;
                2 * self.counts + in_progress + self.counts.div_ceil(8)
            }
            false => 0,
        };
        let udp = Sizes {
            udp_announces: UDP_ANNOUNCES,
            dht: u32::from(self.dht),
            ..Sizes::NONE
        };
        let lsd = if self.lsd { lsd::HELD } else { 0 };
        let udp = udp.bytes() + udp::held(self.dht) + lsd + self.turns(2 * self.torrents);
        PROGRAM + udp + torrents + downloads + requests + self.scratch()
    }

    /// Bytes that let this many torrents take turns in the DHT.
    fn turns(&self, torrents: usize) -> usize {
        if self.dht { TURN * torrents } else { 0 }
    }

    fn scratch(&self) -> usize {
        if self.downloads() {
            LONG_SCRATCH
        } else {
            SCRATCH
        }
    }

    /// Bytes that each present peer takes.
    pub(crate) fn each_peer(&self) -> PeerBytes {
        let slot = Sizes {
            conns: 1,
            ..Sizes::NONE
        };
        PeerBytes {
            kernel: KERNEL_PEER,
            program: slot.bytes() - TABLE_PEER + HOST_PEER,
        }
    }

    /// The limits that the kernel is told.
    pub(crate) fn held(&self) -> Held {
        Held::new(self.waiting, self.received)
    }

    /// Allocates the node's memory, for good.
    pub(crate) fn lend(&self) -> Memory<'static> {
        Memory::lend(&self.sizes(), &mut Heap)
    }

    fn sizes(&self) -> Sizes {
        let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        Sizes {
            conns: len(self.peers),
            requests: len(self.requests),
            blocks: len(self.blocks),
            in_progress: if self.downloads() {
                PIECES_IN_PROGRESS
            } else {
                0
            },
            in_progress_bits: len(self.in_progress_bits),
            peer_bitfields: len(self.peer_bitfields),
            counts: len(self.counts),
            registry: len(self.names()),
            torrents: len(self.torrents),
            bits: len(self.bits),
            tiers: len(self.tiers + self.asleep),
            udp_announces: UDP_ANNOUNCES,
            dht: u32::from(self.dht),
            candidates: len((2 * self.peers).clamp(32, 512)),
            scratch: len(self.scratch()),
        }
    }

    /// The most sleeping torrents that wait to be woken.
    pub(crate) fn wanted(&self) -> usize {
        (self.asleep / WANTED_PART).min(MOST_WANTED)
    }

    /// The most peers that are kept for all of them.
    pub(crate) fn wanted_peers(&self) -> usize {
        self.wanted() * WANTED_PEERS
    }

    /// Slots for torrents' names, awake or asleep, with an eighth more so that lookups are fast.
    pub(crate) fn names(&self) -> usize {
        let known = self.torrents + self.asleep;
        (known + known / 8).min(usize::from(u16::MAX))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peers, slots, lent) = (self.peers, self.slots, size(self.lent as u64));
        // There is room for more while fewer are connected.
        let how = if self.few_slots { "at least" } else { "up to" };
        let s = if self.torrents == 1 { "" } else { "s" };
        write!(f, "room for {} torrent{s}", self.torrents)?;
        if self.asleep > 0 {
            write!(f, " awake and {} asleep", self.asleep)?;
        }
        write!(
            f,
            ", {peers} peers, {how} {slots} of them served at a time with {lent} on its way to them"
        )?;
        match self.blocks {
            0 => Ok(()),
            _ if self.modest => Ok(()),
            blocks => {
                let coming = size((blocks * BLOCK as usize) as u64);
                write!(f, ", {coming} of blocks that are downloaded")
            }
        }
    }
}

/// The budget is too small for what is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooSmall {
    budget: usize,
    least: usize,
}

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (budget, least) = (self.budget, self.least.div_ceil(1024));
        write!(
            f,
            "{budget} bytes of memory are too few for this; it needs --memory {least}Ki at least"
        )
    }
}

/// Bytes of one idle peer: its slot here with all that goes with it, and its socket in the kernel.
fn peer() -> usize {
    let node = Sizes {
        conns: 1,
        candidates: 2,
        ..Sizes::NONE
    };
    node.bytes() + HOST_PEER + KERNEL_PEER
}

/// Bytes of the program beside the tables: four threads and their stacks, lines that wait to be printed, and up to 300 KiB
/// while many are served and others announce to the built-in tracker, or eight HTTPS trackers are called.
///
/// Idle, tables and all, a static build with musl took 396 KiB with room for 8 peers and no DHT, and 452 with room for
/// 201 (x86-64). A build with glibc took 808: the loader writes to 180 KiB of it, and each thread has an arena. In the
/// test `memory::two_megabytes` that one took 1.21 MB of 2, with what the kernel held.
const PROGRAM: usize = 672 * 1024;

/// Bytes of one torrent's turn in the DHT.
const TURN: usize = (Sizes {
    dht: 1,
    registry: 1,
    ..Sizes::NONE
})
.bytes()
    - (Sizes {
        dht: 1,
        ..Sizes::NONE
    })
    .bytes()
    - REGISTERED;

/// The most running announces by UDP.
const UDP_ANNOUNCES: u32 = everseed_node::discovery::udp_trackers::MOST;

/// Bytes of a torrent: names, paths and the state of its files. Measured with 1,000 torrents: 1.2 KiB with musl, 1.5
/// with glibc.
const TORRENT: usize = 1792;

/// Bytes of a sleeping torrent: its name, a tier, its entry in the catalogue, its share of a scan of the folders, and
/// that it is paused, has reached its goal, or waits to be verified or woken.
const ASLEEP: usize = 9 * REGISTERED / 8 + TIER + 24 + PAUSED + TO_VERIFY + WANTED / WANTED_PART;
const PAUSED: usize = 20;
const TO_VERIFY: usize = 8;

/// Bytes of a sleeping torrent that waits to be woken: its entry in a list that grows by doubling, and its peers.
const WANTED: usize = 2 * 32 + 16 + WANTED_PEERS * size_of::<SocketAddr>();

/// One in so many sleeping torrents may wait to be woken, the most of them, and peers for each on average.
const WANTED_PART: usize = 16;
const MOST_WANTED: usize = 1000;
const WANTED_PEERS: usize = 2;

/// Bytes of a block on its way, and of its entries in the worker's queues.
const BLOCK_COST: usize = (Sizes {
    blocks: 1,
    ..Sizes::NONE
})
.bytes()
    + WORKER_BLOCK;
const WORKER_BLOCK: usize = 256;

/// Bytes that the node needs for one known torrent, one tier of trackers, one request, and all pieces in progress.
const REGISTERED: usize = (Sizes {
    registry: 1,
    ..Sizes::NONE
})
.bytes();
const TIER: usize = (Sizes {
    tiers: 1,
    ..Sizes::NONE
})
.bytes();
const REQUEST: usize = (Sizes {
    requests: 1,
    ..Sizes::NONE
})
.bytes();
const IN_PROGRESS: usize = (Sizes {
    in_progress: PIECES_IN_PROGRESS,
    ..Sizes::NONE
})
.bytes();

/// Bytes of one peer: in the kernel while it is connected, in this program once its slot was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PeerBytes {
    pub(crate) kernel: usize,
    pub(crate) program: usize,
}

impl PeerBytes {
    pub(crate) fn all(self) -> usize {
        self.kernel + self.program
    }
}

/// Bytes of a slot in the node's tables, which exist from the start.
const TABLE_PEER: usize = 16;

/// Bytes of a peer in the engine, and of its entries in the worker's queues.
const HOST_PEER: usize = 320;

/// Bytes of an idle TCP socket with its file and its entry in epoll.
const KERNEL_PEER: usize = 3072;

/// With fewer it makes no sense to start.
const LEAST_PEERS: usize = 8;
const LEAST_BLOCKS: usize = 16;

/// Bytes that the kernel may hold for one served peer. With less, serving it makes no sense; with more, even the
/// farthest peer is not served faster.
pub(crate) const LEAST_HELD: usize = 48 * 1024;
pub(crate) const MOST_HELD: usize = 6 * 1024 * 1024;

/// Callers that may wait to be accepted while a slow disk is read.
const LEAST_WAITING: usize = 14;
const WAITING: usize = 64;

/// Bytes that the kernel holds for one waiting caller.
const WAITING_PEER: usize = KERNEL_PEER + socket::UNACCEPTED;

/// Unserved peers and HTTP clients for which the kernel may hold something, at least.
const LEAST_PLACES: usize = 8;

/// The most of them; more would shorten nobody's wait.
const PLACES: usize = 64;

/// The most HTTP clients at a time.
const WEB: usize = 32;

/// Bytes that the kernel holds for one unserved peer or HTTP client.
const PLACE: usize = socket::UNSERVED + socket::UNACCEPTED;

const REQUESTS_PER_PEER: usize = 250;
const MIN_REQUESTS: usize = 500;
const MAX_REQUESTS: usize = 16 * 1024;

/// Requests may take this part of the budget, or what so many requests need.
const REQUESTS_PART: usize = 64;
const ENOUGH_REQUESTS: usize = 16 * REQUESTS_PER_PEER;

/// Bytes that one read takes from a socket.
const SCRATCH: usize = 16 * 1024;

/// Bytes of one read while blocks are downloaded: several blocks at a time.
const LONG_SCRATCH: usize = 128 * 1024;

/// The part of the rest for blocks, where downloads may only be added later.
const MODEST: usize = 96;

/// The most blocks on their way, 16 KiB each: 4 MiB, a second of 33 Mbit/s.
const BLOCKS: usize = 256;

/// The most pieces in progress.
const PIECES_IN_PROGRESS: u32 = 64;

/// The most bytes for the bits of pieces in progress, if two pieces fit into them.
const MAX_IN_PROGRESS_BITS: usize = 64 * 1024;

/// The most peers whose bitfields are kept, a bit a piece.
const PEERS_WITH_BITS: usize = 100;

#[cfg(test)]
mod tests;
