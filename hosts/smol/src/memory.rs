//! The memory budget, `--memory`: how it is split, and the node's part of it, which is allocated once
//! and lent for the rest of the process.
//!
//! What is fixed is taken off first; what is left is shared out, so that every part has an end that is
//! known at the start:
//!
//! | part | bytes | when it does not fit |
//! |---|---|---|
//! | the program: stacks, the built-in tracker, its libraries' own | [`PROGRAM`] | refuse to start |
//! | UDP: announces at a time, and what the kernel holds of two sockets | [`UDP_ANNOUNCES`], [`udp::held`] | refuse to start |
//! | the distributed hash table, if it is on | its tables, larger sockets, [`TURN`] for each torrent | refuse to start |
//! | the networks here, if they are asked | [`lsd::HELD`] | refuse to start |
//! | torrents | [`TORRENT`] each, a [`Slot`](announcer::Slot) a tier, 2 bits a piece | refuse to start |
//! | torrents that are asleep | an eighth of what is left, [`ASLEEP`] each | fewer of them; one that is too many is refused |
//! | downloads | 2 bits and a count of 16 bits a piece more, [`PIECES_IN_PROGRESS`] pieces in progress, the scratch | refuse to start |
//! | blocks on their way | half of what is left, at most [`BLOCKS`] of 16 KiB | refuse below [`LEAST_BLOCKS`] |
//! | what peers have | an eighth of what is left, a bit a piece, at most for [`PEERS_WITH_BITS`] peers | others are asked for nothing unless they have all |
//! | peers | 76 of 100 parts of what then is left, so that 2 MB do for 200, [`peer`] each | fewer peers; refuse below [`LEAST_PEERS`] |
//! | callers who wait to be accepted | an eighth of what then is left, [`WAITING_PEER`] each | the kernel ignores a caller, who calls again |
//! | what the kernel holds for others than peers that are served, HTTP clients among them | a quarter of what then is left, at most a [`PLACE`] for everybody | one who does not take what it was sent leaves |
//! | what it holds of blocks that come, in a download | half of what then is left | smaller windows |
//! | the buffer that is sent from | an eighth of what then is left, at most [`WRITTEN`](socket::WRITTEN) blocks | shorter writes |
//! | what it holds for peers that are served | the rest | less for each, then fewer served |
//!
//! What the kernel holds is what TCP has taken and nobody has acknowledged yet, and what has come and was not
//! read: see [`Held`]. Who has a share of it and who has to wait, `engine::lending` decides. One that is served
//! alone may have nearly all that is for those who are served.
//!
//! What others than those served send us has 4 KiB each in the kernel and is read as soon as it comes, so that
//! it is not counted for each of them: it takes everybody at the same moment to fill that.
//!
//! Not in it: the program's own pages, which the kernel reads from its file and drops when it likes, and
//! the page cache. The parts were measured with glibc and musl on x86-64; a 32-bit machine needs less.

use std::fmt;

use everseed_core::geometry::{BLOCK, Geometry};
use everseed_heap::Heap;
use everseed_node::Memory;
use everseed_node::memory::{BITS_PER_BLOCK, Sizes};

use crate::net::socket::{self, Held};
use crate::net::{lsd, udp};
use crate::text::size;

/// How much of what the node needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    /// Connections.
    pub(crate) peers: usize,
    /// Peers that are served at a time.
    pub(crate) slots: usize,
    /// Bytes that the kernel may hold for all of them together.
    pub(crate) lent: usize,
    /// Bytes that are written at a time, at most.
    pub(crate) buffer: usize,
    /// Callers that may wait to be accepted, at all addresses together.
    pub(crate) waiting: usize,
    /// Peers that are not served, but have something in the kernel, at a time.
    pub(crate) places: usize,
    /// HTTP clients at a time.
    pub(crate) web: usize,
    /// Bytes that the kernel may hold of blocks that come, of all peers together.
    pub(crate) received: usize,
    /// Blocks on their way.
    pub(crate) blocks: usize,
    /// Requests of peers that can wait.
    pub(crate) requests: usize,
    /// Torrents that are awake.
    pub(crate) torrents: usize,
    /// Torrents that may be asleep, at most: fewer if they take more than an eighth of what is left.
    pub(crate) asleep: usize,
    /// Tiers of trackers of all torrents.
    pub(crate) tiers: usize,
    /// Bytes of bitfields.
    pub(crate) bits: usize,
    /// Bytes of the bits of pieces in progress.
    pub(crate) in_progress_bits: usize,
    /// Bytes of the longest bitfield of a download.
    pub(crate) bitfield: usize,
    /// Bytes of bitfields of peers.
    pub(crate) peer_bitfields: usize,
    /// Pieces of downloads.
    pub(crate) counts: usize,
    /// Whether it takes part in the distributed hash table.
    pub(crate) dht: bool,
    /// Whether it looks for peers in the networks here.
    pub(crate) lsd: bool,
}

impl Plan {
    /// Makes room for one more torrent with so many tiers of trackers: two bits a piece, as it may
    /// turn out that a piece is bad in a torrent that is not wholly verified.
    pub(crate) fn add(&mut self, geometry: &Geometry, tiers: usize) {
        self.torrents += 1;
        self.tiers += tiers;
        self.bits += 2 * geometry.bitfield_len() as usize;
    }

    /// Makes room for a download too: two more bits a piece, how often each piece is there, a bit a
    /// piece for each peer, and the bits of the blocks of some pieces in progress.
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

    /// Whether all torrents of `other` have their place in this one.
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

    /// Shares `budget` bytes out: the peers and slots that it has are the most that are wanted.
    pub(crate) fn fit(mut self, budget: u64) -> Result<Plan, TooSmall> {
        let budget = usize::try_from(budget).unwrap_or(usize::MAX);
        let served = self.slots.min(self.peers);
        let most = (budget / REQUESTS_PART / REQUEST).clamp(ENOUGH_REQUESTS, MAX_REQUESTS);
        self.requests = (served * REQUESTS_PER_PEER).clamp(MIN_REQUESTS, most);
        let fixed = self.fixed();
        let least_blocks = if self.downloads() { LEAST_BLOCKS } else { 0 };
        let callers = LEAST_WAITING * WAITING_PEER + LEAST_PLACES * PLACE;
        // Each part takes its share of what is left: in a download half of it are blocks, and half of what the
        // kernel holds is received.
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
        if self.downloads() {
            self.blocks = (left / 2 / BLOCK_COST).min(BLOCKS);
            let known = (left / 8 / self.bitfield.max(1)).min(PEERS_WITH_BITS);
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
            self.received = rest / 2;
            rest -= self.received;
        }
        self.buffer = (rest / 8).clamp(socket::BLOCK, socket::WRITTEN * socket::BLOCK);
        rest -= self.buffer;
        self.slots = self
            .slots
            .min(self.peers)
            .clamp(1, (rest / LEAST_HELD).max(1));
        self.lent = rest.min(self.slots * MOST_HELD);
        Ok(self)
    }

    /// What is taken whatever the budget.
    fn fixed(&self) -> usize {
        let tiers = self.tiers * TIER;
        let requests = self.requests * REQUEST;
        let torrents = self.torrents * TORRENT + self.bits + tiers;
        let downloads = match self.downloads() {
            // The last of it is a bit a piece that is known to be good, with the files that are ours.
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

    /// Bytes by which so many torrents have their turn in the distributed hash table.
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

    /// What a peer takes that is there.
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

    /// How the kernel is told what it may hold.
    pub(crate) fn held(&self) -> Held {
        Held::new(self.waiting, self.received)
    }

    /// Allocates it, for good.
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

    /// Names of torrents, awake or asleep, and an eighth more so that one is found fast.
    pub(crate) fn names(&self) -> usize {
        let known = self.torrents + self.asleep;
        (known + known / 8).min(usize::from(u16::MAX))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peers, slots, lent) = (self.peers, self.slots, size(self.lent as u64));
        let s = if self.torrents == 1 { "" } else { "s" };
        write!(f, "room for {} torrent{s}", self.torrents)?;
        if self.asleep > 0 {
            write!(f, " awake and {} asleep", self.asleep)?;
        }
        write!(
            f,
            ", {peers} peers, up to {slots} of them served at a time with {lent} on its way to them"
        )?;
        match self.blocks {
            0 => Ok(()),
            blocks => {
                let coming = size((blocks * BLOCK as usize) as u64);
                write!(f, ", {coming} of blocks that are downloaded")
            }
        }
    }
}

/// The budget is too small for what is to be done.
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

/// Bytes that one peer may take when it is idle: its slot here and what goes with it, and its socket in
/// the kernel.
fn peer() -> usize {
    let node = Sizes {
        conns: 1,
        candidates: 2,
        ..Sizes::NONE
    };
    node.bytes() + HOST_PEER + KERNEL_PEER
}

/// Bytes of the program besides the tables: 340 KiB with 200 peers, up to twice that while many are served
/// and others announce to the built-in tracker, or eight HTTPS trackers are called.
const PROGRAM: usize = 672 * 1024;

/// Bytes of a torrent's turn in the distributed hash table.
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

/// Announces by UDP at a time.
const UDP_ANNOUNCES: u32 = everseed_node::discovery::udp_trackers::MOST;

/// Bytes of a torrent: names, paths and the state of its files; with 1,000 it is 1.2 KiB with musl, 1.5 with glibc.
const TORRENT: usize = 1792;

/// Bytes of a torrent that is asleep: its name, a tier, its place in the catalogue, and what a look
/// through the folders takes.
const ASLEEP: usize = 9 * REGISTERED / 8 + TIER + 24;

/// Bytes of a block on its way, and of its places in the queues of the worker.
const BLOCK_COST: usize = (Sizes {
    blocks: 1,
    ..Sizes::NONE
})
.bytes()
    + WORKER_BLOCK;
const WORKER_BLOCK: usize = 256;

/// Bytes that the node needs for one torrent that it knows, one tier of trackers, one request, and all pieces in progress.
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

/// What a peer takes: of the kernel while it is there, and of this program from when one was there in its slot.
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

/// Bytes of a slot's place in the node's tables, which are there from the start.
const TABLE_PEER: usize = 16;

/// The engine's own of a peer, and its places in the queues of the worker.
const HOST_PEER: usize = 320;

/// An idle TCP socket with its file and its place in epoll.
const KERNEL_PEER: usize = 3072;

/// With less there is no use in starting.
const LEAST_PEERS: usize = 8;
const LEAST_BLOCKS: usize = 16;

/// Bytes that the kernel may hold for one peer that is served: with less there is no use in serving it, and with
/// more nobody is so far away that it is served faster.
pub(crate) const LEAST_HELD: usize = 48 * 1024;
pub(crate) const MOST_HELD: usize = 6 * 1024 * 1024;

/// Callers that may wait to be accepted, while a slow disk is read.
const LEAST_WAITING: usize = 14;
const WAITING: usize = 64;

/// Bytes that the kernel holds for one of them.
const WAITING_PEER: usize = KERNEL_PEER + socket::UNACCEPTED;

/// Peers and HTTP clients that may have something in the kernel while nobody is served.
const LEAST_PLACES: usize = 8;

/// With more of them nobody waits less.
const PLACES: usize = 64;

/// HTTP clients at a time, at most.
const WEB: usize = 32;

/// Bytes that the kernel holds for one of them.
const PLACE: usize = socket::UNSERVED + socket::UNACCEPTED;

const REQUESTS_PER_PEER: usize = 250;
const MIN_REQUESTS: usize = 500;
const MAX_REQUESTS: usize = 16 * 1024;

/// They may take this part of the budget, or as much as so many need.
const REQUESTS_PART: usize = 64;
const ENOUGH_REQUESTS: usize = 16 * REQUESTS_PER_PEER;

/// Bytes that are read from a socket at a time.
const SCRATCH: usize = 16 * 1024;

/// The same while blocks are downloaded: several of them at a time.
const LONG_SCRATCH: usize = 128 * 1024;

/// The most blocks on their way, 16 KiB each: 4 MiB, a second of 33 Mbit/s from each of several peers.
const BLOCKS: usize = 256;

/// Pieces in progress.
const PIECES_IN_PROGRESS: u32 = 64;

/// Bytes for the bits of pieces in progress, as long as that is enough for two.
const MAX_IN_PROGRESS_BITS: usize = 64 * 1024;

/// Peers whose pieces are remembered, a bit each.
const PEERS_WITH_BITS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(torrents: usize) -> Plan {
        let mut plan = Plan {
            peers: 1000,
            slots: 16,
            dht: true,
            lsd: true,
            ..Plan::default()
        };
        let geometry = Geometry::new(1 << 30, 1 << 20).unwrap();
        for _ in 0..torrents {
            plan.add(&geometry, 1);
        }
        plan
    }

    /// Everything that a plan may take.
    fn total(plan: &Plan) -> usize {
        let waiting = plan.waiting * WAITING_PEER;
        let places = (plan.places + plan.web) * PLACE;
        let kernel = waiting + places + plan.received + plan.buffer + plan.lent;
        let asleep = plan.asleep * ASLEEP;
        let download = plan.blocks * BLOCK_COST + plan.peer_bitfields;
        plan.fixed() + asleep + download + kernel + plan.peers * peer()
    }

    /// The first line that people read says what the numbers are of.
    #[test]
    fn told_in_words() {
        let mut plan = wanted(1).fit(16 << 20).unwrap();
        plan.lent = 12 << 20;
        let one = "room for 1 torrent, 1000 peers, up to 16 of them served at a time with 12.0 MiB on its way to them";
        assert_eq!(plan.to_string(), one);
        (plan.torrents, plan.asleep, plan.blocks) = (50, 10_000, 256);
        let more = "room for 50 torrents awake and 10000 asleep, 1000 peers, up to 16 of them served at a time with \
                    12.0 MiB on its way to them, 4.00 MiB of blocks that are downloaded";
        assert_eq!(plan.to_string(), more);
    }

    #[test]
    fn it_holds() {
        for downloads in [false, true] {
            for budget in (0..400).map(|n| n * 100_000) {
                let mut plan = wanted(20);
                plan.asleep = 10_000;
                if downloads {
                    plan.add_download(&Geometry::new(1 << 40, 1 << 20).unwrap());
                }
                let holds = |budget: u64, plan: Plan| {
                    assert!(total(&plan) as u64 <= budget, "{budget}: {plan}");
                };
                match plan.fit(budget) {
                    Ok(plan) => holds(budget, plan),
                    Err(error) => {
                        assert!(error.least as u64 > budget, "{error}");
                        let least = error.least as u64;
                        holds(least, plan.fit(least).expect("as much as it takes"));
                    }
                }
            }
        }
    }

    #[test]
    fn more_memory_is_more_peers() {
        let of = |budget| wanted(1).fit(budget).map(|plan| (plan.peers, plan.lent));
        assert_eq!(of(1 << 30), Ok((1000, 16 * MOST_HELD)));
        assert!(of(900 << 10).is_err());
        let (few, lent) = of(2_000_000).unwrap();
        assert!(few >= 200, "{few} peers");
        assert!(lent < MOST_HELD, "{lent}");
    }

    /// What the networks here, the peers of peers and the distributed hash table take together, with what the kernel
    /// may hold for their sockets.
    #[test]
    fn being_found_takes_little() {
        let with = wanted(1);
        let without = Plan {
            dht: false,
            lsd: false,
            ..with
        };
        // As `torrent::gossip` of the node asserts.
        let pex = 460;
        let all = with.fixed() - without.fixed() + pex;
        assert!(all <= 64 * 1024, "{all} bytes");
    }

    #[test]
    fn who_has_too_little_is_told_how_much_it_takes() {
        let error = wanted(1).fit(1_000_000).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("1000000 bytes of memory are too few"),
            "{text}"
        );
        assert!(text.contains("--memory 1"), "{text}");
    }
}
